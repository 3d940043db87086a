//! Why a request of a life is refused: a family for programs, a line for people.
//!
//! Carried by [`crate::request::Reply::Error`]; never longer than a frame has room for.

/// How much text an error answer carries, in bytes.
pub const MAX_ERROR_TEXT: usize = 384;

/// Families of refusal, for programs that decide by them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
#[non_exhaustive]
pub enum ErrorCode {
    /// A frame that is none, or arguments out of range.
    Invalid = 1,
    /// No block, actor or group of that name or id.
    NotFound = 2,
    /// The asker may not do this: another group's block, an ordinary actor, another's group.
    Denied = 3,
    /// The name is in use.
    Exists = 4,
    /// The block has another size.
    SizeMismatch = 5,
    /// The bank or a table is full.
    Full = 6,
    /// The program could not be loaded.
    NoExec = 7,
    /// Ask again: the site is restarting or halting; or its controller ended while it carried this out,
    /// and whether that was done is to be looked at first.
    Again = 8,
    /// The bank could not be written.
    Io = 9,
}

impl ErrorCode {
    pub(crate) fn from_wire(word: u32) -> Self {
        match word {
            2 => Self::NotFound,
            3 => Self::Denied,
            4 => Self::Exists,
            5 => Self::SizeMismatch,
            6 => Self::Full,
            7 => Self::NoExec,
            8 => Self::Again,
            9 => Self::Io,
            _ => Self::Invalid,
        }
    }
}

/// A bounded line of text, cut at a character.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ErrorText {
    bytes: [u8; MAX_ERROR_TEXT],
    len: u16,
}

impl ErrorText {
    /// Keeps as much of `text` as fits.
    #[must_use]
    pub fn new(text: &str) -> Self {
        let mut len = text.len().min(MAX_ERROR_TEXT);
        while !text.is_char_boundary(len) {
            len -= 1;
        }
        let mut bytes = [0; MAX_ERROR_TEXT];
        bytes[..len].copy_from_slice(&text.as_bytes()[..len]);
        Self {
            bytes,
            len: len as u16,
        }
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        core::str::from_utf8(&self.bytes[..usize::from(self.len)]).unwrap_or_default()
    }
}

impl core::fmt::Debug for ErrorText {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        core::fmt::Debug::fmt(self.as_str(), f)
    }
}
