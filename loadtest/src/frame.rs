//! Frames: the one that is sent, built once and stamped before each send, and the scanner for what comes back.
//!
//! Server frames are not masked, so they are read in place in the shared receive buffer and nothing is copied
//! unless a frame is split over two reads.

/// Bytes of the stamp at the start of each payload; the least `--frame-bytes`.
pub(crate) const STAMP_BYTES: usize = 16;

/// A frame beyond this is a protocol error: nothing here asks for one.
const PAYLOAD_BYTES_MAX: u64 = 16 << 20;

/// A fixed key: a random one per frame would cost the generator and change nothing for the server.
const MASK: [u8; 4] = [0x5a, 0xc3, 0x17, 0xe9];

/// What identifies a frame when it returns.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Stamp {
    /// Counts the frames of one connection.
    pub(crate) seq: u32,
    /// How much later than intended it was first offered to the socket.
    pub(crate) late_us: u32,
    /// The intended send time.
    pub(crate) intended_us: u64,
}

impl Stamp {
    pub(crate) fn to_bytes(self) -> [u8; STAMP_BYTES] {
        let mut bytes = [0; STAMP_BYTES];
        bytes[..4].copy_from_slice(&self.seq.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.late_us.to_le_bytes());
        bytes[8..].copy_from_slice(&self.intended_us.to_le_bytes());
        bytes
    }

    /// Reads the stamp at the start of a payload.
    pub(crate) fn read(payload: &[u8]) -> Option<Self> {
        let bytes: &[u8; STAMP_BYTES] = payload.first_chunk()?;
        let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        Some(Self {
            seq: word(0),
            late_us: word(4),
            intended_us: u64::from(word(8)) | u64::from(word(12)) << 32,
        })
    }
}

/// The masked binary frame, ready but for its stamp.
pub(crate) struct Template {
    bytes: Vec<u8>,
    stamp_at: usize,
    rest: Vec<u8>,
}

impl Template {
    /// A frame with `payload_bytes` of noise-like payload (at least a stamp's worth).
    pub(crate) fn new(payload_bytes: usize) -> Self {
        let payload: Vec<u8> = (0..payload_bytes.max(STAMP_BYTES)).map(|n| (n * 31 % 251) as u8).collect();
        let bytes = masked(OpCode::Binary, &payload);
        let stamp_at = bytes.len() - payload.len();
        Self { bytes, stamp_at, rest: payload[STAMP_BYTES..].to_vec() }
    }

    /// The frame with this stamp.
    pub(crate) fn stamped(&mut self, stamp: Stamp) -> &[u8] {
        let key = u128::from_le_bytes([MASK; 4].concat().try_into().unwrap_or([0; STAMP_BYTES]));
        let stamped = (u128::from_le_bytes(stamp.to_bytes()) ^ key).to_le_bytes();
        self.bytes[self.stamp_at..self.stamp_at + STAMP_BYTES].copy_from_slice(&stamped);
        &self.bytes
    }

    /// The payload behind the stamp.
    pub(crate) fn rest(&self) -> &[u8] {
        &self.rest
    }

    /// Bytes on the wire.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }
}

/// The opcodes that matter here.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum OpCode {
    /// A later part of a fragmented message
    Continuation,
    /// JSON events
    Text,
    /// Audio
    Binary,
    /// Close
    Close,
    /// Ping
    Ping,
    /// Pong
    Pong,
}

/// A whole client frame, masked.
pub(crate) fn masked(opcode: OpCode, payload: &[u8]) -> Vec<u8> {
    let code = match opcode {
        OpCode::Continuation => 0,
        OpCode::Text => 1,
        OpCode::Binary => 2,
        OpCode::Close => 8,
        OpCode::Ping => 9,
        OpCode::Pong => 10,
    };
    let mut frame = Vec::with_capacity(payload.len() + 14);
    frame.push(0x80 | code);
    match payload.len() {
        len @ 0..126 => frame.push(0x80 | len as u8),
        len @ 126..65536 => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&(len as u16).to_be_bytes());
        }
        len => {
            frame.push(0x80 | 127);
            frame.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(&MASK);
    frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, key)| byte ^ key));
    frame
}

/// What stands at the start of a buffer.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum Scan<'a> {
    /// A whole frame, its payload, and how many bytes it took.
    Frame { opcode: OpCode, payload: &'a [u8], taken: usize },
    /// The beginning of one.
    More,
    /// Something no server may send; the text says what.
    Broken(&'static str),
}

/// Looks at the frame at the start of `bytes`.
pub(crate) fn scan(bytes: &[u8]) -> Scan<'_> {
    let [first, second, rest @ ..] = bytes else { return Scan::More };
    if first & 0x70 != 0 {
        return Scan::Broken("reserved_bits");
    }
    if second & 0x80 != 0 {
        return Scan::Broken("masked_by_server");
    }
    let opcode = match first & 0x0f {
        0 => OpCode::Continuation,
        1 => OpCode::Text,
        2 => OpCode::Binary,
        8 => OpCode::Close,
        9 => OpCode::Ping,
        10 => OpCode::Pong,
        _ => return Scan::Broken("unknown_opcode"),
    };
    let (len, head) = match second & 0x7f {
        126 => match rest.first_chunk::<2>() {
            Some(len) => (u64::from(u16::from_be_bytes(*len)), 4),
            None => return Scan::More,
        },
        127 => match rest.first_chunk::<8>() {
            Some(len) => (u64::from_be_bytes(*len), 10),
            None => return Scan::More,
        },
        len => (u64::from(len), 2),
    };
    if len > PAYLOAD_BYTES_MAX {
        return Scan::Broken("oversized_frame");
    }
    let end = head + len as usize;
    match bytes.get(head..end) {
        Some(payload) => Scan::Frame { opcode, payload, taken: end },
        None => Scan::More,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A server frame, for tests.
    pub(crate) fn unmasked(code: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![0x80 | code];
        match payload.len() {
            len @ 0..126 => frame.push(len as u8),
            len @ 126..65536 => {
                frame.push(126);
                frame.extend_from_slice(&(len as u16).to_be_bytes());
            }
            len => {
                frame.push(127);
                frame.extend_from_slice(&(len as u64).to_be_bytes());
            }
        }
        frame.extend_from_slice(payload);
        frame
    }

    #[test]
    fn frames_are_found_whole_wherever_the_stream_is_split() {
        let mut stream = Vec::new();
        let payloads: Vec<Vec<u8>> = [0usize, 1, 125, 126, 640, 70_000].map(|len| vec![7; len]).into();
        for payload in &payloads {
            stream.extend(unmasked(2, payload));
        }
        let splits = (0..stream.len().min(1_000)).chain(stream.len() - 40..stream.len());
        for split in splits {
            let mut found = Vec::new();
            let mut kept: Vec<u8> = Vec::new();
            for part in [&stream[..split], &stream[split..]] {
                kept.extend_from_slice(part);
                let mut at = 0;
                while let Scan::Frame { opcode, payload, taken } = scan(&kept[at..]) {
                    assert_eq!(opcode, OpCode::Binary);
                    found.push(payload.to_vec());
                    at += taken;
                }
                kept.drain(..at);
            }
            assert_eq!(found, payloads, "split at {split}");
            assert!(kept.is_empty());
        }
    }

    #[test]
    fn what_no_server_may_send_is_named() {
        assert_eq!(scan(&[0xc2, 0]), Scan::Broken("reserved_bits"));
        assert_eq!(scan(&[0x82, 0x80]), Scan::Broken("masked_by_server"));
        assert_eq!(scan(&[0x83, 0]), Scan::Broken("unknown_opcode"));
        assert_eq!(scan(&[0x82, 127, 1, 0, 0, 0, 0, 0, 0, 0]), Scan::Broken("oversized_frame"));
    }

    #[test]
    fn a_stamp_survives_masking_and_back() {
        let stamp = Stamp { seq: 7, late_us: 130, intended_us: 0x1234_5678_9abc };
        for len in [16, 125, 126, 640, 70_000] {
            let mut template = Template::new(len);
            let frame = template.stamped(stamp).to_vec();
            let mut payload = frame[frame.len() - len..].to_vec();
            payload.iter_mut().zip(MASK.iter().cycle()).for_each(|(byte, key)| *byte ^= key);
            assert_eq!(Stamp::read(&payload), Some(stamp));
            assert_eq!(template.len(), frame.len());
        }
    }
}
