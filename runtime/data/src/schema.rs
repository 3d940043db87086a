//! What a structure holds: its kind, its types, the user's version, and a fingerprint of all that.
//!
//! Made by the structures, kept and compared by the header. It must never depend on where in memory
//! anything is.
//!
//! The fingerprint covers what the compiler tells about a type without its help: name with path, size
//! and alignment. Two layouts of one name, size and alignment look the same: the user's version is there
//! to tell them apart.

use std::any::type_name;
use std::fmt;

/// What sort of structure it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// [`Cell`](crate::Cell).
    Cell,
    /// [`Log`](crate::Log).
    Log,
    /// [`ByteLog`](crate::ByteLog).
    ByteLog,
    /// [`Map`](crate::Map).
    Map,
    /// A heap of any Rust values.
    Heap,
    /// One that this version does not know.
    Unknown(u32),
}

impl Kind {
    pub(crate) fn number(self) -> u32 {
        match self {
            Self::Cell => 1,
            Self::Log => 2,
            Self::ByteLog => 3,
            Self::Map => 4,
            Self::Heap => 5,
            Self::Unknown(number) => number,
        }
    }

    pub(crate) fn of_number(number: u32) -> Self {
        match number {
            1 => Self::Cell,
            2 => Self::Log,
            3 => Self::ByteLog,
            4 => Self::Map,
            5 => Self::Heap,
            other => Self::Unknown(other),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cell => f.write_str("Cell"),
            Self::Log => f.write_str("Log"),
            Self::ByteLog => f.write_str("ByteLog"),
            Self::Map => f.write_str("Map"),
            Self::Heap => f.write_str("Heap"),
            Self::Unknown(number) => write!(f, "structure of kind {number}"),
        }
    }
}

/// What a structure holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schema {
    /// The kind of structure.
    pub kind: Kind,
    /// The user's version.
    pub version: u32,
    /// The names of its types. In a block, its first [`NAME_MAX`] bytes.
    pub name: String,
    /// The size of a value in bytes.
    pub size: u64,
    /// The alignment of a value in bytes.
    pub align: u64,
    /// Of all of these and, for a map, of the key's size and alignment.
    pub fingerprint: u64,
}

/// How many bytes of a schema's name are kept in a block.
pub const NAME_MAX: usize = 96;

/// A type as the compiler describes it.
#[derive(Clone, Copy, Debug)]
pub struct TypeOf {
    name: &'static str,
    pub(crate) size: usize,
    pub(crate) align: usize,
}

impl TypeOf {
    /// Of `T`.
    #[must_use]
    pub fn of<T: 'static>() -> Self {
        Self {
            name: type_name::<T>(),
            size: size_of::<T>(),
            align: align_of::<T>(),
        }
    }
}

impl Schema {
    /// Of a structure of `T`.
    #[must_use]
    pub fn of<T: 'static>(kind: Kind, version: u32) -> Self {
        Self::new(kind, version, None, TypeOf::of::<T>())
    }

    /// Of a structure of `value`, under a `key` where it is a map.
    #[must_use]
    pub fn new(kind: Kind, version: u32, key: Option<TypeOf>, value: TypeOf) -> Self {
        let name = match key {
            Some(key) => format!("{}, {}", key.name, value.name),
            None => value.name.to_owned(),
        };
        let numbers = [u64::from(kind.number()), u64::from(version)];
        let types = key
            .iter()
            .chain([&value])
            .flat_map(|t| [t.size as u64, t.align as u64]);
        let fingerprint = numbers
            .into_iter()
            .chain(types)
            .flat_map(u64::to_le_bytes)
            .chain(name.bytes())
            .fold(FNV_OFFSET, |hash, byte| {
                (hash ^ u64::from(byte)).wrapping_mul(FNV_PRIME)
            });
        Self {
            kind,
            version,
            name,
            size: value.size as u64,
            align: value.align as u64,
            fingerprint,
        }
    }
}

/// The numbers of FNV-1a, 64 bits (Fowler, Noll, Vo).
const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;

impl fmt::Display for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            kind,
            version,
            name,
            size,
            ..
        } = self;
        write!(f, "{kind}<{name}> version {version} ({size} bytes)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h32_what_differs_in_name_size_version_or_kind_has_another_fingerprint() {
        let all = [
            Schema::of::<u64>(Kind::Cell, 0),
            Schema::of::<i64>(Kind::Cell, 0),
            Schema::of::<u32>(Kind::Cell, 0),
            Schema::of::<u64>(Kind::Cell, 1),
            Schema::of::<u64>(Kind::Log, 0),
            Schema::new(Kind::Map, 0, Some(TypeOf::of::<u64>()), TypeOf::of::<u64>()),
            Schema::new(Kind::Map, 0, Some(TypeOf::of::<u32>()), TypeOf::of::<u64>()),
        ];
        for (at, one) in all.iter().enumerate() {
            for other in &all[..at] {
                assert_ne!(one.fingerprint, other.fingerprint, "{one} and {other}");
            }
        }
        assert_eq!(all[0].to_string(), "Cell<u64> version 0 (8 bytes)");
    }
}
