//! `HR_child INTERVAL_MS`: the indirect actor. Says the song, a line at a time, from where the
//! life before it stopped, and ends cleanly after the last.
//!
//! Run by `HR_parent` with `hrfexec`, again after every restart of their group. It must never
//! look at anything but the block to learn where it is.
#![allow(non_snake_case)]
#![forbid(unsafe_code)]

use std::{thread::sleep, time::Duration};

use anyhow::Context;
use restart_spawn::{SONG, Transcript, say};

fn main() -> anyhow::Result<()> {
    let interval_ms = std::env::args()
        .nth(1)
        .context("HR_child INTERVAL_MS")?
        .parse()?;
    let transcript = Transcript::open()?;
    for (n, line) in SONG.iter().enumerate().skip(transcript.lines()?) {
        sleep(Duration::from_millis(interval_ms));
        // Print, then commit: see the library's head.
        say(&format!("{:2}  {line}", n + 1))?;
        transcript.append(line)?;
    }
    refrain::exit_clean(0)
}
