//! `auth.*` and `server.allowed_origins`: what belongs together, and what the program makes of it.

use std::path::PathBuf;
use std::time::Duration;

use shards::core::Origins;
use tokens::Rules;

use super::error::Place;
use super::resolve::Resolver;
use super::value::{Secret, Value};

/// RFC 7518 section 3.2: "A key of the same size as the hash output […] or larger MUST be used."
const SECRET_BYTES_MIN: usize = 32;

const KEYS: [&str; 3] = ["auth.hs256_secret", "auth.public_keys", "auth.jwks"];

/// Whether and how clients say who they are.
#[derive(Clone, Debug)]
pub(crate) enum AuthConfig {
    /// Nobody is asked.
    None,
    /// With a JSON Web Token.
    Jwt(JwtConfig),
}

/// What makes a token good.
#[derive(Clone, Debug)]
pub(crate) struct JwtConfig {
    /// Of HS256; empty if there is none.
    pub(crate) secret: Secret,
    /// PEM files.
    pub(crate) public_keys: Vec<PathBuf>,
    /// A file or URL; empty if there is none.
    pub(crate) jwks: String,
    /// How often keys are read again.
    pub(crate) refresh: Duration,
    /// Beside the signature.
    pub(crate) rules: Rules,
}

impl Resolver<'_> {
    pub(super) fn check_auth(&mut self) {
        let set = |name: &&str| match *name {
            "auth.hs256_secret" => !self.secret(name).is_empty(),
            "auth.jwks" => !self.text(name).is_empty(),
            _ => !self.list(name).is_empty(),
        };
        let given = KEYS.iter().copied().find(set);
        let required = self.text("auth.mode") == "jwt";
        match given {
            None if required => self.blame(
                "auth.mode",
                "needs a key to check tokens with".to_owned(),
                format!("set one of {}", KEYS.join(", ")),
            ),
            // Who gives a key must not believe that tokens are asked for. With the mode written out it is meant.
            Some(key) if !required && self.place("auth.mode") == Place::Default => self.blame(
                key,
                "has no effect while auth.mode is \"none\"".to_owned(),
                "set auth.mode = \"jwt\", or \"none\" if nobody is to be asked for a token".to_owned(),
            ),
            _ => {}
        }
        let length = self.secret("auth.hs256_secret").reveal().len();
        if (1..SECRET_BYTES_MIN).contains(&length) {
            self.blame(
                "auth.hs256_secret",
                format!("is shorter than the {SECRET_BYTES_MIN} bytes that HS256 needs"),
                "make one with `openssl rand -hex 32`".to_owned(),
            );
        }
        let authority = self.text("auth.jwks").split_once("://").and_then(|(_, rest)| rest.split('/').next());
        if authority.is_some_and(|authority| authority.contains('@')) {
            self.blame(
                "auth.jwks",
                "has a user name or password in it".to_owned(),
                "use a URL that needs none, or a file".to_owned(),
            );
            self.hide_blamed_value();
        }
        self.check_resume_key();
        if let Some(origin) = self.list("server.allowed_origins").iter().find(|origin| !is_origin(origin)) {
            let problem = format!("has {origin:?}, which is no origin");
            let remedy = "write https:// or http://, a host and its port, and nothing behind it".to_owned();
            self.blame("server.allowed_origins", problem, remedy);
        }
    }

    pub(super) fn auth_config(&self) -> AuthConfig {
        if self.text("auth.mode") == "none" {
            return AuthConfig::None;
        }
        AuthConfig::Jwt(JwtConfig {
            secret: self.secret("auth.hs256_secret").clone(),
            public_keys: self.list("auth.public_keys").iter().map(PathBuf::from).collect(),
            jwks: self.text("auth.jwks").to_owned(),
            refresh: Duration::from_secs(self.number("auth.jwks_refresh_s")),
            rules: Rules {
                audience: self.list("auth.audience").to_vec(),
                issuer: self.list("auth.issuer").to_vec(),
                leeway: Duration::from_secs(self.number("auth.leeway_s")),
                follows_set: !self.text("auth.jwks").is_empty(),
            },
        })
    }

    pub(super) fn origins(&self) -> Origins {
        let list = self.list("server.allowed_origins");
        // A browser can't reach a socket file: pages come through a proxy, from anywhere.
        let loopback = self.address("server.listen").is_local() && !self.listens_on_a_socket_file();
        if list.iter().any(|origin| origin == "*") || (list.is_empty() && loopback) {
            Origins::Any
        } else if list.is_empty() {
            Origins::SameHost
        } else {
            Origins::Listed(list.iter().map(|origin| origin.to_ascii_lowercase().into()).collect())
        }
    }

    pub(super) fn list(&self, name: &str) -> &[String] {
        match &self.settings[name].value {
            Value::List(list) => list,
            other => unreachable!("{name} is a list, not {other:?}"),
        }
    }

    pub(super) fn secret(&self, name: &str) -> &Secret {
        match &self.settings[name].value {
            Value::Secret(secret) => secret,
            other => unreachable!("{name} is a secret, not {other:?}"),
        }
    }

    /// For a value that may not be seen.
    pub(super) fn hide_blamed_value(&mut self) {
        if let Some(error) = self.errors.last_mut() {
            error.value = None;
        }
    }
}

/// As browsers write it: scheme, host and port. `null` is what they write for pages without an origin.
fn is_origin(text: &str) -> bool {
    let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    matches!(text, "*" | "null")
        || host.is_some_and(|host| !host.is_empty() && !host.contains(['/', '?', '#']))
}
