//! `voxhall-peers`: one of the echo servers that Voxhall is compared with, on one core.

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use voxhall_benches::peers;

/// The allocator that Voxhall uses as well, so that no comparison measures the allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match peers::run(&peers::Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "voxhall-peers: {error:#}");
            ExitCode::FAILURE
        }
    }
}
