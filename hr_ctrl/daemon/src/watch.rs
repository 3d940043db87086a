//! Waiting for an fd on an arbiter's own event loop.

use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::rc::Rc;

use tokio::io::unix::AsyncFd;

/// Gives the event loop the number of a shared fd and keeps it open meanwhile.
pub struct Shared<T>(pub Rc<T>);

impl<T: AsFd> AsRawFd for Shared<T> {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

/// Registers `fd` with this thread's event loop, for reading.
///
/// # Errors
/// The event loop cannot take the fd (ENOMEM, EMFILE).
// The call is deprecated because a type's number could change or be closed under the event loop.
// Here the number comes from `AsFd` of a value that the `Rc` keeps for as long as it is registered.
#[allow(deprecated)]
pub fn register<T: AsFd>(fd: Rc<T>) -> io::Result<AsyncFd<Shared<T>>> {
    AsyncFd::with_interest(Shared(fd), tokio::io::Interest::READABLE)
}

/// Returns when `fd` is readable: for a pidfd, when the process with all its threads has ended.
///
/// # Errors
/// As [`register`].
pub async fn readable<T: AsFd>(fd: Rc<T>) -> io::Result<()> {
    register(fd)?.readable().await?.retain_ready();
    Ok(())
}
