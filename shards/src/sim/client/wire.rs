//! The client's half of RFC 6455, written without the server's: frames out, frames in.

use std::ops::Range;

pub(super) const TEXT: u8 = 1;
pub(super) const BINARY: u8 = 2;
pub(super) const CLOSE: u8 = 8;
pub(super) const PING: u8 = 9;
pub(super) const PONG: u8 = 10;

/// A masked frame.
pub(super) fn frame(first_byte: u8, payload: &[u8], key: [u8; 4]) -> Vec<u8> {
    let mut out = vec![first_byte];
    match payload.len() {
        len @ 0..=125 => out.push(0x80 | len as u8),
        len @ 126..=65_535 => {
            out.push(0x80 | 126);
            out.extend_from_slice(&(len as u16).to_be_bytes());
        }
        len => {
            out.push(0x80 | 127);
            out.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&key);
    out.extend(payload.iter().enumerate().map(|(at, byte)| byte ^ key[at % 4]));
    out
}

/// The first frame of what the server sent: opcode and where the payload is. Nothing when it is not complete.
pub(super) fn parse(bytes: &[u8]) -> Result<Option<(u8, Range<usize>)>, String> {
    let [first, second, rest @ ..] = bytes else { return Ok(None) };
    if first & 0xf0 != 0x80 {
        return Err(format!("the server sent a frame that begins with {first:#04x}"));
    }
    if second & 0x80 != 0 {
        return Err("the server sent a masked frame".into());
    }
    let opcode = first & 0x0f;
    if !matches!(opcode, TEXT | BINARY | CLOSE | PING | PONG) {
        return Err(format!("the server sent opcode {opcode}"));
    }
    let (len, header) = match (second & 0x7f, rest) {
        (126, [a, b, ..]) => (u64::from(u16::from_be_bytes([*a, *b])), 4),
        (127, [a, b, c, d, e, f, g, h, ..]) => (u64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h]), 10),
        (126 | 127, _) => return Ok(None),
        (len, _) => (u64::from(len), 2),
    };
    let minimal = match len {
        0..=125 => 2,
        126..=65_535 => 4,
        _ => 10,
    };
    if header != minimal {
        return Err(format!("the server told a length of {len} in {header} bytes"));
    }
    if opcode >= CLOSE && len > 125 {
        return Err(format!("the server sent a control frame of {len} bytes"));
    }
    let end = header + len as usize;
    Ok((bytes.len() >= end).then_some((opcode, header..end)))
}

/// What follows the head of an HTTP answer, once it is complete: status and length of the head.
pub(super) fn parse_answer(bytes: &[u8]) -> Result<Option<(u16, usize)>, String> {
    let Some(end) = bytes.windows(4).position(|at| at == b"\r\n\r\n") else {
        return if bytes.len() > 4_096 { Err("an answer's head without an end".into()) } else { Ok(None) };
    };
    let head = std::str::from_utf8(&bytes[..end]).map_err(|_| "an answer's head is not text")?;
    let status =
        head.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)).and_then(|code| code.parse().ok());
    let status: u16 = status.ok_or_else(|| format!("not an answer: {head:?}"))?;
    if status == 101 && !head.contains("\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=") {
        return Err(format!("the 101 does not accept the key: {head:?}"));
    }
    if status != 101 && !head.contains("\r\nConnection: close") {
        return Err(format!("a refusal that does not end the connection: {head:?}"));
    }
    Ok(Some((status, end + 4)))
}

/// As RFC 4648 section 4 has it.
pub(super) fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let word =
            chunk.iter().fold(0_u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for digit in 0..4 {
            let bits = (word >> (18 - 6 * digit)) as usize & 63;
            out.push(if digit > chunk.len() { '=' } else { DIGITS[bits] as char });
        }
    }
    out
}

/// A frame of speech says who sent it and which it is, and its bytes follow from that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Speech {
    pub(super) client: u16,
    pub(super) number: u16,
    pub(super) seq: u32,
}

const SPEECH_HEAD: usize = 12;

impl Speech {
    pub(super) fn bytes(self, len: usize) -> Vec<u8> {
        let mut out = Vec::with_capacity(len.max(SPEECH_HEAD));
        out.extend_from_slice(b"VOXS");
        out.extend_from_slice(&self.client.to_le_bytes());
        out.extend_from_slice(&self.number.to_le_bytes());
        out.extend_from_slice(&self.seq.to_le_bytes());
        for at in SPEECH_HEAD..len {
            out.push(self.filler(at));
        }
        out
    }

    fn filler(self, at: usize) -> u8 {
        (self.seq as usize * 31 + at * 7 + usize::from(self.client)) as u8
    }

    /// Reads a frame back; nothing when it is not one, or not as it was.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let [b'V', b'O', b'X', b'S', c0, c1, n0, n1, s0, s1, s2, s3, rest @ ..] = bytes else { return None };
        let speech = Self {
            client: u16::from_le_bytes([*c0, *c1]),
            number: u16::from_le_bytes([*n0, *n1]),
            seq: u32::from_le_bytes([*s0, *s1, *s2, *s3]),
        };
        let whole = rest.iter().enumerate().all(|(at, &byte)| byte == speech.filler(SPEECH_HEAD + at));
        whole.then_some(speech)
    }
}
