//! The shard's own io_uring instance: what is asked of the kernel, in typed form, and one system call a turn.
//!
//! Lives on the shard's thread; the kernel enforces it (`SINGLE_ISSUER`). What does not fit into the submission
//! queue waits in a backlog for the next turn, so that a turn never needs a second `io_uring_enter`. Everything
//! here that hands memory to the kernel says whose memory it is and why it outlives the operation.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use io_uring::squeue::{Entry, Flags};
use io_uring::types::{CancelBuilder, Fd, SubmitArgs, Timespec};
use io_uring::{EnterFlags, IoUring, cqueue, opcode};
use socket2::{SockAddr, SockAddrStorage};

use super::send::SendSlot;
use super::token::{Kind, Token};
use crate::core::{Caller, ConnKey, Micros};

/// The one buffer group: receives of every connection draw from it.
pub(super) const BUFFER_GROUP: u16 = 0;

/// Completion queue entries for each submission queue entry. A wake-up may bring a completion of every
/// connection; what overflows is kept by the kernel at a higher price.
const COMPLETIONS_PER_SUBMISSION: u32 = 4;

/// With WAITALL a short send counts as failed, which is what makes it complete; DONTWAIT keeps it from waiting for
/// the rest.
const SEND_FLAGS: i32 = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT | libc::MSG_WAITALL;

/// The kernel needs some timeout to honour a minimal wait, so "no deadline" is a day.
const NO_DEADLINE: Micros = Micros::from_s(86_400);

/// How long [`Ring::enter`] may wait.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wait {
    /// At most so long; nothing means without end.
    pub(crate) timeout: Option<Micros>,
    /// Completions worth waking for before `batch` is over.
    pub(crate) want: u32,
    /// How long the kernel gathers completions before it wakes the shard for fewer.
    pub(crate) batch: Micros,
}

/// A completion, taken out of the queue. Not to be copied: an accept's owns a descriptor.
#[derive(Debug)]
pub(crate) struct Completion {
    pub(super) token: Token,
    pub(super) result: i32,
    flags: u32,
}

impl Completion {
    /// The connection that has received something.
    pub(crate) fn conn(&self) -> Option<ConnKey> {
        (self.token.kind == Kind::Receive).then(|| self.token.conn())
    }

    /// Whether the operation goes on.
    pub(super) fn more(&self) -> bool {
        cqueue::more(self.flags)
    }

    /// The provided buffer it used.
    pub(super) fn buffer(&self) -> Option<u16> {
        cqueue::buffer_select(self.flags)
    }

    /// The socket that an accept brought.
    pub(super) fn accepted(self) -> Option<OwnedFd> {
        let is_socket = self.token.kind == Kind::Accept && self.result >= 0;
        // SAFETY: a non-negative result of an accept is a descriptor that the kernel made for us; a completion comes
        // from the queue once, can't be copied, and is used up here, so this is its only owner.
        is_socket.then(|| unsafe { OwnedFd::from_raw_fd(self.result) })
    }
}

/// Where the kernel writes a peer's address. Boxed by its owner and kept until the ring is quiet.
pub(super) struct PeerAddress {
    storage: SockAddrStorage,
    len: libc::socklen_t,
}

impl PeerAddress {
    pub(super) fn new() -> Self {
        Self { storage: SockAddrStorage::zeroed(), len: 0 }
    }

    /// Who it is, after a successful accept.
    pub(super) fn read(&mut self) -> Option<Caller> {
        let storage = std::mem::replace(&mut self.storage, SockAddrStorage::zeroed());
        // The kernel tells the length of an address that it had to cut, too.
        let len = self.len.min(size_of::<SockAddrStorage>() as libc::socklen_t);
        // SAFETY: the kernel wrote an address, or the storage is all zeros, which names none; every byte of it is
        // initialised, and `len` does not exceed it.
        caller(&unsafe { SockAddr::new(storage, len) })
    }
}

/// Who is at the address of an accepted socket.
pub(super) fn caller(address: &SockAddr) -> Option<Caller> {
    if address.is_unix() { Some(Caller::Local) } else { address.as_socket().map(Caller::At) }
}

/// The ring.
pub(crate) struct Ring {
    ring: IoUring,
    /// Operations that found the submission queue full.
    backlog: VecDeque<Entry>,
    in_flight: u64,
    minimal_wait: bool,
    no_iowait: bool,
}

impl Ring {
    /// A ring with `entries` submissions, made on the thread that will use it.
    pub(crate) fn new(entries: u32) -> io::Result<Self> {
        let build = |no_array: bool| {
            let mut builder = IoUring::builder();
            builder
                .setup_single_issuer()
                .setup_defer_taskrun()
                .setup_taskrun_flag()
                .setup_submit_all()
                .setup_clamp()
                .setup_cqsize(entries.saturating_mul(COMPLETIONS_PER_SUBMISSION));
            if no_array {
                builder.setup_no_sqarray();
            }
            builder.build(entries)
        };
        // Kernels before 6.6 don't know the flag and refuse it as invalid.
        let ring = build(true).or_else(|_| build(false))?;
        let minimal_wait = ring.params().is_feature_min_timeout();
        let no_iowait = ring.params().is_feature_no_iowait();
        Ok(Self { ring, backlog: VecDeque::new(), in_flight: 0, minimal_wait, no_iowait })
    }

    /// The ring underneath, for registering buffers.
    pub(super) fn uring(&self) -> &IoUring {
        &self.ring
    }

    /// Operations begun and not completed; without sends, which are over with the call that submits them.
    pub(crate) fn in_flight(&self) -> u64 {
        self.in_flight
    }

    /// Whether operations wait for room.
    pub(crate) fn has_backlog(&self) -> bool {
        !self.backlog.is_empty()
    }

    /// Whether a send can be queued.
    pub(super) fn has_room(&mut self) -> bool {
        self.backlog.is_empty() && !self.ring.submission().is_full()
    }

    /// Whether everything queued has been submitted, and what came back at once lies in the completion queue.
    pub(super) fn has_submitted_all(&mut self) -> bool {
        let queue = self.ring.submission();
        queue.is_empty() && !queue.cq_overflow()
    }

    /// Whether operations wait to be submitted.
    pub(crate) fn has_submissions(&mut self) -> bool {
        !self.ring.submission().is_empty()
    }

    /// Whether a call of [`Self::enter`] would bring completions at once.
    pub(crate) fn has_news(&mut self) -> bool {
        self.ring.submission().taskrun() || !self.ring.completion().is_empty()
    }

    /// Receives on `fd` until told otherwise, each time into a provided buffer.
    pub(super) fn receive_stream(&mut self, fd: BorrowedFd<'_>, token: Token) {
        let entry = opcode::RecvMulti::new(Fd(fd.as_raw_fd()), BUFFER_GROUP).build();
        // SAFETY: the kernel writes only to provided buffers, which `Wire` keeps while anything is in flight.
        unsafe { self.queue(entry, token) }
    }

    /// Whether a standing receive on `fd`, where something waits to be read, goes on after its first piece.
    pub(crate) fn probe_receive(&mut self, fd: BorrowedFd<'_>) -> io::Result<bool> {
        self.receive_stream(fd, Token::at(Kind::Receive, 0));
        self.enter(Some(Wait { timeout: Some(Micros::from_s(1)), want: 1, batch: Micros(0) }))?;
        let mut taken = VecDeque::new();
        self.take(&mut taken, 1);
        let first = taken.front().ok_or_else(|| io::Error::other("nothing arrived"))?;
        match first.result {
            error @ ..0 => Err(io::Error::from_raw_os_error(-error)),
            _ => Ok(first.more()),
        }
    }

    /// Receives once into a provided buffer.
    pub(super) fn receive_once(&mut self, fd: BorrowedFd<'_>, token: Token) {
        let recv = opcode::Recv::new(Fd(fd.as_raw_fd()), std::ptr::null_mut(), 0).buf_group(BUFFER_GROUP);
        // SAFETY: as in `receive_stream`.
        unsafe { self.queue(recv.build().flags(Flags::BUFFER_SELECT), token) }
    }

    /// Sends what the slot has gathered, without waiting for a full socket. It completes only when the socket does
    /// not take everything, and then with the call that submits it.
    pub(super) fn send(&mut self, fd: BorrowedFd<'_>, slot: &mut SendSlot, token: Token) {
        let fd = Fd(fd.as_raw_fd());
        let entry = match slot.single() {
            Some(part) => opcode::Send::new(fd, part.as_ptr(), part.len() as u32).flags(SEND_FLAGS).build(),
            None => opcode::SendMsg::new(fd, slot.header()).flags(SEND_FLAGS as u32).build(),
        };
        // SAFETY: the slot is boxed, owns the frames that its vectors point into, and is not touched again before
        // the call that submits it has returned.
        unsafe { self.queue_send(entry, token) }
    }

    /// Puts a send into the submission queue.
    ///
    /// # Safety
    /// All memory that the entry points to stays valid until the call that submits it has returned.
    // SAFETY: the kernel follows the entry's pointers after this returns, hence the promise asked for above.
    unsafe fn queue_send(&mut self, entry: Entry, token: Token) {
        let entry = entry.flags(Flags::SKIP_SUCCESS).user_data(token.to_bits());
        // SAFETY: the caller's promise.
        let pushed = unsafe { self.ring.submission().push(&entry) };
        pushed.expect("a send is queued only when there is room for it");
    }

    /// What comes back, with the call that submits it, of a send that `fd` can't take whole; nothing would mean
    /// that the kernel takes it for complete.
    pub(crate) fn probe_send(&mut self, fd: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<Option<i32>> {
        let send = opcode::Send::new(Fd(fd.as_raw_fd()), bytes.as_ptr(), bytes.len() as u32);
        // SAFETY: the bytes are borrowed until this function has made the call.
        unsafe { self.queue_send(send.flags(SEND_FLAGS).build(), Token::at(Kind::Send, 0)) }
        self.enter(None)?;
        let mut taken = VecDeque::new();
        self.take(&mut taken, 1);
        Ok(taken.front().map(|completion| completion.result))
    }

    /// Completes once when the socket takes bytes again, or is broken.
    pub(super) fn poll_writable(&mut self, fd: BorrowedFd<'_>, token: Token) {
        let events = libc::POLLOUT | libc::POLLERR | libc::POLLHUP;
        // SAFETY: no memory is handed over.
        unsafe { self.queue(opcode::PollAdd::new(Fd(fd.as_raw_fd()), events as u32).build(), token) }
    }

    /// Accepts one connection.
    pub(super) fn accept(&mut self, listener: BorrowedFd<'_>, peer: &mut PeerAddress, token: Token) {
        peer.len = size_of::<SockAddrStorage>() as libc::socklen_t;
        let storage = (&raw mut peer.storage).cast();
        let accept = opcode::Accept::new(Fd(listener.as_raw_fd()), storage, &raw mut peer.len);
        // SAFETY: the place for the address is boxed, used by one accept at a time, and kept by `Wire` while
        // anything is in flight.
        unsafe { self.queue(accept.flags(libc::SOCK_CLOEXEC).build(), token) }
    }

    /// Completes when the doorbell has rung, and silences it.
    pub(super) fn read_doorbell(&mut self, bell: BorrowedFd<'_>, count: &mut [u8; 8], token: Token) {
        // SAFETY: the eight bytes are boxed and kept by `Wire` while anything is in flight.
        unsafe { self.queue(opcode::Read::new(Fd(bell.as_raw_fd()), count.as_mut_ptr(), 8).build(), token) }
    }

    /// Cancels the operation with this token.
    pub(super) fn cancel(&mut self, target: Token) {
        // SAFETY: no memory is handed over.
        unsafe { self.queue(opcode::AsyncCancel::new(target.to_bits()).build(), Token::CANCEL) }
    }

    /// Cancels everything that is in flight on a descriptor.
    pub(super) fn cancel_fd(&mut self, fd: BorrowedFd<'_>) {
        let which = CancelBuilder::fd(Fd(fd.as_raw_fd())).all();
        // SAFETY: no memory is handed over.
        unsafe { self.queue(opcode::AsyncCancel2::new(which).build(), Token::CANCEL) }
    }

    /// Cancels everything.
    pub(super) fn cancel_all(&mut self) {
        // SAFETY: no memory is handed over.
        unsafe { self.queue(opcode::AsyncCancel2::new(CancelBuilder::any()).build(), Token::CANCEL) }
    }

    /// Puts an operation into the submission queue, or behind those that wait for room in it.
    ///
    /// # Safety
    /// All memory that the entry points to stays valid and otherwise untouched until its completion was taken.
    // SAFETY: the kernel follows the entry's pointers after this returns, hence the promise asked for above.
    unsafe fn queue(&mut self, entry: Entry, token: Token) {
        let entry = entry.user_data(token.to_bits());
        self.in_flight += 1;
        if !self.backlog.is_empty() {
            self.backlog.push_back(entry);
            return;
        }
        // SAFETY: the caller's promise.
        if unsafe { self.ring.submission().push(&entry) }.is_err() {
            self.backlog.push_back(entry);
        }
    }

    fn submit_backlog(&mut self) {
        if self.backlog.is_empty() {
            return;
        }
        let mut queue = self.ring.submission();
        while let Some(entry) = self.backlog.front() {
            // SAFETY: promised when the entry was queued.
            if unsafe { queue.push(entry) }.is_err() {
                break;
            }
            self.backlog.pop_front();
        }
    }

    /// Submits what is queued, waits as asked, lets the kernel post completions: one system call.
    pub(crate) fn enter(&mut self, wait: Option<Wait>) -> io::Result<()> {
        self.submit_backlog();
        let queued = self.ring.submission().len() as u32;
        let mut flags = EnterFlags::GETEVENTS | EnterFlags::EXT_ARG;
        if self.no_iowait {
            flags |= EnterFlags::NO_IOWAIT;
        }
        let timeout = wait.and_then(|wait| wait.timeout).unwrap_or(NO_DEADLINE);
        let timespec =
            Timespec::new().sec(timeout.0 / 1_000_000).nsec((timeout.0 % 1_000_000 * 1_000) as u32);
        let mut args = SubmitArgs::new().timespec(&timespec);
        let mut want = 0;
        if let Some(wait) = wait {
            want = 1;
            if self.minimal_wait && wait.batch > Micros(0) {
                want = wait.want.min(self.ring.params().cq_entries());
                args = args.min_wait_usec(wait.batch.0.min(timeout.0) as u32);
            }
        }
        // SAFETY: the argument is of the type that EXT_ARG asks for and outlives the call, as does the timespec
        // it points to.
        match unsafe { self.ring.submitter().enter(queued, want, flags.bits(), Some(&args)) } {
            Ok(_) => Ok(()),
            Err(error) => match error.raw_os_error() {
                // Woken by time or a signal; or the kernel wants completions taken before it accepts more.
                Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN) => Ok(()),
                _ => Err(error),
            },
        }
    }

    /// Moves up to `budget` completions to the end of `taken`.
    pub(crate) fn take(&mut self, taken: &mut VecDeque<Completion>, budget: usize) {
        let before = taken.len();
        taken.extend(self.ring.completion().by_ref().take(budget).map(|entry| Completion {
            token: Token::from_bits(entry.user_data()),
            result: entry.result(),
            flags: entry.flags(),
        }));
        let ended = |completion: &&Completion| !completion.more() && completion.token.kind != Kind::Send;
        self.in_flight -= taken.range(before..).filter(ended).count() as u64;
    }
}
