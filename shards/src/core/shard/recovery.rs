//! Coming back: who a client was, what it has missed, and what it is told of both.
//!
//! A member that comes back gets every event that concerned it since the one that it names, in order, or is told that it
//! can't. Either way it is a member. What is replayed stands outside the bounds of its lane: it is bounded by what a room
//! keeps, and there is only one replay in a lane at a time.

use std::borrow::Cow;

use super::super::counters::Unrecovered;
use super::super::engine::Audience;
use super::super::event::{Class, ClientError, Dialect, RestoredView, ServerEvent};
use super::super::gate::Pass;
use super::super::http::Request;
use super::super::ids::{ConnKey, MemberNumber, RoomKey, SessionId};
use super::super::memory::Earlier;
use super::super::outbox::DropNote;
use super::super::past::{Past, PastEvent, PastLimits};
use super::super::resume::{Bound, ResumeToken};
use super::super::rng::SplitMix64;
use super::super::room::Room;
use super::super::time::Micros;
use super::event_forms::Spread;
use super::rooms::Door;
use super::welcome::Seated;
use super::{Effects, Shard};

/// Bits that every reader of JSON takes as they are: an epoch is a number there.
const EPOCH_BITS: u32 = 53;

/// An event of a room, for the oracle of the simulation.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    pub(crate) session: SessionId,
    pub(crate) epoch: u64,
    pub(crate) seq: u64,
    pub(crate) to: Audience,
    pub(crate) json: Box<[u8]>,
}

/// How a client says that it has been here before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Comeback {
    /// Its resume token; nothing where it names only the last event that it has, as a browser does that opens its stream of events
    /// again.
    pub(super) token: Option<Box<str>>,
    /// The last event that it has.
    pub(super) after: u64,
}

/// Who a client that comes back was.
#[derive(Debug)]
pub(super) struct Returned {
    pub(super) room: RoomKey,
    /// Nothing where it does not say: then it is a new member.
    pub(super) member: Option<MemberNumber>,
    /// The last event that it has, by today's numbering.
    pub(super) after: Result<u64, Unrecovered>,
}

impl Comeback {
    /// Reads what a request says; who hears a stream of events may name the last one in a header, which is younger than the
    /// query.
    ///
    /// # Errors
    /// A sentence for the client.
    pub(super) fn from_request(request: &Request<'_>, door: Door) -> Result<Option<Self>, String> {
        let back = Self::from_query(request.query_pairs())?;
        let Some(last) = request.header("last-event-id").filter(|last| door == Door::Sse && !last.is_empty())
        else {
            return Ok(back);
        };
        let after = last
            .parse()
            .map_err(|_| format!("Last-Event-ID: {last}: the number of the last event that you have"))?;
        Ok(Some(Self { token: back.and_then(|back| back.token), after }))
    }

    /// Reads `resume` and `after`.
    ///
    /// # Errors
    /// A sentence for the client.
    fn from_query<'a>(
        pairs: impl Iterator<Item = (Cow<'a, str>, Cow<'a, str>)>,
    ) -> Result<Option<Self>, String> {
        let (mut token, mut after) = (None, 0);
        for (key, value) in pairs {
            match &*key {
                "resume" => token = Some(value.into()),
                "after" => {
                    after = value
                        .parse()
                        .map_err(|_| format!("after={value}: the number of the last event that you have"))?;
                }
                _ => {}
            }
        }
        Ok(token.map(|token| Self { token: Some(token), after }))
    }
}

impl Shard {
    /// Finds out which member of the room a client was.
    ///
    /// # Errors
    /// When its token does not say so, or the room that it is of has ended: it was nobody here.
    pub(super) fn recognise(
        &self,
        session: &SessionId,
        pass: Option<&Pass>,
        back: &Comeback,
    ) -> Result<Returned, Unrecovered> {
        let Some(token) = &back.token else {
            // It knows of no numbering: a room that has begun anew can't be told from the one that it was in, but it is told
            // the epoch.
            let room = self.find_room(session).ok_or_else(|| self.why_unknown(session))?;
            return Ok(Returned { room, member: None, after: Ok(back.after) });
        };
        let bound = self.bound(session, pass);
        let token = ResumeToken::read(token, bound).ok_or(Unrecovered::InvalidToken)?;
        let key = self.find_room(session).ok_or_else(|| self.why_unknown(session))?;
        let room = self.rooms.find(key).ok_or(Unrecovered::RoomEnded)?;
        if token.epoch == self.epoch(key, room) {
            return Ok(Returned { room: key, member: Some(token.member), after: Ok(back.after) });
        }
        let shared = shared_with(room, &token).ok_or_else(|| self.why_unknown(session))?;
        if token.member.0 > shared.members {
            // Its number may be another's by now.
            return Err(Unrecovered::Lost);
        }
        let after = if back.after <= shared.seq { Ok(back.after) } else { Err(Unrecovered::Lost) };
        Ok(Returned { room: key, member: Some(token.member), after })
    }

    /// Which member of a room its bearer is.
    pub(super) fn bearer_of(
        &self,
        token: &str,
        session: &SessionId,
        pass: Option<&Pass>,
    ) -> Option<MemberNumber> {
        let back = Comeback { token: Some(token.into()), after: 0 };
        self.recognise(session, pass, &back).ok()?.member
    }

    fn bound<'a>(&'a self, session: &'a SessionId, pass: Option<&'a Pass>) -> Bound<'a> {
        Bound { key: &self.config.resume_key, session, sub: pass.map(|pass| &*pass.sub) }
    }

    /// Which numbering a room's events are of. It costs a room nothing that was never in a store.
    pub(super) fn epoch(&self, key: RoomKey, room: &Room) -> u64 {
        let numbering = room.past().and_then(|past| past.numbering.as_deref());
        numbering.map_or_else(|| self.fresh_epoch(key), |numbering| numbering.epoch)
    }

    /// The numbering of a room that begins in this slot.
    pub(super) fn fresh_epoch(&self, key: RoomKey) -> u64 {
        let place = u64::from(key.index) << 32 | u64::from(key.generation);
        self.epoch_named(place)
    }

    fn epoch_named(&self, by: u64) -> u64 {
        SplitMix64::new(self.epochs ^ by).next_u64() >> (u64::BITS - EPOCH_BITS)
    }

    /// A number for a new member. Where all have been given out they are given again, under another numbering: no token of
    /// before is good in that, so that nobody is taken for another.
    pub(super) fn new_member(&mut self, key: RoomKey) -> MemberNumber {
        let Some(room) = self.rooms.find(key) else { return MemberNumber(0) };
        let (before, next_epoch) = (room.last_member, self.epoch_named(self.epoch(key, room)));
        let Some(room) = self.rooms.find_mut(key) else { return MemberNumber(0) };
        let number = room.next_member();
        if room.last_member <= before {
            room.past_mut().number_anew(next_epoch);
            self.stored(key, 0);
        }
        number
    }

    /// A newer connection takes a member's seat, if an older one still has it; that is closed, and nobody has left.
    pub(super) fn take_over(
        &mut self,
        now: Micros,
        key: RoomKey,
        member: MemberNumber,
        by: ConnKey,
        fx: &mut Effects,
    ) -> bool {
        let Some(room) = self.room(key) else { return false };
        let Some(seat) = room.members.iter_mut().find(|seat| seat.number == member) else { return false };
        let older = std::mem::replace(&mut seat.conn, by);
        self.counters.history.taken_over += 1;
        self.close(now, older, 1008, "replaced by a newer connection", fx);
        true
    }

    /// Behind which event a member goes on: behind the one that it names where it is told all that it has missed since, and
    /// otherwise behind the last.
    pub(super) fn stands_at(&self, seated: &Seated) -> u64 {
        let Some(room) = self.rooms.find(seated.room) else { return 0 };
        let named = seated.back.and_then(Result::ok);
        named.filter(|&after| missed(room, seated.member, after).is_ok()).unwrap_or(room.seq)
    }

    /// Tells a member whether it can be told what it has missed since an event, and then tells it.
    pub(super) fn restore(
        &mut self,
        now: Micros,
        conn: ConnKey,
        key: RoomKey,
        member: MemberNumber,
        after: Result<u64, Unrecovered>,
    ) {
        let Some(room) = self.rooms.find(key) else { return };
        let missed = after.and_then(|after| missed(room, member, after));
        let numbering = room.past().and_then(|past| past.numbering.as_deref());
        let view = RestoredView {
            missed,
            state: room.state().map(Into::into),
            epoch: self.epoch(key, room),
            seq: room.seq,
            client_seq: room.past().and_then(|past| past.client_seq(member)),
            restarted: numbering.is_some_and(|numbering| numbering.recalled),
        };
        match missed {
            Ok(_) => self.counters.history.recovered += 1,
            Err(why) => self.counters.history.not_recovered[why as usize] += 1,
        }
        self.tell(now, conn, &ServerEvent::SessionRestored(Box::new(view)));
        if let (Ok(after), Ok(1..)) = (after, missed) {
            self.replay(now, conn, key, member, after);
        }
    }

    /// Puts every kept event after this one that concerns the member into its lane.
    fn replay(&mut self, now: Micros, conn: ConnKey, key: RoomKey, member: MemberNumber, after: u64) {
        let Some(room) = self.rooms.find_mut(key) else { return };
        let latest = room.seq;
        // It leaves its room meanwhile: putting events into a lane changes no room.
        let Some(past) = room.kept.as_mut().and_then(|kept| kept.past.take()) else { return };
        let mut json = std::mem::take(&mut self.json);
        for event in news_for(&past, member, after, latest).into_iter().flatten() {
            json.clear();
            json.extend_from_slice(event.json.0);
            json.extend_from_slice(event.json.1);
            let (seq, class) = (Some(event.seq), event.class);
            let spread =
                Spread { json: &json, of: None, seq, response: 0, class, wait: None, replayed: true };
            self.spread(now, &[conn], &spread);
            self.counters.history.replayed += 1;
        }
        self.json = json;
        if let Some(room) = self.room(key) {
            room.kept.get_or_insert_default().past = Some(past);
        }
    }

    /// Checks that a member may ask in band for what it has missed.
    ///
    /// # Errors
    /// For the client.
    pub(super) fn may_recover(&self, key: ConnKey) -> Result<(), ClientError> {
        if self.dialect(key) != Dialect::Native {
            let message = "Events are told again only to clients of Voxhall's own subprotocols.";
            return Err(ClientError::invalid_value("after", message));
        }
        if self.open_conn(key).is_some_and(|(conn, _)| conn.lane.replays()) {
            let message = "What you asked for before is still on its way.";
            let error = ClientError { retryable: true, ..ClientError::new("recovery_under_way", message) };
            return Err(ClientError { param: Some("after".into()), ..error });
        }
        Ok(())
    }

    /// Whether a member's event has been seen before, and so is not to be done again.
    pub(super) fn is_repeated(&mut self, key: RoomKey, member: MemberNumber, number: Option<u64>) -> bool {
        let Some(number) = number else { return false };
        let Some(room) = self.room(key) else { return false };
        let repeated = !room.past_mut().take_client_seq(member, number);
        self.changed(key);
        self.counters.history.repeated += u64::from(repeated);
        repeated
    }

    /// Keeps an event of a room for those who come back.
    pub(super) fn keep(&mut self, key: RoomKey, to: Audience, event: &ServerEvent, json: &[u8]) {
        self.changed(key);
        // What clients of ours are not told of takes up its number all the same.
        let ours = Dialect::Native.has(event);
        let to = if ours { to } else { Audience::One(MemberNumber(0)) };
        self.overhear(key, to, json);
        let limits = self.past_limits();
        let Some(room) = self.rooms.find_mut(key).filter(|_| limits.events_max > 0) else { return };
        let json = if ours { json } else { &[] };
        let before = room.held();
        let past: &mut Past = room.past_mut();
        past.push(to, event.class(), json, limits);
        let after = past.held();
        let history = &mut self.counters.history;
        history.events = history.events + after.events - before.events;
        history.bytes = history.bytes + after.bytes - before.bytes;
    }

    /// Every numbered event since this was last called; from the first call on.
    pub(crate) fn overheard(&mut self) -> Vec<Told> {
        std::mem::take(self.told.get_or_insert_default())
    }

    fn overhear(&mut self, key: RoomKey, to: Audience, json: &[u8]) {
        let Some(room) = self.told.as_ref().and_then(|_| self.rooms.find(key)) else { return };
        let (session, epoch, seq) = (room.session_id.clone(), self.epoch(key, room), room.seq);
        let told = Told { session, epoch, seq, to, json: json.into() };
        self.told.get_or_insert_default().push(told);
    }

    /// How much a room may keep.
    pub(super) fn past_limits(&self) -> PastLimits {
        let room = &self.config.room;
        PastLimits { events_max: room.history_events_max, bytes_max: room.history_bytes_max }
    }

    /// A member's connection ends before it was told which events had given way: it hears so when it comes back.
    pub(super) fn keep_untold(&mut self, conn: ConnKey, room: RoomKey, member: MemberNumber) {
        if self.dialect(conn) != Dialect::Native {
            return;
        }
        let Some(lane) = self.conn(conn).map(|conn| &mut conn.lane) else { return };
        let Some(event) = lane.take_untold().and_then(|drops| gap(&drops)) else { return };
        let Some(of) = self.room(room) else { return };
        of.seq += 1;
        let seq = of.seq;
        let id = self.next_event_id();
        let mut json = std::mem::take(&mut self.json);
        json.clear();
        event.write(id, Some(seq), Dialect::Native, &mut json);
        self.keep(room, Audience::One(member), &event, &json);
        self.json = json;
    }
}

/// How far a room's numbering agrees with that of a token: with its own, or with the one before, which is what a room goes
/// on from when a crash took the token's own along.
fn shared_with(room: &Room, token: &ResumeToken) -> Option<Earlier> {
    let numbering = room.past()?.numbering.as_deref()?;
    numbering.shared_with(token.epoch).or_else(|| {
        let (epoch, seq) = token.from;
        let shared = numbering.shared_with(epoch).filter(|_| epoch > 0)?;
        Some(Earlier { seq: shared.seq.min(seq), ..shared })
    })
}

/// What a client is told of events that gave way, if any did that can be told again.
fn gap(drops: &[DropNote; 3]) -> Option<ServerEvent> {
    let class = Class::Droppable;
    let note = drops[class as usize];
    let seqs = Some((note.first_seq, note.last_seq));
    (note.last_seq > 0).then_some(ServerEvent::OutboxDropped { class, count: note.count, seqs })
}

/// How many events a member has missed since this one.
///
/// # Errors
/// When not all of them are kept.
fn missed(room: &Room, member: MemberNumber, after: u64) -> Result<usize, Unrecovered> {
    if after > room.seq {
        return Err(Unrecovered::Ahead);
    }
    let Some(past) = room.past() else {
        return if after == room.seq { Ok(0) } else { Err(Unrecovered::TooOld) };
    };
    let events = news_for(past, member, after, room.seq).ok_or(Unrecovered::TooOld)?;
    Ok(events.count())
}

/// What a member has missed since this event; nothing when not all of it is kept.
fn news_for(
    past: &Past,
    member: MemberNumber,
    after: u64,
    latest: u64,
) -> Option<impl Iterator<Item = PastEvent<'_>>> {
    let concerned = move |event: &PastEvent<'_>| event.to.concerns(member) && !names_only_news(event, after);
    Some(past.after(after, latest)?.filter(concerned))
}

/// Whether an event says that some gave way which are all told again together with it: that is no news, and whoever
/// believed it would ask for them for ever.
fn names_only_news(event: &PastEvent<'_>, after: u64) -> bool {
    if !matches!(event.to, Audience::One(_)) {
        return false;
    }
    let json = [event.json.0, event.json.1].concat();
    json.starts_with(GAP) && first_seq(&json).is_some_and(|first| first > after)
}

/// How an event begins that names what gave way.
const GAP: &[u8] = br#"{"type":"outbox.dropped""#;

/// The number of the first event that it names.
fn first_seq(json: &[u8]) -> Option<u64> {
    let name = br#""first_seq":"#;
    let at = memchr::memmem::find(json, name)? + name.len();
    let digits = json[at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    str::from_utf8(&json[at..at + digits]).ok()?.parse().ok()
}
