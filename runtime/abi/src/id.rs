//! Identities (SPEC H6): what an actor keeps in every life, and what is new in each.
//!
//! Name and gid are *persistent credentials*; aid, capability and pid are the *credentials of
//! one life*. An aid is never given out twice in the life of a bank, so a stale one can only be
//! refused, never taken for its successor.

use core::fmt;

/// A restart group. Every restartable actor is in exactly one. Source: SPEC vocabulary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(
    feature = "std",
    derive(serde::Serialize, serde::Deserialize),
    serde(transparent)
)]
pub struct Gid(pub u32);

impl Gid {
    /// What a frame carries where an actor has no group (an ordinary actor). Not a valid gid.
    pub const NONE_ON_WIRE: u32 = u32::MAX;
}

impl fmt::Display for Gid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The id of one life of an actor, shown by `arun` and `aps`. Never 0, never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(
    feature = "std",
    derive(serde::Serialize, serde::Deserialize),
    serde(transparent)
)]
pub struct Aid(pub u32);

impl fmt::Display for Aid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The number of a life of an actor: 0 for the first (SPEC "incarnation").
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[cfg_attr(
    feature = "std",
    derive(serde::Serialize, serde::Deserialize),
    serde(transparent)
)]
pub struct LifeNo(pub u32);

impl LifeNo {
    /// The number of the life after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.wrapping_add(1))
    }
}

impl fmt::Display for LifeNo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The number of a fork that an actor's template was asked for, counted from 1 in its control
/// page. A standby is woken by storing its serial, so a wake-up can be counted and never flagged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Serial(pub u32);

impl Serial {
    /// Whether the standby of this serial may run, given the highest serial that may. Serials wrap.
    #[must_use]
    pub const fn is_called(self, highest: u32) -> bool {
        highest.wrapping_sub(self.0) as i32 >= 0
    }
}

/// A 128-bit random credential of one life, unique in space and time (SPEC H6).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Capability(pub [u8; 16]);

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Capability({self})")
    }
}

/// Why a text is not a name of an actor or a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NameError {
    /// No character at all.
    Empty,
    /// More than [`Name::MAX`] bytes.
    TooLong,
    /// A NUL, a slash, a space or a control character.
    BadCharacter,
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "a name has at least one character",
            Self::TooLong => "a name has at most 63 bytes",
            Self::BadCharacter => "a name holds no slash, space or control character",
        })
    }
}

impl core::error::Error for NameError {}

/// A bounded UTF-8 name without slash, space or control characters, held inline.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name {
    bytes: [u8; Self::MAX],
    len: u8,
}

/// The name of an actor: unique in a site, the same in every life.
pub type ActorName = Name;
/// The name of a block of persistent memory: unique in a bank.
pub type BlockName = Name;

impl Name {
    /// The longest name, in bytes.
    pub const MAX: usize = 63;

    /// Checks a text and keeps it as a name.
    ///
    /// # Errors
    /// [`NameError`], which says what a name may not be.
    pub fn new(text: &str) -> Result<Self, NameError> {
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        if text.len() > Self::MAX {
            return Err(NameError::TooLong);
        }
        // Marks that turn the direction of writing around would make one name look like another.
        let turns = |c: char| matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        let bad = |c: char| c.is_control() || c == '/' || c.is_whitespace() || turns(c);
        if text.chars().any(bad) || text == "." || text == ".." {
            return Err(NameError::BadCharacter);
        }
        let mut bytes = [0; Self::MAX];
        bytes[..text.len()].copy_from_slice(text.as_bytes());
        Ok(Self {
            bytes,
            len: text.len() as u8,
        })
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        core::str::from_utf8(&self.bytes[..usize::from(self.len)]).unwrap_or_default()
    }

    /// A name from what a frame or a catalogue record carries: `len` bytes at the front.
    ///
    /// # Errors
    /// [`NameError`] when the length is out of range or the bytes are no name.
    pub fn from_wire(bytes: &[u8], len: usize) -> Result<Self, NameError> {
        let text = bytes.get(..len).ok_or(NameError::TooLong)?;
        Self::new(core::str::from_utf8(text).map_err(|_| NameError::BadCharacter)?)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

#[cfg(feature = "std")]
impl serde::Serialize for Name {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

#[cfg(feature = "std")]
impl<'de> serde::Deserialize<'de> for Name {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        Self::new(&text).map_err(serde::de::Error::custom)
    }
}

/// What ties blocks together for `pmm_free_all` (SPEC H17, H18).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DeletionKey {
    /// `HR_GROUP_KEY`: the block is freed by itself when its restart group terminates.
    Group,
    /// Bytes of the actor's choosing; shorter keys are padded with zeros.
    Opaque([u8; Self::MAX]),
}

impl DeletionKey {
    /// The longest opaque key, in bytes.
    pub const MAX: usize = 32;

    /// An opaque key from `bytes`; `None` when they are more than [`DeletionKey::MAX`].
    #[must_use]
    pub fn opaque(bytes: &[u8]) -> Option<Self> {
        let mut key = [0; Self::MAX];
        key.get_mut(..bytes.len())?.copy_from_slice(bytes);
        Some(Self::Opaque(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_bounded_and_plain() {
        assert_eq!(Name::new("redis-server").unwrap().as_str(), "redis-server");
        assert_eq!(Name::new(""), Err(NameError::Empty));
        assert_eq!(Name::new("a/b"), Err(NameError::BadCharacter));
        assert_eq!(Name::new("\u{1b}[2J"), Err(NameError::BadCharacter));
        assert_eq!(Name::new("a\u{202e}b"), Err(NameError::BadCharacter));
        assert_eq!(Name::new(&"x".repeat(64)), Err(NameError::TooLong));
        assert!(Name::new(&"x".repeat(63)).is_ok());
    }

    #[test]
    fn a_key_longer_than_the_record_is_refused() {
        assert!(DeletionKey::opaque(&[1; 33]).is_none());
        assert_ne!(DeletionKey::opaque(b"a"), DeletionKey::opaque(b"b"));
    }
}
