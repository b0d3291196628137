//! Rooms as stores keep them: what changes with every write as JSON, events in a short binary form that is only added to.

use serde::{Deserialize, Serialize};
use shards::core::engine::{Audience, EngineKind};
use shards::core::event::{AudioFormat, Class, Modality, ServerVad, SessionSettings};
use shards::core::memory::{Earlier, KeptEvent, Memory};
use shards::core::{MemberNumber, SessionId};

/// What this release writes, and all that it reads.
const FORMAT: u32 = 1;

const CLASSES: [Class; 3] = [Class::Control, Class::Audio, Class::Droppable];
const MODALITIES: [Modality; 2] = [Modality::Audio, Modality::Text];
/// Before an event's bytes: whom it concerned, the member, its class, its length.
const EVENT_HEAD_BYTES: usize = 1 + 2 + 1 + 4;

/// What is kept can't be read: it is not ours, or damaged.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("what is kept of a room can't be read")]
pub(super) struct Unreadable;

/// Everything but the events.
#[derive(Debug, Serialize, Deserialize)]
struct Head {
    format: u32,
    epoch: u64,
    earlier: Vec<(u64, u64, u16)>,
    seq: u64,
    last_member: u16,
    last_id: u64,
    engine: String,
    codec: String,
    rate: u16,
    vad: Option<Vad>,
    modality: String,
    state: Option<Box<str>>,
    extras: Option<Box<str>>,
    model: Option<Box<str>>,
    client_seqs: Vec<(u16, u64)>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Vad {
    threshold_permille: u16,
    prefix_padding_ms: u16,
    silence_duration_ms: u16,
    create_response: bool,
    interrupt_response: bool,
}

/// Everything of a room but its events.
pub(super) fn head(memory: &Memory) -> String {
    let SessionSettings { format: AudioFormat { codec, rate }, turn_detection, modality } = memory.settings;
    let vad = turn_detection.map(|vad| {
        let ServerVad {
            threshold_permille,
            prefix_padding_ms,
            silence_duration_ms,
            create_response,
            interrupt_response,
        } = vad;
        Vad {
            threshold_permille,
            prefix_padding_ms,
            silence_duration_ms,
            create_response,
            interrupt_response,
        }
    });
    let head = Head {
        format: FORMAT,
        epoch: memory.epoch,
        earlier: memory.earlier.iter().map(|of| (of.epoch, of.seq, of.members)).collect(),
        seq: memory.seq,
        last_member: memory.last_member,
        last_id: memory.last_id,
        engine: memory.engine.name().to_owned(),
        codec: codec.name().to_owned(),
        rate,
        vad,
        modality: modality.name().to_owned(),
        state: memory.state.clone(),
        extras: memory.extras.clone(),
        model: memory.model.clone(),
        client_seqs: memory.client_seqs.iter().map(|&(member, seq)| (member.0, seq)).collect(),
    };
    serde_json::to_string(&head).expect("plain data has JSON")
}

/// A room from what [`head`] has made, and portions of events in order, each with the number of its last one. Events in front of
/// a gap, and those that don't reach up to the room's own number, are of no use.
pub(super) fn read<'a>(
    session: SessionId,
    head: &[u8],
    portions: impl IntoIterator<Item = (u64, &'a [u8])>,
) -> Result<Memory, Unreadable> {
    let mut memory = room(session, head)?;
    let mut reached = 0;
    for (last, bytes) in portions {
        let before = memory.events.len();
        add_events(&mut memory.events, bytes)?;
        let portion = (memory.events.len() - before) as u64;
        if before > 0 && reached + portion != last {
            memory.events.drain(..before);
        }
        reached = last;
    }
    if reached != memory.seq {
        memory.events.clear();
    }
    memory.oldest = (memory.seq + 1).checked_sub(memory.events.len() as u64).ok_or(Unreadable)?;
    Ok(memory)
}

fn room(session: SessionId, head: &[u8]) -> Result<Memory, Unreadable> {
    let head: Head = serde_json::from_slice(head).map_err(|_| Unreadable)?;
    if head.format != FORMAT {
        return Err(Unreadable);
    }
    let format = AudioFormat { codec: head.codec.parse().map_err(|_| Unreadable)?, rate: head.rate };
    let turn_detection = head.vad.map(|vad| ServerVad {
        threshold_permille: vad.threshold_permille,
        prefix_padding_ms: vad.prefix_padding_ms,
        silence_duration_ms: vad.silence_duration_ms,
        create_response: vad.create_response,
        interrupt_response: vad.interrupt_response,
    });
    let modality = MODALITIES.into_iter().find(|modality| modality.name() == head.modality);
    Ok(Memory {
        session,
        epoch: head.epoch,
        earlier: head
            .earlier
            .into_iter()
            .map(|(epoch, seq, members)| Earlier { epoch, seq, members })
            .collect(),
        seq: head.seq,
        oldest: head.seq + 1,
        last_member: head.last_member,
        last_id: head.last_id,
        engine: head.engine.parse::<EngineKind>().map_err(|_| Unreadable)?,
        settings: SessionSettings { format, turn_detection, modality: modality.ok_or(Unreadable)? },
        state: head.state,
        extras: head.extras,
        model: head.model,
        client_seqs: head.client_seqs.into_iter().map(|(member, seq)| (MemberNumber(member), seq)).collect(),
        events: Vec::new(),
    })
}

/// Events in a row.
pub(super) fn events(events: &[KeptEvent]) -> Vec<u8> {
    let mut out = Vec::with_capacity(events.iter().map(|event| EVENT_HEAD_BYTES + event.json.len()).sum());
    for KeptEvent { to, class, json } in events {
        let (kind, member) = match *to {
            Audience::All => (0, 0),
            Audience::AllBut(MemberNumber(member)) => (1, member),
            Audience::One(MemberNumber(member)) => (2, member),
        };
        out.push(kind);
        out.extend_from_slice(&member.to_le_bytes());
        out.push(CLASSES.iter().position(|of| of == class).expect("every class is listed") as u8);
        out.extend_from_slice(&(json.len() as u32).to_le_bytes());
        out.extend_from_slice(json);
    }
    out
}

fn add_events(events: &mut Vec<KeptEvent>, mut bytes: &[u8]) -> Result<(), Unreadable> {
    while let Some((head, rest)) = bytes.split_at_checked(EVENT_HEAD_BYTES) {
        let member = MemberNumber(u16::from_le_bytes([head[1], head[2]]));
        let to = match head[0] {
            0 => Audience::All,
            1 => Audience::AllBut(member),
            2 => Audience::One(member),
            _ => return Err(Unreadable),
        };
        let class = *CLASSES.get(usize::from(head[3])).ok_or(Unreadable)?;
        let length = u32::from_le_bytes([head[4], head[5], head[6], head[7]]) as usize;
        let (json, rest) = rest.split_at_checked(length).ok_or(Unreadable)?;
        events.push(KeptEvent { to, class, json: json.into() });
        bytes = rest;
    }
    if bytes.is_empty() { Ok(()) } else { Err(Unreadable) }
}

/// What a room takes while it waits to be written, about.
pub(super) fn weight(memory: &Memory) -> usize {
    let texts = [&memory.state, &memory.extras, &memory.model];
    let texts: usize = texts.into_iter().flatten().map(|text| text.len()).sum();
    let events: usize = memory.events.iter().map(|event| size_of::<KeptEvent>() + event.json.len()).sum();
    size_of::<Memory>() + texts + events
}

#[cfg(test)]
pub(in crate::store) mod tests {
    use super::*;

    /// A room with the events from one number to another.
    pub(in crate::store) fn memory(
        session: &str,
        epoch: u64,
        numbers: std::ops::RangeInclusive<u64>,
    ) -> Memory {
        let seq = *numbers.end();
        let event = |number: u64| KeptEvent {
            to: match number % 3 {
                0 => Audience::All,
                1 => Audience::AllBut(MemberNumber(number as u16)),
                _ => Audience::One(MemberNumber(7)),
            },
            class: CLASSES[number as usize % 3],
            json: format!("{{\"seq\":{number}}}").into_bytes().into(),
        };
        Memory {
            session: SessionId::parse(session).expect("valid"),
            epoch,
            earlier: vec![
                Earlier { epoch: 3, seq: 4, members: 5 },
                Earlier { epoch: u64::MAX, seq: 17, members: u16::MAX },
            ],
            seq,
            oldest: *numbers.start(),
            last_member: 3,
            last_id: 90,
            engine: EngineKind::Relay,
            settings: SessionSettings::default(),
            state: Some(r#"{"page":7}"#.into()),
            extras: None,
            model: Some("gpt-none".into()),
            client_seqs: vec![(MemberNumber(2), 900)],
            events: numbers.map(event).collect(),
        }
    }

    fn read_back(whole: &Memory, portions: &[(u64, Vec<u8>)]) -> Result<Memory, Unreadable> {
        let portions = portions.iter().map(|(last, bytes)| (*last, &bytes[..]));
        read(whole.session.clone(), head(whole).as_bytes(), portions)
    }

    #[test]
    fn a_room_comes_back_as_it_was() {
        for settings in [
            SessionSettings::default(),
            SessionSettings { turn_detection: None, modality: Modality::Text, ..SessionSettings::default() },
        ] {
            let before = Memory { settings, ..memory("a:b", u64::MAX - 1, 40..=60) };
            let portions = [(44, events(&before.events[..5])), (60, events(&before.events[5..]))];
            assert_eq!(read_back(&before, &portions), Ok(before));
        }
    }

    #[test]
    fn no_event_is_taken_from_before_a_gap() {
        let whole = memory("a", 1, 1..=9);
        let portion = |from: usize, to: usize| (to as u64, events(&whole.events[from..to]));
        let kept = |portions: &[(u64, Vec<u8>)]| {
            let memory = read_back(&whole, portions).expect("readable");
            (memory.oldest, memory.events)
        };
        assert_eq!(kept(&[portion(0, 3), portion(3, 9)]), (1, whole.events.clone()));
        assert_eq!(kept(&[portion(0, 3), portion(4, 9)]), (5, whole.events[4..].to_vec()));
        assert_eq!(kept(&[portion(0, 3), portion(3, 8)]), (10, Vec::new()));
        assert_eq!(kept(&[]), (10, Vec::new()));
    }

    #[test]
    fn what_is_damaged_or_of_another_release_is_not_taken() {
        let whole = memory("a", 1, 1..=3);
        let session = || whole.session.clone();
        let text = head(&whole);
        for bad in [
            "",
            "{}",
            &text[..text.len() - 1],
            &text.replace("\"format\":1", "\"format\":2"),
            &text.replace("relay", "rely"),
            &text.replace("pcm16", "mp3"),
        ] {
            assert_eq!(room(session(), bad.as_bytes()), Err(Unreadable), "{bad}");
        }
        let bytes = events(&whole.events);
        let read = |bytes: &[u8]| read_back(&whole, &[(3, bytes.to_vec())]).map(|memory| memory.events.len());
        assert_eq!(read(&bytes), Ok(3));
        assert_eq!(read(&bytes[..bytes.len() - 1]), Err(Unreadable));
        assert_eq!(read(&[&bytes[..], &bytes[..]].concat()), Err(Unreadable), "more events than numbers");
        let mut kind = bytes.clone();
        kind[0] = 9;
        assert_eq!(read(&kind), Err(Unreadable));
    }
}
