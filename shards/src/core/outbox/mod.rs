//! The outbox: a shard's outbound queues. Each connection has one [`Lane`]; each message in it belongs to one of
//! three classes, which decide what gives way when the lane is full.

mod drops;
mod lane;
#[cfg(test)]
mod lane_tests;
#[cfg(test)]
mod lane_wire_tests;
mod message;

pub use drops::DropNote;
pub use lane::{Books, Enqueue, Lane};
pub use message::{Message, Shape};
