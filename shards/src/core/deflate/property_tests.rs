//! What holds for every message, and for every payload that claims to be compressed.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// Messages that repeat themselves more or less.
fn message() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        vec(any::<u8>(), 0..5_000),
        (vec(any::<u8>(), 1..40), 1_usize..300).prop_map(|(word, times)| word.repeat(times)),
        vec("[a-c]{1,6}\":", 0..500).prop_map(|words| words.concat().into_bytes()),
    ]
}

proptest! {
    #[test]
    fn what_is_compressed_is_shorter_and_inflates_to_the_same(messages in vec((message(), 9_u8..=15), 1..8)) {
        let mut compressor = Compressor::default();
        let mut inflater = Inflater::default();
        for (message, bits) in messages {
            let window = WindowBits::new(bits).expect("from 9 to 15");
            let Some(compressed) = compressor.compress(window, &message) else { continue };
            prop_assert!(compressed.len() < message.len());
            let inflated = inflater.inflate(compressed, message.len());
            prop_assert_eq!(inflated.as_ref(), Ok(&message));
            inflater.put_back(inflated.expect("just seen"));
        }
    }

    #[test]
    fn no_payload_inflates_beyond_the_bound(
        payload in vec(any::<u8>(), 0..300),
        good in message(),
        flip in any::<prop::sample::Index>(),
        max in 0_usize..6_000,
    ) {
        let mut compressor = Compressor::default();
        let mut inflater = Inflater::default();
        let mut damaged = compressor.compress(WindowBits::MAX, &good).unwrap_or_default().to_vec();
        if !damaged.is_empty() {
            let at = flip.index(damaged.len() * 8);
            damaged[at / 8] ^= 1 << (at % 8);
        }
        for payload in [payload, damaged] {
            if let Ok(message) = inflater.inflate(&payload, max) {
                prop_assert!(message.len() <= max);
                inflater.put_back(message);
            }
        }
    }
}
