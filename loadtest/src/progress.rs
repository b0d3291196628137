//! What is seen while a run lasts: one line on stderr, redrawn in place.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// The line.
pub(crate) struct Line(ProgressBar);

impl Line {
    /// A line, or none when quiet.
    pub(crate) fn new(quiet: bool) -> Self {
        let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr_with_hz(5));
        if quiet {
            bar.set_draw_target(ProgressDrawTarget::hidden());
        }
        let style = ProgressStyle::with_template("{prefix:>10.bold} {bar:32.cyan/dim} {msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("━╸─"));
        Self(bar)
    }

    /// Begins a phase that goes from 0 to `length`.
    pub(crate) fn phase(&self, name: &'static str, length: u64) {
        self.0.set_length(length.max(1));
        self.0.set_position(0);
        self.0.set_prefix(name);
    }

    /// Moves within the phase.
    pub(crate) fn show(&self, position: u64, message: String) {
        self.0.set_message(message);
        self.0.set_position(position);
    }

    /// Takes the line away.
    pub(crate) fn clear(&self) {
        self.0.finish_and_clear();
    }
}

/// The time between two samples.
pub(crate) const SAMPLE_EVERY: Duration = Duration::from_millis(250);
