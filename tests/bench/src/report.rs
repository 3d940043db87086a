//! What was measured, as a table and as JSON. Called by every part with its samples; decides nothing
//! about good or bad: a ratio is shown, never judged.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Result;
use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;

use crate::plot;

/// One line of a table.
#[derive(Debug, Serialize)]
pub struct Row {
    /// The part of the benchmark.
    pub part: &'static str,
    /// What was measured.
    pub what: String,
    /// The row of the same part that it is compared with.
    pub limit: Option<String>,
    /// Every sample in microseconds, in order of size.
    pub samples_us: Vec<f64>,
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
}

/// The machine that was measured on.
#[derive(Debug, Serialize)]
pub struct Machine {
    /// The processor.
    pub cpu: String,
    /// How many of them.
    pub cpus: usize,
    /// The kernel.
    pub kernel: String,
    /// Load of the last minute when the run began: others disturb it.
    pub load: String,
}

/// Everything of one run.
#[derive(Debug, Serialize)]
pub struct Report {
    machine: Machine,
    rows: Vec<Row>,
    facts: Vec<Fact>,
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
}

impl Machine {
    fn look() -> Self {
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        let cpus = read("/proc/cpuinfo");
        let model = cpus
            .lines()
            .find_map(|line| line.strip_prefix("model name"));
        let model = model.map(|rest| rest.trim_start_matches(['\t', ' ', ':']));
        let load = read("/proc/loadavg");
        Self {
            cpu: model.unwrap_or("unknown").to_owned(),
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            load: load.split(' ').next().unwrap_or_default().to_owned(),
        }
    }
}

impl Report {
    /// An empty one.
    pub fn new() -> Self {
        Self {
            machine: Machine::look(),
            rows: Vec::new(),
            facts: Vec::new(),
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
            samples_us,
        });
    }

    /// Adds a figure.
    pub fn fact(&mut self, part: &'static str, what: &str, value: String) {
        let what = what.to_owned();
        self.facts.push(Fact { part, what, value });
    }

    /// The median of a row that is there already.
    pub fn median(&self, part: &str, what: &str) -> Option<f64> {
        self.find(part, what).map(|row| row.percentile(50))
    }

    fn find(&self, part: &str, what: &str) -> Option<&Row> {
        self.rows
            .iter()
            .find(|row| row.part == part && row.what == what)
    }

    /// The tables, parts in order.
    pub fn text(&self) -> String {
        let Machine {
            cpu,
            cpus,
            kernel,
            load,
        } = &self.machine;
        let mut text =
            format!("{cpus} x {cpu}, kernel {kernel}, load {load} at the start; microseconds\n");
        for part in self.parts() {
            let table = self.table(part);
            // Writing to a String cannot fail.
            let _ = writeln!(text, "\n{part}\n{table}");
            for fact in self.facts.iter().filter(|fact| fact.part == part) {
                let _ = writeln!(text, "  {}: {}", fact.what, fact.value);
            }
        }
        text
    }

    fn table(&self, part: &str) -> Table {
        let mut table = Table::new();
        table.load_preset(presets::ASCII_MARKDOWN);
        table.set_header([
            "what",
            "p50",
            "p99",
            "max",
            "n",
            "limit",
            "p50 ratio",
            "p99 ratio",
        ]);
        for row in self.rows.iter().filter(|row| row.part == part) {
            let limit = row.limit.as_deref().and_then(|what| self.find(part, what));
            let ratio = |percent| {
                limit.map_or(String::new(), |limit| {
                    format!("{:.2}", row.percentile(percent) / limit.percentile(percent))
                })
            };
            table.add_row([
                row.what.clone(),
                number(row.percentile(50)),
                number(row.percentile(99)),
                number(row.percentile(100)),
                row.samples_us.len().to_string(),
                row.limit.clone().unwrap_or_default(),
                ratio(50),
                ratio(99),
            ]);
        }
        for column in [1, 2, 3, 4, 6, 7] {
            if let Some(column) = table.column_mut(column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        table
    }

    /// Draws each part into a file of `dir`.
    ///
    /// # Errors
    /// The kernel's.
    pub fn svg(&self, dir: &Path) -> Result<()> {
        std::fs::create_dir_all(dir)?;
        for part in self.parts() {
            let rows: Vec<&Row> = self.rows.iter().filter(|row| row.part == part).collect();
            let name: String = part.chars().filter(|c| *c != ',').collect();
            let path = dir.join(name.replace(' ', "-")).with_extension("svg");
            std::fs::write(path, plot::svg(part, &rows))?;
        }
        Ok(())
    }

    fn parts(&self) -> Vec<&'static str> {
        let mut parts: Vec<_> = self.rows.iter().map(|row| row.part).collect();
        parts.sort_by_key(|part| self.rows.iter().position(|row| row.part == *part));
        parts.dedup();
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

fn number(value: f64) -> String {
    if value < 100.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.0}")
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
        assert_eq!(report.median("x", "ours"), Some(75.0));
        let text = report.text();
        let ours = text.lines().find(|line| line.contains("| ours")).unwrap();
        assert!(ours.contains("1.50"), "{text}");
    }
}
