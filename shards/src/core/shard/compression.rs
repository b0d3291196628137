//! Which messages travel compressed (PROTOCOL 3): events, and messages of `/echo`, from `deflate.threshold_bytes` on, to
//! clients that agreed to it. Audio never does: it would not shrink, and it can't wait.
//!
//! An event is compressed once for each window size among its listeners, nearly always one, and shared like any other
//! frame. It travels alone: a batch of `voxhall.v1` is gathered in place from the frames of its events, for one
//! connection, and to compress it would cost each connection a copy and a compression of its own.

use smallvec::SmallVec;
use tungstenite::protocol::frame::coding::OpCode;

use super::super::deflate::WindowBits;
use super::super::frame::Frame;
use super::super::ids::ConnKey;
use super::super::outbox::Shape;
use super::super::ws::Violation;
use super::Shard;

/// The compressed forms of one event, by window; nothing for one that would not be shorter.
pub(super) type CompressedForms = SmallVec<[(WindowBits, Option<Frame>); 1]>;

impl Shard {
    /// An event that only one connection takes, in the form in which it takes it.
    pub(super) fn only_form(&mut self, listener: ConnKey, opcode: OpCode, plain: Frame) -> (Frame, Shape) {
        let window = self.window_for(listener, plain.payload().len());
        match window.and_then(|window| self.compress(window, plain.payload(), opcode)) {
            Some(frame) => {
                self.pool.recycle(plain);
                self.counters.compressed_enqueued += 1;
                (frame, Shape::Compressed)
            }
            None => (plain, Shape::Event),
        }
    }

    /// A shared event in the form in which one of its listeners takes it; each form is made at most once.
    pub(super) fn shared_form(
        &mut self,
        listener: ConnKey,
        plain: &Frame,
        opcode: OpCode,
        forms: &mut CompressedForms,
    ) -> (Frame, Shape) {
        let Some(window) = self.window_for(listener, plain.payload().len()) else {
            return (plain.clone(), Shape::Event);
        };
        let known = forms.iter().position(|(of, _)| *of == window).unwrap_or_else(|| {
            forms.push((window, self.compress(window, plain.payload(), opcode)));
            forms.len() - 1
        });
        match &forms[known].1 {
            Some(frame) => {
                self.counters.compressed_enqueued += 1;
                (frame.clone(), Shape::Compressed)
            }
            None => (plain.clone(), Shape::Event),
        }
    }

    /// A message of `/echo` as it goes back.
    pub(super) fn echo_frame(&mut self, key: ConnKey, payload: &[u8], opcode: OpCode) -> Frame {
        let window = self.window_for(key, payload.len());
        if let Some(frame) = window.and_then(|window| self.compress(window, payload, opcode)) {
            self.counters.compressed_enqueued += 1;
            return frame;
        }
        self.pool.copy(payload).seal(opcode)
    }

    /// The window to compress a message of that length with for a connection; nothing when it goes as it is.
    fn window_for(&self, key: ConnKey, len: usize) -> Option<WindowBits> {
        if !self.config.deflate.enabled || len < self.config.deflate.threshold_bytes {
            return None;
        }
        self.open_conn(key)?.1.deflate
    }

    /// A message compressed, if that makes it shorter.
    fn compress(&mut self, window: WindowBits, payload: &[u8], opcode: OpCode) -> Option<Frame> {
        let compressed = self.compressor.compress(window, payload);
        let after = compressed.map_or(payload.len(), <[u8]>::len);
        self.counters.messages_compressed += 1;
        self.counters.compressed_bytes_before += payload.len() as u64;
        self.counters.compressed_bytes_after += after as u64;
        Some(self.pool.copy(compressed?).seal_compressed(opcode))
    }

    /// A client's compressed message as it was before; text is valid UTF-8. To be given back to the inflater.
    ///
    /// # Errors
    /// When it is longer than a message may be, corrupt, or not text although it says so.
    pub(super) fn inflate(&mut self, text: bool, payload: &[u8]) -> Result<Vec<u8>, Violation> {
        let message = self.inflater.inflate(payload, self.config.limits.message_bytes_max)?;
        if text && std::str::from_utf8(&message).is_err() {
            self.inflater.put_back(message);
            return Err(Violation::utf8());
        }
        self.counters.messages_inflated += 1;
        Ok(message)
    }
}
