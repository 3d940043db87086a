//! Tries a crash after every instruction of an operation on persistent memory.
//!
//! [`step`] runs an operation in a child, one instruction at a time, on memory that the child shares, and shows
//! the memory after every instruction that changed it: what a life that ended there would leave. [`crash_everywhere`]
//! recovers each of these with the real code and accepts only what was there before and what is there
//! afterwards; where recovery writes, it is stepped and tried as well.
//!
//! Called by tests of `refrain-data`. It must never accept an image that it did not open.

mod ptrace;
mod trial;

pub use ptrace::{Stepped, done_stepping, lay_over, step};
pub use trial::{Report, crash_everywhere};
