//! What goes to members: encoded once for the room, shared by every lane.

use super::super::conn::{Phase, Subprotocol};
use super::super::engine::Audience;
use super::super::event::{Class, ServerEvent};
use super::super::frame::{BINARY, BinaryHeader, Draft, Frame, TEXT};
use super::super::ids::{ConnKey, MemberNumber, RoomKey};
use super::super::outbox::{Books, DropNote, Enqueue, Message, Shape};
use super::super::room::Room;
use super::super::time::Micros;
use super::Shard;
use super::compression::CompressedForms;

/// Binary messages of `kind` 1 carry audio (PROTOCOL 3).
const KIND_AUDIO: u8 = 1;

/// Where an audio frame stands in its spurt.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spurt {
    pub(super) track: MemberNumber,
    pub(super) first: bool,
    pub(super) last: bool,
    pub(super) timestamp_ms: u32,
}

impl Spurt {
    fn header(self) -> BinaryHeader {
        let flags = u8::from(self.first) | u8::from(self.last) << 1;
        BinaryHeader { kind: KIND_AUDIO, flags, track: self.track.0, timestamp_ms: self.timestamp_ms }
    }
}

/// One audio frame in the forms its listeners want; each form is encoded at most once.
struct Forms {
    bare: Option<Frame>,
    headed: Option<Frame>,
}

impl Shard {
    /// Sends an event to one connection: an answer that only it wants.
    pub(super) fn tell(&mut self, now: Micros, key: ConnKey, event: &ServerEvent) {
        let frame = self.encode(event, None);
        let (frame, shape) = self.only_form(key, frame);
        let message = Message { frame, at: now, seq: 0, response: 0, class: event.class(), shape };
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
        let listeners = self.listeners(key, to);
        if !listeners.is_empty() {
            let frame = self.encode(event, Some(seq));
            let (class, wait) = (event.class(), self.wait(event));
            let mut forms = CompressedForms::new();
            for &listener in &listeners {
                let (frame, shape) = self.shared_form(listener, &frame, &mut forms);
                let message = Message { frame, at: now, seq, response, class, shape };
                self.enqueue(listener, message, wait);
            }
            for frame in forms.into_iter().filter_map(|(_, form)| form).chain([frame]) {
                self.pool.recycle(frame);
            }
        }
        self.listeners = listeners;
    }

    /// The connections of those whom something concerns, in a list to be put back after use.
    pub(super) fn listeners(&mut self, key: RoomKey, to: Audience) -> Vec<ConnKey> {
        let mut listeners = std::mem::take(&mut self.listeners);
        listeners.clear();
        let concerned = |number: MemberNumber| match to {
            Audience::All => true,
            Audience::AllBut(but) => number != but,
            Audience::One(one) => number == one,
        };
        if let Some(room) = self.room(key) {
            let members = room.members.iter().filter(|member| concerned(member.number));
            listeners.extend(members.map(|member| member.conn));
        }
        listeners
    }

    pub(super) fn wait(&self, event: &ServerEvent) -> Option<Micros> {
        let span = self.config.outbox.coalesce;
        (event.waits() && span.0 > 0).then_some(span)
    }

    pub(super) fn encode(&mut self, event: &ServerEvent, seq: Option<u64>) -> Frame {
        let id = self.next_event_id();
        let mut json = std::mem::take(&mut self.json);
        json.clear();
        event.write(id, seq, &mut json);
        self.counters.events_encoded += 1;
        let frame = self.pool.copy(&json).seal(TEXT);
        self.json = json;
        frame
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
        let message = |frame| Message { frame, at: now, seq, response, class, shape: Shape::Audio };
        if let Some(only) = only {
            // By far the most frequent case: nothing is shared, so there is no list to make.
            room.frames_sent += 1;
            self.counters.frames_enqueued += 1;
            self.counters.frames_encoded += 1;
            let headed = self.takes_headers(only);
            let audio = if headed { audio.with_binary_header(spurt.header()) } else { audio };
            return self.enqueue(only, message(audio.seal(BINARY)), None);
        }
        let listeners = self.listeners(key, to);
        if let Some(room) = self.room(key) {
            room.frames_sent += listeners.len() as u64;
        }
        self.counters.frames_enqueued += listeners.len() as u64;
        let forms = self.encode_audio(audio, spurt, &listeners);
        for &listener in &listeners {
            let form = if self.takes_headers(listener) { &forms.headed } else { &forms.bare };
            if let Some(frame) = form.clone() {
                self.enqueue(listener, message(frame), None);
            }
        }
        for frame in [forms.bare, forms.headed].into_iter().flatten() {
            self.pool.recycle(frame);
        }
        self.listeners = listeners;
    }

    /// Whether a connection's binary messages carry a header.
    fn takes_headers(&self, key: ConnKey) -> bool {
        let conn = self.conns.find(key);
        matches!(conn.map(|conn| &conn.phase), Some(Phase::Open(open)) if open.subprotocol == Subprotocol::V1)
    }

    /// Encodes a frame once for each form that has a listener.
    fn encode_audio(&mut self, audio: Draft, spurt: Spurt, listeners: &[ConnKey]) -> Forms {
        let headed = listeners.iter().any(|&listener| self.takes_headers(listener));
        let bare = listeners.iter().any(|&listener| !self.takes_headers(listener));
        self.counters.frames_encoded += u64::from(bare) + u64::from(headed);
        match (bare, headed) {
            (false, false) => {
                self.pool.discard(audio);
                Forms { bare: None, headed: None }
            }
            (true, false) => Forms { bare: Some(audio.seal(BINARY)), headed: None },
            (false, true) => {
                let headed = audio.with_binary_header(spurt.header()).seal(BINARY);
                Forms { bare: None, headed: Some(headed) }
            }
            (true, true) => {
                let copy = self.pool.copy(audio.payload()).with_binary_header(spurt.header());
                Forms { bare: Some(audio.seal(BINARY)), headed: Some(copy.seal(BINARY)) }
            }
        }
    }

    /// A barge-in: what no kernel has been given of the response leaves every lane of the room.
    pub(super) fn flush_response(&mut self, key: RoomKey, response: u32) {
        let listeners = self.listeners(key, Audience::All);
        for &listener in &listeners {
            let books = &mut Books {
                counters: &mut self.counters,
                pool: &mut self.pool,
                queues: &mut self.lane_queues,
            };
            let conn = self.conns.find_mut(listener);
            if let Some(conn) = conn {
                conn.lane.flush_response(response, books);
                // No send may come back to a lane that was emptied.
                self.may_read_on(listener);
            }
        }
        self.listeners = listeners;
    }

    pub(super) fn enqueue_control_frame(&mut self, now: Micros, key: ConnKey, frame: Frame) {
        self.enqueue(key, Message::control(frame, now, Shape::Whole), None);
    }

    /// Puts a message into an open connection's lane. A lane that overflows ends its connection, but not yet: the
    /// message may be one of many that say the same.
    pub(super) fn enqueue(&mut self, key: ConnKey, message: Message, wait: Option<Micros>) {
        let conn = self.conns.find_mut(key);
        let Some(conn) = conn.filter(|conn| matches!(conn.phase, Phase::Open(_))) else {
            return self.pool.recycle(message.frame);
        };
        let was_waiting = conn.lane.wait_until();
        let books =
            &mut Books { counters: &mut self.counters, pool: &mut self.pool, queues: &mut self.lane_queues };
        match conn.lane.push(message, wait, &self.config.outbox, books) {
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
        let books =
            &mut Books { counters: &mut self.counters, pool: &mut self.pool, queues: &mut self.lane_queues };
        conn.lane.force(message, now, books);
        self.mark_dirty(key);
    }

    /// Tells a client what it has missed, once, when its lane has room again.
    pub(super) fn tell_drops(&mut self, now: Micros, key: ConnKey, drops: &[DropNote; 3]) {
        for class in [Class::Control, Class::Audio, Class::Droppable] {
            let note = drops[class as usize];
            if note.count > 0 {
                let seqs = (note.last_seq > 0).then_some((note.first_seq, note.last_seq));
                self.tell(now, key, &ServerEvent::OutboxDropped { class, count: note.count, seqs });
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
