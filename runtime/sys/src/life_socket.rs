//! The socket that a life attaches by, found by its number.
//!
//! Called by the library that an actor links, for the number that the environment names. That may
//! be stale (a child's environment outlives its fds), so what is there is looked at first; this is
//! why [`crate::inherited`], which takes what it finds, will not do. Must never close an fd:
//! somebody else in the program may hold it.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd, RawFd};

use rustix::io::FdFlags;
use rustix::net::{AddressFamily, SocketType, sockopt};

/// A handle of one's own (CLOEXEC) to the Unix seqpacket socket inherited as `number`, which is
/// made CLOEXEC as well.
///
/// # Errors
/// `InvalidInput` when the fd is something else; EBADF, ENOTSOCK and the rest as the kernel says.
///
/// Source: F_DUPFD_CLOEXEC in fcntl(2), SO_TYPE in socket(7).
pub fn own_handle(number: RawFd) -> io::Result<OwnedFd> {
    if number < 0 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: the number is no -1, and the borrow ends with this function, which neither closes
    // the fd nor reads from it; where it is closed meanwhile the calls below answer EBADF.
    let inherited = unsafe { BorrowedFd::borrow_raw(number) };
    let unix = sockopt::socket_domain(inherited)? == AddressFamily::UNIX;
    if !unix || sockopt::socket_type(inherited)? != SocketType::SEQPACKET {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let own = rustix::io::fcntl_dupfd_cloexec(inherited, number)?;
    let flags = rustix::io::fcntl_getfd(inherited)?;
    rustix::io::fcntl_setfd(inherited, flags | FdFlags::CLOEXEC)?;
    Ok(own)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;

    #[test]
    fn an_inherited_socket_becomes_close_on_exec_and_anything_else_is_refused() {
        let (mine, peer) = crate::seqpacket::pair().unwrap();
        rustix::io::fcntl_setfd(&mine, FdFlags::empty()).unwrap();
        let own = own_handle(mine.as_raw_fd()).unwrap();
        assert!(
            rustix::io::fcntl_getfd(&mine)
                .unwrap()
                .contains(FdFlags::CLOEXEC)
        );
        assert!(
            rustix::io::fcntl_getfd(&own)
                .unwrap()
                .contains(FdFlags::CLOEXEC)
        );
        drop(mine);
        crate::seqpacket::send(&own, b"still here", &[]).unwrap();
        let mut frame = [0; 16];
        assert_eq!(
            crate::seqpacket::recv(&peer, &mut frame, 0).unwrap().len,
            10
        );

        let file = std::fs::File::open("/dev/null").unwrap();
        assert!(own_handle(file.as_raw_fd()).is_err());
        assert!(own_handle(-1).is_err());
        assert!(own_handle(RawFd::MAX).is_err());
    }
}
