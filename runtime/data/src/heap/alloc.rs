//! The allocator that puts Rust's collections into a heap.
//!
//! Handed to hashbrown's map and allocator-api2's vector and box by `types`. It has no size and knows no heap:
//! it serves from the heap that this thread has a transaction open on. It must never give memory outside of
//! a transaction.
#![allow(unsafe_code)]

use std::alloc::Layout;
use std::cell::Cell;
use std::marker::PhantomData;
use std::panic::resume_unwind;
use std::ptr::{self, NonNull};

use allocator_api2::alloc::{AllocError, Allocator};

use crate::heap::memory::Memory;

thread_local! {
    /// The heap that this thread's innermost transaction is on.
    static CURRENT: Cell<*const Memory> = const { Cell::new(ptr::null()) };
}

/// Memory of the heap whose transaction this thread is in.
///
/// Neither `Send` nor `Sync`, and so is nothing that holds one: what lives in a heap can't leave a
/// transaction, nor come into that of another heap, because whatever passes that border must be `Send`.
///
/// A request that finds the heap full does not return: the transaction ends with
/// [`HeapError::Full`](super::HeapError::Full), and everything is as it was before.
///
/// # Panics
/// Where memory is asked for outside of a transaction. Giving back there is ignored.
#[derive(Clone, Copy, Default)]
pub struct HeapAlloc(PhantomData<*const ()>);

impl std::fmt::Debug for HeapAlloc {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("HeapAlloc")
    }
}

/// What unwinds out of a transaction on a heap that is full.
pub(crate) struct Full;

/// Serves this thread from a heap until it is dropped.
pub(crate) struct Entered<'a> {
    outer: *const Memory,
    memory: PhantomData<&'a Memory>,
}

/// Serves this thread from `memory` until the result is dropped.
///
/// # Safety
/// In a writing of this thread on that memory, which goes on until the result was dropped.
pub(crate) unsafe fn enter(memory: &Memory) -> Entered<'_> {
    Entered {
        outer: CURRENT.replace(memory),
        memory: PhantomData,
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        CURRENT.set(self.outer);
    }
}

/// Does something with this thread's heap.
fn with<R>(what: impl FnOnce(&Memory) -> R) -> Option<R> {
    // SAFETY: whoever put it there borrows the memory until it has taken it away, on this thread.
    unsafe { CURRENT.get().as_ref() }.map(what)
}

fn take(layout: Layout) -> Option<NonNull<[u8]>> {
    let taken = with(|memory| {
        // SAFETY: `enter` was called, so this thread is in a writing; no operation of the allocator calls
        // another one.
        let mut pieces = unsafe { memory.pieces() };
        let (offset, holds) = pieces.take(layout.size(), layout.align())?;
        let start = memory.start().as_ptr().wrapping_add(offset as usize);
        NonNull::new(start).map(|start| NonNull::slice_from_raw_parts(start, holds))
    });
    taken.expect("memory of a heap can be taken in a transaction only")
}

/// Resizes in place; `None` where that can't be done.
fn resize(place: NonNull<u8>, old: Layout, new: Layout) -> Option<NonNull<[u8]>> {
    if !place.addr().get().is_multiple_of(new.align()) {
        return None;
    }
    with(|memory| {
        let offset = memory.offset(place)?;
        // SAFETY: as in `take`.
        let mut pieces = unsafe { memory.pieces() };
        let (old, new) = ((old.size(), old.align()), (new.size(), new.align()));
        let holds = pieces.resize(offset, old, new)?;
        Some(NonNull::slice_from_raw_parts(place, holds))
    })
    .flatten()
}

fn move_to(place: NonNull<u8>, old: Layout, new: Layout) -> Result<NonNull<[u8]>, AllocError> {
    let moved = HeapAlloc::default().allocate(new)?;
    let len = old.size().min(new.size());
    // SAFETY: `place` holds `old.size()` bytes by the promise of the caller, the new piece at least
    // `new.size()`; a piece that was just taken overlaps none in use.
    unsafe { ptr::copy_nonoverlapping(place.as_ptr(), moved.cast().as_ptr(), len) };
    give(place, old);
    Ok(moved)
}

fn give(place: NonNull<u8>, layout: Layout) {
    if layout.size() == 0 {
        return;
    }
    with(|memory| {
        if let Some(offset) = memory.offset(place) {
            // SAFETY: as in `take`.
            let mut pieces = unsafe { memory.pieces() };
            pieces.give(offset, layout.size(), layout.align());
        }
    });
}

// SAFETY: a piece belongs to who took it until it is given back, stays where it is when the allocator is
// moved or cloned (it has no state), and is as large and aligned as asked for. It stays mapped while
// the heap is open, and what holds one can't leave the heap's transactions.
unsafe impl Allocator for HeapAlloc {
    fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        if layout.size() == 0 {
            let start = ptr::without_provenance_mut(layout.align());
            let start = NonNull::new(start).ok_or(AllocError)?;
            return Ok(NonNull::slice_from_raw_parts(start, 0));
        }
        // Collections abort when they are told that there is no memory. Unwinding takes the transaction back
        // instead; every caller asks before it changes anything.
        Ok(take(layout).unwrap_or_else(|| resume_unwind(Box::new(Full))))
    }

    // SAFETY: the caller's promise is the trait's.
    unsafe fn deallocate(&self, place: NonNull<u8>, layout: Layout) {
        give(place, layout);
    }

    // SAFETY: as above.
    unsafe fn grow(
        &self,
        place: NonNull<u8>,
        old: Layout,
        new: Layout,
    ) -> Result<NonNull<[u8]>, AllocError> {
        resize(place, old, new).map_or_else(|| move_to(place, old, new), Ok)
    }

    // SAFETY: as above.
    unsafe fn shrink(
        &self,
        place: NonNull<u8>,
        old: Layout,
        new: Layout,
    ) -> Result<NonNull<[u8]>, AllocError> {
        resize(place, old, new).map_or_else(|| move_to(place, old, new), Ok)
    }
}
