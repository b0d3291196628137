//! Finds what matters in an event without making a tree of it.

use std::ops::Range;

use memchr::memchr2;

/// The text is no JSON object, or one that is written unusually: with escapes in a key.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unusual;

/// Where the top-level values of interest are, as they are written. Of a repeated key the last counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Outline {
    pub(super) name: Option<Range<usize>>,
    pub(super) response: Option<Range<usize>>,
    pub(super) item: Option<Range<usize>>,
    pub(super) output_index: Option<Range<usize>>,
    pub(super) content_index: Option<Range<usize>>,
    pub(super) delta: Option<Range<usize>>,
}

impl Outline {
    /// Looks over one event. What values hold is not looked at: they may not be JSON.
    ///
    /// # Errors
    /// When the event can't be read this way.
    pub(super) fn read(text: &[u8]) -> Result<Self, Unusual> {
        let mut outline = Self::default();
        each_member(text, |key, value| {
            let slot = match &text[key] {
                b"type" => &mut outline.name,
                b"response_id" => &mut outline.response,
                b"item_id" => &mut outline.item,
                b"output_index" => &mut outline.output_index,
                b"content_index" => &mut outline.content_index,
                b"delta" => &mut outline.delta,
                _ => return,
            };
            *slot = Some(value);
        })?;
        Ok(outline)
    }
}

/// What a string value says, if it is one and has no escapes.
pub(super) fn plain<'t>(text: &'t [u8], value: Option<&Range<usize>>) -> Option<&'t str> {
    let range = plain_range(text, value)?;
    std::str::from_utf8(&text[range]).ok()
}

/// Where a string value's content is, if it is one and has no escapes.
pub(super) fn plain_range(text: &[u8], value: Option<&Range<usize>>) -> Option<Range<usize>> {
    let value = value?.clone();
    let inner = text.get(value.clone())?.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    // Only a closing quote ends a string, so a backslash is the one thing that could make it mean something else.
    memchr::memchr(b'\\', inner).is_none().then_some(value.start + 1..value.end - 1)
}

/// A whole number.
pub(super) fn number(text: &[u8], value: Option<&Range<usize>>) -> Option<u32> {
    std::str::from_utf8(text.get(value?.clone())?).ok()?.parse().ok()
}

/// Goes over the top-level members of an object: their keys without quotes, and their values as written.
///
/// # Errors
/// When it is no object, or a key has escapes.
pub(super) fn each_member(
    text: &[u8],
    mut what: impl FnMut(Range<usize>, Range<usize>),
) -> Result<(), Unusual> {
    let mut at = expect(text, 0, b'{')?;
    if peek(text, at) == Some(b'}') {
        at = expect(text, at, b'}')?;
    } else {
        loop {
            let open = expect(text, at, b'"')?;
            let close = string_end(text, open).ok_or(Unusual)?;
            let key = open..close - 1;
            if text[key.clone()].contains(&b'\\') {
                return Err(Unusual);
            }
            let start = skip_space(text, expect(text, close, b':')?);
            let end = value_end(text, start).ok_or(Unusual)?;
            what(key, start..end);
            match peek(text, end) {
                Some(b',') => at = expect(text, end, b',')?,
                _ => {
                    at = expect(text, end, b'}')?;
                    break;
                }
            }
        }
    }
    if skip_space(text, at) == text.len() { Ok(()) } else { Err(Unusual) }
}

fn skip_space(text: &[u8], at: usize) -> usize {
    let rest = text.get(at..).unwrap_or_default();
    at + rest.iter().take_while(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r')).count()
}

fn peek(text: &[u8], at: usize) -> Option<u8> {
    text.get(skip_space(text, at)).copied()
}

/// Past the byte that has to come next.
fn expect(text: &[u8], at: usize, byte: u8) -> Result<usize, Unusual> {
    let at = skip_space(text, at);
    if text.get(at) == Some(&byte) { Ok(at + 1) } else { Err(Unusual) }
}

/// Past the quote that closes the string whose content begins at `at`.
fn string_end(text: &[u8], mut at: usize) -> Option<usize> {
    loop {
        let found = at + memchr2(b'"', b'\\', text.get(at..)?)?;
        if text[found] == b'"' {
            return Some(found + 1);
        }
        at = found + 2;
    }
}

/// Past the value that begins at `at`.
fn value_end(text: &[u8], at: usize) -> Option<usize> {
    match text.get(at)? {
        b'"' => string_end(text, at + 1),
        b'{' | b'[' => nested_end(text, at),
        _ => {
            let rest = &text[at..];
            let ends =
                |byte: &u8| matches!(byte, b',' | b'}' | b']' | b':' | b'"' | b' ' | b'\t' | b'\n' | b'\r');
            let len = rest.iter().position(ends)?;
            (len > 0).then_some(at + len)
        }
    }
}

/// Past the bracket that closes the one at `at`.
fn nested_end(text: &[u8], mut at: usize) -> Option<usize> {
    let mut depth = 0usize;
    loop {
        match text.get(at)? {
            b'"' => {
                at = string_end(text, at + 1)?;
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth -= 1,
            _ => {}
        }
        at += 1;
        if depth == 0 {
            return Some(at);
        }
    }
}
