//! `voxhall-compare`: Voxhall and its peers in turn under the same load.

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use voxhall_benches::compare;

fn main() -> ExitCode {
    compare::run(compare::Args::parse()).unwrap_or_else(|error| {
        let _ = writeln!(std::io::stderr(), "voxhall-compare: {error:#}");
        ExitCode::FAILURE
    })
}
