//! One job: what is told of a room that has ended, as JSON, under a name of its own.

use std::fmt::Write as _;
use std::hash::{BuildHasher as _, RandomState};
use std::time::{Duration, SystemTime};

use humantime::format_rfc3339_millis;
use serde_json::{Map, Value, json};
use shards::core::Micros;
use shards::core::event::Role;
use shards::core::report::{RoomReport, Utterance};
use shards::core::usage::{OUTCOMES, ResponseUsage, Totals};

/// A job, ready to be sent.
#[derive(Debug)]
pub(super) struct Job {
    id: String,
    session: String,
    payload: String,
}

impl Job {
    /// Makes a job of a report that has just come.
    pub(super) fn new(report: &RoomReport) -> Self {
        #[expect(clippy::disallowed_methods, reason = "jobs are dated as people date them")]
        let now = SystemTime::now();
        Self::dated(report, now, uuid())
    }

    fn dated(report: &RoomReport, now: SystemTime, id: String) -> Self {
        let payload = payload(report, now, &id).to_string();
        Self { id, session: report.session.to_string(), payload }
    }

    /// Its name. However often it is delivered, it has the same one.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// The room that it is about.
    pub(super) fn session(&self) -> &str {
        &self.session
    }

    /// All of it: a JSON object.
    pub(super) fn payload(&self) -> &str {
        &self.payload
    }

    /// What it holds.
    pub(super) fn bytes(&self) -> usize {
        size_of::<Self>() + self.id.len() + self.session.len() + self.payload.len()
    }
}

fn payload(report: &RoomReport, now: SystemTime, id: &str) -> Value {
    let before = |moment: SystemTime, span: Micros| moment - Duration::from_micros(span.0);
    let ended = before(now, report.waited);
    json!({
        "type": "room_ended",
        "version": 1,
        "job_id": id,
        "session_id": report.session.as_str(),
        "shard": report.shard.0,
        "engine": report.engine,
        "why": report.why.name(),
        "started_at": moment(before(ended, report.lasted)),
        "ended_at": moment(ended),
        "duration_ms": report.lasted.as_ms(),
        "members_peak": report.members_peak,
        // It was checked when it was taken.
        "state": report.state.as_deref().and_then(|state| serde_json::from_str::<Value>(state).ok()),
        "usage": totals(&report.totals),
        "responses": report.responses.iter().map(response).collect::<Vec<_>>(),
        "responses_left_out": report.responses_left_out,
        "transcript": report.transcript.iter().map(utterance).collect::<Vec<_>>(),
        "transcript_left_out": report.transcript_left_out,
    })
}

fn totals(totals: &Totals) -> Value {
    let mut fields: Map<String, Value> = OUTCOMES
        .iter()
        .zip(totals.responses)
        .map(|(name, count)| ((*name).to_owned(), count.into()))
        .collect();
    for (name, number) in [
        ("responses", totals.over()),
        ("utterances", totals.utterances),
        ("audio_in_ms", totals.audio_in.as_ms()),
        ("audio_out_ms", totals.audio_out.as_ms()),
        ("interruptions", totals.interruptions),
    ] {
        fields.insert(name.to_owned(), number.into());
    }
    Value::Object(fields)
}

fn response(usage: &ResponseUsage) -> Value {
    json!({
        "id": usage.id,
        "at_ms": usage.at.as_ms(),
        "status": usage.outcome.name(),
        "reason": usage.reason,
        "audio_in_ms": usage.audio_in.as_ms(),
        "audio_out_ms": usage.audio_out.as_ms(),
        "first_audio_ms": usage.first_audio.map(Micros::as_ms),
        "duration_ms": usage.lasted.as_ms(),
        "interruptions": usage.interruptions,
    })
}

fn utterance(said: &Utterance) -> Value {
    let role = match said.role {
        Role::User => "user",
        Role::Assistant => "assistant",
        Role::System => "system",
    };
    json!({ "at_ms": said.at.as_ms(), "role": role, "item_id": said.item, "text": said.words })
}

/// A random UUID (RFC 9562 section 5.4). The standard library's hasher is keyed at random: nobody can guess what it makes of
/// a number, and it repeats itself as rarely as such a UUID may.
pub(super) fn uuid() -> String {
    let half = |which: u8| RandomState::new().hash_one(which);
    let (high, low) = (half(0) & !0xf000 | 0x4000, half(1) & !(0b11 << 62) | 0b10 << 62);
    let mut text = String::with_capacity(36);
    let groups = [
        (high >> 32, 8),
        (high >> 16 & 0xffff, 4),
        (high & 0xffff, 4),
        (low >> 48, 4),
        (low << 16 >> 16, 12),
    ];
    for (at, (group, digits)) in groups.into_iter().enumerate() {
        let dash = if at > 0 { "-" } else { "" };
        write!(text, "{dash}{group:0digits$x}").expect("writing to a string");
    }
    text
}

/// To the millisecond, as RFC 3339 has it. A clock before 1970 is not set at all.
fn moment(at: SystemTime) -> String {
    format_rfc3339_millis(at.max(SystemTime::UNIX_EPOCH)).to_string()
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::VecDeque;

    use shards::core::report::RoomEnd;
    use shards::core::usage::Outcome;
    use shards::core::{SessionId, ShardId};

    use super::*;

    fn report(session: &str) -> RoomReport {
        let usage = ResponseUsage {
            id: "resp_2".into(),
            at: Micros::from_ms(1_600),
            audio_in: Micros::from_ms(1_500),
            audio_out: Micros::from_ms(400),
            first_audio: Some(Micros::from_ms(120)),
            lasted: Micros::from_ms(420),
            interruptions: 1,
            outcome: Outcome::Cancelled,
            reason: Some("turn_detected".into()),
        };
        let said = |at, role, item: &str, words: Option<&str>| Utterance {
            at: Micros::from_ms(at),
            role,
            item: item.into(),
            words: words.map(Into::into),
        };
        RoomReport {
            session: SessionId::parse(session).expect("valid"),
            shard: ShardId(1),
            engine: "parrot",
            why: RoomEnd::Lingered,
            lasted: Micros::from_ms(90_500),
            ended: Micros::from_s(1_000),
            waited: Micros::from_ms(250),
            members_peak: 2,
            totals: Totals { responses: [0, 1, 0, 0], utterances: 1, interruptions: 1, ..Totals::default() },
            responses: VecDeque::from([usage]),
            responses_left_out: 0,
            transcript: VecDeque::from([
                said(1_500, Role::User, "item_1", None),
                said(1_700, Role::Assistant, "item_2", Some("he said \"no\"")),
            ]),
            transcript_left_out: 3,
            state: Some(r#"{"page":7}"#.into()),
        }
    }

    pub(in crate::jobs) fn job(session: &str) -> Job {
        Job::dated(&report(session), SystemTime::UNIX_EPOCH, uuid())
    }

    #[test]
    fn a_job_says_all_that_is_known_with_its_times() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_millis(1_767_225_599_250);
        let job = Job::dated(&report("class-7"), now, "an-id".to_owned());
        let payload: Value = serde_json::from_str(job.payload()).expect("JSON");
        let field =
            |path: &str| payload.pointer(path).unwrap_or_else(|| panic!("no {path} in {payload}")).clone();
        for (path, value) in [
            ("/type", json!("room_ended")),
            ("/job_id", json!("an-id")),
            ("/session_id", json!("class-7")),
            ("/engine", json!("parrot")),
            ("/why", json!("lingered")),
            ("/started_at", json!("2025-12-31T23:58:28.500Z")),
            ("/ended_at", json!("2025-12-31T23:59:59.000Z")),
            ("/duration_ms", json!(90_500)),
            ("/members_peak", json!(2)),
            ("/state/page", json!(7)),
            ("/usage/responses", json!(1)),
            ("/usage/cancelled", json!(1)),
            ("/responses/0/id", json!("resp_2")),
            ("/responses/0/first_audio_ms", json!(120)),
            ("/responses/0/reason", json!("turn_detected")),
            ("/transcript/0", json!({ "at_ms": 1_500, "role": "user", "item_id": "item_1", "text": null })),
            ("/transcript/1/text", json!("he said \"no\"")),
            ("/transcript_left_out", json!(3)),
        ] {
            assert_eq!(field(path), value, "{path}");
        }
    }

    #[test]
    fn names_of_jobs_are_random_uuids() {
        let ids: Vec<String> = (0..1_000).map(|_| uuid()).collect();
        for id in &ids {
            let groups: Vec<usize> = id.split('-').map(str::len).collect();
            assert_eq!(groups, [8, 4, 4, 4, 12], "{id}");
            assert!(id.as_bytes()[14] == b'4' && b"89ab".contains(&id.as_bytes()[19]), "{id}");
        }
        let different: std::collections::HashSet<&String> = ids.iter().collect();
        assert_eq!(different.len(), ids.len());
    }
}
