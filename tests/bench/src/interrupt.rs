//! Ctrl-C and SIGTERM: noticed between two measurements, so that everything that was started is
//! ended by whoever started it. Called by every loop that waits.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

static STOPPED: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);

/// The longest that an interrupt waits to be noticed.
pub const SLICE: Duration = Duration::from_millis(100);

/// Catches the signals from here on.
///
/// # Errors
/// The kernel's.
pub fn install() -> Result<()> {
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(&STOPPED))?;
    }
    Ok(())
}

/// # Errors
/// When a signal came.
pub fn check() -> Result<()> {
    if STOPPED.load(Ordering::Relaxed) {
        bail!("interrupted");
    }
    Ok(())
}

/// Sleeps, unless a signal comes.
///
/// # Errors
/// When a signal came.
pub fn sleep(time: Duration) -> Result<()> {
    let begun = Instant::now();
    while let Some(left) = time
        .checked_sub(begun.elapsed())
        .filter(|left| !left.is_zero())
    {
        check()?;
        std::thread::sleep(left.min(SLICE));
    }
    check()
}
