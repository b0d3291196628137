//! Audio that waits for the rooms' engines, which take it at the end of the turn.
//!
//! Each room has a queue of its own, but the queues of all rooms share one table: what a turn brings lies in the
//! same few cache lines whatever the number of rooms, and a silent room owns ten bytes of it. Bounded by what one
//! turn may bring, since every turn empties it.

use super::frame::Draft;
use super::ids::MemberNumber;

/// Ends a queue, and the list of free entries.
const NONE: u32 = u32::MAX;

/// The table.
#[derive(Debug)]
pub(super) struct Arrivals {
    entries: Vec<Entry>,
    free: u32,
}

#[derive(Debug)]
struct Entry {
    next: u32,
    from: MemberNumber,
    /// Nothing while the entry is free.
    audio: Option<Draft>,
}

/// One room's queue.
#[derive(Debug)]
pub(super) struct Queue {
    first: u32,
    last: u32,
    len: u16,
}

impl Default for Arrivals {
    fn default() -> Self {
        Self { entries: Vec::new(), free: NONE }
    }
}

impl Default for Queue {
    fn default() -> Self {
        Self { first: NONE, last: NONE, len: 0 }
    }
}

impl Queue {
    /// Frames that wait.
    pub(super) fn len(&self) -> usize {
        self.len.into()
    }
}

impl Arrivals {
    /// Puts a member's frame at the end of a room's queue.
    pub(super) fn push(&mut self, queue: &mut Queue, from: MemberNumber, audio: Draft) {
        let entry = Entry { next: NONE, from, audio: Some(audio) };
        let at = if self.free == NONE {
            self.entries.push(entry);
            self.entries.len() as u32 - 1
        } else {
            let at = self.free;
            self.free = std::mem::replace(&mut self.entries[at as usize], entry).next;
            at
        };
        match queue.len {
            0 => queue.first = at,
            _ => self.entries[queue.last as usize].next = at,
        }
        (queue.last, queue.len) = (at, queue.len + 1);
    }

    /// Takes the frame that has waited longest.
    pub(super) fn pop(&mut self, queue: &mut Queue) -> Option<(MemberNumber, Draft)> {
        queue.len = queue.len.checked_sub(1)?;
        let at = queue.first;
        let entry = &mut self.entries[at as usize];
        queue.first = std::mem::replace(&mut entry.next, self.free);
        self.free = at;
        entry.audio.take().map(|audio| (entry.from, audio))
    }
}

#[cfg(test)]
mod tests {
    use super::super::frame::FramePool;
    use super::*;

    #[test]
    fn queues_that_share_the_table_keep_their_order_and_their_frames() {
        let (mut pool, mut arrivals) = (FramePool::default(), Arrivals::default());
        let mut queues: [Queue; 3] = Default::default();
        for round in 0..50_u16 {
            for n in 0..9 {
                let frame = pool.copy(&[round as u8, n as u8]);
                arrivals.push(&mut queues[n % 3], MemberNumber(round), frame);
            }
            for (n, queue) in queues.iter_mut().enumerate() {
                assert_eq!(queue.len(), 3);
                for expected in [n, n + 3, n + 6] {
                    let (from, audio) = arrivals.pop(queue).expect("three were put there");
                    assert_eq!(
                        (from, audio.payload()),
                        (MemberNumber(round), &[round as u8, expected as u8][..])
                    );
                    pool.discard(audio);
                }
                assert!(arrivals.pop(queue).is_none());
            }
        }
        assert_eq!(arrivals.entries.len(), 9, "entries are used again");
    }
}
