//! Frame headers (RFC 6455 section 5.2).
//!
//! Read by hand into tungstenite's types: its `FrameHeader::parse` waits for the whole header before it complains
//! and can't tell a length that is longer than need be.

use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

use super::item::Violation;

/// The longest header: 2 bytes, 8 of extended length, 4 of masking key.
pub(super) const HEADER_BYTES_MAX: usize = 14;

/// The longest payload of a control frame (section 5.5).
pub(super) const CONTROL_BYTES_MAX: usize = 125;

/// A header whose every field was found acceptable.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    pub(super) opcode: OpCode,
    pub(super) fin: bool,
    /// Zero where the sender does not mask.
    pub(super) key: [u8; 4],
    pub(super) payload_len: usize,
    /// Whether a compressed message begins (RFC 7692 section 6).
    pub(super) compressed: bool,
}

/// Set on the first frame of a compressed message (RFC 7692 section 6).
const RSV1: u8 = 0x40;

/// What came before decides which headers are acceptable.
#[derive(Clone, Copy, Debug)]
pub(super) struct Context {
    /// Whether a fragmented message is unfinished.
    pub(super) in_message: bool,
    /// How many bytes the message may yet grow by.
    pub(super) room: usize,
    /// Whether the sender is a client, so that it masks.
    pub(super) from_client: bool,
    /// Whether permessage-deflate was negotiated.
    pub(super) deflate: bool,
}

impl Header {
    /// Reads a header at the start of `bytes`; with it, how many bytes it took. Nothing when more are needed. Every
    /// field is judged as soon as it is there, in order, so that a bad frame fails at the same byte however it was
    /// cut up.
    #[inline]
    pub(super) fn parse(bytes: &[u8], context: Context) -> Result<Option<(Self, usize)>, Violation> {
        let &[first, ref rest @ ..] = bytes else { return Ok(None) };
        let (opcode, fin, compressed) = first_byte(first, context)?;
        let &[second, ref rest @ ..] = rest else { return Ok(None) };
        let short = second_byte(second, opcode, context.from_client)?;
        let Some((len, len_bytes)) = length(short, rest)? else { return Ok(None) };
        // Checked before a byte of the payload is kept: the limit is on the whole message (section 10.4).
        let data = matches!(opcode, OpCode::Data(_));
        if data && len > context.room as u64 {
            return Err(Violation::too_big());
        }
        let mut key = [0; 4];
        let mut header_bytes = 2 + len_bytes;
        if context.from_client {
            let Some(found) = rest.get(len_bytes..).and_then(|rest| rest.first_chunk()) else {
                return Ok(None);
            };
            key = *found;
            header_bytes += key.len();
        }
        Ok(Some((Self { opcode, fin, key, payload_len: len as usize, compressed }, header_bytes)))
    }
}

/// FIN, RSV1 to RSV3, opcode.
#[inline]
fn first_byte(byte: u8, context: Context) -> Result<(OpCode, bool, bool), Violation> {
    let in_message = context.in_message;
    let fin = byte & 0x80 != 0;
    let opcode = OpCode::from(byte & 0x0f);
    let compressed = byte & RSV1 != 0;
    // 5.2: "MUST be 0 unless an extension is negotiated". RFC 7692 section 6.1: the extension sets RSV1, and not on
    // "control frames and non-first fragments of a data message".
    let may_be_compressed = context.deflate && matches!(opcode, OpCode::Data(Data::Text | Data::Binary));
    if byte & 0x30 != 0 || (compressed && !may_be_compressed) {
        return Err(Violation::protocol("reserved bit set"));
    }
    match opcode {
        // 5.2: "If an unknown opcode is received, the receiving endpoint MUST _Fail the WebSocket Connection_."
        OpCode::Data(Data::Reserved(_)) | OpCode::Control(Control::Reserved(_)) => {
            Err(Violation::protocol("reserved opcode"))
        }
        // 5.5: control frames "MUST NOT be fragmented".
        OpCode::Control(_) if !fin => Err(Violation::protocol("fragmented control frame")),
        // 5.4: a continuation continues something, and fragments of one message don't mix with another's.
        OpCode::Data(Data::Continue) if !in_message => {
            Err(Violation::protocol("continuation without a message"))
        }
        OpCode::Data(Data::Text | Data::Binary) if in_message => {
            Err(Violation::protocol("new message within a fragmented one"))
        }
        _ => Ok((opcode, fin, compressed)),
    }
}

/// MASK and the 7-bit length, which is returned.
#[inline]
fn second_byte(byte: u8, opcode: OpCode, from_client: bool) -> Result<u8, Violation> {
    let masked = byte & 0x80 != 0;
    // 5.1: a server closes "upon receiving a frame that is not masked", a client upon one that is.
    if masked != from_client {
        let reason = if from_client { "frame is not masked" } else { "frame is masked" };
        return Err(Violation::protocol(reason));
    }
    let short = byte & 0x7f;
    // 5.5: "MUST have a payload length of 125 bytes or less".
    if matches!(opcode, OpCode::Control(_)) && short as usize > CONTROL_BYTES_MAX {
        return Err(Violation::protocol("control frame is too long"));
    }
    Ok(short)
}

/// The payload length, and how many extended bytes told it.
#[inline]
fn length(short: u8, rest: &[u8]) -> Result<Option<(u64, usize)>, Violation> {
    // 5.2: "in all cases, the minimal number of bytes MUST be used to encode the length".
    const NOT_MINIMAL: Violation = Violation::protocol("length is not minimal");
    match short {
        126 => {
            let Some(bytes) = rest.first_chunk() else { return Ok(None) };
            let len = u16::from_be_bytes(*bytes).into();
            if len < 126 { Err(NOT_MINIMAL) } else { Ok(Some((len, 2))) }
        }
        127 => {
            let Some(bytes) = rest.first_chunk() else { return Ok(None) };
            let len = u64::from_be_bytes(*bytes);
            if len >> 63 != 0 {
                // 5.2: "the most significant bit MUST be 0".
                return Err(Violation::protocol("length has its highest bit set"));
            }
            if len <= u16::MAX.into() { Err(NOT_MINIMAL) } else { Ok(Some((len, 8))) }
        }
        _ => Ok(Some((short.into(), 0))),
    }
}
