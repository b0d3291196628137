//! The outbox: a shard's outbound queues. Each connection has one [`Lane`]; each message in it belongs to one of
//! three classes, which decide what gives way when the lane is full.

mod lane;
#[cfg(test)]
mod lane_tests;

pub use lane::{Books, DropNote, Enqueue, Lane, Message, Shape};
