//! Futexes in memory that two processes share: what standbys sleep on.
//!
//! Called by the controller (wake) and by tests that stand in for a life (wait). Never the private
//! kind: waker and sleeper are different processes.

use std::io;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use rustix::io::Errno;
use rustix::thread::futex::{Flags, Timespec};

/// Wakes up to `count` sleepers; answers how many there were. More than `i32::MAX` are taken for as
/// many: the kernel would read them as a negative number, and wake one.
///
/// # Errors
/// The kernel's (EFAULT when the page was unmapped under it).
///
/// Source: FUTEX_WAKE in futex(2).
pub fn wake(word: &AtomicU32, count: u32) -> io::Result<usize> {
    let count = count.min(i32::MAX as u32);
    Ok(rustix::thread::futex::wake(word, Flags::empty(), count)?)
}

/// Sleeps while the word is `expected`; returns at a wake-up, at once when the word differs, and at
/// a signal. `false` when `timeout` passed. The caller looks at the word again in every case.
///
/// # Errors
/// The kernel's.
///
/// Source: FUTEX_WAIT in futex(2).
pub fn wait(word: &AtomicU32, expected: u32, timeout: Option<Duration>) -> io::Result<bool> {
    let timeout = timeout.map(|time| Timespec {
        tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(time.subsec_nanos()),
    });
    match rustix::thread::futex::wait(word, Flags::empty(), expected, timeout.as_ref()) {
        Ok(()) | Err(Errno::AGAIN | Errno::INTR) => Ok(true),
        Err(Errno::TIMEDOUT) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
