//! `CellReader`: what another actor of the group sees of a cell.
//!
//! It copies the value, and looks whether the writer came between. It must never write, wait for the
//! writer, or hand out a reference into memory that somebody else changes.

use std::hint::spin_loop;
use std::marker::PhantomData;
use std::thread::yield_now;

use crate::blocks::{Blocks, ROOT, get};
use crate::cell::{Place, body_len, sequence, slot};
use crate::error::{OpenError, ReadError};
use crate::header::{self, Description};
use crate::region::{Plain, Region, WORD};
use crate::schema::Kind;
use crate::seqlock;
use crate::versions::{Versions, unlike};

/// Tries in a row before the thread lets others run.
const TRIES_BEFORE_YIELD: u32 = 64;
/// Tries before a writer that never rests is given up: seconds of them.
const TRIES: u32 = 1 << 20;

/// Reads a [`Cell`](crate::Cell) that another actor writes. Any number of them, also while it is written.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use refrain_data::{Cell, CellReader, memory::Scratch};
/// # let blocks = Scratch::new()?;
/// let mut cell = Cell::<u64>::open(blocks.clone())?;
/// let reader = CellReader::<u64>::open(blocks)?;
/// cell.set(&8);
/// assert_eq!(reader.read()?, 8);
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct CellReader<T> {
    root: Region,
    description: Description,
    body: Region,
    of: PhantomData<T>,
}

impl<T: Plain> CellReader<T> {
    /// Opens a cell of version 0 for reading.
    ///
    /// # Errors
    /// [`OpenError::NotYet`] before its writer has made it, and as for [`Cell::open`](crate::Cell::open).
    pub fn open(blocks: impl Blocks) -> Result<Self, OpenError> {
        Self::open_version(blocks, 0)
    }

    /// Opens a cell of version `version` for reading. A reader migrates nothing.
    ///
    /// # Errors
    /// As [`CellReader::open`].
    pub fn open_version(mut blocks: impl Blocks, version: u32) -> Result<Self, OpenError> {
        crate::region::check_align::<T>()?;
        let asked = Versions::<T>::new(version).schema(Kind::Cell, None);
        let root = get(&mut blocks, 0, ROOT)?;
        let description = header::read(&root)?.ok_or(OpenError::NotYet)?;
        if description.schema.fingerprint != asked.fingerprint {
            return Err(unlike(description.schema, asked));
        }
        let place = Place::read(&description.parameters)?;
        let body = place.body(&root, &mut blocks, body_len(size_of::<T>()))?;
        Ok(Self {
            root,
            description,
            body,
            of: PhantomData,
        })
    }

    /// The value as it is at some moment of the call.
    ///
    /// # Errors
    /// [`ReadError`]: the cell was migrated, or its writer never rests.
    pub fn read(&self) -> Result<T, ReadError> {
        let slots = [0, 1].map(|index| slot(&self.body, index, size_of::<T>()));
        for tries in 0..TRIES {
            let mut value = T::new_zeroed();
            let bytes = value.as_mut_bytes();
            let copied = seqlock::try_copy(sequence(&self.body), slots, |index, word| {
                let piece = &mut bytes[index * WORD..];
                let len = piece.len().min(WORD);
                piece[..len].copy_from_slice(&word.to_ne_bytes()[..len]);
            });
            if copied.is_some() {
                return match header::is_still(&self.root, &self.description) {
                    true => Ok(value),
                    false => Err(ReadError::Replaced),
                };
            }
            if tries % TRIES_BEFORE_YIELD == TRIES_BEFORE_YIELD - 1 {
                yield_now();
            } else {
                spin_loop();
            }
        }
        Err(ReadError::Restless)
    }
}
