//! The few system calls that no safe crate of ours wraps.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

/// A fresh eventfd. Without `nonblocking` a read through io_uring waits for the bell; with it, the descriptor
/// suits a readiness-based reactor.
pub(super) fn eventfd(nonblocking: bool) -> io::Result<OwnedFd> {
    let flags = libc::EFD_CLOEXEC | if nonblocking { libc::EFD_NONBLOCK } else { 0 };
    // SAFETY: no pointer is passed.
    let fd = unsafe { libc::eventfd(0, flags) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call succeeded, so the descriptor is open and nobody else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Soft and hard limit of a resource.
pub(super) fn resource_limit(resource: Resource) -> io::Result<(u64, u64)> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the pointer is to a live, writable `rlimit`.
    if unsafe { libc::getrlimit(resource.number(), &raw mut limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok((limit.rlim_cur, limit.rlim_max))
}

/// Sets the soft limit of a resource.
pub(super) fn set_soft_limit(resource: Resource, soft: u64) -> io::Result<()> {
    let (_, hard) = resource_limit(resource)?;
    let limit = libc::rlimit { rlim_cur: soft, rlim_max: hard };
    // SAFETY: the pointer is to a live `rlimit`.
    if unsafe { libc::setrlimit(resource.number(), &raw const limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// The limits that matter here.
#[derive(Clone, Copy, Debug)]
pub(super) enum Resource {
    /// Open descriptors.
    Descriptors,
    /// Bytes of locked memory.
    LockedMemory,
}

impl Resource {
    fn number(self) -> libc::__rlimit_resource_t {
        match self {
            Self::Descriptors => libc::RLIMIT_NOFILE,
            Self::LockedMemory => libc::RLIMIT_MEMLOCK,
        }
    }
}
