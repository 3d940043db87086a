//! Pages that are saved before their first write, so that all writes since can be taken back.
//!
//! Called by the heap in `runtime/data`. A range of shared pages is read-only. While a *writing* is open,
//! the first write to a page faults; the handler copies the page as it is into the *saved pages*, counts
//! it there by one atomic store, and makes the page writable. Closing the writing makes the range
//! read-only again; what was saved is forgotten (commit) or copied back (roll back).
//!
//! # Why a crash at any instruction leaves it whole
//! A crash of a life loses no store that was executed: the pages are shared with a file in memory. So what
//! matters is the order of stores, which the compiler keeps because the count is stored with Release:
//!
//! - The copy of a page and its number are written before the count is raised, and the page can be written
//!   only after that. So whatever has changed is among the pages that are counted.
//! - Committing is the store of 0 into the count: before it, an opening copies every counted page back;
//!   after it, none.
//! - Copying back writes the same bytes however often it is begun, and 0 is stored when all is done.
//!
//! A page at or above `fresh_from` holds nothing before the writing, so it is not saved.
//!
//! # Living with other handlers
//! A fault is ours where its address is in the range of the writing that this thread has open, the page is
//! there and was not writable. All else is passed on to the handler that was there before. Where that was
//! the default, the default is put back and the signal is queued to this thread once more with its own
//! siginfo, so that the process ends as it would have; under Refrain's shim, the default is the shim's
//! handler. `begin` looks whether the handler is still ours and installs it again before another one.
//!
//! Must never unwind or allocate in the handler, and never make a page writable that was not saved.
//!
//! Source: mprotect(2), sigaction(2), rt_tgsigqueueinfo(2).
#![allow(unsafe_code)]

use std::cell::Cell;
use std::io;
use std::marker::PhantomData;
use std::ops::Range;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use crate::fault_chain;

/// How many pages at most are saved at one fault, where pages are written one after the other. Copying a
/// page costs a tenth of a fault.
const LARGEST_STRIDE: usize = 32;
/// After so many faults of one writing, each takes a [`CHUNK`]: the kernel has a mapping for each run of
/// writable pages, and 65,530 for everything (vm.max_map_count).
const MANY_FAULTS: usize = 16_384;
/// That chunk, in pages.
const CHUNK: usize = 512;

thread_local! {
    /// What this thread has open: the innermost.
    static OPEN: Cell<*const Pages> = const { Cell::new(ptr::null()) };
}

/// Where the pages are, and where they are saved. All of it is shared memory that outlives the life.
#[derive(Clone, Copy, Debug)]
pub struct Places {
    /// The first page.
    pub pages: NonNull<u8>,
    /// How many there are.
    pub len: usize,
    /// As many pages, for copies.
    pub saved: NonNull<u8>,
    /// As many numbers: which page the copy of the same place is of.
    pub numbers: NonNull<AtomicU32>,
    /// How many copies count.
    pub count: NonNull<AtomicU64>,
}

/// A range of pages that can be written in a [`Writing`] only.
#[derive(Debug)]
pub struct Pages {
    places: Places,
    page: usize,
    /// A bit for each page that is writable now.
    writable: Box<[AtomicU64]>,
    /// No page from here on needs to be saved.
    fresh_from: AtomicUsize,
    /// One past the last page at or above `fresh_from` that is writable.
    fresh_end: AtomicUsize,
    /// The page after those of the last fault, and how many those were.
    next: AtomicUsize,
    stride: AtomicUsize,
    faults: AtomicUsize,
    /// How many pages were saved since the range was read-only.
    saved: AtomicUsize,
    is_open: AtomicBool,
    /// Whether the whole range is read-only.
    is_closed: AtomicBool,
}

// SAFETY: the places are shared memory of the whole process; which thread uses them makes no difference,
// because there is one writing at a time and only its thread writes.
unsafe impl Send for Pages {}
// SAFETY: as above; everything that changes is atomic.
unsafe impl Sync for Pages {}

fn damaged(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

impl Pages {
    /// Takes back what an earlier life left half done, and makes the range read-only.
    ///
    /// # Errors
    /// `InvalidData` when the numbers of saved pages make no sense: nothing was changed then. The kernel's.
    ///
    /// # Safety
    /// `places` are mapped shared, readable and writable, disjoint, `pages` and `saved` at a multiple of
    /// the page size; they stay so until the `Pages` are dropped. No reference leads into the pages or
    /// the saved ones while this function runs, and nobody else writes to any of it.
    pub unsafe fn new(places: Places) -> io::Result<Self> {
        let page = rustix::param::page_size();
        let pages = Self {
            places,
            page,
            writable: (0..places.len.div_ceil(64))
                .map(|_| AtomicU64::new(0))
                .collect(),
            fresh_from: AtomicUsize::new(places.len),
            fresh_end: AtomicUsize::new(0),
            next: AtomicUsize::new(usize::MAX),
            stride: AtomicUsize::new(1),
            faults: AtomicUsize::new(0),
            saved: AtomicUsize::new(0),
            is_open: AtomicBool::new(false),
            is_closed: AtomicBool::new(false),
        };
        let saved = usize::try_from(pages.count().load(Ordering::Acquire))
            .ok()
            .filter(|saved| *saved <= places.len)
            .ok_or_else(|| damaged("more pages are saved than there are"))?;
        if (0..saved).any(|at| pages.number(at).load(Ordering::Relaxed) as usize >= places.len) {
            return Err(damaged("a page is saved that does not exist"));
        }
        pages.copy_back();
        pages.close()?;
        Ok(pages)
    }

    fn count(&self) -> &AtomicU64 {
        // SAFETY: valid and shared for as long as `self` lives, by the promise of `new`.
        unsafe { self.places.count.as_ref() }
    }

    /// Below `places.len` only.
    fn number(&self, at: usize) -> &AtomicU32 {
        debug_assert!(at < self.places.len, "a number outside");
        // SAFETY: there are `places.len` of them, by the promise of `new`.
        let number = unsafe { self.places.numbers.add(at) };
        // SAFETY: as in `count`.
        unsafe { number.as_ref() }
    }

    fn address(&self, page: usize) -> *mut u8 {
        self.places.pages.as_ptr().wrapping_add(page * self.page)
    }

    fn copy_of(&self, at: usize) -> *mut u8 {
        self.places.saved.as_ptr().wrapping_add(at * self.page)
    }

    fn bit(&self, page: usize) -> (&AtomicU64, u64) {
        (&self.writable[page / 64], 1 << (page % 64))
    }

    fn is_writable(&self, page: usize) -> bool {
        let (word, bit) = self.bit(page);
        word.load(Ordering::Relaxed) & bit != 0
    }

    /// Copies every page that counts back to where it was, then counts none. The range is writable where
    /// such pages are. The numbers have been checked.
    fn copy_back(&self) {
        let saved = (self.count().load(Ordering::Acquire) as usize).min(self.places.len);
        for at in 0..saved {
            let page = self.number(at).load(Ordering::Relaxed) as usize;
            // SAFETY: both are whole pages inside their areas, which are disjoint; the page is writable,
            // because it was made so after it was counted, or because nothing is read-only yet (`new`).
            unsafe { ptr::copy_nonoverlapping(self.copy_of(at), self.address(page), self.page) };
        }
        self.count().store(0, Ordering::Release);
    }

    /// Forgets which pages are writable, and makes none so. Takes as long as there are such pages: the
    /// kernel passes over mappings that are read-only already.
    fn close(&self) -> io::Result<()> {
        self.is_closed.store(false, Ordering::Relaxed);
        self.protect(0..self.places.len, libc::PROT_READ)?;
        for at in 0..self.saved.load(Ordering::Relaxed) {
            let page = self.number(at).load(Ordering::Relaxed) as usize;
            if let Some(word) = self.writable.get(page / 64) {
                word.store(0, Ordering::Relaxed);
            }
        }
        let fresh = self.fresh_from.load(Ordering::Relaxed) / 64
            ..self.fresh_end.load(Ordering::Relaxed).div_ceil(64);
        for word in self.writable.get(fresh).unwrap_or_default() {
            word.store(0, Ordering::Relaxed);
        }
        self.saved.store(0, Ordering::Relaxed);
        self.fresh_end.store(0, Ordering::Relaxed);
        self.is_closed.store(true, Ordering::Relaxed);
        Ok(())
    }

    fn protect(&self, pages: Range<usize>, prot: i32) -> io::Result<()> {
        let len = pages.len() * self.page;
        // SAFETY: the pages are inside the range, which is ours to protect by the promise of `new`. No
        // reference to them is used for writing while they are read-only: a `Writing` borrows `self`.
        match unsafe { libc::mprotect(self.address(pages.start).cast(), len, prot) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Lets this thread write, until the [`Writing`] is committed, rolled back or dropped (which rolls it
    /// back). Pages from `fresh_from` on hold nothing that anybody will want back.
    ///
    /// `expected` are pages that will surely be written: they are saved now, which costs less than a fault.
    ///
    /// # Errors
    /// `WouldBlock` when a writing is open; the kernel's.
    pub fn begin(&self, fresh_from: usize, expected: Range<usize>) -> io::Result<Writing<'_>> {
        if self.is_open.swap(true, Ordering::Acquire) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let was_blocked = self
            .prepare()
            .inspect_err(|_| self.is_open.store(false, Ordering::Release))?;
        self.fresh_from.store(fresh_from, Ordering::Relaxed);
        self.next.store(usize::MAX, Ordering::Relaxed);
        self.stride.store(1, Ordering::Relaxed);
        self.faults.store(0, Ordering::Relaxed);
        let outer = OPEN.replace(self);
        let writing = Writing {
            pages: self,
            outer,
            was_blocked,
            on_this_thread: PhantomData,
        };
        let expected = expected.start..expected.end.min(self.places.len);
        if !expected.is_empty() {
            self.open_pages(expected)?;
        }
        Ok(writing)
    }

    /// Whether SIGSEGV was blocked in this thread: then a fault would end the process unseen.
    fn prepare(&self) -> io::Result<bool> {
        if !self.is_closed.load(Ordering::Relaxed) {
            self.close()?;
        }
        fault_chain::install(libc::SIGSEGV, on_fault)?;
        fault_chain::set_blocked(libc::SIGSEGV, false)
    }

    /// Saves pages and makes them writable.
    fn open_pages(&self, pages: Range<usize>) -> io::Result<()> {
        for page in pages.clone() {
            self.save(page);
        }
        self.protect(pages, libc::PROT_READ | libc::PROT_WRITE)
    }

    /// Saves a page, unless that was done or need not be.
    fn save(&self, page: usize) {
        let (word, bit) = self.bit(page);
        if word.load(Ordering::Relaxed) & bit != 0 {
            return;
        }
        if page >= self.fresh_from.load(Ordering::Relaxed) {
            self.fresh_end.fetch_max(page + 1, Ordering::Relaxed);
        } else {
            let at = self.count().load(Ordering::Relaxed) as usize;
            // Each page is saved once, so there is room for it.
            if at >= self.places.len {
                return;
            }
            // SAFETY: both are whole pages inside their areas, which are disjoint; the page is readable.
            unsafe { ptr::copy_nonoverlapping(self.address(page), self.copy_of(at), self.page) };
            self.number(at).store(page as u32, Ordering::Relaxed);
            self.count().store(at as u64 + 1, Ordering::Release);
            self.saved.store(at + 1, Ordering::Relaxed);
        }
        word.store(word.load(Ordering::Relaxed) | bit, Ordering::Relaxed);
    }

    /// What the handler does with a fault at `address`; answers whether it was a first write.
    fn first_write(&self, address: usize) -> bool {
        let offset = address.wrapping_sub(self.places.pages.as_ptr().addr());
        let page = offset / self.page;
        if page >= self.places.len || self.is_writable(page) {
            return false;
        }
        let stride = self.stride(page);
        let end = (page + stride).min(self.places.len);
        let chunk = page / CHUNK * CHUNK;
        let chunk_end = (chunk + CHUNK).min(self.places.len);
        let few = self.faults.fetch_add(1, Ordering::Relaxed) < MANY_FAULTS;
        // The kernel may be out of mappings: opening more at once needs fewer of them.
        (few && self.open_pages(page..end).is_ok())
            || self.open_pages(chunk..chunk_end).is_ok()
            || self.open_pages(0..self.places.len).is_ok()
    }

    /// How many pages to open for a fault at `page`: twice as many as for the last one, where this one
    /// comes right after those.
    fn stride(&self, page: usize) -> usize {
        let goes_on = page == self.next.load(Ordering::Relaxed);
        let last = self.stride.load(Ordering::Relaxed);
        let stride = if goes_on {
            (last * 2).min(LARGEST_STRIDE)
        } else {
            1
        };
        self.stride.store(stride, Ordering::Relaxed);
        self.next.store(page + stride, Ordering::Relaxed);
        stride
    }
}

impl Drop for Pages {
    /// Whoever maps the memory finds it writable, as it was.
    fn drop(&mut self) {
        // It can't fail for the whole range, which is one mapping or few.
        let _ = self.protect(0..self.places.len, libc::PROT_READ | libc::PROT_WRITE);
    }
}

/// Leave to write to [`Pages`], for the thread that it was made on.
#[derive(Debug)]
#[must_use = "dropping it takes back what was written"]
pub struct Writing<'a> {
    pages: &'a Pages,
    outer: *const Pages,
    was_blocked: bool,
    on_this_thread: PhantomData<*const ()>,
}

impl Writing<'_> {
    /// Makes what was written stay: one atomic store.
    pub fn commit(self) {
        self.pages.count().store(0, Ordering::Release);
        // Dropping copies back what counts: nothing.
    }

    /// Takes back what was written.
    pub fn roll_back(self) {}

    /// How many pages were saved until now.
    #[must_use]
    pub fn saved(&self) -> usize {
        self.pages.count().load(Ordering::Relaxed) as usize
    }

    /// Whether a page was written, or opened for that.
    #[must_use]
    pub fn has_opened(&self, page: usize) -> bool {
        page < self.pages.places.len && self.pages.is_writable(page)
    }
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        self.pages.copy_back();
        OPEN.set(self.outer);
        // Where it fails, the next `begin` tries again first.
        let _ = self.pages.close();
        if self.was_blocked {
            let _ = fault_chain::set_blocked(libc::SIGSEGV, true);
        }
        self.pages.is_open.store(false, Ordering::Release);
    }
}

/// The handler's part that is ours: whether the fault was a first write, and is mended.
fn on_fault(info: &libc::siginfo_t) -> bool {
    // "The page is there, and its protection forbids this": SEGV_ACCERR.
    const FORBIDDEN: i32 = 2;
    if info.si_code != FORBIDDEN {
        return false;
    }
    // SAFETY: a SIGSEGV of this code has an address.
    let address = unsafe { info.si_addr() };
    // SAFETY: whoever put it there borrows the pages until it has taken it away, on this thread.
    unsafe { OPEN.get().as_ref() }.is_some_and(|pages| pages.first_write(address.addr()))
}
