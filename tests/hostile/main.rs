//! Bad input of every kind against a real server. Each attack meets with what docs/protocol.md says, clients that
//! behave are served all the while and lose nothing, and when the attackers are gone so is everything they caused.

mod attack;
mod bystander;
mod crowd;
mod events;
mod frames;
mod heads;
#[path = "../support/mod.rs"]
mod support;
mod wire;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::Value;

use attack::{Case, MANNERS};
use bystander::Bystanders;
use crowd::CROWDS;
use support::{PATIENCE, Server};

/// What the server is started with. Heads time out soon and rooms don't outlive their members, so that what an attack
/// leaves behind shows at once. Nobody is closed for the rate of what they send before it has been looked at.
const SERVER: &[&str] = &[
    "--shards",
    "2",
    "--echo-endpoint",
    "--set",
    "limits.head_s=2",
    "--set",
    "room.linger_s=0",
    "--set",
    "limits.messages_per_s=0",
    "--set",
    "limits.bytes_per_s=0",
];

/// The allocator gives freed memory back at once rather than a while later, so that what is still in use shows.
const ENVIRONMENT: &[(&str, &str)] = &[("MIMALLOC_PURGE_DELAY", "0")];

/// How much more memory the server may have in use after a storm than before the first. Two shards keep blocks for
/// later frames, 4 MiB in each of five sizes, which is 40 MiB; the rest is for tables that grew, the parsers' buffers,
/// and pages of which a part is in use. A kilobyte lost with each connection would pass it.
const RSS_KEPT_MAX: i64 = 64 << 20;

/// How often everything is done, so that what is not given back adds up.
const STORMS: usize = 2;

/// Attackers at work at once.
const ATTACKERS: usize = 16;

/// The table.
fn cases() -> Vec<Case> {
    [heads::cases(), frames::cases(), events::cases()].into_iter().flatten().collect()
}

#[test]
#[expect(clippy::print_stderr, reason = "the counts are what the run is for")]
fn bad_input_meets_its_answer_and_nobody_else_notices() {
    raise_descriptors();
    let server = Server::start_in(ENVIRONMENT, SERVER);
    let mut bystanders = Bystanders::join(server.public);
    let cases = cases();
    let before = Standing::of(&server);
    let (stop, stopped) = mpsc::channel();
    let served = thread::scope(|threads| {
        let speaking = threads.spawn(|| bystanders.speak(stopped));
        let mut failed = Vec::new();
        for _ in 0..STORMS {
            failed.extend(storm(&server, &cases));
            let after = Standing::returns(&server, &before);
            eprintln!("RSS from {} to {} KiB", before.rss >> 10, after.rss >> 10);
            if after.rss - before.rss > RSS_KEPT_MAX {
                failed.push(format!("memory went from {} to {} bytes", before.rss, after.rss));
            }
        }
        drop(stop);
        let served = speaking.join().expect("nobody who behaves notices");
        assert!(failed.is_empty(), "{} failures:\n{}", failed.len(), failed.join("\n"));
        served
    });
    eprintln!(
        "{} attacks in {} manners and {} crowds, {STORMS} times; {} frames echoed to each bystander, {} newcomers",
        cases.len(),
        MANNERS.len(),
        CROWDS.len(),
        served.frames,
        served.newcomers
    );
    assert!(served.frames > 0 && served.newcomers > 0);
}

/// Every case in every manner, then the crowds: what did not meet its outcome.
fn storm(server: &Server, cases: &[Case]) -> Vec<String> {
    let (next, failed) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    thread::scope(|threads| {
        for _ in 0..ATTACKERS {
            threads.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(case) = cases.get(at / MANNERS.len()) else { return };
                    let manner = MANNERS[at % MANNERS.len()];
                    if let Err(met) = case.run(server.public, manner) {
                        let told = format!("{} ({manner:?}): {met}", case.name);
                        failed.lock().expect("no attacker panics").push(told);
                    }
                }
            });
        }
    });
    for crowd in CROWDS {
        if let Err(met) = (crowd.attack)(server.public) {
            failed.lock().expect("no attacker panics").push(format!("{}: {met}", crowd.name));
        }
    }
    failed.into_inner().expect("no attacker panics")
}

/// What an attack may change while it lasts.
#[derive(Clone, Debug)]
struct Standing {
    /// Gauges of the node by name.
    gauges: Vec<(&'static str, u64)>,
    rss: i64,
}

/// Those that have to come back to where they were.
const GAUGES: [&str; 8] = [
    "heads",
    "open",
    "rooms",
    "queued_messages",
    "queued_bytes",
    "inbound_queued",
    "descriptors",
    "rooms_lingering",
];

impl Standing {
    fn of(server: &Server) -> Self {
        let stats: Value = serde_json::from_str(&server.admin_get("/api/v1/stats")).expect("JSON");
        let shards = stats["shards"].as_array().expect("shards");
        let sum = |gauge| shards.iter().map(|shard| shard[gauge].as_u64().expect("a number")).sum();
        let gauges = GAUGES.iter().map(|&gauge| (gauge, sum(gauge)));
        let of_node = ["connections", "open_fds"].map(|name| (name, stats[name].as_u64().expect("a number")));
        Self { gauges: gauges.chain(of_node).collect(), rss: stats["rss_bytes"].as_i64().expect("a number") }
    }

    /// Waits until every gauge is back.
    #[expect(clippy::disallowed_methods, reason = "patience needs a clock")]
    fn returns(server: &Server, before: &Self) -> Self {
        let from = Instant::now();
        loop {
            let now = Self::of(server);
            if now.gauges == before.gauges {
                return now;
            }
            assert!(from.elapsed() < PATIENCE, "something stays behind: {now:?}, not {before:?}");
            thread::sleep(Duration::from_millis(20));
        }
    }
}

/// A batch of a crowd takes a few thousand descriptors.
fn raise_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })
        .expect("a process may raise its soft limit");
}
