//! Rooms and connections through the API. The owner of a room follows from its session id; lists are put together
//! from all shards.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::time::Duration;

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query as Parameters, State};
use axum::http::StatusCode;
use bytes::Bytes;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use shards::core::message::{Answer, Query, RoomPost, RoomSummary, RoomsQuery, RoomsSort};
use shards::core::route;
use shards::core::{ConnectionId, MemberNumber, SessionId, ShardId};

use super::App;
use super::body::{self, Body};
use super::line::AskError;
use super::problem::Problem;

/// How long a shard may take.
const ANSWER: Duration = Duration::from_secs(2);
/// Rooms in a list unless the caller says otherwise, and at most.
const ROOMS: usize = 100;
const ROOMS_MAX: usize = 1_000;
/// Longest reason of a close: what a close frame holds beside its code.
const REASON_BYTES_MAX: usize = 123;

type Answered = Result<Json<Value>, Problem>;
type PathText = Result<Path<String>, PathRejection>;

/// `GET /rooms?limit=&shard=&sort=`
pub(crate) async fn list(
    State(app): State<App>,
    parameters: Result<Parameters<HashMap<String, String>>, QueryRejection>,
) -> Answered {
    let Parameters(parameters) =
        parameters.map_err(|error| Problem::new(StatusCode::BAD_REQUEST, error.body_text()))?;
    let (query, shard) = rooms_query(&app, &parameters)?;
    let asked: Vec<ShardId> = shard.map_or_else(|| app.line.shards().collect(), |shard| vec![shard]);
    let answers = match shard {
        Some(shard) => vec![app.line.ask(shard, Query::Rooms(query), ANSWER).await],
        None => app.line.ask_all(|| Query::Rooms(query), ANSWER).await,
    };
    let (mut rooms, mut silent) = (Vec::new(), Vec::new());
    for (shard, answer) in asked.iter().zip(answers) {
        match answer {
            Ok(Answer::Rooms(of_shard)) => rooms.extend(of_shard),
            _ => silent.push(*shard),
        }
    }
    if silent.len() == asked.len() {
        return Err(unavailable(AskError::Late));
    }
    sort(&mut rooms, query.sort);
    rooms.truncate(query.limit);
    Ok(Json(json!({ "rooms": rooms, "silent_shards": silent })))
}

/// `GET /rooms/{id}`
pub(crate) async fn one(State(app): State<App>, path: PathText) -> Answered {
    let id = session_id(path)?;
    match ask_owner(&app, &id, Query::Room(id.clone())).await? {
        Answer::Room(Some(room)) => Ok(Json(json!(room))),
        _ => Err(no_room(&id)),
    }
}

/// `POST /rooms/{id}/send` with `{"data": any JSON, "to"?: member}`
pub(crate) async fn send(State(app): State<App>, path: PathText, body: Body) -> Answered {
    let id = session_id(path)?;
    let mut fields = body::fields(&body::bytes(body)?, &["data", "to"])?;
    let data =
        fields.remove("data").ok_or_else(|| Problem::field("data", "the field \"data\" is missing"))?;
    let data = body::passed_on("data", data.get(), app.json_depth_max)?;
    let to = body::given(&mut fields, "to").map(|to| member(&to)).transpose()?;
    let post = RoomPost { data: data.into(), to };
    match ask_owner(&app, &id, Query::Send(id.clone(), post)).await? {
        Answer::Sent(Some(delivered)) => Ok(Json(json!({ "delivered": delivered }))),
        _ => Err(no_room(&id)),
    }
}

/// `POST /rooms/{id}/close`
pub(crate) async fn close(State(app): State<App>, path: PathText) -> Answered {
    let id = session_id(path)?;
    match ask_owner(&app, &id, Query::CloseRoom(id.clone())).await? {
        Answer::RoomClosed(Some(closed)) => Ok(Json(json!({ "closed": closed }))),
        _ => Err(no_room(&id)),
    }
}

/// `POST /connections/{id}/close` with an optional `{"code"?, "reason"?}`
pub(crate) async fn close_connection(State(app): State<App>, path: PathText, body: Body) -> Answered {
    let Path(text) = path.map_err(|error| Problem::field("id", error.body_text()))?;
    let id: ConnectionId = text
        .parse()
        .map_err(|error: shards::core::ids::BadConnectionId| Problem::field("id", error.to_string()))?;
    let (code, reason) = goodbye(body)?;
    let absent = || Problem::not_found(format!("there is no connection {id}"));
    if !app.line.shards().any(|shard| shard == id.shard) {
        return Err(absent());
    }
    let query = Query::CloseConnection(id.key, code, reason);
    match app.line.ask(id.shard, query, ANSWER).await.map_err(unavailable)? {
        Answer::ConnectionClosed(true) => Ok(Json(json!({ "closed": 1 }))),
        _ => Err(absent()),
    }
}

async fn ask_owner(app: &App, id: &SessionId, query: Query) -> Result<Answer, Problem> {
    let owner = route::owner(id.as_str(), app.line.shards().count() as u16);
    app.line.ask(owner, query, ANSWER).await.map_err(unavailable)
}

fn unavailable(error: AskError) -> Problem {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string())
}

fn no_room(id: &SessionId) -> Problem {
    Problem::not_found(format!("there is no room {id}"))
}

fn session_id(path: PathText) -> Result<SessionId, Problem> {
    let Path(text) = path.map_err(|error| Problem::field("id", error.body_text()))?;
    SessionId::parse(&text).map_err(|error| Problem::field("id", error.to_string()))
}

fn rooms_query(
    app: &App,
    parameters: &HashMap<String, String>,
) -> Result<(RoomsQuery, Option<ShardId>), Problem> {
    let mut query = RoomsQuery { limit: ROOMS, sort: RoomsSort::Id };
    let mut shard = None;
    for (name, value) in parameters {
        match name.as_str() {
            "limit" => {
                query.limit =
                    value.parse().ok().filter(|limit| (1..=ROOMS_MAX).contains(limit)).ok_or_else(|| {
                        Problem::field("limit", format!("\"limit\" is a number from 1 to {ROOMS_MAX}"))
                    })?;
            }
            "shard" => {
                let known = app.line.shards().find(|shard| shard.to_string() == *value);
                let range = format!("\"shard\" is a number below {}", app.line.shards().count());
                shard = Some(known.ok_or_else(|| Problem::field("shard", range))?);
            }
            "sort" => query.sort = order(value)?,
            _ => {
                let detail = format!("there is no parameter {name:?}; there are limit, shard and sort");
                return Err(Problem::new(StatusCode::BAD_REQUEST, detail));
            }
        }
    }
    Ok((query, shard))
}

fn order(name: &str) -> Result<RoomsSort, Problem> {
    serde_json::from_value(json!(name))
        .map_err(|_| Problem::field("sort", "\"sort\" is one of id, members, queued, age, frames"))
}

/// The order each shard's own list has.
fn sort(rooms: &mut [RoomSummary], by: RoomsSort) {
    rooms.sort_by(|a, b| a.id.as_str().cmp(b.id.as_str()));
    match by {
        RoomsSort::Id => {}
        RoomsSort::Members => rooms.sort_by_key(|room| Reverse(room.members)),
        RoomsSort::Queued => rooms.sort_by_key(|room| Reverse(room.queued_bytes)),
        RoomsSort::Age => rooms.sort_by_key(|room| Reverse(room.age_ms)),
        RoomsSort::Frames => rooms.sort_by_key(|room| Reverse(room.frames_received)),
    }
}

fn member(text: &RawValue) -> Result<MemberNumber, Problem> {
    let number = serde_json::from_str(text.get()).ok().filter(|&number| number > 0);
    number
        .map(MemberNumber)
        .ok_or_else(|| Problem::field("to", "\"to\" is a member's number, from 1 to 65535"))
}

/// With what code and reason a connection is closed. 1008 unless the body says otherwise: it was a decision.
fn goodbye(body: Body) -> Result<(u16, String), Problem> {
    let (mut code, mut reason) = (1008, "closed by the operator".to_owned());
    if body.as_ref().is_ok_and(Bytes::is_empty) {
        return Ok((code, reason));
    }
    let mut fields = body::fields(&body::bytes(body)?, &["code", "reason"])?;
    if let Some(text) = body::given(&mut fields, "code") {
        code = serde_json::from_str(text.get())
            .ok()
            .filter(|code| matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999))
            .ok_or_else(|| {
                Problem::field(
                    "code",
                    "\"code\" is a close code that may be sent: 1000, 1001, 1008, 1011, 4000 …",
                )
            })?;
    }
    if let Some(text) = body::given(&mut fields, "reason") {
        reason = serde_json::from_str(text.get())
            .ok()
            .filter(|reason: &String| reason.len() <= REASON_BYTES_MAX)
            .ok_or_else(|| {
                Problem::field("reason", format!("\"reason\" is a text of at most {REASON_BYTES_MAX} bytes"))
            })?;
    }
    Ok((code, reason))
}

#[cfg(test)]
mod tests;
