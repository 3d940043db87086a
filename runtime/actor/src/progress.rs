//! The promise of progress, by which a life that hangs is noticed (SPEC H34).
//!
//! Called by actors. What comes of a promise that is not kept is the controller's part. Must never ask
//! the controller anything on the way of [`Actor::progress`], which programs call in their main loop.

use std::sync::atomic::Ordering;
use std::time::Duration;

use refrain_abi::control::PROMISES_MS;
use refrain_abi::request::Request;

use crate::attach::{Actor, AttachError, attach};
use crate::group::HrError;

impl Actor {
    /// See [`progress`](crate::progress). One atomic addition; it cannot fail, and may be called from
    /// any thread, from a signal handler, and by children that the life has forked, whose work then counts
    /// as the life's.
    pub fn progress(&self) {
        self.page().progress.fetch_add(1, Ordering::Relaxed);
    }

    /// See [`promise_progress`](crate::promise_progress).
    ///
    /// # Errors
    /// [`HrError`].
    pub fn promise_progress(&self, period: Duration) -> Result<(), HrError> {
        self.link().check_own()?;
        self.progress();
        self.page().set_promise(self.serial(), in_ms(period));
        self.done(&Request::Promise)?;
        Ok(())
    }
}

/// A period as the control page has it: whole milliseconds, rounded up.
fn in_ms(period: Duration) -> u32 {
    if period.is_zero() {
        return 0;
    }
    let ms = period.as_nanos().div_ceil(1_000_000);
    let ms = u32::try_from(ms).unwrap_or(u32::MAX);
    ms.clamp(*PROMISES_MS.start(), *PROMISES_MS.end())
}

/// This life has made progress: keeps the promise that [`promise_progress`] or `arun --progress` has
/// made. A program that calls this often attaches first and calls [`Actor::progress`].
///
/// # Errors
/// [`AttachError`] in a program that is no actor.
///
/// ```no_run
/// let me = refrain::attach()?;
/// loop {
///     // One piece of work.
///     me.progress();
/// }
/// # #[allow(unreachable_code)]
/// # Ok::<(), refrain::AttachError>(())
/// ```
pub fn progress() -> Result<(), AttachError> {
    attach()?.progress();
    Ok(())
}

/// Promises that this life will call [`progress`] at least once in every `period`, from now on. When it
/// does not, it has failed like a life that crashed: it is killed, and its group restarts. Between 10 ms
/// and a day, rounded up to whole milliseconds; zero takes the promise back. The next life has promised
/// nothing until it does so itself. `arun --progress` wins over it.
///
/// A life that somebody has stopped (SIGSTOP, a debugger) breaks no promise.
///
/// # Errors
/// [`HrError`]: no actor, a child that the life forked, or a controller that does not answer.
///
/// ```no_run
/// use std::time::Duration;
///
/// refrain::promise_progress(Duration::from_secs(5))?;
/// for piece in 0..1000 {
///     println!("piece {piece}");
///     refrain::progress()?;
/// }
/// // What comes now may take as long as it likes.
/// refrain::promise_progress(Duration::ZERO)?;
/// # Ok::<(), refrain::HrError>(())
/// ```
pub fn promise_progress(period: Duration) -> Result<(), HrError> {
    attach()?.promise_progress(period)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_period_is_whole_milliseconds_within_bounds_and_zero_is_none() {
        for (period, ms) in [
            (Duration::ZERO, 0),
            (Duration::from_nanos(1), 10),
            (Duration::from_secs(5), 5000),
            (Duration::from_micros(20_001), 21),
            (Duration::MAX, 86_400_000),
        ] {
            assert_eq!(in_ms(period), ms, "{period:?}");
        }
    }
}
