//! The report as text for a terminal.

use std::fmt::Write as _;

use crate::report::{FloodFigures, Percentiles, Report};
use crate::tally::Counts;

/// Draws the table.
pub(crate) fn render(report: &Report) -> String {
    let mut table = String::new();
    let mut row = |name: &str, value: String| {
        if !value.is_empty() {
            let _ = writeln!(table, "  {name:<18}{value}");
        }
    };
    let scale =
        format!("{} clients in {} rooms, {:.1} s measured", report.clients, report.rooms, report.duration_s);
    row(report.scenario, scale);
    let shakes = &report.handshakes;
    row(
        "handshakes",
        format!(
            "{} ok, {} failed · {:.0}/s · p50 {} p99 {} max {}",
            shakes.ok,
            shakes.failed,
            shakes.per_s,
            time(shakes.p50_us),
            time(shakes.p99_us),
            time(shakes.max_us)
        ),
    );
    if report.offered > 0 {
        let (offered, rate) = (report.offered_per_s, report.rate_per_s);
        row("rate", format!("{offered:.0}/s offered, {rate:.0}/s delivered"));
        let frames =
            format!("{} offered, {} sent, {} delivered", report.offered, report.sent, report.delivered);
        let astray =
            format!("{} lost, {} duplicated, {} reordered", report.lost, report.duplicated, report.reordered);
        row("frames", format!("{frames} · {astray}, {} dropped by the server", report.dropped));
        row("latency", percentiles(&report.latency_us));
        row("generator late", percentiles(&report.lateness_us));
        row("beyond lateness", format!("p99 {}", time(report.beyond_lateness_us.p99)));
    }
    row("events", format!("{} in {} text frames", report.events_received, report.batches_received));
    row("closes", counts(&report.closes));
    row("errors", counts(&report.errors));
    row("server", server(report));
    row("server counters", counters(report));
    let own = &report.generator;
    let each = own.cpu_us_per_message.map(|us| format!(", {us:.2} us a frame")).unwrap_or_default();
    row("generator", format!("{:.2} s CPU{each}", own.cpu_s));
    scenario_rows(report, &mut row);
    for verdict in &report.expect {
        let value = verdict.value.map_or("not measured".into(), |value| metric_value(&verdict.bound, value));
        row(if verdict.ok { "held" } else { "BROKEN" }, format!("{} · {value}", verdict.bound));
    }
    table.truncate(table.trim_end().len());
    table
}

fn scenario_rows(report: &Report, row: &mut impl FnMut(&str, String)) {
    if report.conversations > 0 {
        row("conversations", report.conversations.to_string());
    }
    if let Some(slow) = &report.slow {
        let closes = counts(&slow.closes);
        row("slow clients", format!("{} · closes {closes} · {} still open", slow.clients, slow.still_open));
        row("others before", percentiles(&slow.others_before_us));
        row("others after", percentiles(&slow.others_after_us));
    }
    if let Some(flood) = &report.flood {
        let answers = counts(&flood.answers);
        let FloodFigures { from, attempts, per_s, .. } = flood;
        row("flood", format!("{attempts} handshakes from {from}, {per_s:.0}/s · {answers}"));
        row("others before", percentiles(&flood.others_before_us));
        row("others after", percentiles(&flood.others_after_us));
    }
    if let Some(converse) = &report.converse {
        row("utterances", format!("{}, {} answered whole", converse.utterances, converse.whole));
        row("first audio", percentiles(&converse.first_audio_us));
    }
    if let Some(storm) = &report.storm {
        let back = storm.back_s.map_or("not all back".into(), |back_s| format!("all back in {back_s:.3} s"));
        row(
            "storm",
            format!("{} cut, {} back, {} retries · {back}", storm.dropped, storm.back, storm.retries),
        );
        row(
            "each",
            format!(
                "p50 {:.1} ms p99 {:.1} ms slowest {:.1} ms",
                storm.p50_ms, storm.p99_ms, storm.slowest_ms
            ),
        );
        row(
            "dialled",
            format!(
                "late p99 {:.1} ms; from there p50 {:.1} ms p99 {:.1} ms slowest {:.1} ms",
                storm.lateness_p99_ms, storm.beyond_p50_ms, storm.beyond_p99_ms, storm.beyond_slowest_ms
            ),
        );
        if storm.recovered + storm.not_recovered > 0 {
            row("sessions", format!("{} recovered, {} not", storm.recovered, storm.not_recovered));
        }
    }
    for step in report.ramp.iter().flatten() {
        let rss = step.rss_bytes.map_or("not measured".into(), bytes);
        row("ramp", format!("{:>6} clients  {rss}", step.clients));
    }
}

fn server(report: &Report) -> String {
    let server = &report.server;
    let Some(pid) = server.pid else {
        return "not found on this host, so not measured (--server-pid)".into();
    };
    let mut text = format!("pid {pid}");
    if let (Some(cpu_s), Some(percent)) = (server.cpu_s, server.cpu_percent_of_core) {
        let _ = write!(text, " · {cpu_s:.2} s CPU ({percent:.1} % of a core)");
    }
    if let Some(us) = server.cpu_us_per_message {
        let _ = write!(text, ", {us:.2} us a frame");
    }
    if let Some(rss) = server.rss_bytes {
        let _ = write!(text, " · RSS {}", bytes(rss));
    }
    if let Some(each) = server.rss_bytes_per_room {
        let _ = write!(text, ", {each:.0} B a room");
    }
    text
}

fn counters(report: &Report) -> String {
    let server = &report.server;
    let Some(agrees) = server.agrees else { return String::new() };
    let own = |name: &String| server.generator_counts.get(name).copied().unwrap_or(0.0);
    let pairs: Vec<String> =
        server.metrics.iter().map(|(name, value)| format!("{name} {value} (here {})", own(name))).collect();
    format!("{} · {}", if agrees { "agree" } else { "DISAGREE" }, pairs.join(", "))
}

fn percentiles(times: &Percentiles) -> String {
    format!(
        "p50 {} p90 {} p99 {} p99.9 {} max {}",
        time(times.p50),
        time(times.p90),
        time(times.p99),
        time(times.p999),
        time(times.max)
    )
}

fn counts(counts: &Counts) -> String {
    counts.iter().map(|(name, n)| format!("{name}: {n}")).collect::<Vec<_>>().join(", ")
}

/// A duration in the unit that reads best.
pub(crate) fn time(us: u64) -> String {
    match us {
        0..1_000 => format!("{us} us"),
        1_000..1_000_000 => format!("{:.2} ms", us as f64 / 1e3),
        _ => format!("{:.2} s", us as f64 / 1e6),
    }
}

/// Memory in the unit that reads best.
pub(crate) fn bytes(bytes: u64) -> String {
    match bytes {
        0..1_048_576 => format!("{:.1} KiB", bytes as f64 / 1024.0),
        _ => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
    }
}

/// The value a bound was held against, with its unit.
pub(crate) fn metric_value(bound: &str, value: f64) -> String {
    let name = bound.split(['<', '>', '=']).next().unwrap_or_default().trim();
    match name {
        "p50" | "p90" | "p99" | "p999" | "max" => time(value as u64),
        name if name.ends_with("_p99") => time(value as u64),
        "back_s" => format!("{value:.3} s"),
        "rss_per_room" => format!("{value:.0} B"),
        "loss" if bound.ends_with('%') => format!("{value:.4} %"),
        _ if value.fract() == 0.0 => format!("{value}"),
        _ => format!("{value:.2}"),
    }
}
