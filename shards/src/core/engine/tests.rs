//! What passes through the echo and the relay.

use super::*;
use crate::core::event::{Dialect, EventId, ItemKind, NewContent, NewItem, ResponseRequest, Role};

const SPEAKER: MemberNumber = MemberNumber(3);

fn outputs(kind: EngineKind, inputs: Vec<(Micros, EngineInput)>) -> Vec<EngineOutput> {
    let mut engine = Engine::start(kind);
    let (mut pool, settings, mut last_id, mut out) =
        (FramePool::default(), SessionSettings::default(), 0, Vec::new());
    for (now, input) in inputs {
        let (config, rng) = (&ShardConfig::default(), &mut SplitMix64::new(1));
        let (pool, settings, last_id, out) = (&mut pool, &settings, &mut last_id, &mut out);
        engine.handle(
            input,
            &mut EngineContext {
                now,
                config,
                rng,
                pool,
                settings,
                extras: None,
                only_events: false,
                claim: None,
                last_id,
                out,
            },
        );
        assert_eq!(engine.deadline(), None);
        assert!(!engine.busy());
    }
    out
}

fn heard(ms: u64, payload: &[u8]) -> (Micros, EngineInput) {
    let audio = FramePool::default().copy(payload);
    (Micros::from_ms(ms), EngineInput::Audio { from: SPEAKER, audio })
}

fn told(command: ClientCommand) -> (Micros, EngineInput) {
    let event_id = Some("mine".into());
    (Micros::from_ms(0), EngineInput::Command { from: SPEAKER, event_id, command })
}

#[test]
fn the_echo_returns_each_frame_to_its_sender_and_the_relay_forwards_it_to_the_others() {
    for (kind, audience, number) in [
        (EngineKind::Echo, Audience::One(SPEAKER), MemberNumber(0)),
        (EngineKind::Relay, Audience::AllBut(SPEAKER), SPEAKER),
    ] {
        let out = outputs(kind, vec![heard(1_000, b"one"), heard(1_020, b"two"), heard(1_500, b"three")]);
        let frames: Vec<_> = out
            .iter()
            .map(|output| match output {
                EngineOutput::Audio {
                    to,
                    audio,
                    track,
                    first,
                    last: false,
                    timestamp_ms,
                    response: None,
                    ..
                } => {
                    assert_eq!((*to, *track), (audience, number));
                    (audio.payload(), *first, *timestamp_ms)
                }
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(frames, [(&b"one"[..], true, 0), (b"two", false, 20), (b"three", true, 0)]);
    }
}

#[test]
fn commands_are_answered_where_nobody_responds() {
    for (kind, readers) in [(EngineKind::Echo, Audience::One(SPEAKER)), (EngineKind::Relay, Audience::All)] {
        let content = vec![NewContent::Text("hi".into())];
        let item = Box::new(NewItem {
            kind: ItemKind::Message,
            id: Some("x".into()),
            role: Role::User,
            content,
            previous: None,
            raw: "{}".into(),
        });
        let out = outputs(
            kind,
            vec![
                told(ClientCommand::Commit),
                told(ClientCommand::Clear),
                told(ClientCommand::ItemCreate(item)),
                told(ClientCommand::ResponseCreate(ResponseRequest::default())),
                told(ClientCommand::ResponseCancel { response_id: None }),
                told(ClientCommand::OutputClear),
                told(ClientCommand::ItemDelete { item: "x".into() }),
                told(ClientCommand::ItemRetrieve { item: "x".into() }),
                told(ClientCommand::ItemTruncate { item: "x".into(), content_index: 0, audio_end_ms: 1 }),
            ],
        );
        let events: Vec<(Audience, String)> = out
            .iter()
            .map(|output| match output {
                EngineOutput::Event { to, event, .. } => {
                    let mut line = Vec::new();
                    event.write(EventId(1), None, Dialect::Ga, &mut line);
                    (*to, String::from_utf8(line).expect("UTF-8"))
                }
                other => panic!("{other:?}"),
            })
            .collect();
        let expected = [
            (Audience::One(SPEAKER), "input_audio_buffer.committed"),
            (Audience::One(SPEAKER), "input_audio_buffer.cleared"),
            (readers, "conversation.item.added"),
            (readers, "conversation.item.done"),
            (Audience::One(SPEAKER), "engine_has_no_responses"),
            (Audience::One(SPEAKER), "response_cancel_not_active"),
            (Audience::One(SPEAKER), "engine_has_no_responses"),
            (Audience::One(SPEAKER), "engine_keeps_no_items"),
            (Audience::One(SPEAKER), "engine_keeps_no_items"),
            (Audience::One(SPEAKER), "engine_keeps_no_items"),
        ];
        assert_eq!(events.len(), expected.len());
        for ((to, line), (audience, name)) in events.iter().zip(expected) {
            assert_eq!(*to, audience, "{name}");
            assert!(line.contains(&format!("\"{name}\"")), "{name}: {line}");
        }
        assert!(events[4].1.contains("\"event_id\":\"mine\""));
    }
}
