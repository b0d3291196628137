//! Channels over several shards: who hears what, in which order, and what they are told of the rest.

mod lanes;
mod publishing;
mod recovery;
mod rig;
mod rights;
