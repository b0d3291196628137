//! Send slots: what a send needs to stay where it is while the kernel reads it.
//!
//! A slot is used from the moment a send is queued until its completion, which comes in the same system call
//! because no send waits. So there are never more slots than submission queue entries, whatever the number of
//! connections, and a slot's vectors are used again: the steady state allocates nothing.

use crate::core::{ConnKey, Gather};

/// One send.
pub(super) struct SendSlot {
    /// Whose.
    pub(super) conn: ConnKey,
    /// The frames: their bytes stay valid while they are here.
    pub(super) gather: Gather,
    vectors: Vec<libc::iovec>,
    header: libc::msghdr,
}

impl SendSlot {
    fn new() -> Self {
        // SAFETY: `msghdr` is plain integers and pointers, for which all zeros is a valid, empty header.
        let header = unsafe { std::mem::zeroed() };
        let conn = ConnKey { index: 0, generation: 0 };
        Self { conn, gather: Gather::default(), vectors: Vec::new(), header }
    }

    /// The bytes, when they are in one piece.
    pub(super) fn single(&self) -> Option<&[u8]> {
        let mut slices = self.gather.slices();
        let first = slices.next();
        first.filter(|_| slices.next().is_none())
    }

    /// A header that lists all pieces; valid until the slot is touched again.
    pub(super) fn header(&mut self) -> *const libc::msghdr {
        self.vectors.clear();
        self.vectors.extend(
            self.gather
                .slices()
                .map(|part| libc::iovec { iov_base: part.as_ptr().cast_mut().cast(), iov_len: part.len() }),
        );
        self.header.msg_iov = self.vectors.as_mut_ptr();
        self.header.msg_iovlen = self.vectors.len() as _;
        &raw const self.header
    }
}

/// The slots, made as needed and kept.
#[derive(Default)]
pub(super) struct SendSlots {
    /// Boxed because the kernel is given their address.
    #[expect(clippy::vec_box, reason = "the kernel holds a slot's address while the vector may grow")]
    slots: Vec<Box<SendSlot>>,
    free: Vec<u32>,
}

impl SendSlots {
    /// A free slot, with an empty gather.
    pub(super) fn take(&mut self) -> (u32, &mut SendSlot) {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Box::new(SendSlot::new()));
            (self.slots.len() - 1) as u32
        });
        (index, &mut self.slots[index as usize])
    }

    /// Frees a slot: lets go of its frames, says whose it was.
    pub(super) fn release(&mut self, index: u32) -> ConnKey {
        let slot = &mut self.slots[index as usize];
        slot.gather.clear();
        self.free.push(index);
        slot.conn
    }
}
