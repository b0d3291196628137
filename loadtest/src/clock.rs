//! The open-loop clock: what is due when, fixed before the run and never moved by how the server does.
//!
//! Times are microseconds of `CLOCK_MONOTONIC`, which all processes of one machine share. The wheel is quantised to a
//! tick: everything that falls due within a tick leaves together at its end, so the generator wakes at most once a
//! tick. Latency is counted from the intended time all the same, so the wait for the tick shows up in it, and in the
//! generator's reported lateness.

use rustix::time::{ClockId, Timespec, clock_gettime};

use crate::plan::{Plan, Scenario};

/// Slots of the wheel; with the default tick of 250 us it reaches one second ahead.
const SLOTS: usize = 4096;

/// Now, in microseconds.
pub(crate) fn now_us() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000 + now.tv_nsec as u64 / 1_000
}

/// Sleeps, or less if a signal comes.
pub(crate) fn sleep(us: u64) {
    let time = Timespec { tv_sec: (us / 1_000_000) as i64, tv_nsec: (us % 1_000_000 * 1_000) as i64 };
    let _ = rustix::thread::nanosleep(&time);
}

/// CPU time of this process so far, in nanoseconds.
pub(crate) fn process_cpu_ns() -> u64 {
    let used = clock_gettime(ClockId::ProcessCPUTime);
    used.tv_sec as u64 * 1_000_000_000 + used.tv_nsec as u64
}

/// Where a client stands between 0 and 1, so that many are spread evenly.
pub(crate) fn spread(client: u32) -> f64 {
    Voice { random: (u64::from(client) + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15), ..Voice::default() }
        .uniform()
}

/// Clients in the order they fall due. Bounded by one entry per client.
pub(crate) struct Wheel {
    slots: Vec<Vec<u32>>,
    tick_us: u64,
    /// The tick that is looked at next.
    cursor: u64,
    len: usize,
}

impl Wheel {
    /// An empty wheel that starts at `start_us`.
    pub(crate) fn new(tick_us: u64, start_us: u64) -> Self {
        Self { slots: vec![Vec::new(); SLOTS], tick_us, cursor: start_us / tick_us, len: 0 }
    }

    /// Enters a client; one further ahead than the wheel reaches is looked at again on the way.
    pub(crate) fn insert(&mut self, client: u32, due_us: u64) {
        let tick = (due_us / self.tick_us).clamp(self.cursor, self.cursor + SLOTS as u64 - 1);
        self.slots[tick as usize % SLOTS].push(client);
        self.len += 1;
    }

    /// Moves the clients of all ticks that have ended by `now_us` into `due`.
    pub(crate) fn take_due(&mut self, now_us: u64, due: &mut Vec<u32>) {
        let end = now_us / self.tick_us;
        if self.len == 0 {
            self.cursor = self.cursor.max(end);
        }
        while self.cursor < end && self.len > 0 {
            let slot = &mut self.slots[self.cursor as usize % SLOTS];
            self.len -= slot.len();
            due.append(slot);
            self.cursor += 1;
        }
    }

    /// When the next tick with something in it ends.
    pub(crate) fn next_wake_us(&self) -> Option<u64> {
        if self.len == 0 {
            return None;
        }
        (self.cursor..self.cursor + SLOTS as u64)
            .find(|tick| !self.slots[*tick as usize % SLOTS].is_empty())
            .map(|tick| (tick + 1) * self.tick_us)
    }
}

/// When one client sends its next frame. Nanoseconds since the run began, so that rounding never adds up.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Voice {
    next_ns: u64,
    interval_ns: u64,
    /// Frames left in this spurt (`talk`).
    spurt_left: u32,
    random: u64,
}

impl Voice {
    /// The voice of a client, its phase spread over the interval; `None` if it never speaks.
    pub(crate) fn of(plan: &Plan, client: u32) -> Option<Self> {
        if plan.scenario == Scenario::Talk {
            return Some(Self::talking(plan, client));
        }
        let senders = plan.senders();
        if !plan.scenario.has_rate() || client >= senders || plan.rate <= 0.0 {
            return None;
        }
        let mut interval_ns = (1e9 * f64::from(senders) / plan.rate) as u64;
        if plan.slow_rate > 0.0 && plan.is_slow(client) {
            interval_ns = (1e9 / plan.slow_rate) as u64;
        }
        let next_ns = (u128::from(interval_ns) * u128::from(client) / u128::from(senders)) as u64;
        Some(Self { next_ns, interval_ns, ..Self::default() })
    }

    /// The voice of one conversation of `churn`: a frame every interval from `start` on.
    pub(crate) fn short(plan: &Plan, since_start_us: u64) -> Self {
        Self { next_ns: since_start_us * 1_000, interval_ns: plan.frame_ms * 1_000_000, ..Self::default() }
    }

    /// Microseconds since the run began at which the next frame is due.
    pub(crate) fn next_us(&self) -> u64 {
        self.next_ns / 1_000
    }

    /// Steps to the frame after.
    pub(crate) fn advance(&mut self, plan: &Plan) {
        self.next_ns += self.interval_ns;
        if plan.scenario != Scenario::Talk {
            return;
        }
        self.spurt_left -= 1;
        if self.spurt_left == 0 {
            let pause_ms = plan.spurt_ms as f64 * (1.0 - plan.speaking) / plan.speaking;
            self.next_ns += (pause_ms * 1e6 * self.around_one()) as u64;
            self.spurt_left = self.spurt_frames(plan);
        }
    }

    /// Starts somewhere in the cycle of spurt and pause, so that the asked share speaks from the first second on.
    fn talking(plan: &Plan, client: u32) -> Self {
        let mut voice = Self {
            interval_ns: plan.frame_ms * 1_000_000,
            random: (u64::from(client) + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15),
            ..Self::default()
        };
        let spurt_ns = plan.spurt_ms as f64 * 1e6;
        let place = voice.uniform() * spurt_ns / plan.speaking;
        voice.next_ns = (voice.uniform() * voice.interval_ns as f64) as u64;
        if place < spurt_ns {
            voice.spurt_left = (((spurt_ns - place) / voice.interval_ns as f64) as u32).max(1);
        } else {
            voice.next_ns += (spurt_ns / plan.speaking - place) as u64;
            voice.spurt_left = voice.spurt_frames(plan);
        }
        voice
    }

    fn spurt_frames(&mut self, plan: &Plan) -> u32 {
        let mean = plan.spurt_ms as f64 / plan.frame_ms as f64;
        ((mean * self.around_one()).round() as u32).max(1)
    }

    /// Evenly between a half and one and a half, so that rooms drift apart as conversations do.
    fn around_one(&mut self) -> f64 {
        0.5 + self.uniform()
    }

    fn uniform(&mut self) -> f64 {
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::tests::plan;

    #[test]
    fn phases_fill_the_interval_evenly_and_the_rate_is_exact() {
        let plan = Plan { rate: 40.0, ..plan(Scenario::Echo, 4) };
        let mut times = Vec::new();
        for client in 0..4 {
            let mut voice = Voice::of(&plan, client).expect("everyone speaks");
            while voice.next_us() < 1_000_000 {
                times.push(voice.next_us());
                voice.advance(&plan);
            }
        }
        times.sort_unstable();
        assert_eq!(times, (0..40).map(|n| n * 25_000).collect::<Vec<u64>>());
    }

    #[test]
    fn about_the_asked_share_speaks_at_any_time() {
        let plan = Plan { speaking: 0.1, ..plan(Scenario::Talk, 2_000) };
        let mut frames = 0u32;
        for client in 0..2_000 {
            let mut voice = Voice::of(&plan, client).expect("everyone speaks at times");
            while voice.next_us() < 10_000_000 {
                frames += 1;
                voice.advance(&plan);
            }
        }
        let expected = 2_000.0 * 0.1 * 50.0 * 10.0;
        assert!(
            (f64::from(frames) / expected - 1.0).abs() < 0.05,
            "{frames} frames, expected about {expected}"
        );
    }

    #[test]
    fn nothing_leaves_before_its_time_and_all_leaves_by_the_end_of_its_tick() {
        let mut wheel = Wheel::new(250, 10_000);
        let times = [10_000u64, 10_001, 10_249, 10_250, 11_999, 12_000, 3_000_000];
        for (client, &time) in times.iter().enumerate() {
            wheel.insert(client as u32, time);
        }
        let mut left: Vec<(u32, u64)> = Vec::new();
        while let Some(wake) = wheel.next_wake_us() {
            let mut due = Vec::new();
            wheel.take_due(wake, &mut due);
            for client in due {
                if times[client as usize] > wake {
                    wheel.insert(client, times[client as usize]);
                } else {
                    left.push((client, wake - times[client as usize]));
                }
            }
        }
        assert_eq!(left.len(), times.len());
        assert!(left.iter().all(|&(_, late)| late <= 250), "{left:?}");
    }

    #[test]
    fn a_fanout_has_one_voice() {
        let plan = plan(Scenario::Fanout, 10);
        assert!(Voice::of(&plan, 0).is_some());
        assert!((1..10).all(|client| Voice::of(&plan, client).is_none()));
    }
}
