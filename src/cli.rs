//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::config::{FlagSetting, RawConfig};

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
}

/// What decides the configuration. A flag wins over the environment, that over the file, that over the default.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Where clients connect [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// Where metrics and the management API are served [default: 127.0.0.1:9090]
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
        let environment = std::env::vars_os().filter_map(|(name, value)| {
            Some((name.into_string().ok()?, value.to_string_lossy().into_owned()))
        });
        RawConfig::gather(self.config.as_deref(), environment, &self.flags())
    }

    fn flags(&self) -> Vec<FlagSetting> {
        let mut flags = Vec::new();
        // `--set` first: whoever also writes the key's own flag means that one.
        for (key, value) in &self.set {
            flags.push(FlagSetting {
                flag: format!("--set {key}={value}"),
                key: key.clone(),
                value: value.clone(),
            });
        }
        let own = [
            ("--listen", "server.listen", &self.listen),
            ("--admin", "server.admin", &self.admin),
            ("--shards", "server.shards", &self.shards),
            ("--cores", "server.cores", &self.cores),
            ("--profile", "server.profile", &self.profile),
            ("--engine", "room.engine", &self.engine),
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

fn key_and_value(text: &str) -> Result<(String, String), String> {
    let (key, value) =
        text.split_once('=').ok_or("write it as key=value, such as outbox.messages_max=256")?;
    Ok((key.trim().to_owned(), value.to_owned()))
}

/// The one line that says the server is up.
pub(crate) fn ready_line(
    public: SocketAddr,
    tls: bool,
    admin: SocketAddr,
    shards: usize,
    engine: &str,
) -> String {
    let scheme = if tls { "https" } else { "http" };
    let noun = if shards == 1 { "shard" } else { "shards" };
    format!("voxhall ready: {scheme}://{public} (admin http://{admin}), {shards} {noun}, engine {engine}")
}
