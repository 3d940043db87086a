//! Why a heap cannot be opened, or a transaction not be committed.
#![forbid(unsafe_code)]

use std::io;

use crate::error::OpenError;

/// Why a heap could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HeapOpenError {
    /// As for any structure: no memory, another writer, something else in the block.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Too few bytes.
    #[error("a heap of {size} bytes has no room for values; the least is {least}")]
    TooSmall {
        /// What was asked for, in bytes.
        size: usize,
        /// What is needed, in bytes.
        least: usize,
    },
    /// The root is too large for it, or needs too large an alignment.
    #[error("the root of {root} bytes does not fit into a heap of {size} bytes; make it larger")]
    Root {
        /// The size of the root in bytes.
        root: usize,
        /// What was asked for, in bytes.
        size: usize,
    },
    /// The heap that is there has another size.
    #[error(
        "the heap has {has} bytes, it was opened with {asked}; open it with {has}, or free its blocks"
    )]
    Size {
        /// Its size in bytes.
        has: u64,
        /// What was asked for, in bytes.
        asked: u64,
    },
    /// Its block is mapped elsewhere than when it was made, and pointers in it lead to where it was.
    #[error(
        "the heap was made at {was:#x} and its block is at {now:#x} now; map it where it was, or free its blocks"
    )]
    Moved {
        /// Its address when it was made.
        was: u64,
        /// Its address now.
        now: u64,
    },
    /// Its pages could not be protected, or what was saved makes no sense.
    #[error("cannot protect the pages of the heap: {0}")]
    Pages(#[source] io::Error),
    /// The transaction in which it is made, or brought to another version, failed.
    #[error(transparent)]
    Transaction(#[from] HeapError),
}

/// Why a transaction was rolled back, where it was not the closure that said so.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HeapError {
    /// No memory left. Everything is as it was before the transaction.
    #[error(
        "the heap is full: {used} of its {capacity} bytes are in use; free some, or open a larger one"
    )]
    Full {
        /// How many bytes of values were in use before the transaction.
        used: u64,
        /// How many there can be.
        capacity: u64,
    },
    /// The kernel does not let the pages be written to. Nothing was done.
    #[error("cannot open the heap's pages for writing: {0}")]
    Pages(#[source] io::Error),
}
