//! Versions of a type: how a value of an older one becomes one of today's.
//!
//! Given by the user when a structure is opened, used once if the block holds an older version. It must
//! never see bytes of another type than it was given for.

use crate::error::OpenError;
use crate::region::Plain;
use crate::schema::{Kind, Schema, TypeOf};

type Convert<T> = Box<dyn Fn(&[u8]) -> T>;

/// The version of a type, and what it takes to come from older ones.
///
/// ```
/// use refrain_data::Versions;
/// // Version 0 counted in 32 bits.
/// let versions = Versions::<u64>::new(1).from::<u32>(0, |old| u64::from(*old));
/// ```
pub struct Versions<T> {
    version: u32,
    older: Vec<(u32, TypeOf, Convert<T>)>,
}

impl<T: Plain> Versions<T> {
    /// Version `version`, and no other is known.
    #[must_use]
    pub fn new(version: u32) -> Self {
        Self {
            version,
            older: Vec::new(),
        }
    }

    /// A structure of `Old` in version `version` is brought up to date: each value by `convert`, all of them
    /// at once as far as a crash can tell.
    #[must_use]
    pub fn from<Old: Plain>(mut self, version: u32, convert: impl Fn(&Old) -> T + 'static) -> Self {
        let convert = move |bytes: &[u8]| {
            convert(&Old::read_from_bytes(bytes).expect("the schema says how many bytes it has"))
        };
        self.older
            .push((version, TypeOf::of::<Old>(), Box::new(convert)));
        self
    }

    /// The schema that is asked for.
    pub(crate) fn schema(&self, kind: Kind, key: Option<TypeOf>) -> Schema {
        Schema::new(kind, self.version, key, TypeOf::of::<T>())
    }

    /// What brings a structure of schema `has` up to date, and the type of its values: as the program knows it, for
    /// what the block says of sizes is not to be trusted.
    ///
    /// # Errors
    /// That there is nothing.
    pub(crate) fn migration(
        &self,
        has: Schema,
        kind: Kind,
        key: Option<TypeOf>,
    ) -> Result<(TypeOf, &Convert<T>), OpenError> {
        let fits = |(version, old, _): &&(u32, TypeOf, Convert<T>)| {
            Schema::new(kind, *version, key, *old).fingerprint == has.fingerprint
        };
        match self.older.iter().find(fits) {
            Some((_, old, convert)) => Ok((*old, convert)),
            None => Err(unlike(has, self.schema(kind, key))),
        }
    }
}

impl<T: Plain> Default for Versions<T> {
    fn default() -> Self {
        Self::new(0)
    }
}

/// The error for a structure that is not what was asked for.
pub(crate) fn unlike(has: Schema, asked: Schema) -> OpenError {
    let same_type = has.kind == asked.kind && has.name == asked.name;
    let (has, asked) = (Box::new(has), Box::new(asked));
    if same_type && has.version != asked.version {
        OpenError::OtherVersion { has, asked }
    } else {
        OpenError::OtherType { has, asked }
    }
}
