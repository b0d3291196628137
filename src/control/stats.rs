//! `GET /api/v1/stats`: the node and each shard, as JSON for people and scripts.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use serde_json::{Map, Value, json};
use shards::core::channel::UNDELIVERABLES;
use shards::core::counters::{Counters, DROP_REASONS, REFUSALS, SHED_CAUSES};
use shards::core::usage::OUTCOMES;

use super::App;
use super::metrics::counters_of_all;
use super::process::Process;
use super::readings::readings;
use super::upstreams;
use crate::audit::Audit;
use crate::auth::KeyReport;

/// How long a shard may take.
const ANSWER: Duration = Duration::from_secs(2);

/// Answers with the node's state and every shard's counters; a shard that is silent shows `"up": false` alone.
pub(crate) async fn stats(State(app): State<App>) -> Json<Value> {
    let shards = counters_of_all(&app, ANSWER).await;
    let process = Process::read();
    let sum = |of: fn(&Counters) -> u64| -> u64 { shards.iter().flatten().map(of).sum() };
    Json(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "state": app.lifecycle.phase().as_str(),
        "uptime_s": app.started.elapsed().as_secs(),
        "pid": std::process::id(),
        "profile": app.profile,
        "engine": app.engine,
        "rss_bytes": process.resident_bytes,
        "cpu_seconds": process.cpu_seconds,
        "open_fds": process.open_fds,
        "connections": sum(|counters| counters.open),
        "rooms": sum(|counters| counters.rooms),
        "auth": auth(&app),
        "audit": audit(&app),
        "model_server": upstreams::of_node(app.model_server.as_deref()),
        "limits": app.limits.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect::<Map<_, _>>(),
        "shards": shards.iter().enumerate().map(|(shard, counters)| of_shard(shard, counters.as_ref())).collect::<Vec<_>>(),
    }))
}

/// Whether tokens are asked for, and with what they are checked. A secret is only said to be there.
fn auth(app: &App) -> Value {
    let Some(gate) = &app.gate else { return json!({ "mode": "none" }) };
    let KeyReport { keys, reads, failed_reads, .. } = gate.report();
    let secret = if app.has_secret { "set" } else { "not set" };
    json!({ "mode": "jwt", "hs256_secret": secret, "keys": keys, "key_reads": reads, "key_reads_failed": failed_reads })
}

/// What the audit log has taken; null where there is none.
fn audit(app: &App) -> Value {
    let Some(report) = app.audit.as_ref().map(Audit::report) else { return Value::Null };
    let dropped: u64 = report.dropped.iter().map(|(_, count)| count).sum();
    json!({ "written": report.written, "dropped": dropped })
}

fn of_shard(shard: usize, counters: Option<&Counters>) -> Value {
    let Some(counters) = counters else {
        return json!({ "shard": shard, "up": false });
    };
    let mut fields = Map::new();
    fields.insert("shard".to_owned(), shard.into());
    fields.insert("up".to_owned(), true.into());
    for reading in readings(counters) {
        fields.insert(reading.field.to_owned(), reading.value.into());
    }
    let refused: Map<_, _> = REFUSALS.iter().zip(counters.refused).map(pair).collect();
    let dropped: Map<_, _> = DROP_REASONS
        .iter()
        .zip(counters.dropped.map(|by_class| by_class.iter().sum::<u64>()))
        .map(pair)
        .collect();
    let codes: Map<_, _> =
        counters.close_codes.iter().map(|(code, count)| (code.to_string(), (*count).into())).collect();
    let shedding: Map<_, _> = SHED_CAUSES
        .iter()
        .zip(counters.shedding)
        .map(|(cause, sheds)| ((*cause).to_owned(), sheds.into()))
        .collect();
    fields.insert("shedding".to_owned(), shedding.into());
    let responses: Map<_, _> = OUTCOMES.iter().zip(counters.responses.over).map(pair).collect();
    fields.insert("responses".to_owned(), responses.into());
    fields.insert("refused".to_owned(), refused.into());
    fields.insert("upstream_ended".to_owned(), upstreams::ends(&counters.upstreams).into());
    let dead: Map<_, _> = UNDELIVERABLES.iter().zip(counters.channels.dead_letters).map(pair).collect();
    fields.insert("dead_letters".to_owned(), dead.into());
    fields.insert("dropped".to_owned(), dropped.into());
    fields.insert("close_codes".to_owned(), codes.into());
    Value::Object(fields)
}

fn pair((name, count): (&&str, u64)) -> (String, Value) {
    ((*name).to_owned(), count.into())
}
