//! What a life writes down about itself, in memory that it shares with the torture program: one slot an
//! actor, of 64-bit words. And what it is told: commands of a fixed length on a FIFO of its actor's.
//!
//! Called by both sides; `actors/victim.c` and `actors/victim.py` have the same layout. It must never
//! be believed by the product: it is the actors' own evidence, beside what the site says.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use refrain_sys::mapping::{BlockMapping, map_block_fixed};

/// Where a record is mapped: a place that neither the kernel nor a bank chooses.
const PLACE: u64 = 0x3000_0000_0000;
/// Words of a slot.
const WORDS: usize = 32;
/// How many slots a record has.
pub const SLOTS: usize = 128;
/// The size of a record, in bytes.
pub const SIZE: usize = SLOTS * WORDS * size_of::<u64>();
/// The length of a command, in bytes; a write or read of so many is whole.
pub const COMMAND: usize = 16;
/// What [`Word::Life`] holds before the first life.
pub const NO_LIFE: u64 = u64::MAX;

/// The words of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Word {
    /// How many lives have begun; written last when one begins.
    Begun = 0,
    /// The number of the present life.
    Life = 1,
    /// Its pid.
    Pid = 2,
    /// The number of the last `p` that was answered.
    Pong = 3,
    /// How many faults lives have begun to inflict on themselves.
    Taken = 4,
    /// How often something was not as it must be.
    Wrong = 5,
    /// What it was last: a [`Wrong`].
    Code = 6,
    /// And a number that goes with it.
    Detail = 7,
    /// The number of the last change of the actor's block that was committed.
    Committed = 8,
    /// What the group's block last held for this actor.
    Shared = 9,
    /// Where the actor's block is, 0 before it was seen.
    Address = 10,
    /// The number of the last command to fill the bank that was carried out.
    Filled = 11,
    /// How many blocks the bank had room for then.
    Room = 12,
    /// How many images have been made.
    Images = 13,
    /// How often a request was answered "again", or not at all.
    Agains = 14,
}

/// What can be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Wrong {
    /// The lock is held: another life of this actor, or something it started, is still there.
    NotAlone = 1,
    /// The life's number is not larger than that of the life before.
    LifeNumber = 2,
    /// The port of the life before is not free.
    PortTaken = 3,
    /// Persistent memory was refused.
    Refused = 4,
    /// What was committed in the block is torn.
    Torn = 5,
    /// The block holds an older state than was committed, or none.
    GoneBack = 6,
    /// The group's block has gone back.
    SharedGoneBack = 7,
    /// The block is at another address than before.
    Moved = 8,
    /// A member could not be run.
    NotRun = 9,
    /// The bank did not behave when it was full.
    Bank = 10,
    /// The site has answered something else than it must.
    Answer = 11,
    /// What it printed found nobody.
    Stdout = 12,
}

/// A name for what a life found wrong.
#[must_use]
pub fn wrong_name(code: u64) -> &'static str {
    match code {
        1 => "another life holds its lock",
        2 => "its number is not larger than its predecessor's",
        3 => "its port is taken",
        4 => "persistent memory was refused",
        5 => "a committed state is torn",
        6 => "a committed state is lost",
        7 => "the group's block has gone back",
        8 => "its block has moved",
        9 => "a member could not be run",
        10 => "the full bank does not behave",
        11 => "the site's answer is wrong",
        12 => "its stdout is broken",
        _ => "something unknown",
    }
}

/// The record, mapped.
pub struct Record(BlockMapping);

/// One actor's part of it.
#[derive(Clone, Copy)]
pub struct Slot<'a>(&'a [AtomicU64]);

impl Record {
    /// Makes an empty record.
    ///
    /// # Errors
    /// The kernel's.
    pub fn create(path: &Path) -> io::Result<Self> {
        File::create_new(path)?.set_len(SIZE as u64)?;
        Self::open(path)
    }

    /// Maps the record of that path.
    ///
    /// # Errors
    /// The kernel's; where the place is taken.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::options().read(true).write(true).open(path)?;
        map_block_fixed(file.as_fd(), PLACE, SIZE).map(Self)
    }

    /// Slot number `slot`, below [`SLOTS`].
    #[must_use]
    pub fn slot(&self, slot: usize) -> Slot<'_> {
        Slot(&self.0.words()[slot * WORDS..(slot + 1) * WORDS])
    }
}

impl Slot<'_> {
    /// A word.
    #[must_use]
    pub fn get(&self, word: Word) -> u64 {
        self.0[word as usize].load(SeqCst)
    }

    /// Stores a word.
    pub fn set(&self, word: Word, value: u64) {
        self.0[word as usize].store(value, SeqCst);
    }

    /// Adds one to a word.
    pub fn count(&self, word: Word) {
        self.0[word as usize].fetch_add(1, SeqCst);
    }

    /// Notes that something is wrong.
    pub fn wrong(&self, what: Wrong, detail: u64) {
        self.set(Word::Code, what as u64);
        self.set(Word::Detail, detail);
        self.count(Word::Wrong);
    }
}

/// A command as its bytes: a letter, a number, blanks, a line end.
#[must_use]
pub fn command(letter: char, number: u64) -> [u8; COMMAND] {
    let text = format!("{:<15}\n", format!("{letter} {number}"));
    text.into_bytes()
        .try_into()
        .expect("letters are ASCII, and no number has 13 digits")
}

/// The letter and the number of a command; `None` for what is none.
#[must_use]
pub fn read_command(bytes: &[u8]) -> Option<(char, u64)> {
    let text = std::str::from_utf8(bytes).ok()?;
    let mut words = text.split_whitespace();
    let letter = words.next()?.chars().next()?;
    Some((letter, words.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_read_as_it_was_written_and_what_is_none_is_not() {
        assert_eq!(read_command(&command('p', 17)), Some(('p', 17)));
        assert_eq!(
            read_command(&command('s', 99_999_999_999)),
            Some(('s', 99_999_999_999))
        );
        for rest in [&b"7          \n"[..], b"\n", b"", b"p x\n"] {
            assert_eq!(read_command(rest), None, "{rest:?}");
        }
    }
}
