//! `Cell`: one value that is replaced or updated as a whole.
//!
//! Two slots and a sequence number ([`crate::seqlock`]). The value is read in place, by reference; it is changed in
//! the slot that does not count, and then published by one store. Used by the one actor that writes it;
//! others have [`CellReader`](crate::CellReader). It must never change the slot that counts.
//!
//! The body is a line with the sequence and two slots, each a whole number of lines. It lies in the root where it
//! fits, else in a block of its own; a migration puts the new one where the old one is not.
#![allow(unsafe_code)]

use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering, compiler_fence};

use crate::blocks::{Blocks, ROOT};
use crate::error::{OpenError, damaged};
use crate::header::{BODY, Description, PARAMETERS, Root};
use crate::region::{LINE, Plain, Region};
use crate::schema::Kind;
use crate::seqlock;
use crate::versions::Versions;

/// One value of plain data that a crash leaves old or new, never in between (SPEC H32).
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use refrain_data::{Cell, Versions, memory::Scratch};
/// # let blocks = Scratch::new()?;
/// // In an actor: `refrain::named("position", refrain::HR_GROUP_KEY)`.
/// let mut position = Cell::<[u64; 3]>::open(blocks)?;
/// position.update(|xyz| xyz[0] += 1);
/// position.set(&[4, 5, 6]);
/// assert_eq!(*position.get(), [4, 5, 6]);
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Cell<T> {
    root: Root,
    body: Region,
    of: PhantomData<T>,
}

/// Where a body lies: which block, and how far from its start, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) block: u32,
    pub(crate) offset: usize,
}

/// The most blocks that bodies are in: the root, and two that migrations take in turns.
const LAST_BLOCK: u32 = 2;

/// How many bytes a slot for a value of `size` bytes takes.
pub(crate) fn stride(size: usize) -> usize {
    size.next_multiple_of(LINE).max(LINE)
}

/// How many bytes a body for values of `size` bytes takes.
pub(crate) fn body_len(size: usize) -> usize {
    LINE + 2 * stride(size)
}

impl Place {
    /// A place for a body of `len` bytes that does not touch the one that is there.
    fn beside(there: Option<(Place, usize)>, len: usize) -> Self {
        let free = |offset: usize| {
            there.is_none_or(|(old, old_len)| {
                old.block != 0 || offset + len <= old.offset || old.offset + old_len <= offset
            })
        };
        if BODY + len <= ROOT {
            let last = (ROOT - len) / LINE * LINE;
            if let Some(offset) = [BODY, last].into_iter().find(|offset| free(*offset)) {
                return Self { block: 0, offset };
            }
        }
        let block = match there {
            Some((old, _)) if old.block == 1 => LAST_BLOCK,
            _ => 1,
        };
        Self { block, offset: 0 }
    }

    fn parameters(self) -> [u64; PARAMETERS] {
        let mut parameters = [0; PARAMETERS];
        parameters[0] = u64::from(self.block);
        parameters[1] = self.offset as u64;
        parameters
    }

    /// As a description says, which may say anything.
    pub(crate) fn read(parameters: &[u64; PARAMETERS]) -> Result<Self, OpenError> {
        let block = u32::try_from(parameters[0]).ok();
        let offset = usize::try_from(parameters[1]).ok();
        match (block, offset) {
            (Some(block @ 0..=LAST_BLOCK), Some(offset)) if block > 0 || offset >= BODY => {
                Ok(Self { block, offset })
            }
            _ => Err(damaged("the place of its value lies outside")),
        }
    }

    /// The body of `len` bytes there.
    pub(crate) fn body(
        self,
        root: &Region,
        blocks: &mut dyn Blocks,
        len: usize,
    ) -> Result<Region, OpenError> {
        let region = match self.block {
            0 => root.clone(),
            number => crate::blocks::get(blocks, number, self.offset.saturating_add(len))?,
        };
        region
            .part(self.offset, len)
            .ok_or(damaged("the place of its value lies outside"))
    }
}

impl<T: Plain> Cell<T> {
    /// Opens the cell, for writing. A new one holds a `T` of zeros.
    ///
    /// # Errors
    /// [`OpenError`]: no memory, something else is there, another actor writes it.
    pub fn open(blocks: impl Blocks) -> Result<Self, OpenError> {
        Self::open_with(blocks, Versions::default(), T::new_zeroed)
    }

    /// Opens the cell, for writing, as the newest of `versions`, bringing an older one up to date. A new one
    /// holds what `first` gives.
    ///
    /// # Errors
    /// [`OpenError`].
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use refrain_data::{Cell, Versions, memory::Scratch};
    /// # let blocks = Scratch::new()?;
    /// drop(Cell::<u32>::open_with(blocks.clone(), Versions::new(1), || 7)?);
    /// let versions = Versions::new(2).from::<u32>(1, |old| u64::from(*old) * 1000);
    /// let cell = Cell::<u64>::open_with(blocks.clone(), versions, || 0)?;
    /// assert_eq!(*cell.get(), 7000);
    /// # drop(cell);
    /// // The program of before is told.
    /// let error = Cell::<u32>::open_with(blocks, Versions::new(1), || 7).unwrap_err();
    /// assert!(error.to_string().contains("holds Cell<u64> version 2"));
    /// # Ok(()) }
    /// ```
    pub fn open_with(
        mut blocks: impl Blocks,
        versions: Versions<T>,
        first: impl FnOnce() -> T,
    ) -> Result<Self, OpenError> {
        let blocks = &mut blocks;
        crate::region::check_align::<T>()?;
        let asked = versions.schema(Kind::Cell, None);
        let root = Root::claim(crate::blocks::get(blocks, 0, ROOT)?, blocks)?;
        let len = body_len(size_of::<T>());
        let place = match root.current()? {
            None => {
                let place = Place::beside(None, len);
                let body = place.body(root.region(), blocks, len)?;
                fill(&body, &first());
                let parameters = place.parameters();
                root.begin(&Description {
                    schema: asked,
                    parameters,
                });
                place
            }
            Some(has) if has.schema.fingerprint == asked.fingerprint => {
                Place::read(&has.parameters)?
            }
            Some(has) => {
                let old_place = Place::read(&has.parameters)?;
                let (old, convert) = versions.migration(has.schema, Kind::Cell, None)?;
                let size = old.size;
                let old_len = body_len(size);
                let old = old_place.body(root.region(), blocks, old_len)?;
                let mut bytes = vec![0; size];
                crate::region::load_bytes(slot(&old, current(&old), size), &mut bytes);
                let place = Place::beside(Some((old_place, old_len)), len);
                root.set_moving(true);
                if place.block != 0 {
                    // What is there is left over from a migration that was cut, and may have another size.
                    crate::blocks::free(blocks, place.block)?;
                }
                fill(&place.body(root.region(), blocks, len)?, &convert(&bytes));
                let parameters = place.parameters();
                root.succeed(&Description {
                    schema: asked,
                    parameters,
                });
                place
            }
        };
        give_back(&root, blocks, place)?;
        let body = place.body(root.region(), blocks, len)?;
        Ok(Self {
            root,
            body,
            of: PhantomData,
        })
    }

    /// The value.
    #[must_use]
    #[inline]
    pub fn get(&self) -> &T {
        let offset = offset_of(current(&self.body), size_of::<T>());
        // SAFETY: this is the one writer (the root is claimed), and changing the value takes `&mut self`.
        let value = unsafe { self.body.view(offset) };
        value.expect("the body was taken for two slots of T")
    }

    /// Replaces the value.
    pub fn set(&mut self, value: &T) {
        seqlock::before_filling::<AtomicU64>();
        let other = 1 - current(&self.body);
        crate::region::store_bytes(slot(&self.body, other, size_of::<T>()), value.as_bytes());
        self.publish();
    }

    /// Changes the value: `change` gets a copy, in the memory of the other slot, which becomes the value when
    /// it returns. After a panic or a crash in `change` the value is what it was.
    pub fn update<R>(&mut self, change: impl FnOnce(&mut T) -> R) -> R {
        seqlock::before_filling::<AtomicU64>();
        let now = current(&self.body);
        let (from, to) = (
            slot(&self.body, now, size_of::<T>()),
            slot(&self.body, 1 - now, size_of::<T>()),
        );
        for (from, to) in from.iter().zip(to) {
            to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        let offset = offset_of(1 - now, size_of::<T>());
        // SAFETY: this is the one writer, `&mut self` keeps other references away, and readers in
        // other lives throw away what they copied from a slot that was changed.
        let value = unsafe { self.body.view_mut(offset) };
        let result = change(value.expect("the body was taken for two slots of T"));
        self.publish();
        result
    }

    /// Writes the value to the bank's storage, and waits for that: for a bank on a disk, against a failure of
    /// the power. A crash of the program needs none.
    ///
    /// # Errors
    /// The kernel's.
    pub fn sync(&self) -> std::io::Result<()> {
        self.body.sync()?;
        self.root.region().sync()
    }

    fn publish(&self) {
        seqlock::flip(sequence(&self.body));
        compiler_fence(Ordering::SeqCst);
    }
}

/// Gives back what a migration has left over, also one that a crash has ended.
fn give_back(root: &Root, blocks: &mut dyn Blocks, place: Place) -> Result<(), OpenError> {
    if root.is_moving() {
        for number in (1..=LAST_BLOCK).filter(|number| *number != place.block) {
            crate::blocks::free(blocks, number)?;
        }
        root.set_moving(false);
    }
    Ok(())
}

/// Makes a body that holds `value`.
fn fill<T: Plain>(body: &Region, value: &T) {
    sequence(body).store(0, Ordering::Relaxed);
    crate::region::store_bytes(slot(body, 0, size_of::<T>()), value.as_bytes());
}

pub(crate) fn sequence(body: &Region) -> &AtomicU64 {
    body.word(0).expect("a body begins with its sequence")
}

#[inline]
fn current(body: &Region) -> usize {
    seqlock::slot_of(sequence(body).load(Ordering::Relaxed))
}

fn offset_of(slot: usize, size: usize) -> usize {
    LINE + slot * stride(size)
}

pub(crate) fn slot(body: &Region, slot: usize, size: usize) -> &[AtomicU64] {
    body.words(offset_of(slot, size), size)
        .expect("a body has two slots")
}
