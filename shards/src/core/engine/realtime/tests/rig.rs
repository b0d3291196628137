//! A room with a model session, whose other end the test plays.

use serde_json::{Value, json};

use crate::core::config::ShardConfig;
use crate::core::engine::{
    Audience, Engine, EngineContext, EngineInput, EngineKind, EngineOutput, ResponseNumber,
};
use crate::core::event::{
    AudioFormat, ClientCommand, Codec, EventId, ItemKind, NewContent, NewItem, PartRef, ResponseRequest,
    Role, SessionSettings,
};
use crate::core::frame::FramePool;
use crate::core::gate::RealtimeClaim;
use crate::core::ids::MemberNumber;
use crate::core::rng::SplitMix64;
use crate::core::time::Micros;
use crate::core::upstream::{Line, UpstreamEnd, UpstreamNews, UpstreamOrder};

pub(super) const SPEAKER: MemberNumber = MemberNumber(1);

/// What came out, as a client would see it.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Seen {
    Event(Audience, Value),
    Audio { bytes: Vec<u8>, first: bool, timestamp_ms: u32, response: ResponseNumber },
    Flush(ResponseNumber),
}

pub(super) struct Rig {
    pub(super) engine: Engine,
    pub(super) config: ShardConfig,
    pub(super) settings: SessionSettings,
    pub(super) extras: Option<String>,
    pub(super) claim: Option<RealtimeClaim>,
    pub(super) pool: FramePool,
    rng: SplitMix64,
    last_id: u64,
    pub(super) now: Micros,
    pub(super) seen: Vec<Seen>,
    /// What the model server got, by line.
    pub(super) sent: Vec<(Line, Value)>,
    pub(super) dialled: Vec<(Line, String)>,
    pub(super) closed: Vec<Line>,
    /// Frames that the lanes give back when a response is flushed.
    pub(super) unsent_frames: usize,
    out: Vec<EngineOutput>,
}

impl Rig {
    /// A room at 24 kHz, so that audio passes as it is.
    pub(super) fn new() -> Self {
        let format = AudioFormat { codec: Codec::Pcm16, rate: 24_000 };
        Self {
            engine: Engine::start(EngineKind::Realtime),
            config: ShardConfig::default(),
            settings: SessionSettings { format, ..SessionSettings::default() },
            extras: None,
            claim: None,
            pool: FramePool::default(),
            rng: SplitMix64::new(7),
            last_id: 0,
            now: Micros::from_s(1),
            seen: Vec::new(),
            sent: Vec::new(),
            dialled: Vec::new(),
            closed: Vec::new(),
            unsent_frames: 0,
            out: Vec::new(),
        }
    }

    /// A room where clients say themselves when a turn ends.
    pub(super) fn manual() -> Self {
        let mut rig = Self::new();
        rig.settings.turn_detection = None;
        rig
    }

    /// A room whose line is ready.
    pub(super) fn ready() -> (Self, Line) {
        let mut rig = Self::new();
        rig.hear(&[0; 960]);
        let line = rig.greet();
        rig.forget();
        (rig, line)
    }

    pub(super) fn turn(&mut self, what: impl FnOnce(&mut Engine, &mut EngineContext<'_>)) {
        for (response, frames) in self.one_turn(what) {
            self.one_turn(|engine, cx| engine.flushed(response, frames, cx));
        }
    }

    fn one_turn(
        &mut self,
        what: impl FnOnce(&mut Engine, &mut EngineContext<'_>),
    ) -> Vec<(ResponseNumber, usize)> {
        let mut out = std::mem::take(&mut self.out);
        let cx = &mut EngineContext {
            now: self.now,
            config: &self.config,
            rng: &mut self.rng,
            pool: &mut self.pool,
            settings: &self.settings,
            extras: self.extras.as_deref(),
            claim: self.claim.as_ref(),
            only_events: false,
            last_id: &mut self.last_id,
            out: &mut out,
        };
        what(&mut self.engine, cx);
        self.engine.settle(cx);
        let flushed = out.drain(..).filter_map(|output| self.take(output)).collect();
        self.out = out;
        flushed
    }

    fn take(&mut self, output: EngineOutput) -> Option<(ResponseNumber, usize)> {
        match output {
            EngineOutput::Audio { audio, first, last, timestamp_ms, to, track, response, part } => {
                assert_eq!((to, track, last), (Audience::All, MemberNumber(0), false));
                assert!(matches!(part, Some(PartRef::Named(_))));
                let bytes = audio.payload().to_vec();
                self.pool.discard(audio);
                let response = response.expect("a response");
                self.seen.push(Seen::Audio { bytes, first, timestamp_ms, response });
            }
            EngineOutput::Event { to, event, .. } => {
                let mut line = Vec::new();
                event.write(EventId(1), None, crate::core::event::Dialect::Native, &mut line);
                assert!(!line.contains(&b'\n'));
                let event = serde_json::from_slice(&line).expect("an event is JSON");
                self.seen.push(Seen::Event(to, event));
            }
            EngineOutput::Flush(response) => {
                self.seen.push(Seen::Flush(response));
                return Some((response, self.unsent_frames));
            }
            EngineOutput::Upstream(UpstreamOrder::Dial { line, target }) => {
                self.dialled.push((line, target.into()));
            }
            EngineOutput::Upstream(UpstreamOrder::Send { line, message }) => {
                let text = serde_json::from_slice(message.payload()).expect("a message is JSON");
                self.pool.discard(message);
                self.sent.push((line, text));
            }
            EngineOutput::Upstream(UpstreamOrder::Close { line }) => self.closed.push(line),
            EngineOutput::Work(order) => panic!("this engine has no workers: {order:?}"),
        }
        None
    }

    /// Audio of one turn, a frame of 20 ms at a time.
    pub(super) fn hear(&mut self, bytes: &[u8]) {
        self.hear_from(SPEAKER, bytes);
    }

    pub(super) fn hear_from(&mut self, from: MemberNumber, bytes: &[u8]) {
        let frame = self.settings.format.bytes_per_ms().unwrap_or(10) * 20;
        let drafts: Vec<_> = bytes.chunks(frame).map(|frame| self.pool.copy(frame)).collect();
        self.turn(|engine, cx| {
            for audio in drafts {
                engine.handle(EngineInput::Audio { from, audio }, cx);
            }
        });
    }

    pub(super) fn command(&mut self, command: ClientCommand) {
        self.command_from(SPEAKER, Some("mine"), command);
    }

    pub(super) fn command_from(&mut self, from: MemberNumber, name: Option<&str>, command: ClientCommand) {
        let event_id = name.map(Into::into);
        self.turn(|engine, cx| engine.handle(EngineInput::Command { from, event_id, command }, cx));
    }

    pub(super) fn create(&mut self) {
        self.command(ClientCommand::ResponseCreate(ResponseRequest::default()));
    }

    pub(super) fn text(&mut self, text: &str) {
        let raw =
            json!({ "type": "message", "role": "user", "content": [{ "type": "input_text", "text": text }] });
        self.command(ClientCommand::ItemCreate(Box::new(NewItem {
            id: None,
            kind: ItemKind::Message,
            role: Role::User,
            content: vec![NewContent::Text(text.into())],
            previous: None,
            raw: raw.to_string().into(),
        })));
    }

    /// The newest line opens and greets.
    pub(super) fn greet(&mut self) -> Line {
        let line = self.dialled.last().expect("a line was dialled").0;
        self.turn(|engine, cx| engine.upstream(line, UpstreamNews::Open, cx));
        self.say(line, json!({ "type": "session.created", "event_id": "e", "session": { "id": "s" } }));
        line
    }

    /// The model server says something.
    pub(super) fn say(&mut self, line: Line, event: Value) {
        self.say_raw(line, event.to_string().as_bytes());
    }

    pub(super) fn say_raw(&mut self, line: Line, text: &[u8]) {
        let mut text = text.to_vec();
        self.turn(|engine, cx| engine.upstream(line, UpstreamNews::Message(&mut text), cx));
    }

    pub(super) fn over(&mut self, line: Line, end: UpstreamEnd) {
        self.turn(|engine, cx| engine.upstream(line, UpstreamNews::Over(end), cx));
    }

    pub(super) fn lose(&mut self, line: Line, code: u16) {
        self.over(line, UpstreamEnd::Closed { code, reason: "".into() });
    }

    pub(super) fn begin_response(&mut self, line: Line, id: &str) {
        self.say(
            line,
            json!({ "type": "response.created", "response": { "id": id, "status": "in_progress" } }),
        );
    }

    pub(super) fn delta(&mut self, line: Line, id: &str, audio: &[u8]) {
        let delta = base64_simd::STANDARD.encode_to_string(audio);
        self.say(line, json!({
            "type": "response.output_audio.delta", "event_id": "e", "response_id": id, "item_id": format!("item_{id}"),
            "output_index": 0, "content_index": 0, "delta": delta,
        }));
    }

    pub(super) fn end_response(&mut self, line: Line, id: &str, words: &str) {
        let item = json!({
            "id": format!("item_{id}"), "type": "message", "role": "assistant",
            "content": [{ "type": "output_audio", "transcript": words }],
        });
        self.say(line, json!({ "type": "response.output_item.done", "response_id": id, "item": item }));
        let response = json!({ "id": id, "status": "completed", "output": [item] });
        self.say(line, json!({ "type": "response.done", "response": response }));
    }

    /// Lets time pass, waking the engine when it asks for it.
    pub(super) fn wait(&mut self, ms: u64) {
        let end = self.now + Micros::from_ms(ms);
        while let Some(deadline) = self.engine.deadline().filter(|&deadline| deadline <= end) {
            self.now = self.now.max(deadline);
            self.turn(|engine, cx| engine.handle(EngineInput::Tick, cx));
            assert!(
                self.engine.deadline() > Some(self.now) || self.engine.deadline().is_none(),
                "no busy waiting"
            );
        }
        self.now = end;
    }

    /// Names of the events, with `audio` and `flush` between them.
    pub(super) fn names(&self) -> Vec<&str> {
        let named = self.seen.iter().map(|seen| match seen {
            Seen::Event(_, event) => event["type"].as_str().expect("a type"),
            Seen::Audio { .. } => "audio",
            Seen::Flush(_) => "flush",
        });
        named.collect()
    }

    pub(super) fn event(&self, name: &str) -> &Value {
        self.events(name).last().unwrap_or_else(|| panic!("no {name} in {:?}", self.names())).1
    }

    pub(super) fn events(&self, name: &str) -> Vec<(Audience, &Value)> {
        let events = self.seen.iter().filter_map(|seen| match seen {
            Seen::Event(to, event) if event["type"] == name => Some((*to, event)),
            _ => None,
        });
        events.collect()
    }

    pub(super) fn errors(&self) -> Vec<&str> {
        self.events("error")
            .iter()
            .map(|(_, event)| event["error"]["code"].as_str().expect("a code"))
            .collect()
    }

    pub(super) fn played(&self) -> Vec<u8> {
        let bytes = self.seen.iter().filter_map(|seen| match seen {
            Seen::Audio { bytes, .. } => Some(bytes.as_slice()),
            _ => None,
        });
        bytes.collect::<Vec<_>>().concat()
    }

    /// What a line got, by type.
    pub(super) fn got(&self, line: Line) -> Vec<&str> {
        let messages = self.sent.iter().filter(|(to, _)| *to == line);
        messages.map(|(_, message)| message["type"].as_str().expect("a type")).collect()
    }

    /// The newest message of this type.
    pub(super) fn message(&self, kind: &str) -> &Value {
        let found = self.sent.iter().rev().find(|(_, message)| message["type"] == kind);
        &found.unwrap_or_else(|| panic!("no {kind} in {:?}", self.sent)).1
    }

    /// The audio that a line got.
    pub(super) fn heard(&self, line: Line) -> Vec<u8> {
        let appends = self
            .sent
            .iter()
            .filter(|(to, message)| *to == line && message["type"] == "input_audio_buffer.append");
        let audio = appends.map(|(_, message)| {
            let text = message["audio"].as_str().expect("base64");
            base64_simd::STANDARD.decode_to_vec(text).expect("strict base64")
        });
        audio.collect::<Vec<_>>().concat()
    }

    pub(super) fn forget(&mut self) {
        self.seen.clear();
        self.sent.clear();
    }
}

/// Audio that never repeats itself soon, so that a misplaced byte shows.
pub(super) fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut rng = SplitMix64::new(seed);
    (0..bytes).map(|_| rng.next_u64() as u8).collect()
}
