//! Bounds on the outcome: `p99<20ms,loss=0`. A broken one makes the run fail.

use crate::report::Report;

/// What kind of quantity a metric is, and so which units go with it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    /// Held in microseconds; a unit is required except for 0.
    Time,
    /// Held in seconds.
    Seconds,
    Bytes,
    /// A count, or with `%` a share of what was expected.
    Loss,
    Count,
}

/// Every metric a bound may name.
const METRICS: [(&str, Kind); 25] = [
    ("p50", Kind::Time),
    ("p90", Kind::Time),
    ("p99", Kind::Time),
    ("p999", Kind::Time),
    ("max", Kind::Time),
    ("beyond_lateness_p99", Kind::Time),
    ("lateness_p99", Kind::Time),
    ("handshake_p99", Kind::Time),
    ("cpu_us_per_frame", Kind::Count),
    ("back_s", Kind::Seconds),
    ("back_p99", Kind::Time),
    ("not_recovered", Kind::Count),
    ("rss_per_room", Kind::Bytes),
    ("loss", Kind::Loss),
    ("dropped", Kind::Count),
    ("duplicated", Kind::Count),
    ("reordered", Kind::Count),
    ("errors", Kind::Count),
    ("handshake_failures", Kind::Count),
    ("handshakes_per_s", Kind::Count),
    ("rate", Kind::Count),
    ("cpu_percent", Kind::Count),
    ("others_p99_ratio", Kind::Count),
    ("first_audio_p99", Kind::Time),
    ("broken_utterances", Kind::Count),
];

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Comparison {
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Equal,
}

/// One bound, as typed and as understood.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Bound {
    text: String,
    metric: &'static str,
    comparison: Comparison,
    value: f64,
    share: bool,
}

/// How a bound fared.
#[derive(Clone, Debug, serde::Serialize)]
pub(crate) struct Verdict {
    /// As typed.
    pub(crate) bound: String,
    /// In the unit of the metric: microseconds, seconds, bytes, a count, or per cent. Absent if it was not measured.
    pub(crate) value: Option<f64>,
    pub(crate) ok: bool,
}

/// Reads a comma-separated list of bounds.
pub(crate) fn parse(list: &str) -> Result<Vec<Bound>, String> {
    list.split(',').map(str::trim).filter(|text| !text.is_empty()).map(parse_one).collect()
}

fn parse_one(text: &str) -> Result<Bound, String> {
    let wrong = |why: String| format!("--expect {text:?}: {why}");
    let at =
        text.find(['<', '>', '=']).ok_or_else(|| wrong("expected METRIC OP VALUE, as in p99<20ms".into()))?;
    let (name, rest) = text.split_at(at);
    let name = name.trim();
    let Some(&(metric, kind)) = METRICS.iter().find(|(metric, _)| *metric == name) else {
        let known: Vec<&str> = METRICS.iter().map(|(metric, _)| *metric).collect();
        return Err(wrong(format!("no metric is called {name:?}; there are {}", known.join(", "))));
    };
    let operators = [
        ("<=", Comparison::LessOrEqual),
        (">=", Comparison::GreaterOrEqual),
        ("==", Comparison::Equal),
        ("<", Comparison::Less),
        (">", Comparison::Greater),
        ("=", Comparison::Equal),
    ];
    let found =
        operators.iter().find_map(|(sign, op)| rest.strip_prefix(sign).map(|value| (*op, value.trim())));
    let (comparison, value) = found.ok_or_else(|| wrong("the operator is one of < <= > >= =".into()))?;
    let (value, share) = parse_value(kind, value).map_err(wrong)?;
    Ok(Bound { text: text.to_owned(), metric, comparison, value, share })
}

/// Gives the value in the metric's own unit, and whether it is a share in per cent.
fn parse_value(kind: Kind, text: &str) -> Result<(f64, bool), String> {
    let digits = text.find(|c: char| !(c.is_ascii_digit() || c == '.' || c == '_')).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: f64 =
        number.replace('_', "").parse().map_err(|_| format!("{text:?} does not begin with a number"))?;
    let factor = match (kind, unit.trim()) {
        (Kind::Time, "us" | "µs") => 1.0,
        (Kind::Time, "ms") => 1e3,
        (Kind::Time, "s") => 1e6,
        (Kind::Time, "") if number == 0.0 => 1.0,
        (Kind::Time, "") => return Err(format!("which unit? write {number}us, {number}ms or {number}s")),
        (Kind::Seconds, "" | "s") => 1.0,
        (Kind::Seconds, "ms") => 1e-3,
        (Kind::Bytes, "" | "B") => 1.0,
        (Kind::Bytes, "KiB") => 1024.0,
        (Kind::Bytes, "MiB") => 1_048_576.0,
        (Kind::Loss, "%") => return Ok((number, true)),
        (Kind::Loss | Kind::Count, "") => 1.0,
        (Kind::Count, "k") => 1e3,
        (_, unit) => return Err(format!("{unit:?} is not a unit of this metric")),
    };
    Ok((number * factor, false))
}

impl Bound {
    /// Holds the bound against a report.
    pub(crate) fn check(&self, report: &Report) -> Verdict {
        let value = self.value_in(report);
        let ok = value.is_some_and(|value| match self.comparison {
            Comparison::Less => value < self.value,
            Comparison::LessOrEqual => value <= self.value,
            Comparison::Greater => value > self.value,
            Comparison::GreaterOrEqual => value >= self.value,
            Comparison::Equal => (value - self.value).abs() < 1e-9,
        });
        Verdict { bound: self.text.clone(), value, ok }
    }

    fn value_in(&self, report: &Report) -> Option<f64> {
        let measured = report.latency_us.count > 0;
        let latency = |us: u64| measured.then_some(us as f64);
        match self.metric {
            "p50" => latency(report.latency_us.p50),
            "p90" => latency(report.latency_us.p90),
            "p99" => latency(report.latency_us.p99),
            "p999" => latency(report.latency_us.p999),
            "max" => latency(report.latency_us.max),
            "beyond_lateness_p99" => latency(report.beyond_lateness_us.p99),
            "lateness_p99" => latency(report.lateness_us.p99),
            "handshake_p99" => (report.handshakes.ok > 0).then_some(report.handshakes.p99_us as f64),
            "cpu_us_per_frame" => report.server.cpu_us_per_message,
            "cpu_percent" => report.server.cpu_percent_of_core,
            "rss_per_room" => report.server.rss_bytes_per_room,
            "back_s" => report.storm.as_ref().and_then(|storm| storm.back_s),
            "back_p99" => report.storm.as_ref().map(|storm| storm.beyond_p99_ms * 1e3),
            "not_recovered" => report.storm.as_ref().map(|storm| storm.not_recovered as f64),
            "loss" if self.share => {
                let expected = report.expected as f64;
                Some(if expected > 0.0 { 100.0 * report.lost as f64 / expected } else { 0.0 })
            }
            "loss" => Some(report.lost as f64),
            "dropped" => Some(report.dropped as f64),
            "duplicated" => Some(report.duplicated as f64),
            "reordered" => Some(report.reordered as f64),
            "errors" => Some(report.errors.values().sum::<u64>() as f64),
            "handshake_failures" => Some(report.handshakes.failed as f64),
            "handshakes_per_s" => Some(report.handshakes.per_s),
            "rate" => Some(report.rate_per_s),
            "others_p99_ratio" => {
                let slow = report.slow.as_ref().and_then(|slow| slow.others_p99_ratio);
                slow.or_else(|| report.flood.as_ref().and_then(|flood| flood.others_p99_ratio))
            }
            "first_audio_p99" => report.converse.map(|converse| converse.first_audio_us.p99 as f64),
            "broken_utterances" => {
                report.converse.map(|converse| (converse.utterances - converse.whole) as f64)
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> Bound {
        let mut bounds = parse(text).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(bounds.len(), 1);
        bounds.remove(0)
    }

    #[test]
    fn a_list_of_bounds_is_read_with_its_units() {
        let bounds =
            parse("p99<20ms, loss=0 ,rate>=39_000,back_s<3s,rss_per_room<=1.5KiB").expect("all are bounds");
        let values: Vec<(&str, f64)> = bounds.iter().map(|bound| (bound.metric, bound.value)).collect();
        let expected =
            [("p99", 20_000.0), ("loss", 0.0), ("rate", 39_000.0), ("back_s", 3.0), ("rss_per_room", 1536.0)];
        assert_eq!(values, expected);
        assert!(one("loss<0.1%").share);
        assert_eq!(one("rate>40k").value, 40_000.0);
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, why) in [
            ("p98<20ms", "no metric is called"),
            ("p99<20", "which unit?"),
            ("p99<20kg", "not a unit"),
            ("p99", "expected METRIC OP VALUE"),
            ("loss<x", "begin with a number"),
            ("rate>1ms", "not a unit"),
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn bounds_hold_or_break_and_the_unmeasured_breaks() {
        let mut report = Report::default();
        report.latency_us.count = 1;
        report.latency_us.p99 = 19_999;
        (report.lost, report.expected) = (1, 1_000);
        assert!(one("p99<20ms").check(&report).ok);
        assert!(!one("p99<19ms").check(&report).ok);
        let loss = one("loss=0").check(&report);
        assert_eq!((loss.value, loss.ok), (Some(1.0), false));
        assert!(one("loss<=0.1%").check(&report).ok);
        let cpu = one("cpu_us_per_frame<5").check(&report);
        assert_eq!((cpu.value, cpu.ok), (None, false));
    }
}
