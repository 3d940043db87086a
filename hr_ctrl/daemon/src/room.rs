//! Whether the machine has room for an hr_ctrl: threads, fds, memory. One that finds none ends with an exit
//! code of its own, and nucleus tries again instead of taking what is kept for damaged.
//!
//! Used at the start of hr_ctrl, and when a start has failed, to tell why.

use std::io;

use refrain_sys::memfd;

/// The exit code of an hr_ctrl that found no room. Source: EX_TEMPFAIL in sysexits.h.
pub const NO_ROOM: i32 = 75;

/// How many threads an hr_ctrl starts with: HR_CTRL, PMM, the reader of outputs, the first of the pool.
const THREADS: usize = 4;
/// How many fds it needs before it adopts the first actor: event loops, wakers, pipes.
const FDS: usize = 24;

/// Tries whether there is room.
///
/// # Errors
/// What the kernel refused: EAGAIN (pids), EMFILE, ENFILE, ENOMEM.
pub fn try_out() -> io::Result<()> {
    let threads: io::Result<Vec<_>> = (0..THREADS)
        .map(|_| std::thread::Builder::new().spawn(std::thread::park))
        .collect();
    let fds: io::Result<Vec<_>> = (0..FDS)
        .map(|_| memfd::from_bytes("refrain-room", b"-", false))
        .collect();
    for thread in threads.as_ref().into_iter().flatten() {
        thread.thread().unpark();
    }
    fds?;
    for thread in threads? {
        let _ = thread.join();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_room_here() {
        try_out().unwrap();
    }
}
