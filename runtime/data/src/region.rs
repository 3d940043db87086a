//! A region: memory that a structure lives in, with its bounds and whoever keeps it mapped.
//!
//! Used by every structure of this crate. A region is handed out by a [`Blocks`](crate::Blocks) and
//! may be written by another actor of the group at any moment, so nothing that is read from it is
//! taken for a length or a place unchecked, and everything in it is [`Plain`]: any bytes are a value.
//!
//! This is the place where references into shared pages are made. It must never hand out a reference
//! past the region's end, or one that outlives the mapping.
#![allow(unsafe_code)]

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::OpenError;
use refrain_sys::mapping::{BlockMapping, SharedWords};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The size of a word in bytes: what is stored and loaded at once.
pub const WORD: usize = size_of::<u64>();

/// What every region begins at a multiple of, in bytes, and what values may ask for at most.
pub const LINE: usize = 64;

/// Values that can be kept: plain data without padding, for which any bytes are a value.
///
/// Implemented for every type that has zerocopy's four traits, which can be derived:
///
/// ```
/// use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};
/// #[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
/// #[repr(C)]
/// struct Visit { at: u64, page: u32, agent: u32 }
/// fn is_plain<T: refrain_data::Plain>() {}
/// is_plain::<Visit>();
/// is_plain::<[u8; 20]>();
/// ```
///
/// A reference, a box, a function pointer is not plain: it means nothing in the next life.
///
/// ```compile_fail
/// fn is_plain<T: refrain_data::Plain>() {}
/// is_plain::<&'static str>();
/// ```
pub trait Plain: FromBytes + IntoBytes + Immutable + KnownLayout + Send + Sync + 'static {}

impl<T: FromBytes + IntoBytes + Immutable + KnownLayout + Send + Sync + 'static> Plain for T {}

/// Memory that can be made a [`Region`]: words that stay where they are.
pub trait Memory: Send + Sync + 'static {
    /// All of it. Each call gives the same words.
    fn words(&self) -> &[AtomicU64];

    /// Writes it to the storage behind it, and waits for that. Where there is none, nothing is done.
    ///
    /// # Errors
    /// The kernel's (EIO).
    fn sync(&self) -> io::Result<()>;
}

impl Memory for BlockMapping {
    fn words(&self) -> &[AtomicU64] {
        self.words()
    }

    fn sync(&self) -> io::Result<()> {
        self.flush()
    }
}

/// For tests: a memfd.
impl Memory for SharedWords {
    fn words(&self) -> &[AtomicU64] {
        self
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}

/// A piece of memory and its owner. Clones share both.
#[derive(Clone)]
pub struct Region {
    /// Valid for as long as `owner` is kept; must not leave this module with that lifetime.
    words: &'static [AtomicU64],
    owner: Arc<dyn Memory>,
}

impl Region {
    /// All of the memory of `owner`; `None` when it does not begin at a multiple of [`LINE`].
    #[must_use]
    pub fn new<M: Memory>(owner: Arc<M>) -> Option<Self> {
        let words = owner.words();
        if !words.as_ptr().addr().is_multiple_of(LINE) {
            return None;
        }
        let (first, len) = (words.as_ptr(), words.len());
        // SAFETY: `words` borrows from `*owner`, which lives for as long as the region keeps the Arc,
        // and nobody gets a `&mut` to it while there is a second one. No method gives the slice
        // away for longer than a borrow of the region.
        let words = unsafe { std::slice::from_raw_parts(first, len) };
        Some(Self { words, owner })
    }

    /// A part of it, from `offset` on, `len` bytes; `None` outside, or at no multiple of [`LINE`].
    #[must_use]
    pub fn part(&self, offset: usize, len: usize) -> Option<Self> {
        if !offset.is_multiple_of(LINE) {
            return None;
        }
        let end = offset.checked_add(len)?;
        let words = self.words.get(offset / WORD..end / WORD)?;
        let owner = Arc::clone(&self.owner);
        Some(Self { words, owner })
    }

    /// Its size in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.words.len() * WORD
    }

    /// Whether it holds no byte.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// Where it begins. Whoever follows it answers for what they do.
    #[must_use]
    pub fn as_ptr(&self) -> *mut u8 {
        self.words.as_ptr().cast_mut().cast()
    }

    /// The word at `offset` bytes; `None` outside, or at no multiple of 8.
    #[must_use]
    #[inline]
    pub fn word(&self, offset: usize) -> Option<&AtomicU64> {
        if !offset.is_multiple_of(WORD) {
            return None;
        }
        self.words.get(offset / WORD)
    }

    /// The words of `len` bytes at `offset`, rounded up to whole words; `None` outside.
    #[must_use]
    #[inline]
    pub fn words(&self, offset: usize, len: usize) -> Option<&[AtomicU64]> {
        if !offset.is_multiple_of(WORD) {
            return None;
        }
        let first = offset / WORD;
        self.words
            .get(first..first.checked_add(len.div_ceil(WORD))?)
    }

    /// All of its words.
    #[must_use]
    #[inline]
    pub(crate) fn all(&self) -> &[AtomicU64] {
        self.words
    }

    /// Copies a value out, word by word; `None` outside. What another writes meanwhile may show in part.
    #[must_use]
    pub fn read<T: Plain>(&self, offset: usize) -> Option<T> {
        let words = self.words(offset, size_of::<T>())?;
        let mut value = T::new_zeroed();
        load_bytes(words, value.as_mut_bytes());
        Some(value)
    }

    /// Copies a value in, word by word, front to back, each a plain store; `None` outside, nothing
    /// is written then.
    #[must_use]
    pub fn write<T: Plain>(&self, offset: usize, value: &T) -> Option<()> {
        store_bytes(self.words(offset, size_of::<T>())?, value.as_bytes());
        Some(())
    }

    /// Where a `T` at `offset` is, if it lies inside and at a multiple of its alignment.
    #[inline]
    fn place<T>(&self, offset: usize) -> Option<*mut T> {
        let inside = offset
            .checked_add(size_of::<T>())
            .is_some_and(|end| end <= self.len());
        let aligned = align_of::<T>() <= LINE && offset.is_multiple_of(align_of::<T>());
        (inside && aligned).then(|| self.as_ptr().wrapping_add(offset).cast())
    }

    /// The value at `offset`; `None` outside, or where its alignment forbids it.
    ///
    /// # Safety
    /// Nobody writes to it while the reference lives: it belongs to a structure whose one writer is
    /// the caller, and that writer is borrowed.
    #[inline]
    pub(crate) unsafe fn view<T: Plain>(&self, offset: usize) -> Option<&T> {
        let place = self.place::<T>(offset)?;
        // SAFETY: inside the mapping, which `self` keeps; aligned, as the region's begin is to LINE;
        // any bytes are a T; that nobody writes is the caller's promise.
        Some(unsafe { &*place })
    }

    /// The value at `offset`, to be changed; `None` outside, or where its alignment forbids it.
    ///
    /// # Safety
    /// As for [`Region::view`], and no other reference to it lives.
    #[inline]
    #[expect(
        clippy::mut_from_ref,
        reason = "the memory is shared; who may change it is the caller's to know"
    )]
    pub(crate) unsafe fn view_mut<T: Plain>(&self, offset: usize) -> Option<&mut T> {
        let place = self.place::<T>(offset)?;
        // SAFETY: as in `view`; the words are atomics, so writing through a shared borrow of them is
        // allowed, and that this is the only reference is the caller's promise.
        Some(unsafe { &mut *place })
    }

    /// Writes the whole mapping that this is a part of to its storage, and waits for that.
    ///
    /// # Errors
    /// The kernel's.
    pub fn sync(&self) -> io::Result<()> {
        self.owner.sync()
    }
}

impl std::fmt::Debug for Region {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Region({:p}, {} bytes)", self.as_ptr(), self.len())
    }
}

/// Whether values of `T` can be where their alignment wants them.
pub(crate) fn check_align<T>() -> Result<(), OpenError> {
    let align = align_of::<T>();
    if align > LINE {
        return Err(OpenError::Alignment { align, most: LINE });
    }
    Ok(())
}

/// Fills `bytes` from words, each read whole.
pub(crate) fn load_bytes(words: &[AtomicU64], bytes: &mut [u8]) {
    for (word, piece) in words.iter().zip(bytes.chunks_mut(WORD)) {
        let value = word.load(Ordering::Relaxed).to_ne_bytes();
        piece.copy_from_slice(&value[..piece.len()]);
    }
}

/// Stores `bytes` into words, front to back; the last word is filled up with zeros.
pub(crate) fn store_bytes(words: &[AtomicU64], bytes: &[u8]) {
    for (word, piece) in words.iter().zip(bytes.chunks(WORD)) {
        let mut value = [0; WORD];
        value[..piece.len()].copy_from_slice(piece);
        word.store(u64::from_ne_bytes(value), Ordering::Relaxed);
    }
}
