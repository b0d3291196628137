//! The control plane: everything that is not realtime, on one ordinary async thread. It asks the shards and never
//! shares memory with them.

mod access;
mod admin;
mod admin_listener;
mod assets;
mod body;
mod contain;
mod dead_letters;
mod drain;
#[cfg(debug_assertions)]
mod faults;
mod health;
mod http;
mod lifecycle;
mod line;
mod memory;
mod metrics;
mod names;
mod problem;
mod process;
mod public;
mod publications;
mod readings;
mod reload;
mod rooms;
mod secured;
mod socket;
mod stats;
mod tally;
#[cfg(test)]
mod testing;
mod upstreams;
mod users;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use shards::core::ModelServer;
use shards::rt::{ControlLine, Node};
use tokio::time::Instant;

pub(crate) use admin_listener::AdminListener;
pub(crate) use drain::{Signals, end};
pub(crate) use line::{AskError, Line};
pub(crate) use problem::Problem;
pub(crate) use tally::{Awaited, NotPublished, Reach};

use crate::audit::Audit;
use crate::auth::{JwtGate, keep_fresh};
use crate::config::{AuthConfig, Config};
use crate::jobs::Jobs;
use crate::publish::Publishing;
use crate::store::{Stores, Voice};
use crate::worker::{Bureau, Workers};
use lifecycle::Lifecycle;
use line::{Switchboard, Takers};

/// How long Redis has for the last jobs when the node has to end at once.
const HASTE: Duration = Duration::from_millis(500);
/// How long the store has for its last write, beside what a disk takes that is busy.
const STORE: Duration = Duration::from_secs(10);

/// What every handler may use.
pub(crate) type App = Arc<Plane>;

/// The control plane's own state.
#[derive(Debug)]
pub(crate) struct Plane {
    line: Line,
    lifecycle: Lifecycle,
    started: Instant,
    engine: &'static str,
    profile: &'static str,
    echo_endpoint: bool,
    message_bytes_max: usize,
    json_depth_max: usize,
    limits: Vec<(&'static str, u64)>,
    /// Where model sessions are had, if anywhere.
    model_server: Option<Arc<ModelServer>>,
    /// Who may use the API; everybody where there is none.
    gate: Option<Arc<JwtGate>>,
    has_secret: bool,
    /// Where it is written down what the API is used for, if it is.
    audit: Option<Audit>,
    /// Who is told of rooms that have ended, if anybody is.
    jobs: Option<Jobs>,
    /// The way to the workers, if there are any.
    workers: Option<Workers>,
    /// What rooms remember beyond the process, if anything.
    stores: Option<Stores>,
    /// What is published from outside, and what could not be delivered.
    publishing: Publishing,
}

/// What works beside the control plane's own parts, each where it is configured.
#[derive(Clone, Debug, Default)]
pub(crate) struct Beside {
    /// Who may use the API.
    pub(crate) gate: Option<Arc<JwtGate>>,
    /// Where it is written down what the API is used for.
    pub(crate) audit: Option<Audit>,
    /// Who is told of rooms that have ended.
    pub(crate) jobs: Option<Jobs>,
    /// What rooms remember beyond the process.
    pub(crate) stores: Option<Stores>,
}

impl Plane {
    fn new(config: &Config, beside: Beside, workers: Option<Workers>, line: Line) -> App {
        let Beside { gate, audit, jobs, stores } = beside;
        Arc::new(Self {
            line,
            lifecycle: Lifecycle::new(),
            started: Instant::now(),
            engine: config.shard.room.engine.name(),
            profile: config.profile.name.as_str(),
            echo_endpoint: config.shard.echo_endpoint,
            message_bytes_max: config.shard.limits.message_bytes_max,
            json_depth_max: config.shard.limits.json_depth_max,
            limits: config.limits().collect(),
            model_server: config.shard.model_server.clone(),
            gate,
            has_secret: matches!(&config.auth, AuthConfig::Jwt(jwt) if !jwt.secret.is_empty()),
            audit,
            jobs,
            workers,
            stores,
            publishing: Publishing::new(config.publish),
        })
    }
}

/// Runs the control plane until the node is to end, or can't go on.
///
/// # Errors
/// When the thread's own plumbing breaks.
pub(crate) async fn run(
    config: &Config,
    beside: Beside,
    voice: Option<Voice>,
    node: &Node,
    mailbox: ControlLine,
    admin: AdminListener,
    mut signals: Signals,
    ready: impl FnOnce() -> std::io::Result<()>,
) -> std::io::Result<()> {
    let (switchboard, line) = Switchboard::new(mailbox);
    let (workers, bureau) = config.worker.clone().map(Workers::new).unzip();
    let app = Plane::new(config, beside.clone(), workers.clone(), line.clone());
    let Beside { gate, audit, jobs, stores } = beside;
    let takers = Takers {
        jobs: jobs.clone(),
        workers,
        stores: stores.clone(),
        letters: Some(app.publishing.letters.clone()),
    };
    let takers_of_the_end = takers.clone();
    let door = public::Door::new(Arc::clone(&app));
    let admin = admin::Server::new(admin, config.admin_tls.clone(), Arc::clone(&app))?;
    let quotas = Arc::clone(node.quotas());
    let reload = reload::Reload::listen(config, audit)?;
    names::look_once(config.realtime.as_ref()).await;
    ready()?;
    tokio::select! {
        broken = switchboard.run(|handoff| door.take(handoff), takers) => broken.map(|never| match never {}),
        broken = admin.run() => broken.map(|never| match never {}),
        broken = keep_fresh(config.auth.clone(), gate) => broken.map(|never| match never {}),
        broken = memory::watch(config.shed_memory_bytes, quotas) => broken.map(|never| match never {}),
        broken = names::keep_known(config.realtime.as_ref()) => broken.map(|never| match never {}),
        broken = reload.run() => broken.map(|never| match never {}),
        never = ask_workers(bureau, line.clone()) => match never {},
        never = health::keep_watchdog_calm(Arc::clone(&app)) => match never {},
        never = deliver(jobs.as_ref()) => match never {},
        never = speak(voice, line.clone()) => match never {},
        () = until_the_end(config, node, line, app.lifecycle.clone(), &mut signals, &takers_of_the_end) => Ok(()),
    }
}

/// Delivers jobs, where there are any.
async fn deliver(jobs: Option<&Jobs>) -> Infallible {
    match jobs {
        Some(jobs) => jobs.run().await,
        None => std::future::pending().await,
    }
}

/// What the store says is told to shards, where there is one.
async fn speak(voice: Option<Voice>, line: Line) -> Infallible {
    if let Some(voice) = voice {
        voice.speak(line).await;
    }
    // Its thread has ended.
    std::future::pending().await
}

/// Until nothing is left to wait for: the clients have gone, the jobs of their rooms are delivered, and what the rooms
/// remember is written.
async fn until_the_end(
    config: &Config,
    node: &Node,
    line: Line,
    lifecycle: Lifecycle,
    signals: &mut Signals,
    takers: &Takers,
) {
    let patient = drain::supervise(node, line.clone(), lifecycle, signals, config.drain).await;
    let within = |flush: Duration| if patient { flush } else { HASTE.min(flush) };
    let jobs = within(config.jobs.as_ref().map_or(Duration::ZERO, |jobs| jobs.flush));
    drain::deliver_last(node, &line, signals, takers, (jobs, within(STORE))).await;
}

/// Where there are no workers, there is nothing to do.
async fn ask_workers(bureau: Option<Bureau>, line: Line) -> Infallible {
    match bureau {
        Some(bureau) => bureau.run(line).await,
        None => std::future::pending().await,
    }
}
