//! Writes beforehand where the life before has written: for standbys of a warm image.
//!
//! Called by `life` in a standby whose template is a life's ([`crate::warm`]). Such an image has much
//! memory, nearly all of which a life never writes to; what it does write to costs it a fault and a copy a
//! page. Which pages those are is seen at the life that runs: it has them alone, and shares the
//! others with the template. A standby is forked just after that life began, so they are the pages of a
//! beginning. The standby gets its own copies of these now.
//!
//! Must never change a byte, never fail, and never take more than a bounded time and memory: the life
//! before may have written to everything. What is missed here faults later.
//!
//! Source: `/proc/PID/maps` and `/proc/PID/pagemap` in proc(5); bits 56, 61 and 63 in the kernel's
//! admin-guide/mm/pagemap.rst.

use core::ops::Range;

use crate::life_calls::read_at;
use crate::syscalls::{self, Fd, POPULATE_WRITE};
use crate::text::write_number;

/// A page of an x86-64, in bytes. Other machines have pages of several sizes; there nothing is done.
const PAGE: usize = 4 << 10;
/// The most that is copied, in pages.
const MOST: usize = 8 << 10;
/// How many entries of a pagemap are read at a time.
const ENTRIES: usize = 256;
/// Present, of no file, and mapped by this process alone.
const ALONE: u64 = 1 << 63 | 1 << 56;
const OF_A_FILE: u64 = 1 << 61;

/// Sets up what the life of pid `life`, of the same image, has written to since its fork.
pub fn beforehand(life: u32) {
    if !cfg!(target_arch = "x86_64") {
        return;
    }
    let mut path = [0u8; 32];
    let Some(path) = pagemap_path(&mut path, life) else {
        return;
    };
    let Ok(maps) = syscalls::open_to_read(c"/proc/self/maps") else {
        return;
    };
    if let Ok(pages) = syscalls::open_to_read(path) {
        let mut left = MOST;
        let mut lines = Lines::default();
        let mut buffer = [0; 512];
        while let Ok(len @ 1..) = syscalls::read(maps, &mut buffer) {
            for byte in buffer.iter().take(len) {
                if let Some(range) = lines.take(*byte) {
                    copy(pages, range, &mut left);
                }
            }
        }
        syscalls::close(pages);
    }
    syscalls::close(maps);
}

/// `/proc/PID/pagemap`.
fn pagemap_path(buffer: &mut [u8; 32], pid: u32) -> Option<&core::ffi::CStr> {
    let (front, rest) = buffer.split_at_mut(6);
    front.copy_from_slice(b"/proc/");
    let digits = write_number(rest, pid);
    let name = b"/pagemap\0";
    rest.get_mut(digits..digits + name.len())?
        .copy_from_slice(name);
    core::ffi::CStr::from_bytes_until_nul(buffer).ok()
}

/// Copies the pages of one mapping that the other life has alone.
fn copy(pages: Fd, range: Range<usize>, left: &mut usize) {
    let mut at = range.start;
    let mut run = at..at;
    while at < range.end && *left > 0 {
        let mut buffer = [0; ENTRIES * 8];
        let wanted = ((range.end - at) / PAGE).min(ENTRIES);
        let Some(part) = buffer.get_mut(..wanted * 8) else {
            break;
        };
        let Ok(len @ 8..) = read_at(pages, part, at / PAGE * 8) else {
            break;
        };
        for entry in part.as_chunks().0.iter().take(len / 8) {
            let entry = u64::from_le_bytes(*entry);
            if entry & ALONE == ALONE && entry & OF_A_FILE == 0 && *left > 0 {
                if run.end != at {
                    flush(&run);
                    run = at..at;
                }
                run.end += PAGE;
                *left -= 1;
            }
            at += PAGE;
        }
    }
    flush(&run);
}

fn flush(run: &Range<usize>) {
    if !run.is_empty() {
        let _ = syscalls::populate(run.start, run.len(), POPULATE_WRITE);
    }
}

/// Reads `/proc/PID/maps` a byte at a time, so that no line is too long.
#[derive(Default)]
struct Lines {
    field: Field,
    start: usize,
    end: usize,
    rights: [u8; 4],
    seen: usize,
}

#[derive(Clone, Copy, Default)]
enum Field {
    #[default]
    Start,
    End,
    Rights,
    Rest,
}

impl Lines {
    /// Takes the next byte; answers a mapping that is private and writable once its line says so.
    fn take(&mut self, byte: u8) -> Option<Range<usize>> {
        match (self.field, byte) {
            (Field::Start, b'-') => self.field = Field::End,
            (Field::Start, _) => self.start = self.start << 4 | digit(byte),
            (Field::End, b' ') => self.field = Field::Rights,
            (Field::End, _) => self.end = self.end << 4 | digit(byte),
            (Field::Rights, b' ') => {
                self.field = Field::Rest;
                return (self.rights == *b"rw-p").then_some(self.start..self.end);
            }
            (Field::Rights, _) => {
                if let Some(place) = self.rights.get_mut(self.seen) {
                    *place = byte;
                }
                self.seen += 1;
            }
            (Field::Rest, b'\n') => *self = Self::default(),
            (Field::Rest, _) => {}
        }
        None
    }
}

/// The value of a hexadecimal digit, which the kernel writes in lower case.
fn digit(byte: u8) -> usize {
    usize::from(match byte {
        b'0'..=b'9' => byte - b'0',
        _ => byte.wrapping_sub(b'a' - 10) & 15,
    })
}
