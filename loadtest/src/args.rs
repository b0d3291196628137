//! The command line: as typed (`Args`), and as resolved (`Job`), with a sentence for everything that can't be.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::path::PathBuf;

use clap::Parser;

use crate::expect::{self, Bound};
use crate::flood::Flood;
use crate::frame::STAMP_BYTES;
use crate::host;
use crate::plan::{Plan, Scenario, Subprotocol, Transport};

/// Loads a WebSocket room server and says what came back, when, and at what cost.
#[derive(Debug, Parser)]
#[command(name = "voxhall-loadtest", version, max_term_width = 110)]
pub(crate) struct Args {
    /// What the clients do
    #[arg(value_enum)]
    scenario: Scenario,
    /// The server; any WebSocket server that echoes will do
    #[arg(long, default_value = "ws://127.0.0.1:8080")]
    url: String,
    /// Clients, and with them rooms (relay: two a room; fanout: listeners of one room, besides the speaker)
    #[arg(long)]
    clients: Option<u32>,
    /// Frames a second over all clients (echo, relay, slow, flood: 4 for each; fanout: 50)
    #[arg(long)]
    rate: Option<f64>,
    /// Payload of a frame
    #[arg(long, default_value_t = 640)]
    frame_bytes: usize,
    /// The engine asked for [default: relay for relay and fanout, echo for all others]
    #[arg(long)]
    engine: Option<String>,
    /// What is negotiated
    #[arg(long, value_enum, default_value = "none")]
    subprotocol: Subprotocol,
    /// How clients hear their rooms (idle, ramp and storm: nobody speaks there)
    #[arg(long, value_enum, default_value = "websocket")]
    transport: Transport,
    /// Rooms are called by this and a number
    #[arg(long, default_value = "load-")]
    prefix: String,
    /// Left out of all figures
    #[arg(long, default_value_t = 3.0)]
    warmup_s: f64,
    /// How long is measured
    #[arg(long, default_value_t = 10.0)]
    duration_s: f64,
    /// How long outstanding frames are waited for, at most
    #[arg(long, default_value_t = 2.0)]
    drain_s: f64,
    /// Connections opened a second; 0 is as fast as it goes [default: 0, churn: 500]
    #[arg(long)]
    connect_rate: Option<f64>,
    /// Connections on their way at a time [default: 256, storm: 1024]
    #[arg(long)]
    connect_concurrency: Option<u32>,
    /// After this a handshake has failed
    #[arg(long, default_value_t = 10.0)]
    connect_timeout_s: f64,
    /// Source addresses 127.0.0.2, 127.0.0.3 and so on, taken in turn; 1 leaves it to the kernel
    #[arg(long, default_value_t = 1)]
    sources: u8,
    /// Processes that share the clients
    #[arg(long, default_value_t = 1)]
    processes: u32,
    /// Cores the generator may use, as in 1 or 2,3
    #[arg(long, value_delimiter = ',')]
    cores: Vec<usize>,
    /// Workers outrank everything that is not realtime, the kernel's own background threads among it (`chrt -f`)
    #[arg(long)]
    realtime: bool,
    /// Frames due within a tick leave together at its end
    #[arg(long, default_value_t = 250)]
    tick_us: u64,
    /// After arrivals were read, the next ones are read so much later: fewer wake-ups and a cheaper generator, for
    /// latencies that are longer by up to this
    #[arg(long, default_value_t = 100)]
    read_gap_us: u64,
    /// The process to measure [default: whoever listens at the address]
    #[arg(long)]
    server_pid: Option<u32>,
    /// Voxhall's admin address, as http://127.0.0.1:9090: its counters are laid beside the generator's
    #[arg(long)]
    admin: Option<String>,
    /// The server is not Voxhall: a client is ready at 101, without a welcome event
    #[arg(long)]
    peer: bool,
    /// Samples a second that rooms are asked to take, of 16 bits each [default: the server's own]
    #[arg(long)]
    audio_rate: Option<u32>,
    /// talk, converse: the share of rooms that speaks at any time
    #[arg(long, default_value_t = 0.1)]
    speaking: f64,
    /// talk: mean length of a spurt; converse: length of an utterance; pauses follow from --speaking
    #[arg(long, default_value_t = 2000)]
    spurt_ms: u64,
    /// talk, converse, churn: time between two frames of a speaker
    #[arg(long, default_value_t = 20)]
    frame_ms: u64,
    /// slow: the share of clients that stops reading
    #[arg(long, default_value_t = 0.01)]
    slow: f64,
    /// slow: when they stop, counted from the end of warm-up [default: a third of the duration]
    #[arg(long)]
    slow_after_s: Option<f64>,
    /// slow: frames a second for each slow client, so that their lanes fill sooner; 0 is as everyone else
    #[arg(long, default_value_t = 0.0)]
    slow_rate: f64,
    /// flood: the address that it comes from [default: the first of this host that is not loopback]
    #[arg(long)]
    flood_from: Option<IpAddr>,
    /// flood: when it begins, counted from the end of warm-up [default: a third of the duration]
    #[arg(long)]
    flood_after_s: Option<f64>,
    /// flood: handshakes on their way at a time; more are not faster where they share a core with the other clients
    #[arg(long, default_value_t = 4)]
    flood_concurrency: u32,
    /// ramp: clients at each step
    #[arg(long, value_delimiter = ',', default_values_t = [2000, 4000, 6000, 8000, 10000])]
    steps: Vec<u32>,
    /// ramp: rest before memory is read
    #[arg(long, default_value_t = 2.0)]
    settle_s: f64,
    /// storm: come back with the resume token of the welcome
    #[arg(long)]
    resume: bool,
    /// storm: all are cut at once, and come back one after the other over this; 0 is at once
    #[arg(long, default_value_t = 0.0)]
    over_s: f64,
    /// churn: conversations held in all
    #[arg(long, default_value_t = 50_000)]
    total: u64,
    /// churn: frames in each conversation
    #[arg(long, default_value_t = 5)]
    churn_frames: u32,
    /// Bounds, as in p99<20ms,loss=0; a broken one makes the exit code 1
    #[arg(long)]
    expect: Vec<String>,
    /// Write the report as JSON; - is standard output, instead of the table
    #[arg(long)]
    json: Option<PathBuf>,
    /// Write the report as a page with plots
    #[arg(long)]
    html: Option<PathBuf>,
    /// No progress, no table
    #[arg(long)]
    quiet: bool,
}

/// A run, resolved.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) plan: Plan,
    pub(crate) clients: u32,
    pub(crate) processes: u32,
    pub(crate) realtime: bool,
    /// Connections at each step of the connect phase; one step but for `ramp`.
    pub(crate) steps: Vec<u32>,
    pub(crate) settle_us: u64,
    pub(crate) drain_us: u64,
    pub(crate) server_pid: Option<u32>,
    pub(crate) admin: Option<String>,
    pub(crate) flood: Option<Flood>,
    pub(crate) bounds: Vec<Bound>,
    pub(crate) json: Option<PathBuf>,
    pub(crate) html: Option<PathBuf>,
    pub(crate) quiet: bool,
}

impl Args {
    /// Turns what was typed into a run, or says what is wrong with it.
    pub(crate) fn resolve(self, descriptors: u64) -> Result<Job, String> {
        let bounds =
            self.expect.iter().map(|list| expect::parse(list)).collect::<Result<Vec<_>, _>>()?.concat();
        if let Some(admin) = &self.admin {
            crate::admin::authority(admin)?;
        }
        self.check_numbers()?;
        let (host, target) = parse_url(&self.url)?;
        let steps = self.steps_of_connections()?;
        let connections = steps.last().copied().unwrap_or(0);
        self.check_descriptors(connections, descriptors)?;
        let scenario = self.scenario;
        let clients = if scenario == Scenario::Fanout { connections - 1 } else { connections };
        let rate = match scenario {
            Scenario::Fanout => self.rate.unwrap_or(50.0),
            _ => self.rate.unwrap_or(4.0 * f64::from(connections)),
        };
        let trouble_after_s = self.slow_after_s.or(self.flood_after_s).unwrap_or(self.duration_s / 3.0);
        let flood = match scenario {
            Scenario::Flood => Some(Flood::new(target, &host, self.flood_from, self.flood_concurrency)?),
            _ => None,
        };
        let relays = matches!(scenario, Scenario::Relay | Scenario::Fanout);
        let plan = Plan {
            scenario,
            target,
            host,
            prefix: self.prefix,
            engine: self.engine.unwrap_or_else(|| if relays { "relay".into() } else { "echo".into() }),
            subprotocol: self.subprotocol,
            transport: self.transport,
            connections,
            first: 0,
            count: connections,
            rate,
            frame_bytes: self.frame_bytes,
            tick_us: self.tick_us,
            read_gap_us: self.read_gap_us,
            connect_rate: self.connect_rate.unwrap_or(if scenario == Scenario::Churn { 500.0 } else { 0.0 }),
            connect_concurrency: self.connect_concurrency.unwrap_or(if scenario == Scenario::Storm {
                1024
            } else {
                256
            }),
            connect_timeout_us: micros(self.connect_timeout_s),
            sources: self.sources,
            warmup_us: micros(self.warmup_s),
            duration_us: micros(self.duration_s),
            speaking: self.speaking,
            frame_ms: self.frame_ms,
            spurt_ms: self.spurt_ms,
            slow_share: self.slow,
            trouble_after_us: micros(trouble_after_s),
            slow_rate: self.slow_rate,
            peer: self.peer,
            resume: self.resume,
            over_us: micros(self.over_s),
            churn_total: self.total,
            churn_frames: self.churn_frames,
            audio_rate: self.audio_rate,
            cores: self.cores,
        };
        Ok(Job {
            plan,
            clients,
            processes: self.processes,
            realtime: self.realtime,
            steps,
            settle_us: if scenario == Scenario::Ramp { micros(self.settle_s) } else { 0 },
            drain_us: micros(self.drain_s),
            server_pid: self.server_pid,
            admin: self.admin,
            flood,
            bounds,
            json: self.json,
            html: self.html,
            quiet: self.quiet,
        })
    }

    fn check_numbers(&self) -> Result<(), String> {
        let positive = [
            ("--duration-s", self.duration_s),
            ("--connect-timeout-s", self.connect_timeout_s),
            ("--tick-us", self.tick_us as f64),
            ("--frame-ms", self.frame_ms as f64),
            ("--spurt-ms", self.spurt_ms as f64),
            ("--processes", f64::from(self.processes)),
            ("--sources", f64::from(self.sources)),
            ("--flood-concurrency", f64::from(self.flood_concurrency)),
            ("--total", self.total as f64),
            ("--churn-frames", f64::from(self.churn_frames)),
            ("--rate", self.rate.unwrap_or(1.0)),
            ("--connect-concurrency", f64::from(self.connect_concurrency.unwrap_or(1))),
        ];
        if let Some((name, value)) = positive.iter().find(|(_, value)| !(value.is_finite() && *value > 0.0)) {
            return Err(format!("{name} {value}: expected more than 0"));
        }
        let none_negative = [
            ("--warmup-s", self.warmup_s),
            ("--drain-s", self.drain_s),
            ("--settle-s", self.settle_s),
            ("--slow-rate", self.slow_rate),
            ("--slow-after-s", self.slow_after_s.unwrap_or(0.0)),
            ("--flood-after-s", self.flood_after_s.unwrap_or(0.0)),
            ("--connect-rate", self.connect_rate.unwrap_or(0.0)),
        ];
        if let Some((name, value)) =
            none_negative.iter().find(|(_, value)| !(value.is_finite() && *value >= 0.0))
        {
            return Err(format!("{name} {value}: expected 0 or more"));
        }
        for (name, share) in [("--speaking", self.speaking), ("--slow", self.slow)] {
            if !(share > 0.0 && share <= 1.0) {
                return Err(format!("{name} {share}: expected a share above 0, up to 1"));
            }
        }
        if self.frame_bytes < STAMP_BYTES || self.frame_bytes > 1 << 20 {
            let why = format!("a frame carries a stamp of {STAMP_BYTES} bytes, and a server takes 1 MiB");
            return Err(format!("--frame-bytes {}: {why}", self.frame_bytes));
        }
        if self.sources > 250 || self.tick_us.max(self.read_gap_us) > 100_000 {
            return Err("--sources goes to 250, --tick-us and --read-gap-us to 100000".into());
        }
        let silent = matches!(self.scenario, Scenario::Idle | Scenario::Ramp | Scenario::Storm);
        if self.transport == Transport::Sse && !(silent && self.subprotocol == Subprotocol::None) {
            return Err(
                "--transport sse: only idle, ramp and storm are heard so, without a subprotocol".into()
            );
        }
        if self.rate.is_some() && !self.scenario.has_rate() {
            let name = self.scenario.name();
            return Err(match self.scenario {
                Scenario::Talk => {
                    "--rate: talk's rate follows from --clients, --speaking and --frame-ms".into()
                }
                Scenario::Churn => {
                    "--rate: churn's rate follows from --connect-rate and --churn-frames".into()
                }
                _ => format!("--rate: in {name} nobody speaks"),
            });
        }
        Ok(())
    }

    fn steps_of_connections(&self) -> Result<Vec<u32>, String> {
        let clients = self.clients.unwrap_or(100);
        match self.scenario {
            Scenario::Ramp => {
                let mut steps = self.steps.clone();
                if let Some(clients) = self.clients {
                    steps.retain(|&step| step < clients);
                    steps.push(clients);
                }
                if steps.is_empty() || steps[0] == 0 || steps.windows(2).any(|pair| pair[0] >= pair[1]) {
                    return Err(format!("--steps {:?}: expected numbers that grow", self.steps));
                }
                Ok(steps)
            }
            _ if clients == 0 => Err("--clients 0: expected at least one".into()),
            Scenario::Relay if clients % 2 == 1 => {
                Err(format!("--clients {clients}: relay pairs them, so the number has to be even"))
            }
            Scenario::Fanout => Ok(vec![clients.saturating_add(1)]),
            _ => Ok(vec![clients]),
        }
    }

    fn check_descriptors(&self, connections: u32, descriptors: u64) -> Result<(), String> {
        let units = if self.scenario == Scenario::Relay { connections / 2 } else { connections };
        if self.processes > units {
            return Err(format!("--processes {}: there are clients for {units} at most", self.processes));
        }
        let share = u64::from(connections.div_ceil(self.processes)) + 1;
        let allowed = host::connections_max(descriptors);
        if share > allowed + 1 {
            let enough = u64::from(connections).div_ceil(allowed.max(1));
            return Err(format!(
                "{connections} connections in {} process(es) need more than the {descriptors} descriptors a process \
                 may have here (`ulimit -Hn`): each holds {allowed} at most, so use --processes {enough} or raise the limit",
                self.processes
            ));
        }
        let ports = 28_000 * u64::from(self.sources);
        if self.processes > 0 && u64::from(connections) > ports {
            return Err(format!(
                "{connections} connections run out of ports: one source address has about 28000 towards one server, \
                 so use --sources {}",
                u64::from(connections).div_ceil(28_000)
            ));
        }
        Ok(())
    }
}

/// Gives the `Host` and the address of `ws://HOST[:PORT]`.
pub(crate) fn parse_url(url: &str) -> Result<(String, SocketAddr), String> {
    let wrong = |why: &str| format!("--url {url}: {why}");
    if url.starts_with("wss://") {
        return Err(wrong("TLS is not spoken here; put the load on the plain port"));
    }
    let rest = url.strip_prefix("ws://").ok_or_else(|| wrong("expected ws://HOST:PORT"))?;
    let host = rest.strip_suffix('/').unwrap_or(rest);
    if host.is_empty() || host.contains(['/', '?', '#', '@']) {
        return Err(wrong("expected ws://HOST:PORT without a path; rooms are at /ws/…"));
    }
    let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    let authority = if has_port { host.to_owned() } else { format!("{host}:80") };
    let found = authority.to_socket_addrs().map_err(|error| wrong(&error.to_string()))?.next();
    Ok((host.to_owned(), found.ok_or_else(|| wrong("the name has no address"))?))
}

fn micros(seconds: f64) -> u64 {
    (seconds * 1e6) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(line: &str) -> Result<Job, String> {
        let words = std::iter::once("voxhall-loadtest").chain(line.split_whitespace());
        Args::try_parse_from(words).map_err(|error| error.to_string())?.resolve(20_000)
    }

    #[test]
    fn every_wrong_input_is_answered() {
        for (line, why) in [
            ("echo --clients 30000", "--processes 2"),
            ("echo --clients 60000 --processes 4", "--sources 3"),
            ("echo --url http://127.0.0.1:80", "ws://HOST:PORT"),
            ("echo --url wss://127.0.0.1:80", "TLS"),
            ("echo --url ws://127.0.0.1:80/ws", "without a path"),
            ("echo --clients 0", "at least one"),
            ("echo --rate 0", "--rate 0"),
            ("relay --clients 3", "even"),
            ("echo --frame-bytes 8", "16 bytes"),
            ("talk --rate 5", "--speaking"),
            ("idle --rate 5", "nobody speaks"),
            ("talk --speaking 1.5", "a share"),
            ("ramp --steps 10,5", "grow"),
            ("echo --expect p99", "METRIC OP VALUE"),
            ("echo --admin 127.0.0.1:9090", "http://HOST:PORT"),
            ("echo --processes 200", "at most"),
            ("nothing", "possible values"),
        ] {
            let error = resolve(line).expect_err(line);
            assert!(error.contains(why), "{line}: {error}");
        }
    }

    #[test]
    fn defaults_follow_the_scenario() {
        let fanout = resolve("fanout --clients 1000").expect("a run");
        assert_eq!((fanout.clients, fanout.plan.connections, fanout.plan.rate), (1000, 1001, 50.0));
        assert_eq!(fanout.plan.engine, "relay");
        assert_eq!(resolve("ramp").expect("a run").steps, [2000, 4000, 6000, 8000, 10000]);
        assert_eq!(resolve("ramp --clients 3000").expect("a run").steps, [2000, 3000]);
        assert_eq!(resolve("echo --clients 19000").expect("a run").plan.rate, 76_000.0);
    }
}
