//! From bytes to messages.

use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

use super::header::{Context, Header};
use super::held::{Absorbed, Held};
use super::item::{Item, Violation, close};
use super::mask;

/// What a connection may receive.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// Longest message over all its fragments, as it travels.
    pub message_bytes_max: usize,
    /// Whether permessage-deflate was negotiated (RFC 7692).
    pub deflate: bool,
}

/// A bound alone: no extension was negotiated.
impl From<usize> for Rules {
    fn from(message_bytes_max: usize) -> Self {
        Self { message_bytes_max, deflate: false }
    }
}

/// The receiving half of one connection. `FROM_CLIENT` is whether the other end is a client, whose frames are masked
/// (RFC 6455 section 5.1).
///
/// One pointer while nothing is unfinished, which is nearly always. Dropping it at any time is fine.
#[derive(Debug, Default)]
pub struct Decoder<const FROM_CLIENT: bool = true> {
    held: Option<Box<Held>>,
}

const _: () = assert!(size_of::<Decoder>() == size_of::<usize>());

impl Decoder {
    /// For a server, at the start of a connection.
    #[must_use]
    pub const fn new() -> Self {
        Self { held: None }
    }
}

impl Decoder<false> {
    /// For a client, at the start of a connection.
    #[must_use]
    pub const fn for_client() -> Self {
        Self { held: None }
    }
}

impl<const FROM_CLIENT: bool> Decoder<FROM_CLIENT> {
    /// Takes the next item from `bytes`, advancing it past what was consumed. `None` when more bytes are needed:
    /// then all were consumed, and what is unfinished is held aside.
    ///
    /// An item lies in `bytes` or in the decoder, until the next call.
    ///
    /// # Errors
    /// When the connection must be failed. Nothing is held any more, and no call may follow.
    pub fn next<'a, 'b: 'a>(
        &'a mut self,
        bytes: &mut &'b mut [u8],
        rules: impl Into<Rules>,
    ) -> Result<Option<Item<'a>>, Violation> {
        if self.held.as_ref().is_some_and(|held| held.is_idle()) {
            self.held = None;
        }
        let found = self.advance(bytes, rules.into()).inspect_err(|_| self.held = None)?;
        match found {
            Found::Nothing => Ok(None),
            Found::InBytes(opcode, compressed, payload) => item(opcode, compressed, payload).map(Some),
            Found::Held(opcode) => {
                let held = self.held.as_mut().expect("what was found there stays until the next call");
                item(opcode, held.is_compressed(), held.payload(opcode)).map(Some)
            }
        }
    }

    /// Memory held aside now.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.held.as_ref().map_or(0, |held| held.bytes())
    }

    fn advance<'b>(&mut self, bytes: &mut &'b mut [u8], rules: Rules) -> Result<Found<'b>, Violation> {
        loop {
            if let Some(held) = &mut self.held
                && held.in_frame()
            {
                match held.absorb(bytes)? {
                    Absorbed::Unfinished => return Ok(Found::Nothing),
                    Absorbed::Fragment => continue,
                    Absorbed::Finished(opcode) => return Ok(Found::Held(opcode)),
                }
            }
            let Some(header) = self.header(bytes, rules)? else { return Ok(Found::Nothing) };
            let whole = header.fin && header.opcode != OpCode::Data(Data::Continue);
            if whole && let Some(payload) = bytes.split_off_mut(..header.payload_len) {
                mask::apply(payload, header.key);
                if header.opcode == OpCode::Control(Control::Close) {
                    // 5.5.1: no data follows a close frame, so that no message is finished any more.
                    self.held = None;
                }
                let text = header.opcode == OpCode::Data(Data::Text) && !header.compressed;
                if text && std::str::from_utf8(payload).is_err() {
                    return Err(Violation::utf8());
                }
                return Ok(Found::InBytes(header.opcode, header.compressed, payload));
            }
            self.held.get_or_insert_default().begin(header);
        }
    }

    /// Takes a header from the bytes; `None` when it is unfinished, and then what there is of it is held.
    fn header(&mut self, bytes: &mut &mut [u8], rules: Rules) -> Result<Option<Header>, Violation> {
        let (in_message, message_len, resume) = match &self.held {
            Some(held) => (held.in_message(), held.message_len(), held.in_header()),
            None => (false, 0, false),
        };
        let room = rules.message_bytes_max.saturating_sub(message_len);
        let context = Context { in_message, room, from_client: FROM_CLIENT, deflate: rules.deflate };
        if !resume {
            if let Some((header, taken)) = Header::parse(bytes, context)? {
                *bytes = &mut std::mem::take(bytes)[taken..];
                return Ok(Some(header));
            }
            if bytes.is_empty() {
                return Ok(None);
            }
        }
        self.held.get_or_insert_default().resume_header(bytes, context)
    }
}

/// Where the next item lies.
enum Found<'b> {
    /// Nowhere yet.
    Nothing,
    /// In the bytes just received; whether it is compressed.
    InBytes(OpCode, bool, &'b mut [u8]),
    /// In what is held aside.
    Held(OpCode),
}

fn item(opcode: OpCode, compressed: bool, payload: &mut [u8]) -> Result<Item<'_>, Violation> {
    match opcode {
        OpCode::Data(kind) if compressed => Ok(Item::Compressed { text: kind == Data::Text, payload }),
        OpCode::Data(Data::Text) => Ok(Item::Text(payload)),
        OpCode::Control(Control::Ping) => Ok(Item::Ping(payload)),
        OpCode::Control(Control::Pong) => Ok(Item::Pong(payload)),
        OpCode::Control(Control::Close) => close(payload),
        // No other opcode gets here: continuations are found as what they continue, reserved ones not at all.
        _ => Ok(Item::Binary(payload)),
    }
}
