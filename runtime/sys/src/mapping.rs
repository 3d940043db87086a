//! Shared memory: control pages, blocks at their fixed address, and byte ranges for a catalogue.
//!
//! Called by the controller, the bank and the library that actors link. What is mapped here may be
//! written by another process at any time: it is read through atomics or raw pointers, and never
//! lent out as `&[u8]`. Must never replace a mapping that is already there.
#![allow(unsafe_code)]

use std::ffi::c_void;
use std::io;
use std::ops::{Deref, Range};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use refrain_abi::control::{ControlPage, MAGIC, PAGE_SIZE, VERSION};
use rustix::mm::{Advice, MapFlags, MsyncFlags, ProtFlags};

use crate::memfd;

/// A mapping that is unmapped when it is dropped.
#[derive(Debug)]
struct Region {
    address: NonNull<u8>,
    len: usize,
}

// SAFETY: a mapping belongs to the whole process; which thread unmaps it makes no difference.
unsafe impl Send for Region {}
// SAFETY: a Region hands out addresses only; whoever dereferences one argues for it there.
unsafe impl Sync for Region {}

impl Region {
    /// Maps `len` bytes from the start of `fd`, at an address of the kernel's choice or at `hint`.
    fn map(
        fd: BorrowedFd<'_>,
        hint: usize,
        len: usize,
        prot: ProtFlags,
        flags: MapFlags,
    ) -> io::Result<Self> {
        // SAFETY: without MAP_FIXED (which no caller passes) a new mapping never replaces memory
        // that is in use; with MAP_FIXED_NOREPLACE neither.
        let address = unsafe {
            rustix::mm::mmap(
                std::ptr::without_provenance_mut(hint),
                len,
                prot,
                flags,
                fd,
                0,
            )
        }?;
        let address = NonNull::new(address.cast()).ok_or(io::ErrorKind::AddrNotAvailable)?;
        Ok(Self { address, len })
    }

    fn as_void(&self) -> *mut c_void {
        self.address.as_ptr().cast()
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: the region was mapped by `map`, is unmapped once, and every borrow of it ended
        // with `self`. It can't fail for a range that is a whole mapping.
        let _ = unsafe { rustix::mm::munmap(self.as_void(), self.len) };
    }
}

/// The size of a page in bytes: blocks are whole numbers of it.
#[must_use]
pub fn page_size() -> u64 {
    rustix::param::page_size() as u64
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// A control page, shared with an actor and its template. Derefs to its words.
#[derive(Debug)]
pub struct ControlPageMapping(Region);

impl Deref for ControlPageMapping {
    type Target = ControlPage;

    fn deref(&self) -> &ControlPage {
        let page = self.0.address.cast::<ControlPage>();
        // SAFETY: the mapping is PAGE_SIZE bytes long, page-aligned and lives as long as `self`;
        // its memfd is sealed against shrinking or was checked to be that long; every field is an
        // atomic, so that writes of other processes are no data race.
        unsafe { page.as_ref() }
    }
}

/// Creates a control page: a memfd of [`PAGE_SIZE`] bytes with its size sealed, magic and version
/// written.
///
/// # Errors
/// The kernel's (no fds, no memory).
pub fn create_control_page() -> io::Result<(OwnedFd, ControlPageMapping)> {
    let fd = memfd::create("refrain-control", false)?;
    rustix::fs::ftruncate(&fd, PAGE_SIZE as u64)?;
    memfd::seal_size(fd.as_fd())?;
    let page = map_page(fd.as_fd())?;
    page.magic.store(MAGIC, Ordering::Relaxed);
    page.version.store(VERSION, Ordering::Release);
    Ok((fd, page))
}

/// Maps a control page that somebody passed.
///
/// # Errors
/// `InvalidData` when it has another size, magic or version; else the kernel's.
pub fn map_control_page(fd: BorrowedFd<'_>) -> io::Result<ControlPageMapping> {
    if rustix::fs::fstat(fd)?.st_size != PAGE_SIZE as i64 {
        return Err(invalid("not a control page: wrong size"));
    }
    let page = map_page(fd)?;
    if page.magic.load(Ordering::Relaxed) != MAGIC {
        return Err(invalid("not a control page: wrong magic"));
    }
    if page.version.load(Ordering::Relaxed) != VERSION {
        return Err(invalid("control page of another version of refrain"));
    }
    Ok(page)
}

fn map_page(fd: BorrowedFd<'_>) -> io::Result<ControlPageMapping> {
    let prot = ProtFlags::READ | ProtFlags::WRITE;
    // Populated: the controller's store on the restart path must not fault.
    let flags = MapFlags::SHARED | MapFlags::POPULATE;
    Region::map(fd, 0, PAGE_SIZE, prot, flags).map(ControlPageMapping)
}

/// A block of persistent memory, mapped at its own address (SPEC H11).
#[derive(Debug)]
pub struct BlockMapping(Region);

impl BlockMapping {
    /// Where it begins. Valid for [`BlockMapping::len`] bytes while this object lives, or for ever
    /// after [`BlockMapping::leak`].
    #[must_use]
    pub fn as_ptr(&self) -> *mut u8 {
        self.0.address.as_ptr()
    }

    /// Its size in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len
    }

    /// Whether it holds no byte; never so.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.len == 0
    }

    /// The block as 64-bit words, the one size of access that every actor of this library uses.
    #[must_use]
    pub fn words(&self) -> &[AtomicU64] {
        let first = self.0.address.cast::<AtomicU64>();
        // SAFETY: the mapping is page-aligned, a whole number of pages long (checked when it was
        // mapped) and lives as long as `self`; any bytes are a valid word, and atomics make writes
        // of other threads and processes no data race.
        unsafe { std::slice::from_raw_parts(first.as_ptr(), self.0.len / size_of::<AtomicU64>()) }
    }

    /// Keeps it mapped until the process ends.
    pub fn leak(self) -> *mut u8 {
        let address = self.as_ptr();
        std::mem::forget(self);
        address
    }

    /// Writes the block's pages to the file's storage and waits for it; in a bank on tmpfs there is none.
    ///
    /// # Errors
    /// The kernel's (EIO).
    ///
    /// Source: MS_SYNC in msync(2).
    pub fn flush(&self) -> io::Result<()> {
        // SAFETY: the range is this mapping, and MS_SYNC changes no byte of it.
        Ok(unsafe { rustix::mm::msync(self.0.as_void(), self.0.len, MsyncFlags::SYNC) }?)
    }

    /// Sets up the page tables now, so that no later access faults. Kernels before 5.14 can't.
    ///
    /// # Errors
    /// EINVAL on older kernels; the kernel's where there is no memory.
    ///
    /// Source: MADV_POPULATE_WRITE in madvise(2).
    pub fn populate(&self) -> io::Result<()> {
        // SAFETY: the range is this mapping; populating it changes no byte.
        Ok(unsafe {
            rustix::mm::madvise(self.0.as_void(), self.0.len, Advice::LinuxPopulateWrite)
        }?)
    }
}

/// Maps a block read-write at exactly `address`, over nothing that is there.
///
/// # Errors
/// `AlreadyExists` (EEXIST) when something is mapped in the range; `InvalidInput` for an address
/// or a size that is no multiple of the page size, or size 0; else the kernel's.
///
/// Source: MAP_FIXED_NOREPLACE in mmap(2).
pub fn map_block_fixed(fd: BorrowedFd<'_>, address: u64, size: usize) -> io::Result<BlockMapping> {
    let hint = usize::try_from(address).map_err(|_| io::ErrorKind::InvalidInput)?;
    let page = rustix::param::page_size();
    if hint == 0 || !hint.is_multiple_of(page) || size == 0 || !size.is_multiple_of(page) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    if rustix::fs::fstat(fd)?.st_size < size as i64 {
        return Err(invalid("the file is shorter than the block"));
    }
    let prot = ProtFlags::READ | ProtFlags::WRITE;
    let flags = MapFlags::SHARED | MapFlags::FIXED_NOREPLACE;
    let region = Region::map(fd, hint, size, prot, flags)?;
    // Kernels before 4.17, and some emulators, take the address for a mere hint.
    if region.address.as_ptr().addr() != hint {
        return Err(rustix::io::Errno::EXIST.into());
    }
    Ok(BlockMapping(region))
}

/// Bytes of a file, shared with whoever else maps it.
#[derive(Debug)]
pub struct SharedBytes(Region);

impl SharedBytes {
    /// Where they begin; valid for [`SharedBytes::len`] bytes while this object lives.
    #[must_use]
    pub fn as_ptr(&self) -> *mut u8 {
        self.0.address.as_ptr()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len
    }

    /// Whether there is none; never so.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.len == 0
    }

    /// Writes the bytes of `range`, widened to whole pages, to the file's storage and waits for it.
    ///
    /// # Errors
    /// `InvalidInput` for a range outside; else the kernel's (EIO).
    ///
    /// Source: MS_SYNC in msync(2).
    pub fn flush(&self, range: Range<usize>) -> io::Result<()> {
        if range.start > range.end || range.end > self.0.len {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let from = range.start - range.start % rustix::param::page_size();
        let address = self.as_ptr().wrapping_add(from).cast();
        // SAFETY: the range lies within this mapping, and MS_SYNC changes no byte of it.
        Ok(unsafe { rustix::mm::msync(address, range.end - from, MsyncFlags::SYNC) }?)
    }
}

/// Maps the first `size` bytes of a file, shared; read-only unless `writable`.
///
/// # Errors
/// `InvalidData` when the file is shorter (an access would fault); else the kernel's.
///
/// Source: MAP_SHARED in mmap(2).
pub fn map_shared(fd: BorrowedFd<'_>, size: usize, writable: bool) -> io::Result<SharedBytes> {
    if rustix::fs::fstat(fd)?.st_size < size as i64 {
        return Err(invalid("the file is shorter than what is to be mapped"));
    }
    let prot = if writable {
        ProtFlags::READ | ProtFlags::WRITE
    } else {
        ProtFlags::READ
    };
    Region::map(fd, 0, size, prot, MapFlags::SHARED).map(SharedBytes)
}

/// Words of a memfd, shared with whoever else maps it.
#[derive(Debug)]
pub struct SharedWords(Region);

impl Deref for SharedWords {
    type Target = [AtomicU64];

    fn deref(&self) -> &[AtomicU64] {
        let first = self.0.address.cast::<AtomicU64>();
        // SAFETY: the mapping is page-aligned and lives as long as `self`; its file was checked to be
        // that long and is sealed against shrinking; any bytes are a valid word, and atomics make
        // writes of others no data race.
        unsafe { std::slice::from_raw_parts(first.as_ptr(), self.0.len / size_of::<AtomicU64>()) }
    }
}

/// Creates a memfd of `count` words, all 0, with its size sealed. Memory is taken page by page, as words
/// are written.
///
/// # Errors
/// The kernel's (no fds, no memory).
pub fn create_words(name: &str, count: usize) -> io::Result<(OwnedFd, SharedWords)> {
    let fd = memfd::create(name, false)?;
    rustix::fs::ftruncate(&fd, (count * size_of::<AtomicU64>()) as u64)?;
    memfd::seal_size(fd.as_fd())?;
    let words = map_words(fd.as_fd())?;
    Ok((fd, words))
}

/// Maps the words of such a memfd, to its end.
///
/// # Errors
/// `InvalidData` when its size is no whole number of words, or not sealed; else the kernel's.
pub fn map_words(fd: BorrowedFd<'_>) -> io::Result<SharedWords> {
    let len = usize::try_from(rustix::fs::fstat(fd)?.st_size).unwrap_or(0);
    if len == 0 || !len.is_multiple_of(size_of::<AtomicU64>()) {
        return Err(invalid("no memfd of words: wrong size"));
    }
    if !rustix::fs::fcntl_get_seals(fd)?.contains(rustix::fs::SealFlags::SHRINK) {
        return Err(invalid("no memfd of words: its size is not sealed"));
    }
    let prot = ProtFlags::READ | ProtFlags::WRITE;
    Region::map(fd, 0, len, prot, MapFlags::SHARED).map(SharedWords)
}
