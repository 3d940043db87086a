//! Checks: questions to an actor from outside, for programs that promise nothing by themselves (SPEC H34).
//!
//! The engine asks ([`crate::engine`], `hang.rs`), a probe at a time for an actor, and decides what an
//! answer means. Must never blame the actor for what is the machine's or the question's fault: that is
//! [`Answer::Unable`]. Must never take long on HR_CTRL's thread.

pub(crate) mod command;
mod net;

use std::time::Duration;

pub(crate) use net::{http, tcp};

/// What came of a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The actor works.
    Well,
    /// It does not, and how that shows.
    Failed(String),
    /// Nobody knows: the question could not be asked, and why.
    Unable(String),
}

/// A span of time in the words of a message.
pub(crate) fn spoken(ms: u64) -> String {
    if ms >= 1000 && ms.is_multiple_of(1000) {
        format!("{} s", ms / 1000)
    } else {
        format!("{ms} ms")
    }
}

/// That no answer came in time.
pub(crate) fn timed_out(limit: Duration) -> Answer {
    let ms = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
    Answer::Failed(format!("no answer within {}", spoken(ms)))
}
