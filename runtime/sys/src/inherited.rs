//! Fds that this process was started with, by number: the ends that a parent laid out for it.
//!
//! Called at start-up by nucleus, the controller and an actor's attach. Must never be called for
//! an fd that this process opened itself: that one has an owner already.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::sync::{Mutex, PoisonError};

use rustix::io::FdFlags;

static TAKEN: Mutex<Vec<RawFd>> = Mutex::new(Vec::new());

/// Takes the fd that was inherited under `number`, and makes it CLOEXEC.
///
/// # Errors
/// `NotFound` when no fd of that number is open; `AlreadyExists` when it was taken before.
///
/// Source: fcntl(2).
pub fn take(number: RawFd) -> io::Result<OwnedFd> {
    // Held to the end: two callers must not both find it untaken.
    let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
    if taken.contains(&number) {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    // SAFETY: F_GETFD only looks a number up, whatever it is.
    let flags = unsafe { libc::fcntl(number, libc::F_GETFD) };
    if flags < 0 {
        return Err(io::Error::new(
            io::ErrorKind::NotFound,
            format!("fd {number} was not inherited"),
        ));
    }
    // SAFETY: it is open, and nobody took it here before; by this module's contract nothing else
    // in the process owns it.
    let fd = unsafe { OwnedFd::from_raw_fd(number) };
    rustix::io::fcntl_setfd(&fd, FdFlags::CLOEXEC)?;
    taken.push(number);
    Ok(fd)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_fd_that_is_not_open_is_not_found() {
        let error = take(9999).expect_err("nobody opened it");
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
