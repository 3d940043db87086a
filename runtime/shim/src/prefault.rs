//! Sets up the page tables of the next life while the present one runs.
//!
//! Called by `life` in a standby, before it sleeps. Only sets up tables, never changes a byte, and
//! never fails: what is not prefaulted faults later.
//!
//! What is prefaulted is bounded, because every page that a life has mapped is also unmapped at its
//! end, which is on the restart path: 44 us a MiB even for a mapping whose memory lives on
//! (large programs, node above all, touch a small part of their text). Faults on text bring 16 pages
//! at once anyhow.

use core::ffi::{c_int, c_void};

use crate::syscalls::{POPULATE_READ, POPULATE_WRITE, populate};

/// A read-only segment larger than this is left to faults, in bytes.
const MAX_TEXT: usize = 2 << 20;
/// No more than this of a writable segment, in bytes.
const MAX_DATA: usize = 4 << 20;
/// How much of the stack, in bytes.
const STACK: usize = 64 << 10;
/// Fits every page size: populating rounds to whole pages, but wants its address aligned.
const PAGE: usize = if cfg!(target_arch = "aarch64") {
    64 << 10
} else {
    4 << 10
};

const PT_LOAD: u32 = 1;
const PT_GNU_RELRO: u32 = 0x6474_e552;
const PF_W: u32 = 2;

/// `Elf64_Phdr`.
#[repr(C)]
#[derive(Debug)]
pub struct ProgramHeader {
    kind: u32,
    flags: u32,
    offset: u64,
    address: u64,
    physical: u64,
    file_size: u64,
    memory_size: u64,
    align: u64,
}

/// The front of `struct dl_phdr_info`.
#[repr(C)]
#[derive(Debug)]
pub struct ObjectInfo {
    base: usize,
    name: *const u8,
    headers: *const ProgramHeader,
    count: u16,
}

/// Called by `dl_iterate_phdr` for every loaded object.
///
/// # Safety
/// `info` points to one object's information with valid program headers.
pub unsafe extern "C" fn object(info: *const ObjectInfo, _: usize, _: *mut c_void) -> c_int {
    // SAFETY: the caller's promise.
    let info = unsafe { &*info };
    // SAFETY: the caller's promise.
    let headers = unsafe { core::slice::from_raw_parts(info.headers, usize::from(info.count)) };
    let range = |header: &ProgramHeader| {
        let start = info.base.wrapping_add(header.address as usize);
        start..start.wrapping_add(header.memory_size as usize)
    };
    // What is read-only after relocation lies at the front of the writable segment.
    let relro = headers
        .iter()
        .find(|header| header.kind == PT_GNU_RELRO)
        .map(range);
    for header in headers.iter().filter(|header| header.kind == PT_LOAD) {
        let mut segment = range(header);
        if header.flags & PF_W == 0 {
            if segment.len() <= MAX_TEXT {
                pages(segment, POPULATE_READ);
            }
            continue;
        }
        if let Some(relro) = relro
            .as_ref()
            .filter(|relro| segment.contains(&relro.start))
        {
            pages(relro.start..relro.end & !(PAGE - 1), POPULATE_READ);
            segment.start = relro.end & !(PAGE - 1);
        }
        segment.end = segment.end.min(segment.start + MAX_DATA);
        pages(segment, POPULATE_WRITE);
    }
    0
}

/// The stack below the caller's frame.
pub fn stack() {
    let here = 0u8;
    let end = (&raw const here).addr();
    pages(end - STACK..end, POPULATE_WRITE);
}

/// Writable memory of ours.
pub fn writable(range: core::ops::Range<usize>) {
    pages(range, POPULATE_WRITE);
}

fn pages(range: core::ops::Range<usize>, how: usize) {
    let start = range.start & !(PAGE - 1);
    let end = (range.end + PAGE - 1) & !(PAGE - 1);
    if start < end {
        let _ = populate(start, end - start, how);
    }
}
