//! The restart policy of groups in the configuration, with the words of `arun` (SPEC H33).

use refrain_abi::{PastLimit, PolicyParts};
use serde::Deserialize;
use serde::de::{Deserializer, Error, Unexpected};

use super::units::Time;
use crate::policy::{Backoff, past_limit};

/// What the configuration says of one group, or of all.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Policy {
    max_restarts: Option<u32>,
    interval: Option<Time>,
    backoff: Option<BackoffText>,
    healthy_after: Option<Time>,
    past_limit: Option<PastLimitText>,
    permanent_exit: Option<Vec<u8>>,
}

impl From<Policy> for PolicyParts {
    fn from(it: Policy) -> Self {
        let backoff = it.backoff.map(|it| it.0).unwrap_or_default();
        Self {
            max_restarts: it.max_restarts,
            interval_ms: it.interval.map(|it| it.0),
            healthy_ms: it.healthy_after.map(|it| it.0),
            past_limit: it.past_limit.map(|it| it.0),
            permanent_exit: it.permanent_exit,
            ..backoff.into()
        }
    }
}

struct BackoffText(Backoff);

impl<'de> Deserialize<'de> for BackoffText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map(Self).map_err(D::Error::custom)
    }
}

struct PastLimitText(PastLimit);

impl<'de> Deserialize<'de> for PastLimitText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let wrong = || {
            let expected = &"\"site\", \"stop\" or \"retry\"";
            D::Error::invalid_value(Unexpected::Str(&text), expected)
        };
        past_limit(&text).map(Self).ok_or_else(wrong)
    }
}
