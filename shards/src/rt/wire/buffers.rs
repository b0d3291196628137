//! The provided buffers: a pool that the kernel draws from when bytes arrive, so that a silent connection holds
//! none.
//!
//! One mapping, populated at start so that memory does not creep up later: the ring of entries first, then the
//! buffers. A buffer belongs to the kernel from [`Buffers::publish`] until a completion names it, then to us
//! until it is given back, in the same turn.

use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::BufRingEntry;

use super::ring::{BUFFER_GROUP, Ring};

/// Bytes between buffers beyond their own: an odd number of cache lines, so that the beginnings of all buffers,
/// which is what small frames touch, don't compete for the same few sets of the cache.
const STAGGER: usize = 11 * 64;

/// The pool.
pub(crate) struct Buffers {
    map: NonNull<u8>,
    map_len: usize,
    /// A power of two.
    count: u16,
    bytes: u32,
    /// Where the buffers begin in the mapping.
    offset: usize,
    /// Entries written so far, modulo 2^16; the kernel sees them when published.
    tail: u16,
}

impl Buffers {
    /// Maps `count` buffers (rounded up to a power of two) of `bytes` each and gives them to the ring.
    pub(crate) fn new(ring: &Ring, count: u16, bytes: u32) -> io::Result<Self> {
        let count = count.clamp(2, 1 << 15).next_power_of_two();
        let entries = usize::from(count) * size_of::<BufRingEntry>();
        let offset = entries.next_multiple_of(4_096);
        let map_len = offset + usize::from(count) * stride(bytes);
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_POPULATE;
        // SAFETY: a fresh anonymous mapping; no existing memory is named.
        let map = unsafe { libc::mmap(std::ptr::null_mut(), map_len, protection, flags, -1, 0) };
        if map == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let map = NonNull::new(map.cast()).ok_or_else(|| io::Error::other("a mapping at address zero"))?;
        let mut buffers = Self { map, map_len, count, bytes, offset, tail: 0 };
        // SAFETY: the mapping begins with `count` entries and is page aligned. It outlives every receive: `Wire`
        // unmaps it only when nothing is in flight, and leaks it otherwise; the probes drop their ring first.
        unsafe {
            ring.uring().submitter().register_buf_ring_with_flags(
                map.as_ptr() as u64,
                count,
                BUFFER_GROUP,
                0,
            )?;
        }
        (0..count).for_each(|id| buffers.give_back(id));
        buffers.publish();
        Ok(buffers)
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        usize::from(self.count)
    }

    /// Whether so many bytes fill a buffer, so that more may be waiting.
    pub(crate) fn is_full(&self, len: usize) -> bool {
        len >= self.bytes as usize
    }

    /// The first `len` bytes of a buffer that a completion named.
    pub(crate) fn filled(&mut self, id: u16, len: usize) -> &mut [u8] {
        assert!(id < self.count && len <= self.bytes as usize, "the kernel names only buffers it was given");
        let at = self.offset + usize::from(id) * stride(self.bytes);
        // SAFETY: within the mapping by the assertion; ours alone between the completion and `give_back`, and
        // borrowed from `self`, so that neither can happen while the slice lives.
        unsafe { std::slice::from_raw_parts_mut(self.map.as_ptr().add(at), len) }
    }

    /// Writes the entry that returns a buffer. The kernel sees it after [`Self::publish`].
    pub(crate) fn give_back(&mut self, id: u16) {
        let at = self.offset + usize::from(id) * stride(self.bytes);
        let slot = usize::from(self.tail & (self.count - 1));
        // SAFETY: the mapping begins with `count` zeroed or written entries. The kernel reads an entry only below
        // the published tail, and this one lies above it: at most `count` buffers exist, each given back once.
        let entry = unsafe { &mut *self.map.as_ptr().cast::<BufRingEntry>().add(slot) };
        entry.set_addr(self.map.as_ptr() as u64 + at as u64);
        entry.set_len(self.bytes);
        entry.set_bid(id);
        self.tail = self.tail.wrapping_add(1);
    }

    /// Lets the kernel see what was given back.
    pub(crate) fn publish(&self) {
        // SAFETY: the tail overlays the reserved field of the first entry, two-byte aligned, inside the mapping;
        // besides the kernel, which only reads it, it is accessed only here.
        unsafe {
            let tail = BufRingEntry::tail(self.map.as_ptr().cast::<BufRingEntry>());
            (*tail.cast::<AtomicU16>()).store(self.tail, Ordering::Release);
        }
    }
}

const fn stride(bytes: u32) -> usize {
    (bytes as usize).next_multiple_of(64) + STAGGER
}

impl Drop for Buffers {
    fn drop(&mut self) {
        // SAFETY: our own mapping, unmapped once, and no slice of it is borrowed; no receive is left that could draw
        // from it (see `new`). That the ring still names it until it closes does not matter without one.
        unsafe { libc::munmap(self.map.as_ptr().cast(), self.map_len) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_lie_apart_within_their_mapping() {
        let ring = Ring::new(2).expect("a ring");
        let mut buffers = Buffers::new(&ring, 5, 1_000).expect("memory");
        assert_eq!(buffers.count(), 8, "rounded up to a power of two");
        for id in 0..8 {
            buffers.filled(id, 1_000).fill(id as u8);
        }
        let end = buffers.map.as_ptr() as usize + buffers.map_len;
        for id in 0..8 {
            let bytes = buffers.filled(id, 1_000);
            assert!(bytes.iter().all(|&byte| byte == id as u8), "nobody else wrote into buffer {id}");
            assert!(bytes.as_ptr_range().end as usize <= end);
        }
        drop(ring);
    }

    #[test]
    #[should_panic(expected = "the kernel names only buffers it was given")]
    fn a_buffer_that_does_not_exist_is_not_looked_at() {
        let ring = Ring::new(2).expect("a ring");
        let mut buffers = Buffers::new(&ring, 2, 64).expect("memory");
        buffers.filled(2, 1);
    }

    #[test]
    #[should_panic(expected = "the kernel names only buffers it was given")]
    fn more_than_a_buffer_holds_is_not_looked_at() {
        let ring = Ring::new(2).expect("a ring");
        let mut buffers = Buffers::new(&ring, 2, 64).expect("memory");
        buffers.filled(0, 65);
    }
}
