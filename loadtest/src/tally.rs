//! What a worker counted; tallies of several workers merge into one without losing a percentile.

use std::collections::BTreeMap;
use std::io::Cursor;

use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer, Serializer as _, V2Serializer};
use serde::de::Error as _;
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer as Parser, Serialize, Serializer};

/// Ten minutes: what is later than that is recorded as that.
const LONGEST_US: u64 = 600_000_000;

/// Durations in microseconds, three significant digits.
#[derive(Clone, Debug)]
pub(crate) struct Times(Histogram<u64>);

impl Default for Times {
    fn default() -> Self {
        let histogram = Histogram::new_with_bounds(1, LONGEST_US, 3);
        Self(histogram.expect("the bounds are constants that hdrhistogram accepts"))
    }
}

impl Times {
    /// Records one.
    pub(crate) fn record(&mut self, us: u64) {
        self.0.saturating_record(us);
    }

    /// Adds all of another.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.0.add(&other.0).expect("all histograms have the same bounds");
    }

    /// How many were recorded.
    pub(crate) fn len(&self) -> u64 {
        self.0.len()
    }

    /// The value at a quantile (0 to 1).
    pub(crate) fn at(&self, quantile: f64) -> u64 {
        self.0.value_at_quantile(quantile).min(self.max())
    }

    /// The largest.
    pub(crate) fn max(&self) -> u64 {
        self.0.max()
    }

    /// The mean.
    pub(crate) fn mean(&self) -> f64 {
        self.0.mean()
    }
}

impl Serialize for Times {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut bytes = Vec::new();
        V2Serializer::new().serialize(&self.0, &mut bytes).map_err(S::Error::custom)?;
        bytes.serialize(to)
    }
}

impl<'de> Deserialize<'de> for Times {
    fn deserialize<D: Parser<'de>>(from: D) -> Result<Self, D::Error> {
        let bytes = Vec::<u8>::deserialize(from)?;
        let read: Histogram<u64> =
            Deserializer::new().deserialize(&mut Cursor::new(bytes)).map_err(D::Error::custom)?;
        let mut times = Self::default();
        times.0.add(read).map_err(D::Error::custom)?;
        Ok(times)
    }
}

/// Counts by name.
pub(crate) type Counts = BTreeMap<String, u64>;

/// Everything a worker reports at the end. "In the window" means: intended, or seen, after warm-up and before the
/// end of the run; totals have no such limit and are what the server's own counters are held against.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(crate) struct Tally {
    /// Frames whose intended time lies in the window, without those of slow clients.
    pub(crate) offered: u64,
    /// Of these, handed to the kernel.
    pub(crate) sent: u64,
    /// Of these, come back (in `fanout`: at each listener), however late.
    pub(crate) delivered: u64,
    pub(crate) duplicated: u64,
    pub(crate) reordered: u64,
    /// Frames that came in while the window was open, whenever intended.
    pub(crate) received_in_window: u64,
    pub(crate) total_sent: u64,
    pub(crate) total_binary: u64,
    pub(crate) total_text: u64,
    pub(crate) total_control: u64,
    pub(crate) pongs_sent: u64,
    pub(crate) events: u64,
    pub(crate) batches: u64,
    /// Sum of `count` over `outbox.dropped` events.
    pub(crate) told_dropped: u64,
    pub(crate) handshakes_ok: u64,
    pub(crate) handshakes_failed: u64,
    pub(crate) closes: Counts,
    pub(crate) errors: Counts,
    pub(crate) latency: Times,
    pub(crate) lateness: Times,
    /// Latency from the actual send.
    pub(crate) beyond: Times,
    pub(crate) handshake: Times,
    pub(crate) others: Option<OthersTally>,
    pub(crate) slow: Option<SlowTally>,
    pub(crate) storm: Option<StormTally>,
    pub(crate) converse: Option<ConverseTally>,
    pub(crate) conversations: u64,
    pub(crate) open: u64,
    /// CPU of the worker while the window was open.
    pub(crate) cpu_ns: u64,
}

/// What `slow` and `flood` add: how those fared who did nothing but what they did before.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(crate) struct OthersTally {
    /// Their latency before and after the trouble began.
    pub(crate) before: Times,
    pub(crate) after: Times,
}

/// What `slow` adds.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(crate) struct SlowTally {
    pub(crate) clients: u64,
    pub(crate) offered: u64,
    pub(crate) delivered: u64,
    /// Close codes that slow clients found when they read again.
    pub(crate) closes: Counts,
    pub(crate) still_open: u64,
}

/// What `converse` adds.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(crate) struct ConverseTally {
    pub(crate) utterances: u64,
    /// Answered with exactly what was said.
    pub(crate) whole: u64,
    /// From the question to the first piece of the answer.
    pub(crate) first_audio: Times,
}

/// What `storm` adds.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(crate) struct StormTally {
    pub(crate) dropped: u64,
    pub(crate) back: u64,
    pub(crate) recovered: u64,
    pub(crate) not_recovered: u64,
    pub(crate) retries: u64,
    /// From the cut, or from the moment when it was to come back, to ready again, per client.
    pub(crate) times: Times,
    /// Of that, how much later than it was to it dialled, and what remains.
    pub(crate) lateness: Times,
    pub(crate) beyond: Times,
}

impl Tally {
    /// Counts an error of a kind.
    pub(crate) fn error(&mut self, kind: &str) {
        count(&mut self.errors, kind);
    }

    /// Adds all of another.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.offered += other.offered;
        self.sent += other.sent;
        self.delivered += other.delivered;
        self.duplicated += other.duplicated;
        self.reordered += other.reordered;
        self.received_in_window += other.received_in_window;
        self.total_sent += other.total_sent;
        self.total_binary += other.total_binary;
        self.total_text += other.total_text;
        self.total_control += other.total_control;
        self.pongs_sent += other.pongs_sent;
        self.events += other.events;
        self.batches += other.batches;
        self.told_dropped += other.told_dropped;
        self.handshakes_ok += other.handshakes_ok;
        self.handshakes_failed += other.handshakes_failed;
        self.conversations += other.conversations;
        self.open += other.open;
        self.cpu_ns += other.cpu_ns;
        add(&mut self.closes, &other.closes);
        add(&mut self.errors, &other.errors);
        self.latency.merge(&other.latency);
        self.lateness.merge(&other.lateness);
        self.beyond.merge(&other.beyond);
        self.handshake.merge(&other.handshake);
        if let Some(others) = &other.others {
            let own = self.others.get_or_insert_default();
            own.before.merge(&others.before);
            own.after.merge(&others.after);
        }
        if let Some(slow) = &other.slow {
            self.slow.get_or_insert_default().merge(slow);
        }
        if let Some(converse) = &other.converse {
            let own = self.converse.get_or_insert_default();
            own.utterances += converse.utterances;
            own.whole += converse.whole;
            own.first_audio.merge(&converse.first_audio);
        }
        if let Some(storm) = &other.storm {
            self.storm.get_or_insert_default().merge(storm);
        }
    }
}

impl SlowTally {
    fn merge(&mut self, other: &Self) {
        self.clients += other.clients;
        self.offered += other.offered;
        self.delivered += other.delivered;
        self.still_open += other.still_open;
        add(&mut self.closes, &other.closes);
    }
}

impl StormTally {
    fn merge(&mut self, other: &Self) {
        self.dropped += other.dropped;
        self.back += other.back;
        self.recovered += other.recovered;
        self.not_recovered += other.not_recovered;
        self.retries += other.retries;
        self.times.merge(&other.times);
        self.lateness.merge(&other.lateness);
        self.beyond.merge(&other.beyond);
    }
}

/// Adds one under a name.
pub(crate) fn count(counts: &mut Counts, name: &str) {
    match counts.get_mut(name) {
        Some(n) => *n += 1,
        None => {
            counts.insert(name.to_owned(), 1);
        }
    }
}

fn add(counts: &mut Counts, other: &Counts) {
    for (name, n) in other {
        *counts.entry(name.clone()).or_default() += n;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_workers_merge_to_what_one_would_have_counted() {
        let (mut one, mut left, mut right) = (Tally::default(), Tally::default(), Tally::default());
        for us in 1..=10_000u64 {
            let half = if us % 3 == 0 { &mut left } else { &mut right };
            for tally in [&mut one, half] {
                tally.latency.record(us);
                tally.delivered += 1;
                tally.error(if us % 2 == 0 { "even" } else { "odd" });
                tally.others.get_or_insert_default().before.record(us);
            }
        }
        let mut merged = Tally::default();
        for half in [&left, &right] {
            let over_the_pipe = serde_json::to_string(half).expect("a tally serialises");
            merged.merge(&serde_json::from_str(&over_the_pipe).expect("and comes back"));
        }
        assert_eq!(merged.delivered, one.delivered);
        assert_eq!(merged.errors, one.errors);
        for quantile in [0.5, 0.9, 0.99, 0.999, 1.0] {
            assert_eq!(merged.latency.at(quantile), one.latency.at(quantile));
        }
        let max = merged.others.map_or(0, |others| others.before.max());
        assert!(max.abs_diff(10_000) <= 10, "three digits survive the pipe: {max}");
    }

    #[test]
    fn an_hour_is_recorded_as_the_longest_not_forgotten() {
        let mut times = Times::default();
        times.record(3_600_000_000);
        assert_eq!(times.len(), 1);
        assert!(times.max() >= LONGEST_US);
    }
}
