//! Server-sent events in chunks, as a listener reads them (RFC 9112 section 7.1, and the WHATWG's event streams).

/// What the bytes of a chunked body begin with.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum Chunk<'b> {
    /// Text, and how many bytes the chunk took.
    Text(&'b [u8], usize),
    /// The last chunk: the body is over.
    End,
    /// Not a whole chunk.
    More,
    /// No chunk.
    Broken,
}

/// A size and what ends its line; a server may put a gigabyte into a chunk, and is not believed.
const LINE_BYTES_MAX: usize = 64;
const CHUNK_BYTES_MAX: usize = 16 << 20;

/// Looks at the start of what is left of a body.
pub(crate) fn chunk(bytes: &[u8]) -> Chunk<'_> {
    let Some(line) = bytes.windows(2).take(LINE_BYTES_MAX).position(|two| two == b"\r\n") else {
        return if bytes.len() < LINE_BYTES_MAX { Chunk::More } else { Chunk::Broken };
    };
    let size = bytes[..line].split(|&byte| byte == b';').next().unwrap_or_default();
    let size = std::str::from_utf8(size).ok().and_then(|size| usize::from_str_radix(size.trim(), 16).ok());
    let start = line + 2;
    match size {
        Some(0) => Chunk::End,
        Some(size) if size <= CHUNK_BYTES_MAX => match bytes.get(start..start + size + 2) {
            None => Chunk::More,
            Some(chunk) if chunk.ends_with(b"\r\n") => Chunk::Text(&chunk[..size], start + size + 2),
            Some(_) => Chunk::Broken,
        },
        _ => Chunk::Broken,
    }
}

/// One block of a stream.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum Block<'b> {
    /// An event of the room, as JSON.
    Event(&'b [u8]),
    /// The last one, which says why it is the last: the close code.
    Close(u16),
    /// A comment, or what concerns the stream itself.
    Other,
}

/// The first whole block of the text, and how many bytes it took. A comment in front of it is a block of its own: nothing may
/// follow it for hours.
pub(crate) fn block(text: &[u8]) -> Option<(Block<'_>, usize)> {
    if text.first() == Some(&b':') {
        let end = text.iter().position(|&byte| byte == b'\n')?;
        return Some((Block::Other, end + 1));
    }
    let end = text.windows(2).position(|two| two == b"\n\n")?;
    let lines = || text[..end].split(|&byte| byte == b'\n');
    let field = |name: &[u8]| lines().find_map(|line| line.strip_prefix(name));
    let data = field(b"data: ");
    let block = match (field(b"event: "), data) {
        (Some(b"close"), Some(data)) => {
            let why: serde_json::Value = serde_json::from_slice(data).unwrap_or_default();
            Block::Close(why["code"].as_u64().and_then(|code| u16::try_from(code).ok()).unwrap_or(1005))
        }
        (None, Some(data)) => Block::Event(data),
        _ => Block::Other,
    };
    Some((block, end + 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_and_blocks_are_taken_whole() {
        let body = b"e\r\ndata: {\"a\":1}\n\r\n1;x\r\n\n\r\n0\r\n\r\n";
        assert_eq!(chunk(body), Chunk::Text(b"data: {\"a\":1}\n", 19));
        for cut in 0..19 {
            assert_eq!(chunk(&body[..cut]), Chunk::More, "cut at {cut}");
        }
        assert_eq!(chunk(&body[19..]), Chunk::Text(b"\n", 8));
        assert_eq!(chunk(&body[27..]), Chunk::End);
        assert_eq!(chunk(b"x\r\n"), Chunk::Broken);
        assert_eq!(chunk(b"1\r\nab\r\n"), Chunk::Broken);
        assert_eq!(chunk(&[b'1'; 80]), Chunk::Broken);
    }

    #[test]
    fn what_a_block_says_is_told_apart() {
        assert_eq!(block(b"id: 3\ndata: {}\n\nrest"), Some((Block::Event(b"{}"), 16)));
        assert_eq!(block(b"retry: 1\nid: 0\n\n"), Some((Block::Other, 16)));
        assert_eq!(block(b": ping\ndata"), Some((Block::Other, 7)));
        assert_eq!(block(b": pi"), None);
        let close = b"event: close\ndata: {\"code\":1013,\"reason\":\"\"}\n\n";
        assert_eq!(block(close), Some((Block::Close(1013), close.len())));
        assert_eq!(block(b"data: {}\n"), None);
    }
}
