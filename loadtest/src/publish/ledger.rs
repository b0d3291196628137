//! What a subscriber has heard of its stream, held against what the server said that it took.

use serde::{Deserialize, Serialize};

/// A stream as one subscriber hears it: every number from the one after its subscription on.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(super) struct Heard {
    next: u64,
    /// Numbers that were passed over and have not come: first and last.
    open: Vec<(u64, u64)>,
    /// Messages, each counted once.
    pub(super) messages: u64,
    pub(super) doubled: u64,
    /// Messages that came behind a later one.
    pub(super) disordered: u64,
    mark: u64,
}

impl Heard {
    /// What is heard from behind this number on.
    pub(super) fn after(offset: u64) -> Self {
        Self { next: offset + 1, ..Self::default() }
    }

    /// A message of the generator's number has come under a number of the stream.
    pub(super) fn hear(&mut self, offset: u64, number: u64) {
        if offset < self.next {
            if !self.fill(offset) {
                self.doubled += 1;
                return;
            }
            self.disordered += 1;
        } else {
            if offset > self.next {
                self.open.push((self.next, offset - 1));
            }
            self.next = offset + 1;
        }
        self.messages += 1;
        self.mark = self.mark.wrapping_add(mark(offset, number));
    }

    /// How many numbers were passed over.
    fn gaps(&self) -> u64 {
        self.open.iter().map(|&(first, last)| last - first + 1).sum()
    }

    fn fill(&mut self, offset: u64) -> bool {
        let Some(at) = self.open.iter().position(|&(first, last)| (first..=last).contains(&offset)) else {
            return false;
        };
        let (first, last) = self.open.swap_remove(at);
        if first < offset {
            self.open.push((first, offset - 1));
        }
        if offset < last {
            self.open.push((offset + 1, last));
        }
        true
    }
}

/// What a stream was given, by the answers.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Given {
    /// Messages that were taken.
    pub(super) taken: u64,
    /// Messages of which the answer does not say whether they went out, or no answer came.
    pub(super) uncertain: u64,
    mark: u64,
}

impl Given {
    /// The server took a message and says which number of the stream it has.
    pub(super) fn take(&mut self, offset: u64, number: u64) {
        self.taken += 1;
        self.mark = self.mark.wrapping_add(mark(offset, number));
    }

    /// Adds what another publisher gave it.
    pub(super) fn add(&mut self, other: &Self) {
        self.taken += other.taken;
        self.uncertain += other.uncertain;
        self.mark = self.mark.wrapping_add(other.mark);
    }
}

/// How the subscribers fared, summed.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct Verdict {
    pub(super) expected: u64,
    pub(super) received: u64,
    pub(super) lost: u64,
    pub(super) doubled: u64,
    pub(super) disordered: u64,
    /// Messages that came although the answers don't know of them.
    pub(super) unexpected: u64,
    /// Subscribers that heard as many messages as were taken, but not those, or under other numbers.
    pub(super) mixed_up: u64,
}

impl Verdict {
    /// Holds a subscriber's log against what its stream was given.
    pub(super) fn judge(&mut self, heard: &Heard, given: &Given) {
        self.expected += given.taken;
        self.received += heard.messages;
        self.doubled += heard.doubled;
        self.disordered += heard.disordered;
        let missing = given.taken.saturating_sub(heard.messages);
        let lost = missing.max(heard.gaps().saturating_sub(given.uncertain));
        self.lost += lost;
        self.unexpected += heard.messages.saturating_sub(given.taken + given.uncertain);
        let comparable = given.uncertain == 0 && heard.messages == given.taken;
        self.mixed_up += u64::from(comparable && heard.mark != given.mark);
    }

    /// Whether everybody heard everything, once and in order.
    pub(super) fn is_clean(&self) -> bool {
        [self.lost, self.doubled, self.disordered, self.unexpected, self.mixed_up] == [0; 5]
    }
}

/// A message and its place, as one number: the sums of two logs are equal when the logs are.
fn mark(offset: u64, number: u64) -> u64 {
    let mut z = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ offset.wrapping_mul(0xD6E8_FEB8_6659_FD93);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(messages: &[(u64, u64)], given: &Given) -> Verdict {
        let mut heard = Heard::after(7);
        messages.iter().for_each(|&(offset, number)| heard.hear(offset, number));
        let mut verdict = Verdict::default();
        verdict.judge(&heard, given);
        verdict
    }

    fn given() -> Given {
        let mut given = Given::default();
        [(8, 100), (9, 101), (10, 102)].into_iter().for_each(|(offset, number)| given.take(offset, number));
        given
    }

    #[test]
    fn every_message_once_and_in_order_is_clean() {
        let verdict = verdict(&[(8, 100), (9, 101), (10, 102)], &given());
        assert!(verdict.is_clean(), "{verdict:?}");
        assert_eq!((verdict.expected, verdict.received), (3, 3));
    }

    #[test]
    fn what_is_missing_at_either_end_or_between_is_lost() {
        for messages in [&[(9, 101), (10, 102)][..], &[(8, 100), (9, 101)], &[(8, 100), (10, 102)]] {
            let verdict = verdict(messages, &given());
            assert_eq!((verdict.lost, verdict.is_clean()), (1, false), "{messages:?}");
        }
        assert_eq!(verdict(&[], &given()).lost, 3);
    }

    #[test]
    fn doubles_disorder_and_what_nobody_published_are_told_apart() {
        let twice = verdict(&[(8, 100), (9, 101), (9, 101), (10, 102)], &given());
        assert_eq!((twice.doubled, twice.disordered, twice.lost), (1, 0, 0));
        let late = verdict(&[(8, 100), (10, 102), (9, 101)], &given());
        assert_eq!((late.doubled, late.disordered, late.lost, late.mixed_up), (0, 1, 0, 0));
        let renumbered = verdict(&[(8, 100), (9, 101), (10, 102), (11, 102)], &given());
        assert_eq!((renumbered.unexpected, renumbered.is_clean()), (1, false));
        let swapped = verdict(&[(8, 101), (9, 100), (10, 102)], &given());
        assert_eq!((swapped.mixed_up, swapped.is_clean()), (1, false));
    }

    #[test]
    fn what_was_not_answered_may_have_come_or_not() {
        let unsure = Given { uncertain: 1, ..given() };
        for messages in [&[(8, 100), (9, 101), (10, 102)][..], &[(8, 100), (9, 101), (10, 102), (11, 103)]] {
            assert!(verdict(messages, &unsure).is_clean(), "{messages:?}");
        }
        assert_eq!(verdict(&[(8, 100), (9, 101)], &unsure).lost, 1);
    }
}
