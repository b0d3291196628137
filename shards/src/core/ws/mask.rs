//! Masking (RFC 6455 section 5.3).

/// The bytes that one step handles: as an array, so that the compiler uses vector registers without being told.
const BLOCK: usize = 32;

/// Masks or unmasks in place. `key` is that of the first byte; a frame that arrives in pieces turns it by what has
/// been handled. A key of zero is no mask.
pub(in crate::core) fn apply(bytes: &mut [u8], key: [u8; 4]) {
    if key == [0; 4] {
        return;
    }
    let mut wide = [0; BLOCK];
    for (at, byte) in wide.iter_mut().enumerate() {
        *byte = key[at % 4];
    }
    let (blocks, rest) = bytes.as_chunks_mut::<BLOCK>();
    for block in blocks {
        xor(block, &wide);
    }
    let (words, rest) = rest.as_chunks_mut::<4>();
    for word in words {
        xor(word, &key);
    }
    for (byte, key) in rest.iter_mut().zip(key) {
        *byte ^= key;
    }
}

fn xor<const N: usize>(bytes: &mut [u8; N], with: &[u8; N]) {
    for (byte, with) in bytes.iter_mut().zip(with) {
        *byte ^= with;
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_length_equals_the_formula_of_section_5_3() {
        let key = [0x37, 0xfa, 0x21, 0x3d];
        for len in 0..200_usize {
            let plain: Vec<u8> = (0..len).map(|i| (i * 7) as u8).collect();
            let mut bytes = plain.clone();
            super::apply(&mut bytes, key);
            let expected: Vec<u8> = plain.iter().enumerate().map(|(i, byte)| byte ^ key[i % 4]).collect();
            assert_eq!(bytes, expected, "{len} bytes");
        }
    }
}
