//! A limit on what structures take of the bank: `--size`.
//!
//! Called by `store.rs` when it opens them. It must never count a block twice: structures ask for those that they
//! have again when they are opened.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use refrain::data::blocks::{Blocks, BlocksError};
use refrain::data::region::Region;

/// How many bytes are left, for all structures together.
#[derive(Clone)]
pub struct Limit(Arc<AtomicUsize>);

/// The blocks of one structure, as far as the limit goes.
pub struct Limited<B> {
    blocks: B,
    limit: Limit,
}

impl Limit {
    /// Up to `size` bytes.
    pub fn new(size: usize) -> Self {
        Self(Arc::new(AtomicUsize::new(size)))
    }

    /// The same blocks, counted.
    pub fn over<B>(&self, blocks: B) -> Limited<B> {
        let limit = self.clone();
        Limited { blocks, limit }
    }
}

impl<B: Blocks> Blocks for Limited<B> {
    fn block(&mut self, number: u32, bytes: usize) -> Result<Region, BlocksError> {
        let left = self.limit.0.load(Ordering::Relaxed);
        let after = left
            .checked_sub(bytes)
            .ok_or("the size that was given is used up")?;
        let region = self.blocks.block(number, bytes)?;
        self.limit.0.store(after, Ordering::Relaxed);
        Ok(region)
    }

    fn free(&mut self, number: u32) -> Result<(), BlocksError> {
        self.blocks.free(number)
    }

    fn writer(&self) -> Result<NonZeroU64, BlocksError> {
        self.blocks.writer()
    }

    fn is_alive(&self, writer: NonZeroU64) -> Result<bool, BlocksError> {
        self.blocks.is_alive(writer)
    }
}
