//! RFC 7692 section 6: where RSV1 may stand, and that a compressed message is taken from frames as any other.

use proptest::collection::vec;
use proptest::prelude::*;

use super::super::deflate::{Compressor, Inflater, WindowBits};
use super::test_frames::*;
use super::{CloseCode, Decoder, Rules};

const RSV1: u8 = 0x40;
const DEFLATE: Rules = Rules { message_bytes_max: 1 << 20, deflate: true };

#[track_caller]
fn assert_reserved(stream: &[u8], rules: Rules) {
    let got = decode(stream, rules);
    assert_eq!(got.last(), Some(&Got::Violation(CloseCode::Protocol, "reserved bit set")), "{stream:02x?}");
}

#[test]
fn section_6_rsv1_on_the_first_frame_says_compressed() {
    // The two forms of section 7.2.3.1: one frame, and two.
    let payload = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
    let whole = frame(FIN | RSV1 | TEXT, &payload);
    assert_eq!(decode(&whole, DEFLATE), [Got::Compressed(true, payload.to_vec())]);
    let fragments = [frame(RSV1 | TEXT, &payload[..3]), frame(FIN | CONTINUE, &payload[3..])].concat();
    assert_eq!(decode(&fragments, DEFLATE), [Got::Compressed(true, payload.to_vec())]);
    let binary = [frame(FIN | RSV1 | BINARY, &payload), frame(FIN | BINARY, b"not")].concat();
    assert_eq!(
        decode(&binary, DEFLATE),
        [Got::Compressed(false, payload.to_vec()), Got::Binary(b"not".into())]
    );
}

#[test]
fn section_6_a_message_without_rsv1_is_not_compressed() {
    let stream = [
        frame(RSV1 | TEXT, b"\xf2\x48"),
        frame(FIN | PING, b"between"),
        frame(FIN | CONTINUE, b"\xff"),
        frame(TEXT, "plain \u{e9}".as_bytes()),
        frame(FIN | CONTINUE, b"."),
    ]
    .concat();
    let expected = [
        Got::Ping(b"between".into()),
        Got::Compressed(true, b"\xf2\x48\xff".into()),
        Got::Text("plain \u{e9}.".into()),
    ];
    assert_eq!(decode(&stream, DEFLATE), expected);
    let bad = frame(FIN | TEXT, b"\xff");
    assert_eq!(decode(&bad, DEFLATE), [Got::Violation(CloseCode::Invalid, "text is not valid UTF-8")]);
}

#[test]
fn section_6_1_rsv1_on_another_frame_fails() {
    for opcode in [PING, PONG, CLOSE] {
        assert_reserved(&frame(FIN | RSV1 | opcode, b""), DEFLATE);
    }
    assert_reserved(&[frame(TEXT, b"a"), frame(FIN | RSV1 | CONTINUE, b"b")].concat(), DEFLATE);
    assert_reserved(&[frame(RSV1 | TEXT, b"a"), frame(FIN | RSV1 | CONTINUE, b"b")].concat(), DEFLATE);
}

#[test]
fn section_6_the_other_reserved_bits_stay_reserved() {
    for bits in [0x20, 0x10, 0x30, RSV1 | 0x20, RSV1 | 0x10] {
        assert_reserved(&frame(FIN | bits | TEXT, b"x"), DEFLATE);
    }
}

#[test]
fn section_5_rsv1_without_negotiation_fails() {
    let plain = Rules { deflate: false, ..DEFLATE };
    for opcode in [TEXT, BINARY] {
        assert_reserved(&frame(FIN | RSV1 | opcode, &[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00]), plain);
    }
}

#[test]
fn what_travels_is_bounded_before_it_is_inflated() {
    let rules = Rules { message_bytes_max: 100, deflate: true };
    let too_big = [Got::Violation(CloseCode::Size, "message is too big")];
    assert_eq!(decode(&frame(FIN | RSV1 | TEXT, &[0; 101]), rules), too_big);
    let fragments = [frame(RSV1 | TEXT, &[0; 60]), frame(FIN | CONTINUE, &[0; 41])].concat();
    assert_eq!(decode(&fragments, rules), too_big);
}

/// The frames of a message, cut at these places, compressed if that makes it shorter.
fn frames_of(text: &str, cuts: &[prop::sample::Index], compressor: &mut Compressor) -> Vec<u8> {
    let compressed = compressor.compress(WindowBits::MAX, text.as_bytes());
    let (payload, bit) = compressed.map_or((text.as_bytes(), 0), |compressed| (compressed, RSV1));
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(payload.len() + 1)).collect();
    cuts.sort_unstable();
    let (mut stream, mut start, mut first) = (Vec::new(), 0, bit | TEXT);
    for end in cuts {
        stream.extend(frame(first, &payload[start..end]));
        (start, first) = (end, CONTINUE);
    }
    stream.extend(frame(FIN | first, &payload[start..]));
    stream
}

proptest! {
    #[test]
    fn any_message_comes_out_however_it_is_cut_into_frames_and_pieces(
        messages in vec(("(\\PC{1,9}){0,30}", 1_usize..8, vec(any::<prop::sample::Index>(), 0..4)), 1..5),
        cuts in vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let mut compressor = Compressor::default();
        let mut stream = Vec::new();
        let mut expected = Vec::new();
        for (word, times, frame_cuts) in messages {
            let text = word.repeat(times);
            stream.extend(frames_of(&text, &frame_cuts, &mut compressor));
            expected.push(text);
        }
        let mut inflater = Inflater::default();
        let got = decode_pieces(Decoder::new(), pieces(&stream, &cuts), DEFLATE);
        let texts: Vec<String> = got
            .into_iter()
            .map(|item| match item {
                Got::Text(text) => text,
                Got::Compressed(true, payload) => {
                    let message = inflater.inflate(&payload, 1 << 20).expect("valid");
                    String::from_utf8(message).expect("text")
                }
                other => panic!("{other:?}"),
            })
            .collect();
        prop_assert_eq!(texts, expected);
    }
}
