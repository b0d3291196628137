//! Which shards of a node may have subscribers to a channel.
//!
//! Counts for the literal beginnings of patterns, shared by all shards and changed without a lock. Two beginnings may
//! share a count, so that it may say yes wrongly; it never says no wrongly to whoever was told of a subscription.

use ::core::sync::atomic::{AtomicU32, Ordering::Relaxed};

use smallvec::SmallVec;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::super::ids::ShardId;
use super::name::{Pattern, SEGMENTS_MAX, prefixes};

/// Counts for each shard: with as many users subscribed to their own channels, one publication in three would be sent
/// to a shard that has no use for it.
const SLOTS: usize = 32_768;

/// See the module.
#[derive(Debug)]
pub struct Interest {
    /// By slot, then shard.
    counts: Box<[AtomicU32]>,
    shards: usize,
    /// Keeps anybody from choosing names that collide.
    seed: u64,
}

impl Interest {
    /// Nobody listens yet.
    #[must_use]
    pub fn new(shards: u16, seed: u64) -> Self {
        let shards = usize::from(shards.max(1));
        Self { counts: (0..SLOTS * shards).map(|_| AtomicU32::new(0)).collect(), shards, seed }
    }

    /// A shard has a subscriber more to what the pattern names. Whatever is sent to another shard afterwards finds it
    /// counted there.
    pub(in crate::core) fn add(&self, shard: ShardId, pattern: &Pattern) {
        self.count(shard, pattern).fetch_add(1, Relaxed);
    }

    /// It has one fewer.
    pub(in crate::core) fn remove(&self, shard: ShardId, pattern: &Pattern) {
        let before = self.count(shard, pattern).fetch_sub(1, Relaxed);
        debug_assert!(before > 0, "a subscription ended that had not begun");
    }

    /// The shards that may have subscribers to a channel.
    pub(in crate::core) fn shards(&self, channel: &str) -> SmallVec<[ShardId; 8]> {
        let slots: SmallVec<[usize; SEGMENTS_MAX]> = prefixes(channel).map(|name| self.slot(name)).collect();
        let counts = |slot: usize, shard: usize| self.counts[slot * self.shards + shard].load(Relaxed);
        let interested = |shard: &usize| slots.iter().any(|&slot| counts(slot, *shard) > 0);
        (0..self.shards).filter(interested).map(|shard| ShardId(shard as u16)).collect()
    }

    /// How many subscriptions there are in the node.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.counts.iter().map(|count| u64::from(count.load(Relaxed))).sum()
    }

    fn count(&self, shard: ShardId, pattern: &Pattern) -> &AtomicU32 {
        &self.counts[self.slot(pattern.literal()) * self.shards + shard.index()]
    }

    fn slot(&self, name: &str) -> usize {
        (xxh3_64_with_seed(name.as_bytes(), self.seed) % SLOTS as u64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_is_interested_in_what_its_patterns_may_name() {
        let interest = Interest::new(3, 7);
        let pattern = |text: &str| Pattern::parse(text).expect(text);
        interest.add(ShardId(0), &pattern("user:*:typing"));
        interest.add(ShardId(2), &pattern("user:7:*"));
        interest.add(ShardId(2), &pattern("user:7:*"));
        let shards = |name: &str| interest.shards(name).iter().map(|shard| shard.0).collect::<Vec<_>>();
        assert_eq!(shards("user:7:operation:1"), [0, 2]);
        assert_eq!(shards("user:8:operation:1"), [0], "what follows the literal beginning is not looked at");
        assert!(shards("news:7").is_empty());
        interest.remove(ShardId(2), &pattern("user:7:*"));
        assert_eq!(shards("user:7:operation:1"), [0, 2]);
        interest.remove(ShardId(2), &pattern("user:7:*"));
        assert_eq!((shards("user:7:operation:1"), interest.total()), (vec![0], 1));
    }
}
