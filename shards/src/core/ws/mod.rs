//! The WebSocket codec (RFC 6455), receiving half: from the bytes of a connection to its messages, in place.
//!
//! It serves both roles: frames of clients are masked, those of servers are not (section 5.1).
//!
//! Owned by one connection of a shard and called on the shard's thread. A frame that lies whole in the receive
//! buffer is unmasked there and handed out as a part of it: nothing is allocated or copied. Only what is unfinished
//! is copied aside, into memory that grows with what has arrived and is bounded by the longest message allowed.
//! A compressed message comes out as it came in: [`super::deflate`] inflates it, with what one shard has for all.
//! Sending needs no codec: see [`super::frame`].

mod decoder;
mod header;
mod held;
mod item;
mod mask;

#[cfg(test)]
mod clause_tests;
#[cfg(test)]
mod compression_tests;
#[cfg(test)]
mod property_tests;
#[cfg(test)]
mod test_frames;

pub use decoder::{Decoder, Rules};
pub use item::{Item, Violation};
pub(super) use mask::apply as apply_mask;
pub use tungstenite::protocol::frame::coding::{CloseCode, OpCode};
