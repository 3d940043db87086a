//! Ctrl-C and SIGTERM: noticed wherever something is waited for, so that whoever started the site also
//! ends it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};

use anyhow::{Result, bail};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

static STOPPED: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);

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

/// Whether one came.
#[must_use]
pub fn has_come() -> bool {
    STOPPED.load(Ordering::Relaxed)
}

/// # Errors
/// When one came.
pub fn check() -> Result<()> {
    if has_come() {
        bail!("interrupted");
    }
    Ok(())
}
