//! Runs seeds of the simulation.
//!
//! `VOXHALL_SIM_SEEDS` says how many (200), `VOXHALL_SIM_FIRST` where they begin (0). `VOXHALL_SIM_TRACE=1` prints
//! every step of the first seed.

use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

use shards::sim::{self, Report, Violation};

/// A kind of world: its run, and the test that runs it.
type World = (fn(u64, Option<fn(&str)>) -> Result<Report, Violation>, &'static str);

const SEEDS: World = (sim::run, "seeds");
const STORES: World = (sim::run_stored, "stores");

/// Seeds within which the planted bug has to be found.
const PLANTED_SEEDS: u64 = 200;
const THREADS: usize = 2;

fn setting(name: &str, usual: u64) -> u64 {
    std::env::var(name)
        .map_or(usual, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

fn print(line: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}

/// Runs the seeds on a few threads; what went wrong, by seed, and the sum of what went well.
fn run(world: World, first: u64, seeds: u64) -> (Vec<Violation>, Vec<Report>) {
    let next = AtomicU64::new(first);
    let worker = || {
        let (mut wrong, mut right) = (Vec::new(), Vec::new());
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= first + seeds {
                return (wrong, right);
            }
            match world.0(seed, None) {
                Ok(report) => right.push(report),
                Err(violation) => wrong.push(violation),
            }
        }
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..THREADS).map(|_| scope.spawn(worker)).collect();
        let mut all = (Vec::new(), Vec::new());
        for worker in workers {
            let (wrong, right) = worker.join().expect("a worker catches what its seeds throw");
            all.0.extend(wrong);
            all.1.extend(right);
        }
        all.0.sort_by_key(|violation| violation.seed);
        all
    })
}

fn replay(world: World, violation: &Violation) -> String {
    let seed = violation.seed;
    let planted = cfg!(feature = "planted-bug");
    let name = world.1;
    let (feature, ignored) = if planted { ("--features planted-bug ", " --ignored") } else { ("", "") };
    format!(
        "{violation}\n  replay: VOXHALL_SIM_TRACE=1 VOXHALL_SIM_SEEDS=1 VOXHALL_SIM_FIRST={seed} \
         cargo test -p voxhall-shards {feature}--test simulation {name} -- --nocapture{ignored}"
    )
}

/// Runs the seeds that are asked for, and gives what they report; nothing when only one is to be traced.
fn run_asked(world: World, usual: u64) -> Option<Vec<Report>> {
    let (first, seeds) = (setting("VOXHALL_SIM_FIRST", 0), setting("VOXHALL_SIM_SEEDS", usual));
    if setting("VOXHALL_SIM_TRACE", 0) == 1 {
        let outcome = world.0(first, Some(print));
        print(&format!("{outcome:?}"));
        assert!(outcome.is_ok());
        return None;
    }
    let (wrong, right) = run(world, first, seeds);
    let sum = |of: fn(&Report) -> u64| right.iter().map(of).sum::<u64>();
    print(&format!(
        "{}: {} worlds, {} s of virtual time, {} steps, {} connections, {} books settled, {} closed as slow, \
         {} dropped, {} came back, {} told again; {} crashes, {} clean ends, {} rooms revived, {} clients lost some",
        world.1,
        right.len(),
        sum(|report| report.virtual_ms) / 1_000,
        sum(|report| report.steps),
        sum(|report| report.connections),
        sum(|report| report.settled),
        sum(|report| report.slow_closed),
        sum(|report| report.dropped),
        sum(|report| report.restored),
        sum(|report| report.replayed),
        sum(|report| report.crashes),
        sum(|report| report.clean_ends),
        sum(|report| report.revived),
        sum(|report| report.lost),
    ));
    let mut text = String::new();
    for violation in wrong.iter().take(20) {
        let _ = writeln!(text, "{}", replay(world, violation));
    }
    assert!(wrong.is_empty(), "{} of {seeds} seeds failed\n{text}", wrong.len());
    (seeds >= 100).then_some(right)
}

#[test]
#[cfg_attr(feature = "planted-bug", ignore = "a bug is planted")]
fn seeds() {
    let Some(reports) = run_asked(SEEDS, 200) else { return };
    let (seeds, sum) = (reports.len() as u64, |of: fn(&Report) -> u64| reports.iter().map(of).sum::<u64>());
    // A simulation in which nothing ever goes wrong for a client proves nothing.
    assert!(sum(|report| report.settled) > seeds, "too few conversations come to their end");
    assert!(sum(|report| report.dropped) > 0, "no lane was ever full");
    assert!(sum(|report| report.slow_closed) > 0, "no client was ever slow");
    assert!(sum(|report| report.restored) > seeds, "too few clients came back");
    assert!(sum(|report| report.replayed) > seeds, "too few had missed anything");
}

#[test]
#[cfg_attr(feature = "planted-bug", ignore = "a bug is planted")]
fn stores() {
    let Some(reports) = run_asked(STORES, 150) else { return };
    let (seeds, sum) = (reports.len() as u64, |of: fn(&Report) -> u64| reports.iter().map(of).sum::<u64>());
    assert!(sum(|report| report.crashes) > seeds, "too few nodes crashed");
    assert!(sum(|report| report.clean_ends) > seeds / 4, "too few nodes ended in good order");
    assert!(sum(|report| report.revived) > seeds, "too few rooms went on");
    assert!(sum(|report| report.lost) > 0, "nobody ever lost anything");
    assert!(sum(|report| report.replayed) > seeds, "too few had missed anything");
}

#[test]
fn the_same_seed_is_the_same_world() {
    for seed in 0..10 {
        assert_eq!(sim::run(seed, None), sim::run(seed, None), "seed {seed}");
        assert_eq!(sim::run_stored(seed, None), sim::run_stored(seed, None), "seed {seed} with a store");
    }
    assert_ne!(sim::run(1, None), sim::run(2, None));
}

#[test]
#[cfg_attr(not(feature = "planted-bug"), ignore = "run with --features planted-bug")]
fn the_planted_bug_is_found() {
    let (wrong, _) = run(SEEDS, 0, PLANTED_SEEDS);
    assert!(!wrong.is_empty(), "{PLANTED_SEEDS} seeds did not find the planted bug");
    print(&replay(SEEDS, &wrong[0]));
}
