//! A shard's pump, as the runtime has it: one input after another, what the core asks for carried out in order, a
//! send gathered only when it is submitted. It checks that the core keeps its side of the contract.

use std::collections::VecDeque;

use super::dice::Dice;
use super::pipe::{Holder, SocketId};
use super::world::{Event, World};
use crate::core::message::Handoff;
use crate::core::{
    Caller, CloseMode, ConnKey, Destination, Effect, Effects, Ended, Gather, Input, Micros, ReceiveMode,
    SendOutcome, Shard, ShardMessage,
};

/// Turns at one moment after which a shard is said to spin.
const TURNS_AT_ONCE_MAX: u32 = 2_000;

/// A shard with what the runtime keeps for it.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) shard: Shard,
    pub(super) slots: Vec<Slot>,
    free: Vec<u32>,
    /// Connections in the listener's queue.
    pub(super) backlog: VecDeque<SocketId>,
    pub(super) completions: VecDeque<Completion>,
    /// Connections with something to send.
    pub(super) ready: VecDeque<ConnKey>,
    /// Keys that have become free and were not reported yet.
    closed: Vec<ConnKey>,
    turn_at: Option<Micros>,
    last_turn: Micros,
    turns_at_once: u32,
    pub(super) turns: u64,
    pub(super) drained_at: Option<(Micros, Micros)>,
    /// It only tells the store the rest, until then at most.
    pub(super) leaving: Option<Micros>,
    /// It has.
    pub(super) left: bool,
    pub(super) counts: Counts,
}

/// The world's own counts, to be compared with the shard's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) accepted: u64,
    pub(super) moved_in: u64,
    pub(super) moved_out: u64,
    pub(super) handed_over: u64,
    pub(super) bytes_received: u64,
    pub(super) bytes_sent: u64,
}

/// A place for a connection; its generation tells its holders apart.
#[derive(Debug, Default)]
pub(super) struct Slot {
    pub(super) generation: u32,
    pub(super) live: Option<Live>,
}

/// What the runtime knows of a connection, and what the oracle remembers of it.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) socket: SocketId,
    pub(super) mode: ReceiveMode,
    pub(super) receive: Operation,
    pub(super) poll: Operation,
    /// Completions that wait to be booked.
    pub(super) pending: u32,
    /// Whether it stands among those with something to send.
    pub(super) queued: bool,
    /// What a send that is out carries, and how it will end.
    pub(super) send: Option<(Gather, SendOutcome)>,
    pub(super) closing: Option<CloseMode>,
    shut_down: bool,
    /// Whether its request head is being read.
    pub(super) head: bool,
    pub(super) began: Micros,
    pub(super) received_at: Micros,
    /// When it was last heard while it was a member; known only where the oracle looks after every turn.
    pub(super) heard_open: Option<Micros>,
    /// Since when its lane may not have been empty after a block.
    pub(super) blocked_since: Option<Micros>,
    /// Since when it has been seen unread though nothing waits for it.
    pub(super) unread_since: Option<Micros>,
    /// Since when no send has gone through whole after a block.
    pub(super) stuck_since: Option<Micros>,
}

/// An operation that the kernel may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    Idle,
    /// It waits for something to happen.
    Armed,
    /// It will complete at a moment that is set.
    Coming,
}

/// What the kernel has reported and the pump has not booked.
#[derive(Debug)]
pub(super) enum Completion {
    Received(ConnKey, Vec<u8>),
    Ended(ConnKey, Ended),
    Sent(ConnKey),
    Writable(ConnKey),
    /// An operation came back without a result.
    Withdrawn(ConnKey),
}

impl Node {
    pub(super) fn new(shard: Shard) -> Self {
        Self {
            shard,
            slots: Vec::new(),
            free: Vec::new(),
            backlog: VecDeque::new(),
            completions: VecDeque::new(),
            ready: VecDeque::new(),
            closed: Vec::new(),
            turn_at: None,
            last_turn: Micros(0),
            turns_at_once: 0,
            turns: 0,
            drained_at: None,
            leaving: None,
            left: false,
            counts: Counts::default(),
        }
    }

    pub(super) fn live(&mut self, key: ConnKey) -> Option<&mut Live> {
        let slot = self.slots.get_mut(key.index as usize).filter(|slot| slot.generation == key.generation)?;
        slot.live.as_mut()
    }

    fn insert(&mut self, now: Micros, socket: SocketId) -> ConnKey {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            self.slots.len() as u32 - 1
        });
        let slot = &mut self.slots[index as usize];
        slot.live = Some(Live {
            socket,
            mode: ReceiveMode::Paused,
            receive: Operation::Idle,
            poll: Operation::Idle,
            pending: 0,
            queued: false,
            send: None,
            closing: None,
            shut_down: false,
            head: true,
            began: now,
            received_at: now,
            heard_open: None,
            blocked_since: None,
            unread_since: None,
            stuck_since: None,
        });
        ConnKey { index, generation: slot.generation }
    }

    /// Frees a key; it is reported before anything else happens.
    pub(super) fn remove(&mut self, key: ConnKey, dice: &mut Dice) -> Option<Live> {
        let slot = self.slots.get_mut(key.index as usize).filter(|slot| slot.generation == key.generation)?;
        let live = slot.live.take()?;
        slot.generation += 1;
        self.closed.push(key);
        let at = dice.size(0, self.free.len());
        self.free.insert(at, key.index);
        Some(live)
    }
}

pub(super) fn name(shard: usize, key: ConnKey) -> u64 {
    (shard as u64) << 56 | u64::from(key.index) << 32 | u64::from(key.generation)
}

impl World {
    /// A shard has something to do.
    pub(super) fn wake(&mut self, shard: usize) {
        let delay = Micros(self.dice.range(0, self.scenario.faults.turn_delay_max.0));
        self.wake_at(shard, self.now + delay);
    }

    pub(super) fn wake_at(&mut self, shard: usize, at: Micros) {
        let node = &mut self.nodes[shard];
        if node.turn_at.is_none_or(|set| set > at) {
            node.turn_at = Some(at);
            self.schedule(at, Event::Turn(shard));
        }
    }

    /// Turns are as late as it happens, as long as clients come and go.
    fn feel_lag(&mut self, shard: usize) {
        let most = if self.now < self.scenario.play { self.scenario.faults.turn_delay_max.0 } else { 0 };
        let lag = Micros(self.dice.range(0, most));
        self.nodes[shard].shard.lagged(self.now, lag);
    }

    /// One turn of a shard.
    pub(super) fn turn(&mut self, shard: usize) {
        let now = self.now;
        if self.nodes[shard].turn_at != Some(now) {
            return;
        }
        self.nodes[shard].turn_at = None;
        if self.nodes[shard].leaving.is_some() {
            return self.say_the_rest(shard);
        }
        if self.dice.permille(self.scenario.faults.pause_permille) {
            let until = now + Micros(self.dice.range(1, self.scenario.faults.pause_max.0.max(1)));
            return self.wake_at(shard, until);
        }
        self.count_turn(shard);
        self.feel_lag(shard);
        self.book_completions(shard);
        self.take_messages(shard);
        self.take_accepted(shard);
        let mut fx = Effects::new();
        let node = &mut self.nodes[shard];
        node.shard.end_turn(now, &mut fx);
        self.trace.step(now, "end of turn", (shard as u64) << 56, &[]);
        self.carry_out(shard, fx);
        self.look(shard);
        self.submit_sends(shard);
        self.deliver_parcels(shard);
        self.deliver_remembers(shard);
        if self.scenario.store.is_some() {
            self.hear_all();
            self.go_on_leaving(shard);
        }
        let node = &mut self.nodes[shard];
        if !node.completions.is_empty() || !node.ready.is_empty() || self.may_accept(shard) {
            self.wake(shard);
        }
        if let Some(deadline) = self.nodes[shard].shard.next_deadline() {
            self.wake_at(shard, deadline.max(now));
        }
    }

    fn count_turn(&mut self, shard: usize) {
        let now = self.now;
        let node = &mut self.nodes[shard];
        node.turns += 1;
        node.turns_at_once = if node.last_turn == now { node.turns_at_once + 1 } else { 0 };
        node.last_turn = now;
        let spins = node.turns_at_once > TURNS_AT_ONCE_MAX;
        self.require(!spins, || format!("shard {shard} spins"));
    }

    fn may_accept(&self, shard: usize) -> bool {
        !self.nodes[shard].backlog.is_empty() && self.nodes[shard].shard.accepting()
    }

    fn take_accepted(&mut self, shard: usize) {
        while self.may_accept(shard) {
            let Some(socket) = self.nodes[shard].backlog.pop_front() else { return };
            let conn = self.nodes[shard].insert(self.now, socket);
            self.nodes[shard].counts.accepted += 1;
            self.sockets[socket.0].holder = Holder::Slot(shard, conn);
            let peer = Caller::At(peer(self.sockets[socket.0].client, socket));
            self.tell(shard, Input::Accepted { conn, peer });
        }
    }

    pub(super) fn adopt(&mut self, shard: usize, handoff: Handoff<SocketId>) {
        let Handoff { socket, mut head, peer, via } = handoff;
        let conn = self.nodes[shard].insert(self.now, socket);
        self.nodes[shard].counts.moved_in += 1;
        self.sockets[socket.0].holder = Holder::Slot(shard, conn);
        self.tell(shard, Input::Adopted { conn, peer, via, head: &mut head });
    }

    /// Brings the core one input and does what it asks for.
    pub(super) fn tell(&mut self, shard: usize, input: Input<'_>) {
        let now = self.now;
        match &input {
            Input::Accepted { conn, .. } => self.trace.step(now, "accepted", name(shard, *conn), &[]),
            Input::Adopted { conn, head, .. } => self.trace.step(now, "adopted", name(shard, *conn), head),
            Input::Received { conn, bytes } => self.trace.step(now, "received", name(shard, *conn), bytes),
            Input::Ended { conn, how } => {
                let what = if *how == Ended::Eof { "eof" } else { "broken" };
                self.trace.step(now, what, name(shard, *conn), &[]);
            }
            Input::Sent { conn, outcome } => {
                let text = format!("{outcome:?}");
                self.trace.step(now, "sent", name(shard, *conn), text.as_bytes());
            }
            Input::Writable { conn } => self.trace.step(now, "writable", name(shard, *conn), &[]),
            Input::Closed { conn } => self.trace.step(now, "closed", name(shard, *conn), &[]),
            Input::Dialled { line, outcome, .. } => {
                let text = format!("{outcome:?}");
                self.trace.step(now, "dialled", u64::from(line.0), text.as_bytes());
            }
            Input::Connected { conn, outcome } => {
                let text = format!("{outcome:?}");
                self.trace.step(now, "connected", name(shard, *conn), text.as_bytes());
            }
            Input::Ask { id, .. } => self.trace.step(now, "asked", id.0, &[]),
            Input::Worked(worked) => self.trace.step(now, "worked", worked.request.0, &[]),
            Input::Parcel { from, .. } => self.trace.step(now, "parcel", u64::from(from.0), &[]),
            Input::Recalled(_) => self.trace.step(now, "recalled", 0, &[]),
            Input::RememberAgain(_) => self.trace.step(now, "remember again", 0, &[]),
            Input::Drain { window } => self.trace.step(now, "drain", window.0, &[]),
            Input::Evacuate => self.trace.step(now, "evacuate", 0, &[]),
        }
        let mut fx = Effects::new();
        self.nodes[shard].shard.handle(now, input, &mut fx);
        self.carry_out(shard, fx);
    }

    /// Does what the core has asked for, in order, and reports the keys that became free by it.
    fn carry_out(&mut self, shard: usize, mut fx: Effects) {
        loop {
            for effect in fx.drain(..) {
                self.carry_out_one(shard, effect);
            }
            let Some(conn) = self.nodes[shard].closed.pop() else { return };
            self.trace.step(self.now, "closed", name(shard, conn), &[]);
            self.nodes[shard].shard.handle(self.now, Input::Closed { conn }, &mut fx);
        }
    }

    /// Reports the keys that have become free.
    pub(super) fn report_closed(&mut self, shard: usize) {
        self.carry_out(shard, Effects::new());
    }

    fn carry_out_one(&mut self, shard: usize, effect: Effect) {
        let now = self.now;
        let of = match &effect {
            Effect::Receive(conn, _) | Effect::Send(conn) | Effect::AwaitWritable(conn) => Some(*conn),
            Effect::Move { conn, .. } | Effect::Shutdown(conn) | Effect::Close(conn, _) => Some(*conn),
            Effect::Answer(..)
            | Effect::Audit(_)
            | Effect::Dial { .. }
            | Effect::UpstreamFailed(_)
            | Effect::Recall(_)
            | Effect::DeadLetter(_)
            | Effect::Work(_) => None,
        };
        if let Some(key) = of {
            let text = match &effect {
                Effect::Move { to, .. } => format!("Move({to:?})"),
                other => format!("{other:?}"),
            };
            self.trace.step(now, "does", name(shard, key), text.as_bytes());
            let named = self.nodes[shard].live(key).map(|live| live.closing.is_none());
            if named != Some(true) {
                let state = if named.is_some() { "closing" } else { "free" };
                return self.fail(format!("{text} for a key that is {state}"));
            }
        }
        match effect {
            Effect::Receive(key, mode) => self.change_receive(shard, key, mode),
            Effect::Send(key) => self.queue_send(shard, key),
            Effect::AwaitWritable(key) => self.await_writable(shard, key),
            Effect::Move { conn, to, head, peer, via } => {
                self.move_away(shard, conn, to, |socket| Handoff { socket, head, peer, via });
            }
            Effect::Dial { room, line, .. } => {
                let outcome = Err("there is no network here".into());
                self.tell(shard, Input::Dialled { room, line, outcome });
            }
            // For the operator, of whom there is none here.
            Effect::UpstreamFailed(_) => {}
            Effect::Shutdown(key) => self.shut_down(shard, key),
            Effect::Close(key, mode) => {
                if let Some(live) = self.nodes[shard].live(key) {
                    live.closing = Some(mode);
                }
                self.go_on_closing(shard, key);
            }
            Effect::Answer(id, answer) => self.answer(shard, id, answer),
            Effect::Audit(record) => self.check_record(shard, &record),
            Effect::Recall(session) => self.ask_store(shard, session),
            Effect::DeadLetter(_) => {}
            // No simulated room has workers.
            Effect::Work(work) => self.fail(format!("shard {shard} wants workers: {work:?}")),
        }
    }

    fn queue_send(&mut self, shard: usize, key: ConnKey) {
        let node = &mut self.nodes[shard];
        let Some(live) = node.live(key) else { return };
        let second = live.queued || live.send.is_some() || live.shut_down;
        live.queued = true;
        node.ready.push_back(key);
        self.require(!second, || format!("a second send, or one after the end, on {key:?} of shard {shard}"));
    }

    fn shut_down(&mut self, shard: usize, key: ConnKey) {
        let Some(live) = self.nodes[shard].live(key) else { return };
        let early = live.queued || live.send.is_some() || live.shut_down;
        live.shut_down = true;
        let socket = live.socket;
        self.require(!early, || {
            format!("{key:?} of shard {shard} is shut down while something is being sent")
        });
        self.end_down(socket);
    }

    fn move_away(
        &mut self,
        shard: usize,
        key: ConnKey,
        to: Destination,
        handoff: impl FnOnce(SocketId) -> Handoff<SocketId>,
    ) {
        let Some(live) = self.nodes[shard].remove(key, &mut self.dice) else { return };
        let idle = live.receive == Operation::Idle && live.poll == Operation::Idle && live.pending == 0;
        let still = idle && live.send.is_none() && !live.queued;
        self.require(still, || format!("{key:?} of shard {shard} moves with something in flight"));
        let handoff = handoff(live.socket);
        let socket = &mut self.sockets[live.socket.0];
        socket.holder = Holder::Nobody;
        let counts = &mut self.nodes[shard].counts;
        let (receiver, message) = match to {
            Destination::Shard(owner) => {
                counts.moved_out += 1;
                socket.moves += 1;
                (owner.index(), ShardMessage::Adopt(handoff))
            }
            Destination::ControlPlane => {
                counts.handed_over += 1;
                (self.nodes.len(), ShardMessage::Serve(handoff))
            }
        };
        let often = socket.moves > 1 || receiver == shard;
        self.require(!often, || format!("{key:?} of shard {shard} moves in a circle"));
        if let Err(ShardMessage::Adopt(handoff) | ShardMessage::Serve(handoff)) =
            self.mesh_send(shard, receiver, message)
        {
            self.refuse(handoff.socket);
        }
    }
}

/// An address for a connection: one of a few, and a port of its own.
fn peer(client: usize, socket: SocketId) -> std::net::SocketAddr {
    ([10, 0, 0, (client % 4) as u8], 1 + (socket.0 % 65_000) as u16).into()
}
