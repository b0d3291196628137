//! Makes the report from what was measured: the only place where counts become rates and ratios.

use crate::admin::{CONNECTIONS, DROPPED, FRAMES_RECEIVED, FRAMES_SENT, Metrics};
use crate::args::Job;
use crate::flood::Met;
use crate::host::Server;
use crate::plan::Scenario;
use crate::report::{
    Beyond, ConverseFigures, FloodFigures, GeneratorFigures, Handshakes, Percentiles, RampStep, Report,
    Sample, ServerFigures, SlowFigures, StormFigures,
};
use crate::tally::{Counts, Tally};

/// Everything a run left behind.
#[derive(Default)]
pub(crate) struct Measured {
    pub(crate) tally: Tally,
    pub(crate) server: Option<Server>,
    pub(crate) errors: Counts,
    /// Connections after the connect phase, which took `connect_s`.
    pub(crate) connected: u64,
    pub(crate) connect_s: f64,
    pub(crate) ramp: Vec<RampStep>,
    /// Arrivals that each frame should cause.
    pub(crate) fan: u64,
    pub(crate) window_s: f64,
    pub(crate) window_at_s: (f64, f64),
    pub(crate) back_s: Option<f64>,
    pub(crate) server_cpu_ns: Option<u64>,
    pub(crate) own_cpu_ns: u64,
    pub(crate) rss_before: Option<u64>,
    pub(crate) rss_connected: Option<u64>,
    pub(crate) rss_after: Option<u64>,
    /// Before the first connection, before the run, and after it.
    pub(crate) metrics_at_first: Option<Metrics>,
    pub(crate) metrics_before: Option<Metrics>,
    pub(crate) metrics_after: Option<Metrics>,
    pub(crate) flood: Option<Met>,
    pub(crate) samples: Vec<Sample>,
}

/// The report of a job.
pub(crate) fn report(job: &Job, measured: &Measured) -> Report {
    let tally = &measured.tally;
    let expected = tally.offered * measured.fan;
    let server = server_figures(job, measured);
    let dropped = server.metrics.get(DROPPED).map_or(0, |&n| n as u64).max(tally.told_dropped);
    let per_s = |n: u64| if measured.window_s > 0.0 { n as f64 / measured.window_s } else { 0.0 };
    let per_message =
        |ns: u64| (tally.received_in_window > 0).then(|| micros_per(ns, tally.received_in_window));
    let own_ns = tally.cpu_ns + measured.own_cpu_ns;
    let mut report = Report {
        scenario: job.plan.scenario.name(),
        clients: job.clients,
        rooms: job.plan.rooms(job.plan.connections),
        duration_s: measured.window_s,
        offered: tally.offered,
        sent: tally.sent,
        expected,
        delivered: tally.delivered,
        lost: expected.saturating_sub(tally.delivered),
        duplicated: tally.duplicated,
        reordered: tally.reordered,
        dropped,
        rate_per_s: per_s(tally.received_in_window),
        offered_per_s: per_s(tally.offered),
        latency_us: Percentiles::from(&tally.latency),
        lateness_us: Percentiles::from(&tally.lateness),
        beyond_lateness_us: Beyond { p99: tally.beyond.at(0.99) },
        handshakes: handshakes(job, measured),
        closes: tally.closes.clone(),
        errors: tally.errors.clone(),
        events_received: tally.events,
        batches_received: tally.batches,
        conversations: tally.conversations,
        server,
        generator: GeneratorFigures { cpu_s: own_ns as f64 / 1e9, cpu_us_per_message: per_message(own_ns) },
        expect: Vec::new(),
        slow: slow_figures(measured),
        flood: flood_figures(measured),
        storm: storm_figures(measured),
        converse: converse_figures(tally),
        ramp: (job.plan.scenario == Scenario::Ramp).then(|| measured.ramp.clone()),
        samples: measured.samples.clone(),
        curve: curve(tally),
        window_s: measured.window_at_s,
        command: std::env::args().skip(1).collect::<Vec<_>>().join(" "),
    };
    report.expect = job.bounds.iter().map(|bound| bound.check(&report)).collect();
    report
}

/// Whether the server's counters say what the generator counted; `None` if there are none to compare.
///
/// A server may or may not count control frames and events among its frames, so its count has to lie between the
/// generator's audio frames and all its frames. What the kernel held for a client that did not read is known to the
/// server only, so with slow clients the frames out are left aside.
pub(crate) fn agrees(job: &Job, measured: &Measured) -> Option<bool> {
    let tally = &measured.tally;
    let server = deltas(measured)?;
    let within = |name: &str, least: u64, more: u64| {
        server.get(name).map(|&n| (least as f64..=(least + more) as f64).contains(&n))
    };
    let closes = tally.conversations + tally.closes.values().sum::<u64>();
    let sent = match job.plan.scenario {
        Scenario::Slow | Scenario::Flood => None,
        _ => within(FRAMES_SENT, tally.total_binary, tally.total_text + tally.total_control + closes),
    };
    let connections = match job.plan.scenario {
        // The server counts those of the flood too that it let in.
        Scenario::Flood => None,
        _ => within(CONNECTIONS, tally.open, 0),
    };
    let received = match job.plan.scenario {
        // What a slow client had said when it was cut may never have been read.
        Scenario::Slow => within(FRAMES_RECEIVED, 0, tally.total_sent + tally.pongs_sent + closes),
        _ => within(FRAMES_RECEIVED, tally.total_sent, tally.pongs_sent + closes),
    };
    // An engine may cut what it says otherwise than it was said to it.
    let sent = sent.filter(|_| job.plan.scenario != Scenario::Converse);
    let received = received.filter(|_| job.plan.scenario != Scenario::Converse);
    let checks = [connections, received, sent];
    let known: Vec<bool> = checks.into_iter().flatten().collect();
    (!known.is_empty()).then(|| known.iter().all(|&ok| ok))
}

/// The server's counters over the run.
fn deltas(measured: &Measured) -> Option<Metrics> {
    let (first, before, after) = (
        measured.metrics_at_first.as_ref()?,
        measured.metrics_before.as_ref()?,
        measured.metrics_after.as_ref()?,
    );
    let mut deltas = Metrics::new();
    for (name, base) in
        [(CONNECTIONS, first), (DROPPED, before), (FRAMES_RECEIVED, before), (FRAMES_SENT, before)]
    {
        if let Some(value) = after.get(name) {
            deltas.insert(name.to_owned(), value - base.get(name).unwrap_or(&0.0));
        }
    }
    Some(deltas)
}

fn server_figures(job: &Job, measured: &Measured) -> ServerFigures {
    let tally = &measured.tally;
    let cpu_s = measured.server_cpu_ns.map(|ns| ns as f64 / 1e9);
    let received = tally.received_in_window;
    let metrics = deltas(measured);
    let mut generator_counts = Metrics::new();
    if metrics.is_some() {
        generator_counts.insert(CONNECTIONS.to_owned(), tally.open as f64);
        generator_counts.insert(DROPPED.to_owned(), tally.told_dropped as f64);
        generator_counts.insert(FRAMES_RECEIVED.to_owned(), tally.total_sent as f64);
        generator_counts.insert(FRAMES_SENT.to_owned(), tally.total_binary as f64);
    }
    ServerFigures {
        pid: measured.server.map(|server| server.pid),
        cpu_s,
        cpu_us_per_message: measured
            .server_cpu_ns
            .filter(|_| received > 0)
            .map(|ns| micros_per(ns, received)),
        cpu_percent_of_core: cpu_s
            .filter(|_| measured.window_s > 0.0)
            .map(|cpu_s| 100.0 * cpu_s / measured.window_s),
        rss_bytes: measured.rss_after,
        rss_bytes_per_room: rss_per_room(job, measured),
        metrics: metrics.unwrap_or_default(),
        generator_counts,
        agrees: agrees(job, measured),
    }
}

/// For `ramp` the slope between first and last step, else the growth while connecting.
fn rss_per_room(job: &Job, measured: &Measured) -> Option<f64> {
    let (from, to, rooms) = match measured.ramp.as_slice() {
        [first, .., last] => (first.rss_bytes?, last.rss_bytes?, last.clients - first.clients),
        _ => (measured.rss_before?, measured.rss_connected?, job.plan.rooms(job.plan.connections)),
    };
    Some((to as f64 - from as f64) / f64::from(rooms.max(1)))
}

fn handshakes(job: &Job, measured: &Measured) -> Handshakes {
    let tally = &measured.tally;
    let (ok, seconds) = match job.plan.scenario {
        Scenario::Churn => (tally.handshakes_ok, measured.window_s),
        _ => (measured.connected, measured.connect_s),
    };
    Handshakes {
        ok: tally.handshakes_ok,
        failed: tally.handshakes_failed,
        per_s: if seconds > 0.0 { ok as f64 / seconds } else { 0.0 },
        p50_us: tally.handshake.at(0.5),
        p99_us: tally.handshake.at(0.99),
        max_us: tally.handshake.max(),
    }
}

fn slow_figures(measured: &Measured) -> Option<SlowFigures> {
    let slow = measured.tally.slow.as_ref()?;
    let (before, after, ratio) = others(measured)?;
    Some(SlowFigures {
        clients: slow.clients,
        offered: slow.offered,
        delivered: slow.delivered,
        others_p99_ratio: ratio,
        others_before_us: before,
        others_after_us: after,
        closes: slow.closes.clone(),
        still_open: slow.still_open,
        rss_bytes_max: measured.samples.iter().map(|sample| sample.server_rss_bytes).max(),
    })
}

fn flood_figures(measured: &Measured) -> Option<FloodFigures> {
    let flood = measured.flood.as_ref()?;
    let (before, after, ratio) = others(measured)?;
    let attempts = flood.answers.values().sum();
    Some(FloodFigures {
        from: flood.from.to_string(),
        attempts,
        per_s: if flood.seconds > 0.0 { attempts as f64 / flood.seconds } else { 0.0 },
        answers: flood.answers.clone(),
        others_p99_ratio: ratio,
        others_before_us: before,
        others_after_us: after,
    })
}

/// How the others fared before and after the trouble began, and what it did to their p99.
fn others(measured: &Measured) -> Option<(Percentiles, Percentiles, Option<f64>)> {
    let others = measured.tally.others.as_ref()?;
    let (before, after) = (Percentiles::from(&others.before), Percentiles::from(&others.after));
    let ratio = (before.p99 > 0).then(|| after.p99 as f64 / before.p99 as f64);
    Some((before, after, ratio))
}

fn converse_figures(tally: &Tally) -> Option<ConverseFigures> {
    tally.converse.as_ref().map(|converse| ConverseFigures {
        utterances: converse.utterances,
        whole: converse.whole,
        first_audio_us: Percentiles::from(&converse.first_audio),
    })
}

fn storm_figures(measured: &Measured) -> Option<StormFigures> {
    let storm = measured.tally.storm.as_ref()?;
    let ms = |us: u64| us as f64 / 1e3;
    Some(StormFigures {
        back_s: measured.back_s,
        dropped: storm.dropped,
        back: storm.back,
        retries: storm.retries,
        recovered: storm.recovered,
        not_recovered: storm.not_recovered,
        p50_ms: ms(storm.times.at(0.5)),
        p99_ms: ms(storm.times.at(0.99)),
        slowest_ms: ms(storm.times.max()),
        lateness_p99_ms: ms(storm.lateness.at(0.99)),
        beyond_p50_ms: ms(storm.beyond.at(0.5)),
        beyond_p99_ms: ms(storm.beyond.at(0.99)),
        beyond_slowest_ms: ms(storm.beyond.max()),
    })
}

/// The latency curve, denser towards the end: 0, 10 %, … 90 %, then ten points for each further nine.
fn curve(tally: &Tally) -> Vec<(f64, u64)> {
    if tally.latency.len() == 0 {
        return Vec::new();
    }
    let quantile = |n: u32| 1.0 - 10f64.powf(-f64::from(n) / 10.0);
    (0..=50).map(quantile).map(|quantile| (quantile, tally.latency.at(quantile))).collect()
}

fn micros_per(ns: u64, count: u64) -> f64 {
    ns as f64 / 1e3 / count as f64
}
