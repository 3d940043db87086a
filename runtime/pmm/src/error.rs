//! How opening a bank and working with one can fail. Every message is one line that names the
//! thing and the cure; the console prints it as it is.

use std::io;
use std::path::PathBuf;

use refrain_abi::request::ErrorCode;
use refrain_abi::{ActorName, BlockName, Gid};

use crate::access::Owner;

/// Why a bank could not be opened. Nothing was destroyed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// A living site has the bank.
    #[error("bank {}: in use by a living site{}; connect to it, or halt it first", dir.display(), pid_text(*by))]
    Locked {
        /// The bank's directory.
        dir: PathBuf,
        /// The pid of that site's controller, where its catalogue says so.
        by: Option<u32>,
    },
    /// The bank was written by another version of Refrain.
    #[error(
        "bank {}: has format version {found}, this Refrain knows {known}; \
         run the version that made it, or remove the directory for an empty bank",
        dir.display()
    )]
    Version {
        /// The bank's directory.
        dir: PathBuf,
        /// The version in the catalogue's header.
        found: u32,
        /// The version of this crate.
        known: u32,
    },
    /// The catalogue, or a file that it names, is not what it was.
    #[error("bank {}: damaged: {what} (catalogue offset {offset}); {cure}", dir.display())]
    Damaged {
        /// The bank's directory.
        dir: PathBuf,
        /// What is wrong, naming the block or actor where there is one.
        what: String,
        /// The byte in the catalogue where the structure begins that shows it.
        offset: u64,
        /// What a person can do.
        cure: &'static str,
    },
    /// The file system has no room for the catalogue.
    #[error(
        "bank {}: no space left on the file system for the catalogue of {needed} bytes; \
         make room there, or lower pmm.max_blocks or hr_ctrl.max_actors",
        dir.display()
    )]
    NoSpace {
        /// The bank's directory.
        dir: PathBuf,
        /// The catalogue's size in bytes.
        needed: u64,
    },
    /// The file system can't be written.
    #[error("bank {}: the file system is read-only; \
             remount it read-write, or choose another directory with --bank", dir.display())]
    ReadOnly {
        /// The bank's directory.
        dir: PathBuf,
    },
    /// The path is something else than a bank.
    #[error("bank {}: not a bank: {what}; choose an empty or a new directory with --bank", dir.display())]
    NotABank {
        /// The path that was given.
        dir: PathBuf,
        /// What is there instead.
        what: String,
    },
    /// The directory may not be used, or may be written by others.
    #[error("bank {}: permission denied: {what}", dir.display())]
    Permission {
        /// The bank's directory.
        dir: PathBuf,
        /// What is not permitted, and the cure.
        what: String,
    },
    /// The tunables make no bank, or none that holds what this one holds.
    #[error("bank {}: {what}; {cure}", dir.display())]
    Geometry {
        /// The bank's directory.
        dir: PathBuf,
        /// Which number does not fit.
        what: String,
        /// What to change.
        cure: &'static str,
    },
    /// Anything else that the kernel refused.
    #[error("bank {}: cannot {doing}: {source}", dir.display())]
    Io {
        /// The bank's directory.
        dir: PathBuf,
        /// What was being done.
        doing: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
}

/// Why a bank could not be looked at, or not be repaired. What is wrong *with* a bank is told by
/// [`crate::Survey`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckError {
    /// There is none.
    #[error("no bank in {}: {what}", dir.display())]
    NoBank {
        /// The path that was given.
        dir: PathBuf,
        /// What is there instead.
        what: String,
    },
    /// The bank cannot be locked, or is of another version.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The kernel refused to let it be read.
    #[error("bank {}: cannot {doing}: {source}", dir.display())]
    Read {
        /// The bank's directory.
        dir: PathBuf,
        /// What was being done.
        doing: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A step of a repair failed. What the bank holds is as before, or as the repair would have it.
    #[error("bank {}: cannot {doing}: {source}; no block is lost, repair it again", dir.display())]
    Repair {
        /// The bank's directory.
        dir: PathBuf,
        /// What was being done.
        doing: String,
        /// The kernel's answer.
        source: io::Error,
    },
}

fn pid_text(pid: Option<u32>) -> String {
    pid.map_or_else(String::new, |pid| format!(" (pid {pid})"))
}

/// What is full, with the numbers (SPEC H20).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FullError {
    /// The bank's size is used up.
    #[error(
        "bank full: block {name} needs {asked} bytes, {free} of {size} are free; \
         free a block or raise pmm.ram_bank_size"
    )]
    Bank {
        /// The block that was asked for.
        name: BlockName,
        /// Its size in bytes, in whole pages.
        asked: u64,
        /// What is left of the bank, in bytes.
        free: u64,
        /// The bank's size in bytes.
        size: u64,
    },
    /// Every block record is in use.
    #[error(
        "bank full: it holds its {max} blocks, no room for block {name}; free a block or raise pmm.max_blocks"
    )]
    Blocks {
        /// The block that was asked for.
        name: BlockName,
        /// How many blocks the bank holds.
        max: u32,
    },
    /// No gap in the window of addresses is large enough.
    #[error(
        "bank full: no gap of {asked} bytes in the address window for block {name}; \
         free a block, or raise pmm.window_size for a new bank"
    )]
    Window {
        /// The block that was asked for.
        name: BlockName,
        /// Its size in bytes.
        asked: u64,
    },
    /// The file system under the bank has no pages left.
    #[error(
        "bank full: its file system has no {asked} bytes left for {what}; make room there, or enlarge the file system"
    )]
    Medium {
        /// What was to be written.
        what: String,
        /// Its size in bytes.
        asked: u64,
    },
    /// A block is shared with as many groups as its record holds.
    #[error(
        "block {name} is already granted to {max} groups, no more fit; free it and share by another block"
    )]
    Grants {
        /// The block.
        name: BlockName,
        /// How many groups a record holds.
        max: u32,
    },
    /// Every registration is in use.
    #[error(
        "no room for actor {name}: {max} actors are registered; kill a group or raise hr_ctrl.max_actors"
    )]
    Actors {
        /// The actor that was to be registered.
        name: ActorName,
        /// How many actors a bank registers.
        max: u32,
    },
    /// Every group is in use.
    #[error(
        "no room for group {gid}: {max} groups are registered; kill a group or raise hr_ctrl.max_groups"
    )]
    Groups {
        /// The group that was to be registered.
        gid: Gid,
        /// How many groups a bank registers.
        max: u32,
    },
}

/// Why an operation on an open bank was refused or failed. A refusal changed nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PmmError {
    /// No block of that name.
    #[error("no block {name}; `memstat` lists the blocks")]
    NotFound {
        /// The name that was asked for.
        name: BlockName,
    },
    /// No registration of that name.
    #[error("actor {name} is not registered; `aps` lists the actors")]
    NotRegistered {
        /// The name that was asked for.
        name: ActorName,
    },
    /// The block is out of the asker's reach (SPEC H19).
    #[error("block {name} belongs to {owner}; use another name, or have {owner} grant it")]
    Denied {
        /// The block.
        name: BlockName,
        /// Whose it is.
        owner: Owner,
    },
    /// The block exists with another size (SPEC H15).
    #[error("block {name} has {has} bytes, {asked} were asked for; ask for {has} or free it first")]
    SizeMismatch {
        /// The block.
        name: BlockName,
        /// Its size in bytes.
        has: u64,
        /// The size asked for, in bytes, in whole pages.
        asked: u64,
    },
    /// Something is used up.
    #[error(transparent)]
    Full(#[from] FullError),
    /// A block of no bytes.
    #[error("block {name} of 0 bytes; ask for at least one")]
    ZeroSize {
        /// The block.
        name: BlockName,
    },
    /// `pmmFreeAll` with `HR_GROUP_KEY` (SPEC H17).
    #[error(
        "HR_GROUP_KEY cannot be freed by key; the group's end frees it, or free each block by name"
    )]
    GroupKey,
    /// `HR_GROUP_KEY` from an asker without a group.
    #[error(
        "block {name}: HR_GROUP_KEY needs a restart group and {owner} has none; use a key of your own"
    )]
    NoGroup {
        /// The block.
        name: BlockName,
        /// Who asked.
        owner: Owner,
    },
    /// A gid that is kept for "no group".
    #[error("gid {gid} is not a group; use one below it")]
    BadGid {
        /// The gid.
        gid: Gid,
    },
    /// A pid that no process has.
    #[error("actor {name}: {pid} is no pid of a life; leave it out")]
    BadPid {
        /// The actor.
        name: ActorName,
        /// The pid.
        pid: u32,
    },
    /// A registration's start data are too long.
    #[error(
        "actor {name}: arguments and environment of {size} bytes, at most {max} are kept; shorten them"
    )]
    SpecTooLong {
        /// The actor.
        name: ActorName,
        /// Their size in bytes.
        size: u64,
        /// The most that is kept, in bytes.
        max: u64,
    },
    /// The file behind a block is not as it was allocated: an actor that held it cut it short.
    #[error("block {name} is damaged: its file has {has} bytes instead of {size}; free it by name")]
    Damaged {
        /// The block.
        name: BlockName,
        /// The file's size in bytes.
        has: u64,
        /// The size it was allocated with, in bytes.
        size: u64,
    },
    /// The medium failed.
    #[error("bank: cannot {doing}: {source}")]
    Io {
        /// What was being done.
        doing: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// An earlier write failed, or the sync behind it, so that nothing more is written until the bank is
    /// opened again: a failed sync is reported once, and a later one that succeeds proves nothing.
    #[error(
        "bank: its medium failed to take an earlier write, so it takes no change any more, and what runs \
         goes on; see the log and dmesg(1) for the disk, then restart the site"
    )]
    Poisoned,
}

impl PmmError {
    /// The family that an actor is answered with.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::NotFound { .. } | Self::NotRegistered { .. } => ErrorCode::NotFound,
            Self::Denied { .. } | Self::NoGroup { .. } | Self::GroupKey => ErrorCode::Denied,
            Self::SizeMismatch { .. } => ErrorCode::SizeMismatch,
            Self::Full(_) => ErrorCode::Full,
            Self::ZeroSize { .. }
            | Self::BadGid { .. }
            | Self::BadPid { .. }
            | Self::SpecTooLong { .. } => ErrorCode::Invalid,
            Self::Damaged { .. } | Self::Io { .. } | Self::Poisoned => ErrorCode::Io,
        }
    }
}
