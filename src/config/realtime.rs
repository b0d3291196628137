//! The model server: what belongs together, and what the shards and the control plane make of it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use shards::core::config::Outbox;
use shards::core::{Micros, ModelServer, ModelServerSettings};
use shards::rt::ClientTls;
use shards::rt::tls::ClientTlsError;

use super::resolve::Resolver;

/// Messages that wait for the model server at most: twenty seconds of speech.
const LANE_MESSAGES_MAX: usize = 1_024;
/// Bytes of them.
const LANE_BYTES_MAX: usize = 4 << 20;

/// Where model sessions are had.
#[derive(Debug)]
pub(crate) struct RealtimeConfig {
    /// What the shards share of it.
    pub(crate) server: Arc<ModelServer>,
    /// Its name or address.
    pub(crate) host: String,
    /// Its port.
    pub(crate) port: u16,
    /// How often the name is looked up.
    pub(crate) refresh: Duration,
    /// Sockets that are kept for its sessions.
    pub(crate) sockets: u64,
    /// Whether the key crosses a network in clear.
    pub(crate) exposes_key: bool,
}

/// `realtime.url`, taken apart.
#[derive(Debug, PartialEq, Eq)]
struct Url {
    secure: bool,
    /// Without brackets.
    host: String,
    port: u16,
    /// As `Host` has it.
    authority: String,
    /// With the query, if there is one.
    path: String,
}

impl Url {
    /// Nothing when it is no WebSocket's, or has a name, a password or a fragment in it.
    fn parse(text: &str) -> Option<Self> {
        let (scheme, rest) = text.split_once("://")?;
        let secure = match scheme.to_ascii_lowercase().as_str() {
            "ws" => false,
            "wss" => true,
            _ => return None,
        };
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        let (host, port) = match authority.strip_prefix('[') {
            Some(rest) => {
                let (host, port) = rest.split_once(']')?;
                host.parse::<std::net::Ipv6Addr>().ok()?;
                (
                    host,
                    port.strip_prefix(':')
                        .map_or_else(|| port.is_empty().then_some(None), |port| Some(Some(port)))?,
                )
            }
            None => authority.split_once(':').map_or((authority, None), |(host, port)| (host, Some(port))),
        };
        let port = match port {
            None => {
                if secure {
                    443
                } else {
                    80
                }
            }
            Some(port) => port.parse().ok().filter(|&port| port > 0)?,
        };
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:".contains(&byte);
        let good = !host.is_empty() && host.bytes().all(is_name);
        let plain = path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
        (good && plain).then(|| Self {
            secure,
            host: host.to_owned(),
            port,
            authority: authority.to_owned(),
            path,
        })
    }

    fn is_local(&self) -> bool {
        self.host == "localhost"
            || self.host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
    }
}

impl Resolver<'_> {
    /// The model server and what connections to it are secured with, if there is one.
    pub(super) fn model_server(&mut self, shards: usize) -> Option<(RealtimeConfig, Option<ClientTls>)> {
        let text = self.text("realtime.url");
        if text.is_empty() {
            if self.text("room.engine") == "realtime" {
                self.blame(
                    "room.engine",
                    "needs a model server, and realtime.url is not set".to_owned(),
                    "set realtime.url to a ws:// or wss:// address, or take another engine".to_owned(),
                );
            }
            return None;
        }
        let Some(url) = Url::parse(text) else {
            self.blame(
                "realtime.url",
                "is not the URL of a WebSocket without user name and fragment".to_owned(),
                "write wss:// or ws://, a host, and a path, such as wss://api.openai.com/v1/realtime"
                    .to_owned(),
            );
            self.hide_blamed_value();
            return None;
        };
        let headers = self.request_headers()?;
        let tls = if url.secure { Some(self.client_tls(&url.host)?) } else { None };
        let has_secret = |name| !self.secret(name).is_empty();
        let exposes_key = !url.secure
            && !url.is_local()
            && (has_secret("realtime.api_key") || has_secret("realtime.headers"));
        let settings = self.model_server_settings(&url, headers);
        let config = RealtimeConfig {
            server: Arc::new(ModelServer::new(settings)),
            host: url.host,
            port: url.port,
            refresh: Duration::from_secs(self.number("realtime.dns_refresh_s")),
            sockets: self.model_session_sockets(shards),
            exposes_key,
        };
        Some((config, tls))
    }

    fn model_server_settings(&self, url: &Url, headers: String) -> ModelServerSettings {
        ModelServerSettings {
            host: url.authority.as_str().into(),
            path: url.path.as_str().into(),
            headers: headers.into(),
            connect: Micros::from_ms(self.number("realtime.connect_ms")),
            message_bytes_max: self.number("realtime.message_bytes_max") as usize,
            outbox: Outbox {
                messages_max: LANE_MESSAGES_MAX,
                bytes_max: LANE_BYTES_MAX,
                audio_age_max: Micros::from_ms(self.number("outbox.audio_age_ms_max")),
                slow_client: Micros::from_ms(self.number("outbox.slow_client_ms")),
                coalesce: Micros(0),
            },
            sessions_max: self.number("realtime.sessions_max") as usize,
            connects_per_s: self.number("realtime.connects_per_s"),
            breaker_failures: self.number("realtime.breaker_failures") as u32,
            breaker: Micros::from_s(self.number("realtime.breaker_s")),
        }
    }

    /// The header lines of every request, each with its end.
    fn request_headers(&mut self) -> Option<String> {
        let mut lines = String::new();
        let mut add = |name: &str, value: &str| {
            lines.extend([name, ": ", value, "\r\n"]);
        };
        let key = self.secret("realtime.api_key").reveal();
        if !key.is_empty() {
            add("Authorization", &format!("Bearer {key}"));
        }
        for (key, name) in
            [("realtime.organization", "OpenAI-Organization"), ("realtime.project", "OpenAI-Project")]
        {
            let value = self.text(key);
            if !value.is_empty() {
                add(name, value);
            }
        }
        if self.text("realtime.dialect") == "beta" {
            add("OpenAI-Beta", "realtime=v1");
        }
        let further = self.secret("realtime.headers").reveal().lines().filter(|line| !line.trim().is_empty());
        let pairs: Option<Vec<_>> = further.map(|line| line.split_once(':')).collect();
        for (name, value) in pairs.iter().flatten() {
            add(name.trim(), value.trim());
        }
        let bad = [
            ("realtime.api_key", !is_value(key)),
            ("realtime.organization", !is_value(self.text("realtime.organization"))),
            ("realtime.project", !is_value(self.text("realtime.project"))),
            (
                "realtime.headers",
                !pairs.is_some_and(|pairs| pairs.iter().all(|(name, value)| is_line(name, value))),
            ),
        ];
        let (culprit, _) = bad.into_iter().find(|&(_, bad)| bad).unzip();
        let Some(culprit) = culprit else { return Some(lines) };
        let (problem, remedy) = if culprit == "realtime.headers" {
            (
                "has a line that is no header, or one that the handshake needs for itself",
                "write name: value, one a line",
            )
        } else {
            ("has a character that no header can have", "write visible ASCII, without a line's end")
        };
        self.blame(culprit, problem.to_owned(), remedy.to_owned());
        self.hide_blamed_value();
        None
    }

    fn client_tls(&mut self, host: &str) -> Option<ClientTls> {
        let ca_file = self
            .settings
            .contains_key("realtime.ca_file")
            .then(|| PathBuf::from(self.text("realtime.ca_file")));
        let error = match ClientTls::load(host, ca_file.as_deref()) {
            Ok(tls) => return Some(tls),
            Err(error) => error,
        };
        let (name, remedy) = match error {
            ClientTlsError::File { .. } => {
                ("realtime.ca_file", "name a PEM file of certificates that this user can read")
            }
            ClientTlsError::NoRoots => ("realtime.url", "install ca-certificates, or set realtime.ca_file"),
            _ => ("realtime.url", "write the host's name or address as its certificate has it"),
        };
        self.blame(name, format!("can't be used: {error}"), remedy.to_owned());
        None
    }
}

/// RFC 9110 section 5.5, without what is not ASCII.
fn is_value(text: &str) -> bool {
    text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic())
}

/// A line that may stand beside those of the handshake.
fn is_line(name: &str, value: &str) -> bool {
    let name = name.trim();
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    let own = ["host", "upgrade", "connection", "content-length", "transfer-encoding"];
    let lower = name.to_ascii_lowercase();
    !name.is_empty()
        && name.bytes().all(token)
        && is_value(value.trim())
        && !own.contains(&lower.as_str())
        && !lower.starts_with("sec-websocket-")
}

#[cfg(test)]
mod tests {
    use super::super::layers::FlagSetting;
    use super::super::{Config, RawConfig};
    use super::*;

    const URL: (&str, &str) = ("realtime.url", "ws://127.0.0.1:9000/v1/realtime");

    fn resolved(settings: &[(&str, &str)]) -> Result<Config, String> {
        let flag = |&(key, value): &(&str, &str)| FlagSetting {
            flag: "--set".to_owned(),
            key: key.to_owned(),
            value: value.to_owned(),
        };
        let flags: Vec<_> = settings.iter().map(flag).collect();
        let raw = RawConfig::gather(None, [], &flags);
        super::super::resolve(raw, &tuning::Host::read()).map_err(|errors| errors.to_string())
    }

    #[test]
    fn a_url_is_taken_apart() {
        for (text, secure, host, port, authority, path) in [
            (
                "wss://api.openai.com/v1/realtime",
                true,
                "api.openai.com",
                443,
                "api.openai.com",
                "/v1/realtime",
            ),
            ("ws://localhost:8080", false, "localhost", 8_080, "localhost:8080", "/"),
            ("WSS://[2001:db8::1]:8443/r?a=b", true, "2001:db8::1", 8_443, "[2001:db8::1]:8443", "/r?a=b"),
            ("ws://10.0.0.1?a=b", false, "10.0.0.1", 80, "10.0.0.1", "/?a=b"),
        ] {
            let (host, authority, path) = (host.to_owned(), authority.to_owned(), path.to_owned());
            assert_eq!(Url::parse(text), Some(Url { secure, host, port, authority, path }), "{text}");
        }
        for bad in [
            "api.openai.com",
            "https://h/",
            "wss://",
            "wss:///v1",
            "ws://h:0/",
            "ws://h:99999/",
            "ws://u:p@h/",
            "ws://h/#f",
            "ws://h/a b",
            "ws://[::1/",
            "ws://[zz]/",
            "ws://[::1]x/",
            "ws://h\r\nX: y/",
        ] {
            assert_eq!(Url::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn what_is_set_reaches_the_shards() {
        let config = resolved(&[
            URL,
            ("realtime.api_key", "sk-test-key"),
            ("realtime.organization", "org-1"),
            ("realtime.project", "proj_2"),
            ("realtime.headers", "api-key: abc\n\nX-Region:  eu \n"),
            ("realtime.dialect", "beta"),
            ("realtime.connect_ms", "700"),
            ("realtime.message_bytes_max", "70000"),
            ("realtime.sessions_max", "5"),
            ("realtime.connects_per_s", "6"),
            ("realtime.breaker_failures", "7"),
            ("realtime.breaker_s", "8"),
            ("realtime.dns_refresh_s", "9"),
            ("outbox.slow_client_ms", "3000"),
        ])
        .expect("valid");
        let realtime = config.realtime.as_ref().expect("a model server");
        assert_eq!((&*realtime.host, realtime.port, realtime.exposes_key), ("127.0.0.1", 9_000, false));
        assert_eq!(realtime.refresh, Duration::from_secs(9));
        let server = config.shard.model_server.as_ref().expect("the same");
        assert!(Arc::ptr_eq(server, &realtime.server));
        let settings = &server.settings;
        assert_eq!((&*settings.host, &*settings.path), ("127.0.0.1:9000", "/v1/realtime"));
        let headers = "Authorization: Bearer sk-test-key\r\nOpenAI-Organization: org-1\r\nOpenAI-Project: proj_2\r\n\
            OpenAI-Beta: realtime=v1\r\napi-key: abc\r\nX-Region: eu\r\n";
        assert_eq!(&*settings.headers, headers);
        assert_eq!((settings.connect, settings.breaker), (Micros::from_ms(700), Micros::from_s(8)));
        assert_eq!((settings.message_bytes_max, settings.sessions_max), (70_000, 5));
        assert_eq!((settings.connects_per_s, settings.breaker_failures), (6, 7));
        assert_eq!(settings.outbox.slow_client, Micros::from_ms(3_000));
        assert!(config.wire.client_tls.is_none(), "ws:// is plain");
        assert!(!format!("{config:?}").contains("sk-test-key"));
    }

    #[test]
    fn without_anything_set_the_settings_are_those_of_the_core() {
        let config = resolved(&[("realtime.url", "ws://localhost/v1/realtime")]).expect("valid");
        let ours = &config.shard.model_server.as_ref().expect("a model server").settings;
        let theirs = shards::core::ModelServerSettings::default();
        assert_eq!((&ours.host, &ours.path, &ours.headers), (&theirs.host, &theirs.path, &theirs.headers));
        assert_eq!((ours.connect, ours.message_bytes_max), (theirs.connect, theirs.message_bytes_max));
        assert_eq!((ours.sessions_max, ours.connects_per_s), (theirs.sessions_max, theirs.connects_per_s));
        assert_eq!((ours.breaker_failures, ours.breaker), (theirs.breaker_failures, theirs.breaker));
        let bounds = |outbox: &Outbox| (outbox.messages_max, outbox.bytes_max, outbox.slow_client);
        assert_eq!(bounds(&ours.outbox), bounds(&theirs.outbox));
        assert!(resolved(&[]).expect("valid").shard.model_server.is_none());
    }

    #[test]
    fn mistakes_are_named_without_showing_a_key() {
        let key = ("realtime.api_key", "sk-secret");
        for (settings, words) in [
            (&[("room.engine", "realtime")][..], "room.engine = \"realtime\" needs a model server"),
            (&[("realtime.url", "https://h/")], "realtime.url is not the URL of a WebSocket"),
            (&[("realtime.url", "wss://user:sk-secret@h/")], "realtime.url is not the URL of a WebSocket"),
            (&[URL, ("realtime.api_key", "sk-secret\r\nX: y")], "realtime.api_key has a character"),
            (&[URL, key, ("realtime.project", "a\nb")], "realtime.project"),
            (&[URL, key, ("realtime.headers", "sk-secret")], "realtime.headers has a line that is no header"),
            (&[URL, ("realtime.headers", "Host: other")], "one that the handshake needs"),
            (&[URL, ("realtime.headers", "Sec-WebSocket-Key: sk-secret")], "one that the handshake needs"),
            (&[("realtime.url", "wss://h/"), ("realtime.ca_file", "none.pem")], "none.pem: it can't be read"),
        ] {
            let errors = resolved(settings).expect_err(words);
            assert!(errors.contains(words), "{settings:?}: {errors}");
            assert!(!errors.contains("sk-secret"), "{errors}");
        }
    }

    #[test]
    fn sessions_have_descriptors_of_their_own() {
        let with = |settings: &[(&str, &str)]| {
            let flag = |&(key, value): &(&str, &str)| FlagSetting {
                flag: "--set".to_owned(),
                key: key.to_owned(),
                value: value.to_owned(),
            };
            let flags: Vec<_> = settings.iter().map(flag).collect();
            let mut host = tuning::Host::read();
            host.nofile = Some(tuning::Rlimit { soft: 1_024, hard: 20_000 });
            super::super::resolve(RawConfig::gather(None, [], &flags), &host)
                .map_err(|errors| errors.to_string())
        };
        let without = with(&[]).expect("valid").connections_max;
        let few = with(&[URL, ("realtime.sessions_max", "300")]).expect("valid");
        assert_eq!(few.connections_max, without - 300);
        let sockets = |config: Config| config.realtime.expect("a model server").sockets;
        assert_eq!(sockets(few), 300);
        let any = with(&[URL, ("realtime.sessions_max", "0")]).expect("valid");
        assert_eq!(any.connections_max, without - without / 2);
        assert_eq!(sockets(any), without / 2);
        let errors = with(&[URL, ("limits.connections_max", "15000")]).expect_err("too many together");
        assert!(errors.contains("this process may open 20000"), "{errors}");
    }

    #[test]
    fn a_key_in_clear_is_noticed() {
        for (url, exposes) in
            [("ws://models.example/v1", true), ("wss://models.example/v1", false), ("ws://[::1]:80/", false)]
        {
            let config = resolved(&[("realtime.url", url), ("realtime.api_key", "k")]).expect("valid");
            assert_eq!(config.realtime.expect("a model server").exposes_key, exposes, "{url}");
            assert_eq!(config.wire.client_tls.is_some(), url.starts_with("wss"), "{url}");
        }
    }
}
