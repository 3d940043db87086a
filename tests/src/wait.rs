//! Waiting for a condition. Called by every test instead of sleeping; never decides a test by how
//! long something took, only by its never coming.

use std::time::{Duration, Instant};

/// How long a condition may take before a test gives up. Generous: a loaded machine must not
/// fail a test.
pub const WATCHDOG: Duration = Duration::from_secs(30);

/// How often a condition is looked at.
const PERIOD: Duration = Duration::from_millis(10);

/// How often where it is measured how long it takes.
const SHORT_PERIOD: Duration = Duration::from_micros(20);

/// Waits until `condition` yields something, and returns it.
///
/// # Panics
/// When nothing came within [`WATCHDOG`]; the message names `what`.
pub fn until<T>(what: &str, condition: impl FnMut() -> Option<T>) -> T {
    look_every(PERIOD, what, condition)
}

/// The same for what comes in less than a millisecond, and whose time is taken.
///
/// # Panics
/// As [`until`].
pub fn soon<T>(what: &str, condition: impl FnMut() -> Option<T>) -> T {
    look_every(SHORT_PERIOD, what, condition)
}

fn look_every<T>(period: Duration, what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(start.elapsed() < WATCHDOG, "waited in vain for: {what}");
        std::thread::sleep(period);
    }
}

/// Waits until `condition` holds.
///
/// # Panics
/// As [`until`].
pub fn until_true(what: &str, mut condition: impl FnMut() -> bool) {
    until(what, || condition().then_some(()));
}

/// Waits until `progress` reaches `goal`; gives up only when it has stood still for [`WATCHDOG`].
///
/// # Panics
/// When there was no progress for [`WATCHDOG`].
pub fn until_reaches(what: &str, goal: u64, mut progress: impl FnMut() -> u64) {
    let mut best = (0, Instant::now());
    loop {
        let now = progress();
        if now >= goal {
            return;
        }
        if now > best.0 {
            best = (now, Instant::now());
        }
        assert!(
            best.1.elapsed() < WATCHDOG,
            "{what} stands still at {now} of {goal}"
        );
        std::thread::sleep(PERIOD * 5);
    }
}
