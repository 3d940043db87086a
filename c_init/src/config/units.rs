//! Values of the configuration file: texts with units, and numbers within bounds. Each checks
//! itself while it is read, so that an error has its line and column.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, Unexpected, Visitor};

/// A size in bytes, written `"64MiB"`, `"1GiB"`, `"4096"`; more than 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Size(pub u64);

/// A span of time in milliseconds, written `"10s"`, `"500ms"`, `"2m"`, `"1h"`; more than 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Time(pub u64);

/// A share of CPU time in percent of one CPU, written `"50%"`; more than 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Percent(pub u32);

/// A number more than 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Count(pub u32);

/// An address, on a boundary of 2 MiB and not 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Address(pub u64);

const SIZES: &[(&str, u64)] = &[
    ("", 1),
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];
const TIMES: &[(&str, u64)] = &[("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000)];

/// Alignment of the window: that of the largest page that may one day back it.
const WINDOW_ALIGN: u64 = 2 << 20;

const PERCENTS: &[(&str, u64)] = &[("%", 1)];
/// More than any machine has: a thousand CPUs.
const MAX_PERCENT: u64 = 100_000;

const A_SIZE: &str = "a size more than 0 as text with its unit, like \"64MiB\" or \"4096\"";
const A_PERCENT: &str = "a share of one CPU as text, like \"50%\" or \"200%\"";
const A_TIME: &str = "a time more than 0 as text with its unit, like \"10s\", \"500ms\" or \"2m\"";

/// The number that `text` is, made of digits and one of `units`, if it is more than 0.
fn number(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let rest = text.trim_start_matches(|c: char| c.is_ascii_digit());
    let (digits, unit) = text.split_at(text.len() - rest.len());
    let factor = units.iter().find(|(name, _)| *name == unit.trim())?.1;
    let value = digits.parse::<u64>().ok()?.checked_mul(factor)?;
    (value > 0).then_some(value)
}

/// A size on a command line, in bytes.
///
/// # Errors
/// What a size is.
pub(crate) fn parse_size(text: &str) -> Result<u64, String> {
    number(text, SIZES).ok_or_else(|| format!("not {A_SIZE}"))
}

/// A share of CPU time on a command line, in percent of one CPU.
///
/// # Errors
/// What such a share is.
pub(crate) fn parse_percent(text: &str) -> Result<u32, String> {
    let percent = number(text, PERCENTS).filter(|percent| *percent <= MAX_PERCENT);
    let percent = percent.and_then(|percent| percent.try_into().ok());
    percent.ok_or_else(|| format!("not {A_PERCENT}"))
}

/// A span of time on a command line, in milliseconds.
///
/// # Errors
/// What a span of time is.
pub(crate) fn parse_time(text: &str) -> Result<u64, String> {
    number(text, TIMES).ok_or_else(|| format!("not {A_TIME}"))
}

/// Reads a text made of digits and one of `units`.
struct WithUnit {
    units: &'static [(&'static str, u64)],
    expected: &'static str,
}

impl Visitor<'_> for WithUnit {
    type Value = u64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expected)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<u64, E> {
        number(text, self.units).ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
    }
}

/// A span of time as [`Time`] is written, in milliseconds.
pub(crate) fn time(text: &str) -> Option<u64> {
    number(text, TIMES)
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer
            .deserialize_any(WithUnit {
                units: SIZES,
                expected: A_SIZE,
            })
            .map(Self)
    }
}

impl<'de> Deserialize<'de> for Percent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let percent = deserializer.deserialize_any(WithUnit {
            units: PERCENTS,
            expected: A_PERCENT,
        })?;
        let fits = u32::try_from(percent)
            .ok()
            .filter(|_| percent <= MAX_PERCENT);
        let too_much = || de::Error::invalid_value(Unexpected::Unsigned(percent), &A_PERCENT);
        fits.map(Self).ok_or_else(too_much)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer
            .deserialize_any(WithUnit {
                units: TIMES,
                expected: A_TIME,
            })
            .map(Self)
    }
}

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match u32::deserialize(deserializer)? {
            0 => Err(de::Error::invalid_value(
                Unexpected::Unsigned(0),
                &"a number more than 0",
            )),
            count => Ok(Self(count)),
        }
    }
}

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let address = u64::deserialize(deserializer)?;
        if address == 0 || address % WINDOW_ALIGN != 0 {
            let expected = "an address on a boundary of 2MiB, like 0x1000_0000_0000";
            return Err(de::Error::invalid_value(
                Unexpected::Unsigned(address),
                &expected,
            ));
        }
        Ok(Self(address))
    }
}
