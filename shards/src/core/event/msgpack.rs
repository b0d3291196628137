//! Events as MessagePack, for `voxhall.v1.msgpack`: made of the JSON that others get, and made into the JSON that the
//! parser takes. So there is one vocabulary, and nothing that is said in one form only.
//!
//! Pure functions over bytes, without recursion. What comes from a client is bounded in depth and in what becomes of it.

use rmp::Marker;
use rmp::encode::{self, RmpWrite};
use smallvec::SmallVec;

use super::client::ClientError;

/// What a client's event may come to.
#[derive(Clone, Copy, Debug)]
pub struct MsgpackBounds {
    /// Levels of nesting.
    pub depth_max: usize,
    /// Bytes as JSON.
    pub json_bytes_max: usize,
}

/// Appends an event to `out` as MessagePack. The JSON is ours, and valid; of anything else something is written all the same.
///
/// Numbers without fraction and exponent that fit into 64 bits are integers, all others are doubles.
pub fn msgpack_of(json: &[u8], out: &mut Vec<u8>) {
    let mut sizes = sizes(json).into_iter();
    let mut at = 0;
    while let Some(&byte) = json.get(at) {
        let from = at;
        at += 1;
        let done = match byte {
            b'{' => encode::write_map_len(out, sizes.next().unwrap_or(0)).is_ok(),
            b'[' => encode::write_array_len(out, sizes.next().unwrap_or(0)).is_ok(),
            b'"' => {
                at = string_end(json, from);
                write_string(json.get(from + 1..at - 1).unwrap_or_default(), out);
                true
            }
            b't' | b'f' | b'n' => {
                at = word_end(json, from);
                match &json[from..at] {
                    b"true" => encode::write_bool(out, true).is_ok(),
                    b"false" => encode::write_bool(out, false).is_ok(),
                    _ => encode::write_nil(out).is_ok(),
                }
            }
            b'-' | b'0'..=b'9' => {
                at = word_end(json, from);
                write_number(&json[from..at], out);
                true
            }
            _ => true, // Commas, colons, closing braces and space.
        };
        debug_assert!(done, "a vector takes every byte");
    }
}

/// How many members or elements each object and array has, in the order in which they begin: MessagePack says it first.
fn sizes(json: &[u8]) -> SmallVec<[u32; 16]> {
    let mut sizes: SmallVec<[u32; 16]> = SmallVec::new();
    let mut open: SmallVec<[usize; 16]> = SmallVec::new();
    let mut at = 0;
    while let Some(&byte) = json.get(at) {
        at += 1;
        match byte {
            b'}' | b']' => _ = open.pop(),
            b',' => open.last().into_iter().for_each(|&within| sizes[within] += 1),
            b':' | b' ' | b'\t' | b'\n' | b'\r' => {}
            _ => {
                if let Some(&within) = open.last() {
                    sizes[within] = sizes[within].max(1);
                }
                match byte {
                    b'{' | b'[' => {
                        open.push(sizes.len());
                        sizes.push(0);
                    }
                    b'"' => at = string_end(json, at - 1),
                    _ => at = word_end(json, at - 1),
                }
            }
        }
    }
    sizes
}

/// Behind the quotation mark that ends the string that begins at `at`.
fn string_end(json: &[u8], at: usize) -> usize {
    let mut end = at + 1;
    while let Some(more) = json.get(end..).and_then(|rest| memchr::memchr2(b'"', b'\\', rest)) {
        end += more;
        if json[end] == b'"' {
            return end + 1;
        }
        end += 2;
    }
    json.len().max(at + 1)
}

fn word_end(json: &[u8], at: usize) -> usize {
    let rest = &json[at..];
    let ends = |byte: &u8| matches!(byte, b',' | b']' | b'}' | b' ' | b'\t' | b'\n' | b'\r');
    at + rest.iter().position(ends).unwrap_or(rest.len())
}

fn write_number(text: &[u8], out: &mut Vec<u8>) {
    let text = std::str::from_utf8(text).unwrap_or("0");
    let whole = !text.contains(['.', 'e', 'E']);
    let _ = if let (true, Ok(positive)) = (whole, text.parse()) {
        encode::write_uint(out, positive)
    } else if let (true, Ok(negative)) = (whole, text.parse()) {
        encode::write_sint(out, negative)
    } else {
        encode::write_f64(out, text.parse().unwrap_or_default()).map(|()| Marker::F64)
    };
}

fn write_string(escaped: &[u8], out: &mut Vec<u8>) {
    let mut plain: SmallVec<[u8; 256]> = SmallVec::new();
    let text = if memchr::memchr(b'\\', escaped).is_some() {
        unescape(escaped, &mut plain);
        &plain[..]
    } else {
        escaped
    };
    let _ = encode::write_str_len(out, text.len() as u32);
    let _ = out.write_bytes(text);
}

/// RFC 8259 section 7. Half of a surrogate pair stands for no character, and is replaced by the one that says so.
fn unescape(mut escaped: &[u8], out: &mut SmallVec<[u8; 256]>) {
    while let Some(at) = memchr::memchr(b'\\', escaped) {
        out.extend_from_slice(&escaped[..at]);
        let kind = escaped.get(at + 1).copied().unwrap_or_default();
        escaped = escaped.get(at + 2..).unwrap_or_default();
        let character = match kind {
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let first = take_unit(&mut escaped);
                let second = (0xd800..0xdc00).contains(&first).then_some(escaped).and_then(|rest| {
                    let mut rest = rest.strip_prefix(b"\\u")?;
                    let unit = take_unit(&mut rest);
                    (0xdc00..0xe000).contains(&unit).then(|| {
                        escaped = rest;
                        unit
                    })
                });
                let code = second.map_or(first, |second| 0x1_0000 + ((first & 0x3ff) << 10 | second & 0x3ff));
                char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER)
            }
            itself => itself.into(),
        };
        out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
    }
    out.extend_from_slice(escaped);
}

fn take_unit(escaped: &mut &[u8]) -> u32 {
    let digits = escaped.get(..4).unwrap_or_default();
    *escaped = escaped.get(4..).unwrap_or_default();
    std::str::from_utf8(digits).ok().and_then(|digits| u32::from_str_radix(digits, 16).ok()).unwrap_or(0xfffd)
}

/// An array or a map that has begun.
struct Begun {
    /// Elements or members that are to come.
    left: u32,
    is_map: bool,
    /// Whether a member's name has come, and its value has not.
    named: bool,
    first: bool,
}

/// What one value was.
enum Value {
    /// All of it.
    Whole,
    Array(u32),
    Map(u32),
}

/// Appends the event at the start of `bytes` to `out` as JSON, and takes it off. What is binary becomes base64.
///
/// # Errors
/// When it is no map, has something that JSON does not know, breaks off, or goes past a bound. What lies behind it can't
/// be found then.
pub fn json_of(bytes: &mut &[u8], bounds: MsgpackBounds, out: &mut Vec<u8>) -> Result<(), ClientError> {
    let start = out.len();
    let mut open: SmallVec<[Begun; 16]> = SmallVec::new();
    loop {
        if out.len() - start > bounds.json_bytes_max {
            return Err(bad("The event is too long."));
        }
        if let Some(begun) = open.last_mut() {
            if begun.left == 0 && !begun.named {
                out.push(if begun.is_map { b'}' } else { b']' });
                open.pop();
                if open.is_empty() {
                    return Ok(());
                }
                continue;
            }
            if begun.named {
                (begun.named, begun.first) = (false, false);
                out.push(b':');
            } else {
                if !std::mem::take(&mut begun.first) {
                    out.push(b',');
                }
                begun.left -= 1;
                begun.named = begun.is_map;
            }
        }
        let name = open.last().is_some_and(|begun| begun.named);
        let (left, is_map) = match take_value(bytes, name, out)? {
            Value::Whole if open.is_empty() => return Err(bad("An event is a map.")),
            Value::Whole => continue,
            Value::Array(_) if open.is_empty() => return Err(bad("An event is a map.")),
            Value::Array(left) => (left, false),
            Value::Map(left) => (left, true),
        };
        if open.len() == bounds.depth_max {
            let message = format!("The event nests deeper than {} levels.", bounds.depth_max);
            return Err(ClientError::new("nested_too_deeply", message));
        }
        out.push(if is_map { b'{' } else { b'[' });
        open.push(Begun { left, is_map, named: false, first: true });
    }
}

fn bad(message: &str) -> ClientError {
    ClientError::new("invalid_msgpack", message)
}

fn take<'b>(bytes: &mut &'b [u8], len: usize) -> Result<&'b [u8], ClientError> {
    let (taken, rest) = bytes.split_at_checked(len).ok_or_else(|| bad("The event breaks off."))?;
    *bytes = rest;
    Ok(taken)
}

/// A big-endian number of so many bytes.
fn take_number(bytes: &mut &[u8], len: usize) -> Result<u64, ClientError> {
    Ok(take(bytes, len)?.iter().fold(0, |number, &byte| number << 8 | u64::from(byte)))
}

fn take_len(bytes: &mut &[u8], len: usize) -> Result<usize, ClientError> {
    take_number(bytes, len).map(|len| len as usize)
}

/// One value, or the beginning of one; a member's name has to be a string.
fn take_value(bytes: &mut &[u8], name: bool, out: &mut Vec<u8>) -> Result<Value, ClientError> {
    let marker = Marker::from_u8(take(bytes, 1)?[0]);
    let string = match marker {
        Marker::FixStr(len) => Some(usize::from(len)),
        Marker::Str8 => Some(take_len(bytes, 1)?),
        Marker::Str16 => Some(take_len(bytes, 2)?),
        Marker::Str32 => Some(take_len(bytes, 4)?),
        _ if name => return Err(bad("A member's name has to be a string.")),
        _ => None,
    };
    if let Some(len) = string {
        let text = std::str::from_utf8(take(bytes, len)?).map_err(|_| bad("A string is not UTF-8."))?;
        return written(serde_json::to_writer(out, text));
    }
    let signed = |number: u64, bits: u32| (number << (64 - bits)) as i64 >> (64 - bits);
    let integer = match marker {
        Marker::FixPos(number) => i128::from(number),
        Marker::FixNeg(number) => i128::from(number),
        Marker::U8 => take_number(bytes, 1)?.into(),
        Marker::U16 => take_number(bytes, 2)?.into(),
        Marker::U32 => take_number(bytes, 4)?.into(),
        Marker::U64 => take_number(bytes, 8)?.into(),
        Marker::I8 => signed(take_number(bytes, 1)?, 8).into(),
        Marker::I16 => signed(take_number(bytes, 2)?, 16).into(),
        Marker::I32 => signed(take_number(bytes, 4)?, 32).into(),
        Marker::I64 => signed(take_number(bytes, 8)?, 64).into(),
        _ => return take_other(marker, bytes, out),
    };
    written(serde_json::to_writer(out, &integer))
}

fn take_other(marker: Marker, bytes: &mut &[u8], out: &mut Vec<u8>) -> Result<Value, ClientError> {
    let (number, binary) = match marker {
        Marker::Null => return word(b"null", out),
        Marker::True => return word(b"true", out),
        Marker::False => return word(b"false", out),
        Marker::FixArray(len) => return Ok(Value::Array(len.into())),
        Marker::Array16 => return Ok(Value::Array(take_number(bytes, 2)? as u32)),
        Marker::Array32 => return Ok(Value::Array(take_number(bytes, 4)? as u32)),
        Marker::FixMap(len) => return Ok(Value::Map(len.into())),
        Marker::Map16 => return Ok(Value::Map(take_number(bytes, 2)? as u32)),
        Marker::Map32 => return Ok(Value::Map(take_number(bytes, 4)? as u32)),
        Marker::F32 => (f64::from(f32::from_bits(take_number(bytes, 4)? as u32)), None),
        Marker::F64 => (f64::from_bits(take_number(bytes, 8)?), None),
        Marker::Bin8 => (0.0, Some(take_len(bytes, 1)?)),
        Marker::Bin16 => (0.0, Some(take_len(bytes, 2)?)),
        Marker::Bin32 => (0.0, Some(take_len(bytes, 4)?)),
        _ => return Err(bad("Extension types are not known here.")),
    };
    let Some(len) = binary else {
        if !number.is_finite() {
            return Err(bad("A number has to be finite."));
        }
        return written(serde_json::to_writer(out, &number));
    };
    let binary = take(bytes, len)?;
    out.push(b'"');
    let from = out.len();
    out.resize(from + base64_simd::STANDARD.encoded_length(len), 0);
    let _ = base64_simd::STANDARD.encode(binary, base64_simd::Out::from_slice(&mut out[from..]));
    out.push(b'"');
    Ok(Value::Whole)
}

fn word(word: &[u8], out: &mut Vec<u8>) -> Result<Value, ClientError> {
    out.extend_from_slice(word);
    Ok(Value::Whole)
}

fn written(outcome: serde_json::Result<()>) -> Result<Value, ClientError> {
    outcome.map(|()| Value::Whole).map_err(|_| bad("A value can't be written as JSON."))
}
