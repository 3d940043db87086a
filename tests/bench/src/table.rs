//! The report as text: a table for each part, then the goals. Called by `main.rs` at the end. It computes
//! nothing but what stands in a cell.

use std::fmt::Write as _;

use comfy_table::{CellAlignment, Table, presets};

use crate::report::{Kind, Report, Series};

/// Everything, parts in order.
pub fn text(report: &Report) -> String {
    let machine = &report.machine;
    let mut text = format!(
        "{} x {}, {} MiB, kernel {}, load {} at the start; microseconds\n",
        machine.cpus, machine.cpu, machine.memory_mib, machine.kernel, machine.load
    );
    for part in report.parts() {
        // Writing to a String cannot fail, here and below.
        let _ = writeln!(text, "\n{part}");
        if report.rows.iter().any(|row| row.part == part) {
            let _ = writeln!(text, "{}", latencies(report, part));
        }
        for series in report.series.iter().filter(|series| series.part == part) {
            let _ = writeln!(text, "{}:\n{}", series.what, over_time(series));
        }
        for fact in report.facts.iter().filter(|fact| fact.part == part) {
            let _ = writeln!(text, "  {}: {}", fact.what, fact.value);
        }
    }
    if !report.goals.is_empty() {
        let _ = writeln!(text, "\ngoals\n{}", goals(report));
    }
    text
}

fn empty<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::ASCII_MARKDOWN);
    table.set_header(header);
    table
}

fn right(table: &mut Table, columns: impl IntoIterator<Item = usize>) {
    for column in columns {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
}

fn latencies(report: &Report, part: &str) -> Table {
    let mut table = empty([
        "what",
        "p50",
        "p99",
        "max",
        "mean",
        "n",
        "limit",
        "p50 ratio",
        "p99 ratio",
    ]);
    for row in report.rows.iter().filter(|row| row.part == part) {
        let ratio = report.ratio(part, &row.what);
        let shown = |value: Option<f64>| value.map_or(String::new(), |value| format!("{value:.2}"));
        table.add_row([
            row.what.clone(),
            number(row.percentile(50)),
            number(row.percentile(99)),
            number(row.percentile(100)),
            number(row.mean()),
            row.samples_us.len().to_string(),
            row.limit.clone().unwrap_or_default(),
            shown(ratio.map(|(half, _)| half)),
            shown(ratio.map(|(_, most)| most)),
        ]);
    }
    for one in report.comparisons.iter().filter(|one| one.part == part) {
        let (name, against) = (one.what.clone(), one.against.clone());
        let none = String::new;
        table.add_row(match one.kind {
            Kind::More => [
                name,
                number(one.p50),
                number(one.p99),
                none(),
                none(),
                none(),
                against,
                none(),
                none(),
            ],
            Kind::Ratio => [
                name,
                none(),
                none(),
                none(),
                none(),
                none(),
                against,
                format!("{:.2}", one.p50),
                format!("{:.2}", one.p99),
            ],
        });
    }
    right(&mut table, [1, 2, 3, 4, 5, 7, 8]);
    table
}

fn over_time(series: &Series) -> Table {
    let mut table = empty([]);
    table.set_header(&series.columns);
    for row in &series.rows {
        table.add_row(row.iter().map(|value| format!("{value:.0}")));
    }
    right(&mut table, 0..series.columns.len());
    table
}

fn goals(report: &Report) -> Table {
    let mut table = empty(["goal", "wanted", "measured", "reached"]);
    for verdict in &report.goals {
        table.add_row([
            &verdict.goal,
            &verdict.wanted,
            &verdict.measured,
            verdict.word(),
        ]);
    }
    table
}

fn number(value: f64) -> String {
    if value.abs() < 1.0 {
        format!("{value:.3}")
    } else if value.abs() < 100.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.0}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comparison_stands_among_the_rows_of_its_part() {
        let mut report = Report::new();
        report.row("x", "none", None, vec![10.0]);
        report.row("x", "much", None, vec![15.0]);
        report.compare("x", "much against none", ("much", "none"), Kind::Ratio);
        let text = text(&report);
        let line = text.lines().find(|line| line.contains("much against"));
        assert!(line.is_some_and(|line| line.contains("1.50")), "{text}");
    }
}
