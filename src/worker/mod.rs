//! Workers: processes elsewhere that answer what rooms ask, reached through Redis. Lives on the control plane's thread; a
//! shard hands its requests over through the mesh and never waits.
//!
//! [`Workers`] is what the switchboard and the metrics hold: a bounded queue of what rooms want, and counts. [`Bureau`] is the
//! task behind it: it keeps the connection to Redis ([`link`]), tells requests, hears answers, and sees to what is lost
//! ([`desk`] decides). Dropping the task loses what is out; rooms then run into their deadlines.

mod answer;
mod bureau;
mod desk;
mod link;
mod payload;
mod report;

use std::sync::Arc;

use shards::core::work::Work;
use tokio::sync::mpsc;

pub(crate) use bureau::Bureau;
pub(crate) use report::{WorkerReport, describe};

use crate::config::WorkerConfig;
use report::Counts;

/// What rooms want that waits for the task.
const WAITING_MAX: usize = 1_024;

/// The way to the workers.
#[derive(Clone, Debug)]
pub(crate) struct Workers {
    wanted: mpsc::Sender<Box<Work>>,
    counts: Arc<Counts>,
}

impl Workers {
    /// The way to the workers, and the task that has to run.
    pub(crate) fn new(config: WorkerConfig) -> (Self, Bureau) {
        // What `rediss://` is secured with. Somebody may have said so before: it is the same.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let (wanted, wants) = mpsc::channel(WAITING_MAX);
        let counts = Arc::new(Counts::default());
        (Self { wanted, counts: Arc::clone(&counts) }, Bureau::new(config, wants, counts))
    }

    /// Takes what a room wants.
    ///
    /// # Errors
    /// With it, when too much waits already.
    pub(crate) fn take(&self, work: Box<Work>) -> Result<(), Box<Work>> {
        self.wanted.try_send(work).map_err(|full| {
            self.counts.refused.add(1);
            full.into_inner()
        })
    }

    /// What has been counted so far.
    pub(crate) fn report(&self) -> WorkerReport {
        self.counts.report()
    }
}
