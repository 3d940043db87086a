//! What was measured: samples, what follows from them, figures, tables over time. Called by every part;
//! `table.rs` prints it, `plot.rs` and `curve.rs` draw it, `goals.rs` holds it against the goals. Decides
//! nothing about good or bad.

use std::path::Path;

use anyhow::Result;
use serde::Serialize;

use crate::goals::{self, Verdict};
use crate::machine::Machine;
use crate::{curve, plot};

/// One line of a table.
#[derive(Debug, Serialize)]
pub struct Row {
    /// The part of the benchmark.
    pub part: &'static str,
    /// What was measured.
    pub what: String,
    /// The row of the same part that it is compared with.
    pub limit: Option<String>,
    /// Its point on a curve: the curve's name and where on the horizontal axis.
    pub point: Option<(&'static str, f64)>,
    /// Every sample in microseconds, in order of size.
    pub samples_us: Vec<f64>,
}

/// What follows from two rows.
#[derive(Debug, Serialize)]
pub struct Comparison {
    /// The part of both.
    pub part: &'static str,
    /// What it tells.
    pub what: String,
    /// The row that it is held against.
    pub against: String,
    /// What was computed.
    pub kind: Kind,
    /// Of the medians: a factor, or microseconds.
    pub p50: f64,
    /// Of the 99th percentiles.
    pub p99: f64,
}

/// How two rows are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Kind {
    /// One divided by the other.
    Ratio,
    /// One less the other, in microseconds.
    More,
}

/// A figure that is no latency.
#[derive(Debug, Serialize)]
pub struct Fact {
    /// The part of the benchmark.
    pub part: &'static str,
    /// What it is.
    pub what: String,
    /// With its unit.
    pub value: String,
    /// The bare number, where it is one.
    pub number: Option<f64>,
}

/// Figures that were looked at again and again.
#[derive(Debug, Serialize)]
pub struct Series {
    /// The part of the benchmark.
    pub part: &'static str,
    /// What it is of.
    pub what: String,
    /// What each column holds, with its unit; the first is the horizontal axis.
    pub columns: Vec<String>,
    /// The samples in order.
    pub rows: Vec<Vec<f64>>,
}

/// Everything of one run.
#[derive(Debug, Serialize)]
pub struct Report {
    pub(crate) machine: Machine,
    pub(crate) rows: Vec<Row>,
    pub(crate) comparisons: Vec<Comparison>,
    pub(crate) facts: Vec<Fact>,
    pub(crate) series: Vec<Series>,
    pub(crate) goals: Vec<Verdict>,
}

impl Row {
    /// The sample below which `percent` of a hundred lie.
    pub fn percentile(&self, percent: usize) -> f64 {
        let last = self.samples_us.len().saturating_sub(1);
        let at = (self.samples_us.len() * percent)
            .div_ceil(100)
            .saturating_sub(1);
        self.samples_us
            .get(at.min(last))
            .copied()
            .unwrap_or(f64::NAN)
    }

    /// Their mean.
    pub fn mean(&self) -> f64 {
        self.samples_us.iter().sum::<f64>() / self.samples_us.len() as f64
    }
}

impl Report {
    /// An empty one.
    pub fn new() -> Self {
        Self {
            machine: Machine::look(),
            rows: Vec::new(),
            comparisons: Vec::new(),
            facts: Vec::new(),
            series: Vec::new(),
            goals: Vec::new(),
        }
    }

    /// Adds the samples of one thing.
    pub fn row(
        &mut self,
        part: &'static str,
        what: &str,
        limit: Option<&str>,
        mut samples_us: Vec<f64>,
    ) {
        samples_us.sort_by(f64::total_cmp);
        self.rows.push(Row {
            part,
            what: what.to_owned(),
            limit: limit.map(str::to_owned),
            point: None,
            samples_us,
        });
    }

    /// Puts a row that is there onto a curve.
    pub fn point(&mut self, part: &str, what: &str, curve: &'static str, x: f64) {
        let mut rows = self.rows.iter_mut();
        if let Some(row) = rows.find(|row| row.part == part && row.what == what) {
            row.point = Some((curve, x));
        }
    }

    /// Adds what follows from two rows, where both are there.
    pub fn compare(
        &mut self,
        part: &'static str,
        what: &str,
        (of, against): (&str, &str),
        kind: Kind,
    ) {
        let (Some(row), Some(other)) = (self.find(part, of), self.find(part, against)) else {
            return;
        };
        let both = |percent| match kind {
            Kind::Ratio => row.percentile(percent) / other.percentile(percent),
            Kind::More => row.percentile(percent) - other.percentile(percent),
        };
        let (p50, p99) = (both(50), both(99));
        self.comparisons.push(Comparison {
            part,
            what: what.to_owned(),
            against: against.to_owned(),
            kind,
            p50,
            p99,
        });
    }

    /// Adds a figure in words.
    pub fn fact(&mut self, part: &'static str, what: &str, value: impl Into<String>) {
        self.facts.push(Fact {
            part,
            what: what.to_owned(),
            value: value.into(),
            number: None,
        });
    }

    /// Whether there is such a figure.
    pub fn has_fact(&self, part: &str, what: &str) -> bool {
        let mut facts = self.facts.iter();
        facts.any(|fact| fact.part == part && fact.what == what)
    }

    /// Adds a figure in numbers.
    pub fn figure(&mut self, part: &'static str, what: &str, number: f64, unit: &str) {
        let digits = usize::from(number.abs() < 100.0);
        self.facts.push(Fact {
            part,
            what: what.to_owned(),
            value: format!("{number:.digits$} {unit}").trim_end().to_owned(),
            number: Some(number),
        });
    }

    /// Adds a table over time.
    pub fn series(&mut self, series: Series) {
        self.series.push(series);
    }

    /// What follows from two rows, p50 and p99, where it was compared.
    pub fn compared(&self, part: &str, what: &str) -> Option<(f64, f64)> {
        let mut all = self.comparisons.iter();
        let found = all.find(|one| one.part == part && one.what == what)?;
        Some((found.p50, found.p99))
    }

    /// A row against its limit: p50 and p99.
    pub fn ratio(&self, part: &str, what: &str) -> Option<(f64, f64)> {
        let row = self.find(part, what)?;
        let limit = self.find(part, row.limit.as_deref()?)?;
        let of = |percent| row.percentile(percent) / limit.percentile(percent);
        Some((of(50), of(99)))
    }

    /// A row that is there already.
    pub fn find(&self, part: &str, what: &str) -> Option<&Row> {
        self.rows
            .iter()
            .find(|row| row.part == part && row.what == what)
    }

    /// Holds everything against the goals: once, at the end. Where not all parts were run, the goals of
    /// the others are left out.
    pub fn judge(&mut self, all: bool) {
        self.goals = goals::verdicts(self);
        self.goals.retain(|goal| all || goal.reached.is_some());
    }

    /// Draws each part into a file of `dir`.
    ///
    /// # Errors
    /// The kernel's.
    pub fn svg(&self, dir: &Path) -> Result<()> {
        std::fs::create_dir_all(dir)?;
        let write = |name: &str, text: String| {
            let name: String = name.chars().filter(|c| !matches!(c, ',' | ':')).collect();
            std::fs::write(dir.join(name.replace(' ', "-") + ".svg"), text)
        };
        for part in self.parts() {
            let rows: Vec<&Row> = self.rows.iter().filter(|row| row.part == part).collect();
            if !rows.is_empty() {
                write(part, plot::svg(part, &rows))?;
            }
        }
        for picture in curve::all(self) {
            write(&picture.name, picture.svg())?;
        }
        Ok(())
    }

    /// The parts in the order in which they were measured.
    pub fn parts(&self) -> Vec<&'static str> {
        let rows = self.rows.iter().map(|row| row.part);
        let facts = self.facts.iter().map(|fact| fact.part);
        let series = self.series.iter().map(|series| series.part);
        let mut parts: Vec<&str> = Vec::new();
        for part in rows.chain(facts).chain(series) {
            if !parts.contains(&part) {
                parts.push(part);
            }
        }
        parts
    }

    /// Writes everything, samples included.
    ///
    /// # Errors
    /// The kernel's.
    pub fn json(&self, path: &Path) -> Result<()> {
        std::fs::write(path, serde_json::to_string_pretty(self)? + "\n")?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_samples_and_the_ratio_is_to_the_named_row() {
        let mut report = Report::new();
        report.row("x", "bare", None, (1..=100).map(f64::from).rev().collect());
        report.row("x", "ours", Some("bare"), vec![100.0, 75.0]);
        assert_eq!(report.rows[0].percentile(50), 50.0);
        assert_eq!(report.rows[0].percentile(99), 99.0);
        assert_eq!(report.rows[0].percentile(100), 100.0);
        assert_eq!(report.rows[0].mean(), 50.5);
        assert_eq!(report.ratio("x", "ours"), Some((1.5, 100.0 / 99.0)));
    }

    #[test]
    fn a_comparison_needs_both_rows() {
        let mut report = Report::new();
        report.row("x", "one", None, vec![30.0]);
        report.compare("x", "gap", ("one", "two"), Kind::More);
        assert_eq!(report.compared("x", "gap"), None);
        report.row("x", "two", None, vec![10.0]);
        report.compare("x", "gap", ("one", "two"), Kind::More);
        assert_eq!(report.compared("x", "gap"), Some((20.0, 20.0)));
    }

    #[test]
    fn parts_come_once_and_in_the_order_of_their_rows() {
        let mut report = Report::new();
        report.fact("late", "f", "g");
        report.row("first", "r", None, vec![1.0]);
        report.row("second", "r", None, vec![1.0]);
        report.row("first", "s", None, vec![1.0]);
        assert_eq!(report.parts(), ["first", "second", "late"]);
    }
}
