//! Liveness and readiness, on both addresses.

use std::convert::Infallible;
use std::future::pending;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use shards::core::message::Query;
use tokio::time::{MissedTickBehavior, interval};

use super::App;
use super::lifecycle::Phase;
use super::problem::Problem;
use crate::notify::{self, Notice};

/// How long a shard may take to show that it lives. Load balancers give up after a second or two.
const ANSWER: Duration = Duration::from_millis(800);

/// 200 as long as this thread answers.
pub(crate) async fn alive() -> Response {
    ([(header::CACHE_CONTROL, "no-store")], Json(json!({ "status": "ok" }))).into_response()
}

/// Tells the service manager, if it waits for it, that every shard answers; not when one does not. Safe to drop.
pub(crate) async fn keep_watchdog_calm(app: App) -> Infallible {
    let Some(every) = notify::alive_every() else { return pending().await };
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if app.line.ask_all(|| Query::Counters, every).await.iter().all(Result::is_ok) {
            notify::tell(Notice::Alive);
        }
    }
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
