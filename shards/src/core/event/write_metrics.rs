//! `metrics` as JSON.

use super::json::Json;
use super::server::Metrics;
use crate::core::time::Micros;
use crate::core::usage::{OUTCOMES, ResponseUsage, Totals};

/// The fields of the event.
pub(super) fn fields(metrics: &Metrics, json: &mut Json<'_>) {
    json.object("response", |json| response(&metrics.response, json));
    json.object("session", |json| session(&metrics.session, json));
}

fn response(usage: &ResponseUsage, json: &mut Json<'_>) {
    json.text("id", &usage.id);
    json.text("status", usage.outcome.name());
    json.text_or_null("reason", usage.reason.as_deref());
    json.number("audio_in_ms", usage.audio_in.as_ms());
    json.number("audio_out_ms", usage.audio_out.as_ms());
    match usage.first_audio.map(Micros::as_ms) {
        Some(first_audio) => json.number("first_audio_ms", first_audio),
        None => json.null("first_audio_ms"),
    }
    json.number("duration_ms", usage.lasted.as_ms());
    json.number("interruptions", usage.interruptions.into());
}

fn session(totals: &Totals, json: &mut Json<'_>) {
    json.number("responses", totals.over());
    for (outcome, responses) in OUTCOMES.iter().zip(totals.responses) {
        json.number(outcome, responses);
    }
    json.number("utterances", totals.utterances);
    json.number("audio_in_ms", totals.audio_in.as_ms());
    json.number("audio_out_ms", totals.audio_out.as_ms());
    json.number("interruptions", totals.interruptions);
}
