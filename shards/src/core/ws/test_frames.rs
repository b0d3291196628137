//! Frames as a client would send them, and what became of them, for the tests.

use super::{CloseCode, Decoder, Item, Rules, Violation};

/// What a test may keep of an item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Got {
    Text(String),
    Binary(Vec<u8>),
    Compressed(bool, Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<(u16, String)>),
    Violation(CloseCode, &'static str),
}

impl Got {
    fn from_item(item: Item<'_>) -> Self {
        match item {
            Item::Text(text) => Self::Text(std::str::from_utf8(text).expect("text was checked").to_owned()),
            Item::Binary(bytes) => Self::Binary(bytes.to_vec()),
            Item::Compressed { text, payload } => Self::Compressed(text, payload.to_vec()),
            Item::Ping(bytes) => Self::Ping(bytes.to_vec()),
            Item::Pong(bytes) => Self::Pong(bytes.to_vec()),
            Item::Close(close) => Self::Close(close.map(|(code, reason)| (code.into(), reason.to_owned()))),
        }
    }
}

pub(super) const TEXT: u8 = 1;
pub(super) const BINARY: u8 = 2;
pub(super) const CONTINUE: u8 = 0;
pub(super) const CLOSE: u8 = 8;
pub(super) const PING: u8 = 9;
pub(super) const PONG: u8 = 10;
pub(super) const FIN: u8 = 0x80;

pub(super) const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// A header with the length in its shortest form.
pub(super) fn header(first: u8, len: u64, key: Option<[u8; 4]>) -> Vec<u8> {
    let mask = if key.is_some() { 0x80 } else { 0 };
    let mut bytes = vec![first];
    match len {
        0..=125 => bytes.push(mask | len as u8),
        126..=0xffff => {
            bytes.push(mask | 126);
            bytes.extend((len as u16).to_be_bytes());
        }
        _ => {
            bytes.push(mask | 127);
            bytes.extend(len.to_be_bytes());
        }
    }
    bytes.extend(key.unwrap_or_default().iter().take(if key.is_some() { 4 } else { 0 }));
    bytes
}

/// A masked frame.
pub(super) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = header(first, payload.len() as u64, Some(KEY));
    bytes.extend(payload.iter().enumerate().map(|(i, byte)| byte ^ KEY[i % 4]));
    bytes
}

/// The payload of a close frame.
pub(super) fn close_payload(code: u16, reason: &[u8]) -> Vec<u8> {
    [&code.to_be_bytes(), reason].concat()
}

/// Brings the pieces to a decoder one after the other and collects what comes out, up to a violation or close.
pub(super) fn decode_pieces<'p, const FROM_CLIENT: bool>(
    mut decoder: Decoder<FROM_CLIENT>,
    pieces: impl IntoIterator<Item = &'p [u8]>,
    rules: impl Into<Rules>,
) -> Vec<Got> {
    let rules = rules.into();
    let mut got = Vec::new();
    for piece in pieces {
        let mut piece = piece.to_vec();
        let mut bytes = piece.as_mut_slice();
        loop {
            match decoder.next(&mut bytes, rules) {
                Ok(Some(item)) => got.push(Got::from_item(item)),
                Ok(None) => break,
                Err(Violation { code, reason }) => got.push(Got::Violation(code, reason)),
            }
            if let Some(Got::Close(_) | Got::Violation(..)) = got.last() {
                assert!(decoder.held_bytes() < 512, "an ended connection holds no message");
                return got;
            }
        }
        assert!(bytes.is_empty(), "all bytes are consumed when more are wanted");
    }
    got
}

/// A stream cut at these places.
pub(super) fn pieces<'s>(stream: &'s [u8], cuts: &[proptest::sample::Index]) -> Vec<&'s [u8]> {
    let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
    cuts.push(stream.len());
    cuts.sort_unstable();
    let mut start = 0;
    cuts.into_iter().map(|end| &stream[std::mem::replace(&mut start, end)..end]).collect()
}

/// Decodes as a server: at once, cut at every single byte boundary, and byte by byte. All must agree.
pub(super) fn decode(stream: &[u8], rules: impl Into<Rules>) -> Vec<Got> {
    let rules = rules.into();
    let whole = decode_pieces(Decoder::new(), [stream], rules);
    for cut in 0..=stream.len() {
        let (front, back) = stream.split_at(cut);
        assert_eq!(decode_pieces(Decoder::new(), [front, back], rules), whole, "cut at {cut}");
    }
    assert_eq!(decode_pieces(Decoder::new(), stream.chunks(1), rules), whole, "byte by byte");
    whole
}
