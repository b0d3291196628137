//! How a member comes in: its seat, its welcome, and what the others are told.

use super::super::counters::Unrecovered;
use super::super::engine::Audience;
use super::super::event::{Dialect, ResumeView, ServerEvent, SessionLimits, SessionView};
use super::super::gate::Pass;
use super::super::ids::{ConnKey, ConnectionId, MemberNumber, RoomKey, SessionId};
use super::super::resume::{Bound, ResumeToken};
use super::super::room::Member;
use super::super::time::Micros;
use super::compatible::conversation_created;
use super::door::Refused;
use super::recovery::{Comeback, Returned};
use super::rooms::Wishes;
use super::{Effects, Shard};

/// A member that has its seat.
#[derive(Debug)]
pub(super) struct Seated {
    pub(super) room: RoomKey,
    pub(super) member: MemberNumber,
    /// After which event it has missed some, where it has been here before.
    pub(super) back: Option<Result<u64, Unrecovered>>,
    /// Whether it has taken over from an older connection: to the others it was never away.
    pub(super) took_over: bool,
}

impl Shard {
    /// Reserves what a member needs, then seats it: one that comes back where it was.
    ///
    /// # Errors
    /// With 429 or 503; nothing is kept then.
    pub(super) fn take_seat(
        &mut self,
        now: Micros,
        key: ConnKey,
        session: SessionId,
        wishes: &Wishes,
        pass: Option<&Pass>,
        back: Option<&Comeback>,
        fx: &mut Effects,
    ) -> Result<Seated, Refused> {
        let (number, back, took_over) = match back.map(|back| self.recognise(&session, pass, back)) {
            None => (None, None, None),
            Some(Err(stranger)) => (None, Some(Err(stranger)), None),
            Some(Ok(Returned { room, member, after })) => {
                // Before anything is reserved: the older connection gives back what this one needs.
                let took_over = member.filter(|&member| self.take_over(now, room, member, key, fx));
                (member, Some(after), took_over.map(|member| (room, member)))
            }
        };
        let reserved = self.reserve(key, pass).and_then(|()| {
            self.seat_member(now, key, session, wishes, number).map_err(|refusal| {
                self.give_back(key, pass);
                (refusal, self.no_seat(refusal))
            })
        });
        match reserved {
            Ok((room, member)) => Ok(Seated { room, member, back, took_over: took_over.is_some() }),
            Err(refused) => {
                if let Some((room, member)) = took_over {
                    self.unseat(now, key, room, member);
                }
                Err(refused)
            }
        }
    }

    /// The welcome, what a member that comes back has missed, and the news for the others.
    pub(super) fn welcome(&mut self, now: Micros, conn: ConnKey, seated: Seated) {
        let Seated { room: key, member: number, back, took_over } = seated;
        if let Some(mut view) = self.session_view(key, Member { number, conn }) {
            view.resume = self.resume_view(conn, key, number);
            self.tell(now, conn, &ServerEvent::SessionCreated(Box::new(view)));
        }
        if self.dialect(conn) == Dialect::Beta {
            self.tell(now, conn, &conversation_created());
        }
        if let Some(after) = back {
            self.restore(now, conn, key, number, after);
        }
        let members = self.room(key).map_or(0, |room| room.members.len());
        if !took_over {
            self.announce_member(now, key, "events:room.member_joined", number);
        }
        if members > 1 && !took_over {
            let joined = ServerEvent::MemberJoined { member: number, members };
            self.tell_room(now, key, Audience::AllBut(number), &joined, 0);
        }
    }

    /// How a member comes back, for those whose words have a place for it.
    fn resume_view(&self, conn: ConnKey, key: RoomKey, member: MemberNumber) -> Option<ResumeView> {
        if self.dialect(conn) != Dialect::Native {
            return None;
        }
        let (_, open) = self.open_conn(conn)?;
        let room = self.rooms.find(key)?;
        let epoch = self.epoch(key, room);
        let sub = open.identity.as_ref().map(|identity| &*identity.sub);
        let bound = Bound { key: &self.config.resume_key, session: &room.session_id, sub };
        let numbering = room.past().and_then(|past| past.numbering.as_ref());
        let from = numbering.and_then(|numbering| numbering.earlier.last());
        let from = from.map_or((0, 0), |from| (from.epoch, from.seq));
        let token = ResumeToken { member, epoch, from }.write(bound);
        Some(ResumeView { token, epoch, seq: room.seq })
    }

    pub(super) fn session_view(&self, key: RoomKey, member: Member) -> Option<SessionView> {
        let room = self.rooms.find(key)?;
        Some(SessionView {
            id: ConnectionId { shard: self.id, key: member.conn },
            room: room.session_id.clone(),
            engine: room.kind,
            member: member.number,
            settings: room.settings,
            model: room.kept.as_ref().and_then(|kept| kept.model.clone()),
            extras: room.kept.as_ref().and_then(|kept| kept.extras.clone()),
            state: room.state().map(Into::into),
            resume: None,
            limits: SessionLimits::from(&*self.config),
        })
    }
}
