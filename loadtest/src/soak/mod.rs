//! `voxhall-loadtest soak`: members of many rooms talk while their connections are cut in every way, and at the end each one's
//! log is held against what the others said. Nothing may be missing unless the server has said so.
//!
//! Each thread has rooms of its own, whole ones, so that logs are compared without a word between threads.

mod crowd;
mod dice;
mod events;
mod gaps;
mod judge;
mod ledger;
mod lines;
mod member;
mod tally;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::thread;

use crate::args::parse_url;
use crate::host;
use clap::Parser;

use crowd::Crowd;
use tally::Tally;

/// Rooms whose members talk while their connections are cut; exit code 1 if anything is lost without a word.
#[derive(Debug, Parser)]
#[command(name = "voxhall-loadtest soak", version, max_term_width = 110)]
struct Args {
    /// The server
    #[arg(long, default_value = "ws://127.0.0.1:8080")]
    url: String,
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u32).range(1..))]
    rooms: u32,
    /// Members of each room
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(2..=64))]
    members: u8,
    /// Messages and words a second over all rooms, each to all other members
    #[arg(long, default_value_t = 20_000.0)]
    rate: f64,
    /// Of a hundred of these, so many are words of answers that members of busy rooms ask for: the server may drop them. With more than none
    /// the run fails unless it has
    #[arg(long, default_value_t = 40, value_parser = clap::value_parser!(u64).range(0..=100))]
    words_percent: u64,
    /// Rooms where such answers are given; every second member there stops to read again and again [default: one of each two hundred and fifty]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    busy_rooms: Option<u32>,
    /// How long, at most, these readers stop
    #[arg(long, default_value_t = 9.0)]
    doze_s: f64,
    /// Connections to busy rooms are not cut: then everything that is dropped can be told, and --admin is asked whether it was
    #[arg(long)]
    spare_busy: bool,
    #[arg(long, default_value_t = 300.0)]
    duration_s: f64,
    /// Connections cut a second, over all rooms: reset, ended, left standing, closed with a goodbye, or not read for a while [default: one for
    /// each twenty rooms]
    #[arg(long)]
    cuts: Option<f64>,
    /// Of a hundred cuts, so many lead to a long absence
    #[arg(long, default_value_t = 1)]
    long_percent: u64,
    /// How long that is
    #[arg(long, default_value_t = 40.0)]
    long_s: f64,
    /// Over which members join
    #[arg(long, default_value_t = 2.0)]
    join_s: f64,
    /// How long, at most, everybody has at the end to hear the rest
    #[arg(long, default_value_t = 60.0)]
    settle_s: f64,
    /// Threads that share the rooms
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    threads: u32,
    /// Source addresses 127.0.0.2, 127.0.0.3 and so on, taken in turn; 1 leaves it to the kernel
    #[arg(long, default_value_t = 1)]
    sources: u8,
    /// The same seed cuts the same connections at the same times
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Rooms are called by this and a number
    #[arg(long, default_value = "soak-")]
    prefix: String,
    /// The server's admin address (http://HOST:PORT), whose count of drops the drops told are held against
    #[arg(long)]
    admin: Option<String>,
    /// Write the report as JSON; - is standard output, instead of the lines
    #[arg(long)]
    json: Option<PathBuf>,
}

/// A soak, resolved.
#[derive(Debug)]
struct Plan {
    target: SocketAddr,
    host: String,
    prefix: String,
    rooms: u32,
    members: u8,
    messages_per_s: f64,
    words_per_s: f64,
    cuts_per_s: f64,
    words_percent: u64,
    /// Every so many rooms there is a busy one.
    busy_every: u32,
    doze_us: u64,
    spare_busy: bool,
    sources: u8,
    seed: u64,
    duration_us: u64,
    join_us: u64,
    settle_us: u64,
    long_percent: u64,
    long_us: u64,
}

impl Plan {
    fn of(args: &Args) -> Result<Self, String> {
        let (host, target) = parse_url(&args.url)?;
        let micros = |seconds: f64| (seconds * 1e6) as u64;
        if !(args.rate > 0.0 && args.duration_s > 0.0) {
            return Err("--rate and --duration-s are more than 0".into());
        }
        let words_per_s = args.rate * args.words_percent as f64 / 100.0;
        Ok(Self {
            target,
            host,
            prefix: args.prefix.clone(),
            rooms: args.rooms,
            members: args.members,
            messages_per_s: args.rate - words_per_s,
            words_per_s,
            cuts_per_s: args.cuts.unwrap_or(f64::from(args.rooms) / 20.0),
            words_percent: args.words_percent,
            busy_every: args.busy_rooms.map_or(250, |busy| (args.rooms / busy).max(1)),
            doze_us: micros(args.doze_s),
            spare_busy: args.spare_busy,
            sources: args.sources,
            seed: args.seed,
            duration_us: micros(args.duration_s),
            join_us: micros(args.join_s),
            settle_us: micros(args.settle_s),
            long_percent: args.long_percent,
            long_us: micros(args.long_s),
        })
    }

    /// Whether answers are given in a room.
    fn is_busy(&self, room: u32) -> bool {
        self.words_percent > 0 && room.is_multiple_of(self.busy_every)
    }

    /// How many such rooms there are, if there are any.
    fn busy_rooms(&self) -> u32 {
        self.rooms.div_ceil(self.busy_every)
    }

    /// The request for a room, for somebody new or somebody who comes back.
    fn request(&self, room: u32, resume: Option<(&str, u64)>) -> String {
        let resume =
            resume.map(|(token, after)| format!("&resume={token}&after={after}")).unwrap_or_default();
        let engine = if self.is_busy(room) { "parrot" } else { "relay" };
        format!(
            "GET /ws/{}{room}?engine={engine}{resume} HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dm94aGFsbC1sb2FkdGVzdA==\r\n\
             Sec-WebSocket-Protocol: voxhall.v1\r\n\r\n",
            self.prefix, self.host
        )
    }
}

/// Runs it with these arguments, the first of which is the program's name: what to say, and whether all went well.
pub(crate) fn main(arguments: impl Iterator<Item = String>) -> Result<(String, bool), (String, u8)> {
    let descriptors = host::raise_descriptor_limit();
    let args = Args::parse_from(arguments);
    let plan = Plan::of(&args).map_err(|fault| (fault, 2))?;
    let connections = u64::from(args.rooms) * u64::from(args.members);
    // Those that were left standing have a descriptor as well.
    if host::connections_max(descriptors) < connections + connections / 2 {
        return Err((
            format!("{connections} members need more descriptors than the {descriptors} allowed"),
            2,
        ));
    }
    let dropped = || args.admin.as_deref().map(judge::dropped_by).transpose().map_err(|fault| (fault, 1));
    let before = dropped()?;
    let tally = run(&args, &plan).map_err(|fault| (fault, 1))?;
    let dropped = dropped()?.zip(before).map(|(after, before)| after - before);
    let faults = judge::faults(&plan, &tally, dropped);
    let report = judge::report(&args, &tally, dropped, &faults);
    let text = serde_json::to_string_pretty(&report).map_err(|error| (error.to_string(), 1))?;
    let (clean, lines) = (faults.is_empty(), judge::lines(&tally, dropped, &faults));
    match &args.json {
        Some(path) if path.as_os_str() != "-" => {
            std::fs::write(path, text + "\n").map_err(|error| (format!("{}: {error}", path.display()), 1))?;
            Ok((lines, clean))
        }
        Some(_) => Ok((text, clean)),
        None => Ok((lines, clean)),
    }
}

fn run(args: &Args, plan: &Plan) -> Result<Tally, String> {
    let rooms = args.rooms;
    let threads = args.threads.min(rooms);
    thread::scope(|scope| {
        let shares = (0..threads).map(|n| {
            let bound = |n: u32| (u64::from(rooms) * u64::from(n) / u64::from(threads)) as u32;
            let (first, count) = (bound(n), bound(n + 1) - bound(n));
            scope.spawn(move || Crowd::new(plan, first, count)?.play())
        });
        let shares: Vec<_> = shares.collect();
        let mut whole = Tally::default();
        for share in shares {
            let tally = share.join().map_err(|_| "a thread has died".to_owned())?;
            whole.merge(&tally.map_err(|error| format!("a socket: {error}"))?);
        }
        Ok(whole)
    })
}
