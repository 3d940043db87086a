//! `ByteLogReader`: follows a log of records of any length that another actor appends to.
//!
//! It copies a record and looks whether it still counts. It must never write, wait, or trust a length.

use std::sync::atomic::{Ordering, fence};

use crate::blocks::{Blocks, ROOT, get};
use crate::error::{FollowError, OpenError};
use crate::header;
use crate::log::bytes::{ByteRing, Span, taken};
use crate::region::load_bytes;
use crate::schema::{Kind, Schema};
use crate::seqlock;
use crate::versions::unlike;

/// Tries to get the words that say where the log is, while the writer changes them.
const TRIES: u32 = 1 << 20;

/// Reads the records of a [`ByteLog`](crate::ByteLog) one after the other, also while they are appended.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use refrain_data::{ByteLog, ByteLogReader, memory::Scratch};
/// # let blocks = Scratch::new()?;
/// let mut log = ByteLog::open(blocks.clone(), 1024)?;
/// let mut reader = ByteLogReader::open(blocks)?;
/// log.append(b"hello")?;
/// assert_eq!(reader.next()?.as_deref(), Some(&b"hello"[..]));
/// assert_eq!(reader.next()?, None);
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct ByteLogReader {
    ring: ByteRing,
    place: u64,
    number: u64,
}

impl ByteLogReader {
    /// Opens a log at its oldest record.
    ///
    /// # Errors
    /// [`OpenError::NotYet`] before its writer has made it, and as for [`ByteLog::open`](crate::ByteLog::open).
    pub fn open(mut blocks: impl Blocks) -> Result<Self, OpenError> {
        let asked = Schema::of::<u8>(Kind::ByteLog, 0);
        let root = get(&mut blocks, 0, ROOT)?;
        let has = header::read(&root)?.ok_or(OpenError::NotYet)?;
        if has.schema.fingerprint != asked.fingerprint {
            return Err(unlike(has.schema, asked));
        }
        let ring = ByteRing::open(&mut blocks, &has.parameters)?;
        let (place, number) = (0, 0);
        let mut reader = Self {
            ring,
            place,
            number,
        };
        if let Ok(span) = reader.span() {
            (reader.place, reader.number) = (span.begin, span.first);
        }
        Ok(reader)
    }

    /// The number of the record that is read next.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.number
    }

    /// The next record; `None` when there is none yet.
    ///
    /// # Errors
    /// [`FollowError::Overtaken`] when the writer was faster, and the reader goes on at the oldest record.
    #[expect(
        clippy::should_implement_trait,
        reason = "an iterator ends, a log goes on"
    )]
    pub fn next(&mut self) -> Result<Option<Vec<u8>>, FollowError> {
        let span = self.span()?;
        if span.begin > self.place {
            return Err(self.overtaken(span));
        }
        if span.end <= self.place {
            return Ok(None);
        }
        let record = self.ring.record(self.place).and_then(|(at, len)| {
            let mut bytes = vec![0; len];
            load_bytes(self.ring.words((at, len))?, &mut bytes);
            Some((at.checked_add(taken(len))?, bytes))
        });
        // If anything above was of a later record, then this sees that the one here was given up.
        fence(Ordering::Acquire);
        let now = self.span()?;
        if now.begin > self.place {
            return Err(self.overtaken(now));
        }
        let (after, bytes) = record.ok_or(FollowError::Damaged)?;
        self.place = after;
        self.number = self.number.wrapping_add(1);
        Ok(Some(bytes))
    }

    fn overtaken(&mut self, span: Span) -> FollowError {
        let lost = span.first.wrapping_sub(self.number);
        (self.place, self.number) = (span.begin, span.first);
        FollowError::Overtaken { lost }
    }

    /// Where the log is, at some moment.
    fn span(&self) -> Result<Span, FollowError> {
        let taken = (0..TRIES).find_map(|_| {
            let mut words = [0; 4];
            let copied = seqlock::try_copy(self.ring.sequence(), self.ring.spans(), |at, word| {
                words[at] = word;
            });
            copied.map(|()| Span::of(words))
        });
        let span = taken.ok_or(FollowError::Restless)?;
        self.ring.checked(span).ok_or(FollowError::Damaged)
    }
}
