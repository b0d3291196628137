//! The WebSocket codec: from received bytes to a message, in place, and from a message to a server's frame.
//!
//! Decoding unmasks the buffer where it lies, so that it alternates between masked and plain from one iteration to
//! the next; key and text are ASCII and so is their XOR, so that it is a valid message either way and nothing
//! has to be restored. A key of zero skips unmasking: `binary` less `binary_key_zero` is what unmasking costs.

use divan::counter::BytesCount;
use divan::{Bencher, black_box};
use shards::core::FramePool;
use shards::core::frame::{BINARY, TEXT};
use shards::core::ws::{Decoder, Item, OpCode};

use crate::client::frame;

/// A small event, 20 ms of audio, a large event.
const SIZES: [usize; 3] = [40, 640, 16_384];
const MESSAGE_BYTES_MAX: usize = 1 << 20;
const KEY: [u8; 4] = [1, 2, 3, 4];

/// Decodes one frame that arrives in two pieces, or in one where `cut` is its length.
fn decode(bencher: Bencher, opcode: OpCode, len: usize, key: [u8; 4], cut: impl Fn(usize) -> usize) {
    let payload: Vec<u8> = (0..len).map(|at| b'a' + (at % 26) as u8).collect();
    let mut frame = frame(opcode.into(), key, &payload);
    let cut = cut(frame.len());
    let mut decoder = Decoder::new();
    bencher.counter(BytesCount::new(len)).bench_local(|| {
        let (mut first, mut second) = black_box(&mut frame[..]).split_at_mut(cut);
        if !second.is_empty() {
            let unfinished = decoder.next(&mut first, MESSAGE_BYTES_MAX);
            assert!(matches!(unfinished, Ok(None)));
            first = std::mem::take(&mut second);
        }
        match decoder.next(&mut first, MESSAGE_BYTES_MAX) {
            Ok(Some(Item::Binary(payload) | Item::Text(payload))) => black_box(payload.len()),
            other => panic!("the frame is a whole message, not {other:?}"),
        }
    });
}

/// A binary frame that lies whole in the buffer.
#[divan::bench(args = SIZES)]
fn binary(bencher: Bencher, len: usize) {
    decode(bencher, BINARY, len, KEY, |all| all);
}

/// The same without unmasking.
#[divan::bench(args = SIZES)]
fn binary_key_zero(bencher: Bencher, len: usize) {
    decode(bencher, BINARY, len, [0; 4], |all| all);
}

/// A binary frame cut in the middle: what has arrived is copied aside.
#[divan::bench(args = SIZES)]
fn binary_cut_in_two(bencher: Bencher, len: usize) {
    decode(bencher, BINARY, len, KEY, |all| all / 2);
}

/// A text frame that lies whole in the buffer, UTF-8 check included.
#[divan::bench(args = SIZES)]
fn text(bencher: Bencher, len: usize) {
    decode(bencher, TEXT, len, KEY, |all| all);
}

/// A text frame cut in the middle: checked as it comes.
#[divan::bench(args = SIZES)]
fn text_cut_in_two(bencher: Bencher, len: usize) {
    decode(bencher, TEXT, len, KEY, |all| all / 2);
}

/// A payload copied into a block of the pool, sealed as a server's frame, and the block given back.
#[divan::bench(args = SIZES)]
fn seal(bencher: Bencher, len: usize) {
    let mut pool = FramePool::default();
    let payload = vec![7_u8; len];
    bencher.counter(BytesCount::new(len)).bench_local(|| {
        let frame = pool.copy(black_box(&payload)).seal(BINARY);
        black_box(frame.wire().len());
        pool.recycle(frame);
    });
}
