//! Parcels for other shards, which wait here until the mesh has room for them.
//!
//! For each shard one queue, bounded in number and bytes. A message that finds no room leaves a gap: its stream is noted,
//! and until subscribers there have been told nothing more of it is sent, so that what they hear is in order and has no
//! hole they don't know of. Answers are not held to the bound: there are no more than the other shard has asked for.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use super::super::channel::{Delivery, Gap, Parcel, stream_of};
use super::super::effect::Effects;
use super::super::ids::ShardId;
use super::super::message::AskId;
use super::super::time::Micros;
use super::Shard;

/// Parcels that may wait for one shard.
const WAITING_MAX: usize = 4_096;
/// Bytes of them.
const WAITING_BYTES_MAX: usize = 16 << 20;

/// What waits for every other shard.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    ways: Vec<Way>,
    waiting: usize,
}

/// What waits for one of them.
#[derive(Debug, Default)]
struct Way {
    queue: VecDeque<Parcel>,
    bytes: usize,
    /// Streams of which messages were lost since its subscribers were last told.
    gaps: BTreeSet<Box<str>>,
}

impl Way {
    fn is_full(&self) -> bool {
        self.queue.len() >= WAITING_MAX || self.bytes >= WAITING_BYTES_MAX
    }

    fn has_room_again(&self) -> bool {
        self.queue.len() <= WAITING_MAX / 2 && self.bytes <= WAITING_BYTES_MAX / 2
    }
}

impl Outgoing {
    /// Nothing waits for any of so many shards.
    pub(super) fn new(shards: u16) -> Self {
        Self { ways: (0..shards).map(|_| Way::default()).collect(), waiting: 0 }
    }

    /// How many wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    /// Lets a parcel wait that is not held to the bound.
    pub(super) fn answer(&mut self, to: ShardId, parcel: Parcel) {
        let Some(way) = self.ways.get_mut(to.index()) else { return };
        way.bytes += parcel.bytes();
        way.queue.push_back(parcel);
        self.waiting += 1;
    }

    /// Lets a parcel wait.
    ///
    /// # Errors
    /// The parcel, when there is no room for it.
    pub(super) fn send(&mut self, to: ShardId, parcel: Parcel) -> Result<(), Parcel> {
        if self.ways.get(to.index()).is_none_or(Way::is_full) {
            return Err(parcel);
        }
        self.answer(to, parcel);
        Ok(())
    }

    /// Lets a message wait; false when that leaves a gap.
    fn deliver(&mut self, to: ShardId, delivery: &Arc<Delivery>, ask: Option<AskId>) -> bool {
        let Some(way) = self.ways.get_mut(to.index()) else { return false };
        let stream = stream_of(&delivery.publication.channel);
        if way.gaps.contains(stream) {
            return false;
        }
        if way.is_full() {
            way.gaps.insert(stream.into());
            return false;
        }
        self.answer(to, Parcel::Deliver { delivery: Arc::clone(delivery), ask });
        true
    }

    /// Takes the streams with gaps for which there is room to say so: those of this name, or all.
    fn gaps(&mut self, to: ShardId, only: Option<&str>) -> Vec<Box<str>> {
        let Some(way) = self.ways.get_mut(to.index()) else { return Vec::new() };
        match only {
            Some(stream) => way.gaps.take(stream).into_iter().collect(),
            None if way.has_room_again() => std::mem::take(&mut way.gaps).into_iter().collect(),
            None => Vec::new(),
        }
    }

    fn next(&mut self, to: ShardId) -> Option<Parcel> {
        let way = self.ways.get_mut(to.index())?;
        let parcel = way.queue.pop_front()?;
        way.bytes -= parcel.bytes();
        self.waiting -= 1;
        Some(parcel)
    }

    fn put_back(&mut self, to: ShardId, parcel: Parcel) {
        let Some(way) = self.ways.get_mut(to.index()) else { return };
        way.bytes += parcel.bytes();
        way.queue.push_front(parcel);
        self.waiting += 1;
    }
}

impl Shard {
    /// Whether parcels wait for other shards.
    pub fn has_parcels(&self) -> bool {
        self.channels.outgoing.waiting > 0
    }

    /// The parcel that has waited longest for this shard.
    pub fn next_parcel(&mut self, to: ShardId) -> Option<Parcel> {
        self.tell_gaps(to, None);
        let parcel = self.channels.outgoing.next(to)?;
        self.counters.channels.parcels_sent += 1;
        Some(parcel)
    }

    /// There was no room for it: it is the next again.
    pub fn return_parcel(&mut self, to: ShardId, parcel: Parcel) {
        self.counters.channels.parcels_sent -= 1;
        self.channels.outgoing.put_back(to, parcel);
    }

    /// A parcel has come.
    pub(super) fn take_parcel(&mut self, now: Micros, from: ShardId, parcel: Parcel, fx: &mut Effects) {
        match parcel {
            Parcel::Post(posted) => self.posted(now, from, *posted),
            Parcel::NotTaken(refused) => {
                self.tell_undeliverable(now, refused.to, refused.event_id, refused.reason);
            }
            Parcel::Deliver { delivery, ask } => self.delivered(now, &delivery, ask, fx),
            Parcel::Gap(gap) => self.gap(now, &gap),
            Parcel::Join(join) => {
                let stream = join.pattern.stream().unwrap_or_default().to_owned();
                // Behind what is to be said of the stream: the answer begins anew.
                self.tell_gaps(from, Some(&stream));
                let answer = self.standing_for(now, &stream, *join);
                self.channels.outgoing.answer(from, Parcel::Joined(Box::new(answer)));
            }
            Parcel::Joined(joined) => self.joined(now, *joined),
        }
    }

    /// Sends a message to a shard; false when it is lost on the way, of which subscribers there will be told.
    pub(super) fn send_delivery(
        &mut self,
        to: ShardId,
        delivery: &Arc<Delivery>,
        ask: Option<AskId>,
    ) -> bool {
        self.tell_gaps(to, None);
        self.channels.outgoing.deliver(to, delivery, ask)
    }

    /// Lets what is to be said of gaps wait behind what waits already.
    fn tell_gaps(&mut self, to: ShardId, only: Option<&str>) {
        for stream in self.channels.outgoing.gaps(to, only) {
            let at = self.channels.streams.place(&stream);
            self.channels.outgoing.answer(to, Parcel::Gap(Box::new(Gap { stream, at })));
        }
    }
}
