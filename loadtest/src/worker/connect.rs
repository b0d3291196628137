//! Who connects next and when: a queue, a pace, a bound on how many are on their way, and a deadline for each.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

/// After a refused attempt in a storm a client waits this long, plus up to as much again by its number.
const RETRY_US: u64 = 100_000;

/// The queue of clients that are to connect.
pub(super) struct Connector {
    queue: VecDeque<u32>,
    /// Those that come at a time of their own: the refused, and in a storm all that come back over a while.
    later: BinaryHeap<Reverse<(u64, u32)>>,
    /// Deadlines in the order they were set: all are equally far ahead.
    deadlines: VecDeque<(u64, u32, u32)>,
    in_flight: u32,
    concurrency: u32,
    interval_us: f64,
    timeout_us: u64,
    next_us: f64,
}

impl Connector {
    /// At most `rate` a second (0: as fast as it goes) and `concurrency` at a time.
    pub(super) fn new(rate: f64, concurrency: u32, timeout_us: u64) -> Self {
        let interval_us = if rate > 0.0 { 1e6 / rate } else { 0.0 };
        Self {
            queue: VecDeque::new(),
            later: BinaryHeap::new(),
            deadlines: VecDeque::new(),
            in_flight: 0,
            concurrency,
            interval_us,
            timeout_us,
            next_us: 0.0,
        }
    }

    /// Enters a client at the end of the queue.
    pub(super) fn push(&mut self, client: u32) {
        self.queue.push_back(client);
    }

    /// Enters a client that was refused.
    pub(super) fn retry(&mut self, client: u32, now_us: u64) {
        self.push_at(now_us + RETRY_US + u64::from(client % 100) * 1_000, client);
    }

    /// Enters a client that comes at this time.
    pub(super) fn push_at(&mut self, at_us: u64, client: u32) {
        self.later.push(Reverse((at_us, client)));
    }

    /// The next client whose turn it is, which is then on its way.
    pub(super) fn next(&mut self, now_us: u64) -> Option<u32> {
        while self.later.peek().is_some_and(|Reverse((at_us, _))| *at_us <= now_us) {
            self.queue.extend(self.later.pop().map(|Reverse((_, client))| client));
        }
        if self.in_flight >= self.concurrency || (now_us as f64) < self.next_us {
            return None;
        }
        let client = self.queue.pop_front()?;
        self.in_flight += 1;
        // A pace that was missed is not made up for in one burst.
        self.next_us = self.next_us.max(now_us as f64 - 1_000.0) + self.interval_us;
        Some(client)
    }

    /// Sets the deadline of an attempt or a conversation that begins now.
    pub(super) fn expect_by(&mut self, now_us: u64, client: u32, generation: u32) {
        self.deadlines.push_back((now_us + self.timeout_us, client, generation));
    }

    /// The next deadline that has passed, with the generation it was for.
    pub(super) fn expired(&mut self, now_us: u64) -> Option<(u32, u32)> {
        self.deadlines.front().filter(|&&(at_us, ..)| at_us <= now_us)?;
        self.deadlines.pop_front().map(|(_, client, generation)| (client, generation))
    }

    /// An attempt ended, well or not.
    pub(super) fn landed(&mut self) {
        self.in_flight -= 1;
    }

    /// Nobody waits and nobody is on the way.
    pub(super) fn is_idle(&self) -> bool {
        self.in_flight == 0 && self.queue.is_empty() && self.later.is_empty()
    }

    /// When the pace allows the next one, if one could go.
    pub(super) fn next_wake_us(&self) -> Option<u64> {
        let queued = (!self.queue.is_empty()).then_some(0);
        let first = queued.or_else(|| self.later.peek().map(|Reverse((at_us, _))| *at_us));
        let first = first.filter(|_| self.in_flight < self.concurrency)?;
        Some(first.max(self.next_us.ceil() as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pace_and_the_bound_hold() {
        let mut connector = Connector::new(1_000.0, 2, 5_000_000);
        (0..5).for_each(|client| connector.push(client));
        assert_eq!(connector.next(1_000_000), Some(0));
        assert_eq!(connector.next(1_000_000), Some(1), "one interval may be made up for");
        assert_eq!(connector.next(1_010_000), None, "two are on their way");
        connector.landed();
        assert_eq!(connector.next(1_000_500), None, "too early");
        assert_eq!(connector.next(1_001_000), Some(2));
    }

    #[test]
    fn the_refused_come_again_and_deadlines_pass_in_order() {
        let mut connector = Connector::new(0.0, 8, 1_000);
        connector.retry(3, 0);
        assert_eq!(connector.next_wake_us(), Some(103_000));
        assert_eq!(connector.next(50_000), None);
        assert_eq!(connector.next(200_000), Some(3));
        connector.expect_by(200_000, 3, 1);
        assert_eq!(connector.expired(200_999), None);
        assert_eq!(connector.expired(201_000), Some((3, 1)));
        assert!(!connector.is_idle());
        connector.landed();
        assert!(connector.is_idle());
    }
}
