//! What arrives on an open connection: messages, control frames, and the end of receiving.

use super::super::conn::{Conn, Goodbye, Open, Phase, Seat, Subprotocol};
use super::super::effect::{Ended, ReceiveMode};
use super::super::event::{self, Class, ClientError};
use super::super::frame::{BINARY, PONG, TEXT};
use super::super::ids::ConnKey;
use super::super::outbox::{Message, Shape};
use super::super::time::Micros;
use super::super::ws::{Item, Rules, Violation};
use super::{Effects, Shard};

impl Shard {
    pub(super) fn received(&mut self, now: Micros, key: ConnKey, bytes: &mut [u8], fx: &mut Effects) {
        let tariff = self.tariff;
        let Some(conn) = self.conns.find_mut(key) else { return };
        if conn.upstream {
            return self.upstream_received(now, key, bytes, fx);
        }
        self.counters.bytes_received += bytes.len() as u64;
        conn.allowance.pass(now.since(conn.heard));
        conn.allowance.pay_bytes(&tariff, bytes.len());
        conn.heard = now;
        match &mut conn.phase {
            Phase::Head(_) => self.head_bytes(now, key, bytes, fx),
            Phase::Post(_) => self.post_bytes(now, key, bytes, fx),
            Phase::Open(open) if open.subprotocol.is_stream() => self.stray_bytes(now, key, bytes, fx),
            Phase::Open(open) => {
                open.pinged = false;
                if conn.paused {
                    // It was already on its way when receiving paused.
                    conn.held.get_or_insert_default().extend_from_slice(bytes);
                } else {
                    self.open_bytes(now, key, bytes, fx);
                }
            }
            Phase::Closing(_) => self.closing_bytes(now, key, bytes, fx),
            Phase::Upstream(_) | Phase::Gone => {}
        }
    }

    /// Takes message after message from the bytes, until they are used up or the lane is too full to answer more.
    pub(super) fn open_bytes(&mut self, now: Micros, key: ConnKey, mut bytes: &mut [u8], fx: &mut Effects) {
        let message_bytes_max = self.config.limits.message_bytes_max;
        let Some(Conn { phase: Phase::Open(open), .. }) = self.conn(key) else { return };
        // The decoder leaves its connection while messages that may lie in it are handled.
        let mut decoder = std::mem::take(&mut open.decoder);
        let (seat, subprotocol) = (open.seat, open.subprotocol);
        let rules = Rules { message_bytes_max, deflate: open.deflate.is_some() };
        while let Some(may_answer) = self.may_answer(key) {
            if !may_answer && !bytes.is_empty() {
                self.hold(key, bytes, fx);
                break;
            }
            match decoder.next(&mut bytes, rules) {
                Ok(None) => break,
                Ok(Some(Item::Compressed { text, payload })) => match self.inflate(text, payload) {
                    Ok(mut message) => {
                        self.charge_bytes(key, message.len());
                        let item = if text { Item::Text(&mut message) } else { Item::Binary(&mut message) };
                        self.item(now, key, seat, subprotocol, item, fx);
                        self.inflater.put_back(message);
                    }
                    Err(violation) => return self.violated(now, key, violation, fx),
                },
                Ok(Some(item)) => self.item(now, key, seat, subprotocol, item, fx),
                Err(violation) => return self.violated(now, key, violation, fx),
            }
        }
        self.put_back(key, decoder);
    }

    /// Whether there is room for answers in an open connection's lane; nothing when it is open no more.
    fn may_answer(&self, key: ConnKey) -> Option<bool> {
        let conn = self.conns.find(key)?;
        matches!(conn.phase, Phase::Open(_)).then(|| !conn.lane.half_full_of_answers(&self.config.outbox))
    }

    fn put_back(&mut self, key: ConnKey, decoder: super::super::ws::Decoder) {
        match self.conn(key).map(|conn| &mut conn.phase) {
            Some(Phase::Open(Open { decoder: place, .. })) => *place = decoder,
            Some(Phase::Closing(closing)) if closing.stage == Goodbye::Said => {
                closing.decoder = Some(Box::new(decoder))
            }
            _ => {}
        }
    }

    /// Keeps what can't be answered yet, and lets TCP push back.
    fn hold(&mut self, key: ConnKey, bytes: &[u8], fx: &mut Effects) {
        let Some(conn) = self.conn(key) else { return };
        conn.held.get_or_insert_default().extend_from_slice(bytes);
        if !conn.paused {
            conn.paused = true;
            self.receive(key, ReceiveMode::Paused, fx);
        }
    }

    /// Connections whose lanes have drained are read on: first what was held, then the socket.
    pub(super) fn resume(&mut self, now: Micros, fx: &mut Effects) {
        let mut resuming = std::mem::take(&mut self.resuming);
        for key in resuming.drain(..) {
            let Some(conn) = self.conn(key) else { continue };
            conn.resuming = false;
            if !conn.paused || !matches!(conn.phase, Phase::Open(_)) {
                continue;
            }
            conn.paused = false;
            if let Some(mut held) = conn.held.take() {
                self.open_bytes(now, key, &mut held, fx);
            }
            let outbox = &self.config.outbox;
            let conn = self.conns.find_mut(key);
            let Some(conn) = conn.filter(|conn| matches!(conn.phase, Phase::Open(_))) else { continue };
            if conn.lane.half_full_of_answers(outbox) {
                // What was held back has filled it again, to the last byte: the socket has to wait.
                conn.paused = true;
            } else if !conn.paused {
                self.receive(key, ReceiveMode::Stream, fx);
            }
        }
        self.resuming = resuming;
    }

    fn item(
        &mut self,
        now: Micros,
        key: ConnKey,
        seat: Seat,
        subprotocol: Subprotocol,
        item: Item<'_>,
        fx: &mut Effects,
    ) {
        let counts = match item {
            Item::Binary(_) => subprotocol != Subprotocol::Msgpack,
            Item::Ping(_) => true,
            // The lines of a text are messages of their own, and so are the events of MessagePack.
            Item::Text(_) | Item::Pong(_) | Item::Close(_) | Item::Compressed { .. } => false,
        };
        if counts && !self.affords(now, key, fx) {
            return;
        }
        match (item, seat) {
            (Item::Binary(_), Seat::Member(..)) if subprotocol.only_events() => {
                let message =
                    "Binary messages are not taken here: audio comes with input_audio_buffer.append.";
                self.client_error(now, key, ClientError::new("binary_not_supported", message));
            }
            (Item::Binary(message), Seat::Member(..) | Seat::Feed) if subprotocol == Subprotocol::Msgpack => {
                self.msgpack_in(now, key, seat, message, fx);
            }
            (Item::Text(_), Seat::Member(..) | Seat::Feed) if subprotocol == Subprotocol::Msgpack => {
                if self.affords(now, key, fx) {
                    let message = "Text messages are not taken here: events come as MessagePack.";
                    self.client_error(now, key, ClientError::new("text_not_supported", message));
                }
            }
            (Item::Binary(payload), Seat::Member(room, member)) => {
                self.counters.frames_received += 1;
                self.audio_in(now, room, member, payload);
            }
            (Item::Binary(payload), Seat::Echo) => {
                self.counters.frames_received += 1;
                let frame = self.echo_frame(key, payload, BINARY);
                self.echo(key, Message::control(frame, now, Shape::Audio));
            }
            (Item::Text(text), Seat::Echo) => {
                self.counters.texts_received += 1;
                let frame = self.echo_frame(key, text, TEXT);
                self.echo(key, Message::control(frame, now, Shape::Event));
            }
            (Item::Binary(_), Seat::Feed) => self.deaf(now, key, None),
            (Item::Text(text), Seat::Member(..) | Seat::Feed) => {
                self.text_in(now, key, seat, subprotocol, text, fx);
            }
            (Item::Ping(payload), _) => {
                let frame = self.pool.copy(payload).seal(PONG);
                self.enqueue_control_frame(now, key, frame);
            }
            // What was compressed gets here inflated.
            (Item::Pong(_) | Item::Compressed { .. }, _) => {}
            (Item::Close(close), _) => self.peer_closes(now, key, close.map(|(code, _)| code.into()), fx),
        }
    }

    fn echo(&mut self, key: ConnKey, message: Message) {
        self.counters.frames_encoded += 1;
        self.counters.frames_enqueued += 1;
        self.enqueue(key, message, None);
    }

    /// A text message: one event, or with `voxhall.v1` a line for each.
    fn text_in(
        &mut self,
        now: Micros,
        key: ConnKey,
        seat: Seat,
        subprotocol: Subprotocol,
        text: &mut [u8],
        fx: &mut Effects,
    ) {
        self.counters.texts_received += 1;
        let whole = subprotocol != Subprotocol::V1;
        for line in text.split_mut(|&byte| byte == b'\n' && !whole) {
            if line.trim_ascii().is_empty() && !whole {
                continue; // The line feed after the last event.
            }
            if !self.affords(now, key, fx) {
                continue;
            }
            let overflowed = self.overflowed.len();
            self.event_in(now, key, seat, line);
            // Answers that its lane can't take end the connection with this turn: the other half a million events of
            // the message are not worth the time.
            let ended = self.overflowed[overflowed..].contains(&key);
            if ended || !matches!(self.conn(key), Some(Conn { phase: Phase::Open(_), .. })) {
                return;
            }
        }
    }

    /// One event, as JSON, which is parsed in place.
    pub(super) fn event_in(&mut self, now: Micros, key: ConnKey, seat: Seat, json: &mut [u8]) {
        let parsed = event::parse(json, self.config.limits.json_depth_max, &mut self.scratch);
        if let Seat::Member(room, member) = seat {
            let number = parsed.as_ref().map_or_else(|error| error.client_seq, |event| event.client_seq);
            if self.is_repeated(room, member, number) {
                return;
            }
        }
        match (parsed, seat) {
            (Ok(event), Seat::Member(room, member)) => self.command(now, key, room, member, event),
            (Ok(event), _) => self.feed_command(now, key, event),
            (Err(error), _) => self.client_error(now, key, error),
        }
    }

    fn violated(&mut self, now: Micros, key: ConnKey, violation: Violation, fx: &mut Effects) {
        self.fail(now, key, violation.code.into(), violation.reason, fx);
    }

    /// Receiving is over: a peer that has said nothing more to say gets nothing more either.
    pub(super) fn ended(&mut self, now: Micros, key: ConnKey, how: Ended, fx: &mut Effects) {
        let Some(conn) = self.conn(key) else { return };
        match (&conn.phase, how) {
            (Phase::Gone, _) => {}
            (Phase::Upstream(_), _) => self.upstream_ended(now, key, how, fx),
            (Phase::Closing(closing), Ended::Eof)
                if closing.stage != Goodbye::Lingering && !conn.lane.is_empty() =>
            {
                // It may still be reading: what is in the lane goes out, then the end.
                if let Phase::Closing(closing) = &mut conn.phase {
                    closing.stage = Goodbye::Answered;
                }
            }
            _ => {
                if how == Ended::Unsecured {
                    self.note_unsecured(key, fx);
                }
                let ended = how == Ended::Eof;
                if ended && self.streams.contains_key(&key) {
                    return self.stream_left(now, key, fx);
                }
                let why =
                    if ended { "the connection ended without a goodbye" } else { "the connection broke" };
                self.cut(now, key, why, fx);
            }
        }
    }
}

impl Message {
    /// A message that never gives way.
    pub(super) fn control(frame: super::super::frame::Frame, now: Micros, shape: Shape) -> Self {
        Self::new(frame, now, Class::Control, shape)
    }
}
