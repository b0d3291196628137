//! Whom it hears, and what it takes for speech.

use proptest::prelude::*;

use super::super::g711;
use super::room::{Room, SPEAKER, silence, voice};
use crate::core::engine::EngineInput;
use crate::core::event::{AudioFormat, ClientCommand, Codec, SessionSettings};
use crate::core::ids::MemberNumber;

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

#[test]
fn a_clear_empties_the_utterance() {
    let mut room = Room::manual();
    room.hear(&voice(300));
    room.command(ClientCommand::Clear);
    room.command(ClientCommand::Commit);
    assert_eq!(room.names(), ["input_audio_buffer.cleared", "error"]);
}

#[test]
fn the_audio_of_a_member_who_left_is_forgotten_and_the_floor_is_free() {
    let other = MemberNumber(2);
    for mut room in [Room::manual(), Room::new(SessionSettings::default())] {
        room.hear(&voice(300));
        room.handle(EngineInput::Left { member: SPEAKER });
        assert_eq!(room.event("input_audio_buffer.cleared")["type"], "input_audio_buffer.cleared");
        assert_eq!(room.engine.deadline(), None);
        room.hear_at_once(other, &voice(100));
        room.command(ClientCommand::Commit);
        room.create();
        room.wait(1_000);
        assert_eq!(room.played(), voice(100));
    }
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
