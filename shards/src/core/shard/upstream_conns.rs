//! Connections in client role: from the answer to the handshake (RFC 6455 section 4.1) to messages, heartbeats and goodbyes.
//!
//! Each is in one phase, `Upstream`, until the last goodbye is in its lane; from then on it ends as those of clients do
//! (`closing`). However a line ends, its engine hears so once.

use super::super::conn::{Closing, Goodbye, Phase};
use super::super::counters::HUNG_UP;
use super::super::effect::{CloseMode, Ended};
use super::super::frame::{CLOSE, PING, PONG};
use super::super::http::Answered;
use super::super::ids::ConnKey;
use super::super::outbox::{Books, Message, Shape};
use super::super::time::Micros;
use super::super::upstream::{UpstreamEnd, UpstreamNews};
use super::super::upstream_conn::{At, Stage, Upstream};
use super::super::ws::{Item, OpCode, Rules};
use super::upstreams::{lost, mask_key};
use super::{Effects, Shard};

/// How much of a server's reason for its goodbye is kept.
const REASON_BYTES_MAX: usize = 123;

impl Shard {
    pub(super) fn upstream(&self, key: ConnKey) -> Option<&Upstream> {
        match &self.conns.find(key)?.phase {
            Phase::Upstream(upstream) => Some(upstream),
            _ => None,
        }
    }

    pub(super) fn upstream_mut(&mut self, key: ConnKey) -> Option<&mut Upstream> {
        match &mut self.conns.find_mut(key)?.phase {
            Phase::Upstream(upstream) => Some(upstream),
            _ => None,
        }
    }

    /// A live session is over: it is counted, the node has its place back, and the engine will hear of it. What becomes
    /// of the connection is the caller's business.
    pub(super) fn over(&mut self, now: Micros, key: ConnKey, end: UpstreamEnd) {
        let Some(upstream) = self.upstream_mut(key).filter(|upstream| upstream.stage.is_live()) else {
            return;
        };
        let (room, line) = (upstream.room, upstream.line);
        self.end_session(key);
        if let Some(server) = &self.config.model_server {
            match end {
                UpstreamEnd::Unreachable { .. } | UpstreamEnd::TimedOut => server.failed(now),
                UpstreamEnd::Refused { status: 500.., .. } => server.failed(now),
                _ => {}
            }
        }
        self.note_end(room, line, end);
    }

    /// A live session is one no more.
    fn end_session(&mut self, key: ConnKey) {
        let Some(upstream) = self.upstream_mut(key) else { return };
        let stage = std::mem::replace(&mut upstream.stage, Stage::Lost);
        upstream.opening = None;
        match stage {
            Stage::Connecting | Stage::Shaking => self.counters.upstreams.connecting -= 1,
            Stage::Open => self.counters.upstreams.open -= 1,
            Stage::Leaving | Stage::Lost => return,
        }
        self.release_session();
    }

    /// It is over, and there is nothing to be said to the server.
    pub(super) fn drop_upstream(&mut self, now: Micros, key: ConnKey, end: UpstreamEnd, fx: &mut Effects) {
        self.over(now, key, end);
        self.gone(key, CloseMode::Reset, fx);
    }

    /// The connection broke, or ended without a goodbye.
    pub(super) fn upstream_cut(&mut self, now: Micros, key: ConnKey, why: &str, fx: &mut Effects) {
        match self.upstream(key).map(|upstream| upstream.stage) {
            Some(Stage::Connecting) => self.connect_failed(now, key, why, fx),
            Some(Stage::Shaking) => {
                let why = format!("it hung up in the handshake: {why}").into();
                self.drop_upstream(now, key, UpstreamEnd::Unreachable { why }, fx);
            }
            Some(Stage::Open) => {
                self.over(now, key, lost(why));
                self.gone(key, CloseMode::Graceful, fx);
            }
            Some(Stage::Leaving | Stage::Lost) => self.gone(key, CloseMode::Graceful, fx),
            None => {}
        }
    }

    /// Nothing more will be received.
    pub(super) fn upstream_ended(&mut self, now: Micros, key: ConnKey, how: Ended, fx: &mut Effects) {
        let why = match how {
            Ended::Eof => "the connection ended without a goodbye",
            Ended::Broken => "the connection broke",
            Ended::Unsecured => "no secure channel came about",
        };
        self.upstream_cut(now, key, why, fx);
    }

    /// Nobody here wants more of it, or it was lost where no effects could be asked for.
    pub(super) fn hang_up(&mut self, now: Micros, key: ConnKey, fx: &mut Effects) {
        let Some(stage) = self.upstream(key).map(|upstream| upstream.stage) else { return };
        if stage.is_live() {
            self.counters.upstreams.ended[HUNG_UP] += 1;
            self.end_session(key);
        }
        match stage {
            Stage::Connecting | Stage::Shaking | Stage::Lost => self.gone(key, CloseMode::Reset, fx),
            Stage::Open => {
                let code = if self.draining.is_some() { 1001 } else { 1000 };
                self.say_upstream(now, key, CLOSE, Some((code, "")));
                let deadline = now + self.config.limits.close;
                if let Some(upstream) = self.upstream_mut(key) {
                    (upstream.stage, upstream.deadline) = (Stage::Leaving, deadline);
                }
                self.arm(now, key);
            }
            Stage::Leaving => {}
        }
    }

    pub(super) fn upstream_received(
        &mut self,
        now: Micros,
        key: ConnKey,
        bytes: &mut [u8],
        fx: &mut Effects,
    ) {
        self.counters.upstreams.bytes_received += bytes.len() as u64;
        let Some(conn) = self.conns.find_mut(key) else { return };
        conn.heard = now;
        match &mut conn.phase {
            Phase::Upstream(upstream) => {
                upstream.pinged = false;
                match upstream.stage {
                    Stage::Shaking => self.answer_bytes(now, key, bytes, fx),
                    Stage::Open | Stage::Leaving => self.upstream_bytes(now, key, bytes, fx),
                    Stage::Connecting | Stage::Lost => {}
                }
            }
            Phase::Closing(_) => self.closing_bytes(now, key, bytes, fx),
            Phase::Head(_) | Phase::Post(_) | Phase::Open(_) | Phase::Gone => {}
        }
    }

    /// Bytes of the answer to the handshake.
    fn answer_bytes(&mut self, now: Micros, key: ConnKey, bytes: &[u8], fx: &mut Effects) {
        let Some(opening) = self.upstream_mut(key).and_then(|upstream| upstream.opening.as_mut()) else {
            return;
        };
        opening.head.extend_from_slice(bytes);
        let Some(asked) = &opening.asked else { return };
        match asked.answered(&opening.head) {
            Answered::Partial => {}
            Answered::Open(len) => {
                let mut rest = std::mem::take(&mut opening.head);
                self.opened_upstream(now, key);
                self.upstream_bytes(now, key, &mut rest[len..], fx);
            }
            Answered::Refused { status, retry_after_s } => {
                let retry_after = retry_after_s.map(Micros::from_s);
                self.drop_upstream(now, key, UpstreamEnd::Refused { status, retry_after }, fx);
            }
            Answered::Wrong(why) => {
                self.drop_upstream(now, key, UpstreamEnd::Unreachable { why: why.into() }, fx);
            }
        }
    }

    fn opened_upstream(&mut self, now: Micros, key: ConnKey) {
        let Some(upstream) = self.upstream_mut(key) else { return };
        upstream.stage = Stage::Open;
        let began = upstream.opening.take().map_or(now, |opening| opening.began);
        let (room, line) = (upstream.room, upstream.line);
        let counters = &mut self.counters.upstreams;
        counters.connecting -= 1;
        counters.open += 1;
        counters.opened += 1;
        counters.connect_us.observe(now.since(began).0);
        if let Some(server) = &self.config.model_server {
            server.succeeded();
        }
        self.arm(now, key);
        self.upstream_news(now, room, line, UpstreamNews::Open);
    }

    /// Takes message after message from the bytes.
    fn upstream_bytes(&mut self, now: Micros, key: ConnKey, mut bytes: &mut [u8], fx: &mut Effects) {
        let Some(server) = &self.config.model_server else { return };
        let rules = Rules { message_bytes_max: server.settings.message_bytes_max, deflate: false };
        let Some(upstream) = self.upstream_mut(key) else { return };
        let mut decoder = std::mem::take(&mut upstream.decoder);
        let (room, line) = (upstream.room, upstream.line);
        loop {
            match decoder.next(&mut bytes, rules) {
                Ok(None) => break,
                Ok(Some(Item::Text(text))) => {
                    self.counters.upstreams.messages_received += 1;
                    // An engine that has said goodbye hears no more, though the server may still speak.
                    if matches!(self.known(room, line), Some(known) if matches!(known.at, At::On(on) if on == key))
                    {
                        self.upstream_news(now, room, line, UpstreamNews::Message(text));
                    }
                }
                Ok(Some(Item::Ping(payload))) => self.pong(now, key, payload),
                Ok(Some(Item::Pong(_))) => {}
                Ok(Some(Item::Close(close))) => {
                    let close = close.map(|(code, reason)| (u16::from(code), reason));
                    return self.server_closes(now, key, close, fx);
                }
                Ok(Some(Item::Binary(_) | Item::Compressed { .. })) => {
                    return self.fail_upstream(now, key, 1003, "a binary message", fx);
                }
                Err(violation) => {
                    return self.fail_upstream(now, key, violation.code.into(), violation.reason, fx);
                }
            }
        }
        if let Some(upstream) = self.upstream_mut(key) {
            upstream.decoder = decoder;
        }
    }

    fn pong(&mut self, now: Micros, key: ConnKey, payload: &[u8]) {
        if self.upstream(key).is_some_and(|upstream| upstream.stage == Stage::Open) {
            let pong = self.pool.copy(payload).seal_masked(PONG, mask_key(self.rng.next_u64()));
            self.push_upstream(now, key, Message::control(pong, now, Shape::Whole));
        }
    }

    /// A control frame of ours, with the code and reason of a close.
    fn say_upstream(&mut self, now: Micros, key: ConnKey, opcode: OpCode, code: Option<(u16, &str)>) {
        let frame = self.goodbye(code).seal_masked(opcode, mask_key(self.rng.next_u64()));
        self.enqueue_raw(now, key, Message::control(frame, now, Shape::Whole));
    }

    /// The server says goodbye, or answers ours.
    fn server_closes(&mut self, now: Micros, key: ConnKey, close: Option<(u16, &str)>, fx: &mut Effects) {
        if self.upstream(key).is_some_and(|upstream| !upstream.stage.is_live()) {
            // Both have said it; that a server closes first (section 7.1.1) is not waited for.
            return self.gone(key, CloseMode::Graceful, fx);
        }
        let (code, reason) = close.unwrap_or((1005, ""));
        let reason = reason[..reason.floor_char_boundary(REASON_BYTES_MAX)].into();
        self.over(now, key, UpstreamEnd::Closed { code, reason });
        self.say_last_upstream(now, key, Goodbye::Answered, close.map(|(code, _)| (code, "")));
    }

    /// The server broke a rule: the connection is failed (section 7.1.7).
    fn fail_upstream(&mut self, now: Micros, key: ConnKey, code: u16, reason: &str, fx: &mut Effects) {
        if self.upstream(key).is_some_and(|upstream| !upstream.stage.is_live()) {
            return self.gone(key, CloseMode::Reset, fx);
        }
        self.over(now, key, UpstreamEnd::Closed { code, reason: reason.into() });
        self.say_last_upstream(now, key, Goodbye::Last, Some((code, reason)));
    }

    /// What has not left is of no use any more; a goodbye is all that follows.
    fn say_last_upstream(&mut self, now: Micros, key: ConnKey, stage: Goodbye, code: Option<(u16, &str)>) {
        let deadline = now + self.config.limits.close;
        let Some(conn) = self.conns.find_mut(key) else { return };
        let counters = self.upstreams.books_of(true, &mut self.counters);
        let books = &mut Books { counters, pool: &mut self.pool, queues: &mut self.lane_queues };
        conn.lane.abandon(books);
        conn.phase = Phase::Closing(Closing { stage, decoder: None, deflate: false, deadline, discarded: 0 });
        self.say_upstream(now, key, CLOSE, code);
        self.arm(now, key);
    }

    /// A deadline of it has come, perhaps.
    pub(super) fn upstream_timer(
        &mut self,
        now: Micros,
        key: ConnKey,
        slow: bool,
        silent: Micros,
        fx: &mut Effects,
    ) {
        let heartbeat = self.config.heartbeat.clone();
        let Some(upstream) = self.upstream_mut(key) else { return };
        match upstream.stage {
            Stage::Open if slow => {
                self.over(now, key, lost("it takes nothing any more"));
                self.gone(key, CloseMode::Reset, fx);
            }
            Stage::Open if upstream.pinged && silent >= heartbeat.idle => {
                self.over(now, key, lost("no answer to pings"));
                self.gone(key, CloseMode::Reset, fx);
            }
            Stage::Open if !upstream.pinged && silent >= heartbeat.ping => {
                upstream.pinged = true;
                self.say_upstream(now, key, PING, None);
            }
            Stage::Connecting | Stage::Shaking if upstream.deadline <= now => {
                if let Some(address) = upstream.opening.as_ref().and_then(|opening| opening.address) {
                    self.upstreams.pass_over(now, address);
                }
                self.drop_upstream(now, key, UpstreamEnd::TimedOut, fx);
            }
            Stage::Leaving if upstream.deadline <= now => self.gone(key, CloseMode::Reset, fx),
            _ => {}
        }
    }
}
