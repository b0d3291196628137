//! Runs seeds of the simulation.
//!
//! `VOXHALL_SIM_SEEDS` says how many (200), `VOXHALL_SIM_FIRST` where they begin (0). `VOXHALL_SIM_TRACE=1` prints
//! every step of the first seed.

use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

use shards::sim::{self, Report, Violation};

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
fn run(first: u64, seeds: u64) -> (Vec<Violation>, Vec<Report>) {
    let next = AtomicU64::new(first);
    let worker = || {
        let (mut wrong, mut right) = (Vec::new(), Vec::new());
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= first + seeds {
                return (wrong, right);
            }
            match sim::run(seed, None) {
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

fn replay(violation: &Violation) -> String {
    let seed = violation.seed;
    let planted = cfg!(feature = "planted-bug");
    let (feature, ignored) = if planted { ("--features planted-bug ", " --ignored") } else { ("", "") };
    format!(
        "{violation}\n  replay: VOXHALL_SIM_TRACE=1 VOXHALL_SIM_SEEDS=1 VOXHALL_SIM_FIRST={seed} \
         cargo test -p voxhall-shards {feature}--test simulation seeds -- --nocapture{ignored}"
    )
}

#[test]
#[cfg_attr(feature = "planted-bug", ignore = "a bug is planted")]
fn seeds() {
    let (first, seeds) = (setting("VOXHALL_SIM_FIRST", 0), setting("VOXHALL_SIM_SEEDS", 200));
    if setting("VOXHALL_SIM_TRACE", 0) == 1 {
        let outcome = sim::run(first, Some(print));
        print(&format!("{outcome:?}"));
        assert!(outcome.is_ok());
        return;
    }
    let (wrong, right) = run(first, seeds);
    let sum = |of: fn(&Report) -> u64| right.iter().map(of).sum::<u64>();
    print(&format!(
        "{} worlds, {} s of virtual time, {} steps, {} connections, {} books settled, {} closed as slow, {} dropped, \
         {} came back, {} told again",
        right.len(),
        sum(|report| report.virtual_ms) / 1_000,
        sum(|report| report.steps),
        sum(|report| report.connections),
        sum(|report| report.settled),
        sum(|report| report.slow_closed),
        sum(|report| report.dropped),
        sum(|report| report.restored),
        sum(|report| report.replayed),
    ));
    let mut text = String::new();
    for violation in wrong.iter().take(20) {
        let _ = writeln!(text, "{}", replay(violation));
    }
    assert!(wrong.is_empty(), "{} of {seeds} seeds failed\n{text}", wrong.len());
    // A simulation in which nothing ever goes wrong for a client proves nothing.
    if seeds >= 100 {
        assert!(sum(|report| report.settled) > seeds, "too few conversations come to their end");
        assert!(sum(|report| report.dropped) > 0, "no lane was ever full");
        assert!(sum(|report| report.slow_closed) > 0, "no client was ever slow");
        assert!(sum(|report| report.restored) > seeds, "too few clients came back");
        assert!(sum(|report| report.replayed) > seeds, "too few had missed anything");
    }
}

#[test]
fn the_same_seed_is_the_same_world() {
    for seed in 0..10 {
        assert_eq!(sim::run(seed, None), sim::run(seed, None), "seed {seed}");
    }
    assert_ne!(sim::run(1, None), sim::run(2, None));
}

#[test]
#[cfg_attr(not(feature = "planted-bug"), ignore = "run with --features planted-bug")]
fn the_planted_bug_is_found() {
    let (wrong, _) = run(0, PLANTED_SEEDS);
    assert!(!wrong.is_empty(), "{PLANTED_SEEDS} seeds did not find the planted bug");
    print(&replay(&wrong[0]));
}
