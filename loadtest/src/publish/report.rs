//! What is said at the end of a run.

use serde_json::{Value, json};

use super::Audience;
use super::api::Published;
use super::ledger::Verdict;
use super::workers::Listened;
use crate::tally::{Counts, Times};

/// Everything that was measured.
pub(super) struct Measured {
    pub(super) published: Published,
    pub(super) verdict: Verdict,
    pub(super) latency: Times,
    pub(super) closes: Counts,
    pub(super) errors: Counts,
    /// From the first publication's time to the last answer, or as long as it was to take.
    pub(super) publishing_s: f64,
    /// From the first publication's time to the last delivery or the end of waiting for it, or as long.
    pub(super) window_s: f64,
    pub(super) server_cpu_ns: Option<u64>,
}

impl Measured {
    /// Holds what was heard against what was published.
    pub(super) fn of(published: Published, listened: &[Listened], to: Audience) -> Self {
        let mut measured = Self {
            published,
            verdict: Verdict::default(),
            latency: Times::default(),
            closes: Counts::new(),
            errors: Counts::new(),
            publishing_s: 0.0,
            window_s: 0.0,
            server_cpu_ns: None,
        };
        let logs = listened.iter().flat_map(|share| &share.logs);
        for (client, log) in logs.enumerate() {
            let stream = match to {
                Audience::System => 0,
                Audience::Users => client,
            };
            measured.verdict.judge(log, &measured.published.given[stream]);
        }
        for share in listened {
            measured.latency.merge(&share.latency);
            for (mine, theirs) in
                [(&mut measured.closes, &share.closes), (&mut measured.errors, &share.errors)]
            {
                theirs.iter().for_each(|(name, n)| *mine.entry(name.clone()).or_default() += n);
            }
        }
        measured
    }

    /// Whether the answers counted as many subscribers as there were deliveries. Where a shard was late or an answer
    /// is missing, they count fewer.
    pub(super) fn agrees(&self) -> bool {
        let uncertain = self.published.given.iter().any(|given| given.uncertain > 0);
        let delivered = self.verdict.received + self.verdict.doubled;
        if self.published.late_shards > 0 || uncertain {
            self.published.subscribers <= delivered
        } else {
            self.published.subscribers == delivered
        }
    }

    /// Whether something was published, and everybody heard everything once, in order, and as the answers say.
    pub(super) fn is_clean(&self) -> bool {
        self.published.taken > 0 && self.verdict.is_clean() && self.errors.is_empty() && self.agrees()
    }

    fn cpu_us_per_delivery(&self) -> Option<f64> {
        let ns = self.server_cpu_ns.filter(|_| self.verdict.received > 0)?;
        Some(ns as f64 / 1e3 / self.verdict.received as f64)
    }

    fn per_s(n: u64, seconds: f64) -> f64 {
        if seconds > 0.0 { n as f64 / seconds } else { 0.0 }
    }

    /// The report as JSON.
    pub(super) fn json(&self, run: &Value) -> Value {
        let verdict = &self.verdict;
        json!({
            "scenario": "publish",
            "run": run,
            "clean": self.is_clean(),
            "published": self.published.taken,
            "published_per_s": Self::per_s(self.published.taken, self.publishing_s),
            "withheld": self.published.withheld,
            "answers": self.published.answers,
            "deliveries": verdict,
            "deliveries_per_s": Self::per_s(verdict.received, self.window_s),
            "subscribers_in_answers": self.published.subscribers,
            "late_shards": self.published.late_shards,
            "agrees": self.agrees(),
            "closes": self.closes,
            "errors": self.errors,
            "latency_us": times(&self.latency),
            "answer_us": times(&self.published.answer_times),
            "lateness_us": times(&self.published.lateness),
            "server": {
                "cpu_us_per_delivery": self.cpu_us_per_delivery(),
                "cpu_percent": self.server_cpu_ns.map(|ns| ns as f64 / 1e7 / self.window_s.max(1e-6)),
            },
        })
    }

    /// The report for people.
    pub(super) fn lines(&self) -> String {
        let (published, verdict) = (&self.published, &self.verdict);
        let row = |times: &Times| {
            let ms = |quantile: f64| times.at(quantile) as f64 / 1e3;
            format!(
                "p50 {:.2} ms, p99 {:.2} ms, p99.9 {:.2} ms, max {:.2} ms",
                ms(0.5),
                ms(0.99),
                ms(0.999),
                ms(1.0)
            )
        };
        let cpu =
            self.cpu_us_per_delivery().map_or("not to be seen".into(), |us| format!("{us:.2} us a delivery"));
        format!(
            "published {} ({:.0}/s), withheld {}; answers {:?}\n\
             deliveries expected {}, received {} ({:.0}/s), lost {}, doubled {}, out of order {}, unexpected {}, mixed up {}\n\
             subscribers in the answers {}{}: {}\n\
             latency {}\nanswers {}\ngenerator late {}\nserver CPU {cpu}; closes {:?}, errors {:?}",
            published.taken,
            Self::per_s(published.taken, self.publishing_s),
            published.withheld,
            published.answers,
            verdict.expected,
            verdict.received,
            Self::per_s(verdict.received, self.window_s),
            verdict.lost,
            verdict.doubled,
            verdict.disordered,
            verdict.unexpected,
            verdict.mixed_up,
            published.subscribers,
            match published.late_shards {
                0 => String::new(),
                n => format!(" (a shard is missing from {n} of them)"),
            },
            if self.agrees() { "agrees" } else { "DISAGREES" },
            row(&self.latency),
            row(&published.answer_times),
            row(&published.lateness),
            self.closes,
            self.errors,
        )
    }
}

fn times(times: &Times) -> Value {
    json!({
        "count": times.len(),
        "mean": times.mean(),
        "p50": times.at(0.5),
        "p90": times.at(0.9),
        "p99": times.at(0.99),
        "p999": times.at(0.999),
        "max": times.max(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::publish::ledger::{Given, Heard};

    fn measured(subscribers: u64, late_shards: u64) -> Measured {
        let mut given = Given::default();
        given.take(1, 0);
        let mut heard = Heard::after(0);
        heard.hear(1, 0);
        let published =
            Published { taken: 1, given: vec![given], subscribers, late_shards, ..Published::default() };
        let listened = Listened { logs: vec![heard.clone(), heard], ..Listened::default() };
        Measured::of(published, &[listened], Audience::System)
    }

    #[test]
    fn answers_and_deliveries_have_to_agree_unless_a_shard_was_late() {
        assert!(measured(2, 0).is_clean());
        assert!(!measured(1, 0).is_clean() && !measured(3, 0).is_clean());
        assert!(measured(1, 1).is_clean() && !measured(3, 1).is_clean());
    }

    #[test]
    fn nothing_published_is_no_success() {
        let nothing = Measured::of(Published::new(1), &[], Audience::System);
        assert!(!nothing.is_clean());
        assert_eq!(nothing.json(&Value::Null)["server"]["cpu_us_per_delivery"], Value::Null);
    }
}
