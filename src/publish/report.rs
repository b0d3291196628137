//! Publishing in metrics.

use std::fmt;

use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use shards::core::channel::UNDELIVERABLES;

use super::{OUTCOMES, PublishReport};

/// Writes it down.
pub(crate) fn describe(report: &PublishReport, out: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let PublishReport { outcomes, letters, keys } = report;
    let help = "Publications that the management API was asked for, and what became of them";
    let mut family = out.encode_descriptor("voxhall_publications", help, None, MetricType::Counter)?;
    for (outcome, count) in OUTCOMES.iter().zip(outcomes) {
        family
            .encode_family(&[("outcome", *outcome)])?
            .encode_counter::<NoLabelSet, u64, u64>(count, None)?;
    }
    let help = "Dead letters that came to the control plane";
    let mut family =
        out.encode_descriptor("voxhall_dead_letters_received", help, None, MetricType::Counter)?;
    for (reason, count) in UNDELIVERABLES.iter().zip(letters.came) {
        family.encode_family(&[("reason", *reason)])?.encode_counter::<NoLabelSet, u64, u64>(&count, None)?;
    }
    for (name, help, count) in [
        ("voxhall_dead_letters_pushed_out", "Dead letters that newer ones pushed out", letters.pushed_out),
        ("voxhall_dead_letters_removed", "Dead letters that the operator removed", letters.removed),
        ("voxhall_dead_letters_retried", "Dead letters that were tried again and went out", letters.retried),
        (
            "voxhall_dead_letters_failed_again",
            "Dead letters that were tried again and did not go out",
            letters.failed_again,
        ),
        ("voxhall_idempotent_answers_repeated", "Answers that were given again", keys.repeated),
        (
            "voxhall_idempotency_keys_misused",
            "Idempotency keys that came with another request than the first time",
            keys.misused,
        ),
        (
            "voxhall_idempotency_keys_forgotten",
            "Idempotency keys that were forgotten before their time, for want of room",
            keys.forgotten,
        ),
    ] {
        let mut metric = out.encode_descriptor(name, help, None, MetricType::Counter)?;
        metric.encode_counter::<NoLabelSet, u64, u64>(&count, None)?;
    }
    for (name, help, value) in [
        ("voxhall_dead_letters_kept", "Dead letters that are kept", letters.kept),
        ("voxhall_dead_letters_kept_bytes", "Their bytes", letters.bytes),
        ("voxhall_idempotency_keys", "Idempotency keys whose answer is known", keys.known),
    ] {
        out.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&(value as f64))?;
    }
    Ok(())
}
