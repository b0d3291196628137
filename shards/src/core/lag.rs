//! How late a shard's turns come, with a mark past which it takes less on, and a lower one under which it stops.
//!
//! One late turn may be the host's doing, such as a machine that was halted: two in a row are too much work. It is over
//! when every turn of a whole second has stayed under half the mark.

use super::time::Micros;

/// How long turns have to come early enough.
const CALM: Micros = Micros::from_s(1);

/// See the module.
#[derive(Debug)]
pub(super) struct Lag {
    /// Zero when nobody minds.
    mark: Micros,
    /// Whether the last turn was past the mark.
    late: bool,
    /// When it is over, if no turn is late till then; zero when it is.
    until: Micros,
}

/// A shard has begun, or stopped, to turn new work away because its turns are late.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shedding {
    /// It has begun.
    Begins,
    /// It has stopped.
    Ends,
}

impl Lag {
    pub(super) const fn new(mark: Micros) -> Self {
        Self { mark, late: false, until: Micros(0) }
    }

    /// Takes note of how late a turn came.
    pub(super) fn note(&mut self, now: Micros, lag: Micros) -> Option<Shedding> {
        if self.mark == Micros(0) {
            return None;
        }
        let late = lag >= self.mark;
        let begins = std::mem::replace(&mut self.late, late) && late && !self.is_over_mark();
        if begins || self.is_over_mark() && lag.0 >= self.mark.0 / 2 {
            self.until = now + CALM;
            return begins.then_some(Shedding::Begins);
        }
        let ends = self.is_over_mark() && self.until <= now;
        if ends {
            self.until = Micros(0);
        }
        ends.then_some(Shedding::Ends)
    }

    /// Whether there is too much to do.
    pub(super) fn is_over_mark(&self) -> bool {
        self.until.0 > 0
    }

    /// When to look again, if there is too much to do.
    pub(super) fn deadline(&self) -> Option<Micros> {
        self.is_over_mark().then_some(self.until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Micros = Micros::from_ms;

    #[test]
    fn it_begins_with_the_second_late_turn_in_a_row() {
        let mut lag = Lag::new(MS(250));
        for (at, late) in [(1_000, 900), (1_100, 10), (2_000, 250), (2_100, 249)] {
            assert_eq!(lag.note(MS(at), MS(late)), None);
        }
        assert_eq!(lag.note(MS(2_400), MS(250)), None);
        assert_eq!(lag.note(MS(2_700), MS(300)), Some(Shedding::Begins));
        assert_eq!(lag.note(MS(3_000), MS(300)), None, "once");
        assert!(lag.is_over_mark());
    }

    #[test]
    fn it_ends_after_a_second_under_half_the_mark() {
        let mut lag = Lag::new(MS(250));
        lag.note(MS(1_000), MS(300));
        assert_eq!(lag.note(MS(1_300), MS(300)), Some(Shedding::Begins));
        assert_eq!(lag.note(MS(2_000), MS(125)), None);
        assert_eq!(lag.deadline(), Some(MS(3_000)), "half the mark is too late still");
        assert_eq!(lag.note(MS(2_999), MS(124)), None);
        assert!(lag.is_over_mark());
        assert_eq!(lag.note(MS(3_000), MS(124)), Some(Shedding::Ends));
        assert_eq!((lag.is_over_mark(), lag.deadline()), (false, None));
    }

    #[test]
    fn without_a_mark_nothing_is_too_late() {
        let mut lag = Lag::new(MS(0));
        assert!((1..9).all(|at| lag.note(Micros::from_s(at), Micros::from_s(60)).is_none()));
    }
}
