//! `readlink("/proc/self/exe")` and its kin answer the program's path.
//!
//! A template executes a memfd, so the kernel would answer "/memfd:NAME (deleted)" to a program that
//! looks for itself. These functions stand in front of libc's in templates and lives; whatever is not
//! about the program itself goes to the kernel unchanged. Opening `/proc/self/exe` needs no help: it
//! opens the image. Must never answer a path where this is no template.

use core::ffi::{c_char, c_void};
use core::ptr;

use crate::environ::{self, EXE, SCRIPT};
use crate::start::{self, Hidden};
use crate::syscalls::{self, AT_FDCWD, Fd};
use crate::text::{KeptPath, bytes_of, number};

/// Whose path is asked for, if it is one of ours.
fn subject(path: &[u8]) -> Option<&'static KeptPath> {
    if EXE.is_empty() {
        return None;
    }
    let (whose, rest) = split(path.strip_prefix(b"/proc/")?);
    let own = whose == b"self"
        || whose == b"thread-self"
        || number(whose).is_some_and(|pid| pid == syscalls::own_pid());
    match rest {
        b"exe" if own => Some(&EXE),
        _ if own && !SCRIPT.is_empty() => {
            let fd = number(rest.strip_prefix(b"fd/")?)? as Fd;
            (environ::template_fds()?.script == Some(fd)).then_some(&SCRIPT)
        }
        _ => None,
    }
}

/// What comes before and behind the first slash.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    let at = path
        .iter()
        .position(|byte| *byte == b'/')
        .unwrap_or(path.len());
    (
        path.get(..at).unwrap_or_default(),
        path.get(at + 1..).unwrap_or_default(),
    )
}

/// readlinkat(2), with our answers in front.
///
/// # Safety
/// As readlinkat(2): `path` is a C string, `buffer` is valid for writes of `len` bytes.
unsafe fn answer(at: Fd, path: *const c_char, buffer: *mut c_char, len: usize) -> isize {
    // SAFETY: the caller's promise.
    if let Some(path) = subject(unsafe { bytes_of(path) }) {
        let mut count = 0;
        for byte in path.bytes().take(len) {
            // SAFETY: `count` is below `len`, which the buffer has room for.
            unsafe { *buffer.wrapping_add(count) = byte as c_char };
            count += 1;
        }
        return count as isize;
    }
    // SAFETY: the caller's promise.
    match unsafe { syscalls::read_link(at, path, buffer, len) } {
        Ok(count) => count as isize,
        Err(errno) => {
            start::set_errno(errno);
            -1
        }
    }
}

/// In front of libc's.
///
/// # Safety
/// As readlink(2).
#[cfg_attr(shim_object, unsafe(no_mangle))]
pub unsafe extern "C" fn readlink(path: *const c_char, buffer: *mut c_char, len: usize) -> isize {
    // SAFETY: the caller's promise.
    unsafe { answer(AT_FDCWD, path, buffer, len) }
}

/// In front of libc's.
///
/// # Safety
/// As readlinkat(2).
#[cfg_attr(shim_object, unsafe(no_mangle))]
pub unsafe extern "C" fn readlinkat(
    at: Fd,
    path: *const c_char,
    buffer: *mut c_char,
    len: usize,
) -> isize {
    // SAFETY: the caller's promise.
    unsafe { answer(at, path, buffer, len) }
}

/// In front of libc's, for programs built with _FORTIFY_SOURCE.
///
/// # Safety
/// As readlink(2), `size` being the buffer's real size.
#[cfg_attr(shim_object, unsafe(no_mangle))]
pub unsafe extern "C" fn __readlink_chk(
    path: *const c_char,
    buffer: *mut c_char,
    len: usize,
    size: usize,
) -> isize {
    // SAFETY: the caller's promise, and never more than the buffer's real size.
    unsafe { answer(AT_FDCWD, path, buffer, len.min(size)) }
}

/// In front of libc's, for programs built with _FORTIFY_SOURCE.
///
/// # Safety
/// As readlinkat(2), `size` being the buffer's real size.
#[cfg_attr(shim_object, unsafe(no_mangle))]
pub unsafe extern "C" fn __readlinkat_chk(
    at: Fd,
    path: *const c_char,
    buffer: *mut c_char,
    len: usize,
    size: usize,
) -> isize {
    // SAFETY: the caller's promise, and never more than the buffer's real size.
    unsafe { answer(at, path, buffer, len.min(size)) }
}

/// In front of libc's: of the program itself, or its script, the path as it was found at the start,
/// even if the file has gone since.
///
/// # Safety
/// As realpath(3): `path` is null or a C string, `resolved` null or valid for PATH_MAX bytes.
#[cfg_attr(shim_object, unsafe(no_mangle))]
pub unsafe extern "C" fn realpath(path: *const c_char, resolved: *mut c_char) -> *mut c_char {
    if !path.is_null() {
        // SAFETY: the caller's promise.
        if let Some(known) = subject(unsafe { bytes_of(path) }) {
            if resolved.is_null() {
                return start::duplicate(known.as_ptr());
            }
            // SAFETY: a kept path is shorter than PATH_MAX, its NUL included.
            unsafe { ptr::copy_nonoverlapping(known.as_ptr(), resolved, known.len() + 1) };
            return resolved;
        }
    }
    type RealPath = unsafe extern "C" fn(*const c_char, *mut c_char) -> *mut c_char;
    static NEXT: Hidden = Hidden::new(c"realpath");
    // SAFETY: libc's function of this name has this type.
    let next = unsafe { core::mem::transmute::<*mut c_void, RealPath>(NEXT.address()) };
    // SAFETY: the caller's promise.
    unsafe { next(path, resolved) }
}
