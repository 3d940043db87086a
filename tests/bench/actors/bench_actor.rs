//! The Rust actor of the benchmark: stamps its beginning, and ends as it is told, by a panic or by
//! SIGSEGV. It knows nothing of Refrain.

mod stamps;

use rustix::process::{Signal, getpid, kill_process};
use stamps::{FAULT, Lane, now};

fn main() -> std::io::Result<()> {
    let main_ns = now();
    let mut lane = Lane::from_args()?;
    lane.begin(main_ns)?;
    let how = lane.how()?;
    lane.stamp(FAULT, now())?;
    // Safe code cannot fault; the signal is the same, its sender is not. The first one that is sent
    // only takes Rust's own handler away, which looks for stack overflows.
    if how == b's' {
        loop {
            kill_process(getpid(), Signal::SEGV)?;
        }
    }
    panic!("told to end")
}
