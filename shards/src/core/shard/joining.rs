//! A client that may come into a room, from there to its first event.

use super::super::conn::{Seat, Subprotocol, Terms};
use super::super::gate::Pass;
use super::super::ids::{ConnKey, SessionId};
use super::super::time::Micros;
use super::recovery::Comeback;
use super::rooms::Wishes;
use super::{Effects, Shard};

/// What it wants, and what it is answered.
#[derive(Debug)]
pub(super) struct Joining {
    pub(super) session: SessionId,
    pub(super) wishes: Wishes,
    pub(super) pass: Option<Pass>,
    pub(super) back: Option<Comeback>,
    pub(super) terms: Terms,
    pub(super) answer: Vec<u8>,
}

impl Shard {
    /// The client comes in, if there is a place for it.
    pub(super) fn join(
        &mut self,
        now: Micros,
        key: ConnKey,
        joining: Joining,
        rest: &mut [u8],
        fx: &mut Effects,
    ) {
        let Joining { session, wishes, pass, back, terms, mut answer } = joining;
        let via = self.via(key);
        match self.take_seat(now, key, session, &wishes, pass.as_ref(), back.as_ref(), fx) {
            Ok(seated) => {
                let seat = Seat::Member(seated.room, seated.member);
                if let Subprotocol::Sse { chunked } = terms.subprotocol {
                    let after = self.stands_at(&seated);
                    self.begin_stream(chunked, Some(after), &mut answer);
                }
                self.open(now, key, seat, terms, &answer, fx);
                self.identify(now, key, pass);
                self.note_opened(key, via, fx);
                if seated.took_over {
                    // Its older connection may have taken audio in another form.
                    self.look_for_binary(seated.room);
                }
                self.welcome(now, key, seated);
                self.subscribe_claimed(now, key);
                self.open_rest(now, key, rest, fx);
            }
            Err((refusal, answer)) => self.refuse(now, key, refusal, &answer, fx),
        }
    }
}
