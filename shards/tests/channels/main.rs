//! Channels over several shards: who hears what, in which order, and what they are told of the rest.

mod again;
mod feeds;
mod lanes;
mod publishing;
mod random;
mod recovery;
mod rig;
mod rights;
#[path = "../support/mod.rs"]
mod support;
