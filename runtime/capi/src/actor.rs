//! `chorus.h` and `afexec.h`: who the caller is, and who others of its group are (SPEC H6).
//!
//! Called by actors. Must never hand out the capability of a life of another group; the controller sees to it.

use std::ffi::c_int;

use refrain::{Aid, Capability};

use crate::codes::{Code, Coded, K_OK, kn_error, minus_one, minus_one_with};
use crate::group::number;
use crate::pointers::store;

/// `KnCap` of `chorus.h`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct KnCap([u32; 4]);

impl From<Capability> for KnCap {
    fn from(Capability(bytes): Capability) -> Self {
        let word = |at: usize| {
            u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        Self([word(0), word(4), word(8), word(12)])
    }
}

/// See `chorus.h`.
///
/// # Safety
/// `cap` is null or points to a `KnCap` that may be written.
// SAFETY: the name is ChorusOS's, `chorus.h` declares it.
#[unsafe(no_mangle)]
#[allow(non_snake_case)]
pub unsafe extern "C" fn actorSelf(cap: *mut KnCap) -> c_int {
    if cap.is_null() {
        return kn_error(Code::Fault, &"actorSelf: cap is null");
    }
    match refrain::attach() {
        Ok(actor) => {
            // SAFETY: not null, so a `KnCap`, by this function's contract.
            unsafe { store(cap, actor.capability().into()) };
            K_OK
        }
        Err(why) => kn_error(why.family(), &why),
    }
}

/// See `afexec.h`.
// SAFETY: as above.
#[unsafe(no_mangle)]
#[allow(non_snake_case)]
pub extern "C" fn agetId() -> c_int {
    match refrain::attach() {
        Ok(actor) => number(actor.aid().0),
        Err(why) => minus_one(&why),
    }
}

/// See `afexec.h`.
///
/// # Safety
/// `cap` is null or points to a `KnCap` that may be written.
// SAFETY: as above.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn acap(aid: c_int, cap: *mut KnCap) -> c_int {
    if cap.is_null() {
        return minus_one_with(libc::EFAULT, &"acap: cactorcap is null");
    }
    let Ok(aid) = u32::try_from(aid) else {
        return minus_one_with(libc::ESRCH, &format_args!("aid {aid}: no such actor"));
    };
    let found = if aid == 0 {
        refrain::attach().map_or_else(|why| Err(minus_one(&why)), |me| Ok(me.capability()))
    } else {
        refrain::capability_of(Aid(aid)).map_err(|why| minus_one(&why))
    };
    match found {
        Ok(capability) => {
            // SAFETY: not null, so a `KnCap`, by this function's contract.
            unsafe { store(cap, capability.into()) };
            0
        }
        Err(failed) => failed,
    }
}
