//! Memory without a site: blocks in a memfd, for tests and for examples.
//!
//! Used by the tests of this crate and by programs that want to try a structure without a controller. It
//! must never be taken for persistent: it goes with the last handle.

use std::io;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use refrain_sys::mapping::{SharedWords, create_words, page_size};

use crate::blocks::{Blocks, BlocksError, ROOT};
use crate::region::{Region, WORD};

/// How many blocks there are beside the root, unless the user says so.
const BLOCKS: usize = 7;

/// Blocks in one memfd: the root, and some more of one size each. Clones share them, and each clone
/// is another writer.
pub struct Scratch {
    words: Arc<SharedWords>,
    /// The size of each block but the root, in bytes.
    block: usize,
    writer: NonZeroU64,
    others_live: bool,
}

/// The next writer's number, in its lower half; the upper half tells a child that was forked from its parent.
fn next_writer() -> NonZeroU64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    let number = u64::from(std::process::id()) << 32 | next;
    NonZeroU64::new(number).unwrap_or(NonZeroU64::MIN)
}

impl Scratch {
    /// Seven blocks of at most 64 KiB beside the root.
    ///
    /// # Errors
    /// The kernel's.
    pub fn new() -> io::Result<Self> {
        Self::with_blocks(BLOCKS, 64 << 10)
    }

    /// `number` blocks of at most `bytes` bytes, rounded up to whole pages, beside the root. Memory is taken
    /// as it is used.
    ///
    /// # Errors
    /// The kernel's.
    pub fn with_blocks(number: usize, bytes: usize) -> io::Result<Self> {
        let page = usize::try_from(page_size()).unwrap_or(ROOT);
        let block = bytes.next_multiple_of(page);
        let count = (ROOT + number * block) / WORD;
        let (_, words) = create_words("refrain-scratch", count)?;
        Ok(Self {
            words: Arc::new(words),
            block,
            writer: next_writer(),
            others_live: true,
        })
    }

    /// The same blocks for a later life: every writer of before has ended, however.
    #[must_use]
    pub fn next_life(&self) -> Self {
        Self {
            others_live: false,
            ..self.clone()
        }
    }

    /// All of the memory: root, then the blocks.
    #[must_use]
    pub fn words(&self) -> &Arc<SharedWords> {
        &self.words
    }
}

impl Clone for Scratch {
    fn clone(&self) -> Self {
        Self {
            words: Arc::clone(&self.words),
            block: self.block,
            writer: next_writer(),
            others_live: self.others_live,
        }
    }
}

impl Blocks for Scratch {
    fn block(&mut self, number: u32, bytes: usize) -> Result<Region, BlocksError> {
        let all = Region::new(Arc::clone(&self.words)).ok_or("a memfd begins at a page")?;
        let (offset, len) = match number as usize {
            0 => (0, ROOT),
            number => (ROOT + (number - 1) * self.block, self.block),
        };
        if bytes > len {
            return Err(format!("a block here has {len} bytes").into());
        }
        Ok(all.part(offset, len).ok_or("there are no more blocks")?)
    }

    /// What was there stays: a structure has no use for a clean block but for its root.
    fn free(&mut self, _number: u32) -> Result<(), BlocksError> {
        Ok(())
    }

    fn writer(&self) -> Result<NonZeroU64, BlocksError> {
        Ok(self.writer)
    }

    fn is_alive(&self, _writer: NonZeroU64) -> Result<bool, BlocksError> {
        Ok(self.others_live)
    }
}
