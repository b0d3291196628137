//! Start-up: what the host allows, the addresses, the shards, the control plane; then the ready line.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use shards::core::Gate;
use shards::rt::{Clock, NodeConfig, preflight};
use tuning::{Host, Standing};

use crate::Failure;
use crate::cli::ready_line;
use crate::config::Config;
use crate::control::{self, Beside, Signals};
use crate::jobs::Jobs;
use crate::notify::{self, Notice};
use crate::store::Stores;
use crate::{audit, auth, logging, out};

/// Connections without which starting makes no sense.
const CONNECTIONS_MIN: u64 = 64;
/// Sockets the shards may hold beside the connections they are allowed: those that are just being told 503.
const SOCKETS_BESIDE: usize = 32;

/// Serves until the node ends.
pub(crate) fn serve(mut config: Config, host: &Host) -> Result<(), Failure> {
    logging::start(config.log);
    raise_limits();
    check_host(&config, host)?;
    let gate = auth::open(&config)?;
    config.shard.gate = gate.clone().map(|gate| gate as Arc<dyn Gate>);
    let audit = audit::open(&config)?;
    let jobs = config.jobs.as_ref().map(Jobs::new).transpose()?;
    let clock = Clock::start();
    let opened =
        config.store.as_ref().map(|store| Stores::open(store, config.cores.len(), clock)).transpose()?;
    let kept_key = opened.as_ref().map(|opened| opened.resume_key);
    config.shard.resume_key = config.resume_key.or(kept_key).map_or_else(fresh_key, Ok)?;
    let (stores, voice) = opened.map(|opened| (opened.stores, opened.voice)).unzip();
    let log = audit.as_ref().map(|ending| ending.audit());
    let admin = control::AdminListener::bind(&config.admin).map_err(Failure::Fault)?;
    let admin_at = admin.listens_at().map_err(broken("the management address"))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(broken("the control plane's runtime"))?;
    let entered = runtime.enter();
    // Before the shards start: from here on a signal ends the node politely.
    let signals = Signals::listen().map_err(broken("signal handling"))?;
    let (node, mailbox) = shards::rt::start(node_config(&config, log.as_ref(), clock))
        .map_err(|error| Failure::Fault(error.to_string()))?;
    let public = (node.listens_at(), config.wire.tls.is_some());
    let engine = config.shard.room.engine.name();
    let line = ready_line(public, (&admin_at, config.admin_tls.is_some()), node.shards(), engine);
    let ready = || {
        out::print(&format!("{line}\n"))?;
        notify::tell(Notice::Ready(&line));
        Ok(())
    };
    // The node is out here, so that it can be ended in an orderly way whatever becomes of the control plane.
    let served = catch_unwind(AssertUnwindSafe(|| {
        runtime.block_on(control::run(
            &config,
            Beside { gate, audit: log, jobs, stores },
            voice,
            &node,
            mailbox,
            admin,
            signals,
            ready,
        ))
    }));
    drop(entered);
    // Not waiting for keys that are just being fetched.
    runtime.shutdown_background();
    let ended = control::end(node, served).map_err(Failure::Died);
    // The shards have ended: nothing comes any more.
    audit.into_iter().for_each(audit::Ending::finish);
    ended
}

fn node_config(config: &Config, audit: Option<&audit::Audit>, clock: Clock) -> NodeConfig {
    let upstream = config.realtime.as_ref().map_or(0, |realtime| realtime.sockets);
    NodeConfig {
        listen: config.listen.clone(),
        cores: config.cores.iter().map(|&core| config.pinned.then_some(core)).collect(),
        wire: config.wire.clone(),
        shard: config.shard.clone(),
        descriptors_max: (config.connections_max + upstream) as usize + SOCKETS_BESIDE,
        // Only has to differ from start to start.
        audit: audit.map(audit::Audit::lanes_of_shards).unwrap_or_default(),
        seed: RandomState::new().hash_one(std::process::id()),
        clock,
    }
}

/// A key that nobody else has: what was signed with it is good until this process ends.
fn fresh_key() -> Result<[u8; 32], Failure> {
    let mut key = [0; 32];
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let filled = provider.secure_random.fill(&mut key);
    filled
        .map(|()| key)
        .map_err(|_| Failure::Fault("the system gives no random bytes for the resume key".into()))
}

/// Raises the soft limits as far as this process may. A failure shows in the checks that follow.
fn raise_limits() {
    for resource in [Resource::Nofile, Resource::Memlock] {
        let limit = getrlimit(resource);
        if limit.current != limit.maximum {
            let _ = setrlimit(resource, Rlimit { current: limit.maximum, maximum: limit.maximum });
        }
    }
}

/// Refuses to start where it can't work, and says what makes it slower than its profile means to be.
fn check_host(config: &Config, host: &Host) -> Result<(), Failure> {
    for probe in preflight() {
        let remedy = probe.remedy.as_deref().map(|remedy| format!("; {remedy}")).unwrap_or_default();
        if probe.ok {
            continue;
        }
        if probe.fatal {
            return Err(Failure::Fault(format!("{} falls short: {}{remedy}", probe.name, probe.found)));
        }
        tracing::warn!(
            check = probe.name,
            found = probe.found,
            remedy = probe.remedy,
            "the host falls short"
        );
    }
    if let Some(nofile) = host.nofile {
        let needed = tuning::descriptors_for(CONNECTIONS_MIN, config.cores.len());
        if nofile.hard < needed {
            return Err(Failure::Fault(format!(
                "this process may open {} descriptors and needs {needed} before it serves anybody; raise the limit: \
                 `ulimit -n 65536`, LimitNOFILE=65536 in the unit, or --ulimit nofile=65536:65536 in Docker",
                nofile.hard
            )));
        }
    }
    for check in tuning::checks_on(host, &config.profile, &config.cores, config.connections_max) {
        if check.standing == Standing::Fails {
            tracing::warn!(
                check = check.name,
                found = check.found,
                wanted = check.wanted,
                remedy = check.remedy,
                "the host does not meet the profile: `voxhall doctor` says more"
            );
        }
    }
    Ok(())
}

fn broken(what: &'static str) -> impl FnOnce(std::io::Error) -> Failure {
    move |error| Failure::Fault(format!("{what} broke: {error}"))
}
