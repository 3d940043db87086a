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

impl Count {
    fn and(self, other: Self) -> Self {
        Self {
            injected: self.injected + other.injected,
            recovered: self.recovered + other.recovered,
        }
    }
}

/// The families of ends of lives, and what their columns are called.
const LIVES: [(&str, &str); 5] = [
    ("life", "one in a group"),
    ("crash storm", "again at once"),
    ("pile-up", "many in a group"),
    ("life, then hr_ctrl", "just before hr_ctrl ends"),
    ("life without hr_ctrl", "while it is away"),
];

/// A table with these columns, and those that every table has.
fn table_of(mut header: Vec<&'static str>) -> Table {
    header.extend(["injected", "recovered", "lost"]);
    let mut table = Table::new();
    table.load_preset(ASCII_MARKDOWN);
    table.set_header(header);
    table
}

/// A row: names, the injected of each count where `each` says so, and their sums.
fn add_row(table: &mut Table, mut row: Vec<String>, counts: &[Count], each: bool) {
    let names = row.len();
    if each {
        row.extend(counts.iter().map(|count| count.injected.to_string()));
    }
    let sum = counts
        .iter()
        .fold(Count::default(), |sum, one| sum.and(*one));
    let lost = sum.injected - sum.recovered;
    row.extend([sum.injected, sum.recovered, lost].map(|number| number.to_string()));
    let columns = row.len();
    table.add_row(row);
    for column in names..columns {
        let column = table
            .column_mut(column)
            .expect("a row was added of that length");
        column.set_cell_alignment(CellAlignment::Right);
    }
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
        self.sum(|_| true)
    }

    /// The tables: ends of lives by the way they ended, and everything else.
    #[must_use]
    pub fn tables(&self) -> String {
        format!("{}\n\n{}", self.lives(), self.others())
    }

    fn lives(&self) -> Table {
        let is_life = |family: &str| LIVES.iter().any(|(life, _)| *life == family);
        let mut names: Vec<_> = self
            .faults
            .keys()
            .filter(|(family, _)| is_life(family))
            .collect();
        names.sort_by_key(|(_, name)| *name);
        names.dedup_by_key(|(_, name)| *name);
        let mut header = vec!["end of a life"];
        header.extend(LIVES.iter().map(|(_, column)| *column));
        let mut table = table_of(header);
        for (_, name) in names {
            let counts = LIVES.map(|(family, _)| self.count(family, name));
            add_row(&mut table, vec![(*name).to_owned()], &counts, true);
        }
        let sums = LIVES.map(|(family, _)| self.sum(|of| of == family));
        add_row(&mut table, vec!["all".to_owned()], &sums, true);
        table
    }

    fn others(&self) -> Table {
        let mut table = table_of(vec!["what", "fault"]);
        for ((family, name), count) in &self.faults {
            if LIVES.iter().all(|(life, _)| life != family) {
                let names = vec![(*family).to_owned(), (*name).to_owned()];
                add_row(&mut table, names, &[*count], false);
            }
        }
        let lives = self.sum(|family| LIVES.iter().any(|(life, _)| *life == family));
        add_row(
            &mut table,
            vec!["lives".to_owned(), "(above)".to_owned()],
            &[lives],
            false,
        );
        add_row(
            &mut table,
            vec!["all".to_owned(), String::new()],
            &[self.total()],
            false,
        );
        table
    }

    fn count(&self, family: &'static str, name: &'static str) -> Count {
        self.faults
            .get(&(family, name))
            .copied()
            .unwrap_or_default()
    }

    fn sum(&self, wanted: impl Fn(&str) -> bool) -> Count {
        let all = self.faults.iter().filter(|((family, _), _)| wanted(family));
        all.fold(Count::default(), |sum, (_, one)| sum.and(*one))
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
        let tables = tally.tables();
        let row = |name: &str| {
            let line = tables
                .lines()
                .find(|line| line.contains(name))
                .expect("a row");
            let cells = line.split('|').map(|cell| cell.trim().to_owned());
            cells.collect::<Vec<_>>()
        };
        assert_eq!(
            row("SIGSEGV")[2..10],
            ["2", "0", "0", "0", "0", "2", "2", "0"]
        );
        assert_eq!(row("kill -9")[3..6], ["1", "0", "1"]);
        assert_eq!(row("(above)")[3..6], ["2", "2", "0"]);
        assert_eq!(
            tables.lines().last().map(|line| line.matches('1').count()),
            Some(1)
        );
    }
}
