//! What responses take and give, and what is reported of a room when it ends, over the core as the pump drives it.

mod support;

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::{Value, json};
use shards::core::config::Reports;
use shards::core::counters::Counters;
use shards::core::event::Role;
use shards::core::message::{Answer, AskId, Query};
use shards::core::report::{RoomEnd, RoomReport};
use shards::core::{ConnKey, Effect, Effects, Input, Micros, SessionId, Shard, ShardConfig, ShardId};

const ANN: ConnKey = ConnKey { index: 0, generation: 1 };
const BEN: ConnKey = ConnKey { index: 1, generation: 1 };

struct Rig {
    shard: Shard,
    now: Micros,
    fx: Effects,
    sent: HashMap<ConnKey, Vec<u8>>,
}

impl Rig {
    fn new(change: impl FnOnce(&mut ShardConfig)) -> Self {
        let mut config =
            ShardConfig { reports: Some(Reports { transcript_bytes_max: 65_536 }), ..ShardConfig::default() };
        change(&mut config);
        let shard = Shard::new(ShardId(0), Arc::new(config), 1);
        Self { shard, now: Micros::from_s(1), fx: Vec::new(), sent: HashMap::new() }
    }

    fn join(&mut self, conn: ConnKey, session: &str) {
        let mut head = format!(
            "GET /ws/{session} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        .into_bytes();
        let peer = "127.0.0.1:1000".parse().expect("an address");
        self.shard.handle(self.now, Input::Adopted { conn, peer, via: None, head: &mut head }, &mut self.fx);
        self.turn();
        let sent = self.sent.get_mut(&conn).expect("an answer");
        let end = sent.windows(4).position(|window| window == b"\r\n\r\n").expect("a head") + 4;
        sent.drain(..end);
    }

    /// Sends a message with a mask of zeros.
    fn send(&mut self, conn: ConnKey, opcode: u8, payload: &[u8]) {
        let mut frame = support::masked(opcode, payload);
        self.shard.handle(self.now, Input::Received { conn, bytes: &mut frame }, &mut self.fx);
        self.turn();
    }

    fn say(&mut self, conn: ConnKey, event: &Value) {
        self.send(conn, 1, event.to_string().as_bytes());
    }

    /// Goes away with a goodbye.
    fn leave(&mut self, conn: ConnKey) {
        self.send(conn, 8, &1_000u16.to_be_bytes());
    }

    /// Talks at the pace of speech: loud or silent.
    fn talk(&mut self, conn: ConnKey, ms: usize, loud: bool) {
        for frame in 0..ms / 20 {
            let sample = |n: usize| if loud { ((n * 7_919) % 16_001) as i16 - 8_000 } else { 0 };
            let audio: Vec<u8> =
                (frame * 320..(frame + 1) * 320).flat_map(|n| sample(n).to_le_bytes()).collect();
            self.send(conn, 2, &audio);
            self.wait(20);
        }
    }

    fn wait(&mut self, ms: u64) {
        let end = self.now + Micros::from_ms(ms);
        while let Some(deadline) = self.shard.next_deadline().filter(|&deadline| deadline <= end) {
            self.now = self.now.max(deadline);
            self.turn();
        }
        self.now = end;
        self.turn();
    }

    fn turn(&mut self) {
        let Self { shard, now, fx, sent } = self;
        support::turn(shard, *now, fx, |shard, effect, fx| match effect {
            Effect::Send(conn) => support::send(shard, *now, conn, fx, sent.entry(conn).or_default()),
            Effect::Close(conn, _) => shard.handle(*now, Input::Closed { conn }, fx),
            _ => {}
        });
    }

    /// Every event that was sent to it since the last question.
    fn events(&mut self, conn: ConnKey) -> Vec<Value> {
        let bytes = std::mem::take(self.sent.entry(conn).or_default());
        let (mut rest, mut events) = (&bytes[..], Vec::new());
        while let [first, second, ..] = *rest {
            let (len, from) = match second {
                126 => (usize::from(u16::from_be_bytes([rest[2], rest[3]])), 4),
                len => (usize::from(len), 2),
            };
            if first == 0x81 {
                events.push(serde_json::from_slice(&rest[from..from + len]).expect("JSON"));
            }
            rest = &rest[from + len..];
        }
        events
    }

    fn metrics(&mut self, conn: ConnKey) -> Vec<Value> {
        self.events(conn).into_iter().filter(|event| event["type"] == "metrics").collect()
    }

    fn report(&mut self) -> Option<Box<RoomReport>> {
        self.shard.next_report(self.now)
    }

    fn counters(&mut self) -> Counters {
        self.ask(Query::Counters, |answer| match answer {
            Answer::Counters(counters) => *counters,
            other => panic!("{other:?}"),
        })
    }

    fn ask<T>(&mut self, query: Query, take: impl FnOnce(Answer) -> T) -> T {
        self.shard.handle(self.now, Input::Ask { id: AskId(1), query }, &mut self.fx);
        let at = self.fx.iter().position(|effect| matches!(effect, Effect::Answer(..))).expect("an answer");
        let Effect::Answer(_, answer) = self.fx.remove(at) else { unreachable!("found as one") };
        self.turn();
        take(answer)
    }

    /// A turn of the user: a second of speech, then silence until the answer has been heard.
    fn exchange(&mut self, conn: ConnKey) {
        self.talk(conn, 1_000, true);
        self.talk(conn, 600, false);
        self.wait(2_000);
    }
}

fn text(words: &str) -> Value {
    let content = json!([{ "type": "input_text", "text": words }]);
    json!({ "type": "conversation.item.create", "item": { "type": "message", "role": "user", "content": content } })
}

#[test]
fn each_response_is_followed_by_what_it_took_and_gave() {
    let mut rig = Rig::new(|_| {});
    rig.join(ANN, "room");
    rig.exchange(ANN);
    let events = rig.events(ANN);
    let types: Vec<&str> = events.iter().filter_map(|event| event["type"].as_str()).collect();
    let done = types.iter().position(|&kind| kind == "response.done").expect("a response");
    assert_eq!(types[done + 1], "metrics");
    let (id, metrics) = (&events[done]["response"]["id"], &events[done + 1]);
    assert!(metrics["seq"].is_null(), "it is in no history: {metrics}");
    let response = &metrics["response"];
    assert_eq!((&response["id"], &response["status"]), (id, &json!("completed")));
    // All that came before the commit counts, half a second of silence included, to the frame that ended the turn.
    assert_eq!(response["audio_in_ms"], 1_500);
    let out = response["audio_out_ms"].as_u64().expect("a number");
    assert!((1_000..=1_400).contains(&out), "the utterance comes back, a little silence with it: {metrics}");
    assert_eq!(response["first_audio_ms"], 0, "a parrot answers at once");
    let lasted = response["duration_ms"].as_u64().expect("a number");
    assert!((out - 20..=out).contains(&lasted), "it plays at the pace of speech: {metrics}");
    assert_eq!((&response["interruptions"], &response["reason"]), (&json!(0), &Value::Null));
    let session = &metrics["session"];
    assert_eq!(
        (&session["responses"], &session["completed"], &session["utterances"]),
        (&json!(1), &json!(1), &json!(1))
    );
    assert_eq!(session["audio_out_ms"], out);

    rig.exchange(ANN);
    let metrics = &rig.metrics(ANN)[0];
    let both = out + metrics["response"]["audio_out_ms"].as_u64().expect("a number");
    let session = &metrics["session"];
    assert_eq!((&session["responses"], &session["audio_out_ms"]), (&json!(2), &json!(both)));
    let counters = rig.counters();
    assert_eq!(counters.responses.over, [2, 0, 0, 0]);
    assert_eq!(counters.responses.first_audio_us.count(), 2);
    assert_eq!(counters.responses.audio_us.sum(), both * 1_000);
}

#[test]
fn a_barge_in_shows_with_who_did_it() {
    let mut rig = Rig::new(|_| {});
    rig.join(ANN, "room");
    rig.talk(ANN, 3_000, true);
    rig.talk(ANN, 700, false);
    rig.talk(ANN, 1_000, true);
    let metrics = rig.metrics(ANN);
    assert_eq!(metrics.len(), 1, "{metrics:?}");
    let response = &metrics[0]["response"];
    assert_eq!((&response["status"], &response["reason"]), (&json!("cancelled"), &json!("turn_detected")));
    assert_eq!(response["interruptions"], 1);
    assert!(response["audio_out_ms"].as_u64().is_some_and(|out| (20..1_000).contains(&out)), "{response}");

    rig.talk(ANN, 700, false);
    rig.say(ANN, &json!({ "type": "response.cancel" }));
    let response = &rig.metrics(ANN)[0]["response"];
    assert_eq!((&response["status"], &response["reason"]), (&json!("cancelled"), &json!("client_cancelled")));
    let counters = rig.counters();
    assert_eq!((counters.responses.over, counters.interruptions), ([0, 2, 0, 0], 2));
}

#[test]
fn text_has_no_audio_in_and_manual_turns_wait_from_the_request_on() {
    let mut rig = Rig::new(|_| {});
    rig.join(ANN, "room");
    rig.say(ANN, &json!({ "type": "session.update", "session": { "turn_detection": null } }));
    rig.say(ANN, &text("good morning"));
    rig.wait(300);
    rig.say(ANN, &json!({ "type": "response.create" }));
    rig.wait(3_000);
    let response = rig.metrics(ANN)[0]["response"].clone();
    assert_eq!((&response["audio_in_ms"], &response["first_audio_ms"]), (&json!(0), &json!(0)));
    rig.talk(ANN, 400, true);
    rig.say(ANN, &json!({ "type": "input_audio_buffer.commit" }));
    rig.say(ANN, &json!({ "type": "response.create", "response": { "output_modalities": ["text"] } }));
    rig.wait(3_000);
    let response = rig.metrics(ANN)[0]["response"].clone();
    assert_eq!((&response["audio_in_ms"], &response["audio_out_ms"]), (&json!(400), &json!(0)));
    assert_eq!(response["first_audio_ms"], Value::Null, "there was none");
    assert_eq!(rig.counters().responses.first_audio_us.count(), 1);
}

#[test]
fn everybody_in_the_room_is_told_and_audio_counts_once() {
    let mut rig = Rig::new(|_| {});
    rig.join(ANN, "room");
    rig.join(BEN, "room");
    rig.exchange(ANN);
    let (ann, ben) = (rig.metrics(ANN), rig.metrics(BEN));
    assert_eq!(ann.len(), 1);
    assert_eq!(ann, ben, "encoded once, the same for all");
    assert!(ann[0]["response"]["audio_out_ms"].as_u64().is_some_and(|out| out <= 1_400));
}

#[test]
fn a_room_is_reported_with_what_was_said_when_nobody_comes_back() {
    let mut rig = Rig::new(|_| {});
    rig.join(ANN, "room");
    rig.join(BEN, "room");
    rig.say(ANN, &json!({ "type": "session.update", "state": { "page": 7 } }));
    rig.say(BEN, &text("good morning"));
    rig.say(BEN, &json!({ "type": "response.create" }));
    rig.wait(3_000);
    rig.exchange(ANN);
    rig.leave(BEN);
    rig.leave(ANN);
    assert!(rig.report().is_none(), "it lingers");
    rig.wait(61_000);
    let report = rig.report().expect("it has ended");
    assert!(rig.report().is_none(), "once");
    assert_eq!((report.session.as_str(), report.engine, report.why), ("room", "parrot", RoomEnd::Lingered));
    assert_eq!((report.members_peak, report.state.as_deref()), (2, Some(r#"{"page":7}"#)));
    assert_eq!((report.totals.over(), report.totals.utterances, report.responses.len()), (2, 1, 2));
    assert_eq!(report.ended.since(report.lasted), Micros::from_s(1), "it began when the first one came");
    let said: Vec<_> =
        report.transcript.iter().map(|said| (said.role, said.words.as_deref().unwrap_or("?"))).collect();
    assert_eq!(said[..2], [(Role::User, "good morning"), (Role::Assistant, "good morning")]);
    assert_eq!(
        (said.len(), said[2]),
        (4, (Role::User, "?")),
        "a parrot does not know what it heard: {said:?}"
    );
    assert_eq!(said[3].0, Role::Assistant);
    assert!(said[3].1.starts_with("heard 1."), "{said:?}");
    assert!(report.transcript.iter().is_sorted_by_key(|said| said.at));
    let counters = rig.counters();
    assert_eq!((counters.reports_made, counters.reports_dropped), (1, 0));
}

#[test]
fn a_room_says_why_it_ended_and_what_was_cut_short() {
    let mut rig = Rig::new(|config| config.limits.rooms_max = 1);
    rig.join(ANN, "one");
    rig.talk(ANN, 1_000, true);
    rig.talk(ANN, 600, false);
    let close = Query::CloseRoom(SessionId::parse("one").expect("a name"));
    rig.ask(close, |answer| assert!(matches!(answer, Answer::RoomClosed(Some(1)))));
    let report = rig.report().expect("it was closed");
    assert_eq!(report.why, RoomEnd::Closed);
    let response = &report.responses[0];
    assert_eq!((response.outcome.name(), response.reason.as_deref()), ("incomplete", Some("room_ended")));

    rig.join(BEN, "two");
    rig.exchange(BEN);
    rig.leave(BEN);
    rig.join(ConnKey { index: 2, generation: 1 }, "three");
    assert_eq!(rig.report().expect("its place was needed").why, RoomEnd::Evicted);
}

#[test]
fn a_drain_reports_every_room_with_members_or_without() {
    let mut rig = Rig::new(|_| {});
    rig.join(ANN, "left");
    rig.exchange(ANN);
    rig.leave(ANN);
    rig.join(BEN, "talking");
    rig.exchange(BEN);
    rig.shard.handle(rig.now, Input::Drain { window: Micros::from_s(1) }, &mut rig.fx);
    rig.turn();
    assert!(rig.shard.has_reports());
    let report = rig.report().expect("nobody can come back");
    assert_eq!((report.session.as_str(), report.why), ("left", RoomEnd::Drained));
    rig.wait(1_000);
    let report = rig.report().expect("its member was sent away");
    assert_eq!((report.session.as_str(), report.why), ("talking", RoomEnd::Drained));
    assert!(!rig.shard.has_reports());
}

#[test]
fn what_is_cut_at_the_end_is_reported_too() {
    let mut rig = Rig::new(|_| {});
    rig.join(ANN, "room");
    rig.exchange(ANN);
    rig.shard.report_all(rig.now);
    let report = rig.report().expect("it ends with the shard");
    assert_eq!(report.why, RoomEnd::Drained);
    rig.wait(7);
    rig.shard.return_report(report);
    let again = rig.report().expect("there was no room for it");
    assert_eq!(again.waited, Micros::from_ms(7));
}

#[test]
fn rooms_without_a_conversation_make_no_report_and_nobody_keeps_what_nobody_takes() {
    let mut rig = Rig::new(|config| config.room.linger = Micros(0));
    rig.join(ANN, "silent");
    rig.leave(ANN);
    rig.join(BEN, "echo?engine=echo");
    rig.exchange(BEN);
    rig.leave(BEN);
    assert!(rig.report().is_none());

    let mut rig = Rig::new(|config| (config.reports, config.room.linger) = (None, Micros(0)));
    rig.join(ANN, "room");
    rig.exchange(ANN);
    assert_eq!(rig.metrics(ANN).len(), 1, "clients are told all the same");
    rig.leave(ANN);
    rig.shard.report_all(rig.now);
    assert!(rig.report().is_none());
    assert_eq!(rig.counters().reports_made, 0);
}

/// So many rooms that end with a text of 60,000 bytes each: more than may wait together.
fn talkative_rooms(rig: &mut Rig) -> u64 {
    const ROOMS: u32 = 1_200;
    for index in 0..ROOMS {
        let conn = ConnKey { index, generation: 1 };
        rig.join(conn, &format!("room-{index}"));
        rig.say(conn, &text(&"x".repeat(60_000)));
        rig.leave(conn);
        rig.sent.clear();
    }
    ROOMS.into()
}

#[test]
fn what_nobody_takes_is_bounded() {
    let mut rig = Rig::new(|config| {
        config.reports = Some(Reports { transcript_bytes_max: 1 << 20 });
        config.room.linger = Micros(0);
    });
    let rooms = talkative_rooms(&mut rig);
    let counters = rig.counters();
    assert_eq!(counters.reports_made, rooms);
    assert!(counters.reports_dropped > 0 && counters.reports_waiting > 1_000, "{counters:?}");
    assert_eq!(counters.reports_waiting + counters.reports_dropped, rooms);
    let mut taken = 0;
    while let Some(report) = rig.report() {
        assert_eq!(report.session.as_str(), format!("room-{taken}"), "the newest found no room");
        taken += 1;
    }
    assert_eq!(taken, counters.reports_waiting);
}

#[test]
fn a_drain_ends_rooms_as_fast_as_their_reports_leave() {
    let mut rig = Rig::new(|config| config.reports = Some(Reports { transcript_bytes_max: 1 << 20 }));
    let rooms = talkative_rooms(&mut rig);
    rig.shard.handle(rig.now, Input::Drain { window: Micros::from_s(1) }, &mut rig.fx);
    rig.turn();
    assert!(rig.counters().rooms > 0, "there is no room for all of them");
    let mut taken = 0;
    while rig.shard.has_reports() {
        while rig.report().is_some() {
            taken += 1;
        }
        rig.turn();
    }
    let counters = rig.counters();
    assert_eq!((taken, counters.reports_dropped, counters.rooms), (rooms, 0, 0));
}
