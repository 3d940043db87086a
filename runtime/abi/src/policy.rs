//! What a user says about the restart policy of a group (SPEC H33): in `arun` options, in the
//! configuration, and in the registration that the bank keeps.
//!
//! Every part may be left out. Parts that `arun` leaves out are those that the configuration says for
//! the group, then those it says for all groups, then the built-in ones, which belong to the controller.

use serde::{Deserialize, Serialize};

/// What happens when a group is restarted more often than its limit allows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PastLimit {
    /// The site is restarted (SPEC H26).
    #[default]
    Site,
    /// The group is stopped, and started again by hand only.
    Stop,
    /// The group is tried again, with the longest delay between attempts.
    Retry,
}

impl PastLimit {
    /// Every choice.
    pub const ALL: [Self; 3] = [Self::Site, Self::Stop, Self::Retry];

    /// The word for it, in options and in the configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Site => "site",
            Self::Stop => "stop",
            Self::Retry => "retry",
        }
    }
}

/// Parts of a policy; `None` is a part that was left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PolicyParts {
    /// How many restarts within the interval are put up with.
    pub max_restarts: Option<u32>,
    /// The interval, in milliseconds.
    pub interval_ms: Option<u64>,
    /// The delay before the first restart, in milliseconds; 0: none.
    pub first_ms: Option<u64>,
    /// What each further delay is multiplied by, in percent, from 100.
    pub factor_percent: Option<u32>,
    /// The longest delay, in milliseconds.
    pub cap_ms: Option<u64>,
    /// How long a run makes the next failure a first one, in milliseconds.
    pub healthy_ms: Option<u64>,
    /// What happens past the limit.
    pub past_limit: Option<PastLimit>,
    /// Exit codes that end the attempts.
    pub permanent_exit: Option<Vec<u8>>,
}

impl PolicyParts {
    /// These parts, and where one was left out, that of `others`.
    #[must_use]
    pub fn over(self, others: &Self) -> Self {
        Self {
            max_restarts: self.max_restarts.or(others.max_restarts),
            interval_ms: self.interval_ms.or(others.interval_ms),
            first_ms: self.first_ms.or(others.first_ms),
            factor_percent: self.factor_percent.or(others.factor_percent),
            cap_ms: self.cap_ms.or(others.cap_ms),
            healthy_ms: self.healthy_ms.or(others.healthy_ms),
            past_limit: self.past_limit.or(others.past_limit),
            permanent_exit: self
                .permanent_exit
                .or_else(|| others.permanent_exit.clone()),
        }
    }

    /// Whether nothing is said.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}
