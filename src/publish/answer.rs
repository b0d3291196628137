//! What is answered to a publication, for a request of its own and as an item of a batch alike.

use axum::http::StatusCode;
use serde_json::json;
use shards::core::channel::Undeliverable;

use super::keys::Given;
use crate::control::{AskError, NotPublished, Problem, Reach};

/// Everything that can become of a publication, for metrics.
pub(crate) const OUTCOMES: [&str; 9] = [
    "published",
    "duplicate",
    "expired",
    "refused",
    "rate_limited",
    "no_subscriber",
    "overloaded",
    UNANSWERED,
    INVALID,
];

const UNANSWERED: &str = "unanswered";
/// The request says nothing that could be published.
pub(super) const INVALID: &str = "invalid";

pub(super) fn outcome_name(outcome: &Result<Reach, NotPublished>) -> &'static str {
    match outcome {
        Ok(reach) if reach.published.duplicate => "duplicate",
        Ok(_) => "published",
        Err(NotPublished::Undeliverable(reason)) => reason.name(),
        Err(NotPublished::Unanswered(_)) => UNANSWERED,
    }
}

pub(super) fn given(outcome: &Result<Reach, NotPublished>) -> Given {
    match outcome {
        Ok(Reach { published, silent }) => {
            let mut body = json!(published);
            if *silent > 0 {
                body["late_shards"] = (*silent).into();
            }
            Given { status: 200, json: body.to_string() }
        }
        Err(NotPublished::Undeliverable(reason)) => {
            let (status, detail) = refusal(*reason);
            Problem::new(status, detail).because(reason.name()).given()
        }
        Err(NotPublished::Unanswered(error)) => {
            let detail = match error {
                AskError::Busy => error.to_string(),
                AskError::Late => format!(
                    "{error}: it may have been published; with an idempotency key it is safe to ask again"
                ),
            };
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).because(UNANSWERED).given()
        }
    }
}

fn refusal(reason: Undeliverable) -> (StatusCode, &'static str) {
    match reason {
        Undeliverable::Expired => {
            (StatusCode::UNPROCESSABLE_ENTITY, "its time was over before it could be delivered")
        }
        Undeliverable::Refused => {
            (StatusCode::FORBIDDEN, "there is no such namespace, or the operator may not publish in it")
        }
        Undeliverable::RateLimited => {
            (StatusCode::TOO_MANY_REQUESTS, "the channel has had too many publications of late")
        }
        Undeliverable::NoSubscriber => {
            (StatusCode::CONFLICT, "nobody hears the channel, and a subscriber was required")
        }
        Undeliverable::Overloaded => {
            (StatusCode::SERVICE_UNAVAILABLE, "there was no room for it on the way to its subscribers")
        }
    }
}

/// Whether asking again would not help.
pub(super) fn is_final(given: &Given) -> bool {
    !matches!(given.status, 429 | 503)
}

/// A batch has used up its time.
pub(super) fn not_begun() -> Given {
    let detail = "its batch has taken too long: this publication was not begun";
    let reason = Undeliverable::Overloaded.name();
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).because(reason).given()
}

/// The key was used for something else.
pub(crate) fn misused() -> Given {
    let detail = "the idempotency key was used for another request";
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail).because("idempotency_key_reused").given()
}

/// Another request with the key does not come to an end.
pub(crate) fn still_running() -> Given {
    let detail = "a request with this idempotency key is still being carried out";
    Problem::new(StatusCode::CONFLICT, detail).because("idempotency_key_in_use").given()
}
