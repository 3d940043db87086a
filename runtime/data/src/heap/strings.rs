//! Text that lives in a heap.
//!
//! Used by actors inside transactions. It must never hold anything but whole UTF-8.
#![allow(unsafe_code)]

use std::borrow::Borrow;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;

use crate::heap::safe::HeapSafe;
use crate::heap::vectors::HeapVec;

/// A text in a heap. It derefs to `str`.
///
/// A map with such keys is asked with a `&str`.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct HeapString(HeapVec<u8>);

// SAFETY: a vector of bytes.
unsafe impl HeapSafe for HeapString {}

impl HeapString {
    /// An empty one. Takes no memory yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // SAFETY: the bytes are whole texts that were put one behind the other.
        unsafe { std::str::from_utf8_unchecked(&self.0) }
    }

    /// Puts a text behind this one.
    ///
    /// # Panics
    /// Outside of a transaction, when there is no room left.
    pub fn push_str(&mut self, text: &str) {
        self.0.extend_from_slice(text.as_bytes());
    }

    /// Makes it empty, and keeps its memory.
    pub fn clear(&mut self) {
        self.0.clear();
    }
}

impl From<&str> for HeapString {
    fn from(text: &str) -> Self {
        Self(text.as_bytes().into())
    }
}

impl Deref for HeapString {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl Borrow<str> for HeapString {
    fn borrow(&self) -> &str {
        self
    }
}

impl AsRef<str> for HeapString {
    fn as_ref(&self) -> &str {
        self
    }
}

// As `str`'s, which `Borrow` promises.
impl Hash for HeapString {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl fmt::Write for HeapString {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.push_str(text);
        Ok(())
    }
}

impl fmt::Display for HeapString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

impl fmt::Debug for HeapString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

impl PartialEq<str> for HeapString {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}

impl PartialEq<&str> for HeapString {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}
