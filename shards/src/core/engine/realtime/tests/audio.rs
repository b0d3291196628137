//! Audio, both ways.

use serde_json::json;

use super::rig::{Rig, Seen, noise};
use crate::core::event::{AudioFormat, ClientCommand, Codec};
use crate::core::ids::MemberNumber;

#[test]
fn what_one_turn_brings_goes_out_as_one_append_in_order() {
    let (mut rig, line) = Rig::ready();
    let audio = noise(1, 960 * 3 + 500);
    rig.hear(&audio);
    assert_eq!(rig.got(line), ["input_audio_buffer.append"]);
    assert_eq!(rig.heard(line), audio);
}

#[test]
fn appends_hold_a_chunk_at_most_and_commands_stay_behind_their_audio() {
    let (mut rig, line) = Rig::ready();
    let audio = noise(2, 960 * 10);
    rig.hear(&audio);
    rig.command(ClientCommand::Commit);
    assert_eq!(
        rig.got(line),
        ["input_audio_buffer.append"; 3].into_iter().chain(["input_audio_buffer.commit"]).collect::<Vec<_>>()
    );
    assert_eq!(rig.heard(line), audio);
    for (_, message) in &rig.sent[..3] {
        assert!(message["audio"].as_str().expect("base64").len() <= 4_096 / 3 * 4);
    }
}

#[test]
fn deltas_become_frames_of_whole_samples_with_their_place_in_the_response() {
    let (mut rig, line) = Rig::ready();
    rig.begin_response(line, "r");
    let audio = noise(3, 4_801 + 4_097 + 1_902);
    rig.delta(line, "r", &audio[..4_801]);
    rig.delta(line, "r", &audio[4_801..4_801 + 4_097]);
    rig.delta(line, "r", &audio[4_801 + 4_097..]);
    assert_eq!(rig.played(), audio);
    let mut before = 0;
    for seen in &rig.seen[1..] {
        let Seen::Audio { bytes, first, timestamp_ms, .. } = seen else { panic!("{seen:?}") };
        assert!(bytes.len() <= 4_096 && bytes.len().is_multiple_of(2));
        assert_eq!((*first, *timestamp_ms), (before == 0, before as u32 / 48));
        before += bytes.len();
    }
}

#[test]
fn audio_written_unusually_is_heard_all_the_same() {
    let (mut rig, line) = Rig::ready();
    rig.begin_response(line, "r");
    let audio = noise(4, 3_000);
    let text = base64_simd::STANDARD.encode_to_string(&audio).replace('/', "\\/");
    let event = format!(
        " {{ \"delta\" : \"{text}\",\n\"item_id\":\"i\",\"output_index\":0,\"content_index\":0,\"\\u0074ype\":\"response.audio.delta\",\"response_id\":\"r\" }} "
    );
    rig.say_raw(line, event.as_bytes());
    assert_eq!(rig.played(), audio);
}

#[test]
fn a_delta_of_two_mebibytes_is_whole() {
    let (mut rig, line) = Rig::ready();
    rig.begin_response(line, "r");
    let audio = noise(5, (2 << 20) / 4 * 3);
    rig.delta(line, "r", &audio);
    assert!(rig.played() == audio);
}

#[test]
fn a_room_at_16_khz_is_resampled_both_ways() {
    let mut rig = Rig::new();
    rig.settings.format.rate = 16_000;
    rig.hear(&[0; 640]);
    let line = rig.greet();
    let format = &rig.message("session.update")["session"]["audio"]["input"]["format"];
    assert_eq!(format, &json!({ "type": "audio/pcm", "rate": 24_000 }));
    rig.forget();
    for _ in 0..10 {
        rig.hear(&[1; 640]);
    }
    assert_eq!(rig.heard(line).len(), 9_600);
    rig.begin_response(line, "r");
    rig.delta(line, "r", &[1; 9_600]);
    assert_eq!(rig.played().len(), 6_400);
}

#[test]
fn a_room_may_keep_its_rate_where_the_model_server_takes_it() {
    let mut rig = Rig::new();
    (rig.settings.format.rate, rig.config.realtime.pcm16_rate) = (16_000, 0);
    rig.hear(&[0; 640]);
    let line = rig.greet();
    let format = &rig.message("session.update")["session"]["audio"]["output"]["format"];
    assert_eq!(format, &json!({ "type": "audio/pcm", "rate": 16_000 }));
    let audio = noise(6, 640);
    rig.forget();
    rig.hear(&audio);
    assert_eq!(rig.heard(line), audio);
}

#[test]
fn g711_passes_as_it_is_and_opus_is_refused_once() {
    let mut rig = Rig::new();
    rig.settings.format = AudioFormat { codec: Codec::G711Ulaw, rate: 8_000 };
    let audio = noise(7, 161);
    rig.hear(&audio);
    let line = rig.greet();
    assert_eq!(
        rig.message("session.update")["session"]["audio"]["input"]["format"],
        json!({ "type": "audio/pcmu" })
    );
    assert_eq!(rig.heard(line), audio);

    let mut rig = Rig::new();
    rig.settings.format = AudioFormat { codec: Codec::Opus, rate: 48_000 };
    rig.hear(&[1; 50]);
    rig.hear(&[1; 50]);
    assert_eq!(rig.errors(), ["audio_format_not_supported"]);
    assert!(rig.dialled.is_empty());
}

#[test]
fn one_member_has_the_floor_until_it_is_silent_or_gone() {
    let (mut rig, line) = Rig::ready();
    let (one, two) = (noise(8, 960), noise(9, 960));
    rig.hear(&one);
    rig.hear_from(MemberNumber(2), &two);
    assert_eq!(rig.heard(line), one);
    rig.wait(1_000);
    rig.hear_from(MemberNumber(2), &two);
    assert_eq!(rig.heard(line), [one, two].concat());
}

#[test]
fn the_steady_state_takes_no_block_from_the_allocator() {
    let (mut rig, line) = Rig::ready();
    rig.begin_response(line, "r");
    let audio = noise(10, 1_920);
    let round = |rig: &mut Rig| {
        rig.hear(&audio[..960]);
        rig.delta(line, "r", &audio);
        rig.forget();
    };
    (0..10).for_each(|_| round(&mut rig));
    let before = rig.pool.allocated();
    (0..100).for_each(|_| round(&mut rig));
    assert_eq!(rig.pool.allocated(), before);
}
