//! What is promised of the parrot, sentence by sentence.

use proptest::prelude::*;
use serde_json::Value;

use super::g711;
use crate::core::engine::{Audience, Engine, EngineContext, EngineInput, EngineKind, EngineOutput};
use crate::core::event::{
    AudioFormat, ClientCommand, Codec, EventId, Modality, NewContent, NewItem, ResponseRequest, Role,
    ServerVad, SessionSettings,
};
use crate::core::frame::FramePool;
use crate::core::ids::MemberNumber;
use crate::core::time::Micros;

const SPEAKER: MemberNumber = MemberNumber(1);

/// What came out, as a client would see it.
#[derive(Clone, Debug, PartialEq)]
enum Seen {
    Event(Value),
    Audio { at: Micros, bytes: Vec<u8>, first: bool, last: bool, timestamp_ms: u32 },
    Flush,
}

struct Room {
    engine: Engine,
    settings: SessionSettings,
    pool: FramePool,
    last_id: u64,
    now: Micros,
    seen: Vec<Seen>,
}

impl Room {
    fn new(settings: SessionSettings) -> Self {
        let (pool, now) = (FramePool::default(), Micros::from_s(1));
        Self { engine: Engine::start(EngineKind::Parrot), settings, pool, last_id: 0, now, seen: Vec::new() }
    }

    fn with_vad(change: impl FnOnce(&mut ServerVad)) -> Self {
        let mut vad = ServerVad::default();
        change(&mut vad);
        Self::new(SessionSettings { turn_detection: Some(vad), ..SessionSettings::default() })
    }

    fn manual() -> Self {
        Self::new(SessionSettings { turn_detection: None, ..SessionSettings::default() })
    }

    fn with_format(codec: Codec, rate: u16) -> Self {
        Self::new(SessionSettings { format: AudioFormat { codec, rate }, ..SessionSettings::default() })
    }

    fn handle(&mut self, input: EngineInput) {
        let mut out = Vec::new();
        self.engine.handle(
            input,
            &mut EngineContext {
                now: self.now,
                pool: &mut self.pool,
                settings: &self.settings,
                last_id: &mut self.last_id,
                out: &mut out,
            },
        );
        for output in out {
            self.seen.push(match output {
                EngineOutput::Audio { audio, first, last, timestamp_ms, to, track, response } => {
                    assert_eq!((to, track), (Audience::All, MemberNumber(0)));
                    assert!(response.is_some());
                    Seen::Audio { at: self.now, bytes: audio.payload().to_vec(), first, last, timestamp_ms }
                }
                EngineOutput::Event { event, .. } => {
                    let mut line = Vec::new();
                    event.write(EventId(1), None, &mut line);
                    Seen::Event(serde_json::from_slice(&line).expect("an event is JSON"))
                }
                EngineOutput::Flush(_) => Seen::Flush,
            });
        }
    }

    fn hear_at_once(&mut self, from: MemberNumber, bytes: &[u8]) {
        let audio = self.pool.copy(bytes);
        self.handle(EngineInput::Audio { from, audio });
    }

    fn command(&mut self, command: ClientCommand) {
        self.handle(EngineInput::Command { from: SPEAKER, event_id: Some("mine".into()), command });
    }

    fn create(&mut self) {
        self.command(ClientCommand::ResponseCreate(ResponseRequest::default()));
    }

    fn text(&mut self, text: &str) {
        let content = vec![NewContent::Text(text.into())];
        self.command(ClientCommand::ItemCreate(Box::new(NewItem { id: None, role: Role::User, content })));
    }

    /// Lets time pass, waking the engine when it asks for it.
    fn wait(&mut self, ms: u64) {
        let end = self.now + Micros::from_ms(ms);
        while let Some(deadline) = self.engine.deadline().filter(|&deadline| deadline <= end) {
            self.now = self.now.max(deadline);
            self.handle(EngineInput::Tick);
        }
        self.now = end;
    }

    /// Speaks at the pace of speech, 20 ms at a time.
    fn hear(&mut self, bytes: &[u8]) {
        let window = self.settings.format.bytes_per_ms().expect("not Opus") * 20;
        for frame in bytes.chunks(window) {
            self.hear_at_once(SPEAKER, frame);
            self.wait(20);
        }
    }

    fn names(&self) -> Vec<&str> {
        let name = |seen| match seen {
            &Seen::Event(ref event) => event["type"].as_str().expect("a type"),
            Seen::Audio { .. } => "audio",
            Seen::Flush => "flush",
        };
        let mut names: Vec<&str> = self.seen.iter().map(name).collect();
        names.dedup();
        names
    }

    fn event<'a>(&'a self, name: &'a str) -> &'a Value {
        self.events(name).last().unwrap_or_else(|| panic!("no {name} in {:?}", self.names()))
    }

    fn events<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Value> {
        self.seen.iter().filter_map(move |seen| match seen {
            Seen::Event(event) if event["type"] == name => Some(event),
            _ => None,
        })
    }

    fn played(&self) -> Vec<u8> {
        let bytes = self.seen.iter().filter_map(|seen| match seen {
            Seen::Audio { bytes, .. } => Some(bytes.as_slice()),
            _ => None,
        });
        bytes.collect::<Vec<_>>().concat()
    }

    fn transcript(&self) -> String {
        let deltas = self.events("response.output_audio_transcript.delta");
        deltas.map(|event| event["delta"].as_str().expect("a delta")).collect()
    }

    fn forget(&mut self) {
        self.seen.clear();
    }
}

/// A voice: a loud wave that never repeats a window, so that a misplaced byte shows.
fn voice(ms: usize) -> Vec<u8> {
    (0..ms * 16).flat_map(|n| (((n * 7_919) % 16_001) as i16 - 8_000).to_le_bytes()).collect()
}

fn silence(ms: usize) -> Vec<u8> {
    vec![0; ms * 32]
}

#[test]
fn when_speech_ends_it_commits_and_answers_by_itself() {
    let mut room = Room::new(SessionSettings::default());
    room.hear(&[silence(400), voice(600), silence(1_600)].concat());
    let names = [
        "input_audio_buffer.speech_started",
        "input_audio_buffer.speech_stopped",
        "input_audio_buffer.committed",
        "conversation.item.added",
        "conversation.item.done",
        "response.created",
        "response.output_item.added",
        "conversation.item.added",
        "response.content_part.added",
        "response.output_audio_transcript.delta",
        "audio",
        "response.output_audio_transcript.delta",
        "audio",
        "response.output_audio_transcript.delta",
        "audio",
        "response.output_audio.done",
        "response.output_audio_transcript.done",
        "response.content_part.done",
        "response.output_item.done",
        "conversation.item.done",
        "response.done",
    ];
    assert_eq!(room.names(), names);
    let started = room.event("input_audio_buffer.speech_started");
    let stopped = room.event("input_audio_buffer.speech_stopped");
    let committed = room.event("input_audio_buffer.committed");
    assert_eq!((&started["audio_start_ms"], &stopped["audio_end_ms"]), (&100.into(), &1_100.into()));
    assert_eq!((&started["item_id"], &committed["previous_item_id"]), (&committed["item_id"], &Value::Null));
    let assistant = room.event("conversation.item.added");
    assert_eq!(assistant["previous_item_id"], committed["item_id"]);
    assert_eq!(room.played(), [silence(300), voice(600), silence(100)].concat());
}

#[test]
fn the_transcript_counts_what_it_heard_in_deltas() {
    let mut room = Room::manual();
    room.hear(&voice(1_240));
    room.command(ClientCommand::Commit);
    room.create();
    room.wait(2_000);
    let deltas: Vec<&Value> =
        room.events("response.output_audio_transcript.delta").map(|event| &event["delta"]).collect();
    assert_eq!(deltas, ["heard", " 1.24", " s"]);
    assert_eq!(room.event("response.output_audio_transcript.done")["transcript"], "heard 1.24 s");
    assert_eq!(room.event("response.content_part.done")["part"]["transcript"], "heard 1.24 s");
}

#[test]
fn a_response_is_complete_enough_for_a_strict_client() {
    let mut room = Room::manual();
    room.hear(&voice(1_000));
    room.command(ClientCommand::Commit);
    let metadata = Some(r#"{"turn":"7"}"#.into());
    room.command(ClientCommand::ResponseCreate(ResponseRequest { modality: None, metadata }));
    let response = &room.event("response.created")["response"];
    assert_eq!(
        (&response["status"], &response["output"], &response["usage"]),
        (&"in_progress".into(), &Value::Array(vec![]), &Value::Null)
    );
    room.wait(1_000);
    let response = &room.event("response.done")["response"];
    assert_eq!(response["object"], "realtime.response");
    assert_eq!(response["status"], "completed");
    assert_eq!(response["metadata"]["turn"], "7");
    assert_eq!(response["output_modalities"][0], "audio");
    let item = &response["output"][0];
    assert_eq!((&item["object"], &item["type"]), (&"realtime.item".into(), &"message".into()));
    assert_eq!((&item["role"], &item["status"]), (&"assistant".into(), &"completed".into()));
    assert_eq!(item["content"][0]["transcript"], "heard 1.00 s");
    let usage = &response["usage"];
    assert_eq!((&usage["input_tokens"], &usage["output_tokens"]), (&10.into(), &23.into()));
    assert_eq!(usage["total_tokens"], 33);
    let done = room.event("response.output_item.done");
    assert_eq!((&done["response_id"], &done["item"]["id"]), (&response["id"], &item["id"]));
}

#[test]
fn it_plays_at_the_pace_of_speech_without_drifting() {
    let mut room = Room::manual();
    room.hear(&voice(2_000));
    room.command(ClientCommand::Commit);
    let began = room.now;
    room.create();
    for _ in 0..5 {
        room.now = room.now + Micros::from_ms(170);
        room.handle(EngineInput::Tick);
    }
    room.wait(3_000);
    let mut chunks = 0;
    for seen in &room.seen {
        let Seen::Audio { at, bytes, first, last, timestamp_ms } = seen else { continue };
        assert_eq!((*timestamp_ms, bytes.len()), (chunks * 20, 640));
        assert_eq!((*first, *last), (chunks == 0, chunks == 99));
        let due = began + Micros::from_ms((chunks * 20).into());
        assert!(due <= *at && at.since(due) < Micros::from_ms(170), "{due:?} {at:?}");
        if chunks > 50 {
            assert_eq!(*at, due, "late once, it is on time again");
        }
        chunks += 1;
    }
    assert_eq!(chunks, 100);
    assert_eq!(room.engine.deadline(), None);
}

#[test]
fn a_manual_commit_commits_and_the_answer_waits_for_response_create() {
    let mut room = Room::manual();
    room.hear(&[voice(300), silence(2_000), voice(100)].concat());
    assert_eq!(room.names(), [""; 0]);
    room.command(ClientCommand::Commit);
    room.wait(5_000);
    let names = ["input_audio_buffer.committed", "conversation.item.added", "conversation.item.done"];
    assert_eq!(room.names(), names);
    room.create();
    room.wait(5_000);
    assert_eq!(room.event("response.done")["response"]["status"], "completed");
    assert_eq!(room.played(), [voice(300), silence(2_000), voice(100)].concat());
}

#[test]
fn a_commit_of_an_empty_buffer_is_an_error_and_the_session_lives_on() {
    for mut room in [Room::manual(), Room::new(SessionSettings::default())] {
        room.command(ClientCommand::Commit);
        let error = &room.event("error")["error"];
        assert_eq!(error["code"], "input_audio_buffer_commit_empty");
        assert_eq!(error["event_id"], "mine");
        room.hear(&voice(200));
        room.command(ClientCommand::Commit);
        room.create();
        room.wait(1_000);
        assert_eq!(room.played(), voice(200));
    }
}

#[test]
fn to_a_text_item_it_answers_with_that_text_and_a_tone_per_word() {
    let mut room = Room::new(SessionSettings::default());
    room.text("Polly wants a cracker");
    assert_eq!(room.event("conversation.item.done")["item"]["content"][0]["text"], "Polly wants a cracker");
    room.create();
    room.wait(3_000);
    assert_eq!(room.transcript(), "Polly wants a cracker");
    let played = room.played();
    let notes: Vec<&[u8]> = played.chunks(6_400).collect();
    assert_eq!(notes.len(), 4);
    assert!(notes.iter().all(|note| note.iter().any(|&b| b != 0) && note[5_120..].iter().all(|&b| b == 0)));
    assert_eq!(room.event("response.done")["response"]["usage"]["input_token_details"]["text_tokens"], 4);
}

#[test]
fn a_response_create_with_nothing_new_repeats_the_last_answer() {
    let mut room = Room::new(SessionSettings::default());
    room.create();
    room.wait(3_000);
    let greeting = room.transcript();
    assert!(greeting.contains("parrot") && room.played().iter().any(|&b| b != 0));
    room.forget();
    room.hear(&[voice(300), silence(1_500)].concat());
    let answer = (room.transcript(), room.played());
    assert_ne!(answer.0, greeting);
    for _ in 0..2 {
        room.forget();
        room.create();
        room.wait(3_000);
        assert_eq!((room.transcript(), room.played()), answer);
    }
}

#[test]
fn speech_interrupts_a_response() {
    let mut room = Room::new(SessionSettings::default());
    room.hear(&[voice(1_000), silence(700)].concat());
    assert!(room.engine.busy());
    room.forget();
    room.hear(&voice(60));
    let names = room.names();
    let from = names.iter().position(|&name| name == "input_audio_buffer.speech_started").expect("speech");
    assert_eq!(
        names[from + 1..],
        [
            "flush",
            "output_audio_buffer.cleared",
            "response.output_audio.done",
            "response.output_audio_transcript.done",
            "response.content_part.done",
            "response.output_item.done",
            "conversation.item.done",
            "response.done",
        ]
    );
    let response = &room.event("response.done")["response"];
    assert_eq!(response["status"], "cancelled");
    assert_eq!(response["status_details"]["reason"], "turn_detected");
    assert_eq!(response["output"][0]["status"], "incomplete");
    assert_eq!(room.event("output_audio_buffer.cleared")["response_id"], response["id"]);
    assert!(!room.engine.busy());
}

#[test]
fn without_interrupt_response_the_next_answer_waits_for_the_running_one() {
    let mut room = Room::with_vad(|vad| vad.interrupt_response = false);
    room.hear(&[voice(3_000), silence(600), voice(200), silence(600)].concat());
    assert!(room.engine.busy());
    assert_eq!(room.events("input_audio_buffer.committed").count(), 2);
    assert_eq!(room.events("response.created").count(), 1);
    room.wait(6_000);
    let statuses: Vec<&Value> =
        room.events("response.done").map(|event| &event["response"]["status"]).collect();
    assert_eq!(statuses, ["completed", "completed"]);
    assert!(room.names().iter().all(|&name| name != "flush"));
}

#[test]
fn without_create_response_it_commits_and_waits() {
    let mut room = Room::with_vad(|vad| vad.create_response = false);
    room.hear(&[voice(200), silence(1_000)].concat());
    assert_eq!(room.events("input_audio_buffer.committed").count(), 1);
    assert_eq!(room.events("response.created").count(), 0);
    room.create();
    room.wait(1_000);
    assert_eq!(room.event("response.done")["response"]["status"], "completed");
}

#[test]
fn a_client_cancels_a_response() {
    let mut room = Room::new(SessionSettings::default());
    room.create();
    room.wait(100);
    room.command(ClientCommand::ResponseCancel { response_id: Some("resp_ffff".parse().expect("an id")) });
    assert_eq!(room.event("error")["error"]["code"], "response_cancel_not_active");
    assert!(room.engine.busy());
    room.command(ClientCommand::ResponseCancel { response_id: None });
    let response = &room.event("response.done")["response"];
    assert_eq!(response["status_details"]["reason"], "client_cancelled");
    assert!(room.names().contains(&"flush"));
    room.forget();
    room.command(ClientCommand::ResponseCancel { response_id: None });
    assert_eq!(room.event("error")["error"]["code"], "response_cancel_not_active");
    assert_eq!(room.event("error")["error"]["event_id"], "mine");
}

#[test]
fn only_one_response_runs_at_a_time() {
    let mut room = Room::new(SessionSettings::default());
    room.create();
    room.create();
    assert_eq!(room.event("error")["error"]["code"], "conversation_already_has_active_response");
    room.wait(5_000);
    assert_eq!(room.events("response.done").count(), 1);
}

#[test]
fn a_clear_empties_the_utterance() {
    let mut room = Room::manual();
    room.hear(&voice(300));
    room.command(ClientCommand::Clear);
    room.command(ClientCommand::Commit);
    assert_eq!(room.names(), ["input_audio_buffer.cleared", "error"]);
}

#[test]
fn silence_duration_and_prefix_padding_are_as_asked() {
    let mut room = Room::with_vad(|vad| (vad.silence_duration_ms, vad.prefix_padding_ms) = (200, 0));
    room.hear(&[silence(1_000), voice(200), silence(180), voice(200), silence(220)].concat());
    assert_eq!(room.events("input_audio_buffer.speech_started").count(), 1);
    assert_eq!(room.event("input_audio_buffer.speech_started")["audio_start_ms"], 1_000);
    assert_eq!(room.event("input_audio_buffer.speech_stopped")["audio_end_ms"], 1_680);
}

#[test]
fn a_silent_client_hears_nothing() {
    let mut room = Room::new(SessionSettings::default());
    let noise: Vec<u8> = (0..160_000i32).flat_map(|n| ((n * 7_919 % 61 - 30) as i16).to_le_bytes()).collect();
    room.hear(&noise);
    assert_eq!(room.names(), [""; 0]);
    assert_eq!(room.engine.deadline(), None);
}

#[test]
fn g711_is_heard_through_its_tables_and_played_back_as_it_came() {
    type Encode = fn(i16) -> u8;
    for (codec, encode) in
        [(Codec::G711Ulaw, g711::encode_ulaw as Encode), (Codec::G711Alaw, g711::encode_alaw as Encode)]
    {
        let mut room = Room::with_format(codec, 8_000);
        let coded = |pcm: Vec<u8>| -> Vec<u8> {
            pcm.chunks_exact(4).map(|pair| encode(i16::from_le_bytes([pair[0], pair[1]]))).collect()
        };
        room.hear(&coded([silence(400), voice(400), silence(1_500)].concat()));
        assert_eq!(room.transcript(), "heard 0.80 s");
        assert_eq!(room.played(), coded([silence(300), voice(400), silence(100)].concat()));
        room.text("one");
        room.create();
        room.wait(1_000);
        assert_eq!(room.event("response.done")["response"]["status"], "completed");
    }
}

#[test]
fn opus_is_judged_by_packet_size_and_played_back_packet_for_packet() {
    let mut room = Room::with_format(Codec::Opus, 24_000);
    let mut packets: Vec<Vec<u8>> = (0..40u8).map(|n| vec![n; 40 + usize::from(n)]).collect();
    packets.extend(vec![vec![0xf8, 0xff, 0xfe]; 80]);
    for packet in &packets {
        room.hear_at_once(SPEAKER, packet);
        room.wait(20);
    }
    room.wait(2_000);
    assert_eq!(room.transcript(), "heard 0.90 s");
    assert_eq!(room.played(), packets[..45].concat());
}

#[test]
fn an_utterance_of_a_minute_is_committed_and_a_new_one_begins() {
    let mut room = Room::manual();
    let minute = voice(60_000);
    for second in minute.chunks(32_000) {
        room.hear_at_once(SPEAKER, second);
    }
    assert_eq!(room.events("input_audio_buffer.committed").count(), 1);
    room.hear_at_once(SPEAKER, &voice(100));
    room.command(ClientCommand::Commit);
    assert_eq!(room.events("input_audio_buffer.committed").count(), 2);
    let mut room = Room::new(SessionSettings::default());
    for _ in 0..61 {
        room.hear_at_once(SPEAKER, &[voice(900), silence(100)].concat());
    }
    let stopped = room.event("input_audio_buffer.speech_stopped");
    assert_eq!(stopped["audio_end_ms"], 60_000);
    assert_eq!(room.events("input_audio_buffer.speech_started").count(), 2);
}

#[test]
fn one_member_speaks_at_a_time_and_the_floor_passes_on() {
    let mut room = Room::new(SessionSettings::default());
    let other = MemberNumber(2);
    for n in 0..50 {
        room.hear_at_once(SPEAKER, &voice(20));
        room.hear_at_once(other, &if n < 25 { silence(20) } else { [0x11, 0x22].repeat(320) });
        room.wait(20);
    }
    for _ in 0..60 {
        room.hear_at_once(SPEAKER, &silence(20));
        room.hear_at_once(other, &silence(20));
        room.wait(20);
    }
    room.wait(3_000);
    assert_eq!(room.played(), [voice(20).repeat(50), silence(100)].concat());
    room.forget();
    for _ in 0..20 {
        room.hear_at_once(other, &voice(20));
        room.hear_at_once(SPEAKER, &silence(20));
        room.wait(20);
    }
    assert_eq!(room.names(), ["input_audio_buffer.speech_started"]);
}

#[test]
fn a_speaker_who_sends_nothing_more_has_stopped() {
    let mut room = Room::new(SessionSettings::default());
    room.hear(&voice(300));
    room.wait(1_000);
    assert_eq!(room.names(), ["input_audio_buffer.speech_started"]);
    room.wait(2_000);
    assert_eq!(room.played(), voice(300));
    assert_eq!(room.event("response.done")["response"]["status"], "completed");
}

#[test]
fn where_text_was_asked_for_it_answers_in_writing() {
    let mut room = Room::new(SessionSettings { modality: Modality::Text, ..SessionSettings::default() });
    room.text("say it in writing");
    room.create();
    assert_eq!(room.played(), b"");
    let text: String =
        room.events("response.output_text.delta").filter_map(|event| event["delta"].as_str()).collect();
    assert_eq!(text, "say it in writing");
    let item = &room.event("response.done")["response"]["output"][0];
    assert_eq!(item["content"][0]["type"], "output_text");
}

#[test]
fn another_format_forgets_the_audio_and_nothing_else() {
    let mut room = Room::manual();
    room.hear(&voice(300));
    room.settings.format = AudioFormat { codec: Codec::G711Ulaw, rate: 8_000 };
    room.command(ClientCommand::Commit);
    assert_eq!(room.names(), ["input_audio_buffer.cleared", "error"]);
    room.hear_at_once(SPEAKER, &[0x55; 160]);
    room.command(ClientCommand::Commit);
    room.create();
    room.wait(100);
    assert_eq!(room.played(), [0x55; 160]);
}

proptest! {
    #[test]
    fn however_the_audio_is_cut_the_utterance_is_the_same(cuts in prop::collection::vec(1usize..3_000, 1..60)) {
        let audio = [silence(310), voice(450), silence(130), voice(215), silence(700)].concat();
        let conversation = |pieces: &[usize]| {
            let mut room = Room::new(SessionSettings::default());
            let mut rest = audio.as_slice();
            for &len in pieces.iter().cycle() {
                let (piece, after) = rest.split_at(len.min(rest.len()));
                room.hear_at_once(SPEAKER, piece);
                rest = after;
                if rest.is_empty() {
                    break;
                }
            }
            room.wait(3_000);
            room.seen
        };
        prop_assert_eq!(conversation(&cuts), conversation(&[640]));
    }
}
