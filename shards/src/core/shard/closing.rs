//! How connections end (RFC 6455 section 7): who says goodbye first, what still goes out, and when waiting is over.

use super::super::audit::By;
use super::super::conn::{Closing, Conn, Goodbye, Open, Phase, Seat, Subprotocol};
use super::super::effect::{CloseMode, Effect, ReceiveMode};
use super::super::frame::{CLOSE, Draft, Frame};
use super::super::ids::ConnKey;
use super::super::outbox::{Books, Message, Shape};
use super::super::time::Micros;
use super::super::ws::{Item, Rules};
use super::audit::Ending;
use super::{Effects, Shard};

/// After the last bytes were sent and our side shut down: how long the peer may take to close its own.
const LINGER: Micros = Micros::from_s(2);

/// What a peer may still send when nothing of it is understood any more: what the kernels at both ends may hold of a
/// long message that was refused. One that goes on gets no more of our time.
const DISCARDED_MAX: u32 = 4 << 20;

/// What is counted for a peer that vanished, and for one that closed without a code (RFC 6455 section 7.1.5).
const ABNORMAL: u16 = 1006;
const NO_CODE: u16 = 1005;

impl Shard {
    /// Says goodbye first; the peer has `limits.close_s` to answer.
    pub(super) fn close(&mut self, now: Micros, key: ConnKey, code: u16, reason: &str, fx: &mut Effects) {
        let deadline = now + self.config.limits.close;
        self.say_goodbye(now, key, Goodbye::Said, deadline, Some((code, reason)), fx);
    }

    /// Fails the connection (section 7.1.7): nothing it sends means anything any more.
    pub(super) fn fail(&mut self, now: Micros, key: ConnKey, code: u16, reason: &str, fx: &mut Effects) {
        let deadline = now + self.config.limits.close;
        self.say_goodbye(now, key, Goodbye::Last, deadline, Some((code, reason)), fx);
    }

    /// Answers the peer's goodbye with its own code.
    pub(super) fn peer_closes(&mut self, now: Micros, key: ConnKey, code: Option<u16>, fx: &mut Effects) {
        let deadline = now + self.config.limits.close;
        self.say_goodbye(now, key, Goodbye::Answered, deadline, code.map(|code| (code, "")), fx);
    }

    fn say_goodbye(
        &mut self,
        now: Micros,
        key: ConnKey,
        stage: Goodbye,
        deadline: Micros,
        code: Option<(u16, &str)>,
        fx: &mut Effects,
    ) {
        let Some(Conn { phase: Phase::Open(open), .. }) = self.conn(key) else { return };
        let (seat, decoder) = (open.seat, std::mem::take(&mut open.decoder));
        let deflate = open.deflate.is_some();
        let subprotocol = open.subprotocol;
        let (frame, stage) = match subprotocol {
            // There is no answer to wait for.
            Subprotocol::Sse { chunked } => {
                let (code, reason) = code.unwrap_or((NO_CODE, ""));
                (self.stream_end(code, reason, chunked), Goodbye::Last)
            }
            _ => (self.close_frame(code), stage),
        };
        self.enqueue_raw(now, key, Message::control(frame, now, Shape::Whole));
        let (code, reason) = code.unwrap_or((NO_CODE, ""));
        let ending = match stage {
            Goodbye::Answered => Ending { code, reason: "the client said goodbye", by: By::Client },
            _ => Ending { code, reason, by: By::Server },
        };
        self.leave_open(now, key, seat, ending, fx);
        let Some(conn) = self.conn(key) else { return };
        let decoder = (stage == Goodbye::Said).then(|| Box::new(decoder));
        conn.phase = Phase::Closing(Closing { stage, decoder, deflate, deadline, discarded: 0 });
        let held = conn.held.take();
        if std::mem::take(&mut conn.paused) {
            self.receive(key, ReceiveMode::Stream, fx);
        }
        self.arm(now, key);
        if let Some(mut held) = held {
            // The peer's own close may lie in it or behind it: a gap would make nonsense of what follows.
            self.closing_bytes(now, key, &mut held, fx);
        }
    }

    /// An HTTP answer, and the connection ends: what was sent arrives before the end does.
    pub(super) fn say_last(&mut self, now: Micros, key: ConnKey, answer: Frame, fx: &mut Effects) {
        let deadline = now + self.config.limits.close;
        let Some(conn) = self.conn(key) else { return };
        let stage = Goodbye::Last;
        conn.phase = Phase::Closing(Closing { stage, decoder: None, deflate: false, deadline, discarded: 0 });
        self.enqueue_raw(now, key, Message::control(answer, now, Shape::Whole));
        self.receive(key, ReceiveMode::Stream, fx);
        self.arm(now, key);
    }

    fn close_frame(&mut self, code: Option<(u16, &str)>) -> Frame {
        self.goodbye(code).seal(CLOSE)
    }

    /// The payload of a close frame.
    pub(super) fn goodbye(&mut self, code: Option<(u16, &str)>) -> Draft {
        let mut payload = Vec::new();
        if let Some((code, reason)) = code {
            payload.extend_from_slice(&code.to_be_bytes());
            let cut = reason.floor_char_boundary(123); // Section 5.5: a control payload is at most 125 bytes.
            payload.extend_from_slice(&reason.as_bytes()[..cut]);
        }
        self.pool.copy(&payload)
    }

    /// A connection stops being an open WebSocket, however that came about.
    fn leave_open(&mut self, now: Micros, key: ConnKey, seat: Seat, ending: Ending<'_>, fx: &mut Effects) {
        self.note_closed(now, key, ending, fx);
        self.release(key);
        self.end_subscriptions(key);
        self.forget_stream(key);
        self.counters.open -= 1;
        self.counters.closed += 1;
        self.counters.count_close(ending.code);
        if let Seat::Member(room, member) = seat {
            self.keep_untold(key, room, member);
            self.unseat(now, key, room, member);
        }
    }

    /// The lane has emptied: the next step of a goodbye.
    pub(super) fn goodbye_sent(&mut self, now: Micros, key: ConnKey, fx: &mut Effects) {
        let Some(Conn { phase: Phase::Closing(closing), .. }) = self.conn(key) else {
            return self.post_sent(now, key, fx);
        };
        match closing.stage {
            Goodbye::Said | Goodbye::Lingering => {}
            Goodbye::Answered => self.gone(key, CloseMode::Graceful, fx),
            Goodbye::Last => {
                closing.stage = Goodbye::Lingering;
                closing.deadline = now + LINGER;
                fx.push(Effect::Shutdown(key));
                self.arm(now, key);
            }
        }
    }

    /// While saying goodbye, only the peer's own close is of interest; what can't be understood is discarded.
    pub(super) fn closing_bytes(
        &mut self,
        now: Micros,
        key: ConnKey,
        mut bytes: &mut [u8],
        fx: &mut Effects,
    ) {
        let message_bytes_max = self.config.limits.message_bytes_max;
        let Some(conn) = self.conn(key) else { return };
        let Phase::Closing(Closing { stage, decoder: understood, deflate, discarded, .. }) = &mut conn.phase
        else {
            return;
        };
        let rules = Rules { message_bytes_max, deflate: *deflate };
        if understood.is_none() {
            *discarded = discarded.saturating_add(bytes.len() as u32);
            if *discarded > DISCARDED_MAX {
                return self.cut_with(key, false, fx);
            }
        }
        while let Some(decoder) = understood {
            match decoder.next(&mut bytes, rules) {
                Ok(None) => return,
                Ok(Some(Item::Close(_))) if conn.lane.is_empty() => {
                    return self.gone(key, CloseMode::Graceful, fx);
                }
                Ok(Some(Item::Close(_))) => {
                    (*stage, *understood) = (Goodbye::Answered, None);
                    return;
                }
                Ok(Some(_)) => {}
                Err(_) => {
                    // It won't be understood any more, but it may still listen.
                    (*stage, *understood) = (Goodbye::Last, None);
                    if conn.lane.is_empty() {
                        self.goodbye_sent(now, key, fx);
                    }
                    return;
                }
            }
        }
    }

    pub(super) fn too_slow(&mut self, now: Micros, key: ConnKey, fx: &mut Effects) {
        self.abandon(now, key, "too slow", fx);
    }

    /// Messages that may not be lost have filled lanes: those connections can only start anew. They end when
    /// everything else of this moment has been said, so that what is said about their end comes behind it.
    pub(super) fn end_overflowed(&mut self, now: Micros, fx: &mut Effects) {
        while let Some(key) = self.overflowed.pop() {
            if self.open_conn(key).is_some() {
                self.abandon(now, key, "too much is waiting", fx);
            }
        }
    }

    fn abandon(&mut self, now: Micros, key: ConnKey, reason: &str, fx: &mut Effects) {
        self.counters.slow_closed += 1;
        let books =
            &mut Books { counters: &mut self.counters, pool: &mut self.pool, queues: &mut self.lane_queues };
        let conn = self.conns.find_mut(key);
        if let Some(conn) = conn {
            conn.lane.abandon(books);
        }
        self.close(now, key, 1013, reason, fx);
    }

    pub(super) fn idle_too_long(&mut self, now: Micros, key: ConnKey, fx: &mut Effects) {
        self.close(now, key, 1001, "no answer to pings", fx);
    }

    /// Who hears a stream has no other way to say goodbye than to close it.
    pub(super) fn stream_left(&mut self, now: Micros, key: ConnKey, fx: &mut Effects) {
        let Some((_, &Open { seat, .. })) = self.open_conn(key) else { return };
        let ending = Ending { code: NO_CODE, reason: "the client closed its stream", by: By::Client };
        self.leave_open(now, key, seat, ending, fx);
        self.gone(key, CloseMode::Graceful, fx);
    }

    /// The connection is of no use any more: no goodbye.
    pub(super) fn cut(&mut self, now: Micros, key: ConnKey, why: &str, fx: &mut Effects) {
        if self.upstream(key).is_some() {
            return self.upstream_cut(now, key, why, fx);
        }
        if let Some((_, Open { seat, .. })) = self.open_conn(key) {
            let seat = *seat;
            let ending = Ending { code: ABNORMAL, reason: why, by: By::Network };
            self.leave_open(now, key, seat, ending, fx);
            return self.gone(key, CloseMode::Graceful, fx);
        }
        self.cut_with(key, true, fx);
    }

    /// The same for a connection that is not open, or not any more.
    pub(super) fn cut_with(&mut self, key: ConnKey, graceful: bool, fx: &mut Effects) {
        let Some(conn) = self.conn(key) else { return };
        match &conn.phase {
            Phase::Gone => return,
            Phase::Head(_) => self.head_done(),
            Phase::Post(_) => self.forget_post(key),
            Phase::Open(_) | Phase::Upstream(_) | Phase::Closing(_) => {}
        }
        self.gone(key, if graceful { CloseMode::Graceful } else { CloseMode::Reset }, fx);
    }

    pub(super) fn gone(&mut self, key: ConnKey, mode: CloseMode, fx: &mut Effects) {
        let conn = self.conns.find_mut(key);
        if let Some(conn) = conn {
            let counters = self.upstreams.books_of(conn.upstream, &mut self.counters);
            let books = &mut Books { counters, pool: &mut self.pool, queues: &mut self.lane_queues };
            conn.phase = Phase::Gone;
            conn.held = None;
            conn.lane.clear(books);
            fx.push(Effect::Close(key, mode));
        }
    }
}
