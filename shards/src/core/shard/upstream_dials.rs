//! From an engine's wish for a session to the request that asks for one: places, addresses, sockets.

use ::core::net::SocketAddr;

use super::super::conn::{Conn, Phase};
use super::super::effect::{CloseMode, Effect, ReceiveMode};
use super::super::http::{Asked, ask};
use super::super::ids::{ConnKey, RoomKey};
use super::super::outbox::{Message, Shape};
use super::super::time::Micros;
use super::super::upstream::{Line, UpstreamEnd};
use super::super::upstream_conn::{At, Opening, Stage, Upstream};
use super::super::ws::Decoder;
use super::{Effects, Shard};

impl Shard {
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
        let conn = Conn::new(now, key, peer, Phase::Upstream(Box::new(upstream)));
        let before = self.conns.insert(key.index, conn);
        debug_assert!(before.is_none(), "the pump gave a key twice");
        self.arm(now, key);
    }

    /// An address did not take the connection: the next one is tried, if there is one and time for it.
    fn not_connected(&mut self, now: Micros, room: RoomKey, line: Line, opening: Box<Opening>, why: &str) {
        if let Some(address) = opening.address {
            self.upstreams.pass_over(now, address);
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
        let target = settings.target(&self.upstream(key)?.opening.as_ref()?.target);
        let mut request = Vec::new();
        let asked = ask(&settings.host, &target, &settings.headers, nonce, &mut request)?;
        Some((request, asked))
    }

    /// No connection came about at this address.
    pub(super) fn connect_failed(&mut self, now: Micros, key: ConnKey, why: &str, fx: &mut Effects) {
        let Some(upstream) = self.upstream_mut(key) else { return };
        upstream.stage = Stage::Lost;
        let (room, line, opening) = (upstream.room, upstream.line, upstream.opening.take());
        self.gone(key, CloseMode::Reset, fx);
        if let Some(opening) = opening {
            self.not_connected(now, room, line, opening, why);
        }
    }
}
