//! Voxhall and its peers in turn under the same load, several rounds of it, and the ratios between them.
//!
//! Each round runs every server once, alone on its core, with the load generator alone on another. A figure
//! of one server means little on a machine that other things share; the ratio of two servers in the same
//! round means more, and the median of the rounds' ratios is what gets reported and checked.
//!
//! One thread, which sleeps while a measurement runs. Every wait has a deadline, and every process and
//! control group made here is gone when [`run`] returns or is dropped.

mod args;
mod bounds;
mod figures;
mod process;
mod quota;
mod report;
mod round;

use std::collections::VecDeque;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::signal::unix::{SignalKind, signal};

pub use args::{Args, Preset, Server};
pub use bounds::Bound;
pub use figures::Metric;

use args::Plan;
use figures::Measured;

/// Runs the comparison that `args` ask for and prints its report. The exit code is 1 if a run failed or a
/// bound is broken.
///
/// # Errors
/// If a program is missing, the control group can't be made, or the report can't be written.
pub fn run(args: Args) -> Result<ExitCode> {
    let plan = Plan::new(args)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (mut interrupt, mut terminate) =
            (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        tokio::select! {
            finished = compare(&plan) => finished,
            _ = interrupt.recv() => Ok(ExitCode::from(130)),
            _ = terminate.recv() => Ok(ExitCode::from(143)),
        }
    })
}

async fn compare(plan: &Plan) -> Result<ExitCode> {
    let mut measured = Measured::default();
    for round in 1..=plan.rounds {
        for server in order(&plan.servers, round) {
            let outcome = round::measure(plan, server, measured.runs_begun()).await;
            report::progress(plan, round, server, &outcome)?;
            measured.add(round, server, outcome);
            tokio::time::sleep(Duration::from_millis(plan.pause_ms)).await;
        }
    }
    let verdicts: Vec<_> = plan.bounds.iter().map(|bound| bound.judge(&measured)).collect();
    report::print(plan, &measured, &verdicts)?;
    if let Some(path) = &plan.json {
        let json = serde_json::to_vec_pretty(&report::json(plan, &measured, &verdicts))?;
        std::fs::write(path, json).with_context(|| format!("writing {}", path.display()))?;
    }
    let sound = measured.failures().is_empty() && verdicts.iter().all(|verdict| verdict.holds);
    Ok(if sound { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Each round begins with another server, so that none always runs in the wake of the same one.
fn order(servers: &[Server], round: u32) -> VecDeque<Server> {
    let mut servers: VecDeque<_> = servers.iter().copied().collect();
    let first = (round as usize - 1) % servers.len().max(1);
    servers.rotate_left(first);
    servers
}
