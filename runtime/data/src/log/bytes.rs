//! `ByteLog`: the newest records of a sequence, each of its own length.
//!
//! A ring of bytes. A record is a word with its length and its bytes, up to a whole word; where it does not fit
//! in front of the ring's end, a word says so and it begins at the ring's start. Places are counted from the
//! first byte ever written, so that they only grow. Where the log begins and ends, and the number of its first
//! record, are three words, kept twice with a sequence that says which count: one store publishes a record
//! and gives up the oldest ones at once.
//!
//! As much as the longest record takes is always free: a record is written where nothing counts, so that a
//! crash in the middle leaves the old log whole. Used by the one actor that appends; it must never write to a
//! record that counts.

use std::sync::atomic::{AtomicU64, Ordering, compiler_fence};

use crate::blocks::{Blocks, ROOT};
use crate::error::{OpenError, damaged};
use crate::header::{Description, PARAMETERS, Root};
use crate::region::{LINE, Region, WORD, load_bytes, store_bytes};
use crate::schema::{Kind, Schema};
use crate::seqlock;

/// The newest records of a sequence, of any length up to a limit; when it is full, the oldest go (SPEC H32).
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use refrain_data::{ByteLog, memory::Scratch};
/// # let blocks = Scratch::new()?;
/// // In an actor: `refrain::named("messages", refrain::HR_GROUP_KEY)`.
/// let mut messages = ByteLog::open(blocks, 1024)?;
/// messages.append(b"started")?;
/// messages.append(b"hello, world")?;
/// assert!(messages.iter().eq([b"started".to_vec(), b"hello, world".to_vec()]));
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct ByteLog {
    root: Root,
    ring: ByteRing,
}

/// A record is longer than the log takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a record of {len} bytes, the log takes up to {longest}; make it larger, or split the record"
)]
pub struct TooLong {
    /// Its length in bytes.
    pub len: usize,
    /// The most that the log takes, in bytes.
    pub longest: usize,
}

/// Begin, end and number of what counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    /// Place of the oldest record.
    pub(super) begin: u64,
    /// Place of the next record.
    pub(super) end: u64,
    /// Number of the oldest record.
    pub(super) first: u64,
    /// Number of the next record.
    pub(super) next: u64,
}

/// The ring in its block.
#[derive(Clone, Debug)]
pub(super) struct ByteRing {
    body: Region,
    /// Its size in bytes, a whole number of words.
    size: u64,
    /// The longest record in bytes.
    pub(super) longest: usize,
}

/// Where the two spans are, a line each; the sequence is in the line before.
const SPANS: [usize; 2] = [LINE, 2 * LINE];
/// Where the bytes begin.
const BYTES: usize = 3 * LINE;
/// In the place of a length: go on at the ring's start.
const SKIP: u64 = u64::MAX;
/// A log takes records up to this part of it.
const PART: usize = 4;

/// How many bytes of the ring a record takes.
pub(super) fn taken(len: usize) -> u64 {
    (WORD + len.next_multiple_of(WORD)) as u64
}

impl ByteRing {
    /// A ring for `capacity` bytes of records, lengths included, and one more of the longest. Where a record
    /// begins at the ring's start, up to as much stays unused: behind the newest record, or among the others.
    fn size_for(capacity: usize) -> Option<(usize, usize)> {
        let longest = (capacity / PART).checked_next_multiple_of(WORD)?.max(LINE);
        let spare = longest.checked_add(WORD)?.checked_mul(3)?;
        let size = capacity
            .checked_next_multiple_of(WORD)?
            .max(LINE)
            .checked_add(spare)?;
        (size < usize::MAX / 2).then_some((size, longest))
    }

    pub(super) fn open(
        blocks: &mut dyn Blocks,
        parameters: &[u64; PARAMETERS],
    ) -> Result<Self, OpenError> {
        let number = |at: usize| usize::try_from(parameters[at]).ok();
        let fits = |(size, longest): &(usize, usize)| {
            let most = usize::MAX / 2;
            size.is_multiple_of(WORD) && *size < most && *longest < size / 2
        };
        let (size, longest) = number(0)
            .zip(number(1))
            .filter(fits)
            .ok_or(damaged("its size is none that it can have"))?;
        Ok(Self {
            body: crate::blocks::get(blocks, 1, BYTES + size)?,
            size: size as u64,
            longest,
        })
    }

    pub(super) fn sequence(&self) -> &AtomicU64 {
        self.body.word(0).expect("a ring begins with its sequence")
    }

    /// The words of both spans.
    pub(super) fn spans(&self) -> [&[AtomicU64]; 2] {
        let len = size_of::<[u64; 4]>();
        SPANS.map(|at| self.body.words(at, len).expect("a ring has two spans"))
    }

    fn span(&self) -> Span {
        let slot = seqlock::slot_of(self.sequence().load(Ordering::Relaxed));
        let words = self.spans()[slot];
        let span = Span::of(std::array::from_fn(|at| words[at].load(Ordering::Relaxed)));
        self.checked(span).unwrap_or(Span::of([0; 4]))
    }

    /// A span as it can be: no longer than the ring, and far from the end of all places.
    pub(super) fn checked(&self, span: Span) -> Option<Span> {
        let len = span.end.checked_sub(span.begin)?;
        let whole = span.begin.is_multiple_of(8) && span.end.is_multiple_of(8);
        (whole && len <= self.size && span.end <= u64::MAX / 2).then_some(span)
    }

    fn publish(&self, span: Span) {
        let other = 1 - seqlock::slot_of(self.sequence().load(Ordering::Relaxed));
        for (word, value) in self.spans()[other].iter().zip(span.words()) {
            word.store(value, Ordering::Relaxed);
        }
        seqlock::flip(self.sequence());
        compiler_fence(Ordering::SeqCst);
    }

    fn offset(&self, place: u64) -> usize {
        BYTES + (place % self.size) as usize
    }

    fn word(&self, place: u64) -> &AtomicU64 {
        let word = self.body.word(self.offset(place));
        word.expect("the body was taken for the ring")
    }

    /// Where a record of `len` bytes that is put at `place` begins.
    fn begin_of(&self, place: u64, len: usize) -> u64 {
        let to_end = self.size - place % self.size;
        if taken(len) <= to_end {
            place
        } else {
            place.saturating_add(to_end)
        }
    }

    /// The record that lies at `place` or, where that says so, at the ring's start: its place and length;
    /// `None` when that is no length.
    pub(super) fn record(&self, place: u64) -> Option<(u64, usize)> {
        let mut place = place;
        let mut len = self.word(place).load(Ordering::Relaxed);
        if len == SKIP {
            place = place.checked_add(self.size - place % self.size)?;
            len = self.word(place).load(Ordering::Relaxed);
        }
        let len = usize::try_from(len)
            .ok()
            .filter(|len| *len <= self.longest)?;
        (place % self.size + taken(len) <= self.size).then_some((place, len))
    }

    /// The words of a record's bytes.
    pub(super) fn words(&self, (place, len): (u64, usize)) -> Option<&[AtomicU64]> {
        self.body.words(self.offset(place) + WORD, len)
    }
}

impl Span {
    pub(super) fn of([begin, end, first, next]: [u64; 4]) -> Self {
        Self {
            begin,
            end,
            first,
            next,
        }
    }

    fn words(self) -> [u64; 4] {
        [self.begin, self.end, self.first, self.next]
    }
}

impl ByteLog {
    /// Opens the log for appending. A new one holds `capacity` bytes of records, each of which takes 8 bytes
    /// more than it has, rounded up to 8; a record may have up to a quarter of that. Where there is one, it keeps
    /// its size.
    ///
    /// # Errors
    /// [`OpenError`]: no memory, something else is there, another actor writes it.
    pub fn open(mut blocks: impl Blocks, capacity: usize) -> Result<Self, OpenError> {
        let blocks = &mut blocks;
        let asked = Schema::of::<u8>(Kind::ByteLog, 0);
        let root = Root::claim(crate::blocks::get(blocks, 0, ROOT)?, blocks)?;
        let ring = match root.current()? {
            None => {
                let sizes = ByteRing::size_for(capacity);
                let (size, longest) = sizes.ok_or(damaged("larger than any memory"))?;
                let mut parameters = [0; PARAMETERS];
                parameters[0] = size as u64;
                parameters[1] = longest as u64;
                let ring = ByteRing::open(blocks, &parameters)?;
                ring.publish(Span::of([0; 4]));
                let schema = asked;
                root.begin(&Description { schema, parameters });
                ring
            }
            Some(has) if has.schema.fingerprint == asked.fingerprint => {
                ByteRing::open(blocks, &has.parameters)?
            }
            Some(has) => return Err(crate::versions::unlike(has.schema, asked)),
        };
        Ok(Self { root, ring })
    }

    /// Appends a record; when the log is full, the oldest go.
    ///
    /// # Errors
    /// [`TooLong`].
    pub fn append(&mut self, record: &[u8]) -> Result<(), TooLong> {
        let ring = &self.ring;
        let (len, longest) = (record.len(), ring.longest);
        if len > longest {
            return Err(TooLong { len, longest });
        }
        let mut span = ring.span();
        let begin = ring.begin_of(span.end, len);
        seqlock::before_filling::<AtomicU64>();
        if begin != span.end {
            ring.word(span.end).store(SKIP, Ordering::Relaxed);
        }
        ring.word(begin).store(len as u64, Ordering::Relaxed);
        store_bytes(ring.words((begin, len)).unwrap_or_default(), record);
        span.end = begin.saturating_add(taken(len));
        span.next = span.next.wrapping_add(1);
        self.give_up(&mut span);
        ring.publish(span);
        Ok(())
    }

    /// Moves the begin until the longest record fits behind the end, wherever that is in the ring.
    fn give_up(&self, span: &mut Span) {
        let spare = 2 * taken(self.ring.longest);
        while span.end.saturating_sub(span.begin).saturating_add(spare) > self.ring.size
            && span.begin < span.end
        {
            // A length that is none ends the log: somebody else wrote it.
            let after = self
                .ring
                .record(span.begin)
                .map(|(at, len)| at + taken(len));
            match after.filter(|after| *after > span.begin && *after <= span.end) {
                Some(after) => {
                    span.begin = after;
                    span.first = span.first.wrapping_add(1);
                }
                None => {
                    span.begin = span.end;
                    span.first = span.next;
                }
            }
        }
    }

    /// The number of the oldest record that is there.
    #[must_use]
    pub fn first(&self) -> u64 {
        self.ring.span().first
    }

    /// The number of the next record: how many were ever appended.
    #[must_use]
    pub fn next(&self) -> u64 {
        self.ring.span().next
    }

    /// The longest record that it takes, in bytes.
    #[must_use]
    pub fn longest(&self) -> usize {
        self.ring.longest
    }

    /// Copies of the records, from the oldest to the newest.
    pub fn iter(&self) -> impl Iterator<Item = Vec<u8>> {
        let span = self.ring.span();
        let mut place = span.begin;
        std::iter::from_fn(move || {
            if place >= span.end {
                return None;
            }
            let (at, len) = self.ring.record(place)?;
            let mut bytes = vec![0; len];
            load_bytes(self.ring.words((at, len))?, &mut bytes);
            place = at.checked_add(taken(len))?;
            Some(bytes)
        })
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
