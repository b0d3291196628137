//! The bytes between a client and the server: bounded, late, in pieces, sometimes cut.

use std::collections::VecDeque;

use crate::core::{ConnKey, Micros};

/// One direction of a connection. What is under way and what has arrived but was not read share one bound, as the
/// kernel's buffers do, so that a reader who stops is felt by the writer.
#[derive(Debug)]
pub(super) struct Pipe {
    capacity: usize,
    under_way: VecDeque<(Micros, Vec<u8>)>,
    under_way_bytes: usize,
    arrived: VecDeque<u8>,
    last_arrival: Micros,
    /// Nothing arrives before.
    pub(super) stalled_until: Micros,
    /// When the end of the stream arrives.
    fin_at: Option<Micros>,
    /// The end of the stream has arrived.
    fin: bool,
}

impl Pipe {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            capacity,
            under_way: VecDeque::new(),
            under_way_bytes: 0,
            arrived: VecDeque::new(),
            last_arrival: Micros(0),
            stalled_until: Micros(0),
            fin_at: None,
            fin: false,
        }
    }

    pub(super) fn capacity(&self) -> usize {
        self.capacity
    }

    /// How much may be written now.
    pub(super) fn space(&self) -> usize {
        self.capacity - self.under_way_bytes - self.arrived.len()
    }

    /// Whether a poll for writability would say so: a part of the buffer has to be free, not a byte.
    pub(super) fn writable(&self) -> bool {
        self.space() * 4 >= self.capacity
    }

    /// Writes as much as there is space for; says when it arrives.
    pub(super) fn write(&mut self, now: Micros, latency: Micros, bytes: &[u8]) -> Micros {
        debug_assert!(bytes.len() <= self.space() && self.fin_at.is_none());
        let at = (now + latency).max(self.last_arrival).max(self.stalled_until);
        self.last_arrival = at;
        self.under_way_bytes += bytes.len();
        self.under_way.push_back((at, bytes.to_vec()));
        at
    }

    /// Ends the stream behind everything written.
    pub(super) fn end(&mut self, now: Micros, latency: Micros) -> Micros {
        let at = (now + latency).max(self.last_arrival).max(self.stalled_until);
        self.last_arrival = at;
        *self.fin_at.get_or_insert(at)
    }

    pub(super) fn ended(&self) -> bool {
        self.fin_at.is_some()
    }

    /// Lets arrive what is due.
    pub(super) fn arrive(&mut self, now: Micros) {
        while self.under_way.front().is_some_and(|(at, _)| *at <= now) {
            let (_, bytes) = self.under_way.pop_front().expect("there is a front");
            self.under_way_bytes -= bytes.len();
            self.arrived.extend(bytes);
        }
        self.fin |= self.under_way.is_empty() && self.fin_at.is_some_and(|at| at <= now);
    }

    pub(super) fn readable(&self) -> usize {
        self.arrived.len()
    }

    /// Whether the end has been reached.
    pub(super) fn at_end(&self) -> bool {
        self.fin && self.arrived.is_empty()
    }

    pub(super) fn read(&mut self, bytes: usize) -> Vec<u8> {
        self.arrived.drain(..bytes.min(self.arrived.len())).collect()
    }
}

/// Names a socket; never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SocketId(pub(super) usize);

/// Who holds the server's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holder {
    /// It waits in a listener's queue, or travels between shards.
    Nobody,
    /// A shard's slot.
    Slot(usize, ConnKey),
    /// The control plane.
    ControlPlane,
    /// It is closed.
    Closed,
}

/// A connection between a client and the server.
#[derive(Debug)]
pub(super) struct Socket {
    pub(super) client: usize,
    /// Which of the client's connections.
    pub(super) number: u16,
    /// From client to server.
    pub(super) up: Pipe,
    /// From server to client.
    pub(super) down: Pipe,
    pub(super) latency: Micros,
    /// Broken for both.
    pub(super) reset: bool,
    pub(super) holder: Holder,
    /// How often it has moved between shards.
    pub(super) moves: u32,
    /// In which life of the node it was begun.
    pub(super) life: u32,
}
