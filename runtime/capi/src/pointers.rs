//! What C hands over, looked at before it is followed.
//!
//! Called by every other module here. A null pointer is an answer, never followed; of any other this library
//! can only believe what the header demands of it. Must never hold on to what it was given past the call.

use std::ffi::{CStr, OsStr, c_char, c_int};
use std::os::unix::ffi::OsStrExt;

/// A pointer that is null and may not be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Null(pub &'static str);

/// The text that `text` points to; `what` names it in an error.
///
/// # Errors
/// [`Null`].
///
/// # Safety
/// `text` is null, or points to a NUL-terminated string that nobody changes during `'a`.
pub(crate) unsafe fn text<'a>(text: *const c_char, what: &'static str) -> Result<&'a OsStr, Null> {
    if text.is_null() {
        return Err(Null(what));
    }
    // SAFETY: not null, so a string, by this function's contract.
    let text = unsafe { CStr::from_ptr(text) };
    Ok(OsStr::from_bytes(text.to_bytes()))
}

/// The strings of an array that ends with a null pointer, as `execve` takes them.
///
/// # Errors
/// [`Null`].
///
/// # Safety
/// `list` is null, or points to pointers that are valid for [`text`], the last one null.
pub(crate) unsafe fn list<'a>(
    list: *const *const c_char,
    what: &'static str,
) -> Result<Vec<&'a OsStr>, Null> {
    if list.is_null() {
        return Err(Null(what));
    }
    let mut found = Vec::new();
    let mut next = list;
    loop {
        // SAFETY: `next` has not passed the null pointer that ends the array.
        let entry = unsafe { next.read() };
        if entry.is_null() {
            return Ok(found);
        }
        // SAFETY: by this function's contract.
        found.push(unsafe { text(entry, what) }?);
        next = next.wrapping_add(1);
    }
}

/// The first `count` strings of an array.
///
/// # Errors
/// [`Null`]: the array, or one of those strings.
///
/// # Safety
/// `list` is null, or points to `count` pointers that are valid for [`text`].
pub(crate) unsafe fn counted<'a>(
    list: *const *const c_char,
    count: c_int,
    what: &'static str,
) -> Result<Vec<&'a OsStr>, Null> {
    if list.is_null() {
        return Err(Null(what));
    }
    let entries = (0..usize::try_from(count).unwrap_or(0)).map(|at| list.wrapping_add(at));
    // SAFETY: `entry` is one of the `count` pointers, by this function's contract.
    let pointers = entries.map(|entry| unsafe { entry.read() });
    // SAFETY: by this function's contract.
    pointers.map(|entry| unsafe { text(entry, what) }).collect()
}

/// Stores `value` where `place` points to; nothing where that is null.
///
/// # Safety
/// `place` is null, or points to memory that holds a `T`, which the caller may write.
pub(crate) unsafe fn store<T>(place: *mut T, value: T) {
    if !place.is_null() {
        // SAFETY: not null; a C program may have cast it from a type with a lesser alignment.
        unsafe { place.write_unaligned(value) };
    }
}
