//! `Heap`: any Rust values in persistent memory, changed in transactions (SPEC H32).
//!
//! Maps, vectors, texts and boxes whose memory comes from the heap itself ([`HeapMap`], [`HeapVec`],
//! [`HeapString`], [`HeapBox`]), and an actor's own types of them ([`heap_type!`](crate::heap_type)). Pointers
//! between them stay valid because a block has one address in every life (SPEC H11).
//!
//! ```
//! use refrain_data::heap::{Heap, HeapError, HeapMap, HeapString, HeapVec};
//! # use refrain_data::memory::Scratch;
//! refrain_data::heap_type! {
//!     #[derive(Default)]
//!     pub struct Shop { orders: HeapMap<HeapString, HeapVec<u64>>, count: u64 }
//! }
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let blocks = Scratch::with_blocks(1, 1 << 20)?;
//! let mut heap = Heap::<Shop>::open(blocks, 1 << 20)?;
//! heap.transaction(|shop| {
//!     shop.orders.entry("alice".into()).or_default().push(7);
//!     shop.count += 1;
//!     Ok::<_, HeapError>(())
//! })?;
//! assert_eq!(heap.root().orders.get("alice").map(|orders| orders[0]), Some(7));
//!
//! // An error takes everything back, and so does a panic or a crash.
//! let failed = heap.transaction(|shop| {
//!     shop.orders.clear();
//!     Err::<(), Box<dyn std::error::Error + Send + Sync>>("changed my mind".into())
//! });
//! assert!(failed.is_err() && heap.root().count == 1 && heap.root().orders.len() == 1);
//! # Ok(()) }
//! ```
//!
//! # How
//! The pages of a heap are read-only, also for its own actor: a stray write faults. In a transaction the first write
//! to each page saves the page as it was, in the same block; committing is one store that says that none
//! of these counts any more (`refrain_sys::first_write` has the argument, decision 0026 the measurements). What
//! a crash left half done is taken back when the heap is opened. So a transaction costs in proportion to the
//! pages it changes, whatever the heap holds, and opening costs the same for every size.
//!
//! Called by actors. It must never let anything out of a heap that is not finished, nor anything in that
//! means nothing to the next life.
#![allow(unsafe_code)]

mod alloc;
mod error;
mod hash;
mod layout;
mod maps;
mod memory;
mod opening;
mod pieces;
mod runs;
mod safe;
mod strings;
mod vectors;

use std::any::type_name;
use std::hint::black_box;
use std::ptr::NonNull;

use refrain_sys::first_write::{Pages, Writing};

use crate::blocks::Blocks;
use crate::header::{Description, Root};

use layout::FRONT;
use memory::Memory;
use opening::{Opening, guarded, schema};

pub use alloc::HeapAlloc;
pub use error::{HeapError, HeapOpenError};
pub use hash::{HeapHash, HeapHasher};
pub use maps::{HeapMap, HeapSet};
pub use safe::{HeapSafe, Shape};
pub use strings::HeapString;
pub use vectors::{HeapBox, HeapVec};

/// A value of type `T`, and whatever it owns, in persistent memory.
///
/// One life of one actor has it open at a time. Several threads share it as they would share a `T`: in a
/// `RwLock`, say.
pub struct Heap<T> {
    // Before the memory: its pages are made writable again while they are mapped.
    pages: Pages,
    memory: Memory,
    header: Root,
    description: Description,
    root: NonNull<T>,
}

// SAFETY: it owns the value, and nothing outside of it leads into the heap. The values in it may be `!Send` only
// because of their allocator, which has no state and serves whichever thread has a transaction open.
unsafe impl<T: HeapSafe> Send for Heap<T> {}
// SAFETY: what `HeapSafe` lets in can't be changed through a shared reference.
unsafe impl<T: HeapSafe> Sync for Heap<T> {}

/// A step of a size that every system has at least for its pages.
const SMALLEST_PAGE: usize = 4096;

/// Writes one byte of every page of `bytes`, as it is.
///
/// A system call that is told to write into a page of a heap before the program has written to it returns
/// EFAULT, because it is read-only still. So: `touch(&mut buffer)` in the transaction, then `read`.
pub fn touch(bytes: &mut [u8]) {
    let last = bytes.len().saturating_sub(1);
    for at in (0..bytes.len()).step_by(SMALLEST_PAGE).chain([last]) {
        if let Some(byte) = bytes.get_mut(at) {
            *byte = black_box(*byte);
        }
    }
}

impl<T: HeapSafe + Default> Heap<T> {
    /// Opens the heap that is in `blocks`, or makes one of `size` bytes whose root is `T::default()`.
    ///
    /// Half of it is for values, the other half is where pages are saved in a transaction.
    ///
    /// # Errors
    /// [`HeapOpenError`]: another type or another version of it, another size, another writer, no memory.
    pub fn open(blocks: impl Blocks, size: usize) -> Result<Self, HeapOpenError> {
        Self::open_version(blocks, size, 0)
    }

    /// The same, for version `version` of the type: a number to be raised when what the values *mean* changes
    /// though their types do not.
    ///
    /// # Errors
    /// As [`Heap::open`].
    pub fn open_version(
        blocks: impl Blocks,
        size: usize,
        version: u32,
    ) -> Result<Self, HeapOpenError> {
        match Opening::begin(blocks, size)? {
            (opening, None) => opening.make(version),
            (opening, Some(description)) => opening.take(description, version),
        }
    }
}

impl<T: HeapSafe> Heap<T> {
    /// Opens the heap as [`Heap::open_version`] does; one that holds an `Old` of version `from` is brought to
    /// `version` by `migrate`, in one transaction: a crash leaves the one or the other.
    ///
    /// `migrate` may move collections from the old root into the new one; nothing is copied then.
    ///
    /// # Errors
    /// As [`Heap::open`], and the error of `migrate`; then the heap is as it was.
    ///
    /// ```
    /// use refrain_data::heap::{Heap, HeapMap};
    /// # use refrain_data::memory::Scratch;
    /// refrain_data::heap_type! { #[derive(Default)] struct V1 { names: HeapMap<u64, u32> } }
    /// refrain_data::heap_type! { #[derive(Default)] struct V2 { names: HeapMap<u64, u32>, calls: u64 } }
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let blocks = Scratch::with_blocks(1, 1 << 20)?;
    /// # drop(Heap::<V1>::open(blocks.clone(), 1 << 20)?);
    /// let heap = Heap::<V2>::migrate::<V1>(blocks, 1 << 20, (0, 0), |old| {
    ///     Ok(V2 { names: old.names, calls: 0 })
    /// })?;
    /// assert_eq!(heap.root().calls, 0);
    /// # Ok(()) }
    /// ```
    pub fn migrate<Old: HeapSafe>(
        blocks: impl Blocks,
        size: usize,
        (from, version): (u32, u32),
        migrate: impl FnOnce(Old) -> Result<T, HeapError> + Send,
    ) -> Result<Self, HeapOpenError>
    where
        T: Default,
    {
        let (opening, description) = match Opening::begin(blocks, size)? {
            (opening, None) => return opening.make(version),
            (opening, Some(description)) => (opening, description),
        };
        let has = description.schema.fingerprint;
        if has == schema::<T>(version).fingerprint || has != schema::<Old>(from).fingerprint {
            return opening.take(description, version);
        }
        opening
            .take::<Old>(description, from)?
            .into_next(version, migrate)
    }

    /// The root, as the last transaction left it.
    #[must_use]
    pub fn root(&self) -> &T {
        // SAFETY: it is inside the heap and aligned (`Memory::root`), was written as a T of this schema, and is
        // changed only while `self` is borrowed exclusively.
        unsafe { self.root.as_ref() }
    }

    /// How many bytes of values are in use, as they were rounded up.
    #[must_use]
    pub fn used(&self) -> u64 {
        // SAFETY: the allocator changes it only while `self` is borrowed exclusively.
        unsafe { self.memory.state() }.used
    }

    /// How many bytes of values there can be.
    #[must_use]
    pub fn capacity(&self) -> u64 {
        self.memory.capacity()
    }

    /// Changes the root in `change`, all of it or nothing: when `change` returns an error or panics, or the
    /// life ends at any instruction, everything is as it was.
    ///
    /// What goes in and comes out must be `Send`, which nothing is that lives in a heap: so values can't leave
    /// theirs. `change` must write on the thread that it is called on; another thread that writes to the heap
    /// ends the life by SIGSEGV, and a child that was forked must not go on with it. A program that is built
    /// with `panic = "abort"` has no panics to be taken back, and ends where the heap is full.
    ///
    /// ```compile_fail
    /// # use refrain_data::heap::*;
    /// # fn keep(heap: &mut Heap<HeapVec<u64>>) {
    /// let kept = heap.update(|root| std::mem::take(root)); // a vector that lives in the heap
    /// # }
    /// ```
    ///
    /// # Errors
    /// That of `change`, or [`HeapError`] as one of those.
    ///
    /// # Panics
    /// When `change` does, after everything was taken back.
    pub fn transaction<R, E>(
        &mut self,
        change: impl FnOnce(&mut T) -> Result<R, E> + Send,
    ) -> Result<R, E>
    where
        R: Send,
        E: Send + From<HeapError>,
    {
        let mut root = self.root;
        let writing = self.write()?;
        let (value, writing) = guarded(&self.memory, writing, || {
            // SAFETY: as in `root`; `self` is borrowed exclusively, so this is the only reference.
            change(unsafe { root.as_mut() })
        })?;
        writing.commit();
        Ok(value)
    }

    /// [`Heap::transaction`] for a change that has no error of its own.
    ///
    /// # Errors
    /// [`HeapError`].
    pub fn update<R: Send>(
        &mut self,
        change: impl FnOnce(&mut T) -> R + Send,
    ) -> Result<R, HeapError> {
        self.transaction(|root| Ok(change(root)))
    }

    /// Writes the heap to the bank's storage, and waits for that: for a bank on a disk, against a failure of the
    /// power. A crash of the program needs none.
    ///
    /// # Errors
    /// The kernel's.
    pub fn sync(&self) -> std::io::Result<()> {
        self.memory.body().sync()?;
        self.header.region().sync()
    }

    /// Begins to write. The front page, with the allocator and most often the root, is saved at once.
    fn write(&self) -> Result<Writing<'_>, HeapError> {
        // SAFETY: nobody changes it now: a writing of ours would have `self` borrowed.
        let top = unsafe { self.memory.state() }.bins.top();
        self.pages.begin(top, 0..FRONT).map_err(HeapError::Pages)
    }
}

impl<T> std::fmt::Debug for Heap<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Heap<{}>({:p})", type_name::<T>(), self.memory.start())
    }
}
