//! Faults on purpose, for tests of what becomes of the node: `POST /api/v1/faults/{fault}?shard=0`. Only in builds
//! with debug assertions, and only on the management address.

use axum::Router;
use axum::extract::{Path, Query as Parameters, State};
use axum::http::StatusCode;
use axum::routing::post;
use shards::core::ShardId;
use shards::core::message::{Fault, Query};

use super::App;

/// How long nobody answers: whoever is asked for a fault has other worries.
const ANSWER: std::time::Duration = std::time::Duration::from_secs(5);

#[derive(serde::Deserialize)]
struct Where {
    #[serde(default)]
    shard: u16,
}

/// The paths that break something.
pub(crate) fn routes(router: Router<App>) -> Router<App> {
    router
        .route(
            "/api/v1/faults/handler",
            post(async || -> StatusCode { panic!("a fault was asked for: Handler") }),
        )
        .route("/api/v1/faults/{fault}", post(break_something))
}

async fn break_something(
    State(app): State<App>,
    Path(fault): Path<Fault>,
    Parameters(Where { shard }): Parameters<Where>,
) -> StatusCode {
    let asked = app.line.ask(ShardId(shard), Query::Fault(fault), ANSWER).await;
    asked.map_or(StatusCode::SERVICE_UNAVAILABLE, |_| StatusCode::OK)
}
