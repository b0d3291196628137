//! Liveness and readiness, on both addresses.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use shards::core::message::Query;

use super::App;
use super::lifecycle::Phase;
use super::problem::Problem;

/// How long a shard may take to show that it lives. Load balancers give up after a second or two.
const ANSWER: Duration = Duration::from_millis(800);

/// 200 as long as this thread answers.
pub(crate) async fn alive() -> Response {
    ([(header::CACHE_CONTROL, "no-store")], Json(json!({ "status": "ok" }))).into_response()
}

/// 200 when new clients are welcome: not draining, and every shard answers.
pub(crate) async fn ready(State(app): State<App>) -> Response {
    if app.lifecycle.phase() == Phase::Draining {
        return Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the node is draining").into_response();
    }
    let answers = app.line.ask_all(|| Query::Counters, ANSWER).await;
    match answers.iter().position(Result::is_err) {
        None => ([(header::CACHE_CONTROL, "no-store")], Json(json!({ "status": "ready" }))).into_response(),
        Some(shard) => {
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, format!("shard {shard} does not answer"))
                .into_response()
        }
    }
}
