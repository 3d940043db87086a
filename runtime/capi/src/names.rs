//! `PmmName` and `PmmDelKey` of `pmm/chPmm.h`: the names of blocks and actors, and deletion keys.
//!
//! Called by the calls of the PMM, and by `hrfexec`, whose actor is named by a `PmmName`, too. Must never read
//! past the arrays of the structure, whether there is a NUL in them or not.

use std::ffi::{c_char, c_void};

use refrain::{DeletionKey, HR_GROUP_KEY};

use crate::codes::Code;
use crate::pointers::Null;

/// `PmmName` of `pmm/chPmm.h`.
#[repr(C)]
pub struct PmmName {
    medium: [c_char; 16],
    name: [c_char; 64],
}

/// The only medium.
const RAM: &str = "RAM";
/// What names and keys of the system's own begin with.
const SYSTEM: &str = "__SYS";
/// `HR_GROUP_KEY` of `pmm/chPmm.h`.
const GROUP_KEY: &[u8] = b"__SYS_HR_GROUP_KEY";

/// What is wrong with a name or a key.
#[derive(Debug)]
pub(crate) enum Wrong {
    Null(Null),
    /// The medium is not the one there is.
    Medium(String),
    /// No text, or none that ends.
    Text(&'static str),
    /// A name or key of the system's own.
    System(String),
    /// A key that is too long, and its size in bytes.
    Long(usize),
    /// A key of nothing but zeros.
    NoKey,
    /// `HR_GROUP_KEY`, where it may not be.
    GroupKey,
}

impl From<Null> for Wrong {
    fn from(null: Null) -> Self {
        Self::Null(null)
    }
}

impl Wrong {
    pub(crate) fn code(&self) -> Code {
        match self {
            Self::Null(_) => Code::Fault,
            Self::Medium(_) | Self::Text(_) | Self::NoKey => Code::Invalid,
            Self::System(_) | Self::GroupKey => Code::Privilege,
            Self::Long(_) => Code::Size,
        }
    }
}

impl std::fmt::Display for Wrong {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Null(Null(what)) => write!(f, "{what} is a null pointer"),
            Self::Medium(medium) => write!(f, "medium {medium:?}: \"RAM\" is the only one"),
            Self::Text(what) => write!(f, "the {what} of a PmmName is no text that ends with NUL"),
            Self::System(name) => write!(f, "{name:?} begins with {SYSTEM}: it is the system's"),
            Self::Long(size) => write!(
                f,
                "a deletion key of {size} bytes: {} is the most",
                DeletionKey::MAX
            ),
            Self::NoKey => f.write_str("a deletion key of nothing but zeros is no key"),
            Self::GroupKey => f.write_str(
                "HR_GROUP_KEY: its blocks are freed with the group, or by name with pmmFree",
            ),
        }
    }
}

/// The name in `name`, whose medium has been checked.
///
/// # Errors
/// [`Wrong`].
///
/// # Safety
/// `name` is null, or points to a `PmmName` that nobody changes during `'a`.
pub(crate) unsafe fn name<'a>(name: *const PmmName, what: &'static str) -> Result<&'a str, Wrong> {
    // SAFETY: null or a `PmmName`, by this function's contract.
    let name = unsafe { name.as_ref() }.ok_or(Null(what))?;
    let medium = chars(&name.medium, "medium")?;
    if medium != RAM {
        return Err(Wrong::Medium(medium.to_owned()));
    }
    let name = chars(&name.name, "name")?;
    if name.starts_with(SYSTEM) {
        return Err(Wrong::System(name.to_owned()));
    }
    Ok(name)
}

/// The text in an array of characters, up to its NUL.
fn chars<'a>(array: &'a [c_char], what: &'static str) -> Result<&'a str, Wrong> {
    let end = array.iter().position(|byte| *byte == 0);
    let end = end.ok_or(Wrong::Text(what))?;
    let first = array.as_ptr().cast::<u8>();
    // SAFETY: a `c_char` is a byte, and `end` of them lie before the NUL.
    let bytes = unsafe { std::slice::from_raw_parts(first, end) };
    std::str::from_utf8(bytes).map_err(|_| Wrong::Text(what))
}

/// The key that a block is allocated with: none is a key of zeros, which [`key_to_free`] does not know.
///
/// # Errors
/// [`Wrong`].
///
/// # Safety
/// `key` is null, or points to `size` bytes.
pub(crate) unsafe fn key_of_block(key: *const c_void, size: usize) -> Result<DeletionKey, Wrong> {
    if key.is_null() && size == 0 {
        return Ok(DeletionKey::Opaque([0; DeletionKey::MAX]));
    }
    // SAFETY: by this function's contract.
    unsafe { read_key(key, size) }
}

/// The key whose blocks are to be freed.
///
/// # Errors
/// [`Wrong`]: also for `HR_GROUP_KEY`, and for a key of zeros.
///
/// # Safety
/// `key` is null, or points to `size` bytes.
pub(crate) unsafe fn key_to_free(key: *const c_void, size: usize) -> Result<DeletionKey, Wrong> {
    // SAFETY: by this function's contract.
    match unsafe { read_key(key, size) }? {
        DeletionKey::Group => Err(Wrong::GroupKey),
        DeletionKey::Opaque(bytes) if bytes.iter().all(|byte| *byte == 0) => Err(Wrong::NoKey),
        key => Ok(key),
    }
}

/// # Safety
/// `key` is null, or points to `size` bytes.
unsafe fn read_key(key: *const c_void, size: usize) -> Result<DeletionKey, Wrong> {
    if key.is_null() {
        return Err(Null("delKey").into());
    }
    if size > DeletionKey::MAX {
        return Err(Wrong::Long(size));
    }
    // SAFETY: not null, so `size` bytes, by this function's contract.
    let bytes = unsafe { std::slice::from_raw_parts(key.cast::<u8>(), size) };
    let end = bytes
        .iter()
        .rposition(|byte| *byte != 0)
        .map_or(0, |at| at + 1);
    if &bytes[..end] == GROUP_KEY {
        return Ok(HR_GROUP_KEY);
    }
    if bytes.starts_with(SYSTEM.as_bytes()) {
        return Err(Wrong::System(
            String::from_utf8_lossy(&bytes[..end]).into_owned(),
        ));
    }
    DeletionKey::opaque(bytes).ok_or(Wrong::Long(size))
}
