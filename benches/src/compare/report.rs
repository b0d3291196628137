//! The comparison in words for a terminal and in JSON for a file.

use std::io::Write;

use anyhow::Result;
use serde_json::{Value, json};

use super::args::{Plan, Server};
use super::bounds::Verdict;
use super::figures::{Measured, Metric, Run, Spread};

/// One line per run on standard error, as it ends.
pub(super) fn progress(plan: &Plan, round: u32, server: Server, outcome: &Result<Run>) -> Result<()> {
    let mut err = std::io::stderr().lock();
    write!(err, "round {round}/{} {server:<20}", plan.rounds)?;
    match outcome {
        Ok(run) => {
            for metric in Metric::ALL {
                if let Some(figure) = run.figure(metric) {
                    write!(err, " {metric} {}", number(metric, figure))?;
                }
            }
            writeln!(err)?;
        }
        Err(error) => writeln!(err, " FAILED: {error:#}")?,
    }
    Ok(())
}

/// The medians, the ratios and the verdicts.
pub(super) fn print(plan: &Plan, measured: &Measured, verdicts: &[Verdict]) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", headline(plan))?;
    for metric in Metric::ALL {
        if plan.servers.iter().any(|&server| measured.figure(metric, server).is_some()) {
            print_metric(&mut out, plan, measured, metric)?;
        }
    }
    print_soundness(&mut out, plan, measured)?;
    for failure in measured.failures() {
        writeln!(out, "\nFAILED round {} {}: {}", failure.round, failure.server, failure.reason)?;
    }
    if !verdicts.is_empty() {
        writeln!(out)?;
    }
    for verdict in verdicts {
        let word = if verdict.holds { "holds " } else { "BROKEN" };
        let figure = verdict.measured.map_or_else(|| "no figure".to_owned(), |figure| format!("{figure:.3}"));
        writeln!(out, "{word}  {}  measured {figure}", verdict.bound)?;
    }
    out.flush()?;
    Ok(())
}

/// One metric: every server's figure, and what Voxhall's is to it.
fn print_metric(out: &mut impl Write, plan: &Plan, measured: &Measured, metric: Metric) -> Result<()> {
    writeln!(
        out,
        "\n{:<22}{:>32}{:>32}",
        heading(metric),
        "median (least … most)",
        "voxhall's, as a ratio to it"
    )?;
    for &server in &plan.servers {
        let figure = cell(measured.figure(metric, server), |figure| number(metric, figure));
        let ratio = match server {
            Server::Voxhall => String::new(),
            peer => cell(measured.ratio(metric, Server::Voxhall, peer), |ratio| format!("{ratio:.2}")),
        };
        writeln!(out, "  {}", format!("{server:<20}{figure:>32}{ratio:>32}").trim_end())?;
    }
    Ok(())
}

/// What would make a server's figures doubtful.
fn print_soundness(out: &mut impl Write, plan: &Plan, measured: &Measured) -> Result<()> {
    writeln!(out, "\n{:<22}{:>16}{:>16}{:>32}", "", "frames lost", "refused", "generator late, p99 in ms")?;
    for &server in &plan.servers {
        let total = |pointer| measured.of(server).filter_map(|run| run.number(pointer)).sum::<f64>();
        let late = Spread::of(measured.of(server).filter_map(|run| run.number("/lateness_us/p99")));
        let late = cell(late, |late| format!("{:.2}", late / 1000.0));
        writeln!(out, "  {server:<20}{:>16}{:>16}{late:>32}", total("/lost"), total("/handshakes/failed"))?;
    }
    Ok(())
}

/// Everything, every run's own report included.
pub(super) fn json(plan: &Plan, measured: &Measured, verdicts: &[Verdict]) -> Value {
    let figures = |of: &dyn Fn(Metric) -> Option<Spread>| -> Value {
        Metric::ALL
            .into_iter()
            .filter_map(|metric| Some((metric.name().to_owned(), json!(of(metric)?))))
            .collect()
    };
    let servers: Value = plan
        .servers
        .iter()
        .map(|&server| (server.to_string(), figures(&|metric| measured.figure(metric, server))))
        .collect();
    let peers = plan.servers.iter().filter(|&&server| server != Server::Voxhall);
    let ratios: Value = peers
        .map(|&peer| (peer.to_string(), figures(&|metric| measured.ratio(metric, Server::Voxhall, peer))))
        .collect();
    let runs: Vec<_> = measured
        .runs()
        .iter()
        .map(|(round, server, run)| json!({"round": round, "server": server, "run": run}))
        .collect();
    json!({
        "command": std::env::args().collect::<Vec<_>>().join(" "),
        "machine": machine(),
        "preset": plan.preset,
        "load": plan.load,
        "rounds": plan.rounds,
        "cores": {"server": plan.server_core, "generator": plan.generator_core},
        "figures": servers,
        "voxhall_over_peer": ratios,
        "bounds": verdicts,
        "failures": measured.failures(),
        "runs": runs,
    })
}

fn headline(plan: &Plan) -> String {
    let load = &plan.load;
    let mut line = format!("{}: {} clients", load.scenario, load.clients);
    if load.rate > 0 {
        line += &format!(", {} frames of {} bytes per second", load.rate, load.frame_bytes);
    }
    if let Some(percent) = load.quota_percent {
        line += &format!(", server held to {percent} % of a core");
    }
    line + &format!(
        "; {} rounds of {} s after {} s of warm-up; server on core {}, generator on core {}\n{}",
        plan.rounds,
        load.duration_s,
        load.warmup_s,
        plan.server_core,
        plan.generator_core,
        machine()
    )
}

/// The processor and the kernel.
fn machine() -> String {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let count = cpuinfo.lines().filter(|line| line.starts_with("processor")).count();
    let model = model.map_or("unknown processor", |(_, model)| model);
    format!("{count} × {model}, Linux {}", read("/proc/sys/kernel/osrelease").trim())
}

const fn heading(metric: Metric) -> &'static str {
    match metric {
        Metric::Cpu => "CPU, µs a frame",
        Metric::P99 => "p99, ms",
        Metric::Rate => "frames/s",
        Metric::Rss => "bytes a connection",
        Metric::Handshakes => "handshakes/s",
        Metric::HandshakeCpu => "CPU, µs a connection",
    }
}

fn number(metric: Metric, figure: f64) -> String {
    match metric {
        Metric::Cpu | Metric::HandshakeCpu => format!("{figure:.2}"),
        Metric::P99 => format!("{:.2}", figure / 1000.0),
        Metric::Rate | Metric::Rss | Metric::Handshakes => format!("{figure:.0}"),
    }
}

fn cell(spread: Option<Spread>, number: impl Fn(f64) -> String) -> String {
    spread.map_or_else(
        || "–".to_owned(),
        |Spread { median, min, max }| format!("{} ({} … {})", number(median), number(min), number(max)),
    )
}
