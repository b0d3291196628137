//! A room with a parrot in it, on a clock that the test moves.

use serde_json::Value;

use crate::core::config::ShardConfig;
use crate::core::engine::{Audience, Engine, EngineContext, EngineInput, EngineKind, EngineOutput};
use crate::core::event::{
    AudioFormat, ClientCommand, ClientEvent, Codec, Dialect, EventId, ItemKind, NewContent, NewItem,
    ResponseRequest, Role, Scratch, ServerVad, SessionSettings, parse,
};
use crate::core::frame::FramePool;
use crate::core::ids::MemberNumber;
use crate::core::rng::SplitMix64;
use crate::core::time::Micros;

pub(super) const SPEAKER: MemberNumber = MemberNumber(1);

/// What came out, as a client would see it.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Seen {
    Event(Value),
    Audio { at: Micros, bytes: Vec<u8>, first: bool, last: bool, timestamp_ms: u32 },
    Flush,
}

pub(super) struct Room {
    pub(super) engine: Engine,
    pub(super) settings: SessionSettings,
    pub(super) pool: FramePool,
    pub(super) last_id: u64,
    pub(super) now: Micros,
    pub(super) seen: Vec<Seen>,
    pub(super) only_events: bool,
    pub(super) config: ShardConfig,
    pub(super) extras: Option<&'static str>,
}

impl Room {
    pub(super) fn new(settings: SessionSettings) -> Self {
        let (pool, now) = (FramePool::default(), Micros::from_s(1));
        let engine = Engine::start(EngineKind::Parrot);
        Self {
            engine,
            settings,
            pool,
            last_id: 0,
            now,
            seen: Vec::new(),
            only_events: false,
            config: ShardConfig::default(),
            extras: None,
        }
    }

    pub(super) fn with_vad(change: impl FnOnce(&mut ServerVad)) -> Self {
        let mut vad = ServerVad::default();
        change(&mut vad);
        Self::new(SessionSettings { turn_detection: Some(vad), ..SessionSettings::default() })
    }

    pub(super) fn manual() -> Self {
        Self::new(SessionSettings { turn_detection: None, ..SessionSettings::default() })
    }

    pub(super) fn with_format(codec: Codec, rate: u16) -> Self {
        Self::new(SessionSettings { format: AudioFormat { codec, rate }, ..SessionSettings::default() })
    }

    pub(super) fn handle(&mut self, input: EngineInput) {
        let mut out = Vec::new();
        self.engine.handle(
            input,
            &mut EngineContext {
                now: self.now,
                config: &self.config,
                rng: &mut SplitMix64::new(1),
                pool: &mut self.pool,
                settings: &self.settings,
                extras: self.extras,
                only_events: self.only_events,
                claim: None,
                last_id: &mut self.last_id,
                out: &mut out,
            },
        );
        for output in out {
            self.seen.push(match output {
                EngineOutput::Audio { audio, first, last, timestamp_ms, to, track, response, .. } => {
                    assert_eq!((to, track), (Audience::All, MemberNumber(0)));
                    assert!(response.is_some());
                    Seen::Audio { at: self.now, bytes: audio.payload().to_vec(), first, last, timestamp_ms }
                }
                EngineOutput::Event { event, .. } => {
                    let mut line = Vec::new();
                    event.write(EventId(1), None, Dialect::Ga, &mut line);
                    Seen::Event(serde_json::from_slice(&line).expect("an event is JSON"))
                }
                EngineOutput::Flush(_) => Seen::Flush,
                EngineOutput::Upstream(order) => panic!("a parrot has no upstream: {order:?}"),
                EngineOutput::Work(order) => panic!("a parrot has no workers: {order:?}"),
            });
        }
    }

    pub(super) fn hear_at_once(&mut self, from: MemberNumber, bytes: &[u8]) {
        let audio = self.pool.copy(bytes);
        self.handle(EngineInput::Audio { from, audio });
    }

    pub(super) fn command(&mut self, command: ClientCommand) {
        self.handle(EngineInput::Command { from: SPEAKER, event_id: Some("mine".into()), command });
    }

    pub(super) fn create(&mut self) {
        self.command(ClientCommand::ResponseCreate(ResponseRequest::default()));
    }

    pub(super) fn text(&mut self, text: &str) {
        let content = vec![NewContent::Text(text.into())];
        self.command(ClientCommand::ItemCreate(Box::new(NewItem {
            kind: ItemKind::Message,
            id: None,
            role: Role::User,
            content,
            previous: None,
            raw: "{}".into(),
        })));
    }

    /// What a client says, as it arrives.
    pub(super) fn say(&mut self, event: &Value) {
        let mut text = event.to_string().into_bytes();
        let parsed = parse(&mut text, 64, &mut Scratch::default()).expect("an event");
        let ClientEvent { event_id, command, .. } = parsed;
        self.handle(EngineInput::Command { from: SPEAKER, event_id, command });
    }

    /// Lets time pass, waking the engine when it asks for it.
    pub(super) fn wait(&mut self, ms: u64) {
        let end = self.now + Micros::from_ms(ms);
        while let Some(deadline) = self.engine.deadline().filter(|&deadline| deadline <= end) {
            self.now = self.now.max(deadline);
            self.handle(EngineInput::Tick);
        }
        self.now = end;
    }

    /// Speaks at the pace of speech, 20 ms at a time.
    pub(super) fn hear(&mut self, bytes: &[u8]) {
        let window = self.settings.format.bytes_per_ms().expect("not Opus") * 20;
        for frame in bytes.chunks(window) {
            self.hear_at_once(SPEAKER, frame);
            self.wait(20);
        }
    }

    pub(super) fn names(&self) -> Vec<&str> {
        let named = self.seen.iter().map(|seen| match seen {
            Seen::Event(event) => event["type"].as_str().expect("a type"),
            Seen::Audio { .. } => "audio",
            Seen::Flush => "flush",
        });
        let mut names: Vec<&str> = named.collect();
        names.dedup();
        names
    }

    pub(super) fn event<'a>(&'a self, name: &'a str) -> &'a Value {
        self.events(name).last().unwrap_or_else(|| panic!("no {name} in {:?}", self.names()))
    }

    pub(super) fn events<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Value> {
        self.seen.iter().filter_map(move |seen| match seen {
            Seen::Event(event) if event["type"] == name => Some(event),
            _ => None,
        })
    }

    pub(super) fn played(&self) -> Vec<u8> {
        let bytes = self.seen.iter().filter_map(|seen| match seen {
            Seen::Audio { bytes, .. } => Some(bytes.as_slice()),
            _ => None,
        });
        bytes.collect::<Vec<_>>().concat()
    }

    pub(super) fn transcript(&self) -> String {
        let deltas = self.events("response.output_audio_transcript.delta");
        deltas.map(|event| event["delta"].as_str().expect("a delta")).collect()
    }

    pub(super) fn forget(&mut self) {
        self.seen.clear();
    }
}

/// A voice: a loud wave that never repeats a window, so that a misplaced byte shows.
pub(super) fn voice(ms: usize) -> Vec<u8> {
    (0..ms * 16).flat_map(|n| (((n * 7_919) % 16_001) as i16 - 8_000).to_le_bytes()).collect()
}

pub(super) fn silence(ms: usize) -> Vec<u8> {
    vec![0; ms * 32]
}
