//! Messages compressed and inflated.

use shards::core::deflate::{Compressor, Inflater, WindowBits};
use shards::core::ws::CloseCode;

use crate::pieces::choice;

/// A message that must come through whatever came before it.
const WITNESS: &[u8] = b"\xf2\x48\xcd\xc9\xc9\x07\x00";
/// What inflating begins with; the bound counts from there.
const OUTPUT_RETAINED_BYTES: usize = 64 << 10;

/// The first byte says what the rest is: a payload to inflate, under one of several bounds; or a message to compress, with
/// one of several windows, and a bit of it to turn over on the way.
pub(crate) fn run(bytes: &[u8]) {
    let (conditions, rest) = choice(bytes);
    let mut inflater = Inflater::default();
    if conditions & 1 == 0 {
        let max = [0, 1, 5, 100, 4_095, 4_096, 10_000, 200_000][usize::from(conditions >> 1 & 7)];
        inflate(&mut inflater, rest, max);
    } else {
        compress(&mut inflater, rest, conditions >> 1);
    }
    let witness = inflater.inflate(WITNESS, 5).expect("a good message inflates after any other");
    assert_eq!(witness, b"Hello");
}

fn inflate(inflater: &mut Inflater, payload: &[u8], max: usize) -> Option<Vec<u8>> {
    match inflater.inflate(payload, max) {
        Ok(message) => {
            assert!(message.len() <= max, "{} bytes, where {max} are allowed", message.len());
            assert!(message.capacity() <= (max + 1).max(OUTPUT_RETAINED_BYTES));
            let again = Inflater::default().inflate(payload, message.len());
            assert_eq!(again.as_ref(), Ok(&message), "just within the bound, without a past");
            if let Some(less) = message.len().checked_sub(1) {
                let cut = Inflater::default().inflate(payload, less);
                let error = cut.expect_err("one byte too many is too many");
                assert_eq!(error.code, CloseCode::Size);
            }
            let kept = message.clone();
            inflater.put_back(message);
            Some(kept)
        }
        Err(violation) => {
            assert!(matches!(violation.code, CloseCode::Size | CloseCode::Invalid), "{violation}");
            None
        }
    }
}

fn compress(inflater: &mut Inflater, message: &[u8], conditions: u8) {
    let mut compressor = Compressor::default();
    let window = WindowBits::new(9 + conditions % 7).expect("from 9 to 15");
    let Some(compressed) = compressor.compress(window, message).map(<[u8]>::to_vec) else { return };
    assert!(compressed.len() < message.len());
    assert_eq!(inflate(inflater, &compressed, message.len()).as_deref(), Some(message));
    let again = compressor.compress(window, message);
    assert_eq!(again, Some(&compressed[..]), "nothing is remembered");
    let mut damaged = compressed;
    let at = usize::from(message[0]) * damaged.len() / 256;
    damaged[at] ^= 1 << (conditions & 7);
    inflate(inflater, &damaged, message.len());
}
