//! What a bank holds, for `memstat`, `chorusStat` and the tests. Called by the console through PMM.
//!
//! It must never change anything.

use std::os::fd::OwnedFd;

use refrain_abi::{BlockName, DeletionKey, Gid};

use crate::access::Owner;
use crate::bank::Bank;
use crate::record::BlockRecord;

/// A block as an actor is handed it.
#[derive(Debug)]
pub struct Block {
    /// Where to map it, in every life and every actor.
    pub addr: u64,
    /// Its size in bytes, in whole pages.
    pub size: u64,
    /// Whether it was there before.
    pub existed: bool,
    /// Its file, open for reading and writing, close-on-exec.
    pub fd: OwnedFd,
}

/// A block as `memstat` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockInfo {
    /// Its name.
    pub name: BlockName,
    /// Its size in bytes.
    pub size: u64,
    /// Its address.
    pub addr: u64,
    /// Whose it is.
    pub owner: Owner,
    /// Its deletion key.
    pub key: DeletionKey,
    /// The groups that were let in.
    pub granted: Vec<Gid>,
}

/// How much of a bank is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// The bank's size in bytes.
    pub size: u64,
    /// How many of them are in blocks.
    pub used: u64,
    /// How many blocks there are.
    pub blocks: u32,
    /// How many there may be.
    pub max_blocks: u32,
}

impl Bank {
    /// How much is in use.
    #[must_use]
    pub fn usage(&self) -> Usage {
        let geometry = self.catalogue.geometry();
        Usage {
            size: geometry.size,
            used: self.used,
            blocks: self.names.len() as u32,
            max_blocks: geometry.max_blocks,
        }
    }

    /// Every block, by address.
    #[must_use]
    pub fn blocks(&self) -> Vec<BlockInfo> {
        let mut blocks: Vec<_> = self
            .catalogue
            .blocks()
            .iter()
            .map(|(_, block)| BlockInfo::of(block))
            .collect();
        blocks.sort_unstable_by_key(|block| block.addr);
        blocks
    }
}

impl BlockInfo {
    /// What a record says.
    pub(crate) fn of(block: &BlockRecord) -> Self {
        let BlockRecord {
            name,
            addr,
            size,
            owner,
            key,
            granted,
            ..
        } = block.clone();
        Self {
            name,
            size,
            addr,
            owner,
            key,
            granted,
        }
    }
}
