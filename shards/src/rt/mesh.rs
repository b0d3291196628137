//! The mesh: one bounded queue for each pair of sender and receiver, shards and the control plane alike.
//!
//! Nothing ever waits here: a full queue gives the message back. An [`Endpoint`] belongs to one party; it can only
//! send as that party and only receive what is for it, so a message can't go astray. Everything is made before the
//! first thread starts.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crossbeam_queue::ArrayQueue;
use crossbeam_utils::CachePadded;

use super::doorbell::Doorbell;
use super::error::{Full, StartError};
use super::tls::Link;
use crate::core::{Destination, ShardId, ShardMessage};

/// What crosses cores in this runtime.
pub type Message = ShardMessage<Link>;

const _: () = assert!(size_of::<Message>() <= 128, "what crosses a core stays within two cache lines");

/// The queues and bells, shared by all parties.
#[derive(Debug)]
struct Mesh {
    shards: usize,
    /// `[sender * parties + receiver]`.
    lanes: Vec<ArrayQueue<Message>>,
    bells: Vec<CachePadded<Doorbell>>,
}

impl Mesh {
    /// Shards first, the control plane last.
    fn parties(&self) -> usize {
        self.shards + 1
    }

    fn lane(&self, from: usize, to: usize) -> &ArrayQueue<Message> {
        &self.lanes[from * self.parties() + to]
    }
}

/// One party's access to the mesh.
#[derive(Debug)]
pub struct Endpoint {
    mesh: Arc<Mesh>,
    me: usize,
    /// Whose lane is looked at first: rotates, so that no sender starves another.
    cursor: AtomicUsize,
    /// Lanes still to be looked at before the sweep that the last posting began is over.
    to_sweep: AtomicUsize,
}

/// Makes the mesh for `shards` shards and the control plane. The endpoints come in the order of the shards, the
/// control plane's last.
///
/// # Errors
/// When no descriptor is left for a doorbell.
pub fn wire_up(shards: usize, queue_max: usize) -> io::Result<Vec<Endpoint>> {
    let parties = shards + 1;
    let lane = |at: usize| {
        // Nobody sends to itself; the place is kept so that the index stays a product.
        let to_itself = at / parties == at % parties;
        ArrayQueue::new(if to_itself { 1 } else { queue_max.max(1) })
    };
    let bells = (0..parties)
        .map(|party| Doorbell::new(party == shards).map(CachePadded::new))
        .collect::<io::Result<Vec<_>>>()?;
    let mesh = Arc::new(Mesh { shards, lanes: (0..parties * parties).map(lane).collect(), bells });
    Ok((0..parties)
        .map(|me| Endpoint {
            mesh: Arc::clone(&mesh),
            me,
            cursor: AtomicUsize::new(0),
            to_sweep: AtomicUsize::new(0),
        })
        .collect())
}

impl Endpoint {
    /// Checks that this is the endpoint of `shard` in a mesh of `shards`.
    ///
    /// # Errors
    /// When it is another's.
    pub fn check(&self, shard: ShardId, shards: u16) -> Result<(), StartError> {
        if self.mesh.shards != usize::from(shards) || self.me != shard.index() {
            return Err(StartError::Wiring(format!(
                "shard {shard} of {shards} was given endpoint {} of {}",
                self.me, self.mesh.shards
            )));
        }
        Ok(())
    }

    /// How many shards the mesh has.
    #[must_use]
    pub fn shards(&self) -> usize {
        self.mesh.shards
    }

    /// Puts a message into the lane to `to` and wakes the receiver if it sleeps.
    ///
    /// # Errors
    /// The message, when the lane is full, the receiver has left, or there is no such receiver.
    pub fn try_send(&self, to: Destination, message: Message) -> Result<(), Full<Message>> {
        let to = match to {
            Destination::Shard(shard) => shard.index(),
            Destination::ControlPlane => self.mesh.shards,
        };
        if to >= self.mesh.parties() || to == self.me || self.mesh.bells[to].is_closed() {
            return Err(Full(message));
        }
        self.mesh.lane(self.me, to).push(message).map_err(Full)?;
        self.mesh.bells[to].announce();
        Ok(())
    }

    /// The next message for this party, fairly among the senders. One task at a time receives.
    pub fn receive(&self) -> Option<Message> {
        if self.to_sweep.load(Ordering::Relaxed) == 0 {
            if !self.bell().take_posted() {
                return None;
            }
            self.to_sweep.store(self.mesh.parties(), Ordering::Relaxed);
        }
        // One full round of empty lanes since the last posting ends the sweep.
        loop {
            let from = self.cursor.load(Ordering::Relaxed);
            self.cursor.store((from + 1) % self.mesh.parties(), Ordering::Relaxed);
            if let Some(message) = self.mesh.lane(from, self.me).pop() {
                self.to_sweep.store(self.mesh.parties(), Ordering::Relaxed);
                return Some(message);
            }
            let left = self.to_sweep.load(Ordering::Relaxed).saturating_sub(1);
            self.to_sweep.store(left, Ordering::Relaxed);
            if left == 0 {
                return None;
            }
        }
    }

    /// Messages waiting for this party.
    #[must_use]
    pub fn depth(&self) -> usize {
        (0..self.mesh.parties()).map(|from| self.mesh.lane(from, self.me).len()).sum()
    }

    /// Whether something may be waiting: cheap, no queue is touched.
    #[must_use]
    pub fn may_have_messages(&self) -> bool {
        self.to_sweep.load(Ordering::Relaxed) != 0 || self.bell().has_posted()
    }

    /// Announces sleep. After `true` nothing is waiting and the doorbell will ring; after `false` something is.
    #[must_use]
    pub fn prepare_to_sleep(&self) -> bool {
        self.to_sweep.load(Ordering::Relaxed) == 0 && self.bell().prepare_to_sleep()
    }

    /// Ends the sleep, whatever ended it.
    pub fn woke(&self) {
        self.bell().woke();
    }

    /// Refuses everything that is sent from now on; what already waits can still be received.
    pub fn leave(&self) {
        self.bell().close();
        // A last posting makes sure that the final sweep looks at every lane.
        self.bell().announce();
    }

    /// What becomes readable when the doorbell rings.
    #[must_use]
    pub fn doorbell(&self) -> BorrowedFd<'_> {
        self.bell().event()
    }

    /// Silences the doorbell; only for the control plane's, which does not block.
    pub fn clear_doorbell(&self) {
        self.bell().clear();
    }

    /// A way to wake this party from any thread.
    pub(super) fn waker(&self) -> Waker {
        Waker { mesh: Arc::clone(&self.mesh), party: self.me }
    }

    fn bell(&self) -> &Doorbell {
        &self.mesh.bells[self.me]
    }
}

/// Acts for one party without being it.
#[derive(Clone, Debug)]
pub(super) struct Waker {
    mesh: Arc<Mesh>,
    party: usize,
}

impl Waker {
    /// Rings.
    pub(super) fn wake(&self) {
        self.mesh.bells[self.party].ring();
    }

    /// Refuses what is sent to this party from now on, for one that can't do so itself any more.
    pub(super) fn leave(&self) {
        self.mesh.bells[self.party].close();
    }
}
