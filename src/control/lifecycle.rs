//! Whether the node takes clients, and who wants it to stop.

use tokio::sync::watch;

/// Where the node is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Serving.
    Ready,
    /// On its way out: no new clients, goodbyes to those there are.
    Draining,
}

impl Phase {
    /// As stats show it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Draining => "draining",
        }
    }
}

/// The node's phase, shared by everybody on the control plane. It only goes forward.
#[derive(Clone, Debug)]
pub(crate) struct Lifecycle(watch::Sender<Phase>);

impl Lifecycle {
    /// A node that serves.
    pub(crate) fn new() -> Self {
        Self(watch::Sender::new(Phase::Ready))
    }

    /// Where it is.
    pub(crate) fn phase(&self) -> Phase {
        *self.0.borrow()
    }

    /// Begins to drain; `false` when that had begun already.
    pub(crate) fn drain(&self) -> bool {
        self.0.send_if_modified(|phase| std::mem::replace(phase, Phase::Draining) == Phase::Ready)
    }

    /// Waits until draining has begun. Safe to drop and to call again.
    pub(crate) async fn draining(&self) {
        let mut phase = self.0.subscribe();
        // The sender is ours, so the channel can't be closed.
        let _ = phase.wait_for(|phase| *phase == Phase::Draining).await;
    }
}
