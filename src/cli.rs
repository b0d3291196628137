//! The command line.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use shards::core::Rights;
use shards::rt::Listen;

use crate::auth;
use crate::config::{self, FlagSetting, RawConfig};
use crate::publish::PublishOptions;

/// A high-density realtime room server: voice and event rooms over WebSocket, one shard per core.
#[derive(Debug, Parser)]
#[command(name = "voxhall", version, arg_required_else_help = true)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve rooms until told to stop
    Serve(Options),
    /// Show what this host allows, what falls short, and the command that mends it
    Doctor(Options),
    /// Validate a configuration and print the effective one
    CheckConfig(Options),
    /// Print a commented configuration
    DefaultConfig,
    /// Publish on a channel of a running server, through its management API
    Publish(PublishOptions),
    /// Print a development token, signed with the configured secret
    Token(TokenOptions),
}

/// What a development token says, and where its secret is.
#[derive(Args, Debug)]
pub(crate) struct TokenOptions {
    /// Whose it is
    #[arg(long, value_name = "USER")]
    sub: String,
    /// A room it is for, or a pattern such as class-*; can be given several times [default: any room]
    #[arg(long = "room", value_name = "PATTERN")]
    rooms: Vec<String>,
    /// How long it is good, such as 90s, 15m, 1h or 7d
    #[arg(long, value_name = "SPAN", default_value = "1h", value_parser = auth::span)]
    ttl: Duration,
    /// Its bearer's role: admin may use the management API
    #[arg(long, value_name = "NAME")]
    role: Option<String>,
    /// The only engine it is for
    #[arg(long, value_name = "NAME", value_parser = clap::builder::PossibleValuesParser::new(config::ENGINES))]
    engine: Option<String>,
    /// What it allows on channels of this pattern, such as 'room:*=subscribe,publish'; can be given several times
    #[arg(long = "channel", value_name = "PATTERN=RIGHTS", value_parser = tokens::channel)]
    channels: Vec<(Box<str>, Rights)>,
    /// What its bearer is subscribed to from the beginning, such as 'user:42:*'; can be given several times
    #[arg(long = "subscribe", value_name = "PATTERN", value_parser = tokens::subscription)]
    subscriptions: Vec<String>,
    /// The server's configuration file (TOML)
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Set any key, as for `serve`
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_and_value)]
    set: Vec<(String, String)>,
}

impl TokenOptions {
    /// Puts all layers together.
    pub(crate) fn gather(&self) -> RawConfig {
        gather(self.config.as_deref(), &settings(&self.set))
    }

    /// What it should say.
    pub(crate) fn wanted(&self) -> auth::Wanted {
        auth::Wanted {
            sub: self.sub.clone(),
            rooms: self.rooms.clone(),
            ttl: self.ttl,
            role: self.role.clone(),
            engine: self.engine.clone(),
            channels: self.channels.clone(),
            subscriptions: self.subscriptions.clone(),
        }
    }
}

/// What decides the configuration. A flag wins over the environment, that over the file, that over the default.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Where clients connect: an address, or unix:/path [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// Where metrics and the management API are served, in the same form [default: 127.0.0.1:9090]
    #[arg(long, value_name = "ADDRESS")]
    admin: Option<String>,
    /// How many cores get a share of the rooms [default: the profile's cores]
    #[arg(long, value_name = "N")]
    shards: Option<String>,
    /// Which cores, such as 0,2-5
    #[arg(long, value_name = "LIST")]
    cores: Option<String>,
    /// The kind of host: laptop, container, bare-metal or latency [default: laptop]
    #[arg(long, value_name = "NAME")]
    profile: Option<String>,
    /// What answers in rooms that ask for nothing else: echo, relay or parrot [default: parrot]
    #[arg(long, value_name = "NAME")]
    engine: Option<String>,
    /// How long the parrot thinks before it answers [default: 0]
    #[arg(long, value_name = "MS")]
    parrot_delay_ms: Option<String>,
    /// A configuration file (TOML)
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Serve /echo, which returns every message as it came
    #[arg(long)]
    echo_endpoint: bool,
    /// Allow an address that other machines can reach although there is no authentication
    #[arg(long)]
    insecure: bool,
    /// Set any key, such as --set outbox.messages_max=256
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_and_value)]
    set: Vec<(String, String)>,
}

impl Options {
    /// Puts all layers together.
    pub(crate) fn gather(&self) -> RawConfig {
        gather(self.config.as_deref(), &self.flags())
    }

    fn flags(&self) -> Vec<FlagSetting> {
        // `--set` first: whoever also writes the key's own flag means that one.
        let mut flags = settings(&self.set);
        let own = [
            ("--listen", "server.listen", &self.listen),
            ("--admin", "server.admin", &self.admin),
            ("--shards", "server.shards", &self.shards),
            ("--cores", "server.cores", &self.cores),
            ("--profile", "server.profile", &self.profile),
            ("--engine", "room.engine", &self.engine),
            ("--parrot-delay-ms", "parrot.delay_ms", &self.parrot_delay_ms),
        ];
        for (flag, key, value) in own {
            if let Some(value) = value {
                flags.push(FlagSetting { flag: flag.to_owned(), key: key.to_owned(), value: value.clone() });
            }
        }
        for (flag, key, on) in [
            ("--echo-endpoint", "server.echo_endpoint", self.echo_endpoint),
            ("--insecure", "server.insecure", self.insecure),
        ] {
            if on {
                flags.push(FlagSetting {
                    flag: flag.to_owned(),
                    key: key.to_owned(),
                    value: "true".to_owned(),
                });
            }
        }
        flags
    }
}

fn gather(file: Option<&Path>, flags: &[FlagSetting]) -> RawConfig {
    let environment = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.to_string_lossy().into_owned())));
    RawConfig::gather(file, environment, flags)
}

fn settings(set: &[(String, String)]) -> Vec<FlagSetting> {
    let setting = |(key, value): &(String, String)| FlagSetting {
        flag: shown(key, value),
        key: key.clone(),
        value: value.clone(),
    };
    set.iter().map(setting).collect()
}

/// A setting as it was typed, if it may be seen: a misspelt key may have been meant for a secret.
fn shown(key: &str, value: &str) -> String {
    if config::may_be_shown(key) { format!("--set {key}={value}") } else { format!("--set {key}=…") }
}

fn key_and_value(text: &str) -> Result<(String, String), String> {
    let (key, value) =
        text.split_once('=').ok_or("write it as key=value, such as outbox.messages_max=256")?;
    Ok((key.trim().to_owned(), value.to_owned()))
}

/// The one line that says the server is up.
pub(crate) fn ready_line(
    (public, public_tls): (&Listen, bool),
    (admin, admin_tls): (&Listen, bool),
    shards: usize,
    engine: &str,
) -> String {
    let scheme = |tls| if tls { "https" } else { "http" };
    let (public_scheme, admin_scheme) = (scheme(public_tls), scheme(admin_tls));
    let noun = if shards == 1 { "shard" } else { "shards" };
    format!(
        "voxhall ready: {public_scheme}://{public} (admin {admin_scheme}://{admin}), {shards} {noun}, engine {engine}"
    )
}
