//! Where inputs are cut: nothing that reads from a socket may care.

use xxhash_rust::xxh3::xxh3_64;

/// The bytes in pieces, none of them empty, cut at places that follow from the bytes: a few, or after every byte.
pub(crate) fn pieces(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut hash = xxh3_64(bytes);
    let longest = match hash & 3 {
        0 => 1,
        1 => 3,
        2 => 1 + bytes.len() / 3,
        _ => 1 + bytes.len() / 8,
    };
    let mut rest = bytes;
    std::iter::from_fn(move || {
        hash = hash.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
        let len = (1 + (hash % longest as u64) as usize).min(rest.len());
        let piece = rest.split_off(..len)?;
        (!piece.is_empty()).then_some(piece)
    })
}

/// A first byte that chooses conditions, and the rest. An empty input has none.
pub(crate) fn choice(bytes: &[u8]) -> (u8, &[u8]) {
    bytes.split_first().map_or((0, bytes), |(first, rest)| (*first, rest))
}
