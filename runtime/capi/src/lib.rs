//! `libhr`: the crate `refrain` for C, and for languages that call C.
//!
//! Called by actors; `include/hr/hr.h` is what they see, and says what each function does. This crate
//! decides nothing: it turns the crate's answers into numbers, and keeps the text of a thread's last
//! error for `hr_error`. Must never let a panic cross into C: nothing here panics knowingly, and the
//! compiler ends a life whose `extern "C"` function would.
#![allow(unsafe_code)]

use std::cell::RefCell;
use std::ffi::{CString, c_char, c_int, c_long, c_ulong};
use std::fmt::Display;
use std::time::Duration;

use refrain::Image;

/// `HR_IMAGE_MADE` of `hr.h`.
const MADE: c_int = 0;
/// `HR_IMAGE_BEGUN` of `hr.h`.
const BEGUN: c_int = 1;
/// `HR_IMAGE_STANDS` of `hr.h`.
const STANDS: c_int = 2;
/// What a function answers that failed.
const FAILED: c_int = -1;

thread_local! {
    static LAST_ERROR: RefCell<CString> = RefCell::default();
}

/// Keeps the text of an error; answers [`FAILED`].
fn failed(why: impl Display) -> c_int {
    // No message of the library holds a NUL.
    let text = CString::new(why.to_string()).unwrap_or_default();
    LAST_ERROR.with(|last| last.replace(text));
    FAILED
}

/// See `hr.h`.
// SAFETY: the name is this library's own, `hr.h` declares it.
#[unsafe(no_mangle)]
pub extern "C" fn hr_error() -> *const c_char {
    LAST_ERROR.with(|last| last.borrow().as_ptr())
}

/// See `hr.h` (SPEC H34).
// SAFETY: as above.
#[unsafe(no_mangle)]
pub extern "C" fn hr_image_here() -> c_int {
    match refrain::image_here() {
        Ok(Image::Made) => MADE,
        Ok(Image::Begun) => BEGUN,
        Ok(Image::Stands) => STANDS,
        Err(why) => failed(why),
    }
}

/// See `hr.h` (SPEC H13).
// SAFETY: as above.
#[unsafe(no_mangle)]
pub extern "C" fn hr_life() -> c_long {
    match refrain::life() {
        Ok(life) => c_long::from(life.0),
        Err(why) => c_long::from(failed(why)),
    }
}

/// See `hr.h` (SPEC H34).
// SAFETY: as above.
#[unsafe(no_mangle)]
pub extern "C" fn hr_progress() -> c_int {
    match refrain::progress() {
        Ok(()) => 0,
        Err(why) => failed(why),
    }
}

/// See `hr.h` (SPEC H34).
// SAFETY: as above.
#[unsafe(no_mangle)]
pub extern "C" fn hr_promise_progress(period_ms: c_ulong) -> c_int {
    match refrain::promise_progress(Duration::from_millis(period_ms)) {
        Ok(()) => 0,
        Err(why) => failed(why),
    }
}

/// See `hr.h` (SPEC H21).
// SAFETY: as above.
#[unsafe(no_mangle)]
#[allow(non_snake_case)] // ChorusOS's name
pub extern "C" fn HR_EXIT_HDL() -> c_int {
    match refrain::hr_exit_hdl() {
        Ok(()) => 0,
        Err(why) => failed(why),
    }
}
