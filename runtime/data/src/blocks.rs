//! Where a structure gets its memory from: blocks by number, and who is asking.
//!
//! Implemented by crate `refrain` over the calls of PMM, and by tests over a memfd. A structure has a
//! *root* of [`ROOT`] bytes, block 0, which says what it is, and where it needs more, further blocks.
//! This module must never decide what is in them.

use std::error::Error;
use std::num::NonZeroU64;

use crate::error::OpenError;
use crate::region::Region;

/// The size of a root in bytes: the same for every structure, so that it can be opened before it is
/// known what it holds.
pub const ROOT: usize = 4096;

/// What a source of blocks says when it has none.
pub type BlocksError = Box<dyn Error + Send + Sync>;

/// The blocks of one structure.
pub trait Blocks: Send {
    /// Block `number`, as it was left. It has at least `bytes` bytes. A new root is zero; other blocks may hold
    /// anything when they are new.
    ///
    /// # Errors
    /// The bank is full, the block has another size, belongs to somebody else ...
    fn block(&mut self, number: u32, bytes: usize) -> Result<Region, BlocksError>;

    /// Gives block `number` back, if there is one. Regions of it that are left stay valid.
    ///
    /// # Errors
    /// As the source says; one that is not there is none.
    fn free(&mut self, number: u32) -> Result<(), BlocksError>;

    /// Who opens the structure: a number that no other life of any actor ever has (its aid).
    fn writer(&self) -> Result<NonZeroU64, BlocksError>;

    /// Whether another writer may still be running.
    ///
    /// # Errors
    /// When that cannot be found out.
    fn is_alive(&self, writer: NonZeroU64) -> Result<bool, BlocksError>;
}

/// Block `number`, checked for its size.
pub(crate) fn get(blocks: &mut dyn Blocks, number: u32, bytes: usize) -> Result<Region, OpenError> {
    let region = blocks
        .block(number, bytes)
        .map_err(|why| OpenError::Blocks { number, bytes, why })?;
    if region.len() < bytes {
        let (has, needs) = (region.len(), bytes);
        return Err(OpenError::TooSmall { has, needs });
    }
    Ok(region)
}

/// Gives block `number` back.
pub(crate) fn free(blocks: &mut dyn Blocks, number: u32) -> Result<(), OpenError> {
    let bytes = 0;
    blocks
        .free(number)
        .map_err(|why| OpenError::Blocks { number, bytes, why })
}
