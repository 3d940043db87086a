//! How an actor is watched for hangs, in the section `actors:` of the configuration file (SPEC H34).

use refrain_abi::control::PROMISES_MS;
use refrain_abi::hang::{self, HangWatch, Probe, Target};
use serde::de::{self, Deserialize, Deserializer, Unexpected};

use super::units::{Count, Time};

/// A period that progress can be promised for.
pub(super) struct Progress(u32);

/// What a period is.
pub(crate) const A_PERIOD: &str = "a time from 10ms to 24h as text with its unit, like \"5s\"";

/// Whether progress can be promised for so many milliseconds: the period, if it is one.
pub(crate) fn period(ms: u64) -> Option<u32> {
    let ms = u32::try_from(ms).ok();
    ms.filter(|ms| PROMISES_MS.contains(ms))
}

impl<'de> Deserialize<'de> for Progress {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Time(ms) = Time::deserialize(deserializer)?;
        let bad = || de::Error::invalid_value(Unexpected::Unsigned(ms), &A_PERIOD);
        period(ms).map(Self).ok_or_else(bad)
    }
}

/// A check; exactly one of the first three says what is asked.
#[derive(serde::Deserialize)]
#[serde(try_from = "RawCheck")]
pub(super) struct Check(hang::Check);

#[derive(Default, serde::Deserialize)]
#[serde(default, deny_unknown_fields, rename = "Check")]
struct RawCheck {
    command: Option<String>,
    tcp: Option<String>,
    http: Option<String>,
    every: Option<Time>,
    timeout: Option<Time>,
    failures: Option<Count>,
}

impl TryFrom<RawCheck> for Check {
    type Error = String;

    fn try_from(it: RawCheck) -> Result<Self, String> {
        let bad = |why: hang::TargetError, text: &str| format!("'{text}' is {why}");
        let probe = match (it.command, it.tcp, it.http) {
            (Some(line), None, None) => Probe::Command(line),
            (None, Some(text), None) => {
                Probe::Tcp(Target::parse(&text).map_err(|why| bad(why, &text))?)
            }
            (None, None, Some(text)) => Probe::parse_url(&text).map_err(|why| bad(why, &text))?,
            _ => return Err("a check is one of command, tcp and http".to_owned()),
        };
        let mut check = hang::Check::new(probe);
        check.every_ms = it.every.map_or(check.every_ms, |it| it.0);
        check.timeout_ms = it.timeout.map_or(check.timeout_ms, |it| it.0);
        check.failures = it.failures.map_or(check.failures, |it| it.0);
        Ok(Self(check))
    }
}

/// The fields as the controller uses them.
pub(super) fn watch(
    progress: Option<Progress>,
    check: Option<Check>,
    after: Option<Time>,
    core: bool,
) -> HangWatch {
    HangWatch {
        progress_ms: progress.map(|it| it.0),
        check: check.map(|it| it.0),
        after_ms: after.map(|it| it.0),
        core,
    }
}
