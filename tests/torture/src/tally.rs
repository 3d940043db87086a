//! What was done, and what came of it: the table at the end of a run.

use std::collections::BTreeMap;
use std::time::Duration;

use comfy_table::{CellAlignment, Table, presets::ASCII_MARKDOWN};

/// How often something was done, and how often everything was as it must be afterwards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Done.
    pub injected: u64,
    /// And checked.
    pub recovered: u64,
}

/// The counts of a run.
#[derive(Debug, Default)]
pub struct Tally {
    faults: BTreeMap<(&'static str, &'static str), Count>,
    pending: Vec<(&'static str, &'static str)>,
    /// Steps that were done.
    pub steps: u64,
    /// Commands, clean ends, kills by command and the like, which are no faults.
    pub operations: u64,
    /// How often everything that the site says was compared with the model.
    pub checks: u64,
    /// How often everything that the actors say was, alone.
    pub evidence_checks: u64,
    /// How often the processes were counted.
    pub censuses: u64,
}

impl Tally {
    /// A fault of that family and name was injected.
    pub fn inject(&mut self, family: &'static str, name: &'static str) {
        self.faults.entry((family, name)).or_default().injected += 1;
        self.pending.push((family, name));
    }

    /// Everything that was injected was recovered from.
    pub fn recovered(&mut self) {
        for key in self.pending.drain(..) {
            self.faults.entry(key).or_default().recovered += 1;
        }
    }

    /// The run was interrupted: nobody will look at what was injected last.
    pub fn forget_pending(&mut self) {
        for key in self.pending.drain(..) {
            self.faults.entry(key).or_default().injected -= 1;
        }
    }

    /// All faults.
    #[must_use]
    pub fn total(&self) -> Count {
        let add = |sum: Count, one: &Count| Count {
            injected: sum.injected + one.injected,
            recovered: sum.recovered + one.recovered,
        };
        self.faults.values().fold(Count::default(), add)
    }

    /// The table.
    #[must_use]
    pub fn table(&self) -> String {
        let mut table = Table::new();
        table.load_preset(ASCII_MARKDOWN);
        table.set_header(["what", "fault", "injected", "recovered", "lost"]);
        let mut row = |family: &str, name: &str, count: Count| {
            let lost = count.injected - count.recovered;
            table.add_row([
                family.to_owned(),
                name.to_owned(),
                count.injected.to_string(),
                count.recovered.to_string(),
                lost.to_string(),
            ]);
        };
        for ((family, name), count) in &self.faults {
            row(family, name, *count);
        }
        row("all", "", self.total());
        for column in 2..5 {
            let column = table.column_mut(column).expect("five columns");
            column.set_cell_alignment(CellAlignment::Right);
        }
        table.to_string()
    }

    /// One line.
    #[must_use]
    pub fn line(&self, time: Duration) -> String {
        let total = self.total();
        let (steps, operations) = (self.steps, self.operations);
        let seconds = time.as_secs().max(1);
        format!(
            "{} faults in {seconds} s ({} a second), {steps} steps, {operations} other operations, {} checks of \
             all evidence and {} of all that the site says, {} counts of the processes, lost: {}",
            total.injected,
            total.injected / seconds,
            self.evidence_checks + self.checks,
            self.checks,
            self.censuses,
            total.injected - total.recovered
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_injected_and_not_recovered_is_lost() {
        let mut tally = Tally::default();
        tally.inject("life", "SIGSEGV");
        tally.inject("life", "SIGSEGV");
        tally.recovered();
        tally.inject("hr_ctrl", "kill -9");
        let total = tally.total();
        assert_eq!((total.injected, total.recovered), (3, 2));
        let table = tally.table();
        let row = |name: &str| {
            let line = table
                .lines()
                .find(|line| line.contains(name))
                .expect("a row");
            line.split('|')
                .map(|cell| cell.trim().to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(row("SIGSEGV")[3..6], ["2", "2", "0"]);
        assert_eq!(row("kill -9")[3..6], ["1", "0", "1"]);
        assert_eq!(row("| all")[3..6], ["3", "2", "1"]);
    }
}
