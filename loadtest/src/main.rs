//! The load generator: opens thousands of rooms, talks on an open-loop clock, and says what came back, when, and at
//! what cost to the server.
//!
//! The process that is started coordinates and measures the server; the connections live in worker processes, one
//! thread each, that it starts from the same program.

mod admin;
mod args;
mod clock;
mod coordinator;
mod expect;
mod flood;
mod frame;
mod host;
mod html;
mod ipc;
mod plan;
mod plot;
mod progress;
mod publish;
mod report;
mod sampler;
mod soak;
mod socket;
mod stream;
mod summary;
mod table;
mod tally;
mod track;
mod worker;

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use clap::Parser as _;

use args::{Args, Job};
use report::Report;

/// The first argument of a worker process.
const WORKER: &str = "__worker";

/// The first argument of a process of subscribers.
const LISTENER: &str = "__listener";

/// The scenarios with arguments and a loop of their own.
const SOAK: &str = "soak";
const PUBLISH: &str = "publish";

fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        Some(WORKER) => return ended(worker::run()),
        Some(LISTENER) => return ended(publish::listen()),
        Some(SOAK) => return told(soak::main(std::env::args().skip(1))),
        Some(PUBLISH) => return told(publish::main(std::env::args().skip(1))),
        _ => {}
    }
    let descriptors = host::raise_descriptor_limit();
    let job = match Args::parse().resolve(descriptors) {
        Ok(job) => job,
        Err(fault) => return complain(&fault, 2),
    };
    match coordinator::run(&job).and_then(|report| hand_out(&job, &report).map(|()| report)) {
        Ok(report) => verdict(&report),
        Err(fault) => complain(&fault, 1),
    }
}

/// The end of a process that another one started.
fn ended(done: Result<(), String>) -> ExitCode {
    done.map_or_else(|fault| complain(&fault, 1), |()| ExitCode::SUCCESS)
}

/// The end of a scenario that says by itself what there is to say, and whether all went well.
fn told(done: Result<(String, bool), (String, u8)>) -> ExitCode {
    match done {
        Ok((report, clean)) => {
            if !report.is_empty() {
                say(&report);
            }
            if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err((fault, code)) => complain(&fault, code),
    }
}

/// Writes table, JSON and page, as asked.
fn hand_out(job: &Job, report: &Report) -> Result<(), String> {
    let json_on_stdout = job.json.as_deref() == Some(Path::new("-"));
    if let Some(path) = &job.json {
        let json = serde_json::to_string_pretty(report).map_err(|error| format!("the report: {error}"))?;
        if json_on_stdout {
            say(&json);
        } else {
            std::fs::write(path, json + "\n")
                .map_err(|error| format!("--json {}: {error}", path.display()))?;
        }
    }
    if let Some(path) = &job.html {
        let page = html::page(report)?;
        std::fs::write(path, page).map_err(|error| format!("--html {}: {error}", path.display()))?;
    }
    if !job.quiet && !json_on_stdout {
        say(&table::render(report));
    }
    Ok(())
}

fn verdict(report: &Report) -> ExitCode {
    let broken: Vec<String> = report
        .expect
        .iter()
        .filter(|verdict| !verdict.ok)
        .map(|verdict| match verdict.value {
            Some(value) => {
                format!("{} (it was {})", verdict.bound, table::metric_value(&verdict.bound, value))
            }
            None => format!("{} (it could not be measured)", verdict.bound),
        })
        .collect();
    if broken.is_empty() {
        return ExitCode::SUCCESS;
    }
    complain(&format!("broken: {}", broken.join("; ")), 1)
}

fn say(text: &str) {
    // A closed pipe is the reader's choice.
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

fn complain(fault: &str, code: u8) -> ExitCode {
    let _ = writeln!(std::io::stderr().lock(), "voxhall-loadtest: {fault}");
    ExitCode::from(code)
}
