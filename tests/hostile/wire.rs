//! Frames and heads as an attacker makes and reads them, with none of the server's code.

use std::io::Read as _;
use std::net::TcpStream;

pub(crate) const CONTINUE: u8 = 0;
pub(crate) const TEXT: u8 = 1;
pub(crate) const BINARY: u8 = 2;
pub(crate) const CLOSE: u8 = 8;
pub(crate) const PING: u8 = 9;
pub(crate) const PONG: u8 = 10;
pub(crate) const FIN: u8 = 0x80;
pub(crate) const MASK: u8 = 0x80;

pub(crate) const KEY: [u8; 4] = [0x5a, 0x00, 0xff, 0x13];

/// A valid upgrade of this path, with these lines besides.
pub(crate) fn upgrade(path: &str, lines: &str) -> Vec<u8> {
    format!(
        "GET {path} HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{lines}\r\n"
    )
    .into_bytes()
}

/// A masked frame.
pub(crate) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = claim(first, payload.len() as u64);
    bytes.extend(payload.iter().zip(KEY.iter().cycle()).map(|(byte, key)| byte ^ key));
    bytes
}

/// The header of a masked frame that claims so many bytes.
pub(crate) fn claim(first: u8, len: u64) -> Vec<u8> {
    let mut bytes = vec![first];
    match len {
        0..=125 => bytes.push(MASK | len as u8),
        126..=0xffff => {
            bytes.push(MASK | 126);
            bytes.extend((len as u16).to_be_bytes());
        }
        _ => {
            bytes.push(MASK | 127);
            bytes.extend(len.to_be_bytes());
        }
    }
    bytes.extend(KEY);
    bytes
}

/// A whole text message.
pub(crate) fn text(payload: impl AsRef<[u8]>) -> Vec<u8> {
    frame(FIN | TEXT, payload.as_ref())
}

/// A close frame.
pub(crate) fn close(code: u16, reason: &[u8]) -> Vec<u8> {
    frame(FIN | CLOSE, &[&code.to_be_bytes(), reason].concat())
}

/// The next frame of the server: its opcode and payload.
///
/// # Errors
/// When it ends first, or is no frame that a server may send.
pub(crate) fn read_frame(stream: &mut TcpStream) -> Result<(u8, Vec<u8>), String> {
    let mut read = |len: usize| {
        let mut bytes = vec![0; len];
        stream.read_exact(&mut bytes).map(|()| bytes).map_err(|error| format!("no frame: {error}"))
    };
    let head = read(2)?;
    let number = |bytes: Vec<u8>| bytes.iter().fold(0, |number, byte| number << 8 | usize::from(*byte));
    let len = match head[1] {
        126 => number(read(2)?),
        127 => number(read(8)?),
        len => len.into(),
    };
    if head[0] & 0x70 != 0 || head[1] & MASK != 0 || len > 1 << 24 {
        return Err(format!("a frame that no server may send: {head:02x?}"));
    }
    Ok((head[0] & 0x0f, read(len)?))
}
