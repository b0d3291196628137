//! A few system calls in the form they are needed in.

use std::io;
use std::os::fd::OwnedFd;

use rustix::event::EventfdFlags;
use rustix::process::{Resource, Rlimit, getrlimit};

/// A fresh eventfd. Without `nonblocking` a read through io_uring waits for the bell; with it, the descriptor
/// suits a readiness-based reactor.
pub(super) fn eventfd(nonblocking: bool) -> io::Result<OwnedFd> {
    let flags = if nonblocking { EventfdFlags::NONBLOCK } else { EventfdFlags::empty() };
    Ok(rustix::event::eventfd(0, flags | EventfdFlags::CLOEXEC)?)
}

/// Soft and hard limit of open descriptors.
pub(super) fn descriptor_limit() -> (u64, u64) {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    (current.unwrap_or(u64::MAX), maximum.unwrap_or(u64::MAX))
}

/// Soft limit of locked memory, in bytes; nothing where there is none.
pub(super) fn locked_memory_limit() -> Option<u64> {
    getrlimit(Resource::Memlock).current
}
