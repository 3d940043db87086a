//! The copy of a failure record.
//!
//! Made by the engine from the control page before the next failure may overwrite it, then passed to
//! [`super::explain`]. It must never give its stack bytes to anybody but the unwinder: they may hold
//! secrets, so it has no `Serialize` and its `Debug` leaves them out.

use std::fmt;
use std::sync::atomic::Ordering::{Acquire, Relaxed};
use std::sync::atomic::fence;

use refrain_abi::Serial;
use refrain_abi::control::{ControlPage, STACK_BYTES};

/// What the fault handler of a life saw. Every word is as the life left it.
#[derive(Clone, PartialEq, Eq)]
pub struct Record {
    pub(super) signal: i32,
    pub(super) code: i32,
    pub(super) address: u64,
    pub(super) instruction: u64,
    pub(super) stack_pointer: u64,
    pub(super) frame_pointer: u64,
    /// The link register. Unused where the machine has none.
    pub(super) link: u64,
    pub(super) thread: u32,
    /// The stack from `stack_pointer` upwards, at most [`STACK_BYTES`].
    pub(super) stack: Vec<u8>,
}

/// Copies the record, if it is of that life. Cheap: no system call, one allocation.
#[must_use]
pub fn copy(page: &ControlPage, serial: Serial) -> Option<Record> {
    let failure = &page.failure;
    if failure.serial.load(Acquire) != serial.0 {
        return None;
    }
    let filled = (failure.stack_len.load(Relaxed) as usize).min(STACK_BYTES);
    let words = failure.stack.iter().take(filled.div_ceil(8));
    let mut stack: Vec<u8> = words
        .flat_map(|word| word.load(Relaxed).to_le_bytes())
        .collect();
    stack.truncate(filled);
    let record = Record {
        signal: failure.signal.load(Relaxed).cast_signed(),
        code: failure.code.load(Relaxed).cast_signed(),
        address: failure.address.load(Relaxed),
        instruction: failure.instruction.load(Relaxed),
        stack_pointer: failure.stack_pointer.load(Relaxed),
        frame_pointer: failure.frame_pointer.load(Relaxed),
        link: failure.link.load(Relaxed),
        thread: failure.thread.load(Relaxed),
        stack,
    };
    // The words above are read before this look, not after it.
    fence(Acquire);
    (failure.serial.load(Relaxed) == serial.0).then_some(record)
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record")
            .field("signal", &self.signal)
            .field("code", &self.code)
            .field("instruction", &format_args!("{:#x}", self.instruction))
            .field("thread", &self.thread)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::atomic::Ordering::Relaxed;

    use super::*;

    /// A record with these words on the stack; the frame pointer is the stack pointer.
    pub fn record(instruction: u64, stack_pointer: u64, words: &[u64]) -> Record {
        Record {
            signal: 11,
            code: 1,
            address: 0,
            instruction,
            stack_pointer,
            frame_pointer: stack_pointer,
            link: words.first().copied().unwrap_or_default(),
            thread: 1,
            stack: words.iter().flat_map(|word| word.to_le_bytes()).collect(),
        }
    }

    #[test]
    fn a_record_is_that_of_its_own_life_only() {
        let page = ControlPage::default();
        page.failure.signal.store(11, Relaxed);
        page.failure.serial.store(4, Relaxed);
        assert_eq!(copy(&page, Serial(4)).unwrap().signal, 11);
        assert_eq!(copy(&page, Serial(5)), None);
    }

    #[test]
    fn a_length_past_the_page_is_cut() {
        let page = ControlPage::default();
        page.failure.stack_len.store(u32::MAX, Relaxed);
        assert_eq!(copy(&page, Serial(0)).unwrap().stack.len(), STACK_BYTES);
        page.failure.stack_len.store(11, Relaxed);
        assert_eq!(copy(&page, Serial(0)).unwrap().stack.len(), 11);
    }

    #[test]
    fn the_stack_is_not_printed() {
        let page = ControlPage::default();
        page.failure.stack_len.store(8, Relaxed);
        page.failure.stack[0].store(u64::from_le_bytes([0xaa; 8]), Relaxed);
        let text = format!("{:?}", copy(&page, Serial(0)).unwrap());
        assert!(!text.contains("170") && !text.contains("aa"), "{text}");
    }
}
