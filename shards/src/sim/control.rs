//! The queues between shards and the control plane, and a control plane that asks whatever comes to its mind.

use std::collections::{BTreeMap, BTreeSet};

use super::gate;
use super::pipe::{Holder, SocketId};
use super::world::{Event, World};
use crate::core::message::{Answer, AskId, Query, RoomPost, RoomsQuery, RoomsSort};
use crate::core::{CloseMode, ConnectionId, Input, Micros, SessionId, ShardId, ShardMessage};

/// How long after the play a question may stay unanswered: none may.
#[derive(Debug, Default)]
pub(super) struct ControlPlane {
    next: u64,
    /// Questions without an answer so far, and what kind of answer they get.
    pub(super) pending: BTreeMap<u64, (usize, &'static str)>,
    connections: Vec<ConnectionId>,
    rooms: Vec<SessionId>,
    /// Rooms that were closed by hand.
    pub(super) closed_rooms: BTreeSet<String>,
    /// Shards that were told to drain.
    told: usize,
}

impl World {
    /// Puts a message into the queue of two parties; a full queue gives it back.
    pub(super) fn mesh_send(
        &mut self,
        from: usize,
        to: usize,
        message: ShardMessage<SocketId>,
    ) -> Result<(), ShardMessage<SocketId>> {
        let delay = Micros(self.dice.range(0, self.scenario.faults.mesh_delay_max.0));
        let left = self.nodes.get(to).is_some_and(|node| node.leaving.is_some());
        let queue = &mut self.mesh[to][from];
        if left || queue.len() >= self.scenario.faults.mesh_queue_max {
            return Err(message);
        }
        let before = queue.back().map_or(Micros(0), |(at, _)| *at);
        let at = (self.now + delay).max(before);
        queue.push_back((at, message));
        self.schedule(at, Event::Mesh(to));
        Ok(())
    }

    pub(super) fn mesh_ready(&mut self, to: usize) {
        if to < self.nodes.len() {
            return self.wake(to);
        }
        while let Some(message) = self.mesh_next(to) {
            match message {
                ShardMessage::Serve(handoff) => self.serve(handoff.socket),
                ShardMessage::Answer { from, id, answer } => self.answered(from, id, answer),
                ShardMessage::Remember(told) => self.store_told(told.all),
                ShardMessage::Recall(recall) => self.store_asked(*recall),
                other => self.fail(format!("the control plane was sent {other:?}")),
            }
        }
    }

    /// The next message for a party, from any sender whose turn it is: order holds only for each.
    fn mesh_next(&mut self, to: usize) -> Option<ShardMessage<SocketId>> {
        let senders = self.mesh[to].len();
        let first = self.dice.size(0, senders - 1);
        for offset in 0..senders {
            let queue = &mut self.mesh[to][(first + offset) % senders];
            if queue.front().is_some_and(|(at, _)| *at <= self.now) {
                return queue.pop_front().map(|(_, message)| message);
            }
        }
        None
    }

    pub(super) fn take_messages(&mut self, shard: usize) {
        while let Some(message) = self.mesh_next(shard) {
            match message {
                ShardMessage::Adopt(handoff) => self.adopt(shard, handoff),
                ShardMessage::Ask { id, query } => self.tell(shard, Input::Ask { id, query }),
                ShardMessage::Drain { window } => {
                    self.nodes[shard].drained_at.get_or_insert((self.now, window));
                    self.tell(shard, Input::Drain { window });
                }
                ShardMessage::Parcel { from, parcel } => self.tell(shard, Input::Parcel { from, parcel }),
                ShardMessage::Recalled(recalled) => self.take_recalled(shard, recalled),
                ShardMessage::RememberAgain(session) => self.tell(shard, Input::RememberAgain(session)),
                other => self.fail(format!("shard {shard} was sent {other:?}")),
            }
        }
    }

    /// Sends the parcels that wait, to each shard until its queue is full; the shard tries again soon.
    pub(super) fn deliver_parcels(&mut self, shard: usize) {
        for to in 0..self.nodes.len() {
            while let Some(parcel) = self.nodes[shard].shard.next_parcel(ShardId(to as u16)) {
                let message = ShardMessage::Parcel { from: ShardId(shard as u16), parcel };
                if let Err(ShardMessage::Parcel { parcel, .. }) = self.mesh_send(shard, to, message) {
                    self.nodes[shard].shard.return_parcel(ShardId(to as u16), parcel);
                    break;
                }
            }
        }
        if self.nodes[shard].shard.has_parcels() {
            self.wake_at(shard, self.now + Micros::from_ms(1));
        }
    }

    /// Refuses a connection whose way to another party was full.
    pub(super) fn refuse(&mut self, id: SocketId) {
        self.write_once(
            id,
            b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nRetry-After: 1\r\n\r\n",
        );
    }

    fn serve(&mut self, id: SocketId) {
        self.sockets[id.0].holder = Holder::ControlPlane;
        self.write_once(id, b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok");
    }

    /// One answer without waiting, and the end.
    fn write_once(&mut self, id: SocketId, answer: &[u8]) {
        let now = self.now;
        let socket = &mut self.sockets[id.0];
        if !socket.reset && socket.down.space() >= answer.len() {
            let latency = socket.latency;
            let at = socket.down.write(now, latency, answer);
            self.schedule(at, Event::Arrived(id, false));
        }
        self.close_socket(id, CloseMode::Graceful);
    }

    pub(super) fn answer(&mut self, shard: usize, id: AskId, answer: Answer) {
        let from = ShardId(shard as u16);
        let to = self.nodes.len();
        if self.mesh_send(shard, to, ShardMessage::Answer { from, id, answer }).is_err() {
            // The asker's deadline passes.
            self.control.pending.remove(&id.0);
        }
    }

    fn answered(&mut self, from: ShardId, id: AskId, answer: Answer) {
        let pending = self.control.pending.remove(&id.0);
        let kind = match &answer {
            Answer::Counters(_) => "counters",
            Answer::Rooms(_) => "rooms",
            Answer::Room(_) => "room",
            Answer::Sent(_) => "send",
            Answer::RoomClosed(_) => "close room",
            Answer::ConnectionClosed(_) => "close connection",
            Answer::UserDisconnected(_) => "disconnect user",
            Answer::Published(_) => "publish",
            Answer::Delivered(_) => "publish elsewhere",
        };
        self.require(pending == Some((from.index(), kind)), || {
            format!("question {} was {pending:?}, answered with {kind} by {from}", id.0)
        });
        match answer {
            Answer::Rooms(rooms) => self.control.rooms = rooms.into_iter().map(|room| room.id).collect(),
            Answer::Room(Some(room)) => {
                self.control.connections = room.connections.iter().map(|member| member.id).collect();
            }
            _ => {}
        }
    }

    /// Asks a shard something.
    pub(super) fn control_acts(&mut self) {
        let shard = self.dice.size(0, self.nodes.len() - 1);
        let room = match self.control.rooms.len() {
            0 => SessionId::parse("nowhere").ok(),
            rooms => Some(self.control.rooms[self.dice.size(0, rooms - 1)].clone()),
        };
        if let Some(room) = room.filter(|_| !self.is_down()) {
            self.ask_about(shard, room);
        }
        if self.now < self.scenario.play {
            self.schedule(self.now + self.scenario.control_every, Event::Control);
        }
    }

    fn ask_about(&mut self, shard: usize, room: SessionId) {
        let closes = self.scenario.control_closes;
        if closes && self.dice.permille(100) {
            self.quotas.set_memory_short(self.dice.permille(300));
        }
        let sort = self.dice.pick(&[RoomsSort::Id, RoomsSort::Members, RoomsSort::Queued, RoomsSort::Age]);
        let (kind, query) = match self.dice.range(0, if closes { 8 } else { 5 }) {
            0 => ("counters", Query::Counters),
            1 | 2 => ("rooms", Query::Rooms(RoomsQuery { limit: self.dice.size(0, 10), sort })),
            3 => ("room", Query::Room(room)),
            4 | 5 => {
                ("send", Query::Send(room, RoomPost { data: "{\"from\":\"outside\"}".into(), to: None }))
            }
            6 => {
                self.control.closed_rooms.insert(room.to_string());
                ("close room", Query::CloseRoom(room))
            }
            // In some worlds nobody has a name.
            7 => {
                let client = self.dice.size(0, self.clients.len() - 1);
                ("disconnect user", Query::DisconnectUser(gate::user(client).into()))
            }
            _ => {
                let known = self.control.connections.iter().find(|id| id.shard.index() == shard);
                let Some(&ConnectionId { key, .. }) = known else { return };
                ("close connection", Query::CloseConnection(key, 1008, "asked to".into()))
            }
        };
        self.control.next += 1;
        let id = self.control.next;
        let from = self.nodes.len();
        if self.mesh_send(from, shard, ShardMessage::Ask { id: AskId(id), query }).is_ok() {
            self.control.pending.insert(id, (shard, kind));
        }
    }

    /// Tells every shard to drain, again and again until it was told.
    pub(super) fn control_drains(&mut self) {
        let ending = self.lives.ending.map(|ending| ending.window);
        let Some(window) = ending.or(self.scenario.drain.map(|(_, window)| window)) else { return };
        let from = self.nodes.len();
        while self.control.told < from {
            if self.mesh_send(from, self.control.told, ShardMessage::Drain { window }).is_err() {
                let at = self.now + Micros::from_ms(1);
                return self.schedule(at, Event::Drain);
            }
            self.control.told += 1;
        }
    }
}
