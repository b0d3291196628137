//! Connection slots: a descriptor, a generation and what is in flight, in sixteen bytes.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::token::INDEX_MAX;
use crate::core::{CloseMode, ConnKey, ReceiveMode};

/// What may be in flight on a connection, as bits.
pub(super) mod busy {
    /// A receive.
    pub(in crate::rt) const RECEIVE: u8 = 1;
    /// A send, from the moment the core asked for it.
    pub(in crate::rt) const SEND: u8 = 2;
    /// A wait for room to send.
    pub(in crate::rt) const WRITABLE: u8 = 4;
    /// A wait for the connection to come about.
    pub(in crate::rt) const CONNECT: u8 = 8;
}

/// One connection.
#[derive(Debug)]
pub(super) struct Slot {
    fd: Option<OwnedFd>,
    generation: u32,
    /// How it is to be read.
    pub(super) mode: ReceiveMode,
    /// What is in flight.
    pub(super) busy: u8,
    /// Set when it is being closed: nothing more is told to the core but that it is closed.
    pub(super) closing: Option<CloseMode>,
    /// The kernel may hold more of it than fits into a buffer: it is read one buffer at a time, with others between.
    pub(super) behind: bool,
    /// Whether it stands in the queue of those that are behind.
    pub(super) queued: bool,
    /// A cancellation or shutdown is on its way to end what is in flight.
    pub(super) ending: bool,
    /// Whether it has a TLS session: connections of both kinds share a wire.
    pub(super) sealed: bool,
}

const _: () = assert!(size_of::<Slot>() <= 16, "a slot is all that the wire spends on a silent connection");

impl Slot {
    /// The socket.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_ref().expect("a slot that is found by its key holds a socket").as_fd()
    }

    pub(super) fn is_busy(&self, with: u8) -> bool {
        self.busy & with != 0
    }
}

/// All connections of a shard.
#[derive(Debug, Default)]
pub(super) struct Slots {
    slots: Vec<Slot>,
    free: Vec<u32>,
}

impl Slots {
    /// Gives the socket a key.
    ///
    /// # Errors
    /// The socket, when all indices are in use.
    pub(super) fn insert(&mut self, fd: OwnedFd) -> Result<ConnKey, OwnedFd> {
        if let Some(index) = self.free.pop() {
            let slot = &mut self.slots[index as usize];
            slot.generation = slot.generation.wrapping_add(1);
            slot.fd = Some(fd);
            return Ok(ConnKey { index, generation: slot.generation });
        }
        let index = self.slots.len() as u32;
        if index > INDEX_MAX {
            return Err(fd);
        }
        self.slots.push(Slot {
            fd: Some(fd),
            generation: 0,
            mode: ReceiveMode::Paused,
            busy: 0,
            closing: None,
            behind: false,
            queued: false,
            ending: false,
            sealed: false,
        });
        Ok(ConnKey { index, generation: 0 })
    }

    /// The slot, if the key is still its tenant's.
    pub(super) fn get(&mut self, conn: ConnKey) -> Option<&mut Slot> {
        self.slots
            .get_mut(conn.index as usize)
            .filter(|slot| slot.generation == conn.generation && slot.fd.is_some())
    }

    /// Takes the socket out; nothing is in flight on it.
    pub(super) fn remove(&mut self, conn: ConnKey) -> Option<OwnedFd> {
        let slot = self.get(conn)?;
        assert_eq!(slot.busy, 0, "a slot is freed only when nothing is in flight on it");
        let fd = slot.fd.take();
        (slot.mode, slot.closing, slot.ending) = (ReceiveMode::Paused, None, false);
        (slot.behind, slot.queued, slot.sealed) = (false, false, false);
        self.free.push(conn.index);
        fd
    }

    /// Connections held.
    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    fn socket() -> OwnedFd {
        UdpSocket::bind("127.0.0.1:0").expect("a loopback socket").into()
    }

    #[test]
    fn a_slot_is_used_again_only_under_a_new_key() {
        let mut slots = Slots::default();
        let first = slots.insert(socket()).expect("room");
        assert!(slots.remove(first).is_some());
        let second = slots.insert(socket()).expect("room");
        assert_eq!(first.index, second.index);
        assert_ne!(first.generation, second.generation);
        assert!(slots.get(first).is_none() && slots.remove(first).is_none());
        assert_eq!(slots.len(), 1);
    }
}
