//! Audio kept as it came, compactly: bytes in the room's format, and for Opus each packet behind its length.

use crate::core::event::{AudioFormat, Codec};

/// What one window, one chunk and one Opus packet take.
pub(in super::super) const WINDOW_MS: u64 = 20;

/// Longest recording; what goes on longer is committed there and begins anew.
pub(in super::super) const RECORDING_MS_MAX: u64 = 60_000;

/// Bytes that a recording holds at most, which only Opus packets larger than speech needs can reach.
const RECORDING_BYTES_MAX: usize = 4 << 20;

/// Bytes of the length before each Opus packet.
const LENGTH_BYTES: usize = 2;

/// Kept audio.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in super::super) struct Recording {
    bytes: Vec<u8>,
    /// Opus packets; zero for other codecs.
    packets: u32,
}

/// A place in a recording to cut it at.
#[derive(Clone, Copy, Debug, Default)]
pub(in super::super) struct Cut {
    bytes: usize,
    packets: u32,
}

impl Recording {
    /// Appends audio, one packet if it is Opus.
    pub(in super::super) fn push(&mut self, format: AudioFormat, audio: &[u8]) {
        if format.codec != Codec::Opus {
            self.bytes.extend_from_slice(audio);
        } else if let Ok(length) = u16::try_from(audio.len()) {
            self.bytes.extend_from_slice(&length.to_le_bytes());
            self.bytes.extend_from_slice(audio);
            self.packets += 1;
        }
    }

    /// The bytes as they are kept.
    pub(in super::super) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    pub(in super::super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(in super::super) fn duration_ms(&self, format: AudioFormat) -> u64 {
        match format.bytes_per_ms() {
            Some(bytes) => (self.bytes.len() / bytes) as u64,
            None => u64::from(self.packets) * WINDOW_MS,
        }
    }

    /// Whether it takes no more.
    pub(in super::super) fn is_full(&self, format: AudioFormat) -> bool {
        self.duration_ms(format) >= RECORDING_MS_MAX || self.bytes.len() >= RECORDING_BYTES_MAX
    }

    /// How many of `more` bytes still fit; an Opus packet always does.
    pub(in super::super) fn room_for(&self, format: AudioFormat, more: usize) -> usize {
        match format.bytes_per_ms() {
            Some(bytes) => more.min((bytes * RECORDING_MS_MAX as usize).saturating_sub(self.bytes.len())),
            None => more,
        }
    }

    pub(in super::super) fn end(&self) -> Cut {
        Cut { bytes: self.bytes.len(), packets: self.packets }
    }

    pub(in super::super) fn cut_after(&mut self, cut: Cut) {
        self.bytes.truncate(cut.bytes);
        self.packets = self.packets.min(cut.packets);
    }

    /// Forgets the oldest windows until at most `windows` are left.
    pub(in super::super) fn keep_last(&mut self, format: AudioFormat, windows: usize) {
        let mut from = 0;
        match window_bytes(format) {
            Some(bytes) => from = self.bytes.len().saturating_sub(windows * bytes),
            None => {
                while self.packets as usize > windows {
                    from += LENGTH_BYTES + self.packet_len(from);
                    self.packets -= 1;
                }
            }
        }
        self.bytes.drain(..from);
    }

    /// Gives back memory that growing took in advance.
    pub(in super::super) fn settle(&mut self) {
        self.bytes.shrink_to_fit();
    }

    /// How many chunks its playback takes.
    pub(in super::super) fn chunks(&self, format: AudioFormat) -> u64 {
        match window_bytes(format) {
            Some(bytes) => self.bytes.len().div_ceil(bytes) as u64,
            None => self.packets.into(),
        }
    }

    /// The chunk at `cursor`, which then stands at the next one.
    pub(in super::super) fn chunk(&self, format: AudioFormat, cursor: &mut usize) -> &[u8] {
        let (start, len) = match window_bytes(format) {
            Some(bytes) => (*cursor, bytes),
            None => (*cursor + LENGTH_BYTES, self.packet_len(*cursor)),
        };
        let end = (start + len).min(self.bytes.len());
        *cursor = end;
        self.bytes.get(start..end).unwrap_or_default()
    }

    fn packet_len(&self, at: usize) -> usize {
        match self.bytes.get(at..at + LENGTH_BYTES) {
            Some(&[low, high]) => u16::from_le_bytes([low, high]).into(),
            _ => 0,
        }
    }
}

/// Bytes of one window; nothing for Opus, where a packet is one.
pub(in super::super) fn window_bytes(format: AudioFormat) -> Option<usize> {
    format.bytes_per_ms().map(|bytes| bytes * WINDOW_MS as usize)
}
