//! The data plane of Voxhall: what runs on every core.
//!
//! [`core`] decides (sans-IO, synchronous, deterministic), [`rt`] moves bytes and messages (glommio, io_uring),
//! and [`sim`] runs the same core in a seeded, simulated world. Dependencies point from `rt` and `sim` to `core`,
//! never back.

pub mod core;
pub mod rt;
pub mod sim;
