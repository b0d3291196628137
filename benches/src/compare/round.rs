//! One run: a server started, put under load, measured, and stopped.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tokio::io::AsyncReadExt;
use tokio::process::Command;
use tokio::time::{Instant, sleep, timeout};

use super::args::{Load, Plan, Server};
use super::figures::Run;
use super::process::{self, Running, spawn_on_core};
use super::quota::Quota;

/// What the load generator may take beyond warm-up and measurement: connecting, closing, reporting.
const GENERATOR_EXTRA_S: u64 = 90;
/// From the last connection's establishment until the quota: the handshakes still queued get done.
const SETTLE_MS: u64 = 1000;

/// The limits on what clients send and how often they come; 0 switches each off.
const UNLIMITED: [&str; 3] = ["limits.messages_per_s", "limits.bytes_per_s", "limits.upgrades_per_s_per_ip"];

/// Runs `server` once, as the `index`th run of the comparison.
pub(super) async fn measure(plan: &Plan, server: Server, index: usize) -> Result<Run> {
    let port = plan.port + 2 * u16::try_from(index)?;
    let address = format!("127.0.0.1:{port}");
    let quota = match plan.load.quota_percent {
        Some(percent) => Some(Quota::new(percent, plan.load.quota_period_us)?),
        None => None,
    };
    let mut command = server_command(plan, server, &address, port + 1);
    let running = Running::start(&mut command, plan.server_core, &address).await?;
    let rss_before_bytes = process::rss_bytes(running.pid())?;
    let cpu_before = process::cpu_us(running.pid())?;
    let outcome = load_server(plan, server, &running, &address, port, quota.as_ref()).await;
    let server_cpu_us = process::cpu_us(running.pid()).map(|cpu| cpu - cpu_before);
    let throttled_periods = quota.as_ref().map(Quota::throttled_periods).transpose()?;
    // Before the outcome, since a server that ended by itself explains a load that failed.
    running.stop().await?;
    let (report, server_cpu_us) = (outcome?, server_cpu_us?);
    Ok(Run { rss_before_bytes, server_cpu_us, throttled_periods, report })
}

/// Puts the server under load; with a quota, into the quota as well.
async fn load_server(
    plan: &Plan,
    kind: Server,
    server: &Running,
    address: &str,
    port: u16,
    quota: Option<&Quota>,
) -> Result<Value> {
    let load = generate(plan, kind, address, server.pid());
    let Some(quota) = quota else { return load.await };
    tokio::pin!(load);
    tokio::select! {
        early = &mut load => early.and_then(|_| bail!("the load ended before the quota began")),
        held = hold_back(quota, server.pid(), port, &plan.load) => {
            held?;
            load.await
        }
    }
}

fn server_command(plan: &Plan, server: Server, address: &str, admin_port: u16) -> Command {
    let core = plan.server_core.to_string();
    if server.is_voxhall() {
        let mut command = Command::new(&plan.voxhall);
        command.args(["serve", "--shards", "1", "--cores", &core, "--engine", "echo", "--listen", address]);
        command.args(["--admin", &format!("127.0.0.1:{admin_port}")]).args(&plan.voxhall_args);
        if server == Server::VoxhallUnlimited {
            UNLIMITED.iter().for_each(|limit| _ = command.args(["--set", &format!("{limit}=0")]));
        }
        command
    } else {
        let mut command = Command::new(&plan.peers);
        command.args([&server.to_string(), "--listen", address, "--core", &core]);
        command
    }
}

/// Puts the server into its quota once every client is connected.
async fn hold_back(quota: &Quota, pid: u32, port: u16, load: &Load) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(GENERATOR_EXTRA_S);
    while process::established(port)? < load.clients as usize {
        if Instant::now() > deadline {
            bail!("not all {} clients connected within {GENERATOR_EXTRA_S} s", load.clients);
        }
        sleep(Duration::from_millis(200)).await;
    }
    sleep(Duration::from_millis(SETTLE_MS)).await;
    quota.admit(pid)
}

/// Runs the load generator to its end and returns its report.
async fn generate(plan: &Plan, kind: Server, address: &str, server_pid: u32) -> Result<Value> {
    let load = &plan.load;
    let mut command = Command::new(&plan.loadtest);
    command.args([
        load.scenario,
        "--url",
        &format!("ws://{address}"),
        "--clients",
        &load.clients.to_string(),
    ]);
    if load.rate > 0 {
        command.args(["--rate", &load.rate.to_string(), "--frame-bytes", &load.frame_bytes.to_string()]);
    }
    if !kind.is_voxhall() {
        // A client of a room waits for the room's first event; a bare echo server never sends one.
        command.arg("--peer");
    }
    command.args(["--duration-s", &load.duration_s.to_string(), "--warmup-s", &load.warmup_s.to_string()]);
    command.args(["--cores", &plan.generator_core.to_string(), "--server-pid", &server_pid.to_string()]);
    command.args(["--json", "-", "--quiet"]).args(&plan.loadtest_args).stdout(Stdio::piped());
    let (mut child, complaints) = spawn_on_core(&mut command, plan.generator_core)?;
    let mut stdout = child.stdout.take().context("standard output is piped")?;
    let limit_s = u64::from(load.duration_s) + u64::from(load.warmup_s) + GENERATOR_EXTRA_S;
    let mut json = Vec::new();
    let ended = timeout(Duration::from_secs(limit_s), async {
        stdout.read_to_end(&mut json).await?;
        child.wait().await
    });
    let Ok(status) = ended.await else {
        bail!("the load generator was not done after {limit_s} s{}", complaints.of_ended(&mut child).await)
    };
    let status = status?;
    if !status.success() {
        bail!("the load generator failed, {status}{}", complaints.of_ended(&mut child).await);
    }
    serde_json::from_slice(&json).context("the load generator's report is no JSON")
}
