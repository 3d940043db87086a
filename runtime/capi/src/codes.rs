//! The numbers that C gets for what went wrong, and the text of a thread's last error.
//!
//! Called by every other module here. `K_` codes are those of `chorus.h`; a call that answers -1 sets `errno`.
//! Must never answer success for something that failed.

use std::cell::RefCell;
use std::ffi::{CString, c_char, c_int};
use std::fmt::Display;

use refrain::{AttachError, ErrorCode, HrError, PmmError, RequestError};

/// What a function answers that failed and has set `errno`.
pub(crate) const FAILED: c_int = -1;
/// `K_OK` of `chorus.h`.
pub(crate) const K_OK: c_int = 0;

thread_local! {
    static LAST_ERROR: RefCell<CString> = RefCell::default();
}

/// Keeps the text of an error for [`last_error`].
pub(crate) fn keep(why: &dyn Display) {
    let mut text = why.to_string();
    text.retain(|letter| letter != '\0');
    let text = CString::new(text).unwrap_or_default();
    // Fails only while the thread ends: nobody asks any more.
    let _ = LAST_ERROR.try_with(|last| last.replace(text));
}

/// `hr_error`. What it points to is there until the thread's next error.
pub(crate) fn last_error() -> *const c_char {
    let text = LAST_ERROR.try_with(|last| last.borrow().as_ptr());
    text.unwrap_or(c"this thread is ending".as_ptr())
}

/// A family of failures, as C sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    Privilege,
    Unknown,
    Failed,
    NoMemory,
    Fault,
    Busy,
    Overlap,
    Invalid,
    Full,
    Size,
    NotAvailable,
    /// A name that is in use.
    Exists,
    /// A program that cannot be loaded.
    NoExec,
    /// Too many files are open.
    NoFile,
}

impl Code {
    /// The `K_` code of `chorus.h`.
    pub(crate) const fn kn_error(self) -> c_int {
        match self {
            Self::Privilege => -1,
            Self::Unknown => -2,
            Self::Failed => -5,
            Self::NoMemory | Self::NoFile => -12,
            Self::Fault => -14,
            Self::Busy => -16,
            Self::Overlap => -17,
            Self::Invalid | Self::Exists | Self::NoExec => -22,
            Self::Full => -28,
            Self::Size => -34,
            Self::NotAvailable => -38,
        }
    }

    /// The `errno` of a call that answers -1, as `hrCtrl.h` lists it.
    pub(crate) const fn errno(self) -> c_int {
        match self {
            // Not there for this program: the call is the restartable actors' (SPEC H2).
            Self::Privilege | Self::NotAvailable => libc::EPERM,
            Self::Unknown => libc::ESRCH,
            Self::Failed => libc::EIO,
            Self::NoMemory | Self::Full => libc::ENOMEM,
            Self::Fault => libc::EFAULT,
            Self::Busy => libc::EAGAIN,
            Self::Overlap | Self::Exists => libc::EEXIST,
            Self::Invalid | Self::Size => libc::EINVAL,
            Self::NoExec => libc::ENOEXEC,
            Self::NoFile => libc::EMFILE,
        }
    }
}

/// An error of the crate `refrain` that has a family.
pub(crate) trait Coded: Display {
    /// The family.
    fn family(&self) -> Code;
}

impl Coded for RequestError {
    fn family(&self) -> Code {
        match self {
            Self::Refused { code, .. } => match code {
                ErrorCode::NotFound => Code::Unknown,
                ErrorCode::Denied => Code::Privilege,
                ErrorCode::Exists => Code::Exists,
                ErrorCode::SizeMismatch => Code::Size,
                ErrorCode::Full => Code::Full,
                ErrorCode::NoExec => Code::NoExec,
                ErrorCode::Again => Code::Busy,
                ErrorCode::Io => Code::Failed,
                // Invalid, and what a later site may know.
                _ => Code::Invalid,
            },
            Self::NotTheLife { .. } => Code::Privilege,
            Self::NoFdLeft { .. } => Code::NoFile,
            // NoAnswer, Protocol, Io.
            _ => Code::Failed,
        }
    }
}

impl Coded for AttachError {
    fn family(&self) -> Code {
        match self {
            Self::NotAnActor => Code::NotAvailable,
            Self::Request(why) => why.family(),
            _ => Code::NoMemory,
        }
    }
}

impl Coded for HrError {
    fn family(&self) -> Code {
        match self {
            Self::Attach(why) => why.family(),
            Self::Request(why) => why.family(),
            _ => Code::Failed,
        }
    }
}

impl Coded for PmmError {
    fn family(&self) -> Code {
        match self {
            Self::Attach(why) => why.family(),
            Self::Request(why) => why.family(),
            Self::Name { .. } => Code::Invalid,
            Self::PlaceTaken { .. } => Code::Overlap,
            _ => Code::NoMemory,
        }
    }
}

/// Keeps the text, and answers the `K_` code.
pub(crate) fn kn_error(code: Code, why: &dyn Display) -> c_int {
    keep(why);
    code.kn_error()
}

/// Keeps the text, sets `errno`, and answers -1.
pub(crate) fn minus_one(why: &impl Coded) -> c_int {
    minus_one_with(why.family().errno(), why)
}

/// Keeps the text, sets `errno` to `number`, and answers -1.
pub(crate) fn minus_one_with(number: c_int, why: &dyn Display) -> c_int {
    keep(why);
    // SAFETY: it takes nothing, and answers the address of this thread's errno.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: this thread's own, and only C looks at it.
    unsafe { errno.write(number) };
    FAILED
}

/// Keeps the text, and answers the errno as a positive number: an error of the site (`sysShutdown`).
pub(crate) fn positive(code: Code, why: &dyn Display) -> c_int {
    keep(why);
    code.errno()
}
