//! Samples for the plots: what the workers report and what `/proc` says of the server, four times a second.

use crate::clock::now_us;
use crate::host::Server;
use crate::ipc::Progress;
use crate::progress::SAMPLE_EVERY;
use crate::report::Sample;

/// Collects samples; bounded by the length of the run.
pub(crate) struct Sampler {
    pub(crate) server: Option<Server>,
    pub(crate) samples: Vec<Sample>,
    origin_us: u64,
    last_us: u64,
    last_cpu_ns: u64,
    last: Progress,
}

impl Sampler {
    /// Begins now.
    pub(crate) fn new(server: Option<Server>) -> Self {
        let now = now_us();
        let last_cpu_ns = server.and_then(Server::cpu_ns).unwrap_or(0);
        let last = Progress::default();
        Self { server, samples: Vec::new(), origin_us: now, last_us: now, last_cpu_ns, last }
    }

    /// Seconds since the beginning.
    pub(crate) fn since_s(&self, at_us: u64) -> f64 {
        at_us.saturating_sub(self.origin_us) as f64 / 1e6
    }

    /// When the next sample is due.
    pub(crate) fn due_us(&self) -> u64 {
        self.last_us + SAMPLE_EVERY.as_micros() as u64
    }

    /// Takes a sample if it is due.
    pub(crate) fn tick(&mut self, progress: &Progress) {
        let now = now_us();
        if now < self.due_us() {
            return;
        }
        let passed_s = (now - self.last_us) as f64 / 1e6;
        let cpu_ns = self.server.and_then(Server::cpu_ns).unwrap_or(self.last_cpu_ns);
        self.samples.push(Sample {
            at_s: self.since_s(now),
            received_per_s: progress.received.saturating_sub(self.last.received) as f64 / passed_s,
            offered_per_s: progress.offered.saturating_sub(self.last.offered) as f64 / passed_s,
            server_cpu_percent: cpu_ns.saturating_sub(self.last_cpu_ns) as f64 / passed_s / 1e7,
            server_rss_bytes: self.server.and_then(Server::rss_bytes_quick).unwrap_or(0),
        });
        (self.last_us, self.last_cpu_ns, self.last) = (now, cpu_ns, *progress);
    }
}
