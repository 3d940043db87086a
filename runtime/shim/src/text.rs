//! Bytes, decimal numbers and paths, without a libc.
//!
//! Called by every module that reads the environment or writes into it. Must never read past a NUL.

use core::ffi::{CStr, c_char};
use core::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

/// The longest path that is kept, in bytes (PATH_MAX).
pub const MAX_PATH: usize = 4096;

/// The bytes of a C string, without its NUL.
///
/// # Safety
/// `text` is a C string that lives and stays the same for as long as the answer is used.
#[must_use]
pub unsafe fn bytes_of<'a>(text: *const c_char) -> &'a [u8] {
    // SAFETY: the caller's promise.
    unsafe { CStr::from_ptr(text) }.to_bytes()
}

/// The first of a program's arguments; empty when it has none.
///
/// # Safety
/// `argv` is a null-terminated array of C strings that live as long as the process.
#[must_use]
pub unsafe fn first_argument(argv: *const *const c_char) -> &'static [u8] {
    // SAFETY: the caller's promise; the null at least is there.
    let first = unsafe { *argv };
    if first.is_null() {
        return &[];
    }
    // SAFETY: the caller's promise.
    unsafe { bytes_of(first) }
}

/// A decimal number that is all of `text`; `None` for anything else.
#[must_use]
pub fn number(text: &[u8]) -> Option<u32> {
    if text.is_empty() || text.len() > 10 {
        return None;
    }
    text.iter().try_fold(0u32, |sum, byte| match byte {
        b'0'..=b'9' => sum.checked_mul(10)?.checked_add(u32::from(byte - b'0')),
        _ => None,
    })
}

/// Writes `value` in decimal at the front of `buffer`, and a NUL; answers how many digits there are.
pub fn write_number(buffer: &mut [u8], value: u32) -> usize {
    let mut digits = [0u8; 10];
    let (mut rest, mut count) = (value, 0);
    for place in digits.iter_mut().rev() {
        *place = b'0' + (rest % 10) as u8;
        rest /= 10;
        count += 1;
        if rest == 0 {
            break;
        }
    }
    for (place, digit) in buffer
        .iter_mut()
        .zip(digits.iter().skip(10 - count).chain(&[0]))
    {
        *place = *digit;
    }
    count
}

/// What follows the last slash.
#[must_use]
pub fn file_name(path: &[u8]) -> &[u8] {
    path.rsplit(|byte| *byte == b'/').next().unwrap_or_default()
}

/// A path that is set once, before `main`, and read by any thread later.
#[derive(Debug)]
pub struct KeptPath {
    bytes: [AtomicU8; MAX_PATH],
    len: AtomicUsize,
}

impl KeptPath {
    /// None yet.
    #[must_use]
    pub const fn none() -> Self {
        Self {
            bytes: [const { AtomicU8::new(0) }; MAX_PATH],
            len: AtomicUsize::new(0),
        }
    }

    /// Keeps `path`; one that is too long is not kept.
    pub fn set(&self, path: &[u8]) {
        // The last byte stays 0, so that what is kept is a C string.
        if path.len() >= MAX_PATH {
            return;
        }
        for (place, byte) in self.bytes.iter().zip(path) {
            place.store(*byte, Ordering::Relaxed);
        }
        self.len.store(path.len(), Ordering::Release);
    }

    /// How long it is; 0 for none.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len.load(Ordering::Acquire)
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Its bytes.
    pub fn bytes(&self) -> impl Iterator<Item = u8> {
        self.bytes
            .iter()
            .take(self.len())
            .map(|byte| byte.load(Ordering::Relaxed))
    }

    /// It as a C string, for a call that wants one.
    #[must_use]
    pub fn as_ptr(&self) -> *const c_char {
        self.bytes.as_ptr().cast()
    }
}
