//! What the fault handler saw, for the controller: `failure` in the control page.
//!
//! Called by `fault`, in a handler, on a stack of which nothing is known. Must never touch the
//! program's memory by itself: the stack pointer may be what is broken.

use core::ffi::c_void;
use core::sync::atomic::{Ordering, fence};

use refrain_abi::control::{Failure, STACK_BYTES};

use crate::identity::Own;
use crate::life_calls::{Range, copy_if_mapped};
use crate::signal_calls::{Context, Info, can_read};

/// Below the smallest page of any machine this runs on; a copy stops at a page that is not mapped.
const PAGE: usize = 4096;

/// Who failed.
#[derive(Clone, Copy, Debug)]
pub struct Who {
    /// The process.
    pub pid: u32,
    /// The thread.
    pub tid: u32,
    /// Whether it is the only one.
    pub single: bool,
}

/// Records the signal `info`, which came when the program was at `context`.
///
/// The serial is taken out first and put in last, each ordered against the words between them:
/// whoever reads the same serial before and after has read one record.
pub fn record(own: Own, signal: i32, info: &Info, context: &Context, who: Who) {
    let failure = &own.page.failure;
    failure.serial.store(0, Ordering::Relaxed);
    fence(Ordering::Release);
    let place = context.place();
    failure.signal.store(signal as u32, Ordering::Relaxed);
    failure.code.store(info.code as u32, Ordering::Relaxed);
    // A signal that somebody sent says who it was in the place of the address.
    let address = if info.code > 0 { info.address } else { 0 };
    failure.address.store(address, Ordering::Relaxed);
    failure
        .instruction
        .store(place.instruction, Ordering::Relaxed);
    failure
        .stack_pointer
        .store(place.stack_pointer, Ordering::Relaxed);
    failure
        .frame_pointer
        .store(place.frame_pointer, Ordering::Relaxed);
    failure.link.store(place.link, Ordering::Relaxed);
    failure.thread.store(who.tid, Ordering::Relaxed);
    let len = copy_stack(failure, place.stack_pointer as usize, who);
    failure.stack_len.store(len as u32, Ordering::Relaxed);
    failure.serial.store(own.serial.0, Ordering::Release);
}

/// Copies the stack upwards from `start`; answers how many bytes there are.
///
/// Where nobody else could unmap it meanwhile, the kernel is asked whether it is there, and it is read:
/// its own copy (process_vm_readv) takes ten times as long.
fn copy_stack(failure: &Failure, start: usize, who: Who) -> usize {
    let first = STACK_BYTES.min(PAGE - start % PAGE);
    let parts = [
        Range { start, len: first },
        Range {
            start: start.wrapping_add(first),
            len: STACK_BYTES - first,
        },
    ];
    if !who.single {
        let to = failure.stack.as_ptr().cast_mut().cast::<c_void>();
        // SAFETY: the words are STACK_BYTES long; they are atomics, which allow writes beside them.
        return unsafe { copy_if_mapped(who.pid, &parts, to) }.unwrap_or(0);
    }
    let there = parts
        .iter()
        .take_while(|part| part.len == 0 || can_read(part.start & !7));
    let len = there.map(|part| part.len).sum::<usize>() & !7;
    let from = core::ptr::with_exposed_provenance::<u64>(start);
    for (index, word) in failure.stack.iter().take(len / 8).enumerate() {
        // SAFETY: each page from `start` to `start + len` was read by the kernel just now, and this
        // process has no other thread that could take it away.
        let value = unsafe { from.wrapping_add(index).read_unaligned() };
        word.store(value, Ordering::Relaxed);
    }
    len
}
