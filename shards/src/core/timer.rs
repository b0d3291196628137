//! A shard's timers: a hierarchical wheel of 1 ms ticks.
//!
//! Ten levels of 64 slots reach as far as [`Micros`] do, so that no entry is ever "too far". An entry lies at the
//! level of the highest six bits in which its tick differs from the present one, and moves down when the present
//! comes to its slot; a bitmap per level says which slots hold something, so that empty time is skipped however
//! long it was. There is no cancelling: whoever set a timer that lost its meaning ignores it when it is due.
//!
//! Owned by one shard. Bounded by what is scheduled: spare room is given back when it outgrows the entries.

use super::time::Micros;

const LEVELS: usize = 10;
const SLOT_BITS: usize = 6;
const SLOTS: usize = 1 << SLOT_BITS;
const TICK_US: u64 = 1_000;

/// The last tick there is lies within the last level.
const _: () = assert!(tick_after(Micros(u64::MAX)).ilog2() < (LEVELS * SLOT_BITS) as u32);

/// Entries that the slots may have room for beyond four times what they hold: so much is kept for the next burst.
const SPARE_ENTRIES_MAX: usize = 65_536;

/// Timers that are due at a time and bring back a `T`.
#[derive(Debug)]
pub struct TimerWheel<T> {
    /// The present tick: everything due before it has been brought back.
    present: u64,
    len: usize,
    /// Entries that the slots have room for.
    capacity: usize,
    /// Per level, which slots hold something.
    occupied: [u64; LEVELS],
    /// Level by level.
    slots: Box<[Vec<Entry<T>>]>,
}

#[derive(Clone, Copy, Debug)]
struct Entry<T> {
    tick: u64,
    what: T,
}

const _: () = assert!(size_of::<Entry<u64>>() == 16);

impl<T: Copy> Default for TimerWheel<T> {
    fn default() -> Self {
        Self {
            present: 0,
            len: 0,
            capacity: 0,
            occupied: [0; LEVELS],
            slots: (0..LEVELS * SLOTS).map(|_| Vec::new()).collect(),
        }
    }
}

impl<T: Copy> TimerWheel<T> {
    /// An empty wheel at time zero.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How many timers are set.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no timer is set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Sets a timer. It is due at the first tick that is not before `at`, or at once if that has passed.
    pub fn schedule(&mut self, at: Micros, what: T) {
        self.len += 1;
        self.insert(Entry { tick: tick_after(at).max(self.present), what });
    }

    /// Appends to `due` what is due by `now`, in the order of ticks, and within one tick in the order it was
    /// scheduled. A `now` that lies before an earlier one brings only what was scheduled for the past.
    pub fn advance(&mut self, now: Micros, due: &mut Vec<T>) {
        let target = now.0 / TICK_US;
        while let Some((level, slot, start)) = self.first()
            && start <= target
        {
            self.present = self.present.max(start);
            self.empty(level, slot, due);
        }
        self.present = self.present.max(target);
        if self.capacity > SPARE_ENTRIES_MAX + 4 * self.len {
            self.shrink();
        }
    }

    /// When to call [`Self::advance`] next: the earliest timer's tick, or earlier if that is far away.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Micros> {
        self.first().map(|(_, _, start)| Micros(start.saturating_mul(TICK_US)))
    }

    /// The earliest slot that holds something, and the tick at which it begins. Lower levels come first, because
    /// what lies higher differs from the present in higher bits.
    fn first(&self) -> Option<(usize, usize, u64)> {
        let level = self.occupied.iter().position(|&slots| slots != 0)?;
        let slot = self.occupied[level].trailing_zeros() as usize;
        let shift = level * SLOT_BITS;
        let above = self.present >> shift >> SLOT_BITS << SLOT_BITS;
        Some((level, slot, (above | slot as u64) << shift))
    }

    fn insert(&mut self, entry: Entry<T>) {
        let differing = (entry.tick ^ self.present) | 1;
        let level = differing.ilog2() as usize / SLOT_BITS;
        let slot = (entry.tick >> (level * SLOT_BITS)) as usize % SLOTS;
        self.occupied[level] |= 1 << slot;
        let entries = &mut self.slots[level * SLOTS + slot];
        let room = entries.capacity();
        entries.push(entry);
        self.capacity += entries.capacity() - room;
    }

    /// Empties a slot that has become present: its entries are due, or belong to lower levels now.
    fn empty(&mut self, level: usize, slot: usize, due: &mut Vec<T>) {
        self.occupied[level] &= !(1 << slot);
        let at = level * SLOTS + slot;
        let mut entries = std::mem::take(&mut self.slots[at]);
        if level == 0 {
            self.len -= entries.len();
            due.extend(entries.drain(..).map(|entry| entry.what));
        } else {
            entries.drain(..).for_each(|entry| self.insert(entry));
        }
        self.slots[at] = entries;
    }

    fn shrink(&mut self) {
        self.slots.iter_mut().for_each(Vec::shrink_to_fit);
        self.capacity = self.slots.iter().map(Vec::capacity).sum();
    }
}

/// The first tick that is not before `at`.
const fn tick_after(at: Micros) -> u64 {
    at.0.div_ceil(TICK_US)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn due(wheel: &mut TimerWheel<u64>, now: Micros) -> Vec<u64> {
        let mut due = Vec::new();
        wheel.advance(now, &mut due);
        due
    }

    #[test]
    fn nothing_is_early_and_nothing_waits_for_more_than_its_tick() {
        let mut wheel = TimerWheel::new();
        wheel.schedule(Micros(1_500), 1);
        assert_eq!(wheel.next_deadline(), Some(Micros(2_000)));
        assert!(due(&mut wheel, Micros(1_999)).is_empty());
        assert_eq!(due(&mut wheel, Micros(2_000)), [1]);
        assert_eq!(wheel.next_deadline(), None);
    }

    #[test]
    fn the_past_is_due_at_once() {
        let mut wheel = TimerWheel::new();
        assert!(due(&mut wheel, Micros::from_s(100)).is_empty());
        wheel.schedule(Micros::from_s(99), 1);
        wheel.schedule(Micros::from_s(100), 2);
        wheel.schedule(Micros(0), 3);
        assert_eq!(wheel.next_deadline(), Some(Micros::from_s(100)));
        assert_eq!(due(&mut wheel, Micros::from_s(100)), [1, 2, 3]);
    }

    #[test]
    fn a_jump_of_years_brings_everything_in_order() {
        let mut wheel = TimerWheel::new();
        let hour = 3_600;
        for hours in [9_000_u64, 2, 1, 50, 0, 3] {
            wheel.schedule(Micros::from_s(hours * hour), hours);
        }
        assert_eq!(due(&mut wheel, Micros::from_s(10 * hour)), [0, 1, 2, 3]);
        assert_eq!(due(&mut wheel, Micros::from_s(10_000 * hour)), [50, 9_000]);
        wheel.schedule(Micros(u64::MAX), 7);
        assert!(due(&mut wheel, Micros(u64::MAX - TICK_US)).is_empty());
        assert_eq!(wheel.len(), 1);
    }

    #[test]
    fn an_emptied_wheel_gives_its_memory_back() {
        let mut wheel = TimerWheel::new();
        for i in 0..1_000_000 {
            wheel.schedule(Micros::from_ms(i % 5_000), i);
        }
        assert_eq!(due(&mut wheel, Micros::from_ms(5_000)).len(), 1_000_000);
        let room: usize = wheel.slots.iter().map(Vec::capacity).sum();
        assert!(room <= SPARE_ENTRIES_MAX, "{room} entries kept");
    }

    #[derive(Clone, Debug)]
    enum Step {
        Schedule { after_us: u64 },
        Advance { by_us: u64 },
        ToDeadline,
    }

    fn step() -> impl Strategy<Value = Step> {
        let span = || prop_oneof![0..3_000_u64, 0..200_000_u64, 0..20_000_000_u64, 0..100_000_000_000_u64];
        prop_oneof![
            5 => span().prop_map(|after_us| Step::Schedule { after_us }),
            2 => span().prop_map(|by_us| Step::Advance { by_us }),
            2 => Just(Step::ToDeadline),
        ]
    }

    proptest! {
        #[test]
        fn the_wheel_does_what_a_sorted_map_does(steps in prop::collection::vec(step(), 0..200)) {
            let mut wheel = TimerWheel::new();
            let mut model: BTreeMap<(u64, u64), u64> = BTreeMap::new();
            let mut now = 0;
            for (number, step) in (0..).zip(steps) {
                match step {
                    Step::Schedule { after_us } => {
                        // Half a second back now and then, into the past.
                        let at = (now + after_us).saturating_sub(if number % 7 == 0 { 500_000 } else { 0 });
                        wheel.schedule(Micros(at), number);
                        model.insert((at.div_ceil(TICK_US).max(now / TICK_US), number), number);
                    }
                    Step::Advance { by_us } => now += by_us,
                    Step::ToDeadline => now = now.max(wheel.next_deadline().map_or(now, |at| at.0)),
                }
                if !matches!(step, Step::Schedule { .. }) {
                    let later = model.split_off(&(now / TICK_US + 1, 0));
                    let expected: Vec<u64> = std::mem::replace(&mut model, later).into_values().collect();
                    prop_assert_eq!(due(&mut wheel, Micros(now)), expected);
                }
                prop_assert_eq!(wheel.len(), model.len());
                let earliest = model.keys().next().map(|(tick, _)| tick * TICK_US);
                match (wheel.next_deadline(), earliest) {
                    (Some(deadline), Some(earliest)) => {
                        prop_assert!(deadline.0 <= earliest);
                        prop_assert!(deadline.0 + TICK_US > now, "the deadline makes progress");
                    }
                    (deadline, earliest) => prop_assert_eq!(deadline.map(|at| at.0), earliest),
                }
            }
        }
    }
}
