//! Turns the client frames in a buffer into the server frames that echo them, in place.
//!
//! A server frame is the client frame without its mask, four bytes shorter. So the first frame's payload
//! stays where it is and its new header is written right before it; later frames move down to close the gaps,
//! and everything leaves in one piece.

use std::ops::Range;

/// A frame with more payload than this ends its connection.
pub(super) const FRAME_BYTES_MAX: usize = 1 << 20;

/// The longest header of a masked frame.
pub(super) const HEADER_BYTES_MAX: usize = 14;

const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xA;

/// What [`echo_in_place`] made of a buffer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Echo {
    /// Bytes of input used up; what follows is an unfinished frame.
    pub(super) consumed: usize,
    /// Where in the buffer the answer lies.
    pub(super) answer: Range<usize>,
    /// The client asked to close: the answer ends with the close frame, nothing may follow it.
    pub(super) closing: bool,
}

/// The client broke the protocol; its connection ends.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Broken;

/// Rewrites every complete client frame at the start of `buffer` as the frame that answers it.
pub(super) fn echo_in_place(buffer: &mut [u8]) -> Result<Echo, Broken> {
    let mut echo = Echo { consumed: 0, answer: 0..0, closing: false };
    while !echo.closing {
        let start = echo.consumed;
        let Some(header) = Header::parse(&buffer[start..])? else { break };
        let payload = start + header.length..start + header.length + header.payload;
        if payload.end > buffer.len() {
            break;
        }
        echo.consumed = payload.end;
        let first = match header.first & 0x0F {
            PONG => continue,
            PING => header.first & 0xF0 | PONG,
            opcode => {
                echo.closing = opcode == CLOSE;
                header.first
            }
        };
        unmask(&mut buffer[payload.clone()], header.mask);
        if echo.answer.is_empty() {
            echo.answer = start + 4..start + 4;
        }
        let at = echo.answer.end;
        // The bytes of the length field, extended or not, are the same in both directions but for the mask
        // bit.
        let header_end = at + header.length - 4;
        buffer.copy_within(start + 1..start + header.length - 4, at + 1);
        buffer[at] = first;
        buffer[at + 1] &= 0x7F;
        if header_end != payload.start {
            buffer.copy_within(payload.clone(), header_end);
        }
        echo.answer.end = header_end + payload.len();
    }
    Ok(echo)
}

struct Header {
    first: u8,
    mask: [u8; 4],
    length: usize,
    payload: usize,
}

impl Header {
    /// The header at the start of `bytes`; `None` if some of it is still to come.
    fn parse(bytes: &[u8]) -> Result<Option<Self>, Broken> {
        let &[first, second, ref rest @ ..] = bytes else { return Ok(None) };
        let opcode = first & 0x0F;
        let reserved = first & 0x70 != 0 || !matches!(opcode, 0..=2 | CLOSE..=PONG);
        let control_too_big = opcode >= CLOSE && (first & 0x80 == 0 || second & 0x7F > 125);
        if reserved || control_too_big || second & 0x80 == 0 {
            return Err(Broken);
        }
        let (payload, rest, length) = match second & 0x7F {
            126 => match rest.split_first_chunk() {
                Some((bytes, rest)) => (u64::from(u16::from_be_bytes(*bytes)), rest, 8),
                None => return Ok(None),
            },
            127 => match rest.split_first_chunk() {
                Some((bytes, rest)) => (u64::from_be_bytes(*bytes), rest, HEADER_BYTES_MAX),
                None => return Ok(None),
            },
            short => (u64::from(short), rest, 6),
        };
        let payload =
            usize::try_from(payload).ok().filter(|&payload| payload <= FRAME_BYTES_MAX).ok_or(Broken)?;
        Ok(rest.first_chunk().map(|&mask| Self { first, mask, length, payload }))
    }
}

/// Applies `mask`, eight bytes at a time (the compiler makes vectors of it).
fn unmask(payload: &mut [u8], mask: [u8; 4]) {
    let half = u64::from(u32::from_ne_bytes(mask));
    let word = half << 32 | half;
    let mut chunks = payload.chunks_exact_mut(8);
    for chunk in &mut chunks {
        let masked = u64::from_ne_bytes(chunk.try_into().expect("chunks of eight"));
        chunk.copy_from_slice(&(masked ^ word).to_ne_bytes());
    }
    for (byte, mask) in chunks.into_remainder().iter_mut().zip(mask.into_iter().cycle()) {
        *byte ^= mask;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(first: u8, payload: &[u8], mask: Option<[u8; 4]>) -> Vec<u8> {
        let flag = if mask.is_some() { 0x80 } else { 0 };
        let mut frame = vec![first];
        match payload.len() {
            length @ 0..126 => frame.push(flag | length as u8),
            length @ 126..65536 => {
                frame.push(flag | 126);
                frame.extend((length as u16).to_be_bytes());
            }
            length => {
                frame.push(flag | 127);
                frame.extend((length as u64).to_be_bytes());
            }
        }
        frame.extend(mask.unwrap_or_default().iter().take(if mask.is_some() { 4 } else { 0 }));
        let mask = mask.unwrap_or_default();
        frame.extend(payload.iter().enumerate().map(|(i, byte)| byte ^ mask[i % 4]));
        frame
    }

    fn client(first: u8, payload: &[u8]) -> Vec<u8> {
        frame(first, payload, Some([0xA1, 0x02, 0x73, 0xFE]))
    }

    fn server(first: u8, payload: &[u8]) -> Vec<u8> {
        frame(first, payload, None)
    }

    fn pattern(length: usize) -> Vec<u8> {
        (0..length).map(|i| (i * 7 + i / 256) as u8).collect()
    }

    #[test]
    fn every_size_comes_back_unmasked() {
        for length in [0, 1, 7, 8, 9, 125, 126, 127, 640, 65_535, 65_536, FRAME_BYTES_MAX] {
            let mut buffer = client(0x82, &pattern(length));
            let echo = echo_in_place(&mut buffer).expect("valid");
            assert_eq!(echo.consumed, buffer.len());
            assert_eq!(buffer[echo.answer], server(0x82, &pattern(length)), "{length} bytes");
        }
    }

    #[test]
    fn a_run_of_frames_leaves_as_one_piece_and_the_unfinished_one_stays() {
        let mut buffer = Vec::new();
        let mut expected = Vec::new();
        for length in [640, 3, 640, 126, 70_000, 0] {
            buffer.extend(client(0x82, &pattern(length)));
            buffer.extend(client(0x8A, b"an unasked pong has no answer"));
            expected.extend(server(0x82, &pattern(length)));
        }
        buffer.extend(client(0x89, b"are you there"));
        expected.extend(server(0x8A, b"are you there"));
        buffer.extend(client(0x01, b"first "));
        expected.extend(server(0x01, b"first "));
        let complete = buffer.len();
        let last = client(0x80, b"second");
        for cut in 0..last.len() {
            let mut buffer = buffer.clone();
            buffer.extend(&last[..cut]);
            let echo = echo_in_place(&mut buffer).expect("valid");
            assert_eq!((echo.consumed, echo.closing), (complete, false));
            assert_eq!(buffer[echo.answer], expected);
            assert_eq!(buffer[complete..], last[..cut]);
        }
    }

    #[test]
    fn close_is_answered_and_ends_the_conversation() {
        let mut buffer = [client(0x88, &[3, 232]), client(0x82, b"late")].concat();
        let echo = echo_in_place(&mut buffer).expect("valid");
        assert!(echo.closing);
        assert_eq!(buffer[echo.answer], server(0x88, &[3, 232]));
    }

    #[test]
    fn broken_frames_are_refused() {
        let long_ping = client(0x89, &pattern(126));
        let too_long = [0x82, 0xFF, 0, 0, 0, 0, 0, 0x10, 0, 1];
        for bytes in
            [&server(0x82, b"unmasked")[..], &client(0xC2, b""), &client(0x83, b""), &client(0x09, b"")]
        {
            assert_eq!(echo_in_place(&mut bytes.to_vec()), Err(Broken), "{bytes:x?}");
        }
        assert_eq!(echo_in_place(&mut long_ping.clone()), Err(Broken));
        assert_eq!(echo_in_place(&mut too_long.to_vec()), Err(Broken));
    }
}
