//! Sends that the kernel is being given: their bytes stay where they are until it has answered.
//!
//! A send never waits in the kernel, so it is over when the call that submitted it returns. It completes only when
//! the socket did not take everything; without a completion it went through whole, and costs no second visit of the
//! completion queue. Between two calls there are never more sends than submission queue entries, whatever the
//! number of connections, and a slot's vectors are used again: the steady state allocates nothing.

use std::collections::VecDeque;

use super::Wire;
use super::slots::busy;
use super::token::{Kind, Token};
use crate::core::{ConnKey, Gather, SendOutcome};
use crate::rt::tls::Broken;

/// One send.
pub(super) struct SendSlot {
    conn: ConnKey,
    /// The frames: their bytes stay valid while they are here.
    pub(super) gather: Gather,
    /// The same as TLS has it, and what the session itself had to say; empty on a plain connection.
    pub(super) sealed: Vec<u8>,
    /// Plaintext bytes of the core in `sealed`; nothing when the session only spoke for itself.
    pub(super) plain: Option<usize>,
    /// Whether it could not be sealed.
    pub(super) broken: bool,
    /// Whether its connection has a TLS session.
    is_sealed: bool,
    /// What a completion said: the bytes taken, or a negated error. Without one everything was taken.
    result: Option<i32>,
    vectors: Vec<libc::iovec>,
    header: libc::msghdr,
}

impl SendSlot {
    pub(super) fn new() -> Self {
        // SAFETY: `msghdr` is plain integers and pointers, for which all zeros is a valid, empty header.
        let header = unsafe { std::mem::zeroed() };
        let conn = ConnKey { index: 0, generation: 0 };
        Self {
            conn,
            gather: Gather::default(),
            sealed: Vec::new(),
            plain: None,
            broken: false,
            is_sealed: false,
            result: None,
            vectors: Vec::new(),
            header,
        }
    }

    /// The bytes, when they are in one piece.
    pub(super) fn single(&self) -> Option<&[u8]> {
        if !self.sealed.is_empty() {
            return Some(&self.sealed);
        }
        let mut slices = self.gather.slices();
        if slices.len() == 1 { slices.next() } else { None }
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

    /// Whether it names nothing, so that nobody is told of it.
    fn is_void(&self) -> bool {
        self.gather.is_empty() && self.sealed.is_empty() && self.plain.is_none()
    }

    /// Whether there is something for the kernel. Without it the send is over as it is: there was no session to
    /// seal it in, or only a byte that has left already.
    fn is_for_kernel(&self) -> bool {
        !self.broken && (!self.gather.is_empty() || !self.sealed.is_empty())
    }

    fn outcome(&mut self) -> SendOutcome {
        match self.result.take() {
            None => SendOutcome::Sent(self.gather.len()),
            Some(sent @ 1..) => SendOutcome::Sent(sent as usize),
            Some(again) if -again == libc::EAGAIN => SendOutcome::WouldBlock,
            Some(_) => SendOutcome::Broken,
        }
    }

    /// The outcome of a sealed send, for [`Sealed::outcome`](super::sealed::Sealed::outcome).
    fn take_sealed(&mut self) -> SealedSend {
        let bytes = std::mem::take(&mut self.sealed);
        let taken = match self.result.take() {
            _ if std::mem::take(&mut self.broken) => Err(Broken),
            None => Ok(bytes.len()),
            Some(sent @ 1..) => Ok(sent as usize),
            Some(again) if -again == libc::EAGAIN => Ok(0),
            Some(_) => Err(Broken),
        };
        SealedSend { bytes, plain: self.plain.take(), taken }
    }
}

/// A send of a TLS connection that is over.
pub(super) struct SealedSend {
    pub(super) bytes: Vec<u8>,
    /// See [`SendSlot::plain`].
    pub(super) plain: Option<usize>,
    /// How many of the bytes the kernel took.
    pub(super) taken: Result<usize, Broken>,
}

/// The sends between two system calls.
#[derive(Default)]
pub(super) struct Sends {
    /// Boxed because the kernel is given their address. The first `queued` are in use.
    #[expect(clippy::vec_box, reason = "the kernel holds a slot's address while the vector may grow")]
    slots: Vec<Box<SendSlot>>,
    queued: usize,
    /// How many of them have been told of; all have been submitted when the first is.
    told: usize,
    /// Connections that found the submission queue full, oldest first.
    waiting: VecDeque<ConnKey>,
}

impl Sends {
    /// Whether anything waits to be submitted or told of.
    pub(super) fn is_empty(&self) -> bool {
        self.queued == 0 && self.waiting.is_empty()
    }

    /// Notes what a completion says of a send.
    pub(super) fn came_back(&mut self, index: u32, result: i32) {
        self.slots[index as usize].result = Some(result);
    }

    fn take(&mut self) -> (u32, &mut SendSlot) {
        if self.queued == self.slots.len() {
            self.slots.push(Box::new(SendSlot::new()));
        }
        self.queued += 1;
        (self.queued as u32 - 1, &mut self.slots[self.queued - 1])
    }

    /// The next send that is over; after the last one all slots are free.
    fn tell(&mut self) -> Option<&mut SendSlot> {
        if self.told == self.queued {
            (self.told, self.queued) = (0, 0);
            return None;
        }
        self.told += 1;
        Some(&mut self.slots[self.told - 1])
    }

    /// Lines a connection up that is marked as sending.
    pub(super) fn wait(&mut self, conn: ConnKey) {
        self.waiting.push_back(conn);
    }

    /// Whether slots may be taken into use: not while earlier ones are being told of.
    fn is_open(&self) -> bool {
        self.told == 0
    }
}

impl Wire {
    /// Queues what a lane has gathered as one send, to leave with the next system call. `gather` is asked now, or
    /// when there is room.
    pub(crate) fn send(&mut self, conn: ConnKey, gather: impl FnMut(ConnKey, &mut Gather)) {
        let Some(slot) = self.slots.get(conn).filter(|slot| slot.closing.is_none()) else { return };
        let sending = slot.is_busy(busy::SEND);
        slot.busy |= busy::SEND;
        if slot.sealed {
            if !self.ask(conn, sending) {
                return;
            }
        } else {
            assert!(!sending, "one send at a time on a connection");
        }
        let sends = &self.memory.sends;
        if sends.waiting.is_empty() && sends.is_open() && self.ring.has_room() {
            self.queue_send(conn, gather);
        } else {
            self.memory.sends.waiting.push_back(conn);
        }
    }

    /// Queues sends that had to wait, as many as there is room for.
    pub(crate) fn queue_waiting_sends(&mut self, mut gather: impl FnMut(ConnKey, &mut Gather)) {
        while !self.memory.sends.waiting.is_empty() && self.ring.has_room() {
            if let Some(conn) = self.memory.sends.waiting.pop_front() {
                self.queue_send(conn, &mut gather);
            }
        }
    }

    fn queue_send(&mut self, conn: ConnKey, mut gather: impl FnMut(ConnKey, &mut Gather)) {
        let Some(slot) = self.slots.get(conn) else { return };
        if slot.closing.is_some() {
            slot.busy &= !busy::SEND;
            return self.go_on_closing(conn);
        }
        let (index, send) = self.memory.sends.take();
        (send.conn, send.is_sealed) = (conn, slot.sealed);
        if slot.sealed {
            self.sealed.fill(conn, send, gather);
        } else {
            gather(conn, &mut send.gather);
        }
        if send.is_void() {
            // Its messages were dropped while it waited.
            slot.busy &= !busy::SEND;
            self.memory.sends.queued -= 1;
        } else if send.is_for_kernel() {
            self.ring.send(slot.fd(), send, Token::at(Kind::Send, index));
        }
    }

    /// Whether sends wait for the system call: it has to come back at once, since they come back with it.
    pub(crate) fn is_sending(&self) -> bool {
        !self.memory.sends.is_empty()
    }

    /// After the system call and [`Self::take`]: the next send that is over. Its frames have been let go, so that
    /// the core can use their blocks again.
    pub(crate) fn next_sent(&mut self) -> Option<(ConnKey, SendOutcome)> {
        let sends = &self.memory.sends;
        if sends.told == 0 && (sends.queued == 0 || !self.ring.has_submitted_all()) {
            return None;
        }
        while let Some(send) = self.memory.sends.tell() {
            let conn = send.conn;
            let outcome = if send.is_sealed {
                self.sealed.outcome(conn, send.take_sealed())
            } else {
                Some(send.outcome())
            };
            send.gather.clear();
            let Some(slot) = self.slots.get(conn) else { continue };
            slot.busy &= !busy::SEND;
            match outcome {
                _ if slot.closing.is_some() => self.go_on_closing(conn),
                Some(outcome) => return Some((conn, outcome)),
                None => self.spoke(conn),
            }
        }
        None
    }
}
