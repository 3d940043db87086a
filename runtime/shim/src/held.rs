//! Whether closing the files of a life would not let go of all that it holds.
//!
//! A mapping holds its file: a lock on that by flock(2) stays, a device stays open, and a ring of
//! io_uring stays with every socket that a request waits on. A life that has such a thing is left to the
//! kernel's order (asked by `stopping`), and has no keeper, which would hold it even longer.
//! Hence `mmap` and `flock` stand here in front of libc's, and note what they see: a mapping of what is
//! no regular file, or both a mapping of a regular file and a lock.
//!
//! What is not noted: locks of the kind F_OFD_SETLK on a file that is mapped too, and whoever calls the
//! kernel without the C library. Blocks of Refrain are mapped in that way, and hold nothing.
//!
//! Must never look up a function: an allocator that the program brings may call `mmap` while the
//! lookup waits for it. Hence system calls, which is all that libc's functions are.

use core::ffi::{c_int, c_void};
use core::sync::atomic::{AtomicBool, Ordering};

use crate::kernel::{call, fd_arg, number};
use crate::life_calls::is_regular;
use crate::syscalls::{Fd, Result};
use crate::{keeper, start};

static DEVICE_MAPPED: AtomicBool = AtomicBool::new(false);
static FILE_MAPPED: AtomicBool = AtomicBool::new(false);
static LOCKED: AtomicBool = AtomicBool::new(false);

/// Whether there is anything that would stay. What was noted once is never taken back.
#[must_use]
pub fn any() -> bool {
    let both = FILE_MAPPED.load(Ordering::Relaxed) && LOCKED.load(Ordering::Relaxed);
    both || DEVICE_MAPPED.load(Ordering::Relaxed)
}

/// Notes one of the three, before it comes true: a signal may come at any moment.
fn note(what: &AtomicBool) {
    if !what.swap(true, Ordering::Relaxed) && any() {
        keeper::dismiss();
    }
}

/// The answer as libc gives it.
fn answer(result: Result<usize>) -> usize {
    result.unwrap_or_else(|errno| {
        start::set_errno(errno);
        usize::MAX
    })
}

/// # Safety
/// As mmap(2).
unsafe fn map(
    address: *mut c_void,
    len: usize,
    protection: c_int,
    flags: c_int,
    fd: Fd,
    offset: i64,
) -> *mut c_void {
    const ANONYMOUS: c_int = 0x20;
    if flags & ANONYMOUS == 0 {
        note(if is_regular(fd) {
            &FILE_MAPPED
        } else {
            &DEVICE_MAPPED
        });
    }
    let arguments = [
        address.expose_provenance(),
        len,
        protection as usize,
        flags as usize,
        fd_arg(fd),
        offset as usize,
    ];
    // SAFETY: the caller's promise.
    core::ptr::with_exposed_provenance_mut(answer(unsafe { call(number::MMAP, arguments) }))
}

/// In front of libc's.
///
/// # Safety
/// As mmap(2).
#[cfg_attr(shim_object, unsafe(no_mangle))]
pub unsafe extern "C" fn mmap(
    address: *mut c_void,
    len: usize,
    protection: c_int,
    flags: c_int,
    fd: Fd,
    offset: i64,
) -> *mut c_void {
    // SAFETY: the caller's promise.
    unsafe { map(address, len, protection, flags, fd, offset) }
}

/// In front of libc's.
///
/// # Safety
/// As mmap(2).
#[cfg_attr(shim_object, unsafe(no_mangle))]
pub unsafe extern "C" fn mmap64(
    address: *mut c_void,
    len: usize,
    protection: c_int,
    flags: c_int,
    fd: Fd,
    offset: i64,
) -> *mut c_void {
    // SAFETY: the caller's promise.
    unsafe { map(address, len, protection, flags, fd, offset) }
}

/// In front of libc's.
// SAFETY: as libc's function of this name; one object per process has it.
#[cfg_attr(shim_object, unsafe(no_mangle))]
pub extern "C" fn flock(fd: Fd, operation: c_int) -> c_int {
    const UNLOCK: c_int = 8;
    if operation & UNLOCK == 0 {
        note(&LOCKED);
    }
    // SAFETY: numbers only.
    answer(unsafe { call(number::FLOCK, [fd_arg(fd), operation as usize]) }) as c_int
}
