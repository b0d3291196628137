//! Queues that are empty most of the time share the memory of those that are not.
//!
//! A queue that becomes empty gives its memory back, and the next one that gets an item takes it: what was used last
//! goes first, so that a shard with ten thousand queues touches the same few cache lines all the time, and a silent
//! room or connection owns none.

use std::collections::VecDeque;

/// Empty queues kept at most.
const KEPT_MAX: usize = 1_024;
/// Items that a kept queue has room for at most; a longer one was an exception, and its memory goes.
const CAPACITY_MAX: usize = 64;

/// The memory of empty queues.
#[derive(Debug)]
pub struct SpareQueues<T> {
    free: Vec<VecDeque<T>>,
}

impl<T> Default for SpareQueues<T> {
    fn default() -> Self {
        Self { free: Vec::new() }
    }
}

impl<T> SpareQueues<T> {
    /// Puts an item at the end of a queue, which takes memory from here if it has none.
    pub fn push(&mut self, queue: &mut VecDeque<T>, item: T) {
        if queue.capacity() == 0
            && let Some(spare) = self.free.pop()
        {
            *queue = spare;
        }
        queue.push_back(item);
    }

    /// Takes a queue's memory if it is empty.
    pub fn reclaim(&mut self, queue: &mut VecDeque<T>) {
        if !queue.is_empty() || queue.capacity() == 0 {
            return;
        }
        let mut queue = std::mem::take(queue);
        if queue.capacity() <= CAPACITY_MAX && self.free.len() < KEPT_MAX {
            // It begins at the beginning again.
            queue.clear();
            self.free.push(queue);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_queue_owns_nothing_and_the_next_one_gets_its_memory() {
        let mut spares = SpareQueues::default();
        let (mut first, mut second) = (VecDeque::new(), VecDeque::new());
        spares.push(&mut first, 1);
        let memory = first.as_slices().0.as_ptr();
        spares.reclaim(&mut first);
        assert_eq!(first, [1], "what is not empty stays as it is");
        first.clear();
        spares.reclaim(&mut first);
        assert_eq!(first.capacity(), 0);
        spares.push(&mut second, 2);
        assert_eq!(second, [2]);
        assert_eq!(second.as_slices().0.as_ptr(), memory);
    }

    #[test]
    fn a_queue_that_grew_long_is_not_kept() {
        let mut spares = SpareQueues::default();
        let mut queue: VecDeque<_> = (0..=CAPACITY_MAX).collect();
        queue.clear();
        spares.reclaim(&mut queue);
        assert_eq!((queue.capacity(), spares.free.len()), (0, 0));
    }
}
