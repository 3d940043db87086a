//! `LogReader`: follows a log that another actor appends to.
//!
//! It copies a record and looks whether the writer has come round to its slot meanwhile. It must never write or
//! wait.

use std::marker::PhantomData;
use std::sync::atomic::Ordering;

use crate::blocks::{Blocks, ROOT, get};
use crate::error::{FollowError, OpenError};
use crate::header::{self, Description};
use crate::log::{Ring, Shape, check_record};
use crate::region::{Plain, Region, load_bytes};
use crate::schema::Kind;
use crate::seqlock::{Taken, take};
use crate::versions::{Versions, unlike};

/// Reads the records of a [`Log`](crate::Log) one after the other, also while they are appended. Any number of readers,
/// each at its own place.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use refrain_data::{FollowError, Log, LogReader, memory::Scratch};
/// # let blocks = Scratch::new()?;
/// let mut log = Log::<u32>::open(blocks.clone(), 2)?;
/// let mut reader = LogReader::<u32>::open(blocks)?;
/// log.append(&1);
/// assert_eq!(reader.next()?, Some(1));
/// assert_eq!(reader.next()?, None);
/// for late in [2, 3, 4] {
///     log.append(&late);
/// }
/// assert_eq!(reader.next(), Err(FollowError::Overtaken { lost: 1 }));
/// assert_eq!(reader.next()?, Some(3));
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct LogReader<T> {
    root: Region,
    description: Description,
    ring: Ring,
    at: u64,
    of: PhantomData<T>,
}

impl<T: Plain> LogReader<T> {
    /// Opens a log of version 0, at its oldest record.
    ///
    /// # Errors
    /// [`OpenError::NotYet`] before its writer has made it, and as for [`Log::open`](crate::Log::open).
    pub fn open(blocks: impl Blocks) -> Result<Self, OpenError> {
        Self::open_version(blocks, 0)
    }

    /// Opens a log of version `version`, at its oldest record. A reader migrates nothing.
    ///
    /// # Errors
    /// As [`LogReader::open`].
    pub fn open_version(mut blocks: impl Blocks, version: u32) -> Result<Self, OpenError> {
        check_record::<T>()?;
        let asked = Versions::<T>::new(version).schema(Kind::Log, None);
        let root = get(&mut blocks, 0, ROOT)?;
        let description = header::read(&root)?.ok_or(OpenError::NotYet)?;
        if description.schema.fingerprint != asked.fingerprint {
            return Err(unlike(description.schema, asked));
        }
        let ring = Shape::read(&description.parameters)?.ring(&mut blocks, size_of::<T>())?;
        let at = ring.oldest(ring.count().load(Ordering::Acquire));
        Ok(Self {
            root,
            description,
            ring,
            at,
            of: PhantomData,
        })
    }

    /// The number of the record that is read next.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.at
    }

    /// Goes to the record with this number; it may be one that is not there yet, or not any more.
    pub fn seek(&mut self, number: u64) {
        self.at = number;
    }

    /// The next record; `None` when there is none yet.
    ///
    /// # Errors
    /// [`FollowError::Overtaken`] when the writer was faster, and the reader goes on at the oldest record;
    /// [`FollowError::Replaced`] when the log was migrated.
    #[expect(
        clippy::should_implement_trait,
        reason = "an iterator ends, a log goes on"
    )]
    pub fn next(&mut self) -> Result<Option<T>, FollowError> {
        let mut record = T::new_zeroed();
        let taken = take(
            self.ring.count(),
            self.at,
            |next| self.ring.oldest(next),
            || {
                load_bytes(self.ring.words(self.at), record.as_mut_bytes());
            },
        );
        if !header::is_still(&self.root, &self.description) {
            return Err(FollowError::Replaced);
        }
        match taken {
            Taken::Whole => {
                self.at += 1;
                Ok(Some(record))
            }
            Taken::NotYet => Ok(None),
            Taken::Gone { oldest } => {
                let lost = oldest - self.at;
                self.at = oldest;
                Err(FollowError::Overtaken { lost })
            }
        }
    }
}
