//! Where keys come from: the configuration, PEM files, and a key set in a file or at its issuer's.
//!
//! Everything here waits for disks and networks: it runs before the node starts, and afterwards on a thread of its own.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokens::{Key, KeySet};
use ureq::Agent;
use ureq::tls::{RootCerts, TlsConfig};

use crate::Failure;
use crate::config::{Config, ConfigError, ConfigErrors, JwtConfig, Place};

/// How long fetching a key set may take, in all.
const FETCH: Duration = Duration::from_secs(10);
/// Longest key set or key file: an issuer with a hundred keys stays below it.
const BYTES_MAX: u64 = 262_144;
const REDIRECTS_MAX: u32 = 3;

/// A key that can't be had: the sentence for the operator.
#[derive(Debug)]
pub(super) struct KeyError {
    key: &'static str,
    /// As the end of a sentence that begins with the key.
    problem: String,
    remedy: String,
    /// Whether the reason lies elsewhere, so that starting again may mend it.
    elsewhere: bool,
}

impl KeyError {
    /// Why the program ends because of it.
    pub(super) fn failure(self, config: &Config) -> Failure {
        if self.elsewhere {
            return Failure::Fault(self.to_string());
        }
        let set = config.effective.iter().find(|effective| effective.name == self.key);
        Failure::Configuration(ConfigErrors(vec![ConfigError {
            key: self.key.to_owned(),
            value: None,
            place: set.map_or(Place::Default, |effective| effective.place.clone()),
            problem: self.problem,
            remedy: self.remedy,
        }]))
    }
}

impl std::fmt::Display for KeyError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}; {}", self.key, self.problem, self.remedy)
    }
}

/// Whether `auth.jwks` names a URL and not a file.
pub(super) fn is_url(jwks: &str) -> bool {
    jwks.starts_with("https://") || jwks.starts_with("http://")
}

/// Reads every key of the configuration; `fetch` gets what is behind a URL.
pub(super) fn load(
    config: &JwtConfig,
    fetch: impl Fn(&str) -> Result<Vec<u8>, String>,
) -> Result<KeySet, KeyError> {
    let mut keys = Vec::new();
    if !config.secret.is_empty() {
        keys.push(Key::of_secret(config.secret.reveal(), &config.rules));
    }
    for path in &config.public_keys {
        keys.push(public_key(path, config)?);
    }
    if !config.jwks.is_empty() {
        keys.append(&mut key_set(config, fetch)?);
    }
    Ok(KeySet::new(keys))
}

fn public_key(path: &Path, config: &JwtConfig) -> Result<Key, KeyError> {
    let wrong = |problem: String, remedy: &str| KeyError {
        key: "auth.public_keys",
        problem: format!("names {}, which {problem}", path.display()),
        remedy: remedy.to_owned(),
        elsewhere: false,
    };
    let pem = read(path).map_err(|error| wrong(error, "name a file that this process may read"))?;
    let kid = path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
    Key::of_pem(kid, &pem, &config.rules).map_err(|(problem, remedy)| wrong(problem.to_owned(), remedy))
}

fn key_set(
    config: &JwtConfig,
    fetch: impl Fn(&str) -> Result<Vec<u8>, String>,
) -> Result<Vec<Key>, KeyError> {
    let (json, remedy) = if is_url(&config.jwks) {
        (fetch(&config.jwks), "see whether the issuer can be reached from here, or name a file")
    } else {
        (read(Path::new(&config.jwks)), "name a file that this process may read, or a URL with https://")
    };
    let keys = json.and_then(|json| Key::of_set(&json, &config.rules).map_err(str::to_owned));
    keys.map_err(|problem| KeyError {
        key: "auth.jwks",
        problem: format!("names {}, which {problem}", shown(&config.jwks)),
        remedy: remedy.to_owned(),
        elsewhere: is_url(&config.jwks),
    })
}

/// A URL without its query, in which some issuers want a secret.
fn shown(jwks: &str) -> &str {
    if is_url(jwks) { jwks.split(['?', '#']).next().unwrap_or(jwks) } else { jwks }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let bytes = std::fs::read(path).map_err(|error| format!("can't be read: {error}"))?;
    if bytes.len() as u64 > BYTES_MAX { Err(format!("is longer than {BYTES_MAX} bytes")) } else { Ok(bytes) }
}

/// Gets what is behind a URL. Redirects from https lead to https only.
pub(super) fn fetch(url: &str) -> Result<Vec<u8>, String> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = TlsConfig::builder()
        .unversioned_rustls_crypto_provider(provider)
        .root_certs(RootCerts::PlatformVerifier)
        .build();
    let agent: Agent = Agent::config_builder()
        .tls_config(tls)
        .https_only(url.starts_with("https://"))
        .max_redirects(REDIRECTS_MAX)
        .timeout_global(Some(FETCH))
        .user_agent(concat!("voxhall/", env!("CARGO_PKG_VERSION")))
        .build()
        .into();
    let got = agent.get(url).header("accept", "application/json").call();
    let body = got.and_then(|mut answer| answer.body_mut().with_config().limit(BYTES_MAX).read_to_vec());
    body.map_err(|error| match error {
        ureq::Error::StatusCode(status) => format!("was answered with status {status}"),
        // Its words would repeat the URL.
        ureq::Error::BadUri(_) => "is no URL that can be fetched".to_owned(),
        error => format!("can't be fetched: {error}"),
    })
}
