//! What was opened, by operation and by how it was cut off, as a table that is printed at the end.

use std::collections::BTreeMap;
use std::fmt;

/// How an operation was cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Cut {
    /// Between two calls.
    Whole,
    /// In the midst of a call, at a multiple of so many bytes.
    Torn(usize),
    /// The recovery from a crash, between two calls or in the midst of one.
    Recovery,
    /// The recovery from a crash of a recovery.
    Again,
}

impl Cut {
    const ALL: [Self; 6] = [
        Self::Whole,
        Self::Torn(8),
        Self::Torn(512),
        Self::Torn(4096),
        Self::Recovery,
        Self::Again,
    ];
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole => f.pad("between"),
            Self::Torn(bytes) => f.pad(&format!("at {bytes}")),
            Self::Recovery => f.pad("recovery"),
            Self::Again => f.pad("again"),
        }
    }
}

/// The counts.
#[derive(Default)]
pub(super) struct Tally {
    by_operation: BTreeMap<&'static str, BTreeMap<Cut, u64>>,
    pub old: u64,
    pub new: u64,
    /// Old and new are the same to see.
    pub same: u64,
}

impl Tally {
    pub(super) fn count(&mut self, what: &'static str, cut: Cut) {
        let row = self.by_operation.entry(what).or_default();
        *row.entry(cut).or_default() += 1;
    }

    pub(super) fn total(&self) -> u64 {
        self.by_operation.values().flat_map(BTreeMap::values).sum()
    }

    pub(super) fn of(&self, what: &str) -> u64 {
        let row = self.by_operation.get(what);
        row.map_or(0, |row| row.values().sum())
    }

    /// How many were cut off in this way.
    pub(super) fn cut(&self, cut: Cut) -> u64 {
        self.by_operation
            .values()
            .filter_map(|row| row.get(&cut))
            .sum()
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:20}", "operation")?;
        for cut in Cut::ALL {
            write!(f, "{cut:>10}")?;
        }
        writeln!(f, "{:>10}", "together")?;
        for (what, row) in &self.by_operation {
            write!(f, "{what:20}")?;
            for cut in Cut::ALL {
                write!(f, "{:>10}", row.get(&cut).unwrap_or(&0))?;
            }
            writeln!(f, "{:>10}", self.of(what))?;
        }
        write!(f, "{:20}", "together")?;
        for cut in Cut::ALL {
            write!(f, "{:>10}", self.cut(cut))?;
        }
        writeln!(f, "{:>10}", self.total())
    }
}
