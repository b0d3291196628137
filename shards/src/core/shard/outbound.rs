//! What goes to members: encoded once for the room, shared by every lane.

use super::super::conn::{Phase, Seat};
use super::super::engine::Audience;
use super::super::event::{Class, Dialect, PartRef, ServerEvent};
use super::super::frame::{BinaryHeader, Draft, Frame, KIND_AUDIO};
use super::super::ids::{ConnKey, MemberNumber, RoomKey};
use super::super::outbox::{Books, DropNote, Enqueue, Message, Shape};
use super::super::room::Room;
use super::super::time::Micros;
use super::Shard;
use super::event_forms::Spread;
use super::feeds;

/// Where an audio frame stands in its spurt.
#[derive(Debug)]
pub(super) struct Spurt {
    pub(super) track: MemberNumber,
    pub(super) first: bool,
    pub(super) last: bool,
    pub(super) timestamp_ms: u32,
    /// The part of a response that it belongs to.
    pub(super) part: Option<PartRef>,
}

impl Spurt {
    pub(super) fn header(&self) -> BinaryHeader {
        let flags = u8::from(self.first) | u8::from(self.last) << 1;
        BinaryHeader { kind: KIND_AUDIO, flags, track: self.track.0, timestamp_ms: self.timestamp_ms }
    }
}

impl Shard {
    /// Sends an event to one connection: an answer that only it wants.
    pub(super) fn tell(&mut self, now: Micros, key: ConnKey, event: &ServerEvent) {
        let dialect = self.dialect(key);
        if !dialect.has(event) {
            return;
        }
        let form = self.event_form(key);
        let id = self.next_event_id();
        let mut json = std::mem::take(&mut self.json);
        json.clear();
        event.write(id, None, dialect, &mut json);
        if self.hears_feed(key) {
            feeds::flatten(&mut json);
        }
        let frame = self.seal_event(&json, None, form);
        self.json = json;
        let (frame, shape) = self.only_form(key, form.opcode(), frame);
        let message = Message::new(frame, now, event.class(), shape);
        self.enqueue(key, message, self.wait(event));
    }

    /// Sends an event of the room to those of its members whom it concerns.
    pub(super) fn tell_room(
        &mut self,
        now: Micros,
        key: RoomKey,
        to: Audience,
        event: &ServerEvent,
        response: u32,
    ) {
        let Some(room) = self.room(key) else { return };
        room.seq += 1;
        let seq = room.seq;
        self.tell_members(now, key, to, event, Some(seq), response);
    }

    /// The same for an event that may have no number, and then belongs to no history.
    pub(super) fn tell_members(
        &mut self,
        now: Micros,
        key: RoomKey,
        to: Audience,
        event: &ServerEvent,
        seq: Option<u64>,
        response: u32,
    ) {
        let listeners = self.listeners(key, to);
        if seq.is_some() || !listeners.is_empty() {
            let id = self.next_event_id();
            let mut json = std::mem::take(&mut self.json);
            json.clear();
            event.write(id, seq, Dialect::Native, &mut json);
            if seq.is_some() {
                self.keep(key, to, event, &json);
            }
            let (class, wait) = (event.class(), self.wait(event));
            let of = Some((event, id));
            let spread = Spread { json: &json, of, seq, response, class, wait, replayed: false };
            self.spread(now, &listeners, &spread);
            self.json = json;
        }
        self.listeners = listeners;
    }

    /// The connections of those whom something concerns, in a list to be put back after use.
    pub(super) fn listeners(&mut self, key: RoomKey, to: Audience) -> Vec<ConnKey> {
        let mut listeners = std::mem::take(&mut self.listeners);
        listeners.clear();
        if let Some(room) = self.room(key) {
            let members = room.members.iter().filter(|member| to.concerns(member.number));
            listeners.extend(members.map(|member| member.conn));
        }
        listeners
    }

    fn wait(&self, event: &ServerEvent) -> Option<Micros> {
        let span = self.config.outbox.coalesce;
        (event.waits() && span.0 > 0).then_some(span)
    }

    /// Sends an audio frame to those of the room's members whom it concerns.
    pub(super) fn audio_out(
        &mut self,
        now: Micros,
        key: RoomKey,
        to: Audience,
        audio: Draft,
        spurt: Spurt,
        response: u32,
    ) {
        let Some(room) = self.room(key) else { return self.pool.discard(audio) };
        room.audio_seq += 1;
        let seq = room.audio_seq;
        let only = only_listener(room, to);
        // The first frame of a response says that there is one: it never gives way.
        let class = if spurt.first && response > 0 { Class::Control } else { Class::Audio };
        let message = |frame| Message { seq, response, ..Message::new(frame, now, class, Shape::Audio) };
        if let Some(only) = only {
            // By far the most frequent case: nothing is shared, so there is no list to make.
            room.frames_sent += 1;
            self.counters.frames_enqueued += 1;
            let frame = self.only_audio_form(only, audio, &spurt);
            return self.enqueue(only, message(frame), None);
        }
        let listeners = self.listeners(key, to);
        if let Some(room) = self.room(key) {
            room.frames_sent += listeners.len() as u64;
        }
        self.counters.frames_enqueued += listeners.len() as u64;
        let forms = self.audio_forms(audio, &spurt, &listeners);
        for &listener in &listeners {
            if let Some(frame) = self.shared_audio_form(listener, &forms) {
                self.enqueue(listener, message(frame), None);
            }
        }
        self.recycle_audio(forms);
        self.listeners = listeners;
    }

    /// A barge-in: what no kernel has been given of the response leaves every lane of the room. How many frames of audio that
    /// were, in the lane that had the fewest.
    pub(super) fn flush_response(&mut self, key: RoomKey, response: u32) -> usize {
        let mut fewest = None;
        let listeners = self.listeners(key, Audience::All);
        for &listener in &listeners {
            let books = &mut Books {
                counters: &mut self.counters,
                pool: &mut self.pool,
                queues: &mut self.lane_queues,
            };
            let conn = self.conns.find_mut(listener);
            if let Some(conn) = conn {
                let frames = conn.lane.flush_response(response, books);
                fewest = Some(fewest.map_or(frames, |fewest: usize| fewest.min(frames)));
                // No send may come back to a lane that was emptied.
                self.may_read_on(listener);
            }
        }
        self.listeners = listeners;
        fewest.unwrap_or(0)
    }

    pub(super) fn enqueue_control_frame(&mut self, now: Micros, key: ConnKey, frame: Frame) {
        self.enqueue(key, Message::control(frame, now, Shape::Whole), None);
    }

    /// Puts a message into an open connection's lane. A lane that overflows ends its connection, but not yet: the
    /// message may be one of many that say the same.
    pub(super) fn enqueue(&mut self, key: ConnKey, message: Message, wait: Option<Micros>) {
        self.put_into_lane(key, message, wait, false);
    }

    /// The same for a message that goes ahead of what may be lost.
    pub(super) fn enqueue_first(&mut self, key: ConnKey, message: Message) {
        self.put_into_lane(key, message, None, true);
    }

    fn put_into_lane(&mut self, key: ConnKey, message: Message, wait: Option<Micros>, first: bool) {
        let conn = self.conns.find_mut(key);
        let Some(conn) = conn.filter(|conn| matches!(conn.phase, Phase::Open(_))) else {
            return self.pool.recycle(message.frame);
        };
        let was_waiting = conn.lane.wait_until();
        let books =
            &mut Books { counters: &mut self.counters, pool: &mut self.pool, queues: &mut self.lane_queues };
        let pushed = if first {
            conn.lane.push_first(message, &self.config.outbox, books)
        } else {
            conn.lane.push(message, wait, &self.config.outbox, books)
        };
        match pushed {
            Enqueue::Queued | Enqueue::Displaced | Enqueue::Dropped => {}
            Enqueue::Overflow => return self.overflowed.push(key),
        }
        match conn.lane.wait_until() {
            Some(until) if was_waiting != Some(until) => self.waiting.push_back((until, key)),
            _ => {}
        }
        if conn.lane.ready() && !conn.lane.dirty {
            conn.lane.dirty = true;
            self.dirty.push(key);
        }
    }

    /// Puts the last bytes of a connection that is no longer open into its lane, past every bound.
    pub(super) fn enqueue_raw(&mut self, now: Micros, key: ConnKey, message: Message) {
        let conn = self.conns.find_mut(key);
        let Some(conn) = conn else { return self.pool.recycle(message.frame) };
        let counters = self.upstreams.books_of(conn.upstream, &mut self.counters);
        let books = &mut Books { counters, pool: &mut self.pool, queues: &mut self.lane_queues };
        conn.lane.force(message, now, books);
        self.mark_dirty(key);
    }

    /// Tells a client what it has missed, once, when its lane has room again. Where that can be told again the news of it is
    /// numbered and kept too: it may itself get lost with the connection.
    pub(super) fn tell_drops(&mut self, now: Micros, key: ConnKey, drops: &[DropNote; 3]) {
        let member = self.open_conn(key).map(|(_, open)| (open.seat, open.subprotocol.dialect()));
        for class in [Class::Control, Class::Audio, Class::Droppable] {
            let note = drops[class as usize];
            if note.count > 0 {
                let seqs = (note.last_seq > 0).then_some((note.first_seq, note.last_seq));
                let event = ServerEvent::OutboxDropped { class, count: note.count, seqs };
                match (member, class, seqs) {
                    (Some((Seat::Member(room, member), Dialect::Native)), Class::Droppable, Some(_)) => {
                        self.tell_room(now, room, Audience::One(member), &event, 0);
                    }
                    _ => self.tell(now, key, &event),
                }
            }
        }
    }
}

/// The one whom something concerns, where that is plain to see.
fn only_listener(room: &Room, to: Audience) -> Option<ConnKey> {
    match (to, &room.members[..]) {
        (Audience::All, [only]) => Some(only.conn),
        (Audience::One(one), members) => {
            members.iter().find(|member| member.number == one).map(|member| member.conn)
        }
        _ => None,
    }
}
