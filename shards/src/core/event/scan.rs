//! One look over an event before it is parsed: how deep it nests, and where the values begin and end that are
//! kept as they came. The parser works in place, so afterwards their text is gone.

use std::ops::Range;

/// Where the top-level values of interest are, if they are there. Of a repeated key the first counts, as it does
/// for the parser.
#[derive(Debug, Default)]
pub(super) struct Outline {
    /// With its quotes.
    pub(super) event_id: Option<Range<usize>>,
    /// Of `room.send` and `channel.publish`.
    pub(super) data: Option<Range<usize>>,
    /// Of `ping`.
    pub(super) t: Option<Range<usize>>,
    /// Of `session.update`.
    pub(super) state: Option<Range<usize>>,
    /// The nesting goes past the limit; what follows was not looked at.
    pub(super) too_deep: bool,
    /// There is a number that JSON does not know, or a NUL outside of strings. The parser takes some of both, and what
    /// is kept as it came would be passed on with them.
    pub(super) not_json: bool,
}

/// Where a scan is within the top-level object.
struct Member<'t> {
    text: &'t [u8],
    /// The next string is a key.
    expects_key: bool,
    key: &'t [u8],
    value_start: usize,
    /// A key was written with escapes.
    escaped_key: bool,
}

impl Outline {
    /// Looks over any bytes; what is not JSON gives an outline of little worth, but an outline.
    pub(super) fn scan(text: &[u8], depth_max: usize) -> Self {
        let mut outline = Self::default();
        let mut member = Member { text, expects_key: false, key: b"", value_start: 0, escaped_key: false };
        let mut depth = 0usize;
        let mut at = 0;
        while at < text.len() {
            match text[at] {
                b'"' => {
                    let end = string_end(text, at);
                    if depth == 1 {
                        outline.note_string(&mut member, at..end);
                    }
                    at = end;
                    continue;
                }
                open @ (b'{' | b'[') => {
                    depth += 1;
                    if depth > depth_max {
                        outline.too_deep = true;
                        return outline;
                    }
                    if depth == 1 {
                        member.expects_key = open == b'{';
                    }
                }
                b'}' | b']' => {
                    if depth == 1 {
                        outline.note_value(&member, at);
                    }
                    depth = depth.saturating_sub(1);
                }
                0 => outline.not_json = true,
                b'-' | b'0'..=b'9' => match number_end(text, at) {
                    Some(end) => {
                        at = end;
                        continue;
                    }
                    None => outline.not_json = true,
                },
                b':' if depth == 1 => member.value_start = at + 1,
                b',' if depth == 1 => {
                    outline.note_value(&member, at);
                    (member.expects_key, member.key) = (true, b"");
                }
                _ => {}
            }
            at += 1;
        }
        if member.escaped_key {
            // It may be one of those that are looked for, and come before: only the parser can tell.
            (outline.data, outline.t, outline.state) = (None, None, None);
        }
        outline
    }

    fn note_string<'t>(&mut self, member: &mut Member<'t>, string: Range<usize>) {
        if member.expects_key {
            member.expects_key = false;
            member.key = member.text.get(string.start + 1..string.end.saturating_sub(1)).unwrap_or_default();
            member.escaped_key |= member.key.contains(&b'\\');
        } else if member.key == b"event_id" {
            // At once: the text may break off before the value's comma.
            self.event_id.get_or_insert(string);
        }
    }

    fn note_value(&mut self, member: &Member<'_>, end: usize) {
        let slot = match member.key {
            b"data" => &mut self.data,
            b"t" => &mut self.t,
            b"state" => &mut self.state,
            _ => return,
        };
        let value = &member.text[member.value_start.min(end)..end];
        let leading = value.iter().take_while(|b| b.is_ascii_whitespace()).count();
        let length = value.trim_ascii().len();
        let start = member.value_start + leading;
        slot.get_or_insert(start..start + length);
    }

    /// The client's name for the event, as far as it can be read without parsing.
    pub(super) fn event_id(&self, text: &[u8]) -> Option<Box<str>> {
        let quoted = text.get(self.event_id.clone()?)?;
        let inner = quoted.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
        let readable = inner.len() <= super::ids::CLIENT_NAME_BYTES_MAX
            && !inner.iter().any(|&b| b == b'\\' || b < b' ');
        readable.then(|| std::str::from_utf8(inner).ok().map(Into::into))?
    }
}

/// Where the number that begins at `at` ends (RFC 8259 section 6); nothing when it is none, or what follows belongs to
/// no number.
fn number_end(text: &[u8], at: usize) -> Option<usize> {
    let digits = |from: usize| {
        let rest = text.get(from..).unwrap_or_default();
        let count = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        (count > 0).then_some(from + count)
    };
    let start = at + usize::from(text[at] == b'-');
    let mut end = digits(start)?;
    if text[start] == b'0' && end > start + 1 {
        return None;
    }
    if text.get(end) == Some(&b'.') {
        end = digits(end + 1)?;
    }
    if let Some(b'e' | b'E') = text.get(end) {
        let signed = matches!(text.get(end + 1), Some(b'+' | b'-'));
        end = digits(end + 1 + usize::from(signed))?;
    }
    matches!(text.get(end), None | Some(b',' | b']' | b'}' | b' ' | b'\t' | b'\n' | b'\r')).then_some(end)
}

/// Where the string that opens at `at` ends: past its closing quote, or at the end of the text.
fn string_end(text: &[u8], at: usize) -> usize {
    let mut end = at + 1;
    while let Some(&b) = text.get(end) {
        match b {
            b'"' => return end + 1,
            b'\\' => end += 2,
            _ => end += 1,
        }
    }
    text.len()
}
