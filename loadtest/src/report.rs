//! The outcome of a run: what `--json` writes, and what table, page and bounds are made from.

use serde::Serialize;

use crate::admin::Metrics;
use crate::expect::Verdict;
use crate::tally::{Counts, Times};

/// Percentiles of a duration, in microseconds.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Percentiles {
    #[serde(skip)]
    pub(crate) count: u64,
    pub(crate) p50: u64,
    pub(crate) p90: u64,
    pub(crate) p99: u64,
    pub(crate) p999: u64,
    pub(crate) max: u64,
    pub(crate) mean: f64,
}

impl From<&Times> for Percentiles {
    fn from(times: &Times) -> Self {
        Self {
            count: times.len(),
            p50: times.at(0.5),
            p90: times.at(0.9),
            p99: times.at(0.99),
            p999: times.at(0.999),
            max: times.max(),
            mean: (times.mean() * 10.0).round() / 10.0,
        }
    }
}

/// Percentiles beyond the generator's own lateness.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Beyond {
    pub(crate) p99: u64,
}

/// The connect phase.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Handshakes {
    pub(crate) ok: u64,
    pub(crate) failed: u64,
    pub(crate) per_s: f64,
    pub(crate) p50_us: u64,
    pub(crate) p99_us: u64,
    pub(crate) max_us: u64,
}

/// The process under test, as seen from outside and by its own counters.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct ServerFigures {
    pub(crate) pid: Option<u32>,
    /// While the window was open.
    pub(crate) cpu_s: Option<f64>,
    /// Per frame that came back while the window was open.
    pub(crate) cpu_us_per_message: Option<f64>,
    pub(crate) cpu_percent_of_core: Option<f64>,
    pub(crate) rss_bytes: Option<u64>,
    pub(crate) rss_bytes_per_room: Option<f64>,
    /// From before the run to after the drain; `websocket_connections` as it stands then.
    pub(crate) metrics: Metrics,
    /// The generator's own counts over the same time, under the same names.
    pub(crate) generator_counts: Metrics,
    pub(crate) agrees: Option<bool>,
}

/// The generator itself.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct GeneratorFigures {
    pub(crate) cpu_s: f64,
    pub(crate) cpu_us_per_message: Option<f64>,
}

/// What `slow` adds.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct SlowFigures {
    pub(crate) clients: u64,
    pub(crate) offered: u64,
    pub(crate) delivered: u64,
    pub(crate) others_before_us: Percentiles,
    pub(crate) others_after_us: Percentiles,
    /// After over before.
    pub(crate) others_p99_ratio: Option<f64>,
    pub(crate) closes: Counts,
    pub(crate) still_open: u64,
    pub(crate) rss_bytes_max: Option<u64>,
}

/// What `flood` adds.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct FloodFigures {
    /// Where it came from.
    pub(crate) from: String,
    pub(crate) attempts: u64,
    pub(crate) per_s: f64,
    /// By status code, or by what happened instead of an answer.
    pub(crate) answers: Counts,
    pub(crate) others_before_us: Percentiles,
    pub(crate) others_after_us: Percentiles,
    /// After over before.
    pub(crate) others_p99_ratio: Option<f64>,
}

/// What `converse` adds.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct ConverseFigures {
    pub(crate) utterances: u64,
    /// Answered with exactly what was said.
    pub(crate) whole: u64,
    pub(crate) first_audio_us: Percentiles,
}

/// What `storm` adds.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct StormFigures {
    /// From the cut until the last was back; absent if some never came.
    pub(crate) back_s: Option<f64>,
    pub(crate) dropped: u64,
    pub(crate) back: u64,
    pub(crate) retries: u64,
    pub(crate) recovered: u64,
    pub(crate) not_recovered: u64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) slowest_ms: f64,
    /// How much later than they were to clients dialled.
    pub(crate) lateness_p99_ms: f64,
    /// From there to ready again.
    pub(crate) beyond_p50_ms: f64,
    pub(crate) beyond_p99_ms: f64,
    pub(crate) beyond_slowest_ms: f64,
}

/// The server's memory at a step of `ramp`.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct RampStep {
    pub(crate) clients: u32,
    pub(crate) rss_bytes: Option<u64>,
}

/// A moment of the run, for the plots.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sample {
    /// Since the first connection.
    pub(crate) at_s: f64,
    pub(crate) received_per_s: f64,
    pub(crate) offered_per_s: f64,
    pub(crate) server_cpu_percent: f64,
    pub(crate) server_rss_bytes: u64,
}

/// A point of the latency curve: a quantile and its latency.
pub(crate) type CurvePoint = (f64, u64);

/// The outcome of a run. The serialised fields are read by other programs: names and units stay.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Report {
    pub(crate) scenario: &'static str,
    pub(crate) clients: u32,
    pub(crate) rooms: u32,
    pub(crate) duration_s: f64,
    pub(crate) offered: u64,
    pub(crate) sent: u64,
    /// Arrivals that the offered frames should cause.
    pub(crate) expected: u64,
    pub(crate) delivered: u64,
    pub(crate) lost: u64,
    pub(crate) duplicated: u64,
    pub(crate) reordered: u64,
    pub(crate) dropped: u64,
    pub(crate) rate_per_s: f64,
    pub(crate) offered_per_s: f64,
    pub(crate) latency_us: Percentiles,
    pub(crate) lateness_us: Percentiles,
    pub(crate) beyond_lateness_us: Beyond,
    pub(crate) handshakes: Handshakes,
    pub(crate) closes: Counts,
    pub(crate) errors: Counts,
    pub(crate) events_received: u64,
    pub(crate) batches_received: u64,
    pub(crate) conversations: u64,
    pub(crate) server: ServerFigures,
    pub(crate) generator: GeneratorFigures,
    pub(crate) expect: Vec<Verdict>,
    pub(crate) slow: Option<SlowFigures>,
    pub(crate) flood: Option<FloodFigures>,
    pub(crate) storm: Option<StormFigures>,
    pub(crate) converse: Option<ConverseFigures>,
    pub(crate) ramp: Option<Vec<RampStep>>,
    #[serde(skip)]
    pub(crate) samples: Vec<Sample>,
    #[serde(skip)]
    pub(crate) curve: Vec<CurvePoint>,
    /// Seconds since the first connection between which the window was open.
    #[serde(skip)]
    pub(crate) window_s: (f64, f64),
    #[serde(skip)]
    pub(crate) command: String,
}
