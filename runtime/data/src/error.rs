//! Why a structure could not be opened.

use std::fmt;

use crate::blocks::BlocksError;
use crate::schema::Schema;

/// Why a structure could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// No memory for it.
    #[error("cannot get block {number} of {bytes} bytes: {why}")]
    Blocks {
        /// The block's number within the structure.
        number: u32,
        /// Its size in bytes.
        bytes: usize,
        /// What its source says.
        #[source]
        why: BlocksError,
    },
    /// Who asks, or whether another one lives, could not be found out.
    #[error("cannot find out who writes to it: {0}")]
    Who(#[source] BlocksError),
    /// A block that is smaller than what it should hold.
    #[error("the block has {has} bytes and {needs} are needed; free it and open again")]
    TooSmall {
        /// Its size in bytes.
        has: usize,
        /// What is needed, in bytes.
        needs: usize,
    },
    /// Values that cannot be kept where they must be.
    #[error(
        "values are aligned to {align} bytes, and {most} is the most that is kept here; lower the alignment"
    )]
    Alignment {
        /// The alignment of the type.
        align: usize,
        /// The largest that can be kept.
        most: usize,
    },
    /// Something else is in the block.
    #[error(
        "the block holds no structure, but bytes {0:#018x} at its start; open it by its own program, or free it"
    )]
    NoStructure(u64),
    /// A structure as another version of this library lays it out.
    #[error(
        "the block has format {has}, this library knows {knows}; use the library that wrote it, or free it"
    )]
    Format {
        /// The format's number.
        has: u64,
        /// The only one that is known here.
        knows: u64,
    },
    /// A structure of another kind or type.
    #[error("the block holds {has}, it was opened as {asked}; open it as what it is, or free it")]
    OtherType {
        /// What is there.
        has: Box<Schema>,
        /// What was asked for.
        asked: Box<Schema>,
    },
    /// The same type in another version, which no migration was given for.
    #[error(
        "the block holds {has}, it was opened as {asked}; give a migration from version {}, or use the \
         program that wrote it", has.version
    )]
    OtherVersion {
        /// What is there.
        has: Box<Schema>,
        /// What was asked for.
        asked: Box<Schema>,
    },
    /// Nothing is there yet, and a reader makes nothing.
    #[error("the block holds nothing yet; open it when its writer has")]
    NotYet,
    /// Another actor has it open for writing.
    #[error(
        "the structure is being written by the life with aid {aid}; it has one writer at a time"
    )]
    Busy {
        /// The aid of that life.
        aid: u64,
    },
    /// This life has it open for writing.
    #[error("this life has the structure open already; share the handle, or drop it first")]
    OpenAlready,
    /// Bytes that no version of this library writes.
    #[error("the structure is damaged: {0}; free its blocks")]
    Damaged(Damage),
}

/// What is wrong with a damaged structure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damage(pub(crate) &'static str);

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

pub(crate) const fn damaged(what: &'static str) -> OpenError {
    OpenError::Damaged(Damage(what))
}

/// Why a reader has no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// It was brought to another version since it was opened.
    #[error("the structure was brought to another version by its writer; open it again")]
    Replaced,
    /// The writer changed it during every try.
    #[error("the structure's writer never rests; let it write less often")]
    Restless,
}

/// Why a reader of a log has no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FollowError {
    /// The writer was faster: records are gone, and the reader is at the oldest one that is left.
    #[error(
        "{lost} records were dropped before they were read; go on, and read more often or enlarge the log"
    )]
    Overtaken {
        /// How many records were not read.
        lost: u64,
    },
    /// It was brought to another version since it was opened.
    #[error("the log was brought to another version by its writer; open it again")]
    Replaced,
    /// The writer changed it during every try.
    #[error("the log's writer never rests; let it write less often")]
    Restless,
    /// It holds what no version of this library writes.
    #[error("the log is damaged; free its blocks")]
    Damaged,
}
