//! RFC 6455, clause by clause. Every stream is also decoded cut at each byte boundary: see [`super::test_frames`].

use super::test_frames::*;
use super::{CloseCode, Decoder, Item};

const MAX: usize = 1 << 20;

fn decode_all(frames: &[&[u8]]) -> Vec<Got> {
    decode(&frames.concat(), MAX)
}

#[track_caller]
fn assert_protocol_error(stream: &[u8], reason: &'static str) {
    let got = decode(stream, MAX);
    assert_eq!(got.last(), Some(&Got::Violation(CloseCode::Protocol, reason)), "{stream:02x?}");
}

#[track_caller]
fn assert_bad_utf8(stream: &[u8]) {
    let got = decode(stream, MAX);
    assert_eq!(got, [Got::Violation(CloseCode::Invalid, "text is not valid UTF-8")], "{stream:02x?}");
}

#[test]
fn section_5_1_a_client_frame_without_a_mask_fails() {
    assert_protocol_error(b"\x81\x05Hello", "frame is not masked");
    assert_protocol_error(b"\x89\x00", "frame is not masked");
}

#[test]
fn section_5_1_a_server_frame_with_a_mask_fails() {
    let stream = frame(FIN | TEXT, b"Hello");
    let got = decode_pieces(Decoder::for_client(), [stream.as_slice()], MAX);
    assert_eq!(got, [Got::Violation(CloseCode::Protocol, "frame is masked")]);
}

#[test]
fn section_5_2_reserved_bits_fail() {
    for bit in [0x40, 0x20, 0x10] {
        for opcode in [TEXT, BINARY, PING, CLOSE] {
            assert_protocol_error(&frame(FIN | bit | opcode, b"x"), "reserved bit set");
        }
    }
    // A reserved bit on a continuation is no better.
    let stream = [frame(TEXT, b"a"), frame(FIN | 0x40 | CONTINUE, b"b")].concat();
    assert_protocol_error(&stream, "reserved bit set");
}

#[test]
fn section_5_2_reserved_opcodes_fail() {
    for opcode in (3..=7).chain(11..=15) {
        assert_protocol_error(&frame(FIN | opcode, b""), "reserved opcode");
        assert_protocol_error(&frame(opcode, b"x"), "reserved opcode");
    }
}

#[test]
fn section_5_2_every_length_form_is_understood() {
    for len in [0_usize, 1, 125, 126, 127, 128, 300] {
        let payload = vec![0xfe; len];
        assert_eq!(decode(&frame(FIN | BINARY, &payload), MAX), [Got::Binary(payload)]);
    }
    for len in [65_535_usize, 65_536, 100_000] {
        let payload = vec![0xfe; len];
        let stream = frame(FIN | BINARY, &payload);
        assert_eq!(decode_pieces(Decoder::new(), [&stream[..]], MAX), [Got::Binary(payload.clone())]);
        assert_eq!(decode_pieces(Decoder::new(), stream.chunks(1_000), MAX), [Got::Binary(payload)]);
    }
}

#[test]
fn section_5_2_lengths_must_be_minimal() {
    for len in [0_u16, 125] {
        let stream = [&[0x82, 0xfe][..], &len.to_be_bytes(), &KEY, &[0; 125]].concat();
        assert_protocol_error(&stream, "length is not minimal");
    }
    for len in [0_u64, 125, 65_535] {
        let stream = [&[0x82, 0xff][..], &len.to_be_bytes(), &KEY, &[0; 125]].concat();
        assert_protocol_error(&stream, "length is not minimal");
    }
}

#[test]
fn section_5_2_a_length_with_its_highest_bit_set_fails() {
    let stream = [&[0x82, 0xff][..], &(1_u64 << 63).to_be_bytes(), &KEY].concat();
    assert_protocol_error(&stream, "length has its highest bit set");
}

#[test]
fn section_5_3_the_key_may_be_any_four_bytes() {
    for key in [[0; 4], [0xff; 4], [1, 2, 3, 4]] {
        let mut stream = header(FIN | TEXT, 11, Some(key));
        stream.extend(b"hello world".iter().enumerate().map(|(i, byte)| byte ^ key[i % 4]));
        assert_eq!(decode(&stream, MAX), [Got::Text("hello world".into())]);
    }
}

#[test]
fn section_5_4_fragments_make_one_message() {
    let got =
        decode_all(&[&frame(TEXT, b"Hel"), &frame(CONTINUE, b"lo, wor"), &frame(FIN | CONTINUE, b"ld")]);
    assert_eq!(got, [Got::Text("Hello, world".into())]);
    let got = decode_all(&[&frame(BINARY, b""), &frame(CONTINUE, b""), &frame(FIN | CONTINUE, b"")]);
    assert_eq!(got, [Got::Binary(vec![])]);
}

#[test]
fn section_5_4_control_frames_come_between_fragments_and_at_once() {
    let got = decode_all(&[
        &frame(TEXT, b"a"),
        &frame(FIN | PING, b"1"),
        &frame(CONTINUE, b"b"),
        &frame(FIN | PONG, b"2"),
        &frame(FIN | PING, b""),
        &frame(FIN | CONTINUE, b"c"),
        &frame(FIN | BINARY, b"next"),
    ]);
    let expected = [
        Got::Ping(b"1".into()),
        Got::Pong(b"2".into()),
        Got::Ping(vec![]),
        Got::Text("abc".into()),
        Got::Binary(b"next".into()),
    ];
    assert_eq!(got, expected);
    let got = decode_all(&[&frame(TEXT, b"a"), &frame(FIN | CLOSE, &close_payload(1000, b"")), b"junk"]);
    assert_eq!(got, [Got::Close(Some((1000, String::new())))]);
}

#[test]
fn section_5_4_a_continuation_needs_a_message() {
    assert_protocol_error(&frame(FIN | CONTINUE, b"x"), "continuation without a message");
    assert_protocol_error(&frame(CONTINUE, b"x"), "continuation without a message");
    let after = [frame(TEXT, b"a"), frame(FIN | CONTINUE, b"b"), frame(FIN | CONTINUE, b"c")].concat();
    assert_protocol_error(&after, "continuation without a message");
}

#[test]
fn section_5_4_messages_do_not_interleave() {
    for second in [TEXT, BINARY, FIN | TEXT, FIN | BINARY] {
        let stream = [frame(TEXT, b"a"), frame(second, b"b")].concat();
        assert_protocol_error(&stream, "new message within a fragmented one");
    }
}

#[test]
fn section_5_5_control_frames_are_whole_and_short() {
    for opcode in [PING, PONG, CLOSE] {
        assert_protocol_error(&frame(opcode, b""), "fragmented control frame");
        assert_protocol_error(&frame(FIN | opcode, &[0; 126]), "control frame is too long");
    }
    assert_eq!(decode(&frame(FIN | PING, &[7; 125]), MAX), [Got::Ping(vec![7; 125])]);
}

#[test]
fn section_5_5_1_close_may_be_empty_or_carry_code_and_reason() {
    assert_eq!(decode(&frame(FIN | CLOSE, b""), MAX), [Got::Close(None)]);
    let bye = frame(FIN | CLOSE, &close_payload(1000, "tschüß".as_bytes()));
    assert_eq!(decode(&bye, MAX), [Got::Close(Some((1000, "tschüß".into())))]);
    let longest = frame(FIN | CLOSE, &close_payload(4999, &[b'x'; 123]));
    assert_eq!(decode(&longest, MAX), [Got::Close(Some((4999, "x".repeat(123))))]);
}

#[test]
fn section_5_5_1_close_with_one_byte_fails() {
    assert_protocol_error(&frame(FIN | CLOSE, b"\x03"), "close payload of one byte");
}

#[test]
fn section_5_5_1_close_reason_must_be_utf8() {
    assert_bad_utf8(&frame(FIN | CLOSE, &close_payload(1000, b"\xce\xba\xff")));
    assert_bad_utf8(&frame(FIN | CLOSE, &close_payload(1000, b"cut \xce")));
}

#[test]
fn section_7_4_only_codes_for_the_wire_are_taken() {
    for code in (1000..=1003).chain(1007..=1014).chain([3000, 3999, 4000, 4999]) {
        let stream = frame(FIN | CLOSE, &close_payload(code, b""));
        assert_eq!(decode(&stream, MAX), [Got::Close(Some((code, String::new())))]);
    }
    for code in [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535] {
        assert_protocol_error(&frame(FIN | CLOSE, &close_payload(code, b"")), "close code may not be sent");
    }
}

#[test]
fn section_8_1_characters_may_be_cut_by_fragments() {
    let text = "κόσμε 🎧 ünï";
    for cut in 0..=text.len() {
        let (front, back) = text.as_bytes().split_at(cut);
        let got = decode_all(&[&frame(TEXT, front), &frame(FIN | CONTINUE, back)]);
        assert_eq!(got, [Got::Text(text.into())], "cut at {cut}");
    }
}

#[test]
fn section_8_1_bad_utf8_fails() {
    let bad: [&[u8]; 8] = [
        b"\xff",
        b"ok \x80",
        b"\xc0\xaf",
        b"\xed\xa0\x80",
        b"\xf4\x90\x80\x80",
        b"cut \xe2\x82",
        b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80edited",
        b"\xf8\x88\x80\x80\x80",
    ];
    for bytes in bad {
        assert_bad_utf8(&frame(FIN | TEXT, bytes));
        for cut in 0..bytes.len() {
            let (front, back) = bytes.split_at(cut);
            assert_bad_utf8(&[frame(TEXT, front), frame(FIN | CONTINUE, back)].concat());
        }
    }
    // The same bytes are welcome in a binary message.
    assert_eq!(decode(&frame(FIN | BINARY, b"\xff"), MAX), [Got::Binary(vec![0xff])]);
}

#[test]
fn section_8_1_bad_utf8_fails_at_the_first_bad_byte() {
    let stream = frame(FIN | TEXT, b"good \xed\xa0 and a long rest");
    let bad = stream.len() - b"\xa0 and a long rest".len();
    let before = decode_pieces(Decoder::new(), stream[..bad].chunks(1), MAX);
    assert_eq!(before, [], "nothing is wrong before the bad byte");
    let with_it = decode_pieces(Decoder::new(), stream[..=bad].chunks(1), MAX);
    assert_eq!(with_it, [Got::Violation(CloseCode::Invalid, "text is not valid UTF-8")]);
}

#[test]
fn section_10_4_the_limit_is_on_the_message_and_read_off_the_header() {
    let too_big = [Got::Violation(CloseCode::Size, "message is too big")];
    assert_eq!(decode(&frame(FIN | BINARY, &[0; 100]), 100), [Got::Binary(vec![0; 100])]);
    // The header alone is enough, even without its masking key.
    for len in [101, 70_000, i64::MAX as u64] {
        let header = header(FIN | BINARY, len, Some(KEY));
        assert_eq!(decode(&header[..header.len() - 4], 100), too_big, "{len}");
    }
    let fragments = [frame(BINARY, &[0; 60]), frame(CONTINUE, &[0; 40]), frame(FIN | CONTINUE, &[0; 1])];
    assert_eq!(decode(&fragments.concat(), 100), too_big);
    // Control frames between the fragments don't count.
    let with_ping = [frame(BINARY, &[0; 60]), frame(FIN | PING, &[0; 99]), frame(FIN | CONTINUE, &[0; 40])];
    assert_eq!(decode(&with_ping.concat(), 100), [Got::Ping(vec![0; 99]), Got::Binary(vec![0; 100])]);
}

#[test]
fn section_10_4_a_claimed_length_costs_no_memory() {
    let mut decoder = Decoder::new();
    let mut head = header(FIN | BINARY, MAX as u64, Some(KEY));
    head.extend([0; 10]);
    let mut bytes = head.as_mut_slice();
    assert_eq!(decoder.next(&mut bytes, MAX), Ok(None));
    assert!(decoder.held_bytes() < 512, "{} bytes for 10", decoder.held_bytes());
}

#[test]
fn memory_held_is_bounded_by_the_message_and_then_given_back() {
    let mut decoder = Decoder::new();
    let mut stream = frame(FIN | BINARY, &[1; 10_000]);
    stream.extend(frame(FIN | BINARY, b"whole"));
    for piece in stream.chunks_mut(7) {
        let mut bytes = piece;
        while let Some(item) = decoder.next(&mut bytes, 10_000).expect("all is valid") {
            assert!(matches!(item, Item::Binary(_)));
        }
        assert!(decoder.held_bytes() < 10_000 + 512);
    }
    assert_eq!(decoder.held_bytes(), 0);
}

#[test]
fn a_whole_frame_is_handed_out_where_it_was_received() {
    let mut stream = [frame(FIN | TEXT, b"in place"), frame(FIN | PING, b"p")].concat();
    let range = stream.as_ptr_range();
    let mut decoder = Decoder::new();
    let mut bytes = stream.as_mut_slice();
    let Ok(Some(Item::Text(text))) = decoder.next(&mut bytes, MAX) else { panic!("a text") };
    assert!(range.contains(&text.as_ptr()));
    assert_eq!(text, b"in place");
    assert_eq!(decoder.held_bytes(), 0);
    assert_eq!(decoder.next(&mut bytes, MAX), Ok(Some(Item::Ping(b"p"))));
    assert_eq!(decoder.next(&mut bytes, MAX), Ok(None));
    assert_eq!(decoder.held_bytes(), 0);
}
