//! Base64 as RFC 4648 section 4 has it, strictly: standard alphabet, padded, canonical, nothing between.

const INVALID: u8 = 0xff;

const VALUES: [u8; 256] = {
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut values = [INVALID; 256];
    let mut at = 0;
    while at < alphabet.len() {
        values[alphabet[at] as usize] = at as u8;
        at += 1;
    }
    values
};

/// The text is not strict base64.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct BadBase64;

/// Appends the decoded bytes.
///
/// # Errors
/// When the text is not strict base64; what was appended until then stays.
pub(super) fn decode(text: &[u8], out: &mut Vec<u8>) -> Result<(), BadBase64> {
    let (quads, []) = text.as_chunks::<4>() else {
        return Err(BadBase64);
    };
    let Some((last, body)) = quads.split_last() else {
        return Ok(());
    };
    out.reserve(quads.len() * 3);
    for quad in body {
        out.extend_from_slice(&decode_quad(quad)?);
    }
    match last {
        [_, _, b'=', b'='] => {
            let [first, second, _] = decode_quad(&[last[0], last[1], b'A', b'A'])?;
            out.push(first);
            if second == 0 { Ok(()) } else { Err(BadBase64) }
        }
        [_, _, _, b'='] => {
            let [first, second, third] = decode_quad(&[last[0], last[1], last[2], b'A'])?;
            out.extend_from_slice(&[first, second]);
            if third == 0 { Ok(()) } else { Err(BadBase64) }
        }
        quad => {
            out.extend_from_slice(&decode_quad(quad)?);
            Ok(())
        }
    }
}

fn decode_quad(quad: &[u8; 4]) -> Result<[u8; 3], BadBase64> {
    let [a, b, c, d] = quad.map(|byte| VALUES[byte as usize]);
    // Values take six bits, so only the mark of an invalid byte sets the seventh.
    if (a | b | c | d) & 0x40 != 0 {
        return Err(BadBase64);
    }
    Ok([a << 2 | b >> 4, b << 4 | c >> 2, c << 6 | d])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(text: &str) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        decode(text.as_bytes(), &mut out).ok().map(|()| out)
    }

    #[test]
    fn the_vectors_of_rfc_4648_decode() {
        let vectors = [
            ("", ""),
            ("Zg==", "f"),
            ("Zm8=", "fo"),
            ("Zm9v", "foo"),
            ("Zm9vYg==", "foob"),
            ("Zm9vYmFy", "foobar"),
        ];
        for (text, bytes) in vectors {
            assert_eq!(decoded(text).as_deref(), Some(bytes.as_bytes()), "{text}");
        }
        assert_eq!(decoded("+/+/"), Some(vec![0xfb, 0xff, 0xbf]));
    }

    #[test]
    fn what_is_not_strict_is_refused() {
        for bad in [
            "Z", "Zg", "Zg=", "Zg===", "Zh==", "Zm9=", "Zm 9", "Zm9v\n", "Zm-_", "====", "Z===", "Zg==Zg==",
            "é==",
        ] {
            assert_eq!(decoded(bad), None, "{bad:?}");
        }
    }
}
