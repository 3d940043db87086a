//! How a heap is made, found again, and brought to another version.
//!
//! Used by `Heap`. Everything is there before the header's one store says so; what is found is taken back to
//! the last commit before anybody sees it.
//!
//! # A migration is one transaction
//! The new root is another piece of the heap, and where it is stands in the heap. What the root *is* stands in
//! the header. Two stores would be needed, to commit and to publish the description: so the header's store is the
//! commit. The serial of the description to come is noted before it; an opening that finds saved pages
//! and a description of the noted serial finishes the commit instead of taking it back. The note is
//! taken away last, and where no pages are saved.
#![allow(unsafe_code)]

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicU64, Ordering};

use refrain_sys::first_write::{Pages, Writing};
use refrain_sys::mapping::page_size;

use crate::blocks::{Blocks, ROOT, get};
use crate::error::{OpenError, damaged};
use crate::header::{Description, PARAMETERS, Root};
use crate::heap::alloc::{Full, enter};
use crate::heap::error::{HeapError, HeapOpenError};
use crate::heap::layout::Layout;
use crate::heap::memory::{AT_COUNT, AT_NEXT, Memory};
use crate::heap::safe::{HeapSafe, Shape};
use crate::heap::{Heap, SMALLEST_PAGE};
use crate::order::publish;
use crate::schema::{Kind, Schema};
use crate::versions::unlike;

/// The block that the heap is in; block 0 says what it is.
const BODY: u32 = 1;

// Numbers of a description.
const SIZE: usize = 0;
const ADDRESS: usize = 1;
const SERIAL: usize = 2;

/// The size of a page in bytes.
fn kernel_page() -> usize {
    usize::try_from(page_size()).unwrap_or(SMALLEST_PAGE)
}

/// What a heap with a root of type `T` holds, down to the last field.
pub(super) fn schema<T: HeapSafe>(version: u32) -> Schema {
    let mut schema = Schema::of::<T>(Kind::Heap, version);
    schema.fingerprint ^= Shape::of::<T>();
    schema
}

/// A heap on the way to being open: its writer is this life.
pub(super) struct Opening<B> {
    blocks: B,
    header: Root,
    /// In bytes, whole pages.
    size: usize,
    layout: Layout,
}

impl<B: Blocks> Opening<B> {
    /// Becomes the writer; answers what is there.
    pub(super) fn begin(
        mut blocks: B,
        size: usize,
    ) -> Result<(Self, Option<Description>), HeapOpenError> {
        let page = kernel_page();
        let size = size.checked_next_multiple_of(page).unwrap_or(size);
        let least = Layout::LEAST * page;
        let layout = Layout::of(size, page).ok_or(HeapOpenError::TooSmall { size, least })?;
        let header = Root::claim(get(&mut blocks, 0, ROOT)?, &blocks)?;
        let description = header.current()?;
        Ok((
            Self {
                blocks,
                header,
                size,
                layout,
            },
            description,
        ))
    }

    fn memory(&mut self) -> Result<Memory, OpenError> {
        let body = get(&mut self.blocks, BODY, self.size)?;
        Ok(Memory::new(body, self.layout))
    }

    /// Takes what is there for a heap of `T`, at its last commit.
    pub(super) fn take<T: HeapSafe>(
        mut self,
        description: Description,
        version: u32,
    ) -> Result<Heap<T>, HeapOpenError> {
        let asked = schema::<T>(version);
        if description.schema.fingerprint != asked.fingerprint {
            return Err(unlike(description.schema, asked).into());
        }
        let (has, asked) = (description.parameters[SIZE], self.size as u64);
        if has != asked {
            return Err(HeapOpenError::Size { has, asked });
        }
        let memory = self.memory()?;
        let (was, now) = (
            description.parameters[ADDRESS],
            memory.body().as_ptr().addr() as u64,
        );
        if was != now {
            return Err(HeapOpenError::Moved { was, now });
        }
        let next = control(&memory, AT_NEXT).load(Ordering::Acquire);
        if next != 0 && next == description.parameters[SERIAL] {
            publish(control(&memory, AT_COUNT), 0);
        }
        let pages = pages(&memory)?;
        if next != 0 {
            publish(control(&memory, AT_NEXT), 0);
        }
        let root = memory
            .root()
            .ok_or(damaged("its root lies outside of it"))?;
        Ok(Heap {
            pages,
            memory,
            header: self.header,
            description,
            root,
        })
    }

    /// Makes a heap whose root is `T::default()`.
    pub(super) fn make<T: HeapSafe + Default>(
        mut self,
        version: u32,
    ) -> Result<Heap<T>, HeapOpenError> {
        let memory = self.memory()?;
        // Of an earlier attempt, perhaps.
        publish(control(&memory, AT_COUNT), 0);
        publish(control(&memory, AT_NEXT), 0);
        let pages = pages(&memory)?;
        // Nothing is worth saving yet.
        let writing = pages.begin(0, 0..0).map_err(HeapError::Pages)?;
        let made = guarded(&memory, writing, || {
            // SAFETY: in a writing of this thread, and nothing is in the heap yet.
            unsafe { memory.begin() };
            // SAFETY: in a writing of this thread; where nothing was, nothing is lost.
            unsafe { memory.put_root(T::default()) }.ok_or(HeapOpenError::Root {
                root: size_of::<T>(),
                size: self.size,
            })
        });
        let (root, writing) = made?;
        writing.commit();
        let mut parameters = [0; PARAMETERS];
        parameters[SIZE] = self.size as u64;
        parameters[ADDRESS] = memory.body().as_ptr().addr() as u64;
        parameters[SERIAL] = 1;
        let description = Description {
            schema: schema::<T>(version),
            parameters,
        };
        self.header.begin(&description);
        Ok(Heap {
            pages,
            memory,
            header: self.header,
            description,
            root,
        })
    }
}

fn control(memory: &Memory, offset: usize) -> &AtomicU64 {
    memory
        .body()
        .word(offset)
        .expect("a heap has a page of control words")
}

fn pages(memory: &Memory) -> Result<Pages, HeapOpenError> {
    // SAFETY: the block is mapped for as long as the memory keeps it, which `Heap` drops after the pages; its layout
    // has disjoint parts at whole pages (a block begins at one); nobody else writes, because this is the
    // one writer; no reference into the heap is there before it is open.
    unsafe { Pages::new(memory.places()) }.map_err(HeapOpenError::Pages)
}

impl<Old: HeapSafe> Heap<Old> {
    /// Makes it a heap of `T`.
    pub(super) fn into_next<T: HeapSafe>(
        self,
        version: u32,
        migrate: impl FnOnce(Old) -> Result<T, HeapError>,
    ) -> Result<Heap<T>, HeapOpenError> {
        let mut description = self.description.clone();
        description.parameters[SERIAL] += 1;
        description.schema = schema::<T>(version);
        let note = control(&self.memory, AT_NEXT);
        publish(note, description.parameters[SERIAL]);
        let moved = self
            .write()
            .map_err(HeapOpenError::from)
            .and_then(|writing| {
                guarded(&self.memory, writing, || {
                    // SAFETY: the one reference to the root is in `self`, which is not used again before the
                    // root is another value or this one again.
                    let new = migrate(unsafe { self.root.read() })?;
                    // SAFETY: in a writing of this thread.
                    unsafe { self.memory.free_root::<Old>() };
                    // SAFETY: as above; the old root has been moved out.
                    unsafe { self.memory.put_root(new) }.ok_or(HeapOpenError::Root {
                        root: size_of::<T>(),
                        size: self.memory.body().len(),
                    })
                })
            });
        let (root, writing) = moved.inspect_err(|_| publish(note, 0))?;
        self.header.succeed(&description);
        writing.commit();
        publish(note, 0);
        let Self {
            pages,
            memory,
            header,
            ..
        } = self;
        Ok(Heap {
            pages,
            memory,
            header,
            description,
            root,
        })
    }
}

/// Does `change` in a writing, with the heap's allocator. Where it fails or panics, everything is taken back.
pub(super) fn guarded<'a, R, E: From<HeapError>>(
    memory: &Memory,
    writing: Writing<'a>,
    change: impl FnOnce() -> Result<R, E>,
) -> Result<(R, Writing<'a>), E> {
    // SAFETY: the writing is this thread's, on this memory, and outlives what is entered.
    let entered = unsafe { enter(memory) };
    let result = catch_unwind(AssertUnwindSafe(change));
    drop(entered);
    match result {
        Ok(Ok(value)) => Ok((value, writing)),
        Ok(Err(error)) => {
            writing.roll_back();
            Err(error)
        }
        Err(panic) => {
            writing.roll_back();
            if !panic.is::<Full>() {
                resume_unwind(panic);
            }
            // SAFETY: nobody writes any more.
            let used = unsafe { memory.state() }.used;
            Err(HeapError::Full {
                used,
                capacity: memory.capacity(),
            }
            .into())
        }
    }
}
