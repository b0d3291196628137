//! permessage-deflate (RFC 7692), the part that computes: messages compressed and inflated, each by itself.
//!
//! Both directions are agreed to be without context takeover, so that nothing has to be remembered between two
//! messages. A shard has one [`Compressor`] and one [`Inflater`] for all its connections; a connection holds one byte,
//! the window that its client wants. What they need is allocated with the first message: for compressing about 200 KiB
//! for each window in use, at most seven; for inflating about 50 KiB; and for the output up to
//! [`OUTPUT_RETAINED_BYTES`]. How the extension is agreed on says [`super::http`], which messages are compressed the
//! shard.

mod compress;
mod inflate;

#[cfg(test)]
mod clause_tests;
#[cfg(test)]
mod property_tests;

use ::core::num::NonZeroU8;

pub use compress::Compressor;
pub use inflate::Inflater;

/// What ends each compressed message and does not travel (section 7.2.1): the end of an empty block.
const TAIL: [u8; 4] = [0x00, 0x00, 0xff, 0xff];

/// Memory for output that is kept from one message to the next: most are shorter, and a longer one pays for itself.
const OUTPUT_RETAINED_BYTES: usize = 64 << 10;

/// The LZ77 window of a compressor: the base-2 logarithm of its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowBits(NonZeroU8);

impl WindowBits {
    /// How many there are.
    pub const COUNT: usize = 7;

    /// The largest, which a client takes that asks for none (section 7.1.2.1).
    pub const MAX: Self = Self(NonZeroU8::new(15).unwrap());

    /// From 9 to 15. The RFC allows 8 as well; the compressor has no such window.
    #[must_use]
    pub const fn new(bits: u8) -> Option<Self> {
        match NonZeroU8::new(bits) {
            Some(bits) if bits.get() >= 9 && bits.get() <= 15 => Some(Self(bits)),
            _ => None,
        }
    }

    /// As a number from 9 to 15.
    #[must_use]
    pub const fn get(self) -> u8 {
        self.0.get()
    }

    /// As a number from 0 to one less than [`Self::COUNT`].
    pub(super) fn index(self) -> usize {
        usize::from(self.get()) - 9
    }
}

const _: () = assert!(size_of::<Option<WindowBits>>() == 1, "one byte for each connection");
