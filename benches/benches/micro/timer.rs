//! The timer wheel with 10,000 timers set: as many heartbeats of 25 s, evenly spread.

use divan::Bencher;
use shards::core::Micros;
use shards::core::timer::TimerWheel;

const TIMERS: u64 = 10_000;
const SPAN: Micros = Micros::from_s(25);
const STEP: Micros = Micros(SPAN.0 / TIMERS);

fn wheel() -> TimerWheel<u64> {
    let mut wheel = TimerWheel::new();
    (1..=TIMERS).for_each(|number| wheel.schedule(Micros(STEP.0 * number), number));
    wheel
}

/// The heartbeats go round: time moves on to the next, it comes back, and is set again. Its share of moving down
/// the wheel's levels is in it.
#[divan::bench]
fn schedule_and_advance(bencher: Bencher) {
    let (mut wheel, mut now, mut due) = (wheel(), Micros(0), Vec::new());
    bencher.bench_local(|| {
        now = now + STEP;
        wheel.advance(now, &mut due);
        for what in due.drain(..) {
            wheel.schedule(now + SPAN, what);
        }
    });
    let set = wheel.len() as u64;
    assert_eq!(set, TIMERS, "a timer was lost");
}

/// A turn of the shard at which nothing is due, and the question how long it may sleep.
#[divan::bench]
fn nothing_due(bencher: Bencher) {
    let (mut wheel, mut due) = (wheel(), Vec::new());
    bencher.bench_local(|| {
        wheel.advance(divan::black_box(Micros(1)), &mut due);
        wheel.next_deadline()
    });
    assert!(due.is_empty());
}
