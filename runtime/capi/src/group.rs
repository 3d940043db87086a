//! `hr/hrCtrl.h`: groups and the end of the site (SPEC H14, H24, H26).
//!
//! Called by restartable actors. Must never decide who may do what: that is the controller's part.

use std::ffi::{OsStr, c_char, c_int};

use refrain::{Aid, Gid};

use crate::codes::{Code, Coded, K_OK, kn_error, minus_one, minus_one_with, positive};
use crate::pointers;

/// An aid or a gid as C's `int`.
pub(crate) fn number(id: u32) -> c_int {
    c_int::try_from(id).unwrap_or_else(|_| {
        minus_one_with(libc::EOVERFLOW, &format_args!("{id} does not fit an int"))
    })
}

/// See `hrCtrl.h` (SPEC H14).
// SAFETY: the name is ChorusOS's, `hrCtrl.h` declares it.
#[unsafe(no_mangle)]
#[allow(non_snake_case)]
pub extern "C" fn hrGetActorGroup(aid: c_int) -> c_int {
    // No life has aid 0, so a negative one is answered as that is.
    let asked = Aid(u32::try_from(aid).unwrap_or(0));
    match refrain::hr_get_actor_group(asked) {
        Ok(Some(gid)) => number(gid.0),
        Ok(None) => minus_one_with(
            libc::EINVAL,
            &format_args!("aid {aid} is an ordinary actor, which has no group"),
        ),
        Err(why) => minus_one(&why),
    }
}

/// See `hrCtrl.h` (SPEC H24).
// SAFETY: as above.
#[unsafe(no_mangle)]
#[allow(non_snake_case)]
pub extern "C" fn hrKillGroup(gid: c_int) -> c_int {
    let Ok(gid) = u32::try_from(gid) else {
        return minus_one_with(
            libc::EINVAL,
            &format_args!("group {gid}: no group has that id"),
        );
    };
    refrain::hr_kill_group(Gid(gid)).map_or_else(|why| minus_one(&why), |()| 0)
}

/// See `hrCtrl.h` (SPEC H26).
///
/// # Safety
/// `argv` is null, or points to `argc` pointers that are null or point to NUL-terminated strings.
// SAFETY: as above.
#[unsafe(no_mangle)]
#[allow(non_snake_case)]
pub unsafe extern "C" fn sysShutdown(argc: c_int, argv: *const *const c_char) -> c_int {
    // SAFETY: by this function's contract.
    let words = match unsafe { pointers::counted(argv, argc, "argv") } {
        Ok(words) => words,
        Err(pointers::Null(what)) => {
            return kn_error(Code::Fault, &format_args!("sysShutdown: {what} is null"));
        }
    };
    let Some(level) = level(&words) else {
        let why = "sysShutdown: give it \"-i\" and \"0\", \"1\", \"2\" or \"3\"";
        return kn_error(Code::Invalid, &why);
    };
    match refrain::sys_shutdown(level) {
        Ok(()) => K_OK,
        Err(why) => match why.family() {
            code @ (Code::Busy | Code::Failed) => positive(code, &why),
            code => kn_error(code, &why),
        },
    }
}

/// The level in `shutdown -i LEVEL`, with or without the command's name.
fn level(words: &[&OsStr]) -> Option<u32> {
    let words: Vec<&str> = words.iter().filter_map(|word| word.to_str()).collect();
    let options = match words.as_slice() {
        [command, rest @ ..] if !command.starts_with('-') => rest,
        options => options,
    };
    let digit = match options {
        ["-i", digit] => digit,
        [both] => both.strip_prefix("-i")?,
        _ => return None,
    };
    match digit.as_bytes() {
        [digit @ b'0'..=b'3'] => Some(u32::from(digit - b'0')),
        _ => None,
    }
}
