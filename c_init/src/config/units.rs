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
        let value = with_unit(text, self.units);
        value.ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
    }
}

/// A number with one of `units` behind it, more than 0.
fn with_unit(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.trim_start_matches(|c: char| c.is_ascii_digit());
    let (number, unit) = text.split_at(text.len() - digits.len());
    let (_, factor) = units.iter().find(|(name, _)| *name == unit.trim())?;
    let number: u64 = number.parse().ok()?;
    number.checked_mul(*factor).filter(|value| *value > 0)
}

/// A span of time as [`Time`] is written, in milliseconds.
pub(crate) fn time(text: &str) -> Option<u64> {
    with_unit(text, TIMES)
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let expected = "a size more than 0 as text with its unit, like \"64MiB\" or \"4096\"";
        deserializer
            .deserialize_any(WithUnit {
                units: SIZES,
                expected,
            })
            .map(Self)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let expected =
            "a time more than 0 as text with its unit, like \"10s\", \"500ms\" or \"2m\"";
        deserializer
            .deserialize_any(WithUnit {
                units: TIMES,
                expected,
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
