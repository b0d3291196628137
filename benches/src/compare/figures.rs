//! What a run measured, and medians and ratios over the rounds.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;
use serde_json::Value;

use super::args::Server;

/// A figure that servers are compared by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Metric {
    /// Server CPU per delivered frame, in microseconds.
    Cpu,
    /// 99th percentile of the time from a frame's due time to its echo, in microseconds.
    P99,
    /// Frames delivered per second.
    Rate,
    /// Server memory per connection, in bytes.
    Rss,
    /// Handshakes per second.
    Handshakes,
    /// Server CPU per connection made and ended, in microseconds.
    HandshakeCpu,
}

impl Metric {
    /// Every metric, in the order of the report.
    pub(super) const ALL: [Self; 6] =
        [Self::Cpu, Self::P99, Self::Rate, Self::Rss, Self::Handshakes, Self::HandshakeCpu];

    /// The name used in bounds and reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::P99 => "p99",
            Self::Rate => "rate",
            Self::Rss => "rss",
            Self::Handshakes => "handshakes",
            Self::HandshakeCpu => "handshake-cpu",
        }
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Metric {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let names = || Self::ALL.map(Self::name).join(", ");
        Self::ALL
            .into_iter()
            .find(|metric| metric.name() == name)
            .ok_or_else(|| format!("unknown metric {name:?}; there are {}", names()))
    }
}

/// What one run of one server measured.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Run {
    /// Memory of the server before the first client, in bytes.
    pub(super) rss_before_bytes: u64,
    /// CPU the server used from the first client to the last, in microseconds.
    pub(super) server_cpu_us: f64,
    /// Quota periods in which the server was held back, where there was a quota.
    pub(super) throttled_periods: Option<u64>,
    /// The load generator's report.
    pub(super) report: Value,
}

impl Run {
    /// The run's figure for `metric`, if it has one.
    pub(super) fn figure(&self, metric: Metric) -> Option<f64> {
        let figure = match metric {
            Metric::Cpu => self.number("/server/cpu_us_per_message"),
            Metric::P99 => self.number("/latency_us/p99"),
            Metric::Rate => self.number("/rate_per_s"),
            Metric::Rss => self.rss_per_connection(),
            Metric::Handshakes => self.number("/handshakes/per_s"),
            Metric::HandshakeCpu if self.number("/delivered").unwrap_or(0.0) == 0.0 => {
                Some(self.server_cpu_us / self.number("/handshakes/ok")?)
            }
            Metric::HandshakeCpu => None,
        };
        figure.filter(|figure| figure.is_finite() && *figure > 0.0)
    }

    /// A number of the load generator's report, by JSON pointer.
    pub(super) fn number(&self, pointer: &str) -> Option<f64> {
        self.report.pointer(pointer)?.as_f64()
    }

    /// Between the first and the last step of a ramp; without one, from before the first client to the end.
    fn rss_per_connection(&self) -> Option<f64> {
        let step = |value: &Value| Some((value.get("clients")?.as_f64()?, value.get("rss_bytes")?.as_f64()?));
        let ramp = self.report.get("ramp").and_then(Value::as_array).filter(|steps| steps.len() > 1);
        let ((few, less), (many, more)) = match ramp {
            Some(steps) => (step(steps.first()?)?, step(steps.last()?)?),
            None => {
                let before = (0.0, self.rss_before_bytes as f64);
                (before, (self.number("/clients")?, self.number("/server/rss_bytes")?))
            }
        };
        Some((more - less) / (many - few))
    }
}

/// A run that has no figures.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Failure {
    pub(super) round: u32,
    pub(super) server: Server,
    pub(super) reason: String,
}

/// Median and extremes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Spread {
    pub(super) median: f64,
    pub(super) min: f64,
    pub(super) max: f64,
}

impl Spread {
    /// Of nothing there is none.
    pub(super) fn of(figures: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut figures: Vec<f64> = figures.into_iter().collect();
        figures.sort_by(f64::total_cmp);
        let (min, max) = (*figures.first()?, *figures.last()?);
        let half = figures.len() / 2;
        let median = if figures.len() % 2 == 1 {
            figures[half]
        } else {
            f64::midpoint(figures[half - 1], figures[half])
        };
        Some(Self { median, min, max })
    }
}

/// Everything measured so far.
#[derive(Debug, Default)]
pub(super) struct Measured {
    runs: Vec<(u32, Server, Run)>,
    failures: Vec<Failure>,
}

impl Measured {
    pub(super) fn add(&mut self, round: u32, server: Server, outcome: anyhow::Result<Run>) {
        match outcome {
            Ok(run) => self.runs.push((round, server, run)),
            Err(error) => self.failures.push(Failure { round, server, reason: format!("{error:#}") }),
        }
    }

    pub(super) const fn runs_begun(&self) -> usize {
        self.runs.len() + self.failures.len()
    }

    pub(super) fn runs(&self) -> &[(u32, Server, Run)] {
        &self.runs
    }

    pub(super) fn of(&self, server: Server) -> impl Iterator<Item = &Run> {
        self.runs.iter().filter(move |(_, of, _)| *of == server).map(|(_, _, run)| run)
    }

    pub(super) fn failures(&self) -> &[Failure] {
        &self.failures
    }

    /// A server's figure over the rounds.
    pub(super) fn figure(&self, metric: Metric, server: Server) -> Option<Spread> {
        Spread::of(self.of(server).filter_map(|run| run.figure(metric)))
    }

    /// The ratio of two servers' figures, taken within each round.
    pub(super) fn ratio(&self, metric: Metric, server: Server, to: Server) -> Option<Spread> {
        let in_round = |round, server| {
            let run = self.runs.iter().find(|(in_round, of, _)| (*in_round, *of) == (round, server));
            run.and_then(|(_, _, run)| run.figure(metric))
        };
        let rounds = self.runs.iter().filter(|(_, of, _)| *of == server).map(|(round, _, _)| *round);
        Spread::of(rounds.filter_map(|round| Some(in_round(round, server)? / in_round(round, to)?)))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::json;

    use super::*;

    /// A run whose CPU per frame and p99 are as given.
    pub(in crate::compare) fn run(cpu: f64, p99: f64) -> anyhow::Result<Run> {
        Ok(Run {
            rss_before_bytes: 1_000_000,
            server_cpu_us: 5e6,
            throttled_periods: None,
            report: json!({
                "clients": 1000, "delivered": 10, "rate_per_s": 40_000.0,
                "latency_us": {"p99": p99},
                "server": {"cpu_us_per_message": cpu, "rss_bytes": 3_000_000}, "ramp": [],
            }),
        })
    }

    #[test]
    fn a_ratio_is_the_median_of_the_rounds_ratios_not_the_ratio_of_medians() {
        let mut measured = Measured::default();
        for (round, (ours, theirs)) in [(1.0, 1.0), (2.0, 4.0), (9.0, 3.0)].into_iter().enumerate() {
            measured.add(round as u32, Server::Voxhall, run(ours, 1.0));
            measured.add(round as u32, Server::Epoll, run(theirs, 1.0));
        }
        // A round in which one of the two failed counts for neither.
        measured.add(7, Server::Voxhall, run(1000.0, 1.0));
        measured.add(7, Server::Epoll, Err(anyhow::anyhow!("gone")));
        let ratio = measured.ratio(Metric::Cpu, Server::Voxhall, Server::Epoll);
        assert_eq!(ratio, Some(Spread { median: 1.0, min: 0.5, max: 3.0 }));
        assert_eq!(measured.ratio(Metric::Cpu, Server::Voxhall, Server::Fastwebsockets), None);
        assert_eq!(measured.failures().len(), 1);
    }

    #[test]
    fn medians_of_even_and_odd_counts() {
        let median = |figures: &[f64]| Spread::of(figures.iter().copied()).map(|spread| spread.median);
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }

    #[test]
    fn memory_per_connection_is_what_was_added() {
        let mut run = run(1.0, 1.0).expect("a run");
        assert_eq!(run.figure(Metric::Rss), Some(2000.0));
        run.report["ramp"] = json!([
            {"clients": 2000, "rss_bytes": 10_000_000}, {"clients": 10_000, "rss_bytes": 18_000_000}
        ]);
        assert_eq!(run.figure(Metric::Rss), Some(1000.0));
    }

    #[test]
    fn a_run_without_frames_has_no_cpu_per_frame_but_one_per_handshake() {
        let mut run = run(1.0, 1.0).expect("a run");
        assert_eq!(run.figure(Metric::HandshakeCpu), None);
        run.report =
            json!({"delivered": 0, "handshakes": {"ok": 1000}, "server": {"cpu_us_per_message": null}});
        assert_eq!(run.figure(Metric::HandshakeCpu), Some(5000.0));
        assert_eq!(run.figure(Metric::Cpu), None);
    }
}
