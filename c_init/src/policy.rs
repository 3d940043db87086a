//! The words in which a restart policy is said (SPEC H33): as options of `arun`, and in part in the
//! configuration. What they mean is decided in `hr_ctrl_core`; nothing is decided here.

use std::str::FromStr;

use clap::{Args, ValueEnum};
use refrain_abi::{PastLimit, PolicyParts};

use crate::config::units;

/// The options of `arun` for the restart policy of the group.
#[derive(Clone, Debug, Default, Args)]
pub struct PolicyArgs {
    /// how many restarts of the group within the interval are put up with, from 0
    #[arg(long, value_name = "N", requires = "gid")]
    pub max_restarts: Option<u32>,
    /// the interval that restarts are counted over: 500ms, 10s, 2m
    #[arg(long, value_name = "TIME", requires = "gid", value_parser = time)]
    pub interval: Option<u64>,
    /// wait before a restart: FIRST, then FACTOR times longer each time, up to CAP; 0: do not
    #[arg(long, value_name = "FIRST[,FACTOR[,CAP]]", requires = "gid")]
    pub backoff: Option<Backoff>,
    /// after so long a run the next delay is the first again
    #[arg(long, value_name = "TIME", requires = "gid", value_parser = time)]
    pub healthy_after: Option<u64>,
    /// past the limit: restart the site (the default), stop the group, or retry after CAP
    #[arg(
        long,
        value_name = "site|stop|retry",
        requires = "gid",
        value_enum,
        hide_possible_values = true
    )]
    pub past_limit: Option<PastLimitWord>,
    /// exit codes with which a life fails for good: the group is stopped, not restarted
    #[arg(
        long,
        value_name = "CODE[,CODE...]",
        requires = "gid",
        value_delimiter = ','
    )]
    pub permanent_exit: Option<Vec<u8>>,
}

/// What happens past the limit ([`PastLimit`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PastLimitWord {
    /// Restart the site.
    Site,
    /// Stop the group.
    Stop,
    /// Try again with the longest delay.
    Retry,
}

impl PolicyArgs {
    /// What they say; `None` when none was given.
    #[must_use]
    pub fn parts(&self) -> Option<PolicyParts> {
        let parts = PolicyParts {
            max_restarts: self.max_restarts,
            interval_ms: self.interval,
            healthy_ms: self.healthy_after,
            past_limit: self.past_limit.map(|word| match word {
                PastLimitWord::Site => PastLimit::Site,
                PastLimitWord::Stop => PastLimit::Stop,
                PastLimitWord::Retry => PastLimit::Retry,
            }),
            permanent_exit: self.permanent_exit.clone(),
            ..self.backoff.unwrap_or_default().into()
        };
        (!parts.is_empty()).then_some(parts)
    }
}

/// `FIRST[,FACTOR[,CAP]]`: how long restarts wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backoff {
    /// In milliseconds.
    first: Option<u64>,
    /// In percent.
    factor: Option<u32>,
    /// In milliseconds.
    cap: Option<u64>,
}

impl From<Backoff> for PolicyParts {
    fn from(it: Backoff) -> Self {
        Self {
            first_ms: it.first,
            factor_percent: it.factor,
            cap_ms: it.cap,
            ..Self::default()
        }
    }
}

impl FromStr for Backoff {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut words = text.split(',').map(str::trim);
        let first = words.next().unwrap_or_default();
        let first = if first == "0" { 0 } else { time(first)? };
        let factor = words.next().map(factor).transpose()?;
        let cap = words.next().map(time).transpose()?;
        if words.next().is_some() {
            return Err("it is FIRST[,FACTOR[,CAP]], like 100ms,2,10s".to_owned());
        }
        if cap.is_some_and(|cap| cap < first) {
            return Err("its cap is shorter than its first delay".to_owned());
        }
        Ok(Self {
            first: Some(first),
            factor,
            cap,
        })
    }
}

fn time(text: &str) -> Result<u64, String> {
    let wrong = || format!("'{text}' is no time more than 0 with its unit, like 500ms, 10s or 2m");
    units::time(text).ok_or_else(wrong)
}

/// A factor like `2` or `1.5`, in percent.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "checked to be from 1 to 1000"
)]
fn factor(text: &str) -> Result<u32, String> {
    let factor = text
        .parse()
        .ok()
        .filter(|it: &f64| (1.0..=1000.0).contains(it));
    let factor =
        factor.ok_or_else(|| format!("'{text}' is no factor from 1 to 1000, like 2 or 1.5"))?;
    Ok((factor * 100.0).round() as u32)
}

/// What happens past the limit, by its word.
pub(crate) fn past_limit(word: &str) -> Option<PastLimit> {
    PastLimit::ALL.into_iter().find(|it| it.as_str() == word)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backoff(text: &str) -> Result<PolicyParts, String> {
        text.parse::<Backoff>().map(PolicyParts::from)
    }

    #[test]
    fn h33_a_backoff_is_a_first_delay_a_factor_and_a_cap() {
        let parts = backoff("100ms,1.5,10s").unwrap();
        let said = (parts.first_ms, parts.factor_percent, parts.cap_ms);
        assert_eq!(said, (Some(100), Some(150), Some(10_000)));
        let parts = backoff("2s").unwrap();
        let said = (parts.first_ms, parts.factor_percent, parts.cap_ms);
        assert_eq!(said, (Some(2000), None, None));
        assert_eq!(backoff("0").unwrap().first_ms, Some(0));
    }

    #[test]
    fn h33_a_bad_backoff_is_told_what_is_wrong_with_it() {
        for (text, why) in [
            ("", "is no time"),
            ("100", "'100' is no time"),
            ("100ms,0.5", "'0.5' is no factor"),
            ("100ms,nan", "'nan' is no factor"),
            ("100ms,2,", "'' is no time"),
            ("100ms,2,10s,1", "FIRST[,FACTOR[,CAP]]"),
            ("10s,2,1s", "shorter than its first"),
        ] {
            let said = backoff(text).unwrap_err();
            assert!(said.contains(why), "{text}: {said}");
        }
    }

    #[test]
    fn h33_each_word_for_past_the_limit_is_known() {
        for it in PastLimit::ALL {
            assert_eq!(past_limit(it.as_str()), Some(it));
        }
        assert_eq!(past_limit("never"), None);
    }
}
