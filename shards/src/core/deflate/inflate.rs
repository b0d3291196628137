//! Inflating a message, within bounds.

use flate2::{Decompress, FlushDecompress, Status};

use super::super::ws::Violation;
use super::{OUTPUT_RETAINED_BYTES, TAIL};

/// What is read behind a message: the tail that did not travel, and a last block. A message that was complete ends
/// with it exactly; zlib would not tell of one that was cut short.
const ENDING: [u8; 9] = {
    let [a, b, c, d] = TAIL;
    [a, b, c, d, 0x01, 0x00, 0x00, 0xff, 0xff]
};

/// Most DEFLATE streams in one message. A sender ends one with a final block whenever it flushes (section 7.2.3.4),
/// which is seldom; beginning anew costs time that grows with nothing that was sent.
const STREAMS_MAX: usize = 1_024;

/// Output to begin with. It doubles while that is not enough.
const OUTPUT_BYTES_FIRST: usize = 4 << 10;

/// A shard's inflater, for messages of any of its connections, whatever their windows: its own is the largest.
#[derive(Debug, Default)]
pub struct Inflater {
    /// Made when it is first used.
    stream: Option<Box<Decompress>>,
    out: Vec<u8>,
}

impl Inflater {
    /// A compressed message as it was before. It never has more than `message_bytes_max` bytes, nor is more than one
    /// byte beyond that allocated for it. To be given back with [`Self::put_back`].
    ///
    /// # Errors
    /// 1009 when it is longer, 1007 when it can't be inflated.
    pub fn inflate(&mut self, payload: &[u8], message_bytes_max: usize) -> Result<Vec<u8>, Violation> {
        let stream = self.stream.get_or_insert_with(|| Box::new(Decompress::new(false)));
        let mut out = std::mem::take(&mut self.out);
        match inflate(stream, payload, &mut out, message_bytes_max) {
            Ok(()) => Ok(out),
            Err(violation) => {
                self.put_back(out);
                Err(violation)
            }
        }
    }

    /// Keeps the memory of an inflated message for the next.
    pub fn put_back(&mut self, mut message: Vec<u8>) {
        message.clear();
        message.shrink_to(OUTPUT_RETAINED_BYTES);
        self.out = message;
    }
}

fn inflate(stream: &mut Decompress, payload: &[u8], out: &mut Vec<u8>, max: usize) -> Result<(), Violation> {
    stream.reset(false);
    let (mut ended, mut streams) = (false, 1);
    for mut input in [payload, &ENDING] {
        loop {
            if ended && input.is_empty() {
                break;
            }
            if std::mem::take(&mut ended) {
                // Section 7.2.3.4: a block may be flagged as final, and others follow.
                streams += 1;
                stream.reset(false);
            }
            if streams > STREAMS_MAX {
                return Err(Violation::corrupt());
            }
            make_room(out, max);
            let before = stream.total_in();
            let status = stream.decompress_vec(input, out, FlushDecompress::None);
            let status = status.map_err(|_| Violation::corrupt())?;
            input = &input[(stream.total_in() - before) as usize..];
            if out.len() > max {
                return Err(Violation::too_big());
            }
            ended = status == Status::StreamEnd;
            if !ended && out.len() < out.capacity() {
                // It would have gone on if there were more.
                debug_assert!(input.is_empty(), "the inflater stops only for want of input or room");
                break;
            }
        }
    }
    if ended { Ok(()) } else { Err(Violation::corrupt()) }
}

/// Room for one byte at least. One byte beyond the bound is enough to see that a message is longer.
fn make_room(out: &mut Vec<u8>, max: usize) {
    if out.len() == out.capacity() {
        let capacity = (2 * out.len()).max(OUTPUT_BYTES_FIRST).min(max + 1);
        out.reserve_exact(capacity - out.len());
    }
}
