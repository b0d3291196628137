//! Counts exactly what arrived of one stream of numbered frames: once, twice, late, or never.

/// Gaps kept per stream; beyond it the oldest are given up as lost for good, so that a server that drops every other
/// frame for an hour can't grow the generator.
const GAPS_MAX: usize = 4096;

/// One stream's place. Costs 16 bytes while nothing is missing.
#[derive(Debug, Default)]
#[expect(clippy::box_collection, reason = "almost always absent, and there is one of these per connection")]
pub(crate) struct Tracker {
    next: u32,
    /// Half-open ranges of numbers that were skipped and may still come.
    gaps: Option<Box<Vec<(u32, u32)>>>,
}

/// What one arrival was.
#[must_use]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Arrival {
    /// In order.
    InOrder,
    /// New, after a later one.
    Reordered,
    /// Seen before.
    Duplicate,
}

impl Tracker {
    /// Enters an arrival.
    pub(crate) fn arrive(&mut self, seq: u32) -> Arrival {
        if seq >= self.next {
            if seq > self.next {
                let gaps = self.gaps.get_or_insert_default();
                if gaps.len() == GAPS_MAX {
                    gaps.remove(0);
                }
                gaps.push((self.next, seq));
            }
            self.next = seq + 1;
            return Arrival::InOrder;
        }
        if self.fill(seq) { Arrival::Reordered } else { Arrival::Duplicate }
    }

    /// Whether all of the first `count` have arrived.
    pub(crate) fn complete(&self, count: u32) -> bool {
        self.next == count && self.gaps.is_none()
    }

    fn fill(&mut self, seq: u32) -> bool {
        let Some(gaps) = self.gaps.as_mut() else { return false };
        let at = gaps.partition_point(|&(_, end)| end <= seq);
        let Some(&(from, end)) = gaps.get(at).filter(|(from, _)| *from <= seq) else { return false };
        gaps.remove(at);
        if seq + 1 < end {
            gaps.insert(at, (seq + 1, end));
        }
        if from < seq {
            gaps.insert(at, (from, seq));
        }
        if gaps.is_empty() {
            self.gaps = None;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_frame_counts_once_whatever_the_order() {
        let mut tracker = Tracker::default();
        let arrivals: Vec<Arrival> = [0, 1, 5, 3, 3, 2, 4, 4, 0, 6].map(|seq| tracker.arrive(seq)).into();
        use Arrival::{Duplicate as D, InOrder as I, Reordered as R};
        assert_eq!(arrivals, [I, I, I, R, D, R, R, D, D, I]);
        assert!(tracker.gaps.is_none(), "nothing is missing in the end");
    }

    #[test]
    fn gaps_stay_bounded() {
        let mut tracker = Tracker::default();
        for seq in 0..3 * GAPS_MAX as u32 {
            assert_eq!(tracker.arrive(seq * 2 + 1), Arrival::InOrder);
        }
        assert_eq!(tracker.gaps.map(|gaps| gaps.len()), Some(GAPS_MAX));
    }
}
