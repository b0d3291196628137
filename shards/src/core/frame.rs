//! Messages encoded once and shared by every lane that carries them.
//!
//! A [`Draft`] is a block that one writer fills; sealed, it becomes a [`Frame`]: immutable, reference counted,
//! with its WebSocket header directly before its payload, so that one contiguous slice goes to the kernel.
//! Blocks come from a shard's [`FramePool`] and go back to it when the last lane has let go, so that the steady
//! state allocates nothing. A frame that is merely dropped is freed to the allocator: forgetting to recycle
//! costs speed, never correctness.

use std::ops::Range;
use std::rc::Rc;

use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

use super::ws::apply_mask;

/// Bytes kept free before a payload: the longest server header (10) and the binary header (8), rounded up. The longest
/// client header is 14.
pub const HEADROOM: usize = 24;

/// Bytes of the binary header of `voxhall.v1`.
pub const BINARY_HEADER_BYTES: usize = 8;

/// What the binary header says of a message that carries audio (PROTOCOL 3).
pub const KIND_AUDIO: u8 = 1;
/// And of one that carries events.
pub const KIND_EVENTS: u8 = 2;

/// One byte kept free behind a payload: the line feed that an event needs inside a batch.
const TAILROOM: usize = 1;

/// Payload capacities that the pool keeps; a larger block is made for its message and freed with it. 231 holds a
/// control frame or a small event, 999 a 20 ms frame of 16 or 24 kHz audio, 4,071 most events.
const CLASS_BYTES: [usize; 5] = [231, 999, 4_071, 16_359, 65_511];

/// How many bytes of free blocks one class may hold back. Past that they go to the allocator.
const CLASS_RETAINED_BYTES_MAX: usize = 4 << 20;

#[derive(Debug)]
struct Block {
    /// Headroom, then capacity for the payload.
    bytes: Box<[u8]>,
    /// Where the WebSocket header begins; equals `payload` until sealed.
    start: u32,
    /// Where what the client sees as payload begins.
    payload: u32,
    end: u32,
}

/// A block being written. There is exactly one handle to it.
#[derive(Debug)]
pub struct Draft(Rc<Block>);

/// A sealed message: header and payload, encoded once.
#[derive(Clone, Debug)]
pub struct Frame(Rc<Block>);

impl Draft {
    fn block(&mut self) -> &mut Block {
        Rc::get_mut(&mut self.0).expect("a draft is the only handle to its block")
    }

    /// The payload so far.
    pub fn payload(&self) -> &[u8] {
        &self.0.bytes[self.0.payload as usize..self.0.end as usize]
    }

    /// The payload so far, to be changed in place.
    pub fn payload_mut(&mut self) -> &mut [u8] {
        let block = self.block();
        &mut block.bytes[block.payload as usize..block.end as usize]
    }

    /// Payload bytes so far.
    pub fn len(&self) -> usize {
        (self.0.end - self.0.payload) as usize
    }

    /// Whether the payload is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends to the payload; moves to a larger block when this one is full.
    pub fn extend(&mut self, pool: &mut FramePool, more: &[u8]) {
        if self.0.bytes.len() - TAILROOM - (self.0.end as usize) < more.len() {
            self.grow(pool, more.len());
        }
        let block = self.block();
        let end = block.end as usize;
        block.bytes[end..end + more.len()].copy_from_slice(more);
        block.end += more.len() as u32;
    }

    /// Appends `len` bytes that `write` fills in where they are.
    pub fn extend_with(&mut self, pool: &mut FramePool, len: usize, write: impl FnOnce(&mut [u8])) {
        if self.0.bytes.len() - TAILROOM - (self.0.end as usize) < len {
            self.grow(pool, len);
        }
        let block = self.block();
        let end = block.end as usize;
        write(&mut block.bytes[end..end + len]);
        block.end += len as u32;
    }

    /// Shortens the payload to `len` bytes.
    pub fn truncate(&mut self, len: usize) {
        let block = self.block();
        block.end = block.end.min(block.payload + len as u32);
    }

    fn grow(&mut self, pool: &mut FramePool, more: usize) {
        let mut larger = pool.draft((self.len() + more).max(self.len() * 2));
        larger.extend(pool, self.payload());
        let full = std::mem::replace(self, larger);
        pool.put_back(full.0);
    }

    /// Puts the binary header of `voxhall.v1` before the payload.
    #[must_use]
    pub fn with_binary_header(mut self, header: BinaryHeader) -> Self {
        let block = self.block();
        let at = block.payload as usize - BINARY_HEADER_BYTES;
        block.bytes[at..at + BINARY_HEADER_BYTES].copy_from_slice(&header.to_bytes());
        block.payload = at as u32;
        self
    }

    /// Seals the payload as one unmasked WebSocket message (RFC 6455 section 5.2).
    #[must_use]
    pub fn seal(mut self, opcode: OpCode) -> Frame {
        let block = self.block();
        let len = (block.end - block.payload) as usize;
        let (header, header_len) = server_header(opcode, len);
        let start = block.payload as usize - header_len;
        block.bytes[start..start + header_len].copy_from_slice(&header[..header_len]);
        block.start = start as u32;
        block.bytes[block.end as usize] = b'\n';
        Frame(self.0)
    }

    /// Seals the payload as one message of a client (section 5.3): masked, in place.
    #[must_use]
    pub fn seal_masked(mut self, opcode: OpCode, key: [u8; 4]) -> Frame {
        let block = self.block();
        let (payload, end) = (block.payload as usize, block.end as usize);
        let (mut header, header_len) = server_header(opcode, end - payload);
        header[1] |= 0x80;
        let start = payload - key.len() - header_len;
        block.bytes[start..start + header_len].copy_from_slice(&header[..header_len]);
        block.bytes[start + header_len..payload].copy_from_slice(&key);
        apply_mask(&mut block.bytes[payload..end], key);
        block.start = start as u32;
        Frame(self.0)
    }

    /// Seals the payload as one compressed message (RFC 7692 section 6): RSV1 says so.
    #[must_use]
    pub fn seal_compressed(self, opcode: OpCode) -> Frame {
        let mut frame = self.seal(opcode);
        let block = Rc::get_mut(&mut frame.0).expect("a frame just sealed has one handle");
        block.bytes[block.start as usize] |= 0x40;
        frame
    }

    /// Seals the payload as it is, without a WebSocket header: an HTTP answer, or the parts of a batch.
    #[must_use]
    pub fn seal_raw(mut self) -> Frame {
        let block = self.block();
        block.start = block.payload;
        Frame(self.0)
    }
}

/// The header of an unfragmented, unmasked frame: bytes and how many of them count.
#[must_use]
pub fn server_header(opcode: OpCode, payload_len: usize) -> ([u8; 10], usize) {
    let mut header = [0; 10];
    header[0] = 0x80 | u8::from(opcode);
    let len = match payload_len {
        0..=125 => {
            header[1] = payload_len as u8;
            2
        }
        126..=65_535 => {
            header[1] = 126;
            header[2..4].copy_from_slice(&(payload_len as u16).to_be_bytes());
            4
        }
        _ => {
            header[1] = 127;
            header[2..10].copy_from_slice(&(payload_len as u64).to_be_bytes());
            10
        }
    };
    (header, len)
}

/// The opcode of a text message.
pub const TEXT: OpCode = OpCode::Data(Data::Text);
/// The opcode of a binary message.
pub const BINARY: OpCode = OpCode::Data(Data::Binary);
/// The opcode of a ping.
pub const PING: OpCode = OpCode::Control(Control::Ping);
/// The opcode of a pong.
pub const PONG: OpCode = OpCode::Control(Control::Pong);
/// The opcode of a close.
pub const CLOSE: OpCode = OpCode::Control(Control::Close);

/// The eight bytes before every binary message to a `voxhall.v1` client (PROTOCOL 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BinaryHeader {
    /// 1 audio, 2 events.
    pub kind: u8,
    /// Bit 0: first frame of a spurt; bit 1: last.
    pub flags: u8,
    /// 0 the engine, else the speaking member's number.
    pub track: u16,
    /// Milliseconds since the spurt began.
    pub timestamp_ms: u32,
}

impl BinaryHeader {
    /// What a message begins with, and what lies behind it; nothing when it is too short to have one.
    #[must_use]
    pub fn split(message: &mut [u8]) -> Option<(Self, &mut [u8])> {
        let (header, rest) = message.split_first_chunk_mut::<BINARY_HEADER_BYTES>()?;
        let &mut [kind, flags, track_lo, track_hi, t0, t1, t2, t3] = header;
        let track = u16::from_le_bytes([track_lo, track_hi]);
        Some((Self { kind, flags, track, timestamp_ms: u32::from_le_bytes([t0, t1, t2, t3]) }, rest))
    }

    /// As it travels, little-endian.
    #[must_use]
    pub fn to_bytes(self) -> [u8; BINARY_HEADER_BYTES] {
        let [track_lo, track_hi] = self.track.to_le_bytes();
        let [t0, t1, t2, t3] = self.timestamp_ms.to_le_bytes();
        [self.kind, self.flags, track_lo, track_hi, t0, t1, t2, t3]
    }
}

impl Frame {
    /// Header and payload, as they go to the kernel.
    pub fn wire(&self) -> &[u8] {
        &self.0.bytes[self.0.start as usize..self.0.end as usize]
    }

    /// The payload alone, as it goes into a batch.
    pub fn payload(&self) -> &[u8] {
        &self.0.bytes[self.0.payload as usize..self.0.end as usize]
    }

    /// Where the payload begins within [`Self::wire`].
    pub fn payload_offset(&self) -> usize {
        (self.0.payload - self.0.start) as usize
    }
}

/// A shard's free blocks.
#[derive(Debug, Default)]
pub struct FramePool {
    free: [Vec<Rc<Block>>; CLASS_BYTES.len()],
    /// Blocks taken from the allocator so far: flat in the steady state.
    allocated: u64,
}

impl FramePool {
    /// An empty draft with room for `capacity` payload bytes.
    pub fn draft(&mut self, capacity: usize) -> Draft {
        let class = CLASS_BYTES.iter().position(|&bytes| capacity <= bytes);
        if let Some(mut block) = class.and_then(|class| self.free[class].pop()) {
            let fresh = Rc::get_mut(&mut block).expect("only blocks without another handle are put back");
            (fresh.start, fresh.payload, fresh.end) = (HEADROOM as u32, HEADROOM as u32, HEADROOM as u32);
            return Draft(block);
        }
        self.allocated += 1;
        let bytes = vec![0; HEADROOM + class.map_or(capacity, |class| CLASS_BYTES[class]) + TAILROOM]
            .into_boxed_slice();
        let at = HEADROOM as u32;
        Draft(Rc::new(Block { bytes, start: at, payload: at, end: at }))
    }

    /// A draft that holds a copy of `payload`.
    pub fn copy(&mut self, payload: &[u8]) -> Draft {
        let mut draft = self.draft(payload.len());
        draft.extend(self, payload);
        draft
    }

    /// Takes a frame that one holder has done with; the last one returns the block to the pool.
    pub fn recycle(&mut self, frame: Frame) {
        self.put_back(frame.0);
    }

    /// Takes back a draft that won't be sent.
    pub fn discard(&mut self, draft: Draft) {
        self.put_back(draft.0);
    }

    fn put_back(&mut self, mut block: Rc<Block>) {
        let capacity = block.bytes.len() - HEADROOM - TAILROOM;
        let class = CLASS_BYTES.iter().position(|&bytes| bytes == capacity);
        if let (Some(class), Some(_)) = (class, Rc::get_mut(&mut block)) {
            let keep = CLASS_RETAINED_BYTES_MAX / CLASS_BYTES[class];
            if self.free[class].len() < keep {
                self.free[class].push(block);
            }
        }
    }

    /// Blocks taken from the allocator so far.
    pub fn allocated(&self) -> u64 {
        self.allocated
    }
}

/// What one send carries: parts of frames and a few bytes of its own, in order. It holds its frames, so that the
/// bytes stay where they are until the kernel has answered.
#[derive(Debug, Default)]
pub struct Gather {
    parts: Vec<Part>,
    len: usize,
}

#[derive(Debug)]
enum Part {
    /// A range of the frame's wire form; one byte past it is the line feed.
    Shared(Frame, Range<u32>),
    /// Bytes that belong to this send alone: the header of a batch.
    Own([u8; 4], Range<u32>),
}

impl Gather {
    /// Adds bytes `range` of the frame's wire form. The range may end one byte past it, at the line feed.
    pub fn push(&mut self, frame: Frame, range: Range<u32>) {
        self.len += range.len();
        self.parts.push(Part::Shared(frame, range));
    }

    /// Adds bytes `range` of a header that only this send has.
    pub fn push_own(&mut self, bytes: [u8; 4], range: Range<u32>) {
        self.len += range.len();
        self.parts.push(Part::Own(bytes, range));
    }

    /// The slices to send, in order.
    pub fn slices(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.parts.iter().map(|part| match part {
            Part::Shared(Frame(block), range) => {
                let start = block.start as usize;
                &block.bytes[start + range.start as usize..start + range.end as usize]
            }
            Part::Own(bytes, range) => &bytes[range.start as usize..range.end as usize],
        })
    }

    /// How many slices.
    pub fn parts(&self) -> usize {
        self.parts.len()
    }

    /// Bytes in all.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Lets go of the frames; keeps the capacity.
    pub fn clear(&mut self) {
        self.parts.clear();
        self.len = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_and_payload_are_contiguous_at_every_length_form() {
        let mut pool = FramePool::default();
        for (len, header) in [(0, 2), (125, 2), (126, 4), (65_535, 4), (65_536, 10), (200_000, 10)] {
            let payload = vec![7; len];
            let frame = pool.copy(&payload).seal(BINARY);
            assert_eq!(frame.wire().len(), header + len);
            assert_eq!(frame.payload(), payload);
            assert_eq!(frame.payload_offset(), header);
            assert_eq!(frame.wire()[0], 0x82);
        }
    }

    #[test]
    fn the_binary_header_is_little_endian_and_before_the_payload() {
        let mut pool = FramePool::default();
        let header = BinaryHeader { kind: 1, flags: 3, track: 0x0102, timestamp_ms: 0x0a0b_0c0d };
        let frame = pool.copy(b"pcm").with_binary_header(header).seal(BINARY);
        assert_eq!(frame.wire(), b"\x82\x0b\x01\x03\x02\x01\x0d\x0c\x0b\x0apcm");
    }

    #[test]
    fn a_client_s_message_is_masked_where_it_lies() {
        let mut pool = FramePool::default();
        for (len, header) in [(0, 6), (125, 6), (126, 8), (65_535, 8), (65_536, 14)] {
            let mut frame = pool.copy(&vec![7; len]).seal_masked(TEXT, [1, 2, 3, 4]).wire().to_vec();
            assert_eq!(frame.len(), header + len);
            let mut decoder = super::super::ws::Decoder::new();
            let item = decoder.next(&mut frame.as_mut_slice(), usize::MAX);
            assert_eq!(item, Ok(Some(super::super::ws::Item::Text(&mut vec![7; len]))));
        }
        let frame = pool.copy(b"Hello").seal_masked(TEXT, [0x37, 0xfa, 0x21, 0x3d]);
        assert_eq!(frame.wire(), b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58", "RFC 6455 section 5.7");
    }

    #[test]
    fn blocks_come_back_only_from_their_last_holder() {
        let mut pool = FramePool::default();
        let frame = pool.copy(b"shared").seal(TEXT);
        let other = frame.clone();
        pool.recycle(frame);
        let second = pool.copy(b"second").seal(TEXT);
        assert_eq!(pool.allocated(), 2, "the first block is still in use");
        assert_eq!(other.payload(), b"shared");
        pool.recycle(other);
        pool.recycle(second);
        let _ = (pool.draft(10), pool.draft(10));
        assert_eq!(pool.allocated(), 2, "both blocks were used again");
    }

    #[test]
    fn a_draft_grows_past_its_class_without_losing_a_byte() {
        let mut pool = FramePool::default();
        let mut draft = pool.draft(0);
        let all: Vec<u8> = (0..10_000u32).map(|i| i as u8).collect();
        for piece in all.chunks(37) {
            draft.extend(&mut pool, piece);
        }
        assert_eq!(draft.payload(), all);
    }
}
