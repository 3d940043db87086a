//! One writer and any number of readers: the protocols of [`Cell`](crate::Cell) and of [`Log`](crate::Log).
//!
//! Written over a trait so that the tests can run these very lines under a model checker. It must never
//! make the writer wait.
//!
//! A cell has two slots. The sequence counts publications; its lowest bit says which slot holds the value. The
//! writer fills the other slot and then stores the next sequence. A reader copies the slot that the sequence
//! names, and looks at the sequence again: where it has not moved, the writer was filling the *other* slot
//! all the time. A writer that crashes leaves the sequence as it is, so readers are never stuck.
//!
//! A log has a slot more than it holds. The count of all records is its sequence: a reader copies a record
//! that it covers, and looks at the count again: where that still covers it, the writer has not come round.

use std::sync::atomic::{AtomicU64, Ordering, fence};

/// A word of shared memory.
pub trait Word {
    /// Loads it.
    fn load(&self, order: Ordering) -> u64;
    /// Stores into it.
    fn store(&self, value: u64, order: Ordering);
    /// A fence among all words.
    fn fence(order: Ordering);
}

impl Word for AtomicU64 {
    #[inline]
    fn load(&self, order: Ordering) -> u64 {
        self.load(order)
    }

    #[inline]
    fn store(&self, value: u64, order: Ordering) {
        self.store(value, order);
    }

    #[inline]
    fn fence(order: Ordering) {
        fence(order);
    }
}

/// Which of two slots holds the value.
#[inline]
pub fn slot_of(sequence: u64) -> usize {
    (sequence & 1) as usize
}

/// Copies the value, word by word; `None` when the writer came between, and what was copied is then
/// no value.
pub fn try_copy<W: Word>(
    sequence: &W,
    slots: [&[W]; 2],
    mut copy: impl FnMut(usize, u64),
) -> Option<()> {
    let before = sequence.load(Ordering::Acquire);
    for (index, word) in slots[slot_of(before)].iter().enumerate() {
        copy(index, word.load(Ordering::Relaxed));
    }
    // If a word above was of a later value, then this load sees that the earlier one was succeeded.
    W::fence(Ordering::Acquire);
    (sequence.load(Ordering::Relaxed) == before).then_some(())
}

/// Called by the writer before it touches the slot that holds no value: readers that are late notice.
pub fn before_filling<W: Word>() {
    W::fence(Ordering::Release);
}

/// Publishes the slot that was filled. `sequence` is the writer's alone.
pub fn flip<W: Word>(sequence: &W) {
    let next = sequence.load(Ordering::Relaxed).wrapping_add(1);
    sequence.store(next, Ordering::Release);
}

/// What a reader has got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// The record.
    Whole,
    /// Nothing: it was not appended yet.
    NotYet,
    /// Nothing, or a part: it is older than the oldest.
    Gone {
        /// The number of the oldest record.
        oldest: u64,
    },
}

/// Takes record `at` by `copy`: the protocol of readers, over any words, so that it can be model-checked.
pub fn take<W: Word>(
    count: &W,
    at: u64,
    oldest: impl Fn(u64) -> u64,
    copy: impl FnOnce(),
) -> Taken {
    let next = count.load(Ordering::Acquire);
    if next <= at {
        return Taken::NotYet;
    }
    if oldest(next) <= at {
        copy();
    }
    // If the copy saw a word of a later record, then this load sees that the record was given up.
    W::fence(Ordering::Acquire);
    match oldest(count.load(Ordering::Relaxed)) {
        oldest if oldest > at => Taken::Gone { oldest },
        _ => Taken::Whole,
    }
}
