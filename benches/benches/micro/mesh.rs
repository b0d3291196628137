//! The mesh: a message from one shard to another, each on a thread and a core of its own.
//!
//! A message as it goes there and back is two hops; items are hops. `busy`: both poll, as shards with work do, and
//! a hop is a queue and a flag. `idle`: both sleep on their doorbells, and a hop is also an eventfd's write, the
//! other thread's wake-up and its read. A shard waits in io_uring instead of a read; the doorbell is the same.

use std::hint;
use std::thread::{self, JoinHandle};

use divan::Bencher;
use divan::counter::ItemsCount;
use shards::core::message::{AskId, Query};
use shards::core::{Destination, Micros, ShardId};
use shards::rt::{Endpoint, Message, WireConfig, wire_up};

use crate::{CORES, pin};

/// Messages on their way at once in `stream`: well within a lane.
const STREAM: usize = 256;

const NEAR: ShardId = ShardId(0);
const FAR: ShardId = ShardId(1);

/// What a party does while nothing has come.
#[derive(Clone, Copy)]
enum Waiting {
    Polls,
    Sleeps,
}

/// One end, and how it waits.
struct Party {
    endpoint: Endpoint,
    waiting: Waiting,
}

impl Party {
    fn send(&self, to: ShardId, message: Message) {
        let sent = self.endpoint.try_send(Destination::Shard(to), message);
        assert!(sent.is_ok(), "the lane has room");
    }

    fn receive(&self) -> Message {
        loop {
            if let Some(message) = self.endpoint.receive() {
                return message;
            }
            match self.waiting {
                Waiting::Polls => hint::spin_loop(),
                Waiting::Sleeps if self.endpoint.prepare_to_sleep() => {
                    let mut count = [0; 8];
                    rustix::io::retry_on_intr(|| rustix::io::read(self.endpoint.doorbell(), &mut count))
                        .expect("a doorbell can be read");
                    self.endpoint.woke();
                }
                Waiting::Sleeps => {}
            }
        }
    }
}

/// This thread's shard, and one on another core that sends back what it is asked and swallows the rest.
struct Pair {
    near: Party,
    far: Option<JoinHandle<()>>,
}

impl Pair {
    fn new(waiting: Waiting) -> Self {
        let endpoints = wire_up(2, WireConfig::default().mesh_queue_max).expect("three descriptors");
        let mut parties = endpoints.into_iter().map(|endpoint| Party { endpoint, waiting });
        let (Some(near), Some(far)) = (parties.next(), parties.next()) else { panic!("two shards") };
        let far = thread::spawn(move || {
            pin(CORES.last());
            loop {
                match far.receive() {
                    Message::Stop => return,
                    question @ Message::Ask { .. } => far.send(NEAR, question),
                    _ => {}
                }
            }
        });
        Self { near, far: Some(far) }
    }

    fn there_and_back(&self) -> Message {
        self.near.send(FAR, Message::Ask { id: AskId(1), query: Query::Counters });
        self.near.receive()
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        self.near.send(FAR, Message::Stop);
        let ended = self.far.take().map(JoinHandle::join);
        assert!(matches!(ended, Some(Ok(()))), "the other shard ends when it is told");
    }
}

/// There and back while both poll.
#[divan::bench]
fn busy(bencher: Bencher) {
    let pair = Pair::new(Waiting::Polls);
    bencher.counter(ItemsCount::new(2_usize)).bench_local(|| pair.there_and_back());
}

/// There and back while both sleep.
#[divan::bench]
fn idle(bencher: Bencher) {
    let pair = Pair::new(Waiting::Sleeps);
    bencher.counter(ItemsCount::new(2_usize)).bench_local(|| pair.there_and_back());
}

/// One message after another in one direction, to a shard that polls, and the last one's way back.
#[divan::bench]
fn stream(bencher: Bencher) {
    let pair = Pair::new(Waiting::Polls);
    bencher.counter(ItemsCount::new(STREAM)).bench_local(|| {
        for _ in 1..STREAM {
            pair.near.send(FAR, Message::Drain { window: Micros(0) });
        }
        pair.there_and_back()
    });
}
