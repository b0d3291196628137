//! Rooms: made by their first member, run by their engine, ended some time after their last member has left.

use std::borrow::Cow;

use smallvec::SmallVec;

use super::super::arrivals::Queue;
use super::super::conn::Subprotocol;
use super::super::counters::Refusal;
use super::super::engine::{
    Audience, Engine, EngineContext, EngineInput, EngineKind, EngineOutput, ResponseNumber,
};
use super::super::event::{Codec, ServerEvent, SessionPatch, SessionSettings};
use super::super::gate::RealtimeClaim;
use super::super::ids::{ConnKey, MemberNumber, RoomKey, SessionId};
use super::super::report::RoomEnd;
use super::super::room::{Kept, Member, Room};
use super::super::route;
use super::super::time::Micros;
use super::Shard;

/// What a client's query asks of its room. The first member's wishes count; later ones find the room as it is.
#[derive(Debug)]
pub(super) struct Wishes {
    /// The engine it names, or the default.
    pub(super) kind: EngineKind,
    settings: SessionSettings,
    /// The model that the client believes to talk to.
    model: Option<Box<str>>,
    /// Whether the client takes audio in events.
    only_events: bool,
    /// What its token says of the model session.
    pub(super) claim: Option<Box<RealtimeClaim>>,
}

/// Through which path a client comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Door {
    /// `/ws/{session_id}`.
    Native,
    /// `/v1/realtime`.
    Realtime,
    /// `/sse/{session_id}`.
    Sse,
}

/// Longest name of a model: it is kept and sent back.
const MODEL_BYTES_MAX: usize = 256;

impl Wishes {
    /// Reads `engine`, `format` and `rate`, and `model` on `/v1/realtime`; other keys are not the room's business.
    ///
    /// # Errors
    /// A sentence for the client.
    pub(super) fn from_query<'a>(
        pairs: impl Iterator<Item = (Cow<'a, str>, Cow<'a, str>)>,
        default: EngineKind,
        door: Door,
        subprotocol: Subprotocol,
    ) -> Result<Self, String> {
        let mut kind = default;
        let mut model = None;
        let mut patch = SessionPatch::default();
        for (key, value) in pairs {
            match &*key {
                "engine" => kind = value.parse().map_err(|error| format!("engine={value}: {error}"))?,
                "model" if door == Door::Realtime => {
                    if value.len() > MODEL_BYTES_MAX {
                        return Err(format!("a model's name has at most {MODEL_BYTES_MAX} bytes"));
                    }
                    // A name that is no engine's is the client's own idea of who answers.
                    kind = value.parse().unwrap_or(kind);
                    model = Some(value.into());
                }
                "format" => {
                    patch.codec =
                        Some(value.parse::<Codec>().map_err(|error| format!("format={value}: {error}"))?);
                }
                "rate" => {
                    let rate =
                        value.parse().map_err(|_| format!("rate={value}: a rate is a number of hertz"))?;
                    patch.rate = Some(rate);
                }
                _ => {}
            }
        }
        let mut settings = SessionSettings::default();
        if door == Door::Realtime {
            settings.format.rate = 24_000;
        }
        settings.apply(&patch).map_err(|error| error.message)?;
        Ok(Self { kind, settings, claim: None, model, only_events: subprotocol.only_events() })
    }

    /// What is kept with a room that is made for them.
    fn kept(&self) -> Option<Box<Kept>> {
        let (model, claim) = (self.model.clone(), self.claim.clone());
        let any = model.is_some() || claim.is_some();
        any.then(|| Box::new(Kept { model, claim, ..Kept::default() }))
    }
}

impl Shard {
    /// Finds or makes the room and gives the connection a place in it: that of the member of this number, which it was
    /// before, or a new one.
    pub(super) fn seat_member(
        &mut self,
        now: Micros,
        conn: ConnKey,
        session: SessionId,
        wishes: &Wishes,
        number: Option<MemberNumber>,
    ) -> Result<(RoomKey, MemberNumber), Refusal> {
        let key = self.find_or_make_room(now, session, wishes)?;
        let members_max = self.config.limits.members_per_room_max;
        let Some(room) = self.rooms.get_mut(key.index) else { return Err(Refusal::Unavailable) };
        if let Some(member) = room.members.iter().find(|member| Some(member.number) == number) {
            // It has taken the place over from its older connection.
            debug_assert_eq!(member.conn, conn);
            return Ok((key, member.number));
        }
        if room.members.len() >= members_max {
            return Err(Refusal::RoomFull);
        }
        let number = number.unwrap_or_else(|| self.new_member(key));
        let Some(room) = self.rooms.get_mut(key.index) else { return Err(Refusal::Unavailable) };
        room.only_events = wishes.only_events && (room.only_events || room.members.is_empty());
        room.members.push(Member { number, conn });
        if let Some(record) = room.kept.as_mut().and_then(|kept| kept.record.as_mut()) {
            record.members(room.members.len());
        }
        if std::mem::take(&mut room.ends_at).0 > 0 {
            self.counters.rooms_lingering -= 1;
        }
        self.changed(key);
        Ok((key, number))
    }

    fn find_or_make_room(
        &mut self,
        now: Micros,
        session: SessionId,
        wishes: &Wishes,
    ) -> Result<RoomKey, Refusal> {
        let hash = route::hash(session.as_str());
        if let Some(key) = self.find_room_hashed(hash, session.as_str()) {
            return Ok(key);
        }
        if !self.take_room(now) {
            return Err(Refusal::Unavailable);
        }
        let place = self.next_room();
        let room = Room {
            generation: place.generation,
            session_id: session,
            kind: wishes.kind,
            engine: None,
            settings: wishes.settings,
            only_events: wishes.only_events,
            kept: wishes.kept(),
            members: SmallVec::new(),
            inbound: Queue::default(),
            last_member: 0,
            seq: 0,
            audio_seq: 0,
            last_id: 0,
            since: now,
            ends_at: Micros(0),
            armed: Micros(0),
            frames_received: 0,
            frames_sent: 0,
        };
        self.insert_room(place, room);
        self.announce(now, place, "events:room.opened", || format!(r#","engine":"{}""#, wishes.kind.name()));
        Ok(place)
    }

    /// Takes a place of the node for a room, from one that lingers if need be.
    pub(super) fn take_room(&mut self, now: Micros) -> bool {
        self.quotas.take_room() || self.evict_room(now)
    }

    /// The slot for the next room.
    pub(super) fn next_room(&mut self) -> RoomKey {
        let fresh = RoomKey { index: self.rooms.len() as u32, generation: 0 };
        self.free_rooms.pop().unwrap_or(fresh)
    }

    /// Puts a room into its slot; its place of the node is taken.
    pub(super) fn insert_room(&mut self, key: RoomKey, room: Room) {
        let hash = route::hash(room.session_id.as_str());
        let held = room.held();
        self.rooms.insert(key.index, room);
        self.counters.rooms += 1;
        self.counters.rooms_created += 1;
        self.counters.history.events += held.events;
        self.counters.history.bytes += held.bytes;
        let rooms = &self.rooms;
        self.directory.insert_unique(hash, key, |key| {
            rooms.get(key.index).map_or(0, |room| route::hash(room.session_id.as_str()))
        });
    }

    fn find_room_hashed(&self, hash: u64, session: &str) -> Option<RoomKey> {
        let same =
            |key: &RoomKey| self.rooms.get(key.index).is_some_and(|room| room.session_id.as_str() == session);
        self.directory.find(hash, same).copied()
    }

    pub(super) fn find_room(&self, session: &SessionId) -> Option<RoomKey> {
        self.find_room_hashed(route::hash(session.as_str()), session.as_str())
    }

    /// A member's place is free again, unless a newer connection has taken it over. A room without members lingers, then
    /// ends.
    pub(super) fn unseat(&mut self, now: Micros, conn: ConnKey, key: RoomKey, number: MemberNumber) {
        let linger = self.config.room.linger;
        let Some(room) = self.room(key) else { return };
        let Some(at) = room.members.iter().position(|&member| member == (Member { number, conn })) else {
            return;
        };
        room.members.remove(at);
        let members = room.members.len();
        self.announce_member(now, key, "events:room.member_left", number);
        let Some(room) = self.room(key) else { return };
        if room.engine.is_some() {
            // What it said before it left is heard first.
            self.drive_engine(now, key, Some(EngineInput::Left { member: number }));
        }
        if members > 0 {
            self.look_for_binary(key);
            let left = ServerEvent::MemberLeft { member: number, members };
            return self.tell_room(now, key, Audience::AllBut(number), &left, 0);
        }
        if linger.0 == 0 || self.draining.is_some() {
            let why = if self.draining.is_some() { RoomEnd::Drained } else { RoomEnd::Lingered };
            return self.end_room(now, key, why);
        }
        self.linger(now, key);
    }

    /// A room without members waits for one to come.
    pub(super) fn linger(&mut self, now: Micros, key: RoomKey) {
        let linger = self.config.room.linger;
        let Some(room) = self.room(key) else { return };
        room.ends_at = now + linger;
        self.counters.rooms_lingering += 1;
        self.lingering.push_back((now + linger, key));
        self.arm_room(key);
        self.forget_revived();
    }

    /// Ends a room without members.
    pub(super) fn end_room(&mut self, now: Micros, key: RoomKey, why: RoomEnd) {
        if self.forget_room(now, key, why) {
            self.quotas.give_back_rooms(1);
        }
    }

    /// Forgets a room without members; its place is still taken.
    fn forget_room(&mut self, now: Micros, key: RoomKey, why: RoomEnd) -> bool {
        // Before its report takes along what it knows.
        self.say_last_words(key, why);
        self.report(now, key, why);
        self.announce(now, key, "events:room.closed", || format!(r#","reason":"{}""#, why.name()));
        let Some(room) = self.rooms.find(key) else {
            return false;
        };
        debug_assert!(room.members.is_empty(), "a room with members goes on");
        let hash = route::hash(room.session_id.as_str());
        self.dismiss_workers(key);
        if let Ok(entry) = self.directory.find_entry(hash, |other| *other == key) {
            entry.remove();
        }
        let Some(mut room) = self.rooms.remove(key.index) else { return false };
        let held = room.held();
        self.counters.history.events -= held.events;
        self.counters.history.bytes -= held.bytes;
        if let Some(kept) = room.kept.take() {
            self.forget_lines(kept.lines);
        }
        self.counters.rooms -= 1;
        self.counters.rooms_lingering -= u64::from(room.ends_at.0 > 0);
        self.counters.inbound_queued -= room.inbound.len() as u64;
        while let Some((_, draft)) = self.arrivals.pop(&mut room.inbound) {
            self.pool.discard(draft);
        }
        self.free_rooms.push(RoomKey { index: key.index, generation: key.generation.wrapping_add(1) });
        while let Some(&(ends_at, oldest)) = self.lingering.front()
            && !self.lingers(oldest, ends_at)
        {
            self.lingering.pop_front();
        }
        true
    }

    /// Whether the room still waits for the end that it was given then.
    fn lingers(&self, key: RoomKey, ends_at: Micros) -> bool {
        let room = self.rooms.find(key);
        room.is_some_and(|room| room.ends_at == ends_at)
    }

    /// A room that empties and fills again and again leaves an entry each time: no more than half are kept.
    fn forget_revived(&mut self) {
        if self.lingering.len() > 64 + 2 * self.counters.rooms_lingering as usize {
            let mut lingering = std::mem::take(&mut self.lingering);
            lingering.retain(|&(ends_at, key)| self.lingers(key, ends_at));
            self.lingering = lingering;
        }
    }

    /// Ends the room that has lingered longest here: its place is the next one's.
    fn evict_room(&mut self, now: Micros) -> bool {
        while let Some((ends_at, key)) = self.lingering.pop_front() {
            if self.lingers(key, ends_at) {
                self.counters.rooms_evicted += 1;
                return self.forget_room(now, key, RoomEnd::Evicted);
            }
        }
        false
    }

    /// Every engine that has something to do, does it.
    pub(super) fn run_engines(&mut self, now: Micros) {
        let mut runnable = std::mem::take(&mut self.runnable);
        for key in runnable.drain(..) {
            self.run_engine(now, key);
        }
        self.runnable = runnable;
    }

    /// The engine takes everything that waits for it.
    pub(super) fn run_engine(&mut self, now: Micros, key: RoomKey) {
        if self.room(key).is_some_and(|room| room.inbound.len() > 0) {
            self.drive_engine(now, key, None);
        }
    }

    /// Brings a room's engine what waits for it and then one input more; it is started by the first. What comes out
    /// is carried to the members.
    pub(super) fn drive_engine(&mut self, now: Micros, key: RoomKey, input: Option<EngineInput>) {
        self.with_engine(now, key, |engine, cx| {
            if let Some(input) = input {
                engine.handle(input, cx);
            }
        });
    }

    /// Lets a room's engine do something, behind what waits for it; it is started by the first. What comes out is carried to
    /// the members.
    pub(super) fn with_engine(
        &mut self,
        now: Micros,
        key: RoomKey,
        what: impl FnOnce(&mut Engine, &mut EngineContext<'_>),
    ) {
        // An engine that has flushed a response wants to know how much of it had left already.
        for (response, frames) in self.engine_turn(now, key, what) {
            self.engine_turn(now, key, |engine, cx| engine.flushed(response, frames, cx));
        }
    }

    /// One turn of a room's engine: what waits for it, and something more. The responses that it flushed, and how many
    /// frames of their audio had not left.
    fn engine_turn(
        &mut self,
        now: Micros,
        key: RoomKey,
        what: impl FnOnce(&mut Engine, &mut EngineContext<'_>),
    ) -> SmallVec<[(ResponseNumber, usize); 1]> {
        let mut flushed = SmallVec::new();
        let Some(room) = self.rooms.find_mut(key) else { return flushed };
        let kind = room.kind;
        let engine = room.engine.get_or_insert_with(|| {
            self.counters.engines_started += 1;
            Engine::start(kind)
        });
        let mut out = std::mem::take(&mut self.outputs);
        let cx = &mut EngineContext {
            now,
            config: &self.config,
            rng: &mut self.rng,
            pool: &mut self.pool,
            settings: &room.settings,
            extras: room.kept.as_ref().and_then(|kept| kept.extras.as_deref()),
            only_events: room.only_events,
            claim: room.kept.as_ref().and_then(|kept| kept.claim.as_deref()),
            last_id: &mut room.last_id,
            out: &mut out,
        };
        self.counters.inbound_queued -= room.inbound.len() as u64;
        let (mut frames, mut bytes) = (0, 0);
        while let Some((from, audio)) = self.arrivals.pop(&mut room.inbound) {
            (frames, bytes) = (frames + 1, bytes + audio.payload().len());
            engine.handle(EngineInput::Audio { from, audio }, cx);
        }
        what(engine, cx);
        engine.settle(cx);
        let timed = engine.deadline().is_some();
        if frames > 0 && engine.kind().has_responses() {
            room.kept.get_or_insert_default().meter.heard(room.settings.format, frames, bytes);
        }
        for output in out.drain(..) {
            flushed.extend(self.carry(now, key, output));
        }
        self.outputs = out;
        if timed {
            self.arm_room(key);
        }
        flushed
    }

    /// Carries one thing that came out of an engine to the members. Of a flush, how many frames it took back.
    fn carry(&mut self, now: Micros, key: RoomKey, output: EngineOutput) -> Option<(ResponseNumber, usize)> {
        match output {
            EngineOutput::Audio { to, audio, track, first, last, timestamp_ms, response, part } => {
                if let Some(response) = response {
                    self.meter_audio(now, key, audio.payload().len(), response, part.as_ref());
                }
                let spurt = super::outbound::Spurt { track, first, last, timestamp_ms, part };
                self.audio_out(now, key, to, audio, spurt, response.map_or(0, |response| response.0));
            }
            EngineOutput::Event { to, event, response } => {
                self.tell_room(now, key, to, &event, response.map_or(0, |response| response.0));
                self.follow(now, key, &event);
            }
            EngineOutput::Flush(response) => {
                self.meter_flush(key, response);
                return Some((response, self.flush_response(key, response.0)));
            }
            EngineOutput::Upstream(order) => self.carry_upstream(now, key, order),
            EngineOutput::Work(order) => self.carry_work(key, order),
        }
        None
    }
}
