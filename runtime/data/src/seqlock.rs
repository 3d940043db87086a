//! One writer, two slots, any number of readers: the protocol of [`Cell`](crate::Cell).
//!
//! Written over a trait so that the tests can run these very lines under a model checker. It must never
//! make the writer wait.
//!
//! The sequence counts publications; its lowest bit says which slot holds the value. The writer fills the
//! other slot and then stores the next sequence. A reader copies the slot that the sequence names, and looks
//! at the sequence again: where it has not moved, the writer was filling the *other* slot all the time. A
//! writer that crashes leaves the sequence as it is, so readers are never stuck.

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
pub fn try_copy<W: Word>(sequence: &W, slots: [&[W]; 2], mut copy: impl FnMut(usize, u64)) -> Option<()> {
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
