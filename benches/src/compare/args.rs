//! The command line of `voxhall-compare`, and the plan it resolves to.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::{Parser, ValueEnum};
use serde::Serialize;

use super::bounds::Bound;

/// The command line of `voxhall-compare`.
#[derive(Debug, Parser)]
#[command(
    name = "voxhall-compare",
    about = "Runs Voxhall and other WebSocket servers in turn under the same load and reports the ratios"
)]
pub struct Args {
    /// The load to compare under.
    #[arg(long, value_enum, default_value_t = Preset::Rate40k)]
    preset: Preset,
    /// Servers to run.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Server::COMPARED)]
    servers: Vec<Server>,
    /// Rounds; each runs every server once.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Clients, instead of the preset's.
    #[arg(long)]
    clients: Option<u32>,
    /// Frames per second over all clients, instead of the preset's.
    #[arg(long)]
    rate: Option<u32>,
    /// Payload of a frame, instead of the preset's.
    #[arg(long)]
    frame_bytes: Option<u32>,
    /// Length of the measurement, instead of the preset's.
    #[arg(long)]
    duration_s: Option<u32>,
    /// Time before the measurement, instead of the preset's.
    #[arg(long)]
    warmup_s: Option<u32>,
    /// Share of one core that the server gets, in percent, instead of the preset's.
    #[arg(long)]
    quota_percent: Option<u32>,
    /// Period of that share.
    #[arg(long, default_value_t = 100_000)]
    quota_period_us: u32,
    /// Core of the server.
    #[arg(long, default_value_t = 0)]
    server_core: usize,
    /// Core of the load generator.
    #[arg(long, default_value_t = 1)]
    generator_core: usize,
    /// First port to use. Every run takes the next one, so that none meets what another left in TIME_WAIT.
    #[arg(long, default_value_t = 9001)]
    port: u16,
    /// Rest between runs.
    #[arg(long, default_value_t = 1000)]
    pause_ms: u64,
    /// Further argument for `voxhall serve`, such as `--voxhall-arg=--set --voxhall-arg=heartbeat.ping_s=0`.
    #[arg(long, allow_hyphen_values = true)]
    voxhall_arg: Vec<String>,
    /// Further argument for `voxhall-loadtest`.
    #[arg(long, allow_hyphen_values = true)]
    loadtest_arg: Vec<String>,
    /// Directory of the programs `voxhall`, `voxhall-loadtest` and `voxhall-peers`; the one of this program
    /// if not given.
    #[arg(long)]
    programs: Option<PathBuf>,
    /// File for the whole report, every run's included.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Bounds to hold, such as `cpu:voxhall/epoll<=1.15,rate:voxhall/epoll>=0.95`; exit 1 if one is broken.
    #[arg(long, value_delimiter = ',')]
    check: Vec<Bound>,
}

/// A load to compare under.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Preset {
    /// Echo: 10,000 clients, 40,000 frames of 640 bytes per second.
    Rate40k,
    /// Echo: 2,000 clients, 60,000 frames of 640 bytes per second.
    Rate60k,
    /// Echo: 8,000 clients, 84,000 frames per second, the server held to 15 % of its core.
    Pressure,
    /// How many clients per second can connect: 10,000 of them, silent.
    Handshake,
    /// What a silent client costs in memory: 2,000 of them, then 10,000.
    Memory,
}

/// A server to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Server {
    /// Voxhall: one shard, engine `echo`.
    Voxhall,
    /// The same without the limits on what clients send and how often they come: what those cost.
    VoxhallUnlimited,
    /// A bare epoll loop.
    Epoll,
    /// `fastwebsockets` on tokio.
    Fastwebsockets,
    /// `tokio-tungstenite` with small buffers.
    TungsteniteTuned,
    /// `tokio-tungstenite` with its default buffers.
    TungsteniteDefault,
}

impl Server {
    /// Those that are run unless others are named.
    const COMPARED: [Self; 5] =
        [Self::Voxhall, Self::Epoll, Self::Fastwebsockets, Self::TungsteniteTuned, Self::TungsteniteDefault];

    /// Whether it is Voxhall, however set up.
    pub(super) fn is_voxhall(self) -> bool {
        matches!(self, Self::Voxhall | Self::VoxhallUnlimited)
    }
}

impl std::fmt::Display for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.to_possible_value().expect("every server has a name").get_name())
    }
}

/// The load of a run.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Load {
    pub(super) scenario: &'static str,
    pub(super) clients: u32,
    pub(super) rate: u32,
    pub(super) frame_bytes: u32,
    pub(super) warmup_s: u32,
    pub(super) duration_s: u32,
    pub(super) quota_percent: Option<u32>,
    pub(super) quota_period_us: u32,
}

impl Preset {
    const fn load(self) -> Load {
        let echo = Load {
            scenario: "echo",
            clients: 10_000,
            rate: 40_000,
            frame_bytes: 640,
            warmup_s: 2,
            duration_s: 10,
            quota_percent: None,
            quota_period_us: 0,
        };
        match self {
            Self::Rate40k => echo,
            Self::Rate60k => Load { clients: 2_000, rate: 60_000, ..echo },
            // The quota bites only once everyone is connected, so the warm-up is longer: it must have begun
            // by then.
            Self::Pressure => {
                Load { clients: 8_000, rate: 84_000, warmup_s: 5, quota_percent: Some(15), ..echo }
            }
            Self::Handshake => Load { scenario: "idle", rate: 0, warmup_s: 0, duration_s: 1, ..echo },
            Self::Memory => Load { scenario: "ramp", rate: 0, warmup_s: 0, duration_s: 5, ..echo },
        }
    }
}

/// What to do, every choice made.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) preset: Preset,
    pub(super) load: Load,
    pub(super) servers: Vec<Server>,
    pub(super) rounds: u32,
    pub(super) server_core: usize,
    pub(super) generator_core: usize,
    pub(super) port: u16,
    pub(super) pause_ms: u64,
    pub(super) voxhall_args: Vec<String>,
    pub(super) loadtest_args: Vec<String>,
    pub(super) voxhall: PathBuf,
    pub(super) loadtest: PathBuf,
    pub(super) peers: PathBuf,
    pub(super) json: Option<PathBuf>,
    pub(super) bounds: Vec<Bound>,
}

impl Plan {
    pub(super) fn new(args: Args) -> Result<Self> {
        let preset = args.preset.load();
        let load = Load {
            clients: args.clients.unwrap_or(preset.clients),
            rate: args.rate.unwrap_or(preset.rate),
            frame_bytes: args.frame_bytes.unwrap_or(preset.frame_bytes),
            warmup_s: args.warmup_s.unwrap_or(preset.warmup_s),
            duration_s: args.duration_s.unwrap_or(preset.duration_s),
            quota_percent: args.quota_percent.or(preset.quota_percent),
            quota_period_us: args.quota_period_us,
            ..preset
        };
        let mut servers: Vec<Server> = Vec::new();
        for server in args.servers {
            if !servers.contains(&server) {
                servers.push(server);
            }
        }
        for bound in &args.check {
            if let Some(missing) = bound.servers().find(|server| !servers.contains(server)) {
                bail!("the bound {bound} is about {missing}, which --servers leaves out");
            }
        }
        let runs = u64::from(args.rounds) * servers.len() as u64;
        if u64::from(args.port) + 2 * runs > u64::from(u16::MAX) {
            bail!("{runs} runs from port {} on need more ports than there are; lower --port", args.port);
        }
        let programs = match args.programs {
            Some(directory) => directory,
            None => {
                let own = std::env::current_exe().context("finding this program's directory")?;
                own.parent().map(Path::to_path_buf).unwrap_or_default()
            }
        };
        let program = |name: &str| {
            let path = programs.join(name);
            if path.is_file() { Ok(path) } else { missing_program(&path) }
        };
        Ok(Self {
            voxhall: if servers.iter().any(|server| server.is_voxhall()) {
                program("voxhall")?
            } else {
                PathBuf::new()
            },
            loadtest: program("voxhall-loadtest")?,
            peers: program("voxhall-peers")?,
            preset: args.preset,
            load,
            servers,
            rounds: args.rounds,
            server_core: args.server_core,
            generator_core: args.generator_core,
            port: args.port,
            pause_ms: args.pause_ms,
            voxhall_args: args.voxhall_arg,
            loadtest_args: args.loadtest_arg,
            json: args.json,
            bounds: args.check,
        })
    }
}

fn missing_program(path: &Path) -> Result<PathBuf> {
    bail!(
        "{} is missing; build everything with the same profile first: cargo build --release --workspace",
        path.display()
    )
}
