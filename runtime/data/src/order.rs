//! The order of stores: all that a crash of the program asks for.
//!
//! A program that crashes, however it does, loses no store that it has executed. The pages of a block
//! belong to the bank, not to the process: what the processor has retired is in them, whether it still
//! lies in a cache or not, and the next life reads it from there. So nothing is flushed here.
//! What is lost is everything *behind* the instruction that the life ended at. A crash is therefore what
//! a signal handler is that looks at memory and never returns: it sees the stores of its thread in the
//! order of the program, up to some instruction.
//!
//! A change that must be seen whole or not at all is for that reason made where nobody looks, and then
//! made visible by *one* store of an aligned word, which no crash can cut in two. The compiler must not move
//! the stores in front of that behind it, or those behind it in front of it. That is what [`publish`] is.
//! On x86 it costs nothing but the store.
//!
//! A failure of the power is another matter: caches and memory are gone, and a bank on a disk has what the
//! kernel happened to write back, in any order. Only `sync` of a structure answers for that, and only
//! for the moment at which it returns.

use std::sync::atomic::{AtomicU64, Ordering, compiler_fence};

/// Stores `value` so that a crash at any instruction, and a reader that loads it with `Acquire`, sees every
/// store before this call if it sees this one, and none behind this call if it does not.
#[inline]
pub(crate) fn publish(word: &AtomicU64, value: u64) {
    word.store(value, Ordering::Release);
    compiler_fence(Ordering::SeqCst);
}
