//! What holds for every stream.

use proptest::collection::vec;
use proptest::prelude::*;

use super::test_frames::*;
use super::{Decoder, Violation};

const MAX: usize = 4_096;

/// A message as the frames that carry it, with pings between them, and what should come out.
fn message() -> impl Strategy<Value = (Vec<u8>, Vec<Got>)> {
    let payload = prop_oneof![
        "\\PC{0,60}".prop_map(|text| (TEXT, text.into_bytes())),
        vec(any::<u8>(), 0..700).prop_map(|bytes| (BINARY, bytes)),
    ];
    (payload, vec((any::<prop::sample::Index>(), any::<bool>()), 0..4)).prop_map(
        |((opcode, payload), cuts)| {
            let mut cuts: Vec<_> =
                cuts.into_iter().map(|(at, ping)| (at.index(payload.len() + 1), ping)).collect();
            cuts.sort_unstable();
            let (mut stream, mut expected, mut start, mut first) = (Vec::new(), Vec::new(), 0, opcode);
            for (end, ping) in cuts {
                stream.extend(frame(first, &payload[start..end]));
                (start, first) = (end, CONTINUE);
                if ping {
                    stream.extend(frame(FIN | PING, &[end as u8]));
                    expected.push(Got::Ping(vec![end as u8]));
                }
            }
            stream.extend(frame(FIN | first, &payload[start..]));
            expected.push(match opcode {
                TEXT => Got::Text(String::from_utf8(payload).expect("made from a string")),
                _ => Got::Binary(payload),
            });
            (stream, expected)
        },
    )
}

/// Bytes that often look like frames.
fn noise() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![
        any::<u8>(),
        prop::sample::select(vec![0x00, 0x01, 0x02, 0x80, 0x81, 0x82, 0x88, 0x89, 0x8a, 0xfe, 0xff]),
    ];
    vec(byte, 0..400)
}

proptest! {
    #[test]
    fn any_cutting_of_a_valid_stream_gives_its_messages(
        messages in vec(message(), 0..6),
        cuts in vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let stream: Vec<u8> = messages.iter().flat_map(|(stream, _)| stream.clone()).collect();
        let expected: Vec<Got> = messages.into_iter().flat_map(|(_, expected)| expected).collect();
        prop_assert_eq!(decode_pieces(Decoder::new(), pieces(&stream, &cuts), MAX), expected);
    }

    #[test]
    fn any_cutting_of_any_bytes_gives_the_same(
        stream in noise(),
        cuts in vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let whole = decode_pieces(Decoder::new(), [stream.as_slice()], MAX);
        prop_assert_eq!(decode_pieces(Decoder::new(), pieces(&stream, &cuts), MAX), whole);
        let whole = decode_pieces(Decoder::for_client(), [stream.as_slice()], MAX);
        prop_assert_eq!(decode_pieces(Decoder::for_client(), pieces(&stream, &cuts), MAX), whole);
    }

    #[test]
    fn what_is_held_never_exceeds_the_longest_message(stream in noise(), max in 0_usize..300) {
        let mut stream = stream;
        let mut decoder = Decoder::new();
        for piece in stream.chunks_mut(5) {
            let mut bytes = piece;
            loop {
                match decoder.next(&mut bytes, max) {
                    Ok(Some(_)) => {}
                    Ok(None) => break,
                    Err(Violation { .. }) => {
                        prop_assert_eq!(decoder.held_bytes(), 0);
                        return Ok(());
                    }
                }
            }
            prop_assert!(decoder.held_bytes() <= max + 400);
        }
    }
}
