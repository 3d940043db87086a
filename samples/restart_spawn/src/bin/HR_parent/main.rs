//! `HR_parent CHILD [CRASHES [INTERVAL_MS]]`: the direct actor. Runs CHILD with `hrfexec`, waits
//! until it has come a bit further, and crashes, each time in another way; at last it checks
//! what the child has written and ends cleanly.
//!
//! Run by `sysadm.ini`, and by the controller after every crash with the same arguments. It
//! must never keep anything that matters outside the block: every life begins at `main`.
#![allow(non_snake_case)]

use std::{sync::atomic::Ordering::SeqCst, thread::sleep, time::Duration};

use anyhow::Context;
use restart_spawn::{SONG, Transcript, say};

mod fault;

/// How often the transcript is looked at.
const LOOK: Duration = Duration::from_millis(5);

fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let child = args
        .next()
        .context("HR_parent CHILD [CRASHES [INTERVAL_MS]]")?;
    let crashes: usize = args.next().as_deref().unwrap_or("4").parse()?;
    let interval_ms = args.next().unwrap_or_else(|| "200".to_owned());

    let transcript = Transcript::open()?;
    // The child ended with the life before this one; the controller restarts direct members only.
    let aid = refrain::Exec::new(&child).arg(interval_ms).spawn()?;
    let crashed = transcript.crashes()?.load(SeqCst) as usize;
    say(&format!(
        "life {} of the parent runs the child as aid {aid}",
        refrain::life()?
    ))?;
    if crashed < crashes {
        // The crashes are spread over the song; each waits for a line, never for a time.
        wait_for(&transcript, SONG.len() * (crashed + 1) / (crashes + 1))?;
        let (what, happen) = fault::KINDS[crashed % fault::KINDS.len()];
        say(&format!("crash {} of {crashes}: {what}", crashed + 1))?;
        transcript.crashes()?.store(crashed as u64 + 1, SeqCst);
        happen();
    }
    wait_for(&transcript, SONG.len())?;
    transcript.verify()?;
    say(&format!(
        "restart_spawn: {crashed} crashes, {} lines, transcript right",
        SONG.len()
    ))?;
    refrain::exit_clean(0)
}

/// Waits until the child has committed so many lines.
fn wait_for(transcript: &Transcript, lines: usize) -> anyhow::Result<()> {
    while transcript.lines()? < lines {
        sleep(LOOK);
    }
    Ok(())
}
