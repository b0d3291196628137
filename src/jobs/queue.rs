//! What waits for one receiver: bounded in jobs and bytes. Many put in, one takes.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::job::Job;

/// The queue.
#[derive(Debug)]
pub(super) struct Queue {
    jobs_max: usize,
    bytes_max: usize,
    waiting: Mutex<Waiting>,
    /// Somebody has put something in.
    news: Notify,
    /// The last one has gone.
    emptied: Notify,
    /// The end is near: there is no time for long waits.
    hurrying: AtomicBool,
    hurried: Notify,
    delivered: AtomicU64,
    full: AtomicU64,
    given_up: AtomicU64,
}

#[derive(Debug, Default)]
struct Waiting {
    jobs: VecDeque<Arc<Job>>,
    bytes: usize,
}

impl Queue {
    pub(super) fn new(jobs_max: usize, bytes_max: usize) -> Self {
        Self {
            jobs_max,
            bytes_max,
            waiting: Mutex::default(),
            news: Notify::new(),
            emptied: Notify::new(),
            hurrying: AtomicBool::new(false),
            hurried: Notify::new(),
            delivered: AtomicU64::new(0),
            full: AtomicU64::new(0),
            given_up: AtomicU64::new(0),
        }
    }

    /// Puts a job in, if there is room for it.
    pub(super) fn push(&self, job: Arc<Job>) -> bool {
        let mut waiting = self.lock();
        if waiting.jobs.len() >= self.jobs_max || waiting.bytes + job.bytes() > self.bytes_max {
            self.full.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        waiting.bytes += job.bytes();
        waiting.jobs.push_back(job);
        drop(waiting);
        self.news.notify_one();
        true
    }

    /// Waits for jobs: the first ones, at most so many. They stay until they are [`Self::done`]. Safe to drop.
    pub(super) async fn first(&self, most: usize) -> Vec<Arc<Job>> {
        loop {
            let heard = self.news.notified();
            let first: Vec<_> = self.lock().jobs.iter().take(most).cloned().collect();
            if !first.is_empty() {
                return first;
            }
            heard.await;
        }
    }

    /// The first ones are delivered, so many of them.
    pub(super) fn done(&self, jobs: usize) {
        let mut waiting = self.lock();
        for _ in 0..jobs {
            let Some(job) = waiting.jobs.pop_front() else { break };
            waiting.bytes -= job.bytes();
            self.delivered.fetch_add(1, Ordering::Relaxed);
        }
        if waiting.jobs.is_empty() {
            self.emptied.notify_waiters();
        }
    }

    /// Waits until nothing waits. Safe to drop.
    pub(super) async fn emptied(&self) {
        loop {
            let heard = self.emptied.notified();
            if self.len() == 0 {
                return;
            }
            heard.await;
        }
    }

    /// From now on nobody waits long between attempts.
    pub(super) fn hurry(&self) {
        self.hurrying.store(true, Ordering::Release);
        self.hurried.notify_one();
    }

    /// Whether there is little time.
    pub(super) fn hurries(&self) -> bool {
        self.hurrying.load(Ordering::Acquire)
    }

    /// Waits until there is little time. Safe to drop.
    pub(super) async fn hurried(&self) {
        self.hurried.notified().await;
    }

    /// Nobody delivers any more: how many are lost.
    pub(super) fn give_up(&self) -> u64 {
        let lost = std::mem::take(&mut *self.lock()).jobs.len() as u64;
        self.given_up.fetch_add(lost, Ordering::Relaxed);
        lost
    }

    pub(super) fn len(&self) -> usize {
        self.lock().jobs.len()
    }

    pub(super) fn delivered(&self) -> u64 {
        self.delivered.load(Ordering::Relaxed)
    }

    /// Jobs that were lost, by why.
    pub(super) fn dropped(&self) -> [(&'static str, u64); 2] {
        [("full", self.full.load(Ordering::Relaxed)), ("shutdown", self.given_up.load(Ordering::Relaxed))]
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Nothing that is done under the lock can be left half done.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::super::job::tests::job;
    use super::*;

    #[test]
    fn jobs_stay_in_order_until_they_are_done_and_too_many_are_refused() {
        let queue = Queue::new(3, 1 << 20);
        let taken: Vec<bool> = ["a", "b", "c", "d"].map(|name| queue.push(Arc::new(job(name)))).to_vec();
        assert_eq!(taken, [true, true, true, false]);
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let names = |most| -> Vec<String> {
            let first = runtime.block_on(queue.first(most));
            first.iter().map(|job| job.session().to_owned()).collect()
        };
        assert_eq!(names(2), ["a", "b"]);
        assert_eq!(names(16), ["a", "b", "c"], "nothing is gone yet");
        queue.done(2);
        assert_eq!(names(16), ["c"]);
        assert_eq!((queue.delivered(), queue.dropped()), (2, [("full", 1), ("shutdown", 0)]));
        assert_eq!(queue.give_up(), 1);
        runtime.block_on(queue.emptied());
        assert_eq!(queue.dropped(), [("full", 1), ("shutdown", 1)]);
    }

    #[test]
    fn bytes_are_bounded_too() {
        let one = job("a").bytes();
        let queue = Queue::new(1_000, 2 * one);
        let taken: Vec<bool> = ["a", "b", "c"].map(|name| queue.push(Arc::new(job(name)))).to_vec();
        assert_eq!(taken, [true, true, false]);
        queue.done(1);
        assert!(queue.push(Arc::new(job("d"))), "what is done makes room");
    }
}
