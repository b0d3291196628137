//! Connections in client role: from a dial over the handshake (RFC 6455 section 4.1) to messages, heartbeats and goodbyes.
//!
//! Each is in one phase, `Upstream`, until the last goodbye is in its lane; from then on it ends as those of clients do
//! (`closing`). However a line ends, its engine hears so once.

use ::core::net::SocketAddr;

use super::super::allowance::Allowance;
use super::super::conn::{Closing, Conn, Goodbye, Phase, Told};
use super::super::counters::HUNG_UP;
use super::super::effect::{CloseMode, Effect, Ended, ReceiveMode};
use super::super::frame::{CLOSE, PING, PONG};
use super::super::http::{Answered, Asked, ask};
use super::super::ids::{ConnKey, RoomKey};
use super::super::outbox::{Books, Lane, Message, Shape};
use super::super::time::Micros;
use super::super::upstream::{Line, UpstreamEnd, UpstreamNews};
use super::super::upstream_conn::{At, Opening, Stage, Upstream};
use super::super::ws::{Decoder, Item, OpCode, Rules};
use super::upstreams::{PASSED_OVER, lost, mask_key};
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

    fn upstream_mut(&mut self, key: ConnKey) -> Option<&mut Upstream> {
        match &mut self.conns.find_mut(key)?.phase {
            Phase::Upstream(upstream) => Some(upstream),
            _ => None,
        }
    }

    /// Reserves a session and asks for a socket, or says why not.
    pub(super) fn dial(&mut self, now: Micros, room: RoomKey, line: Line, fx: &mut Effects) {
        let Some(At::Queued(opening)) = self.known(room, line).map(|known| &known.at) else { return };
        let again = opening.tries > 0;
        if !again && let Err(end) = self.reserve_session(now) {
            return self.note_end(room, line, end);
        }
        let Some(address) = self.next_address(now, again) else {
            let why = if again { "none of its addresses can be reached" } else { "its name has no address" };
            return self.give_up(room, line, UpstreamEnd::Unreachable { why: why.into() });
        };
        let Some(known) = self.known_mut(room, line) else { return };
        let At::Queued(opening) = std::mem::replace(&mut known.at, At::Over(Box::new(UpstreamEnd::TimedOut)))
        else {
            return;
        };
        let opening = Box::new(Opening { address: Some(address), tries: opening.tries + 1, ..*opening });
        known.at = At::Asked(opening);
        self.counters.upstreams.dialled += 1;
        fx.push(Effect::Dial { room, line, address });
    }

    fn reserve_session(&mut self, now: Micros) -> Result<(), UpstreamEnd> {
        let Some(server) = &self.config.model_server else {
            return Err(UpstreamEnd::Unreachable { why: "no realtime.url is set".into() });
        };
        server.reserve(now)?;
        self.upstreams.reserved += 1;
        self.counters.upstreams.connecting += 1;
        Ok(())
    }

    /// The address whose turn it is. One that failed a moment ago is passed over while there is another, and when there
    /// is none is tried again by the next line only.
    fn next_address(&mut self, now: Micros, again: bool) -> Option<SocketAddr> {
        let addresses = self.config.model_server.as_ref()?.addresses();
        let upstreams = &mut self.upstreams;
        upstreams.passed_over.retain(|&(address, until)| now < until && addresses.contains(&address));
        let turn = upstreams.turn;
        upstreams.turn = turn.wrapping_add(1);
        let in_turn = || (0..addresses.len()).map(|at| addresses[turn.wrapping_add(at) % addresses.len()]);
        let passed = |address: &SocketAddr| upstreams.passed_over.iter().any(|(passed, _)| passed == address);
        let good = in_turn().find(|address| !passed(address));
        good.or_else(|| in_turn().next().filter(|_| !again))
    }

    /// A line without a connection is over, and its session with it.
    fn give_up(&mut self, room: RoomKey, line: Line, end: UpstreamEnd) {
        self.counters.upstreams.connecting -= 1;
        self.release_session();
        self.note_end(room, line, end);
    }

    /// There is a socket, or there is none.
    pub(super) fn dialled(
        &mut self,
        now: Micros,
        room: RoomKey,
        line: Line,
        outcome: Result<ConnKey, Box<str>>,
        fx: &mut Effects,
    ) {
        let known = self.known_mut(room, line).filter(|known| matches!(known.at, At::Asked(_)));
        let Some(known) = known else {
            // Nobody waits for it any more.
            if let Ok(conn) = outcome {
                fx.push(Effect::Close(conn, CloseMode::Reset));
            }
            return;
        };
        let before = outcome.as_ref().map_or(At::Over(Box::new(UpstreamEnd::TimedOut)), |&conn| At::On(conn));
        let At::Asked(opening) = std::mem::replace(&mut known.at, before) else { return };
        match outcome {
            Ok(conn) => self.begin_upstream(now, conn, room, line, opening),
            Err(why) => self.not_connected(now, room, line, opening, &why),
        }
    }

    fn begin_upstream(
        &mut self,
        now: Micros,
        key: ConnKey,
        room: RoomKey,
        line: Line,
        opening: Box<Opening>,
    ) {
        let connect = self.config.model_server.as_ref().map_or(Micros(0), |server| server.settings.connect);
        let peer = opening.address.unwrap_or_else(|| SocketAddr::from(([0; 4], 0)));
        let upstream = Upstream {
            room,
            line,
            stage: Stage::Connecting,
            pinged: false,
            deadline: opening.began + connect,
            decoder: Decoder::for_client(),
            opening: Some(opening),
        };
        let conn = Conn {
            generation: key.generation,
            peer: peer.into(),
            phase: Phase::Upstream(Box::new(upstream)),
            lane: Lane::default(),
            heard: now,
            armed: Micros(0),
            held: None,
            paused: false,
            resuming: false,
            told: Told::Nothing,
            upstream: true,
            refused: 0,
            allowance: Allowance::default(),
        };
        let before = self.conns.insert(key.index, conn);
        debug_assert!(before.is_none(), "the pump gave a key twice");
        self.arm(now, key);
    }

    /// An address did not take the connection: the next one is tried, if there is one and time for it.
    fn not_connected(&mut self, now: Micros, room: RoomKey, line: Line, opening: Box<Opening>, why: &str) {
        if let Some(address) = opening.address {
            self.upstreams.passed_over.push((address, now + PASSED_OVER));
        }
        let Some(server) = self.config.model_server.clone() else { return };
        let in_time = now < opening.began + server.settings.connect;
        let others = opening.tries < server.addresses().len();
        if in_time
            && others
            && let Some(known) = self.known_mut(room, line)
        {
            known.at = At::Queued(opening);
            return self.queue_dial(room, line);
        }
        server.failed(now);
        self.give_up(room, line, UpstreamEnd::Unreachable { why: why.into() });
    }

    /// The socket takes bytes: the request goes out. Or it never will.
    pub(super) fn connected(
        &mut self,
        now: Micros,
        key: ConnKey,
        outcome: Result<(), Box<str>>,
        fx: &mut Effects,
    ) {
        if self.upstream(key).is_none_or(|upstream| upstream.stage != Stage::Connecting) {
            return;
        }
        if let Err(why) = outcome {
            return self.connect_failed(now, key, &why, fx);
        }
        match self.write_request(key) {
            Some((request, asked)) => {
                let request = self.pool.copy(&request).seal_raw();
                self.enqueue_raw(now, key, Message::control(request, now, Shape::Whole));
                if let Some(upstream) = self.upstream_mut(key) {
                    upstream.stage = Stage::Shaking;
                    if let Some(opening) = &mut upstream.opening {
                        opening.asked = Some(asked);
                    }
                }
                self.receive(key, ReceiveMode::Stream, fx);
            }
            None => {
                let why = "the path of realtime.url, or what was added to it, can't be asked for";
                self.drop_upstream(now, key, UpstreamEnd::Unreachable { why: why.into() }, fx);
            }
        }
    }

    fn write_request(&mut self, key: ConnKey) -> Option<(Vec<u8>, Asked)> {
        let mut nonce = [0; 16];
        for half in nonce.chunks_mut(8) {
            half.copy_from_slice(&self.rng.next_u64().to_ne_bytes());
        }
        let settings = &self.config.model_server.as_ref()?.settings;
        let target = &self.upstream(key)?.opening.as_ref()?.target;
        let mut request = Vec::new();
        let asked = ask(&settings.host, target, &settings.headers, nonce, &mut request)?;
        Some((request, asked))
    }

    /// No connection came about at this address.
    fn connect_failed(&mut self, now: Micros, key: ConnKey, why: &str, fx: &mut Effects) {
        let Some(upstream) = self.upstream_mut(key) else { return };
        upstream.stage = Stage::Lost;
        let (room, line, opening) = (upstream.room, upstream.line, upstream.opening.take());
        self.gone(key, CloseMode::Reset, fx);
        if let Some(opening) = opening {
            self.not_connected(now, room, line, opening, why);
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
    fn drop_upstream(&mut self, now: Micros, key: ConnKey, end: UpstreamEnd, fx: &mut Effects) {
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
            Phase::Head(_) | Phase::Open(_) | Phase::Gone => {}
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
                let address = upstream.opening.as_ref().and_then(|opening| opening.address);
                let passed_over = address.map(|address| (address, now + PASSED_OVER));
                self.upstreams.passed_over.extend(passed_over);
                self.drop_upstream(now, key, UpstreamEnd::TimedOut, fx);
            }
            Stage::Leaving if upstream.deadline <= now => self.gone(key, CloseMode::Reset, fx),
            _ => {}
        }
    }
}
