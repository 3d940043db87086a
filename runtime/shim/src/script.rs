//! Opening a script opens its bytes in the image.
//!
//! Only in the object that is preloaded into interpreters of scripts (`--cfg shim_script`). A script is
//! run under its own path, so that `$0`, `__file__` and the modules beside it are what they would be; but
//! its bytes are those that were loaded at the first start, whatever has become of the file (SPEC
//! H10). Opening for writing, and any other path, goes to the file system unchanged.
//!
//! Interpreters open their script with one of the functions below; one that uses a bare system call
//! reads the file instead.

use core::ffi::{c_char, c_int, c_uint, c_void};
use core::mem::transmute;

use crate::environ::{self, SCRIPT};
use crate::start::Hidden;
use crate::syscalls::Fd;
use crate::text::{KeptPath, bytes_of, write_number};

/// Where the script's bytes are: `/proc/self/fd/N`.
static BYTES: KeptPath = KeptPath::none();
const PREFIX: &[u8] = b"/proc/self/fd/";
/// O_ACCMODE; reading only is 0.
const ACCESS_MODE: c_int = 3;

/// Sets the path of the script's bytes; before `main`, with one thread.
pub fn prepare() {
    let Some(fd) = environ::template_fds().and_then(|fds| fds.script) else {
        return;
    };
    let mut path = [0; PREFIX.len() + 11];
    let (front, number) = path.split_at_mut(PREFIX.len());
    front.copy_from_slice(PREFIX);
    let len = PREFIX.len() + write_number(number, fd as u32);
    BYTES.set(path.get(..len).unwrap_or_default());
}

/// The path to open for `path`.
///
/// # Safety
/// `path` is null or a C string.
unsafe fn redirected(path: *const c_char, read_only: bool) -> *const c_char {
    if path.is_null() || !read_only || BYTES.is_empty() {
        return path;
    }
    // SAFETY: the caller's promise.
    let asked = unsafe { bytes_of(path) };
    if asked.len() == SCRIPT.len() && asked.iter().copied().eq(SCRIPT.bytes()) {
        return BYTES.as_ptr();
    }
    path
}

type Open = unsafe extern "C" fn(*const c_char, c_int, ...) -> c_int;
type OpenAt = unsafe extern "C" fn(Fd, *const c_char, c_int, ...) -> c_int;
type FileOpen = unsafe extern "C" fn(*const c_char, *const c_char) -> *mut c_void;

/// open(2) by one of its names.
///
/// # Safety
/// As open(2).
unsafe fn open_by(next: &Hidden, path: *const c_char, flags: c_int, mode: c_uint) -> c_int {
    // SAFETY: the caller's promise.
    let path = unsafe { redirected(path, flags & ACCESS_MODE == 0) };
    // SAFETY: libc's functions of these names have this type.
    let open = unsafe { transmute::<*mut c_void, Open>(next.address()) };
    // SAFETY: the caller's promise; a mode that is not asked for is not looked at.
    unsafe { open(path, flags, mode) }
}

/// openat(2) by one of its names.
///
/// # Safety
/// As openat(2).
unsafe fn open_at_by(
    next: &Hidden,
    at: Fd,
    path: *const c_char,
    flags: c_int,
    mode: c_uint,
) -> c_int {
    // SAFETY: the caller's promise.
    let path = unsafe { redirected(path, flags & ACCESS_MODE == 0) };
    // SAFETY: libc's functions of these names have this type.
    let open = unsafe { transmute::<*mut c_void, OpenAt>(next.address()) };
    // SAFETY: the caller's promise; a mode that is not asked for is not looked at.
    unsafe { open(at, path, flags, mode) }
}

/// fopen(3) by one of its names.
///
/// # Safety
/// As fopen(3).
unsafe fn file_open_by(next: &Hidden, path: *const c_char, mode: *const c_char) -> *mut c_void {
    // SAFETY: the caller's promise.
    let text = unsafe { bytes_of(mode) };
    // SAFETY: the caller's promise.
    let path = unsafe { redirected(path, text.starts_with(b"r") && !text.contains(&b'+')) };
    // SAFETY: libc's functions of these names have this type.
    let open = unsafe { transmute::<*mut c_void, FileOpen>(next.address()) };
    // SAFETY: the caller's promise.
    unsafe { open(path, mode) }
}

/// In front of libc's.
///
/// # Safety
/// As open(2).
#[cfg_attr(shim_script, unsafe(no_mangle))]
pub unsafe extern "C" fn open(path: *const c_char, flags: c_int, mode: c_uint) -> c_int {
    static NEXT: Hidden = Hidden::new(c"open");
    // SAFETY: the caller's promise.
    unsafe { open_by(&NEXT, path, flags, mode) }
}

/// In front of libc's.
///
/// # Safety
/// As open(2).
#[cfg_attr(shim_script, unsafe(no_mangle))]
pub unsafe extern "C" fn open64(path: *const c_char, flags: c_int, mode: c_uint) -> c_int {
    static NEXT: Hidden = Hidden::new(c"open64");
    // SAFETY: the caller's promise.
    unsafe { open_by(&NEXT, path, flags, mode) }
}

/// In front of libc's.
///
/// # Safety
/// As openat(2).
#[cfg_attr(shim_script, unsafe(no_mangle))]
pub unsafe extern "C" fn openat(at: Fd, path: *const c_char, flags: c_int, mode: c_uint) -> c_int {
    static NEXT: Hidden = Hidden::new(c"openat");
    // SAFETY: the caller's promise.
    unsafe { open_at_by(&NEXT, at, path, flags, mode) }
}

/// In front of libc's.
///
/// # Safety
/// As openat(2).
#[cfg_attr(shim_script, unsafe(no_mangle))]
pub unsafe extern "C" fn openat64(
    at: Fd,
    path: *const c_char,
    flags: c_int,
    mode: c_uint,
) -> c_int {
    static NEXT: Hidden = Hidden::new(c"openat64");
    // SAFETY: the caller's promise.
    unsafe { open_at_by(&NEXT, at, path, flags, mode) }
}

/// In front of libc's, for programs built with _FORTIFY_SOURCE.
///
/// # Safety
/// As open(2) without a mode.
#[cfg_attr(shim_script, unsafe(no_mangle))]
pub unsafe extern "C" fn __open_2(path: *const c_char, flags: c_int) -> c_int {
    static NEXT: Hidden = Hidden::new(c"open");
    // SAFETY: the caller's promise.
    unsafe { open_by(&NEXT, path, flags, 0) }
}

/// In front of libc's, for programs built with _FORTIFY_SOURCE.
///
/// # Safety
/// As open(2) without a mode.
#[cfg_attr(shim_script, unsafe(no_mangle))]
pub unsafe extern "C" fn __open64_2(path: *const c_char, flags: c_int) -> c_int {
    static NEXT: Hidden = Hidden::new(c"open64");
    // SAFETY: the caller's promise.
    unsafe { open_by(&NEXT, path, flags, 0) }
}

/// In front of libc's.
///
/// # Safety
/// As fopen(3).
#[cfg_attr(shim_script, unsafe(no_mangle))]
pub unsafe extern "C" fn fopen(path: *const c_char, mode: *const c_char) -> *mut c_void {
    static NEXT: Hidden = Hidden::new(c"fopen");
    // SAFETY: the caller's promise.
    unsafe { file_open_by(&NEXT, path, mode) }
}

/// In front of libc's.
///
/// # Safety
/// As fopen(3).
#[cfg_attr(shim_script, unsafe(no_mangle))]
pub unsafe extern "C" fn fopen64(path: *const c_char, mode: *const c_char) -> *mut c_void {
    static NEXT: Hidden = Hidden::new(c"fopen64");
    // SAFETY: the caller's promise.
    unsafe { file_open_by(&NEXT, path, mode) }
}
