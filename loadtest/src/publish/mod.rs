//! `voxhall-loadtest publish`: subscribers of channels, publications over the management API at a steady rate, and at the end
//! each subscriber's log held against the answers.
//!
//! The process that is started publishes and judges; the subscribers live in processes that it starts from the same program.

mod api;
mod ledger;
mod listener;
mod report;
mod workers;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::thread;

use clap::{Parser, ValueEnum};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::admin;
use crate::args::parse_url;
use crate::clock::now_us;
use crate::host::{self, Server};
use crate::plan::Subprotocol;

use api::{Published, Schedule};
use report::Measured;
use workers::Workers;

pub(crate) use listener::run as listen;

/// So long after everybody is subscribed the first batch is due: all publishers are there by then.
const START_US: u64 = 10_000;

/// Publications to subscribers of channels; exit code 1 if one is lost, comes twice or out of order, or not as the answers say.
#[derive(Debug, Parser)]
#[command(name = "voxhall-loadtest publish", version, max_term_width = 110)]
struct Args {
    /// The server
    #[arg(long, default_value = "ws://127.0.0.1:8080")]
    url: String,
    /// Its management address, where the publications go in
    #[arg(long, default_value = "http://127.0.0.1:9090")]
    admin: String,
    /// Subscribers, each in a room of its own
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    clients: u32,
    /// Who hears a publication
    #[arg(long, value_enum, default_value = "users")]
    to: Audience,
    /// Publications a second
    #[arg(long, default_value_t = 100.0)]
    rate: f64,
    #[arg(long, default_value_t = 10.0)]
    duration_s: f64,
    /// Publications of a request; the server takes `publish.batch_max` at most
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..))]
    batch: u64,
    /// Connections to the management address, each with one request at a time
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=256))]
    publishers: u16,
    /// What subscribers negotiate; under voxhall.v1 the server lets events wait for company (`outbox.coalesce_ms`)
    #[arg(long, value_enum, default_value = "voxhall.v1")]
    subprotocol: Subprotocol,
    /// How long, at most, is waited for what is outstanding at the end
    #[arg(long, default_value_t = 5.0)]
    drain_s: f64,
    /// After this without a new subscriber the run has failed
    #[arg(long, default_value_t = 10.0)]
    connect_timeout_s: f64,
    /// Source addresses 127.0.0.2, 127.0.0.3 and so on, taken in turn; 1 leaves it to the kernel
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=250))]
    sources: u8,
    /// Processes that share the subscribers
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    processes: u32,
    /// Cores the generator may use, as in 1 or 2,3
    #[arg(long, value_delimiter = ',')]
    cores: Vec<usize>,
    /// The process to measure [default: whoever listens at the address]
    #[arg(long)]
    server_pid: Option<u32>,
    /// Rooms are called by this and a number
    #[arg(long, default_value = "publish-")]
    prefix: String,
    /// Write the report as JSON; - is standard output, instead of the lines
    #[arg(long)]
    json: Option<PathBuf>,
    /// No lines
    #[arg(long)]
    quiet: bool,
}

/// Who hears a publication.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
enum Audience {
    /// Everybody: all subscribe to `system:*`, and one stream carries all
    System,
    /// One at a time, in turn: subscriber k hears `user:k:*`
    Users,
}

/// A run, or one process's share of it (`first`, `count`).
#[derive(Clone, Debug, Deserialize, Serialize)]
struct Plan {
    target: SocketAddr,
    host: String,
    prefix: String,
    to: Audience,
    subprotocol: Subprotocol,
    clients: u32,
    first: u32,
    count: u32,
    sources: u8,
    connect_timeout_us: u64,
    drain_us: u64,
    cores: Vec<usize>,
}

impl Plan {
    fn of(args: &Args, descriptors: u64) -> Result<Self, String> {
        let (host, target) = parse_url(&args.url)?;
        admin::authority(&args.admin)?;
        let micros = |seconds: f64| (seconds * 1e6) as u64;
        if !(args.rate > 0.0 && args.duration_s > 0.0 && args.rate * args.duration_s >= 0.5) {
            return Err("--rate and --duration-s: expected enough for one publication".into());
        }
        if args.processes > args.clients {
            return Err(format!(
                "--processes {}: there are clients for {} at most",
                args.processes, args.clients
            ));
        }
        if host::connections_max(descriptors) < u64::from(args.clients.div_ceil(args.processes)) {
            return Err(format!(
                "{} subscribers in {} process(es) need more than the {descriptors} descriptors that one may have",
                args.clients, args.processes
            ));
        }
        Ok(Self {
            target,
            host,
            prefix: args.prefix.clone(),
            to: args.to,
            subprotocol: args.subprotocol,
            clients: args.clients,
            first: 0,
            count: args.clients,
            sources: args.sources,
            connect_timeout_us: micros(args.connect_timeout_s),
            drain_us: micros(args.drain_s),
            cores: args.cores.clone(),
        })
    }

    /// How many streams the publications go to.
    fn streams(&self) -> usize {
        match self.to {
            Audience::System => 1,
            Audience::Users => self.clients as usize,
        }
    }

    /// What a subscriber subscribes to: a whole stream, so that its numbers have no gaps.
    fn pattern(&self, client: u32) -> String {
        match self.to {
            Audience::System => "system:*".into(),
            Audience::Users => format!("user:{client}:*"),
        }
    }

    /// The request for a subscriber's room.
    fn request(&self, client: u32) -> String {
        let offered = self.subprotocol.offered();
        let offer = offered.map(|name| format!("Sec-WebSocket-Protocol: {name}\r\n")).unwrap_or_default();
        format!(
            "GET /ws/{}{client}?engine=echo HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dm94aGFsbC1sb2FkdGVzdA==\r\n\
             {offer}\r\n",
            self.prefix, self.host
        )
    }

    /// Splits the subscribers over processes.
    fn shares(&self, processes: u32) -> Vec<Self> {
        let bound = |n: u32| (u64::from(self.clients) * u64::from(n) / u64::from(processes)) as u32;
        let share = |n: u32| {
            let cores = match self.cores.len() {
                0 => Vec::new(),
                len => vec![self.cores[n as usize % len]],
            };
            Self { first: bound(n), count: bound(n + 1) - bound(n), cores, ..self.clone() }
        };
        (0..processes).map(share).collect()
    }
}

/// Runs it with these arguments, the first of which is the program's name: what to say, and whether all went well.
pub(crate) fn main(arguments: impl Iterator<Item = String>) -> Result<(String, bool), (String, u8)> {
    let descriptors = host::raise_descriptor_limit();
    let args = Args::parse_from(arguments);
    let plan = Plan::of(&args, descriptors).map_err(|fault| (fault, 2))?;
    let measured = run(&args, &plan).map_err(|fault| (fault, 1))?;
    let clean = measured.is_clean();
    let asked = json!({
        "clients": args.clients,
        "to": args.to,
        "subprotocol": args.subprotocol.offered(),
        "rate": args.rate,
        "duration_s": args.duration_s,
        "batch": args.batch,
        "publishers": args.publishers,
        "processes": args.processes,
    });
    let text =
        serde_json::to_string_pretty(&measured.json(&asked)).map_err(|error| (error.to_string(), 1))?;
    match &args.json {
        Some(path) if path.as_os_str() == "-" => return Ok((text, clean)),
        Some(path) => {
            std::fs::write(path, text + "\n").map_err(|error| (format!("{}: {error}", path.display()), 1))?;
        }
        None => {}
    }
    Ok((if args.quiet { String::new() } else { measured.lines() }, clean))
}

fn run(args: &Args, plan: &Plan) -> Result<Measured, String> {
    host::pin(&plan.cores)?;
    // Says that the management address answers, before anybody subscribes.
    admin::fetch(&args.admin)?;
    let server = args.server_pid.map(|pid| Server { pid }).or_else(|| Server::listening_on(plan.target));
    let cpu_ns = || server.and_then(Server::cpu_ns);
    let mut workers = Workers::start(plan.shares(args.processes))?;
    workers.await_ready()?;
    let cpu_before = cpu_ns();
    let start_us = now_us() + START_US;
    let schedule = Schedule {
        plan,
        authority: admin::authority(&args.admin)?,
        rate: args.rate,
        batch: args.batch,
        total: (args.rate * args.duration_s).round() as u64,
        start_us,
        next: AtomicU64::new(0),
    };
    let published = publish(&schedule, args.publishers)?;
    let listeners = match plan.to {
        Audience::System => u64::from(plan.clients),
        Audience::Users => 1,
    };
    workers.await_heard(published.taken * listeners, plan.drain_us)?;
    let (cpu_after, end_us) = (cpu_ns(), now_us());
    // The last batch leaves when the first of it is due: what was asked for is not outdone by that.
    let planned_s = schedule.total as f64 / args.rate;
    let publishing_us = published.end_us.saturating_sub(start_us);
    let mut measured = Measured::of(published, &workers.finish()?, plan.to);
    measured.publishing_s = (publishing_us as f64 / 1e6).max(planned_s);
    measured.window_s = (end_us.saturating_sub(start_us) as f64 / 1e6).max(planned_s);
    measured.server_cpu_ns = cpu_before.zip(cpu_after).map(|(before, after)| after.saturating_sub(before));
    Ok(measured)
}

/// Publishes everything, over so many connections.
fn publish(schedule: &Schedule<'_>, publishers: u16) -> Result<Published, String> {
    thread::scope(|scope| {
        let publishers: Vec<_> = (0..publishers).map(|_| scope.spawn(|| schedule.publish())).collect();
        let mut whole = Published::new(schedule.plan.streams());
        for publisher in publishers {
            whole.merge(&publisher.join().map_err(|_| "a publisher has died".to_owned())?);
        }
        Ok(whole)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(line: &str) -> Result<Plan, String> {
        let words = std::iter::once("publish").chain(line.split_whitespace());
        let args = Args::try_parse_from(words).map_err(|error| error.to_string())?;
        Plan::of(&args, 20_000)
    }

    #[test]
    fn every_wrong_input_is_answered() {
        for (line, why) in [
            ("--clients 0", "--clients"),
            ("--clients 30000", "descriptors"),
            ("--processes 200", "at most"),
            ("--rate 0", "--rate"),
            ("--rate 1 --duration-s 0.1", "enough"),
            ("--batch 0", "--batch"),
            ("--to nobody", "possible values"),
            ("--admin 127.0.0.1:9090", "http://HOST:PORT"),
            ("--url http://127.0.0.1:80", "ws://HOST:PORT"),
        ] {
            let error = plan(line).expect_err(line);
            assert!(error.contains(why), "{line}: {error}");
        }
    }

    #[test]
    fn shares_cover_every_subscriber_once() {
        let plan = plan("--clients 10 --processes 3 --to users").expect("a plan");
        let shares = plan.shares(3);
        let clients: Vec<u32> =
            shares.iter().flat_map(|share| share.first..share.first + share.count).collect();
        assert_eq!(clients, (0..10).collect::<Vec<_>>());
        assert_eq!((plan.streams(), plan.pattern(7).as_str()), (10, "user:7:*"));
    }
}
