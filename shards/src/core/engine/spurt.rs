//! Marks where a member's spurts begin, for engines that pass audio on. One entry per speaking member, at most
//! [`SPURTS_MAX`] a room.

use smallvec::SmallVec;

use crate::core::ids::MemberNumber;
use crate::core::time::Micros;

/// A pause of this length ends a spurt: ten frames missing is no jitter.
const PAUSE: Micros = Micros::from_ms(200);

/// Past that many speakers the one silent longest is forgotten; it only begins a spurt anew.
const SPURTS_MAX: usize = 64;

/// The spurts of a room's members.
#[derive(Debug, Default)]
pub struct Spurts {
    members: SmallVec<[Spurt; 1]>,
}

#[derive(Debug)]
struct Spurt {
    member: MemberNumber,
    began: Micros,
    last: Micros,
}

/// Where in its spurt a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) first: bool,
    pub(super) timestamp_ms: u32,
}

impl Spurts {
    /// Places a frame that a member sends now.
    pub(super) fn mark(&mut self, member: MemberNumber, now: Micros) -> Mark {
        let Some(spurt) = self.members.iter_mut().find(|spurt| spurt.member == member) else {
            self.begin(Spurt { member, began: now, last: now });
            return Mark { first: true, timestamp_ms: 0 };
        };
        let first = now.since(spurt.last) >= PAUSE;
        if first {
            spurt.began = now;
        }
        spurt.last = now;
        // A spurt of 49 days wraps, as the header's field does.
        Mark { first, timestamp_ms: now.since(spurt.began).as_ms() as u32 }
    }

    /// Forgets a member who is gone.
    pub(super) fn forget(&mut self, member: MemberNumber) {
        self.members.retain(|spurt| spurt.member != member);
    }

    fn begin(&mut self, spurt: Spurt) {
        if self.members.len() < SPURTS_MAX {
            self.members.push(spurt);
        } else if let Some(oldest) = self.members.iter_mut().min_by_key(|spurt| spurt.last) {
            *oldest = spurt;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_of_200_ms_begins_a_spurt() {
        let mut spurts = Spurts::default();
        let (one, two) = (MemberNumber(1), MemberNumber(2));
        let mark = |first, timestamp_ms| Mark { first, timestamp_ms };
        assert_eq!(spurts.mark(one, Micros::from_ms(1_000)), mark(true, 0));
        assert_eq!(spurts.mark(one, Micros::from_ms(1_020)), mark(false, 20));
        assert_eq!(spurts.mark(two, Micros::from_ms(1_030)), mark(true, 0));
        assert_eq!(spurts.mark(one, Micros::from_ms(1_219)), mark(false, 219));
        assert_eq!(spurts.mark(one, Micros::from_ms(1_419)), mark(true, 0));
        assert_eq!(spurts.mark(two, Micros::from_ms(1_229)), mark(false, 199));
    }

    #[test]
    fn members_past_the_bound_replace_the_one_silent_longest() {
        let mut spurts = Spurts::default();
        for number in 1..=200 {
            spurts.mark(MemberNumber(number), Micros::from_ms(number.into()));
        }
        assert_eq!(spurts.members.len(), SPURTS_MAX);
        assert!(!spurts.mark(MemberNumber(200), Micros::from_ms(201)).first);
        assert!(spurts.mark(MemberNumber(1), Micros::from_ms(201)).first);
    }
}
