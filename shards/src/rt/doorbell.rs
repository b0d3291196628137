//! How a sleeping receiver is woken: an eventfd, rung only when the receiver has said that it sleeps.
//!
//! The receiver sets `sleeping`, then looks for messages once more; a sender posts its message, then looks at
//! `sleeping`. A full fence between the two steps on either side means that at least one of them sees the other,
//! so no message is slept through, and a receiver that is awake costs its senders no system call.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering, fence};

use super::sys;

/// One receiver's bell. Shared by all its senders.
#[derive(Debug)]
pub(super) struct Doorbell {
    /// Something was posted since the receiver last looked.
    posted: AtomicBool,
    /// The receiver sleeps, or is about to.
    sleeping: AtomicBool,
    /// The receiver takes no more.
    closed: AtomicBool,
    event: File,
}

impl Doorbell {
    /// A new bell; `nonblocking` as for [`sys::eventfd`].
    pub(super) fn new(nonblocking: bool) -> io::Result<Self> {
        Ok(Self {
            posted: AtomicBool::new(false),
            sleeping: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            event: File::from(sys::eventfd(nonblocking)?),
        })
    }

    /// Sender: after the message has been put into its queue.
    pub(super) fn announce(&self) {
        self.posted.store(true, Ordering::Release);
        fence(Ordering::SeqCst);
        // The first of several senders rings; the others see that it is done.
        if self.sleeping.load(Ordering::Relaxed) && self.sleeping.swap(false, Ordering::AcqRel) {
            self.ring();
        }
    }

    /// Rings whether or not the receiver sleeps.
    pub(super) fn ring(&self) {
        // An eventfd write fails only when its counter is at its maximum: then the bell is ringing already.
        let _ = (&self.event).write(&1u64.to_ne_bytes());
    }

    /// Receiver: whether anything was posted since the last call. Messages are looked for after it, so that one
    /// posted in between is found now or announced again.
    pub(super) fn take_posted(&self) -> bool {
        self.posted.load(Ordering::Relaxed) && self.posted.swap(false, Ordering::SeqCst)
    }

    /// Receiver: whether anything was posted since it last took notice. A hint: it orders nothing.
    pub(super) fn has_posted(&self) -> bool {
        self.posted.load(Ordering::Relaxed)
    }

    /// Receiver: whether it may sleep. After `true` the bell rings for anything posted; after `false`
    /// something is waiting.
    pub(super) fn prepare_to_sleep(&self) -> bool {
        self.sleeping.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if self.posted.load(Ordering::Relaxed) {
            self.sleeping.store(false, Ordering::Relaxed);
            return false;
        }
        true
    }

    /// Receiver: it is awake, for whatever reason.
    pub(super) fn woke(&self) {
        self.sleeping.store(false, Ordering::Relaxed);
    }

    /// Receiver: from now on senders are refused.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
    }

    /// Sender: whether the receiver has left.
    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    /// Receiver: silences a bell made non-blocking.
    pub(super) fn clear(&self) {
        let mut count = [0; 8];
        // Nothing to read means that it is silent.
        let _ = (&self.event).read(&mut count);
    }

    /// What becomes readable when the bell rings.
    pub(super) fn event(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}
