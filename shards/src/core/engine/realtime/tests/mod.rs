//! The engine against a scripted model server, on a clock that the test moves.

mod audio;
mod barge;
mod faults;
mod life;
mod passing;
mod rig;
mod scanning;
mod swap;
