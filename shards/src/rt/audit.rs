//! The way from the shards to whoever writes the audit log: a bounded queue for each, with one that puts and one that
//! takes.
//!
//! Nobody waits here. A full queue loses the record and counts it; a writer that sleeps is woken, which costs a shard
//! one system call at most. Records come with connections that begin and end, never with frames.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::Thread;
use std::time::SystemTime;

use crossbeam_queue::ArrayQueue;
use crossbeam_utils::CachePadded;

use super::clock::wall_clock;
use crate::core::audit::AuditRecord;

/// A record with the time at which it was put in.
#[derive(Debug)]
pub struct Stamped {
    /// By the wall clock, as people read logs.
    pub at: SystemTime,
    /// What happened.
    pub record: Box<AuditRecord>,
}

/// One party's queue.
#[derive(Clone, Debug)]
pub struct AuditLane(Arc<Lane>);

#[derive(Debug)]
struct Lane {
    queue: ArrayQueue<Stamped>,
    dropped: CachePadded<AtomicU64>,
    writer: Thread,
}

impl AuditLane {
    /// A queue with so many places, emptied by the thread `writer`.
    #[must_use]
    pub fn new(places: usize, writer: Thread) -> Self {
        let dropped = CachePadded::default();
        Self(Arc::new(Lane { queue: ArrayQueue::new(places.max(1)), dropped, writer }))
    }

    /// Puts a record in, if there is room for it.
    pub fn put(&self, record: Box<AuditRecord>) {
        if self.0.queue.push(Stamped { at: wall_clock(), record }).is_err() {
            self.drop_records(1);
        }
        self.0.writer.unpark();
    }

    /// The next record, for the writer.
    #[must_use]
    pub fn take(&self) -> Option<Stamped> {
        self.0.queue.pop()
    }

    /// Counts records that were not written.
    pub fn drop_records(&self, records: u64) {
        self.0.dropped.fetch_add(records, Ordering::Relaxed);
    }

    /// Records that were not written so far, for want of room here or where they were to be written.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.0.dropped.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::audit::Managed;

    #[test]
    fn a_full_queue_loses_the_newest_and_counts_it() {
        let lane = AuditLane::new(2, std::thread::current());
        for action in ["one", "two", "three"] {
            let managed = Managed { action, target: None, user: None, status: None };
            lane.put(Box::new(AuditRecord::Managed(managed)));
        }
        let next = || match *lane.take()?.record {
            AuditRecord::Managed(managed) => Some(managed.action),
            _ => None,
        };
        assert_eq!([next(), next(), next()], [Some("one"), Some("two"), None]);
        assert_eq!(lane.dropped(), 1);
    }
}
