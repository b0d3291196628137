//! End-to-end benchmarks of Voxhall.
//!
//! [`peers`] are WebSocket echo servers to measure Voxhall against; [`compare`] runs them and Voxhall in turn
//! under the same load and reports the ratios. The programs `voxhall-peers` and `voxhall-compare` are thin
//! wrappers around the two.

pub mod compare;
pub mod peers;
