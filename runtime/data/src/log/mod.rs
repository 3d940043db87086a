//! `Log`: the newest records of a sequence, each appended as a whole.
//!
//! A ring of slots of one size. One word counts the records that were ever appended: it is the number of the next
//! one, it says which slot that gets, and storing it is what publishes a record. One slot more than the log
//! holds: what is being written is never part of the log, so that a crash in the middle leaves the old log whole,
//! with its oldest record.
//!
//! Used by the one actor that appends; others have [`LogReader`](crate::LogReader). It must never write to
//! a slot of a record that counts.
//!
//! The body is a line with the count, and the slots. It is block 1, or 2 after a migration, and so on in turns.
#![allow(unsafe_code)]

mod bytes;
mod bytes_reader;
mod reader;

use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::blocks::{Blocks, ROOT};
use crate::error::{OpenError, damaged};
use crate::header::{Description, PARAMETERS, Root};
use crate::order::publish;
use crate::region::{LINE, Plain, Region, WORD, load_bytes, store_bytes};
use crate::schema::Kind;
use crate::seqlock;
use crate::versions::Versions;

pub use bytes::{ByteLog, TooLong};
pub use bytes_reader::ByteLogReader;
pub use reader::LogReader;

/// The newest records of a sequence; when it is full, each new record takes the place of the oldest (SPEC H32).
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use refrain_data::{Log, memory::Scratch};
/// # let blocks = Scratch::new()?;
/// // In an actor: `refrain::named("latencies", refrain::HR_GROUP_KEY)`.
/// let mut latencies = Log::<u32>::open(blocks, 3)?;
/// for latency in [10, 11, 12, 13] {
///     latencies.append(&latency);
/// }
/// assert!(latencies.iter().eq(&[11, 12, 13]));
/// assert_eq!((latencies.first(), latencies.next()), (1, 4));
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Log<T> {
    root: Root,
    ring: Ring,
    of: PhantomData<T>,
}

/// The slots of a log, for records of some size.
#[derive(Clone, Debug)]
pub(super) struct Ring {
    body: Region,
    size: usize,
    stride: usize,
    slots: u64,
}

/// Which of two blocks a body is in, and how large it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    set: u32,
    slots: u64,
}

impl Shape {
    fn parameters(self) -> [u64; PARAMETERS] {
        let mut parameters = [0; PARAMETERS];
        parameters[0] = u64::from(self.set);
        parameters[1] = self.slots;
        parameters
    }

    /// As a description says, which may say anything.
    pub(super) fn read(parameters: &[u64; PARAMETERS]) -> Result<Self, OpenError> {
        match (parameters[0], parameters[1]) {
            (set @ 0..=1, slots @ 2..) => Ok(Self {
                set: set as u32,
                slots,
            }),
            _ => Err(damaged("its size is none that it can have")),
        }
    }

    /// The number of its block.
    fn block(self) -> u32 {
        1 + self.set
    }

    pub(super) fn ring(self, blocks: &mut dyn Blocks, size: usize) -> Result<Ring, OpenError> {
        let stride = size.max(1).checked_next_multiple_of(WORD);
        let bytes = usize::try_from(self.slots)
            .ok()
            .zip(stride)
            .and_then(|(slots, stride)| slots.checked_mul(stride)?.checked_add(LINE));
        let (Some(bytes), Some(stride)) = (bytes, stride) else {
            return Err(damaged("it is larger than any memory"));
        };
        Ok(Ring {
            body: crate::blocks::get(blocks, self.block(), bytes)?,
            size,
            stride,
            slots: self.slots,
        })
    }
}

impl Ring {
    /// How many records were ever appended.
    pub(super) fn count(&self) -> &AtomicU64 {
        self.body.word(0).expect("a ring begins with its count")
    }

    /// The number of the oldest record, when `next` is that of the next one.
    pub(super) fn oldest(&self, next: u64) -> u64 {
        next.saturating_sub(self.slots - 1)
    }

    #[inline]
    fn offset(&self, number: u64) -> usize {
        LINE + (number % self.slots) as usize * self.stride
    }

    #[inline]
    pub(super) fn words(&self, number: u64) -> &[AtomicU64] {
        let words = self.body.words(self.offset(number), self.size);
        words.expect("the body was taken for as many slots")
    }

    #[inline]
    fn append(&self, bytes: &[u8]) {
        let next = self.count().load(Ordering::Relaxed);
        seqlock::before_filling::<AtomicU64>();
        store_bytes(self.words(next), bytes);
        // Numbers of 64 bits do not end, but for bytes that somebody else has written.
        publish(self.count(), next.wrapping_add(1));
    }
}

impl<T: Plain> Log<T> {
    /// Opens the log for appending. A new one holds up to `capacity` records, at least one; where there is one,
    /// it keeps its size.
    ///
    /// # Errors
    /// [`OpenError`]: no memory, something else is there, another actor writes it.
    pub fn open(blocks: impl Blocks, capacity: usize) -> Result<Self, OpenError> {
        Self::open_with(blocks, Versions::default(), capacity)
    }

    /// Opens the log as the newest of `versions`, bringing the records of an older one up to date; their numbers
    /// stay what they are. If it is migrated, it holds up to `capacity` records from then on.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open_with(
        mut blocks: impl Blocks,
        versions: Versions<T>,
        capacity: usize,
    ) -> Result<Self, OpenError> {
        let blocks = &mut blocks;
        check_record::<T>()?;
        let asked = versions.schema(Kind::Log, None);
        let root = Root::claim(crate::blocks::get(blocks, 0, ROOT)?, blocks)?;
        let slots = (capacity.max(1) as u64).saturating_add(1);
        let (shape, ring) = match root.current()? {
            None => {
                let shape = Shape { set: 0, slots };
                let ring = shape.ring(blocks, size_of::<T>())?;
                ring.count().store(0, Ordering::Relaxed);
                root.begin(&Description {
                    schema: asked,
                    parameters: shape.parameters(),
                });
                (shape, ring)
            }
            Some(has) if has.schema.fingerprint == asked.fingerprint => {
                let shape = Shape::read(&has.parameters)?;
                (shape, shape.ring(blocks, size_of::<T>())?)
            }
            Some(has) => migrate(&root, blocks, &versions, has, slots)?,
        };
        if root.is_moving() {
            crate::blocks::free(blocks, 2 - shape.set)?;
            root.set_moving(false);
        }
        Ok(Self {
            root,
            ring,
            of: PhantomData,
        })
    }

    /// Appends a record; when the log is full, the oldest goes.
    #[inline]
    pub fn append(&mut self, record: &T) {
        self.ring.append(record.as_bytes());
    }

    /// The number of the next record: how many were ever appended.
    #[must_use]
    pub fn next(&self) -> u64 {
        self.ring.count().load(Ordering::Relaxed)
    }

    /// The number of the oldest record that is there; [`Log::next`] when there is none.
    #[must_use]
    pub fn first(&self) -> u64 {
        self.ring.oldest(self.next())
    }

    /// How many records it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        (self.next() - self.first()) as usize
    }

    /// Whether it holds none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The record with a number; `None` when it is gone or not there yet.
    #[must_use]
    pub fn get(&self, number: u64) -> Option<&T> {
        if !(self.first()..self.next()).contains(&number) {
            return None;
        }
        // SAFETY: this is the one writer (the root is claimed), and it writes to a slot that counts
        // only after `&mut self` has let it go.
        unsafe { self.ring.body.view(self.ring.offset(number)) }
    }

    /// The records, from the oldest to the newest.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &T> {
        (self.first()..self.next()).filter_map(|number| self.get(number))
    }

    /// Writes the log to the bank's storage, and waits for that: for a bank on a disk, against a failure of the
    /// power. A crash of the program needs none.
    ///
    /// # Errors
    /// The kernel's.
    pub fn sync(&self) -> std::io::Result<()> {
        self.ring.body.sync()?;
        self.root.region().sync()
    }
}

/// A record is where its alignment wants it only if that is a word's at most.
pub(super) fn check_record<T>() -> Result<(), OpenError> {
    let align = align_of::<T>();
    if align > WORD {
        return Err(OpenError::Alignment { align, most: WORD });
    }
    Ok(())
}

/// Makes a ring of today's records from one of older records, in the other block.
fn migrate<T: Plain>(
    root: &Root,
    blocks: &mut dyn Blocks,
    versions: &Versions<T>,
    has: Description,
    slots: u64,
) -> Result<(Shape, Ring), OpenError> {
    let (old, convert) = versions.migration(has.schema, Kind::Log, None)?;
    let size = old.size;
    let old_shape = Shape::read(&has.parameters)?;
    let old = old_shape.ring(blocks, size)?;
    let set = 1 - old_shape.set;
    let shape = Shape { set, slots };
    root.set_moving(true);
    // What is there is left over from a migration that was cut, and may have another size.
    crate::blocks::free(blocks, shape.block())?;
    let ring = shape.ring(blocks, size_of::<T>())?;
    let next = old.count().load(Ordering::Relaxed);
    let mut bytes = vec![0; size];
    let first = old.oldest(next).max(ring.oldest(next));
    ring.count().store(first, Ordering::Relaxed);
    for number in first..next {
        load_bytes(old.words(number), &mut bytes);
        ring.append(convert(&bytes).as_bytes());
    }
    root.succeed(&Description {
        schema: versions.schema(Kind::Log, None),
        parameters: shape.parameters(),
    });
    Ok((shape, ring))
}
