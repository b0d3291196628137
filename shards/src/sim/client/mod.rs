//! The clients: independent of the server's code, each with a plan for its connection and books of what it is owed.

mod act;
mod hear;
mod ledger;
mod memory;
mod plan;
mod wire;

use std::collections::VecDeque;

use super::dice::Dice;
use super::pipe::{Holder, Pipe, Socket, SocketId};
use super::world::{Event, World};
use crate::core::Micros;
use ledger::Ledger;
use memory::{Arrival, Memory};
use plan::{HeadManner, Leave, Plan, Reading, Target};

/// How long a client that waits for the rest of its answers hears nothing before something is wrong.
const SILENCE_MAX: Micros = Micros::from_s(40);
/// How long a healthy client waits for its echo.
const ECHO_MAX: Micros = Micros::from_s(3);
/// How often the books are looked at while they don't settle.
const SETTLE_ROUNDS_MAX: u32 = 40;

/// One client over all its connections.
#[derive(Debug)]
pub(super) struct Client {
    dice: Dice,
    /// Connections so far.
    pub(super) number: u16,
    /// The last moment it has set itself; earlier ones don't count any more.
    alarm: u64,
    pub(super) conn: Option<Connection>,
    /// What it remembers of its room.
    memory: Option<Memory>,
}

/// A client's connection.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) socket: SocketId,
    plan: Plan,
    stage: Stage,
    /// Bytes that the network has not taken.
    out: VecDeque<u8>,
    /// Bytes of the head that are held back.
    head: VecDeque<u8>,
    heard: Vec<u8>,
    heard_bytes: usize,
    ledger: Ledger,
    arrival: Arrival,
    messages: u64,
    left: u64,
    rounds: u32,
    /// What the server had not read when last looked.
    unread: usize,
    /// Whether the server has said goodbye.
    goodbye: bool,
    /// Whether it reads.
    reading: bool,
    /// When something of use last came or went.
    progress: Micros,
    /// Since when an echo is due.
    owed_since: Micros,
    /// When it said or heard the last of it.
    closed: bool,
}

/// How far a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// No answer has come.
    Asking,
    /// It talks.
    Open,
    /// It has asked for everything outstanding and waits.
    Settling,
    /// It has said goodbye and waits for the end.
    Leaving,
    /// It has gone without a word: it neither reads nor writes.
    Vanished,
}

impl World {
    pub(super) fn new_client(dice: &mut Dice) -> Client {
        Client { dice: dice.split(), number: 0, alarm: 0, conn: None, memory: None }
    }

    /// A moment that a client has set itself.
    pub(super) fn client_wake(&mut self, client: usize, alarm: u64) {
        if self.clients[client].alarm != alarm {
            return;
        }
        match self.clients[client].conn.as_ref().map(|conn| conn.stage) {
            None => self.client_connect(client),
            Some(Stage::Asking) => self.client_drip(client),
            Some(Stage::Open) => self.client_act(client),
            Some(Stage::Settling) => self.client_settle(client),
            Some(Stage::Leaving | Stage::Vanished) => self.client_end(client),
        }
    }

    fn client_connect(&mut self, client: usize) {
        if self.now >= self.scenario.play {
            return;
        }
        let me = &mut self.clients[client];
        me.number += 1;
        let plan = Plan::draw(&mut me.dice, &self.scenario, client, me.memory.as_ref());
        let faults = &self.scenario.faults;
        let (low, high) = faults.capacity;
        let socket = Socket {
            client,
            number: me.number,
            up: Pipe::new(me.dice.size(low, high)),
            down: Pipe::new(me.dice.size(low, high)),
            latency: Micros(me.dice.range(10, faults.latency_max.0.max(10))),
            reset: false,
            holder: Holder::Nobody,
            moves: 0,
            life: self.lives.number,
        };
        let (number, latency) = (me.number, socket.latency);
        let id = SocketId(self.sockets.len());
        self.trace.say(self.now, format_args!("client {client}.{number} socket {} connects: {plan:?}", id.0));
        self.sockets.push(socket);
        let echoes = matches!(plan.target, Target::Room(_, "echo"));
        let ledger = Ledger::new(plan.pure(), echoes, plan.subprotocol == 2);
        let head: VecDeque<u8> = plan.head_bytes().into();
        let left = plan.actions;
        self.clients[client].conn = Some(Connection {
            socket: id,
            plan,
            stage: Stage::Asking,
            out: VecDeque::new(),
            head,
            heard: Vec::new(),
            heard_bytes: 0,
            ledger,
            arrival: Arrival::default(),
            messages: 0,
            left,
            rounds: 0,
            unread: 0,
            goodbye: false,
            reading: true,
            progress: self.now,
            owed_since: self.now,
            closed: false,
        });
        self.schedule(self.now + latency, Event::Arrival(id));
        self.client_drip(client);
    }

    /// Sends the head, or some of it.
    fn client_drip(&mut self, client: usize) {
        let me = &mut self.clients[client];
        let Some(conn) = me.conn.as_mut() else { return };
        let bytes = match conn.plan.head {
            HeadManner::Dripping(bytes) => bytes,
            _ => conn.head.len(),
        };
        let taken: Vec<u8> = conn.head.drain(..bytes.min(conn.head.len())).collect();
        conn.out.extend(taken);
        let again = !conn.head.is_empty();
        let early = conn.head.is_empty() && conn.plan.eager && conn.plan.proper && conn.ledger.spoken == 0;
        let pause = me.dice.range(1_000, 150_000);
        if early && conn.plan.pure() {
            self.client_speak(client, false);
        }
        self.client_flush(client);
        if again {
            self.client_wake_in(client, Micros(pause));
        }
    }

    /// Gives the network what it takes.
    pub(super) fn client_flush(&mut self, client: usize) {
        let now = self.now;
        let Some(conn) = self.clients[client].conn.as_mut() else { return };
        let socket = &mut self.sockets[conn.socket.0];
        if socket.reset || socket.up.ended() || conn.stage == Stage::Vanished {
            return conn.out.clear();
        }
        if conn.out.is_empty() {
            return;
        }
        let bytes: Vec<u8> = conn.out.drain(..socket.up.space().min(conn.out.len())).collect();
        if bytes.is_empty() {
            return;
        }
        if conn.out.len() > 200 {
            conn.progress = now;
        }
        let id = conn.socket;
        let latency = socket.latency;
        let at = socket.up.write(now, latency, &bytes);
        self.maybe_stall(id, true);
        self.schedule(at, Event::Arrived(id, true));
    }

    /// Now and then a direction stalls behind what was written.
    pub(super) fn maybe_stall(&mut self, id: SocketId, up: bool) {
        let faults = &self.scenario.faults;
        let (often, most) = (faults.stall_permille, faults.stall_max.0);
        if self.dice.permille(often) {
            let until = self.now + Micros(self.dice.range(0, most));
            let socket = &mut self.sockets[id.0];
            let pipe = if up { &mut socket.up } else { &mut socket.down };
            pipe.stalled_until = until;
        }
    }

    /// Something arrived for a client, or its connection broke.
    pub(super) fn client_notice(&mut self, id: SocketId) {
        let (client, number) = (self.sockets[id.0].client, self.sockets[id.0].number);
        if self.clients[client].number == number {
            self.client_hear(client);
        }
    }

    fn client_send(&mut self, client: usize, bytes: &[u8]) {
        if let Some(conn) = self.clients[client].conn.as_mut()
            && !conn.closed
        {
            conn.out.extend(bytes);
        }
        self.client_flush(client);
    }

    pub(super) fn client_wake_in(&mut self, client: usize, span: Micros) {
        let me = &mut self.clients[client];
        me.alarm += 1;
        let alarm = me.alarm;
        self.schedule(self.now + span, Event::ClientWake(client, alarm));
    }

    /// Waits until everything asked for has been answered, looks into the books, and leaves.
    fn client_settle(&mut self, client: usize) {
        let now = self.now;
        let slack = self.scenario.faults.slack() + self.scenario.config.outbox.coalesce;
        let (restored, memory) = self.client_memory_settles(client);
        let Some(conn) = self.clients[client].conn.as_mut() else { return };
        let trusted = conn.plan.proper && !matches!(conn.plan.reading, Reading::Stopping(_));
        let answered = restored
            && conn.ledger.pongs == conn.ledger.pings
            && (!conn.plan.pure() || conn.ledger.committed == conn.ledger.commits);
        if !answered {
            let socket = &self.sockets[conn.socket.0];
            let stalled = socket.up.stalled_until > now || socket.down.stalled_until > now;
            // A long way to go, byte by byte, is a way all the same.
            let unread = std::mem::replace(&mut conn.unread, socket.up.capacity() - socket.up.space());
            if stalled || unread > conn.unread {
                conn.progress = now;
            }
            if trusted && now.since(conn.progress) > SILENCE_MAX {
                let books = format!("{:?}", conn.ledger);
                return self.fail(format!("client {client} waits for its answers for ever: {books}"));
            }
            if !trusted && now.since(conn.progress) > Micros::from_s(5) {
                return self.client_leave(client);
            }
            return self.client_wake_in(client, Micros::from_ms(200) + slack);
        }
        conn.rounds += 1;
        let rounds = conn.rounds;
        match conn.ledger.settle().and(memory) {
            Ok(()) if rounds > 1 => {
                self.settled += 1;
                self.client_leave(client);
            }
            Err(why) if rounds > SETTLE_ROUNDS_MAX && trusted => {
                self.fail(format!("client {client} was not told the truth: {why}"));
            }
            Err(_) if rounds > SETTLE_ROUNDS_MAX => self.client_leave(client),
            _ => {
                // Another round: what was still to be told of is told by then.
                self.client_ping(client);
                self.client_wake_in(client, Micros::from_ms(300) + slack);
            }
        }
    }

    fn client_leave(&mut self, client: usize) {
        let Some(conn) = self.clients[client].conn.as_mut() else { return };
        let (leave, id) = (conn.plan.leave, conn.socket);
        self.trace.say(self.now, format_args!("client {client} leaves: {leave:?}"));
        conn.stage = Stage::Leaving;
        conn.reading = true;
        let patience = self.scenario.config.limits.close + Micros::from_s(4);
        match leave {
            Leave::Polite | Leave::CloseAndEnd => {
                self.client_send_close(client, 1000);
                if leave == Leave::CloseAndEnd {
                    self.end_up(id);
                }
            }
            Leave::HalfClose => self.end_up(id),
            Leave::Vanish => {
                conn.stage = Stage::Vanished;
                conn.reading = false;
                conn.out.clear();
            }
            Leave::Reset => return self.client_end(client),
        }
        self.client_wake_in(client, patience);
        self.client_hear(client);
    }

    fn client_send_close(&mut self, client: usize, code: u16) {
        let key = self.clients[client].dice.number() as u32;
        let bytes = wire::frame(0x80 | wire::CLOSE, &code.to_be_bytes(), key.to_le_bytes());
        self.client_send(client, &bytes);
        if let Some(conn) = self.clients[client].conn.as_mut() {
            conn.closed = true;
        }
    }

    /// Ends the client's half once everything said is under way; what the network has not taken is lost.
    fn end_up(&mut self, id: SocketId) {
        let now = self.now;
        let socket = &mut self.sockets[id.0];
        let latency = socket.latency;
        let at = socket.up.end(now, latency);
        self.schedule(at, Event::Arrived(id, true));
    }

    /// The client has done with its connection: what is left of it is reset, unless it vanished.
    pub(super) fn client_end(&mut self, client: usize) {
        let now = self.now;
        let me = &mut self.clients[client];
        let number = me.number;
        let Some(conn) = me.conn.take() else { return };
        self.trace.say(now, format_args!("client {client}.{number} ends its connection"));
        let socket = &mut self.sockets[conn.socket.0];
        if conn.stage != Stage::Vanished
            && !socket.reset
            && !socket.up.ended()
            && socket.holder != Holder::Closed
        {
            socket.reset = true;
            let at = now + socket.latency;
            self.schedule(at, Event::Arrived(conn.socket, true));
        }
        let dice = &mut self.clients[client].dice;
        let most = dice.pick(&[1_000, 100_000, 2_000_000]);
        let rest = Micros(dice.range(0, most));
        self.client_wake_in(client, rest);
    }

    /// The server ended a connection that gave no reason for it.
    fn turned_out(&mut self, client: usize, how: &str) {
        let Some(conn) = &self.clients[client].conn else { return };
        let expected = matches!(conn.stage, Stage::Leaving | Stage::Vanished);
        if self.scenario.gentle && conn.plan.proper && !expected && !self.node_ends(conn.socket) {
            self.fail(format!("client {client} kept every rule and was turned out: {how}"));
        }
    }

    /// Cuts a share of all connections at one moment.
    pub(super) fn storm(&mut self) {
        for client in 0..self.clients.len() {
            if self.dice.permille(700) {
                self.client_end(client);
            }
        }
    }
}
