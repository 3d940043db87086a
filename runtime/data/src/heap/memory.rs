//! The heap's memory: where references into its pages are made.
//!
//! Used by `heap` and `alloc`. It must never make a reference that outlives the mapping, or a second one to
//! what somebody may be changing.
#![allow(unsafe_code)]

use std::ptr::NonNull;

use refrain_sys::first_write::Places;

use crate::heap::layout::{CONTROL, FRONT, Layout};
use crate::heap::pieces::{Pieces, State, Words};
use crate::heap::runs::Run;
use crate::region::{Region, WORD};

/// A heap's block, taken apart. It stays mapped for as long as this object keeps it.
#[derive(Debug)]
pub(crate) struct Memory {
    body: Region,
    layout: Layout,
}

/// Control words, by their offset in the block.
pub(crate) const AT_COUNT: usize = 0;
/// The serial of the description that a migration is about to publish, or 0.
pub(crate) const AT_NEXT: usize = 8;

/// Words of the pages for values.
pub(crate) struct Raw<'a>(&'a Memory);

impl Words for Raw<'_> {
    fn get(&self, offset: u64) -> u64 {
        let place = self.0.word(offset);
        // SAFETY: a word inside the heap (checked by `word`), mapped while the memory is kept; it belongs to
        // a free piece, so nobody else has a reference to it.
        unsafe { place.read() }
    }

    fn set(&mut self, offset: u64, value: u64) {
        let place = self.0.word(offset);
        // SAFETY: as above; a write to a page that is read-only faults, and is mended or ends the life.
        unsafe { place.write(value) }
    }
}

impl Memory {
    /// Of a block that a heap fits into.
    pub(crate) fn new(body: Region, layout: Layout) -> Self {
        debug_assert!(layout.saved + layout.pages * layout.page <= body.len());
        Self { body, layout }
    }

    pub(crate) fn body(&self) -> &Region {
        &self.body
    }

    fn at(&self, offset: usize) -> NonNull<u8> {
        NonNull::new(self.body.as_ptr().wrapping_add(offset))
            .expect("no block is mapped at address 0")
    }

    /// Where what is in the block, in the terms of the kernel's door.
    pub(crate) fn places(&self) -> Places {
        Places {
            pages: self.at(self.layout.heap),
            len: self.layout.pages,
            saved: self.at(self.layout.saved),
            numbers: self.at(CONTROL).cast(),
            count: self.at(AT_COUNT).cast(),
        }
    }

    /// Where the heap begins.
    pub(crate) fn start(&self) -> NonNull<u8> {
        self.at(self.layout.heap)
    }

    fn bytes(&self) -> usize {
        self.layout.pages * self.layout.page
    }

    fn word(&self, offset: u64) -> *mut u64 {
        let inside = usize::try_from(offset)
            .ok()
            .filter(|offset| offset.is_multiple_of(WORD) && *offset < self.bytes());
        let offset = inside.expect("a free piece lies inside the heap");
        self.start().as_ptr().wrapping_add(offset).cast()
    }

    /// The offset of `place` from the heap's start; `None` when it is not in this heap.
    pub(crate) fn offset(&self, place: NonNull<u8>) -> Option<u64> {
        let offset = place.addr().get().wrapping_sub(self.start().addr().get());
        (offset < self.bytes()).then_some(offset as u64)
    }

    /// What the allocator knows, to look at.
    ///
    /// # Safety
    /// Nobody changes it while the reference lives.
    pub(crate) unsafe fn state(&self) -> &State {
        // SAFETY: the front page is inside the mapping, page-aligned, and any bytes are a State; that nobody
        // writes is the caller's promise.
        unsafe { self.start().cast().as_ref() }
    }

    /// Begins an empty heap: the front page and the one entry of the map that is read before it is written.
    ///
    /// # Safety
    /// In a writing of this thread; no reference into the heap lives.
    pub(crate) unsafe fn begin(&self) {
        let state = self.start().cast::<State>();
        // SAFETY: the front page is inside the mapping and ours to write.
        unsafe { state.write(State::new(&self.layout)) };
        let entry = self.map().wrapping_add(self.layout.first - 1);
        // SAFETY: the map has an entry for each page.
        unsafe { entry.write(Run::default()) };
    }

    fn map(&self) -> *mut Run {
        self.at(self.layout.heap + FRONT * self.layout.page)
            .as_ptr()
            .cast()
    }

    /// The allocator.
    ///
    /// # Safety
    /// In a writing of this thread, and not within another call of this function.
    pub(crate) unsafe fn pieces(&self) -> Pieces<'_, Raw<'_>> {
        let mut state = self.start().cast::<State>();
        // SAFETY: the front page is inside the mapping, page-aligned, any bytes are a State, and nobody else
        // has a reference to it: that is the caller's promise. The root lies behind it.
        let state = unsafe { state.as_mut() };
        // SAFETY: the map has an entry for each page, and any bytes are one; as above.
        let map = unsafe { std::slice::from_raw_parts_mut(self.map(), self.layout.pages) };
        Pieces {
            state,
            map,
            words: Raw(self),
            page: self.layout.page,
        }
    }

    /// The place on the front page behind the allocator's state, for a root of this size; `None` when it
    /// does not fit there.
    pub(crate) fn front_place(&self, size: usize, align: usize) -> Option<u64> {
        let offset = size_of::<State>().checked_next_multiple_of(align)?;
        (offset + size <= FRONT * self.layout.page).then_some(offset as u64)
    }

    /// How many bytes of values there can be.
    pub(crate) fn capacity(&self) -> u64 {
        ((self.layout.pages - self.layout.first) * self.layout.page) as u64
    }

    /// Puts the root into the heap, in the place of the one that was there; `None` when it does not fit.
    ///
    /// # Safety
    /// In a writing of this thread; the old root, if there was one, has been moved out.
    pub(crate) unsafe fn put_root<T>(&self, value: T) -> Option<NonNull<T>> {
        // SAFETY: the caller's promise.
        let mut pieces = unsafe { self.pieces() };
        let front = self.front_place(size_of::<T>(), align_of::<T>());
        let place = front.or_else(|| Some(pieces.take(size_of::<T>(), align_of::<T>())?.0))?;
        pieces.state.root = place;
        let root = self.root()?;
        // SAFETY: inside the heap, aligned, and nobody else's: on the front page behind the state, where no
        // root is any more, or a piece that was just taken.
        unsafe { root.write(value) };
        Some(root)
    }

    /// Gives back the memory of a root of type `T` that has been moved out.
    ///
    /// # Safety
    /// In a writing of this thread.
    pub(crate) unsafe fn free_root<T>(&self) {
        // SAFETY: the caller's promise.
        let mut pieces = unsafe { self.pieces() };
        let place = pieces.state.root;
        if place >= (self.layout.first * self.layout.page) as u64 {
            pieces.give(place, size_of::<T>(), align_of::<T>());
        }
    }

    /// Where the root is; `None` when that is no place for a `T`: the heap is damaged.
    pub(crate) fn root<T>(&self) -> Option<NonNull<T>> {
        // SAFETY: read for this moment only, by a thread that has the heap borrowed.
        let offset = unsafe { self.state() }.root;
        let offset = usize::try_from(offset).ok()?;
        let inside = offset >= size_of::<State>()
            && offset
                .checked_add(size_of::<T>())
                .is_some_and(|end| end <= self.bytes())
            && offset.is_multiple_of(align_of::<T>());
        inside.then(|| self.at(self.layout.heap + offset).cast())
    }
}
