//! What follows the death of hr_ctrl: when nucleus starts the next one, and what it does when that does not help.
//!
//! | hr_ctrl has died | then |
//! | --- | --- |
//! | after it said `Ended`, or when none has ever served | the site has ended |
//! | by somebody's SIGKILL | the next one at once |
//! | because the machine has no room for it | the next one after [`NO_ROOM_MS`], as often as it takes |
//! | of itself, or it hung | the next one; from the second time within [`STORM_MS`] on after a delay that doubles |
//! | likewise, before it served, [`MAX_FAILURES`] times in a row | what is kept is no good: see below |
//! | likewise, that often again | the site has ended; the bank stays |
//!
//! When what is kept is no good, everything below is ended, and the next one begins with a site restart from the
//! bank and the images.
//!
//! A SIGKILL that is not ours says nothing about hr_ctrl, and neither does a want of pids, memory or files, so
//! they count as no failure.

use refrain_sys::{Signal, WaitStatus, clock};

use super::HrCtrl;
use crate::room::NO_ROOM;

/// How many times in a row hr_ctrl may die before it serves.
const MAX_FAILURES: u32 = 4;
/// For how long a death of its own counts, in milliseconds.
const STORM_MS: u64 = 10_000;
/// The first delay, in milliseconds; it doubles up to [`LAST_DELAY_MS`].
const FIRST_DELAY_MS: u64 = 50;
const LAST_DELAY_MS: u64 = 5_000;

/// How long it is waited before hr_ctrl is tried again that found no room, in milliseconds.
pub(super) const NO_ROOM_MS: u64 = 100;

/// How lives of hr_ctrl have ended.
#[derive(Default)]
pub(super) struct Deaths {
    /// In a row before it served.
    failures: u32,
    /// Everything below was ended for it already.
    gave_up: bool,
    /// In a row, each within [`STORM_MS`] of the one before, by its own doing.
    own: u32,
    last_ms: u64,
}

/// What follows the death of hr_ctrl.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Another one, after so many milliseconds.
    Start {
        /// In milliseconds.
        after_ms: u64,
    },
    /// Another one, after everything below was ended.
    StartAnew,
    /// The end of the site.
    End,
}

impl Deaths {
    /// Decides what follows the death of `hr_ctrl`; see the table in the module.
    pub fn note(&mut self, hr_ctrl: &HrCtrl) -> Next {
        if !hr_ctrl.served && hr_ctrl.status.and_then(WaitStatus::exited) == Some(NO_ROOM) {
            let after_ms = NO_ROOM_MS;
            return Next::Start { after_ms };
        }
        let killed = hr_ctrl.status.and_then(WaitStatus::signal) == Some(Signal::KILL.as_raw());
        let now = clock::now_monotonic_ms();
        self.after(hr_ctrl.served, killed && !hr_ctrl.hung, now)
    }

    fn after(&mut self, served: bool, by_somebody: bool, now_ms: u64) -> Next {
        if served {
            (self.failures, self.gave_up) = (0, false);
        }
        if by_somebody {
            return Next::Start { after_ms: 0 };
        }
        if now_ms.saturating_sub(self.last_ms) > STORM_MS {
            self.own = 0;
        }
        self.last_ms = now_ms;
        if !served {
            self.failures += 1;
        }
        if self.failures >= MAX_FAILURES {
            self.failures = 0;
            let tried = std::mem::replace(&mut self.gave_up, true);
            return if tried { Next::End } else { Next::StartAnew };
        }
        let doublings = self.own.min(16);
        self.own += 1;
        let after_ms = match doublings {
            0 => 0,
            n => (FIRST_DELAY_MS << (n - 1)).min(LAST_DELAY_MS),
        };
        Next::Start { after_ms }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_controller_that_somebody_kills_is_started_again_at_once_for_ever() {
        let mut deaths = Deaths::default();
        for now in 0..1000 {
            let next = deaths.after(now % 3 > 0, true, now);
            assert_eq!(next, Next::Start { after_ms: 0 });
        }
    }

    #[test]
    fn a_controller_that_crashes_is_started_again_ever_later_until_it_runs_well() {
        let mut deaths = Deaths::default();
        let mut now = 1_000_000;
        let mut delay = |deaths: &mut Deaths, pause| {
            now += pause;
            match deaths.after(true, false, now) {
                Next::Start { after_ms } => after_ms,
                other => panic!("{other:?}"),
            }
        };
        let delays: Vec<_> = (0..4).map(|_| delay(&mut deaths, 1)).collect();
        assert_eq!(delays, [0, 50, 100, 200]);
        for _ in 0..20 {
            delay(&mut deaths, 1);
        }
        assert_eq!(delay(&mut deaths, 1), LAST_DELAY_MS);
        assert_eq!(delay(&mut deaths, STORM_MS + 1), 0);
    }

    #[test]
    fn what_cannot_be_taken_over_is_ended_once_and_the_site_after_that() {
        let mut deaths = Deaths::default();
        let mut nexts = (0..2 * MAX_FAILURES).map(|now| deaths.after(false, false, now.into()));
        let begins = |next: &Next| matches!(next, Next::Start { .. });
        let tries = MAX_FAILURES as usize - 1;
        assert!(nexts.by_ref().take(tries).all(|next| begins(&next)));
        assert_eq!(nexts.next(), Some(Next::StartAnew));
        assert!(nexts.by_ref().take(tries).all(|next| begins(&next)));
        assert_eq!(nexts.next(), Some(Next::End));
    }
}
