//! Anonymous files in memory (memfd) and their seals.
//!
//! Actor images, the shim, control pages and blobs of arguments live in memfds. Called by
//! `refrain-image`, the controller and [`crate::mapping`]. Must never hand out a memfd that lacks
//! CLOEXEC, or an executable one that nobody asked for.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{MemfdFlags, SealFlags};
use rustix::io::Errno;

/// This machine refuses executable memfds (`vm.memfd_noexec=2`); an image must then be a file.
///
/// It is the inner error of what [`create`] returns; [`is_exec_refused`] looks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("executable memfds are refused here (vm.memfd_noexec=2)")]
pub struct ExecRefused;

/// Whether an error of [`create`] says that executable memfds are refused on this machine.
#[must_use]
pub fn is_exec_refused(error: &io::Error) -> bool {
    error
        .get_ref()
        .is_some_and(|inner| inner.is::<ExecRefused>())
}

/// Creates an empty memfd: CLOEXEC, seals allowed. `name` is what `/proc/PID/maps` shows.
///
/// `exec` asks for one that can be executed (MFD_EXEC); otherwise it never can be
/// (MFD_NOEXEC_SEAL). Kernels before 6.3 know neither flag, and get none.
///
/// # Errors
/// [`ExecRefused`] inside a `PermissionDenied` where `vm.memfd_noexec=2`; else the kernel's.
///
/// Source: memfd_create(2).
pub fn create(name: &str, exec: bool) -> io::Result<OwnedFd> {
    let base = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let wish = if exec {
        MemfdFlags::EXEC
    } else {
        MemfdFlags::NOEXEC_SEAL
    };
    match rustix::fs::memfd_create(name, base | wish) {
        Err(Errno::INVAL) => Ok(rustix::fs::memfd_create(name, base)?),
        Err(Errno::ACCESS) if exec => {
            Err(io::Error::new(io::ErrorKind::PermissionDenied, ExecRefused))
        }
        other => Ok(other?),
    }
}

/// A memfd that holds `bytes`, not sealed yet.
///
/// # Errors
/// As [`create`] and [`write_all`].
pub fn from_bytes(name: &str, bytes: &[u8], exec: bool) -> io::Result<OwnedFd> {
    let fd = create(name, exec)?;
    write_all(fd.as_fd(), bytes)?;
    Ok(fd)
}

/// Writes all of `bytes` at the fd's position.
///
/// # Errors
/// The kernel's; `WriteZero` when it takes no more.
pub fn write_all(fd: BorrowedFd<'_>, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(fd, bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Seals an image: nobody writes, grows, shrinks or unseals it any more.
///
/// # Errors
/// `ResourceBusy` while a writable shared mapping of it exists; else the kernel's.
///
/// Source: F_ADD_SEALS in fcntl(2).
pub fn seal_image(fd: BorrowedFd<'_>) -> io::Result<()> {
    let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE | SealFlags::SEAL;
    Ok(rustix::fs::fcntl_add_seals(fd, seals)?)
}

/// Seals the size only: what is shared and written stays as long as it is, so that no actor can
/// make another one, or the controller, fault by truncating it.
///
/// # Errors
/// The kernel's.
///
/// Source: F_ADD_SEALS in fcntl(2).
pub fn seal_size(fd: BorrowedFd<'_>) -> io::Result<()> {
    let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
    Ok(rustix::fs::fcntl_add_seals(fd, seals)?)
}
