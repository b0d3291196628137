//! What is promised of rooms with workers.

use serde_json::Value;

use super::*;
use crate::core::config::ShardConfig;
use crate::core::engine::{Engine, EngineKind};
use crate::core::event::{Codec, EventId, Modality, Passed, SessionSettings};
use crate::core::frame::FramePool;
use crate::core::rng::SplitMix64;

const SPEAKER: MemberNumber = MemberNumber(1);
const DEADLINE: Micros = Micros::from_s(30);

/// A room on a clock that the test moves.
struct Room {
    engine: Engine,
    settings: SessionSettings,
    config: ShardConfig,
    rng: SplitMix64,
    pool: FramePool,
    last_id: u64,
    now: Micros,
    /// Events and frames as a client sees them: a frame is `audio`, a flush is `flush`.
    told: Vec<Value>,
    asked: Vec<WorkRequest>,
    cancelled: Vec<RequestId>,
}

impl Room {
    fn new(settings: SessionSettings) -> Self {
        Self {
            engine: Engine::start(EngineKind::Worker),
            settings,
            config: ShardConfig::default(),
            rng: SplitMix64::new(7),
            pool: FramePool::default(),
            last_id: 0,
            now: Micros::from_s(1),
            told: Vec::new(),
            asked: Vec::new(),
            cancelled: Vec::new(),
        }
    }

    fn manual() -> Self {
        Self::new(SessionSettings { turn_detection: None, ..SessionSettings::default() })
    }

    fn with(&mut self, what: impl FnOnce(&mut Engine, &mut EngineContext<'_>)) {
        let mut out = Vec::new();
        let cx = &mut EngineContext {
            now: self.now,
            config: &self.config,
            rng: &mut self.rng,
            pool: &mut self.pool,
            settings: &self.settings,
            extras: Some(r#"{"voice":"ash"}"#),
            claim: None,
            only_events: false,
            last_id: &mut self.last_id,
            out: &mut out,
        };
        what(&mut self.engine, cx);
        for output in out {
            match output {
                EngineOutput::Event { event, .. } => {
                    let mut line = Vec::new();
                    event.write(EventId(1), None, crate::core::event::Dialect::Native, &mut line);
                    self.told.push(serde_json::from_slice(&line).expect("an event is JSON"));
                }
                EngineOutput::Audio { audio, first, last, timestamp_ms, response, .. } => {
                    assert!(response.is_some());
                    self.told.push(serde_json::json!({
                        "type": "audio", "bytes": audio.payload(), "first": first, "last": last, "at": timestamp_ms,
                    }));
                }
                EngineOutput::Flush(_) => self.told.push(serde_json::json!({ "type": "flush" })),
                EngineOutput::Work(WorkOrder::Ask(request)) => self.asked.push(*request),
                EngineOutput::Work(WorkOrder::Cancel(request)) => self.cancelled.push(request),
                EngineOutput::Upstream(order) => panic!("workers are no upstream: {order:?}"),
            }
        }
    }

    fn handle(&mut self, input: EngineInput) {
        self.with(|engine, cx| engine.handle(input, cx));
    }

    fn command(&mut self, command: ClientCommand) {
        self.handle(EngineInput::Command { from: SPEAKER, event_id: Some("mine".into()), command });
    }

    fn create(&mut self) {
        self.command(ClientCommand::ResponseCreate(ResponseRequest::default()));
    }

    fn ask(&mut self, text: &str) {
        let content = vec![crate::core::event::NewContent::Text(text.into())];
        let item = NewItem {
            id: None,
            kind: crate::core::event::ItemKind::Message,
            role: Role::User,
            content,
            previous: None,
            raw: "{}".into(),
        };
        self.command(ClientCommand::ItemCreate(Box::new(item)));
        self.create();
    }

    fn hear(&mut self, audio: &[u8]) {
        for frame in audio.chunks(640) {
            let audio = self.pool.copy(frame);
            self.handle(EngineInput::Audio { from: SPEAKER, audio });
            self.now = self.now + Micros::from_ms(20);
        }
    }

    /// What a worker says about the newest request.
    fn says(&mut self, news: WorkNews) {
        let request = self.asked.last().expect("something was asked").id;
        self.with(|engine, cx| engine.worked(request, news, cx));
    }

    fn plays(&mut self, bytes: &[u8]) {
        self.says(WorkNews::Audio { bytes: bytes.to_vec(), last: false });
    }

    fn wait(&mut self, span: Micros) {
        self.now = self.now + span;
        if self.engine.deadline().is_some_and(|deadline| deadline <= self.now) {
            self.handle(EngineInput::Tick);
        }
    }

    fn named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Value> {
        self.told.iter().filter(move |event| event["type"] == name)
    }

    fn statuses(&self) -> Vec<&str> {
        self.named("response.done").map(|done| done["response"]["status"].as_str().expect("one")).collect()
    }

    fn errors(&self) -> Vec<(&str, bool)> {
        self.named("error")
            .map(|told| &told["error"])
            .map(|error| (error["code"].as_str().expect("a code"), error["retryable"] == true))
            .collect()
    }
}

fn voice(ms: usize) -> Vec<u8> {
    (0..ms * 16).flat_map(|n| (((n * 7_919) % 16_001) as i16 - 8_000).to_le_bytes()).collect()
}

fn silence(ms: usize) -> Vec<u8> {
    vec![0; ms * 32]
}

#[test]
fn an_utterance_becomes_a_request_and_its_answer_a_response() {
    let mut room = Room::new(SessionSettings::default());
    room.hear(&[silence(400), voice(600), silence(700)].concat());
    let [request] = &room.asked[..] else { panic!("{:?}", room.asked) };
    let Matter::Audio(bytes) = &request.matter else { panic!("{request:?}") };
    assert!(bytes.windows(voice(600).len()).any(|window| window == voice(600)));
    assert_eq!(request.extras.as_deref(), Some(r#"{"voice":"ash"}"#));
    assert!(request.item.is_some() && request.within == DEADLINE);
    assert_eq!(room.named("response.created").count(), 0, "nobody has begun to answer");
    room.says(WorkNews::Words("well ".into()));
    room.plays(&[1; 5_000]);
    room.says(WorkNews::Audio { bytes: vec![2; 320], last: true });
    room.says(WorkNews::Words("then".into()));
    room.says(WorkNews::Done);
    let frames: Vec<(usize, bool, bool, u64)> = room
        .named("audio")
        .map(|frame| {
            let bytes = frame["bytes"].as_array().expect("bytes").len();
            (bytes, frame["first"] == true, frame["last"] == true, frame["at"].as_u64().expect("a time"))
        })
        .collect();
    assert_eq!(frames, [(4_096, true, false, 0), (904, false, false, 128), (320, false, true, 156)]);
    let done = &room.named("response.done").next().expect("it ends")["response"];
    assert_eq!(done["status"], "completed");
    assert_eq!(done["output"][0]["content"][0]["transcript"], "well then");
    assert_eq!(done["usage"]["output_token_details"]["audio_tokens"], 4);
    assert!(!room.engine.busy() && room.engine.deadline().is_none());
    room.says(WorkNews::Words("late".into()));
    assert_eq!(room.named("response.created").count(), 1, "what comes later is ignored");
}

#[test]
fn a_text_is_asked_when_a_response_is_wanted_and_answered_in_text() {
    let mut room = Room::manual();
    room.settings.modality = Modality::Text;
    room.ask("what is the time");
    assert_eq!(room.asked[0].matter, Matter::Text("what is the time".into()));
    assert_eq!(room.asked[0].modality, Modality::Text);
    room.plays(b"no place for this");
    room.says(WorkNews::Words("late".into()));
    room.says(WorkNews::Done);
    assert_eq!(room.named("audio").count(), 0);
    assert_eq!(room.named("response.output_text.delta").next().expect("words")["delta"], "late");
    assert_eq!(room.statuses(), ["completed"]);
    room.create();
    assert_eq!((room.asked[1].matter.clone(), room.asked[1].item.is_none()), (Matter::Nothing, true));
}

#[test]
fn one_request_is_out_at_a_time_and_a_bounded_number_waits() {
    let mut room = Room::manual();
    for n in 0..=WAITING_MAX {
        room.ask(&n.to_string());
    }
    assert_eq!(room.asked.len(), 1);
    assert_eq!(room.errors(), []);
    room.ask("one too many");
    assert_eq!(room.errors(), [("worker_busy", true)]);
    assert_eq!(room.named("error").next().expect("one")["error"]["event_id"], "mine");
    room.create();
    assert_eq!(room.errors()[1], ("conversation_already_has_active_response", false));
    for n in 0..=WAITING_MAX {
        assert_eq!(room.asked.last().expect("asked").matter, Matter::Text(n.to_string().into()));
        room.says(WorkNews::Done);
    }
    assert_eq!(room.statuses(), vec!["completed"; WAITING_MAX + 1]);
    assert_eq!(room.asked.len(), WAITING_MAX + 1);
    let ids: std::collections::HashSet<RequestId> = room.asked.iter().map(|request| request.id).collect();
    assert_eq!(ids.len(), room.asked.len());
}

#[test]
fn events_of_the_application_pass_and_begin_no_response() {
    let mut room = Room::manual();
    room.ask("the weather");
    let passed = Passed { name: "weather".into(), members: r#""degrees":21"#.into() };
    room.says(WorkNews::Passed(Box::new(passed)));
    assert_eq!(room.named("weather").next().expect("passed")["degrees"], 21);
    assert_eq!(room.named("response.created").count(), 0);
}

#[test]
fn who_speaks_interrupts_an_answer_but_not_the_wait_for_one() {
    let mut room = Room::new(SessionSettings::default());
    let speech = [silence(400), voice(300), silence(700)].concat();
    room.hear(&speech);
    room.hear(&speech);
    assert_eq!((room.asked.len(), room.cancelled.len()), (1, 0));
    room.plays(&[1; 640]);
    room.hear(&voice(300));
    assert_eq!(room.cancelled, [room.asked[0].id]);
    assert_eq!(room.statuses(), ["cancelled"]);
    assert_eq!((room.named("flush").count(), room.named("output_audio_buffer.cleared").count()), (1, 1));
    assert_eq!(room.asked.len(), 2, "what was said before is asked now");
    let late = room.asked[0].id;
    room.with(|engine, cx| engine.worked(late, WorkNews::Words("late".into()), cx));
    assert_eq!(room.named("response.created").count(), 1);
}

#[test]
fn a_client_cancels_whether_or_not_a_worker_has_begun() {
    let mut room = Room::manual();
    room.command(ClientCommand::ResponseCancel { response_id: None });
    assert_eq!(room.errors(), [("response_cancel_not_active", false)]);
    room.ask("a long story");
    room.command(ClientCommand::ResponseCancel { response_id: Some("resp_1".into()) });
    assert_eq!(room.errors().len(), 2);
    room.command(ClientCommand::ResponseCancel { response_id: None });
    assert_eq!(room.cancelled, [room.asked[0].id]);
    assert_eq!(room.statuses(), ["cancelled"]);
    assert_eq!(room.named("response.created").count(), 1);
}

#[test]
fn what_a_worker_can_t_do_is_refused_and_its_queued_audio_can_be_cleared() {
    let mut room = Room::manual();
    room.command(ClientCommand::OutputClear);
    assert_eq!(room.told, [] as [Value; 0], "nothing is queued");
    room.command(ClientCommand::ItemDelete { item: "item_1".into() });
    assert_eq!(room.errors(), [("engine_keeps_no_items", false)]);
    let call = NewItem {
        id: Some("call".into()),
        kind: crate::core::event::ItemKind::Other,
        role: Role::User,
        content: Vec::new(),
        previous: None,
        raw: r#"{"type":"function_call_output","call_id":"c1","output":"4"}"#.into(),
    };
    room.command(ClientCommand::ItemCreate(Box::new(call)));
    assert_eq!(room.named("conversation.item.done").next().expect("told")["item"]["output"], "4");
    room.ask("a long story");
    room.says(WorkNews::Words("once upon".into()));
    room.command(ClientCommand::OutputClear);
    assert_eq!(room.named("flush").count(), 1);
    assert_eq!(room.statuses(), [] as [&str; 0], "the response itself goes on");
}

#[test]
fn a_worker_that_is_silent_for_too_long_is_given_up() {
    let mut room = Room::manual();
    room.ask("anybody there?");
    room.wait(DEADLINE - Micros(1));
    assert_eq!(room.errors(), []);
    room.says(WorkNews::Words("hm ".into()));
    room.wait(DEADLINE - Micros(1));
    assert_eq!(room.errors(), [], "a sign of life begins the wait anew");
    room.wait(Micros(1));
    assert_eq!(room.errors(), [("worker_timeout", true)]);
    assert_eq!(room.statuses(), ["failed"]);
    let details = &room.named("response.done").next().expect("it ends")["response"]["status_details"];
    assert_eq!((&details["type"], &details["error"]["code"]), (&"failed".into(), &"worker_timeout".into()));
    assert_eq!(room.cancelled, [room.asked[0].id]);
}

#[test]
fn an_answer_whose_worker_is_lost_fails_and_the_next_worker_gives_a_whole_one() {
    let mut room = Room::manual();
    room.ask("tell me");
    room.says(WorkNews::Words("once upon".into()));
    room.says(WorkNews::Again);
    room.says(WorkNews::Again);
    room.says(WorkNews::Words("the end".into()));
    room.says(WorkNews::Done);
    assert_eq!(room.statuses(), ["failed", "completed"]);
    assert_eq!(room.errors(), []);
    let last = room.named("response.done").last().expect("it ends");
    assert_eq!(last["response"]["output"][0]["content"][0]["transcript"], "the end");
    assert_eq!(room.asked.len(), 1, "the room does not ask twice itself");
}

#[test]
fn what_fails_is_told_and_the_next_request_goes_out() {
    let mut room = Room::manual();
    room.ask("one");
    room.ask("two");
    room.says(WorkNews::Failed(WorkFailure::unavailable()));
    assert_eq!(room.errors(), [("worker_unavailable", true)]);
    assert_eq!(room.statuses(), ["failed"]);
    assert_eq!(room.asked[1].matter, Matter::Text("two".into()));
    room.says(WorkNews::Words("x".repeat(300_000).into()));
    assert_eq!(room.errors()[1], ("worker_failed", false));
    assert_eq!(room.cancelled, [room.asked[1].id]);
}

#[test]
fn opus_packets_travel_behind_their_length_and_come_back_one_a_frame() {
    let mut room = Room::manual();
    room.settings.format = AudioFormat { codec: Codec::Opus, rate: 16_000 };
    for packet in [&b"one"[..], b"three"] {
        let audio = room.pool.copy(packet);
        room.handle(EngineInput::Audio { from: SPEAKER, audio });
    }
    room.command(ClientCommand::Commit);
    room.create();
    assert_eq!(room.asked[0].matter, Matter::Audio(b"\x03\0one\x05\0three".to_vec()));
    room.plays(&[9; 6_000]);
    room.plays(&[9; 60]);
    let at: Vec<u64> = room.named("audio").map(|frame| frame["at"].as_u64().expect("a time")).collect();
    assert_eq!(at, [0, 20]);
}

#[test]
fn a_change_of_format_ends_what_is_out_in_the_old_one() {
    let mut room = Room::manual();
    room.ask("hello");
    room.settings.format.codec = Codec::G711Ulaw;
    room.handle(EngineInput::Tick);
    assert_eq!((room.statuses(), room.cancelled.len()), (vec!["cancelled"], 1));
}
