//! The `voxhall` program: command line, configuration, control plane, start-up and shutdown. No room logic.
//!
//! Exit codes: 0 clean, 1 it can't start or do what it was asked for, 2 usage or configuration, 70 a fault of the
//! program itself. A panic while a panic is handled aborts the process.

mod audit;
mod auth;
mod backoff;
mod cli;
mod config;
mod control;
mod doctor;
mod jobs;
mod logging;
mod notify;
mod out;
mod publish;
mod start;
mod store;
mod worker;

use std::panic::catch_unwind;
use std::process::ExitCode;

use clap::Parser;
use tuning::Host;

use crate::cli::{Cli, Command};

/// `EX_SOFTWARE` of sysexits.h: a part of the program panicked.
const OWN_FAULT: u8 = 70;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match catch_unwind(|| run(Cli::parse().command)) {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(failure)) => {
            out::complain(&failure.to_string());
            failure.code()
        }
        // The panic's hook has said why.
        Err(_) => ExitCode::from(OWN_FAULT),
    }
}

fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Serve(options) => {
            let host = Host::read();
            let config = config::resolve(options.gather(), &host).map_err(Failure::Configuration)?;
            start::serve(config, &host)
        }
        Command::Doctor(options) => {
            let host = Host::read();
            let config = config::resolve(options.gather(), &host).map_err(Failure::Configuration)?;
            doctor::run(&config, &host)
        }
        Command::CheckConfig(options) => {
            let config = config::resolve(options.gather(), &Host::read()).map_err(Failure::Configuration)?;
            auth::check_files(&config)?;
            Ok(out::print(&config::effective_config(&config))?)
        }
        Command::Token(options) => {
            let config = config::resolve(options.gather(), &Host::read()).map_err(Failure::Configuration)?;
            let token = auth::mint(&config, &options.wanted()).map_err(Failure::Usage)?;
            Ok(out::print(&format!("{token}\n"))?)
        }
        Command::Publish(options) => publish::run(&options),
        Command::DefaultConfig => Ok(out::print(&config::default_config())?),
    }
}

/// Why the program ends with another code than 0.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The operator's configuration: code 2.
    #[error("{0}")]
    Configuration(config::ConfigErrors),
    /// What was asked for can't be done with this configuration: code 2. A sentence, with the remedy.
    #[error("voxhall: {0}\n")]
    Usage(String),
    /// It can't start, or go on: code 1. A sentence, with the remedy.
    #[error("voxhall: {0}\n")]
    Fault(String),
    /// A part of the program died while it served: code 70. The sentence says which and why.
    #[error("voxhall: {0}\n")]
    Died(String),
    /// `doctor` found that the profile can't be met, and has said why: code 1.
    #[error("")]
    Unmet,
    /// Standard output can't be written: code 1.
    #[error("voxhall: standard output can't be written: {0}\n")]
    Output(#[from] std::io::Error),
}

impl Failure {
    fn code(&self) -> ExitCode {
        match self {
            Self::Configuration(_) | Self::Usage(_) => ExitCode::from(2),
            Self::Died(_) => ExitCode::from(OWN_FAULT),
            Self::Fault(_) | Self::Unmet | Self::Output(_) => ExitCode::from(1),
        }
    }
}
