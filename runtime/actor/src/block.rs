//! A block of persistent memory as an actor holds it (SPEC H15).
//!
//! Handed out by [`pmm_allocate`](crate::pmm_allocate); read and written by the actor. The safe
//! ways in are 64-bit atomic words only: another life of the group may use the same memory at
//! the same moment, and accesses of one size are the ones that cannot tear. A program that lays
//! its own structures over the block takes [`Block::as_ptr`] and answers for it.
//!
//! This module must never unmap a block while a handle to it is left.

use std::fmt;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use refrain_abi::{BlockName, DeletionKey};
use refrain_sys::mapping::BlockMapping;

/// The size of a word of [`Block::words`], in bytes.
const WORD: usize = size_of::<u64>();

/// A place that lies outside a block, or across two of its words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlaceError {
    /// Past the end.
    #[error("{len} bytes at offset {offset} lie outside block {name} of {size} bytes")]
    Outside {
        /// The block.
        name: BlockName,
        /// Where, in bytes from the block's start.
        offset: usize,
        /// How many bytes.
        len: usize,
        /// The block's size in bytes.
        size: usize,
    },
    /// Not at a multiple of 8.
    #[error("offset {offset} of block {name} is no place for a 64-bit word; use a multiple of 8")]
    Unaligned {
        /// The block.
        name: BlockName,
        /// Where, in bytes from the block's start.
        offset: usize,
    },
}

#[derive(Debug)]
pub(crate) struct Mapped {
    pub(crate) mapping: BlockMapping,
    pub(crate) name: BlockName,
    pub(crate) key: DeletionKey,
    pub(crate) addr: u64,
    /// Device and inode of the block's file: tells a block from its successor of the same name.
    pub(crate) file: (u64, u64),
}

/// A named piece of the bank, mapped at the address that it has in every life (SPEC H11).
///
/// A clone is another handle to the same memory. Dropping handles does not unmap the block;
/// it stays where it is until the life ends, or until it was freed and no handle is left.
#[derive(Clone)]
pub struct Block {
    pub(crate) mapped: Arc<Mapped>,
    pub(crate) existed: bool,
}

impl Block {
    /// The block's name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.mapped.name.as_str()
    }

    /// Its size in bytes, a whole number of pages.
    #[must_use]
    pub fn len(&self) -> usize {
        self.words().len() * WORD
    }

    /// Never: a block has at least one page.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the block was there before the call that returned this handle: `false` means that
    /// it is new, and zero.
    #[must_use]
    pub fn existed(&self) -> bool {
        self.existed
    }

    /// Where the block begins: the same in every life and every actor, so pointers into blocks
    /// may be kept in blocks (SPEC H11).
    ///
    /// The memory stays mapped as long as this handle or a clone of it lives. Other lives of the
    /// group may write to it at any time, so whoever dereferences the pointer uses atomic or
    /// volatile access, or sees to it that nobody else does.
    #[must_use]
    pub fn as_ptr(&self) -> NonNull<u8> {
        NonNull::new(self.mapped.mapping.as_ptr()).expect("no block is mapped at address 0")
    }

    /// The whole block as 64-bit words.
    #[must_use]
    pub fn words(&self) -> &[AtomicU64] {
        self.mapped.mapping.words()
    }

    /// The word at `offset` bytes from the start.
    ///
    /// # Errors
    /// [`PlaceError`] when `offset` is no multiple of 8 or past the end.
    ///
    /// ```no_run
    /// use std::sync::atomic::Ordering::SeqCst;
    /// let block = refrain::pmm_allocate("counter", 4096, refrain::HR_GROUP_KEY)?;
    /// let lives = block.atomic_u64(0)?.fetch_add(1, SeqCst) + 1;
    /// println!("life number {lives} of this group's counter");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn atomic_u64(&self, offset: usize) -> Result<&AtomicU64, PlaceError> {
        let name = self.mapped.name;
        if !offset.is_multiple_of(WORD) {
            return Err(PlaceError::Unaligned { name, offset });
        }
        self.check(offset, WORD)?;
        Ok(&self.words()[offset / WORD])
    }

    /// Copies bytes out of the block, from `offset` on, until `into` is full.
    ///
    /// Each 64-bit word is read whole; the copy as a whole is no snapshot when another actor
    /// writes at the same time.
    ///
    /// # Errors
    /// [`PlaceError::Outside`] when the block ends before that.
    pub fn read(&self, offset: usize, into: &mut [u8]) -> Result<(), PlaceError> {
        self.check(offset, into.len())?;
        for piece in pieces(offset, into.len()) {
            let word = self.words()[piece.word]
                .load(Ordering::Acquire)
                .to_ne_bytes();
            into[piece.done..piece.done + piece.len]
                .copy_from_slice(&word[piece.at..piece.at + piece.len]);
        }
        Ok(())
    }

    /// Copies `bytes` into the block, from `offset` on, front to back.
    ///
    /// Each 64-bit word is written whole; a life that is killed in between leaves the first
    /// words new and the rest old. A change that must be seen whole or not at all is made
    /// elsewhere in the block and then published by one store to [`Block::atomic_u64`].
    ///
    /// # Errors
    /// [`PlaceError::Outside`] when they do not fit; nothing is written then.
    pub fn write(&self, offset: usize, bytes: &[u8]) -> Result<(), PlaceError> {
        self.check(offset, bytes.len())?;
        for piece in pieces(offset, bytes.len()) {
            let word = &self.words()[piece.word];
            let mut value = word.load(Ordering::Acquire).to_ne_bytes();
            value[piece.at..piece.at + piece.len]
                .copy_from_slice(&bytes[piece.done..piece.done + piece.len]);
            word.store(u64::from_ne_bytes(value), Ordering::Release);
        }
        Ok(())
    }

    fn check(&self, offset: usize, len: usize) -> Result<(), PlaceError> {
        let size = self.len();
        match offset.checked_add(len) {
            Some(end) if end <= size => Ok(()),
            _ => Err(PlaceError::Outside {
                name: self.mapped.name,
                offset,
                len,
                size,
            }),
        }
    }
}

impl fmt::Debug for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Block")
            .field("name", &self.mapped.name)
            .field("len", &self.len())
            .field("addr", &format_args!("{:#x}", self.mapped.addr))
            .field("existed", &self.existed)
            .finish()
    }
}

/// The part of a copy that lies in one word.
struct Piece {
    /// Index of the word.
    word: usize,
    /// Where in the word the part begins, in bytes.
    at: usize,
    /// How many bytes of the copy come before it.
    done: usize,
    /// How many bytes it has.
    len: usize,
}

fn pieces(offset: usize, len: usize) -> impl Iterator<Item = Piece> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let at = (offset + done) % WORD;
        let piece = Piece {
            word: (offset + done) / WORD,
            at,
            done,
            len: (WORD - at).min(len - done),
        };
        done += piece.len;
        (piece.len > 0).then_some(piece)
    })
}
