//! Users through the API. Their connections may be on any shard.

use std::time::Duration;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde_json::{Value, json};
use shards::core::message::{Answer, Query};

use super::App;
use super::problem::Problem;

/// How long a shard may take.
const ANSWER: Duration = Duration::from_secs(2);

/// `POST /users/{sub}/disconnect`: closes the connections of everybody whose token has this `sub`. Success is only
/// told when every shard has done so.
pub(crate) async fn disconnect(
    State(app): State<App>,
    path: Result<Path<String>, PathRejection>,
) -> Result<Json<Value>, Problem> {
    let Path(sub) = path.map_err(|error| Problem::field("sub", error.body_text()))?;
    if app.gate.is_none() {
        let detail = "auth.mode is \"none\", so that no connection is known to be anybody's";
        return Err(Problem::new(StatusCode::CONFLICT, detail));
    }
    let answers = app.line.ask_all(|| Query::DisconnectUser(sub.as_str().into()), ANSWER).await;
    let (mut closed, mut silent) = (0, Vec::new());
    for (shard, answer) in app.line.shards().zip(answers) {
        match answer {
            Ok(Answer::UserDisconnected(count)) => closed += count,
            _ => silent.push(shard.0),
        }
    }
    if !silent.is_empty() {
        let detail = format!("shards {silent:?} did not answer in time; on the others {closed} were closed");
        return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail));
    }
    Ok(Json(json!({ "closed": closed })))
}
