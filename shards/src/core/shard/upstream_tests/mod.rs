//! Upstream sessions against a scripted server: what is dialled, said and told, and that nothing is left behind.

mod life;
mod random;

use ::core::net::SocketAddr;
use std::sync::Arc;

use super::super::effect::{Caller, Effect, Input, ReceiveMode, SendOutcome};
use super::super::frame::Gather;
use super::super::ids::{ConnKey, RoomKey, ShardId};
use super::super::model_server::{ModelServer, ModelServerSettings};
use super::super::time::Micros;
use super::super::upstream::{Line, UpstreamNews, UpstreamOrder};
use super::super::ws::{Decoder, Item};
use super::super::{CloseMode, ShardConfig};
use super::{Effects, Shard};

/// How the tests write what an engine is told.
pub(super) fn told_as(news: &UpstreamNews<'_>) -> String {
    match news {
        UpstreamNews::Message(bytes) => format!("Message({})", String::from_utf8_lossy(bytes)),
        other => format!("{other:?}"),
    }
}

/// The part of a room's engine, for tests of the runtime.
impl Shard {
    pub(crate) fn order_upstream(&mut self, now: Micros, room: RoomKey, order: UpstreamOrder) {
        self.carry_upstream(now, room, order);
    }

    pub(crate) fn send_upstream_text(&mut self, now: Micros, room: RoomKey, line: Line, text: &[u8]) {
        let message = self.pool.copy(text);
        self.carry_upstream(now, room, UpstreamOrder::Send { line, message });
    }

    pub(crate) fn told_upstream(&mut self) -> Vec<(Line, String)> {
        std::mem::take(&mut self.upstreams.told)
    }
}

/// A line of the test's room.
const LINE: Line = Line(1);

/// A socket that the shard has asked for or was given.
struct Socket {
    conn: ConnKey,
    /// What was sent on it.
    sent: Vec<u8>,
    /// Whether it takes nothing.
    full: bool,
    closed: Option<CloseMode>,
    mode: ReceiveMode,
}

/// A shard with one room, and what happened outside.
struct Rig {
    shard: Shard,
    server: Arc<ModelServer>,
    now: Micros,
    fx: Effects,
    sockets: Vec<Socket>,
    /// What was dialled and has not been answered.
    dials: Vec<(RoomKey, Line, SocketAddr)>,
    room: RoomKey,
}

impl Rig {
    fn new(change: impl FnOnce(&mut ModelServerSettings)) -> Self {
        let mut settings = ModelServerSettings {
            host: "models.example".into(),
            headers: "Authorization: Bearer k\r\n".into(),
            ..ModelServerSettings::default()
        };
        change(&mut settings);
        let server = Arc::new(ModelServer::new(settings));
        server.set_addresses(vec![address(1)]);
        let config = ShardConfig { model_server: Some(Arc::clone(&server)), ..ShardConfig::default() };
        let shard = Shard::new(ShardId(0), Arc::new(config), 7);
        let room = RoomKey { index: 0, generation: 0 };
        let now = Micros::from_s(100);
        let (fx, sockets, dials) = (Vec::new(), Vec::new(), Vec::new());
        let mut rig = Self { shard, server, now, fx, sockets, dials, room };
        rig.join();
        rig
    }

    /// A client joins the room; its socket is the first.
    fn join(&mut self) -> ConnKey {
        let conn = self.socket();
        let peer = Caller::At(address(99));
        self.give(Input::Accepted { conn, peer });
        let mut head =
            b"GET /ws/room?engine=echo HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
            Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
                .to_vec();
        self.receive(conn, &mut head);
        conn
    }

    fn socket(&mut self) -> ConnKey {
        let conn = ConnKey { index: self.sockets.len() as u32, generation: 0 };
        let mode = ReceiveMode::Paused;
        self.sockets.push(Socket { conn, sent: Vec::new(), full: false, closed: None, mode });
        conn
    }

    fn give(&mut self, input: Input<'_>) {
        self.shard.handle(self.now, input, &mut self.fx);
        self.turn();
    }

    fn receive(&mut self, conn: ConnKey, bytes: &mut [u8]) {
        if self.at(conn).closed.is_none() && !bytes.is_empty() {
            self.give(Input::Received { conn, bytes });
        }
    }

    fn order(&mut self, order: UpstreamOrder) {
        self.shard.carry_upstream(self.now, self.room, order);
    }

    fn dial(&mut self, line: Line) {
        self.order(UpstreamOrder::Dial { line, target: "/v1/realtime?model=m".into() });
    }

    fn send(&mut self, line: Line, text: &str) {
        let message = self.shard.pool.copy(text.as_bytes());
        self.order(UpstreamOrder::Send { line, message });
    }

    /// Ends turns until nothing is left to do.
    fn turn(&mut self) {
        for _ in 0..100 {
            self.shard.end_turn(self.now, &mut self.fx);
            if self.fx.is_empty() && !self.shard.has_more() {
                return;
            }
            while !self.fx.is_empty() {
                for effect in std::mem::take(&mut self.fx) {
                    self.carry_out(effect);
                }
            }
        }
        panic!("the shard spins");
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Dial { room, line, address } => self.dials.push((room, line, address)),
            Effect::Send(conn) => {
                let mut gather = Gather::default();
                self.shard.gather(conn, &mut gather);
                let socket = self.at(conn);
                let outcome = if socket.full {
                    SendOutcome::WouldBlock
                } else {
                    gather.slices().for_each(|part| socket.sent.extend_from_slice(part));
                    SendOutcome::Sent(gather.len())
                };
                // The kernel has answered: the lane is the last to let go of its blocks.
                gather.clear();
                self.shard.handle(self.now, Input::Sent { conn, outcome }, &mut self.fx);
            }
            Effect::Close(conn, mode) => {
                assert!(self.at(conn).closed.replace(mode).is_none(), "closed twice");
                self.shard.handle(self.now, Input::Closed { conn }, &mut self.fx);
            }
            Effect::Receive(conn, mode) => self.at(conn).mode = mode,
            _ => {}
        }
    }

    fn at(&mut self, conn: ConnKey) -> &mut Socket {
        &mut self.sockets[conn.index as usize]
    }

    /// Answers the oldest dial with a socket.
    fn take_dial(&mut self) -> ConnKey {
        let (room, line, _) = self.dials.remove(0);
        let conn = self.socket();
        self.give(Input::Dialled { room, line, outcome: Ok(conn) });
        conn
    }

    /// Dials, connects, and answers the handshake.
    fn open(&mut self, line: Line) -> ConnKey {
        self.dial(line);
        self.turn();
        let conn = self.take_dial();
        self.give(Input::Connected { conn, outcome: Ok(()) });
        let mut answer = self.accept(conn);
        self.receive(conn, &mut answer);
        assert_eq!(self.told(), [(line, "Open".to_owned())]);
        self.at(conn).sent.clear();
        conn
    }

    /// The 101 that the request on this socket wants.
    fn accept(&mut self, conn: ConnKey) -> Vec<u8> {
        let request = String::from_utf8_lossy(&self.at(conn).sent).into_owned();
        let (_, rest) = request.split_once("Sec-WebSocket-Key: ").expect("a key");
        let key = rest.split_once("\r\n").expect("a line").0;
        let mut answer = Vec::new();
        super::super::http::answer::switching_protocols(key.as_bytes(), None, None, &mut answer);
        answer
    }

    /// What engines were told since the last time.
    fn told(&mut self) -> Vec<(Line, String)> {
        std::mem::take(&mut self.shard.upstreams.told)
    }

    /// What the engine was told, all of it of one line.
    fn told_of(&mut self, line: Line) -> Vec<String> {
        let told = self.told();
        assert!(told.iter().all(|&(of, _)| of == line), "{told:?}");
        told.into_iter().map(|(_, news)| news).collect()
    }

    /// What was sent on a socket since the last time, as a server understands it.
    fn said(&mut self, conn: ConnKey) -> Vec<String> {
        let mut sent = std::mem::take(&mut self.at(conn).sent);
        let mut bytes = sent.as_mut_slice();
        let mut decoder = Decoder::new();
        let mut said = Vec::new();
        while let Some(item) = decoder.next(&mut bytes, 1 << 20).expect("a server understands it") {
            said.push(match item {
                Item::Text(text) => String::from_utf8(text.to_vec()).expect("checked"),
                Item::Ping(payload) => format!("ping {}", payload.len()),
                Item::Pong(payload) => format!("pong {}", String::from_utf8_lossy(payload)),
                Item::Close(close) => format!("close {:?}", close.map(|(code, _)| u16::from(code))),
                other => panic!("{other:?}"),
            });
        }
        said
    }

    /// Time goes by.
    fn wait(&mut self, span: Micros) {
        let until = self.now + span;
        while self.now < until {
            self.now = (self.now + Micros::from_ms(100)).min(until);
            self.turn();
        }
    }

    fn counters(&self) -> super::super::counters::UpstreamCounters {
        let mut counters = self.shard.counters.upstreams.clone();
        self.shard.upstreams.count_lanes(&mut counters);
        counters
    }

    /// Nothing is left of any session.
    fn assert_over(&mut self) {
        assert_eq!(self.server.sessions(), 0);
        assert_eq!(self.shard.upstreams.reserved, 0);
        let counters = self.counters();
        assert_eq!((counters.connecting, counters.open), (0, 0));
        assert_eq!((counters.queued_messages, counters.queued_bytes), (0, 0));
        let lines = |room: &super::super::room::Room| room.kept.as_ref().map_or(0, |kept| kept.lines.len());
        assert!(self.shard.rooms.iter().all(|(_, room)| lines(room) == 0), "no line is known any more");
    }
}

/// Address of a server that is not there.
fn address(last: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, last], 443))
}

/// A server's frame.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        len @ 0..=125 => frame.push(len as u8),
        len @ 126..=65_535 => {
            frame.push(126);
            frame.extend_from_slice(&(len as u16).to_be_bytes());
        }
        len => {
            frame.push(127);
            frame.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(payload);
    frame
}

fn text(payload: &str) -> Vec<u8> {
    frame(0x81, payload.as_bytes())
}

fn close(code: u16, reason: &str) -> Vec<u8> {
    frame(0x88, &[&code.to_be_bytes(), reason.as_bytes()].concat())
}
