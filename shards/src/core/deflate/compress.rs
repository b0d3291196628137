//! Compressing a message.

use flate2::{Compress, Compression, FlushCompress};

use super::{OUTPUT_RETAINED_BYTES, TAIL, WindowBits};

/// How hard the compressor looks for repetitions, from 1 to 9. A whole shard waits for it: of the levels that adapt
/// their codes to the message this is the fastest, and more would make JSON a tenth shorter in half as much time again.
const LEVEL: u32 = 2;

/// A shard's compressor, for messages to any of its connections.
#[derive(Debug, Default)]
pub struct Compressor {
    /// One for each window, made when it is first used.
    streams: [Option<Box<Compress>>; WindowBits::COUNT],
    out: Vec<u8>,
}

impl Compressor {
    /// The payload compressed with a window of that size, as it travels (section 7.2.1). Nothing if that would not be
    /// shorter: a message may go as it is (section 6).
    pub fn compress(&mut self, window: WindowBits, payload: &[u8]) -> Option<&[u8]> {
        let stream = self.streams[window.index()].get_or_insert_with(|| {
            Box::new(Compress::new_with_window_bits(Compression::new(LEVEL), false, window.get()))
        });
        stream.reset();
        self.out.clear();
        self.out.shrink_to(OUTPUT_RETAINED_BYTES);
        self.out.reserve_exact(payload.len() + TAIL.len());
        // What does not fit has not become shorter, so that one call is enough.
        stream.compress_vec(payload, &mut self.out, FlushCompress::Sync).ok()?;
        let all = stream.total_in() == payload.len() as u64;
        let compressed = self.out.strip_suffix(&TAIL)?;
        (all && compressed.len() < payload.len()).then_some(compressed)
    }
}
