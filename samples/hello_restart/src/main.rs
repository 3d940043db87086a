//! The smallest hot restart: a counter in persistent memory that outlives a crash.
//!
//! Run it from the repository's top folder, after `cargo build --workspace`:
//!
//! ```text
//! target/debug/c_init --once samples/hello_restart/sysadm.ini
//! ```
//!
//! The first life finds no block of the name, gets a zeroed one, counts, and loads from a null
//! pointer. The controller sees a life end that never called the exit handler, and starts the
//! next one from the image in memory. That one finds the block as it was left, counts on, and
//! ends cleanly; its group has no other member, so the group terminates and the block is freed.

use std::io::{self, Write};
use std::sync::atomic::Ordering::SeqCst;

use refrain::{HR_GROUP_KEY, exit_clean, pmm_allocate};

mod fault;

fn main() -> anyhow::Result<()> {
    // One page is the least there is. The group's key: the block goes when the group does.
    let block = pmm_allocate("hello_restart.counter", 4096, HR_GROUP_KEY)?;
    let lives = block.atomic_u64(0)?.fetch_add(1, SeqCst) + 1;

    if lives == 1 {
        say("hello: the counter is 1; now I load from a null pointer")?;
        fault::load_from_null();
    }
    say(&format!(
        "hello again: the counter is {lives}, in a block that a life before me left at {:p}",
        block.as_ptr()
    ))?;
    // Without this, even a return from main would be an abnormal end, and I would be back.
    exit_clean(0)
}

/// A line on stdout, which is a pipe to the console: flushed, or the crash would swallow it.
fn say(line: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{line}")?;
    stdout.flush()
}
