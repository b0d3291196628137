//! RFC 7692, clause by clause: the examples of section 7.2.3, what is sent, and what is not inflated.

use super::super::ws::{CloseCode, Violation};
use super::*;

const MAX: usize = 1 << 20;

#[track_caller]
fn assert_inflates(payload: &[u8], expected: &[u8]) {
    assert_eq!(Inflater::default().inflate(payload, MAX).as_deref(), Ok(expected), "{payload:02x?}");
}

#[track_caller]
fn assert_corrupt(payload: &[u8]) {
    let Err(Violation { code, reason }) = Inflater::default().inflate(payload, MAX) else {
        panic!("{payload:02x?} was inflated");
    };
    assert_eq!((code, reason), (CloseCode::Invalid, "compressed data is corrupt"), "{payload:02x?}");
}

#[test]
fn section_7_2_3_1_one_block() {
    assert_inflates(&[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00], b"Hello");
}

#[test]
fn section_7_2_3_2_a_message_inflates_without_the_window_of_the_last() {
    let mut inflater = Inflater::default();
    let hello = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
    for _ in 0..3 {
        let message = inflater.inflate(&hello, MAX).expect("valid");
        assert_eq!(message, b"Hello");
        inflater.put_back(message);
    }
    // The second message of the RFC's example refers to the first: that was agreed not to happen.
    let Err(violation) = inflater.inflate(&[0xf2, 0x00, 0x11, 0x00, 0x00], MAX) else { panic!("inflated") };
    assert_eq!(violation.code, CloseCode::Invalid);
    assert_eq!(inflater.inflate(&hello, MAX).as_deref(), Ok(&b"Hello"[..]), "an error leaves nothing behind");
}

#[test]
fn section_7_2_3_3_a_block_without_compression() {
    assert_inflates(&[0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00], b"Hello");
}

#[test]
fn section_7_2_3_4_a_block_flagged_as_final() {
    let hello = [0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
    assert_inflates(&[&hello[..], &[0x00]].concat(), b"Hello");
    // Others may follow, final or not.
    assert_inflates(
        &[&hello[..], &hello, &[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00]].concat(),
        b"HelloHelloHello",
    );
    // Without the octet that step 2 of section 7.2.1 appends, it is no message.
    assert_corrupt(&hello);
}

#[test]
fn section_7_2_3_4_final_blocks_are_counted() {
    let empty_and_final = [0x03, 0x00];
    assert_inflates(&[&empty_and_final.repeat(1_000)[..], &[0x00]].concat(), b"");
    assert_corrupt(&[&empty_and_final.repeat(2_000)[..], &[0x00]].concat());
}

#[test]
fn section_7_2_3_5_two_blocks() {
    let blocks = [0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00];
    assert_inflates(&blocks, b"Hello");
}

#[test]
fn section_7_2_3_6_an_empty_message() {
    assert_inflates(&[0x00], b"");
    assert_inflates(&[0x02, 0x00], b"");
    // The octet before the tail always travels.
    assert_corrupt(&[]);
}

#[test]
fn section_7_2_1_the_tail_does_not_travel() {
    let mut compressor = Compressor::default();
    let text = "seven times: ".repeat(7);
    let compressed = compressor.compress(WindowBits::MAX, text.as_bytes()).expect("it repeats itself");
    assert!(!compressed.ends_with(&TAIL));
    assert_eq!(compressed.last(), Some(&0x00), "what is left of the empty block");
    assert_inflates(compressed, text.as_bytes());
}

#[test]
fn section_7_1_1_1_equal_messages_are_compressed_alike() {
    let mut compressor = Compressor::default();
    let text = "the same again, and the same again";
    let first = compressor.compress(WindowBits::MAX, text.as_bytes()).expect("shorter").to_vec();
    compressor.compress(WindowBits::MAX, b"something else, else, else, else, else");
    assert_eq!(compressor.compress(WindowBits::MAX, text.as_bytes()), Some(&first[..]));
}

#[test]
fn section_7_1_2_1_no_window_is_exceeded() {
    // Noise that comes again after 60 bytes, and after 20,000: only a window that reaches so far can use it.
    let noise = |len: u32| -> Vec<u8> {
        (0..len)
            .map(|i| (i.wrapping_mul(2_654_435_761) ^ (i >> 3).wrapping_mul(40_503)) as u8 ^ (i >> 7) as u8)
            .collect()
    };
    let mut compressor = Compressor::default();
    for (period, smallest) in [(60_u32, 9_u8), (20_000, 15)] {
        let message: Vec<u8> = noise(period).repeat(20);
        for bits in 9..=15 {
            let window = WindowBits::new(bits).expect("there is one");
            let compressed = compressor.compress(window, &message).map(<[u8]>::to_vec);
            if bits < smallest {
                assert!(compressed.is_none_or(|short| short.len() * 2 > message.len()), "{period} {bits}");
                continue;
            }
            let compressed = compressed.expect("most of it is known");
            assert!(compressed.len() * 2 < message.len(), "{period} {bits}: {}", compressed.len());
            // A client with just that window understands it.
            let mut client = flate2::Decompress::new_with_window_bits(false, bits);
            let mut out = Vec::with_capacity(message.len() + 1);
            let whole = [&compressed[..], &TAIL].concat();
            let mut input = &whole[..];
            while !input.is_empty() {
                let before = client.total_in();
                client
                    .decompress_vec(input, &mut out, flate2::FlushDecompress::None)
                    .expect("within the window");
                input = &input[(client.total_in() - before) as usize..];
            }
            assert_eq!(out, message, "{period} {bits}");
        }
    }
}

#[test]
fn section_6_what_would_not_shrink_is_not_compressed() {
    let mut compressor = Compressor::default();
    for message in [&b""[..], b"a", b"\x00\xff\x13\x37 no byte twice"] {
        assert_eq!(compressor.compress(WindowBits::MAX, message), None, "{message:?}");
    }
}

#[test]
fn data_that_is_no_deflate_is_corrupt() {
    assert_corrupt(&[0xff]); // Block type 3 is reserved.
    assert_corrupt(&[0x00, 0x05, 0x00, 0x00, 0x00, 0x48]); // A length and its complement that don't agree.
    assert_corrupt(b"plain text, by a client that forgot to compress");
}

#[test]
fn a_message_cut_short_is_corrupt() {
    let mut compressor = Compressor::default();
    let text: String = (0..200).map(|i| format!("{{\"number\":{i}}},")).collect();
    let compressed = compressor.compress(WindowBits::MAX, text.as_bytes()).expect("shorter").to_vec();
    for len in 1..compressed.len() {
        assert_corrupt(&compressed[..len]);
    }
}

#[test]
fn a_message_is_inflated_up_to_the_bound_and_no_further() {
    let mut compressor = Compressor::default();
    let mut inflater = Inflater::default();
    for len in [1_000_usize, 5_000, 100_000] {
        let message = vec![7; len];
        let compressed = compressor.compress(WindowBits::MAX, &message).expect("shorter");
        let inflated = inflater.inflate(compressed, len).expect("just within");
        assert_eq!(inflated, message);
        inflater.put_back(inflated);
        for max in [len - 1, len / 2, 0] {
            let Err(violation) = inflater.inflate(compressed, max) else { panic!("{len} in {max}") };
            assert_eq!(violation.code, CloseCode::Size);
        }
    }
}
