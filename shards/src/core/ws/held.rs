//! What is unfinished: a header cut in two, a frame whose payload is still arriving, a message of several frames.

use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

use super::header::{CONTROL_BYTES_MAX, Context, HEADER_BYTES_MAX, Header};
use super::item::{Violation, close};
use super::mask;

/// All of it. Bounded by the longest message, which the header of each frame is checked against before its payload
/// is kept.
#[derive(Debug)]
pub(super) struct Held {
    /// Text or binary, while a message is unfinished.
    kind: Option<Data>,
    /// Whether that message is compressed.
    compressed: bool,
    /// The message so far, unmasked.
    message: Vec<u8>,
    /// How much of a text message is known to be valid UTF-8; what follows may be the start of a character.
    valid: usize,
    /// The frame whose payload is arriving.
    frame: Option<Open>,
    header: [u8; HEADER_BYTES_MAX],
    header_len: u8,
    control: [u8; CONTROL_BYTES_MAX],
    control_len: u8,
}

/// A frame whose header is complete.
#[derive(Clone, Copy, Debug)]
struct Open {
    opcode: OpCode,
    fin: bool,
    /// The masking key, turned to the next byte.
    key: [u8; 4],
    remaining: usize,
}

/// How far the bytes brought the frame that is arriving.
pub(super) enum Absorbed {
    /// All bytes were taken and more are needed.
    Unfinished,
    /// It is complete; its message is not.
    Fragment,
    /// A message or control frame is complete: its payload is here until the next byte is brought.
    Finished(OpCode),
}

impl Default for Held {
    fn default() -> Self {
        Self {
            kind: None,
            compressed: false,
            message: Vec::new(),
            valid: 0,
            frame: None,
            header: [0; HEADER_BYTES_MAX],
            header_len: 0,
            control: [0; CONTROL_BYTES_MAX],
            control_len: 0,
        }
    }
}

impl Held {
    /// Whether nothing here is needed for what is yet to come.
    pub(super) fn is_idle(&self) -> bool {
        self.kind.is_none() && self.frame.is_none() && self.header_len == 0
    }

    /// Whether a payload is arriving.
    pub(super) fn in_frame(&self) -> bool {
        self.frame.is_some()
    }

    /// Whether a message is unfinished.
    pub(super) fn in_message(&self) -> bool {
        self.kind.is_some()
    }

    /// Whether a header is unfinished.
    pub(super) fn in_header(&self) -> bool {
        self.header_len > 0
    }

    /// Whether the message that is unfinished, or was just finished, is compressed.
    pub(super) fn is_compressed(&self) -> bool {
        self.compressed
    }

    /// How long the unfinished message is so far.
    pub(super) fn message_len(&self) -> usize {
        self.message.len()
    }

    /// Memory in use.
    pub(super) fn bytes(&self) -> usize {
        size_of::<Self>() + self.message.capacity()
    }

    /// The payload of what [`Absorbed::Finished`] said.
    pub(super) fn payload(&mut self, opcode: OpCode) -> &mut [u8] {
        match opcode {
            OpCode::Control(_) => &mut self.control[..self.control_len.into()],
            OpCode::Data(_) => &mut self.message,
        }
    }

    /// Goes on with a header that has been cut, byte by byte: it happens seldom and is over in 14.
    pub(super) fn resume_header(
        &mut self,
        bytes: &mut &mut [u8],
        context: Context,
    ) -> Result<Option<Header>, Violation> {
        while let Some(byte) = bytes.split_off_first_mut() {
            self.header[usize::from(self.header_len)] = *byte;
            self.header_len += 1;
            let so_far = &self.header[..self.header_len.into()];
            if let Some((header, _)) = Header::parse(so_far, context)? {
                self.header_len = 0;
                return Ok(Some(header));
            }
        }
        Ok(None)
    }

    /// Begins a frame whose payload is not here yet, or that is part of a fragmented message.
    pub(super) fn begin(&mut self, header: Header) {
        match header.opcode {
            OpCode::Control(_) => self.control_len = 0,
            OpCode::Data(Data::Continue) => {}
            OpCode::Data(kind) => (self.kind, self.compressed) = (Some(kind), header.compressed),
        }
        let Header { opcode, fin, key, payload_len, .. } = header;
        self.frame = Some(Open { opcode, fin, key, remaining: payload_len });
    }

    /// Takes what belongs to the frame that is arriving.
    pub(super) fn absorb(&mut self, bytes: &mut &mut [u8]) -> Result<Absorbed, Violation> {
        let mut frame = self.frame.take().expect("only called while a frame is arriving");
        let taken = frame.remaining.min(bytes.len());
        let chunk = bytes.split_off_mut(..taken).unwrap_or_default();
        mask::apply(chunk, frame.key);
        frame.key.rotate_left(taken % 4);
        frame.remaining -= taken;
        match frame.opcode {
            OpCode::Control(_) => {
                let start = usize::from(self.control_len);
                self.control[start..start + taken].copy_from_slice(chunk);
                self.control_len += taken as u8;
            }
            OpCode::Data(_) => self.append(chunk, frame.remaining)?,
        }
        if frame.remaining > 0 {
            self.frame = Some(frame);
            return Ok(Absorbed::Unfinished);
        }
        match frame.opcode {
            OpCode::Control(control) => {
                if control == Control::Close {
                    // Judged here as well, so that nothing is held after a violation.
                    close(&self.control[..self.control_len.into()])?;
                    // 5.5.1: no data follows a close frame, so that the message will never be finished.
                    (self.kind, self.message) = (None, Vec::new());
                }
                Ok(Absorbed::Finished(frame.opcode))
            }
            OpCode::Data(_) if !frame.fin => Ok(Absorbed::Fragment),
            OpCode::Data(_) => self.finish(),
        }
    }

    /// Appends to the message, and checks text as it comes, unless it is compressed: section 8.1 wants the connection
    /// failed, and a client that sends a long text learns at once.
    fn append(&mut self, chunk: &[u8], remaining: usize) -> Result<(), Violation> {
        let len = self.message.len() + chunk.len();
        if len > self.message.capacity() {
            // Twice what has arrived, but never more than the frame's end: a claimed length alone costs nothing, and
            // the capacity stays within the longest message.
            let capacity = (2 * self.message.len()).clamp(len, len + remaining);
            self.message.reserve_exact(capacity - self.message.len());
        }
        self.message.extend_from_slice(chunk);
        if self.kind == Some(Data::Text) && !self.compressed {
            match std::str::from_utf8(&self.message[self.valid..]) {
                Ok(_) => self.valid = self.message.len(),
                Err(error) if error.error_len().is_none() => self.valid += error.valid_up_to(),
                Err(_) => return Err(Violation::utf8()),
            }
        }
        Ok(())
    }

    /// Ends the message.
    fn finish(&mut self) -> Result<Absorbed, Violation> {
        let kind = self.kind.take().expect("a data frame belongs to a message");
        if kind == Data::Text && !self.compressed && self.valid < self.message.len() {
            return Err(Violation::utf8());
        }
        Ok(Absorbed::Finished(OpCode::Data(kind)))
    }
}
