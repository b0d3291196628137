//! The bug on purpose.

/// Reads fields that say how long they are: `name length bytes…`, up to the name 0. It believes the length that a field
/// of the name `h` tells behind others, as a parser did that is remembered for it.
pub(crate) fn run(bytes: &[u8]) {
    let mut rest = bytes;
    let mut fields = 0;
    while let [name, len, after @ ..] = rest
        && *name != 0
    {
        let len = usize::from(*len);
        let believed = *name == b'h' && fields > 0;
        if len > after.len() && !believed {
            return;
        }
        rest = &after[len..];
        fields += 1;
    }
}
