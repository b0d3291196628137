//! `POST /publish` and `POST /events`: what is published from outside. A batch is answered item by item.

use std::collections::VecDeque;
use std::future::Future;
use std::hash::{DefaultHasher, Hash, Hasher as _};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use serde_json::value::RawValue;
use shards::core::channel::{ChannelName, Publication, Publisher};
use shards::core::{Micros, SessionId};
use tokio::time::Instant;

use super::App;
use super::body::{self, Body, Fields};
use super::problem::{Problem, respond};
use crate::publish::{Claim, Given, InFlight, Wanted, misused, still_running};

/// How long shards may take over one publication.
const ANSWER: Duration = Duration::from_secs(2);
/// How long a whole batch may take; what is not begun then is answered as not published.
const BATCH: Duration = Duration::from_secs(15);
/// Publications of a batch that are on their way at once.
const WINDOW: usize = 64;
/// Longest idempotency or dedupe key.
const KEY_BYTES_MAX: usize = 255;
/// Longest time in which something may be delivered: a year.
const TTL_S_MAX: f64 = 31_536_000.0;

const FIELDS: [&str; 7] =
    ["channel", "data", "dedupe", "ttl_s", "require_subscriber", "session_id", "idempotency_key"];

/// `POST /publish` with one publication, an array of them, or `{"publish": [...]}`
pub(crate) async fn publish(State(app): State<App>, headers: HeaderMap, body: Body) -> Response {
    match asked(&app, &headers, body) {
        Err(problem) => {
            app.publishing.count_invalid();
            problem.into_response()
        }
        Ok(Asked::One(wanted)) => carried_out(async move { one(&app, *wanted).await }).await,
        Ok(Asked::Many(items, key)) => carried_out(async move { many(&app, items, key).await }).await,
    }
}

/// `POST /events` with `{"type" or "event": …, "session_id"?, any other fields}`
pub(crate) async fn event(State(app): State<App>, headers: HeaderMap, body: Body) -> Response {
    match asked_event(&app, &headers, body) {
        Err(problem) => {
            app.publishing.count_invalid();
            problem.into_response()
        }
        Ok(wanted) => carried_out(async move { one(&app, wanted).await }).await,
    }
}

/// Carries a request out to its end, whether or not its client waits for it.
pub(super) async fn carried_out(work: impl Future<Output = Arc<Given>> + Send + 'static) -> Response {
    match tokio::spawn(work).await {
        Ok(given) => respond(&given),
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

/// Publishes, and waits for what becomes of it.
pub(super) async fn one(app: &App, wanted: Wanted) -> Arc<Given> {
    let deadline = Instant::now() + ANSWER;
    let begun = app.publishing.begin(&app.line, wanted, deadline).await;
    app.publishing.finish(&app.line, begun, deadline).await
}

/// What a request asks for.
enum Asked {
    One(Box<Wanted>),
    Many(Vec<Box<RawValue>>, Option<(String, u64)>),
}

fn asked(app: &App, headers: &HeaderMap, body: Body) -> Result<Asked, Problem> {
    let key = header_key(headers)?;
    let bytes = body::bytes(body)?;
    let keyed = |key: Option<String>| key.map(|key| (key, print("publish", &bytes)));
    if bytes.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[') {
        return Ok(Asked::Many(items(app, &bytes)?, keyed(key)));
    }
    let fields = body::object(&bytes)?;
    match fields.get("publish") {
        Some(list) if fields.len() == 1 => Ok(Asked::Many(items(app, list.get().as_bytes())?, keyed(key))),
        _ => wanted(app, &bytes, key).map(|wanted| Asked::One(Box::new(wanted))),
    }
}

fn items(app: &App, json: &[u8]) -> Result<Vec<Box<RawValue>>, Problem> {
    let most = app.publishing.batch_max;
    let items: Vec<Box<RawValue>> = serde_json::from_slice(json).map_err(|error| {
        Problem::field("publish", format!("the batch is not an array of publications: {error}"))
    })?;
    if items.is_empty() {
        return Err(Problem::field("publish", "the batch is empty"));
    }
    if items.len() > most {
        let detail = format!("{} publications are more than publish.batch_max = {most}", items.len());
        return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail));
    }
    Ok(items)
}

/// Publishes a batch, in its order, and answers each item.
async fn many(app: &App, items: Vec<Box<RawValue>>, key: Option<(String, u64)>) -> Arc<Given> {
    let deadline = Instant::now() + BATCH;
    let ticket = loop {
        let Some((key, print)) = &key else { break None };
        match app.publishing.keys.claim(key, *print, Instant::now()) {
            Claim::First(ticket) => break Some(ticket),
            Claim::Known(given) => return given,
            Claim::Misused => return Arc::new(misused()),
            Claim::Pending(waiting) => match waiting.answer(deadline).await {
                Some(given) => return given,
                None if Instant::now() >= deadline => return Arc::new(still_running()),
                None => {}
            },
        }
    };
    let mut flight = VecDeque::new();
    let mut results = Vec::with_capacity(items.len());
    for (at, item) in items.iter().enumerate() {
        if flight.len() == WINDOW {
            results.extend(land(app, &mut flight).await);
        }
        // No key that is brought has a space in it.
        let implied = key.as_ref().map(|(key, _)| format!("{key} {at}"));
        flight.push_back(take_off(app, item, implied, deadline).await);
    }
    while let Some(given) = land(app, &mut flight).await {
        results.push(given);
    }
    let failed = results.iter().filter(|given| given.status != 200).count();
    let given = Arc::new(Given { status: 200, json: batch_answer(&results, failed) });
    if let Some(ticket) = ticket {
        let is_final = results.iter().all(|given| !matches!(given.status, 429 | 503));
        ticket.answer(&given, is_final, Instant::now());
    }
    given
}

async fn take_off(
    app: &App,
    item: &RawValue,
    implied: Option<String>,
    batch: Instant,
) -> (InFlight, Instant) {
    let now = Instant::now();
    if now >= batch {
        return (InFlight::Over(app.publishing.not_begun()), batch);
    }
    let deadline = batch.min(now + ANSWER);
    let begun = match wanted(app, item.get().as_bytes(), None) {
        Ok(mut wanted) => {
            if wanted.key.is_none() {
                wanted = wanted.under(implied, print("publish", item.get().as_bytes()));
            }
            app.publishing.begin(&app.line, wanted, deadline).await
        }
        Err(problem) => {
            app.publishing.count_invalid();
            InFlight::Over(Arc::new(problem.given()))
        }
    };
    (begun, deadline)
}

/// Waits for the first that is on its way.
async fn land(app: &App, flight: &mut VecDeque<(InFlight, Instant)>) -> Option<Arc<Given>> {
    let (begun, deadline) = flight.pop_front()?;
    Some(app.publishing.finish(&app.line, begun, deadline).await)
}

fn batch_answer(results: &[Arc<Given>], failed: usize) -> String {
    let mut json = format!(r#"{{"published":{},"failed":{failed},"results":["#, results.len() - failed);
    for (at, given) in results.iter().enumerate() {
        if at > 0 {
            json.push(',');
        }
        // Each is a JSON object; what is published has no status of its own.
        if given.status == 200 {
            json.push_str("{\"status\":200,");
            json.push_str(&given.json[1..]);
        } else {
            json.push_str(&given.json);
        }
    }
    json.push_str("]}");
    json
}

/// A publication as it was written; `key` is the one of its request, if that has one.
fn wanted(app: &App, json: &[u8], key: Option<String>) -> Result<Wanted, Problem> {
    let mut fields = body::fields(json, &FIELDS)?;
    let channel =
        channel(&take::<String>(&mut fields, "channel", "a text")?.ok_or_else(|| missing("channel"))?)?;
    let data = fields.remove("data").ok_or_else(|| missing("data"))?;
    let data = body::passed_on("data", data.get(), app.json_depth_max)?;
    let dedupe = take::<String>(&mut fields, "dedupe", "a text")?;
    let ttl = take::<f64>(&mut fields, "ttl_s", "a number of seconds")?.map(ttl).transpose()?;
    let needs_subscriber = take(&mut fields, "require_subscriber", "true or false")?.unwrap_or(false);
    let session = session(fields.remove("session_id").as_deref())?;
    let own = take::<String>(&mut fields, "idempotency_key", "a text")?;
    let key = match (own, key) {
        (Some(own), Some(key)) if own != key => {
            let detail = "\"idempotency_key\" differs from the header Idempotency-Key";
            return Err(Problem::field("idempotency_key", detail));
        }
        (own, key) => own.map(|own| checked("idempotency_key", own)).transpose()?.or(key),
    };
    let dedupe = dedupe.map(|dedupe| checked("dedupe", dedupe)).transpose()?.map(Into::into);
    let publication = Publication {
        channel,
        data: data.into(),
        dedupe,
        ttl,
        needs_subscriber,
        session,
        by: Publisher::Admin,
    };
    Ok(Wanted { publication, key: None }.under(key, print("publish", json)))
}

fn asked_event(app: &App, headers: &HeaderMap, body: Body) -> Result<Wanted, Problem> {
    let key = header_key(headers)?;
    let bytes = body::bytes(body)?;
    let mut fields = body::object(&bytes)?;
    // Beside `event`, `type` is a field as any other.
    let named = fields.get("event").is_some_and(|event| event.get() != "null");
    let name = if named { "event" } else { "type" };
    let kind = take::<String>(&mut fields, name, "a text")?.ok_or_else(|| missing("type"))?;
    let channel = channel(&format!("events:{kind}"))?;
    let session = session(fields.get("session_id").map(AsRef::as_ref))?;
    // As the feed shows it.
    let mut data = format!("{{\"event\":{}", serde_json::to_string(&kind).expect("a text is JSON"));
    for (field, value) in &fields {
        data.push(',');
        data.push_str(&serde_json::to_string(field).expect("a text is JSON"));
        data.push(':');
        data.push_str(value.get());
    }
    data.push('}');
    let publication = Publication {
        channel,
        data: body::passed_on("fields", &data, app.json_depth_max)?.into(),
        dedupe: None,
        ttl: None,
        needs_subscriber: false,
        session,
        by: Publisher::Server,
    };
    Ok(Wanted { publication, key: None }.under(key, print("events", &bytes)))
}

impl Wanted {
    /// The same under this key. The owner of the channel is told of it too: should its answer be lost, it knows the next
    /// attempt.
    fn under(mut self, key: Option<String>, print: u64) -> Self {
        if let Some(key) = key {
            self.publication.dedupe.get_or_insert_with(|| key.as_str().into());
            self.key = Some((key, print));
        }
        self
    }
}

/// A field's value; nothing where it is null, too.
fn take<T: serde::de::DeserializeOwned>(
    fields: &mut Fields,
    field: &'static str,
    what: &str,
) -> Result<Option<T>, Problem> {
    let Some(json) = fields.remove(field) else { return Ok(None) };
    serde_json::from_str(json.get()).map_err(|_| Problem::field(field, format!("{field:?} is {what}")))
}

fn missing(field: &'static str) -> Problem {
    Problem::field(field, format!("the field {field:?} is missing"))
}

fn channel(text: &str) -> Result<Box<str>, Problem> {
    let name = ChannelName::parse(text);
    let name = name.map_err(|bad| Problem::field("channel", format!("this is no channel: {bad}")))?;
    Ok(name.as_str().into())
}

fn ttl(seconds: f64) -> Result<Micros, Problem> {
    if seconds > 0.0 && seconds <= TTL_S_MAX {
        Ok(Micros((seconds * 1e6).ceil() as u64))
    } else {
        Err(Problem::field("ttl_s", format!("\"ttl_s\" is more than 0 and at most {TTL_S_MAX}")))
    }
}

fn session(json: Option<&RawValue>) -> Result<Option<SessionId>, Problem> {
    let Some(json) = json else { return Ok(None) };
    let text: Option<String> = serde_json::from_str(json.get())
        .map_err(|_| Problem::field("session_id", "\"session_id\" is a text"))?;
    let parsed = text.map(|text| SessionId::parse(&text)).transpose();
    parsed.map_err(|error| Problem::field("session_id", error.to_string()))
}

/// The key of a request's head.
fn header_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let mut values = headers.get_all("idempotency-key").iter();
    let Some(value) = values.next() else { return Ok(None) };
    let only = values.next().is_none();
    let text = value.to_str().ok().filter(|_| only).unwrap_or_default();
    checked("idempotency_key", text.to_owned()).map(Some)
}

/// A key that can be told from those that are implied.
fn checked(field: &'static str, key: String) -> Result<String, Problem> {
    let good =
        (1..=KEY_BYTES_MAX).contains(&key.len()) && !key.contains(|c: char| c == ' ' || c.is_control());
    if good {
        return Ok(key);
    }
    let detail = format!("a key is 1 to {KEY_BYTES_MAX} bytes without spaces, and there is one of it");
    Err(Problem::field(field, detail))
}

/// Tells requests with the same key apart.
fn print(what: &str, bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    (what, bytes).hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests;
