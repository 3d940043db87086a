//! The catalogue of a bank in memory (tmpfs), mapped: a change of it is a few stores and no system
//! call. The only unsafe code of this crate; called by `store` alone.
//!
//! It must never be read from: what the catalogue holds is known from the time it was opened, so
//! that no value a foreign hand wrote there in the meantime can mislead the controller. It is used
//! for tmpfs only, where `fallocate` has provided every page. On a disk a store into a mapping can
//! fault (a copy-on-write file system that is full, a bad sector), so the disk's catalogue is
//! written with `pwrite` and its errors are errors.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::BorrowedFd;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU64, Ordering, fence};

use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// A file mapped shared and writable, unmapped when dropped.
#[derive(Debug)]
pub(crate) struct Mapping {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: the mapping belongs to this value alone and is tied to no thread; it is written through
// `&mut self` only.
unsafe impl Send for Mapping {}

impl Mapping {
    /// Maps the first `len` bytes of `fd`, which holds at least as many.
    ///
    /// # Errors
    /// What mmap(2) reports.
    pub(crate) fn new(fd: BorrowedFd<'_>, len: usize) -> io::Result<Self> {
        let prot = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice, so no memory of this process
        // is replaced.
        let base = unsafe { mmap(ptr::null_mut(), len, prot, MapFlags::SHARED, fd, 0) }?;
        let base = NonNull::new(base.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { base, len })
    }

    /// Stores `bytes` at offset `at`. Every earlier store comes before these.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] when they do not lie in the mapping.
    pub(crate) fn put(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        let target = self.at(at, bytes.len())?;
        fence(Ordering::SeqCst);
        // SAFETY: `at` has checked that the target's bytes lie in the mapping, which `&mut self`
        // borrows alone; `bytes` is memory of Rust's and so does not overlap it.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), target.as_ptr(), bytes.len()) };
        Ok(())
    }

    /// Stores a word at offset `at` in one instruction. Every earlier store comes before it.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] when it does not lie in the mapping on a multiple of 8.
    pub(crate) fn commit(&mut self, at: u64, word: u64) -> io::Result<()> {
        let target = self.at(at, size_of::<u64>())?;
        if !at.is_multiple_of(8) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        // SAFETY: the target lies in the mapping, is a multiple of 8 from its page-aligned base,
        // and is stored to through atomics or `&mut self` only.
        let target = unsafe { AtomicU64::from_ptr(target.as_ptr().cast()) };
        target.store(word.to_le(), Ordering::SeqCst);
        Ok(())
    }

    fn at(&self, at: u64, len: usize) -> io::Result<NonNull<u8>> {
        let start = usize::try_from(at).map_err(|_| io::ErrorKind::InvalidInput)?;
        if start.checked_add(len).is_none_or(|end| end > self.len) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        // SAFETY: `start` is at most the mapping's length, so the pointer stays in the mapping.
        Ok(unsafe { self.base.add(start) })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: base and length are those of the mapping that `new` made, and no pointer into it
        // is handed out. munmap of a whole mapping does not fail.
        let _ = unsafe { munmap(self.base.as_ptr().cast(), self.len) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;
    use std::os::unix::fs::FileExt;

    #[test]
    fn stores_reach_the_file_and_none_reaches_past_it() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(4096).unwrap();
        let mut mapping = Mapping::new(file.as_fd(), 4096).unwrap();
        mapping.put(4090, b"behind").unwrap();
        mapping.commit(8, 0x0102_0304_0506_0708).unwrap();
        assert!(mapping.put(4091, b"behind").is_err());
        assert!(mapping.put(u64::MAX, b"x").is_err());
        assert!(mapping.commit(4092, 1).is_err());
        assert!(mapping.commit(4, 1).is_err());
        let mut back = [0; 8];
        file.read_exact_at(&mut back, 8).unwrap();
        assert_eq!(back, [8, 7, 6, 5, 4, 3, 2, 1]);
        file.read_exact_at(&mut back[..6], 4090).unwrap();
        assert_eq!(&back[..6], b"behind");
    }
}
