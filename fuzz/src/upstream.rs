//! What a model server says.

use shards::core::config::Dialect;
use shards::core::engine::{EngineInput, EngineKind, EngineOutput};
use shards::core::event::{
    self, AudioFormat, ClientCommand, Codec, EventId, ResponseRequest, SessionSettings,
};
use shards::core::frame::FramePool;
use shards::core::ids::MemberNumber;
use shards::core::upstream::{Line, UpstreamEnd, UpstreamNews, UpstreamOrder};
use shards::core::{Micros, ShardConfig};
use shards::sim::Solo;

use crate::pieces::choice;

/// Stands between two messages.
const BETWEEN: u8 = 0x1e;

/// The first byte chooses the dialect, the rate and turn detection; the rest are messages on a line that has greeted, with
/// something of the room's own between them.
pub(crate) fn run(bytes: &[u8]) {
    let (conditions, rest) = choice(bytes);
    let mut config = ShardConfig::default();
    if conditions & 1 != 0 {
        config.realtime.dialect = Dialect::Beta;
    }
    let rate = if conditions & 2 == 0 { 24_000 } else { 16_000 };
    let format = AudioFormat { codec: Codec::Pcm16, rate };
    let mut settings = SessionSettings { format, ..SessionSettings::default() };
    if conditions & 4 != 0 {
        settings.turn_detection = None;
    }
    let mut solo = Solo::new(EngineKind::Realtime, config, settings);
    let from = MemberNumber(1);
    let ask = ClientCommand::ResponseCreate(ResponseRequest::default());
    let mut room = Room { line: Line(0), chunk: solo.config.audio.chunk_bytes };
    solo.turn(
        |engine, cx| engine.handle(EngineInput::Command { from, event_id: None, command: ask }, cx),
        |pool, output| room.take(pool, output),
    );
    for message in rest.split(|byte| *byte == BETWEEN) {
        let line = room.line;
        solo.turn(
            |engine, cx| engine.upstream(line, UpstreamNews::Open, cx),
            |pool, output| room.take(pool, output),
        );
        let mut created = br#"{"type":"session.created"}"#.to_vec();
        let news = UpstreamNews::Message(&mut created);
        solo.turn(|engine, cx| engine.upstream(line, news, cx), |pool, output| room.take(pool, output));
        let mut text = message.to_vec();
        let news = UpstreamNews::Message(&mut text);
        solo.turn(|engine, cx| engine.upstream(line, news, cx), |pool, output| room.take(pool, output));
        let audio = solo.pool.copy(&[1; 640]);
        solo.turn(
            |engine, cx| engine.handle(EngineInput::Audio { from, audio }, cx),
            |pool, output| room.take(pool, output),
        );
        pass_time(&mut solo, &mut room, Micros::from_ms(20 + 10 * message.len() as u64));
    }
    let (line, end) = (room.line, UpstreamEnd::Closed { code: 1001, reason: "".into() });
    solo.turn(
        |engine, cx| engine.upstream(line, UpstreamNews::Over(end), cx),
        |pool, output| room.take(pool, output),
    );
    pass_time(&mut solo, &mut room, Micros::from_s(600));
}

struct Room {
    line: Line,
    chunk: usize,
}

impl Room {
    fn take(&mut self, pool: &mut FramePool, output: EngineOutput) {
        match output {
            EngineOutput::Audio { audio, .. } => {
                assert!(audio.len().is_multiple_of(2) && (1..=self.chunk).contains(&audio.len()));
                pool.discard(audio);
            }
            EngineOutput::Event { event, .. } => {
                let mut line = Vec::new();
                event.write(EventId(1), None, event::Dialect::Native, &mut line);
                assert!(!line.contains(&b'\n'), "an event is one line");
                json(&line);
            }
            EngineOutput::Upstream(UpstreamOrder::Send { message, .. }) => {
                json(message.payload());
                pool.discard(message);
            }
            EngineOutput::Upstream(UpstreamOrder::Dial { line, .. }) => self.line = line,
            EngineOutput::Upstream(UpstreamOrder::Close { .. }) | EngineOutput::Flush(_) => {}
            EngineOutput::Work(order) => panic!("this engine has no workers: {order:?}"),
        }
    }
}

fn json(text: &[u8]) {
    let text = std::str::from_utf8(text).expect("JSON is UTF-8");
    serde_json::from_str::<serde::de::IgnoredAny>(text).unwrap_or_else(|error| panic!("{error}: {text}"));
}

fn pass_time(solo: &mut Solo, room: &mut Room, span: Micros) {
    let end = solo.now + span;
    while let Some(deadline) = solo.engine.deadline().filter(|&deadline| deadline <= end) {
        solo.now = solo.now.max(deadline);
        solo.turn(|engine, cx| engine.handle(EngineInput::Tick, cx), |pool, output| room.take(pool, output));
        assert!(solo.engine.deadline().is_none_or(|next| next > solo.now), "a tick leaves nothing due");
    }
    solo.now = end;
}
