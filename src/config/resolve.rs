//! From what the layers said to a configuration that holds on this host: fills in what the profile and the host
//! decide, and checks the keys that depend on each other.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use shards::core::config::{Audio, Deflate, Heartbeat, Limits, Outbox, RoomDefaults};
use shards::core::{Micros, ShardConfig};
use shards::rt::{Tls, WireConfig};
use tuning::{Host, Profile};

use super::error::{ConfigError, ConfigErrors, Place};
use super::keys::{KEYS, Kind};
use super::layers::{RawConfig, Setting};
use super::value::Value;
use super::{Config, Effective, LogConfig};

/// Makes the configuration valid as a whole.
///
/// # Errors
/// Everything that is wrong with it, not only the first.
pub(crate) fn resolve(mut raw: RawConfig, host: &Host) -> Result<Config, ConfigErrors> {
    let errors = raw.take_errors();
    let mut resolver = Resolver { raw, host, settings: BTreeMap::new(), errors };
    resolver.take_given();
    let profile = resolver.profile();
    let cores = resolver.cores(&profile);
    resolver.derive_wire(&profile);
    resolver.derive_connections(cores.len());
    resolver.derive_shed_memory();
    resolver.check_dependent();
    resolver.check_addresses();
    resolver.check_proxies();
    resolver.check_auth();
    resolver.check_families();
    let tls = resolver.tls("tls.cert", "tls.key");
    let admin_tls = resolver.tls("tls.admin_cert", "tls.admin_key");
    let (realtime, client_tls) = resolver.model_server(cores.len()).unzip();
    if !resolver.errors.is_empty() {
        return Err(ConfigErrors(resolver.errors));
    }
    let mut config = Config { admin_tls, realtime, ..resolver.config(profile, cores, tls) };
    config.shard.model_server = config.realtime.as_ref().map(|realtime| Arc::clone(&realtime.server));
    config.wire.client_tls = client_tls.flatten();
    Ok(config)
}

/// Collects values and mistakes on the way from `RawConfig` to `Config`.
pub(super) struct Resolver<'a> {
    raw: RawConfig,
    pub(super) host: &'a Host,
    pub(super) settings: BTreeMap<&'static str, Setting>,
    pub(super) errors: Vec<ConfigError>,
}

impl Resolver<'_> {
    /// Takes what was set, and the defaults of the rest.
    fn take_given(&mut self) {
        for key in KEYS {
            let default = || key.default.value().map(|value| Setting { value, place: Place::Default });
            if let Some(setting) = self.raw.get(key.name).cloned().or_else(default) {
                self.settings.insert(key.name, setting);
            }
        }
    }

    fn profile(&self) -> Profile {
        // The table's choices are the profiles that exist; a test holds them together.
        let name = self.text("server.profile").parse().expect("a profile of the table");
        Profile::named(name)
    }

    /// The shards' cores; with none that can be used the error is noted.
    fn cores(&mut self, profile: &Profile) -> Vec<usize> {
        let shards = self.raw.get("server.shards").map(|_| self.number("server.shards") as usize);
        let named = self.raw.get("server.cores").map(|setting| match &setting.value {
            Value::Cores(cores) => cores.clone(),
            _ => unreachable!("the table says cores"),
        });
        match tuning::resolve_cores(self.host, profile, shards, named.as_deref()) {
            Ok(cores) => {
                let from = Place::Derived(format!("profile {}", profile.name));
                let place = if named.is_some() {
                    self.place("server.cores")
                } else if shards.is_some() {
                    Place::Derived("server.shards".to_owned())
                } else {
                    from
                };
                self.derive("server.shards", Value::Number(cores.len() as u64), place.clone());
                // Named cores may be more than the shards that are wanted: the effective ones are those used.
                self.settings.insert("server.cores", Setting { value: Value::Cores(cores.clone()), place });
                cores
            }
            Err(error) => {
                let culprit = if named.is_some() { "server.cores" } else { "server.shards" };
                let text = error.to_string();
                let (problem, remedy) =
                    text.split_once("; ").unwrap_or((&text, "leave --shards and --cores out"));
                self.blame(culprit, format!("can't be met: {problem}"), remedy.to_owned());
                vec![0]
            }
        }
    }

    fn derive_wire(&mut self, profile: &Profile) {
        for (name, value) in [
            ("wire.spin_us", u64::from(profile.spin_us)),
            ("wire.batch_us", u64::from(profile.batch_us)),
            ("wire.receive_buffers", u64::from(profile.receive_buffers)),
            ("wire.receive_buffer_bytes", u64::from(profile.receive_buffer_bytes)),
            ("wire.ring_entries", u64::from(profile.ring_entries)),
            ("wire.backlog", u64::from(profile.backlog)),
            ("wire.accept_burst", u64::from(profile.accept_burst)),
        ] {
            self.derive(name, Value::Number(value), Place::Derived(format!("profile {}", profile.name)));
        }
    }

    /// Keys that only make sense together.
    fn check_dependent(&mut self) {
        self.check_below(
            "heartbeat.ping_s",
            "heartbeat.idle_s",
            1,
            "a silent client must be pinged before it is given up",
        );
        self.check_below(
            "limits.head_s",
            "heartbeat.ping_s",
            0,
            "the timer of a head becomes that of the first heartbeat",
        );
        let (coalesce, slow) = (self.number("outbox.coalesce_ms"), self.number("outbox.slow_client_ms"));
        if coalesce >= slow {
            self.blame_pair(
                "outbox.coalesce_ms",
                "outbox.slow_client_ms",
                "an event that waits for company must not make its client look slow",
            );
        }
        let fits = [
            (
                "limits.head_bytes_max",
                "wire.receive_buffer_bytes",
                "a request head must fit into one receive buffer",
            ),
            ("audio.chunk_bytes", "outbox.bytes_max", "a chunk of audio must fit into a client's queue"),
        ];
        for (small, large, reason) in fits {
            if self.number(small) > self.number(large) {
                self.blame_pair(small, large, reason);
            }
        }
        for name in ["wire.receive_buffers", "wire.ring_entries"] {
            let value = self.number(name);
            if !value.is_power_of_two() {
                let (below, above) = (value.next_power_of_two() / 2, value.next_power_of_two());
                self.blame(
                    name,
                    "must be a power of two".to_owned(),
                    format!("set it to {below} or {above}"),
                );
            }
        }
    }

    pub(super) fn check_below(&mut self, small: &'static str, large: &'static str, by: u64, reason: &str) {
        if self.number(small) + by > self.number(large) {
            self.blame_pair(small, large, reason);
        }
    }

    fn config(self, profile: Profile, cores: Vec<usize>, tls: Option<Tls>) -> Config {
        let shard = self.shard_config(cores.len(), tls.is_some());
        let wire = WireConfig { tls, ..self.wire_config(cores.len()) };
        let effective = KEYS.iter().filter_map(|key| {
            let Setting { value, place } = self.settings.get(key.name)?.clone();
            let unit = if let Kind::Number { unit, .. } = key.kind { unit } else { "" };
            Some(Effective { name: key.name, unit, value, place })
        });
        Config {
            listen: self.address("server.listen"),
            admin: self.address("server.admin"),
            admin_tls: None,
            realtime: None,
            pinned: profile.pin || self.raw.get("server.cores").is_some(),
            profile,
            cores,
            drain: Duration::from_secs(self.number("server.drain_s")),
            log: LogConfig {
                level: self.text("server.log_level").parse().expect("a level of the table"),
                json: self.text("server.log_format") == "json",
            },
            auth: self.auth_config(),
            audit: self.audit_config(),
            jobs: self.jobs_config(),
            store: self.store_config(),
            publish: self.publish_config(),
            worker: self.worker_config(),
            connections_max: self.number("limits.connections_max"),
            shed_memory_bytes: self.number("shed.memory_bytes"),
            wire,
            shard,
            resume_key: self.resume_key(),
            effective: effective.collect(),
        }
    }

    fn shard_config(&self, shards: usize, handshakes: bool) -> ShardConfig {
        let count = |name| self.number(name) as usize;
        let seconds = |name| Micros::from_s(self.number(name));
        let milliseconds = |name| Micros::from_ms(self.number(name));
        ShardConfig {
            shards: shards as u16,
            limits: Limits {
                head_bytes_max: count("limits.head_bytes_max"),
                head: seconds("limits.head_s"),
                upgrades_in_flight_max: count("limits.upgrades_in_flight_max"),
                connections_max: count("limits.connections_max"),
                connections_per_user_max: count("limits.connections_per_user_max"),
                connections_per_ip_max: count("limits.connections_per_ip_max"),
                rooms_max: count("limits.rooms_max"),
                members_per_room_max: count("limits.members_per_room_max"),
                subscriptions_max: count("limits.subscriptions_max"),
                messages_per_s: self.number("limits.messages_per_s"),
                messages_burst: self.number("limits.messages_burst"),
                bytes_per_s: self.number("limits.bytes_per_s"),
                upgrades_per_s_per_ip: share(count("limits.upgrades_per_s_per_ip"), shards) as u64,
                handshakes,
                message_bytes_max: count("limits.message_bytes_max"),
                json_depth_max: count("limits.json_depth_max"),
                close: seconds("limits.close_s"),
            },
            heartbeat: Heartbeat { ping: seconds("heartbeat.ping_s"), idle: seconds("heartbeat.idle_s") },
            outbox: Outbox {
                messages_max: count("outbox.messages_max"),
                bytes_max: count("outbox.bytes_max"),
                audio_age_max: milliseconds("outbox.audio_age_ms_max"),
                slow_client: milliseconds("outbox.slow_client_ms"),
                coalesce: milliseconds("outbox.coalesce_ms"),
            },
            audio: Audio {
                inbound_frames_max: count("audio.inbound_frames_max"),
                chunk_bytes: count("audio.chunk_bytes"),
            },
            store: self.shard_store(),
            // Made at start-up: of `Config::resume_key`, of what the store has, or of nothing.
            channels: self.channels(),
            resume_key: [0; 32],
            room: RoomDefaults {
                history_events_max: count("room.history_events_max"),
                history_bytes_max: count("room.history_bytes_max"),
                linger: seconds("room.linger_s"),
                engine: self.text("room.engine").parse().expect("an engine of the table"),
            },
            realtime: self.realtime(),
            proxies: self.proxies(),
            deflate: Deflate {
                enabled: self.switch("deflate.enabled"),
                threshold_bytes: count("deflate.threshold_bytes"),
            },
            parrot: self.parrot(),
            shed_lag: milliseconds("shed.lag_ms"),
            echo_endpoint: self.switch("server.echo_endpoint"),
            // Made of `Config::auth` at start-up, when the keys are read.
            gate: None,
            origins: self.origins(),
            audit: self.settings.contains_key("audit.path"),
            reports: self.reports(),
            worker: self.workers(),
            model_server: None,
        }
    }

    fn wire_config(&self, shards: usize) -> WireConfig {
        // The bounds of the table are within these types.
        let number = |name| self.number(name) as u32;
        WireConfig {
            ring_entries: number("wire.ring_entries"),
            receive_buffers: number("wire.receive_buffers") as u16,
            receive_buffer_bytes: number("wire.receive_buffer_bytes"),
            backlog: number("wire.backlog"),
            accept_burst: number("wire.accept_burst") as u16,
            spin_us: number("wire.spin_us"),
            batch_us: number("wire.batch_us"),
            // There is a queue for each pair of shards: fewer places in each when there are many.
            mesh_queue_max: (16_384 / (shards + 1)).clamp(128, 2_048),
            tls: None,
            client_tls: None,
        }
    }

    pub(super) fn number(&self, name: &str) -> u64 {
        match self.settings[name].value {
            Value::Number(number) => number,
            ref other => unreachable!("{name} is a number, not {other:?}"),
        }
    }

    pub(super) fn switch(&self, name: &str) -> bool {
        self.settings[name].value == Value::Switch(true)
    }

    pub(super) fn text(&self, name: &str) -> &str {
        match &self.settings[name].value {
            Value::Text(text) => text,
            other => unreachable!("{name} is text, not {other:?}"),
        }
    }

    pub(super) fn place(&self, name: &str) -> Place {
        self.settings.get(name).map_or(Place::Default, |setting| setting.place.clone())
    }

    /// Sets a key that nobody has set.
    pub(super) fn derive(&mut self, name: &'static str, value: Value, place: Place) {
        self.settings.entry(name).or_insert(Setting { value, place });
    }
}

/// One shard's part of a node's limit. The hash spreads rooms within a few per cent, so that an eighth more keeps a
/// shard from refusing what the node has room for.
fn share(total: usize, shards: usize) -> usize {
    if shards == 1 {
        return total;
    }
    let part = total.div_ceil(shards);
    total.min(part + part / 8 + 32)
}

#[cfg(test)]
mod tests {
    use shards::core::Origins;
    use shards::rt::Listen;

    use super::super::layers::FlagSetting;
    use super::*;

    fn host() -> Host {
        let mut host = Host::read();
        host.nofile = Some(tuning::Rlimit { soft: 1_024, hard: 20_000 });
        host
    }

    fn resolved(settings: &[(&str, &str)]) -> Result<Config, String> {
        let flags: Vec<FlagSetting> = settings
            .iter()
            .map(|(key, value)| FlagSetting {
                flag: "--set".to_owned(),
                key: (*key).to_owned(),
                value: (*value).to_owned(),
            })
            .collect();
        resolve(RawConfig::gather(None, [], &flags), &host()).map_err(|errors| errors.to_string())
    }

    #[test]
    fn nothing_set_is_a_valid_configuration() {
        let config = resolved(&[]).expect("valid");
        assert!(config.listen.is_local() && config.admin.is_local());
        assert_eq!(config.shard.outbox.messages_max, 512);
        assert_eq!(config.cores.len(), usize::from(config.shard.shards));
        assert_eq!(config.connections_max, 20_000 - tuning::descriptors_for(0, config.cores.len()));
        let unset =
            KEYS.iter().filter(|key| matches!(key.default, super::super::keys::Default::Unset)).count();
        assert_eq!(config.effective.len(), KEYS.len() - unset);
    }

    #[test]
    fn the_core_and_the_table_have_the_same_defaults() {
        let ours =
            resolved(&[("server.shards", "1"), ("limits.connections_max", "1000")]).expect("valid").shard;
        let mut theirs = ShardConfig::default();
        theirs.limits.connections_max = 1_000;
        assert_eq!(format!("{ours:?}"), format!("{theirs:?}"));
    }

    #[test]
    fn limits_that_contradict_each_other_are_named_in_a_sentence() {
        for (settings, words) in [
            (
                &[("heartbeat.idle_s", "20")][..],
                "heartbeat.idle_s = 20 does not go with heartbeat.ping_s = 25",
            ),
            (&[("heartbeat.ping_s", "60")], "heartbeat.ping_s = 60 does not go with heartbeat.idle_s = 60"),
            (&[("heartbeat.ping_s", "4")], "heartbeat.ping_s = 4 does not go with limits.head_s = 5"),
            (&[("limits.head_s", "26")], "limits.head_s = 26 does not go with heartbeat.ping_s = 25"),
            (&[("outbox.coalesce_ms", "500"), ("outbox.slow_client_ms", "400")], "look slow"),
            (&[("wire.receive_buffer_bytes", "4096")], "set it above 8192, or change limits.head_bytes_max"),
            (&[("wire.ring_entries", "1000")], "set it to 512 or 1024"),
            (&[("limits.connections_max", "50000")], "this process may open 20000"),
            (&[("server.cores", "4000")], "no core 4000"),
            (&[("server.shards", "1000")], "say --shards"),
            (&[("room.engine", "worker")], "set worker.redis_url"),
            (&[("worker.redis_url", "http://a")], "write redis://host:6379/0"),
            (&[("worker.redis_url", "redis://a"), ("worker.claim_s", "10")], "set it above 30"),
            (&[("server.proxy_protocol", "true")], "list the proxies' networks in server.trusted_proxies"),
            (&[("server.listen", "0.0.0.0:80")], "set auth.mode = \"jwt\""),
            (&[("server.admin", "[::]:80")], "--insecure"),
            (&[("server.admin", "127.0.0.1:8080")], "the same address"),
            (&[("server.admin", "unix:/a"), ("server.listen", "unix:/a")], "give each its own path"),
            (&[("server.unix_mode", "0888")], "write them as octal digits"),
            (&[("server.unix_mode", "1777")], "write them as octal digits"),
            (&[("server.unix_mode", "+66")], "write them as octal digits"),
            (&[("tls.admin_cert", "a.pem")], "of no use without tls.admin_key"),
            (&[("auth.resume_key", "too short")], "is shorter than 32 bytes"),
            (&[("parrot.chunk_ms", "50")], "must be a multiple of 20"),
            (&[("tls.cert", "a.pem")], "of no use without tls.key"),
            (&[("tls.key", "a.pem")], "of no use without tls.cert"),
            (&[("tls.cert", "none/a.pem"), ("tls.key", "none/k.pem")], "none/a.pem: it can't be read"),
        ] {
            let errors = resolved(settings).expect_err(words);
            assert!(errors.contains(words), "{settings:?}: {errors}");
            assert_eq!(errors.lines().count(), 1, "{errors}");
        }
    }

    #[test]
    fn an_address_for_everybody_is_allowed_when_it_is_meant() {
        for setting in [("server.insecure", "true"), ("auth.mode", "jwt")] {
            let secret = ("auth.hs256_secret", "0123456789abcdef0123456789abcdef");
            let both = [("server.listen", "0.0.0.0:80"), setting, secret];
            let settings = if setting.0 == "auth.mode" { &both[..] } else { &both[..2] };
            assert!(resolved(settings).is_ok());
        }
    }

    #[test]
    fn a_socket_file_needs_neither_tokens_nor_networks_and_does_not_let_every_page_in() {
        let socket = ("server.listen", "unix:/run/voxhall/public.sock");
        let settings = [socket, ("server.proxy_protocol", "true"), ("server.unix_mode", "600")];
        let config = resolved(&settings).expect("valid");
        let path = "/run/voxhall/public.sock".into();
        assert_eq!(config.listen, Listen::Unix { path, mode: 0o600 });
        assert_eq!(config.shard.origins, Origins::SameHost);
        assert_eq!(resolved(&[]).expect("valid").shard.origins, Origins::Any);
    }

    #[test]
    fn named_cores_are_bound_whatever_the_profile_says() {
        assert!(!resolved(&[]).expect("valid").pinned);
        let core = host().allowed_cores()[0].to_string();
        let config = resolved(&[("server.cores", &core)]).expect("valid");
        assert!(config.pinned);
        assert_eq!(config.cores.len(), 1);
    }

    #[test]
    fn shards_share_a_limit_with_slack_and_never_exceed_it() {
        assert_eq!(share(10, 1), 10);
        assert_eq!(share(10, 4), 10);
        assert_eq!(share(16_000, 4), 4_532);
    }
}
