//! One life, as `hr/hr.h` has it: its number, its image, its progress, and its exit handler.
//!
//! Called by actors. Must never do more than the functions of the same names in the crate `refrain`.

use std::ffi::{c_char, c_int, c_long, c_ulong};
use std::time::Duration;

use refrain::Image;

use crate::codes::{self, FAILED, minus_one};

/// `HR_IMAGE_MADE` of `hr.h`.
const MADE: c_int = 0;
/// `HR_IMAGE_BEGUN` of `hr.h`.
const BEGUN: c_int = 1;
/// `HR_IMAGE_STANDS` of `hr.h`.
const STANDS: c_int = 2;

/// See `hr.h`.
// SAFETY: the name is this library's own, `hr.h` declares it.
#[unsafe(no_mangle)]
pub extern "C" fn hr_error() -> *const c_char {
    codes::last_error()
}

/// See `hr.h` (SPEC H34).
// SAFETY: as above.
#[unsafe(no_mangle)]
pub extern "C" fn hr_image_here() -> c_int {
    match refrain::image_here() {
        Ok(Image::Made) => MADE,
        Ok(Image::Begun) => BEGUN,
        Ok(Image::Stands) => STANDS,
        Err(why) => {
            codes::keep(&why);
            FAILED
        }
    }
}

/// See `hr.h` (SPEC H13).
// SAFETY: as above.
#[unsafe(no_mangle)]
pub extern "C" fn hr_life() -> c_long {
    match refrain::life() {
        Ok(life) => c_long::from(life.0),
        Err(why) => c_long::from(minus_one(&why)),
    }
}

/// See `hr.h` (SPEC H34).
// SAFETY: as above.
#[unsafe(no_mangle)]
pub extern "C" fn hr_progress() -> c_int {
    refrain::progress().map_or_else(|why| minus_one(&why), |()| 0)
}

/// See `hr.h` (SPEC H34).
// SAFETY: as above.
#[unsafe(no_mangle)]
pub extern "C" fn hr_promise_progress(period_ms: c_ulong) -> c_int {
    match refrain::promise_progress(Duration::from_millis(period_ms)) {
        Ok(()) => 0,
        Err(why) => minus_one(&why),
    }
}

/// See `hrCtrl.h` (SPEC H21).
// SAFETY: as above; the name is ChorusOS's.
#[unsafe(no_mangle)]
#[allow(non_snake_case)]
pub extern "C" fn HR_EXIT_HDL() -> c_int {
    refrain::hr_exit_hdl().map_or_else(|why| minus_one(&why), |()| 0)
}
