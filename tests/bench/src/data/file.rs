//! Blocks in a file on tmpfs, mapped at a fixed address: what a bank is to an actor, without a site. Used by our
//! types here, so that another process finds them after a crash. One process has them at a time.

use std::fs::OpenOptions;
use std::num::NonZeroU64;
use std::os::fd::AsFd;
use std::path::Path;
use std::process;
use std::sync::Arc;

use anyhow::{Context, Result};
use refrain_data::blocks::{BlocksError, ROOT};
use refrain_data::{Blocks, Region};
use refrain_sys::mapping::{BlockMapping, map_block_fixed};

/// Blocks beside the root: more than one only where a structure grows.
const BLOCKS: usize = 3;
/// Where the first is mapped: far from whatever the kernel chooses by itself.
const ADDRESS: u64 = 0x2000_0000_0000;
/// From one to the next.
const APART: u64 = 1 << 40;

/// The file, mapped.
pub struct FileBlocks {
    mapping: Arc<BlockMapping>,
    /// Bytes of each block but the root.
    block: usize,
}

impl FileBlocks {
    /// The file `path` with blocks of `block` bytes, at place `place`; made if it is not there. Memory is taken as
    /// it is used.
    ///
    /// # Errors
    /// The kernel's.
    pub fn open(path: &Path, place: u64, block: usize) -> Result<Self> {
        let block = block.next_multiple_of(ROOT);
        let len = ROOT + BLOCKS * block;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .with_context(|| format!("cannot open {}", path.display()))?;
        file.set_len(len as u64)?;
        let mapping = map_block_fixed(file.as_fd(), ADDRESS + place * APART, len)?;
        let mapping = Arc::new(mapping);
        Ok(Self { mapping, block })
    }
}

impl Blocks for FileBlocks {
    fn block(&mut self, number: u32, bytes: usize) -> Result<Region, BlocksError> {
        let (offset, len) = match number as usize {
            0 => (0, ROOT),
            number => (ROOT + (number - 1) * self.block, self.block),
        };
        if bytes > len {
            return Err(format!("a block here has {len} bytes").into());
        }
        let all = Region::new(Arc::clone(&self.mapping)).ok_or("a mapping begins at a page")?;
        Ok(all.part(offset, bytes).ok_or("there are no more blocks")?)
    }

    fn free(&mut self, _number: u32) -> Result<(), BlocksError> {
        Ok(())
    }

    fn writer(&self) -> Result<NonZeroU64, BlocksError> {
        Ok(NonZeroU64::new(process::id().into()).ok_or("a process has a number")?)
    }

    /// The one before was killed before this one was started.
    fn is_alive(&self, _writer: NonZeroU64) -> Result<bool, BlocksError> {
        Ok(false)
    }
}
