//! `c_init doctor`: which of the things that Refrain uses this machine has, and what the lack of each
//! costs (DESIGN section 9). It needs no site and leaves nothing behind.
//!
//! Called by [`crate::main`] where the first word is `doctor`. What the kernel can do is tried, never
//! taken from its version; see `refrain_sys::probe`.
//!
//! | file | what it looks at |
//! | --- | --- |
//! | `doctor/kernel.rs` | what is tried: memfds, pidfds, cgroups, mappings |
//! | `doctor/limits.rs` | how many actors fit: open files, processes |
//! | `doctor/memory.rs` | where the bank lies, swap, overcommit, huge pages |
//! | `doctor/rights.rs` | what a hardened machine takes away, core dumps, systemd |

mod kernel;
mod limits;
mod memory;
mod rights;

use std::fs;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};
use serde::Serialize;

use crate::client::screen;
use crate::commands::aps::json;
use crate::commands::{self, help};
use crate::program::complain;
use crate::table::columns;
use crate::words::printable;
use crate::{DONE, FAILED, USAGE};

/// say what this machine has of the things that Refrain uses, and what the rest costs
#[derive(Clone, Debug, Parser)]
#[command(name = "doctor", override_usage = "c_init doctor [--json]")]
struct Line {
    /// an object, for programs
    #[arg(long)]
    json: bool,
}

/// The definition of the command, for its page in `docs/commands/`.
#[must_use]
pub fn definition() -> clap::Command {
    Line::command()
}

/// How a thing was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    /// It is there.
    Found,
    /// It is not, and restarts go on as fast without it.
    Lacking,
    /// It is not, and that matters.
    Missing,
    /// Neither good nor bad.
    Note,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Finding {
    feature: &'static str,
    state: State,
    /// What was found.
    what: String,
    /// What its lack costs, where it is lacking.
    cost: Option<String>,
}

impl Finding {
    fn found(feature: &'static str, what: impl Into<String>) -> Self {
        Self {
            feature,
            state: State::Found,
            what: what.into(),
            cost: None,
        }
    }

    fn note(feature: &'static str, what: impl Into<String>) -> Self {
        Self {
            state: State::Note,
            ..Self::found(feature, what)
        }
    }

    /// Not there, and not there for nothing.
    fn missing(feature: &'static str, what: impl Into<String>, cost: impl Into<String>) -> Self {
        Self {
            state: State::Missing,
            cost: Some(cost.into()),
            ..Self::found(feature, what)
        }
    }

    /// Not there, and restarts are as fast.
    fn lacking(feature: &'static str, what: impl Into<String>, cost: impl Into<String>) -> Self {
        Self {
            state: State::Lacking,
            ..Self::missing(feature, what, cost)
        }
    }
}

/// Everything that was looked at.
#[derive(Debug, Serialize)]
struct Report {
    /// Whether nothing that matters is missing.
    full_speed: bool,
    summary: String,
    features: Vec<Finding>,
}

impl Report {
    fn of(features: Vec<Finding>) -> Self {
        let missing: Vec<_> = features
            .iter()
            .filter(|it| it.state == State::Missing)
            .collect();
        let summary = match missing.first() {
            None => "Refrain runs at full speed here".into(),
            Some(first) => format!(
                "{} missing: {}",
                missing
                    .iter()
                    .map(|it| it.feature)
                    .collect::<Vec<_>>()
                    .join(", "),
                first.cost.as_deref().unwrap_or_default()
            ),
        };
        Self {
            full_speed: missing.is_empty(),
            summary,
            features,
        }
    }

    fn text(&self) -> String {
        let rows: Vec<_> = self.features.iter().map(row).collect();
        format!(
            "{}\n{}\n",
            columns(&["STATE", "FEATURE", "WHAT"], &rows),
            self.summary
        )
    }
}

fn row(finding: &Finding) -> Vec<String> {
    let state = match finding.state {
        State::Found => "found",
        State::Lacking => "lacking",
        State::Missing => "MISSING",
        State::Note => "note",
    };
    let what = match &finding.cost {
        Some(cost) => format!("{}: {cost}", finding.what),
        None => finding.what.clone(),
    };
    vec![
        state.into(),
        finding.feature.into(),
        printable(&what).into_owned(),
    ]
}

/// The entry point: reads the program's arguments, `doctor` included. Answers the exit code.
#[must_use]
pub(crate) fn main() -> i32 {
    let line = match Line::try_parse_from(std::env::args_os().skip(1)) {
        Ok(line) => line,
        Err(error) if error.kind() == ErrorKind::DisplayHelp => {
            screen::out(&help::explain(&definition()));
            return DONE;
        }
        Err(error) => {
            let what = commands::one_line(&error);
            return complain(USAGE, format!("doctor: {what}; see c_init doctor --help"));
        }
    };
    let mut features = kernel::findings();
    features.extend(limits::findings());
    features.extend(memory::findings());
    features.extend(rights::findings());
    let report = Report::of(features);
    let text = match line.json {
        true => json(&report),
        false => Ok(report.text()),
    };
    match text {
        Ok(text) => screen::out(&text),
        Err(why) => return complain(FAILED, format!("doctor: {why}")),
    };
    if report.full_speed { DONE } else { FAILED }
}

/// The text of a file of the kernel's without blanks around it; `None` where there is no such file.
fn told(path: &str) -> Option<String> {
    fs::read_to_string(path)
        .ok()
        .map(|text| text.trim().to_owned())
}

/// A field of `/proc/self/status`.
fn status(field: &str) -> Option<String> {
    let text = told("/proc/self/status")?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    Some(line.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c3_the_definition_of_doctor_is_sound() {
        definition().debug_assert();
        assert!(help::explain(&definition()).starts_with("usage: c_init doctor [--json]\n"));
    }

    #[test]
    fn what_matters_decides_and_the_first_of_it_is_the_summary() {
        let found = Finding::found("a", "there");
        let lacking = Finding::lacking("b", "not there", "nothing");
        let report = Report::of(vec![found.clone(), lacking.clone()]);
        assert!(report.full_speed);
        assert_eq!(report.summary, "Refrain runs at full speed here");
        let missing = Finding::missing("c", "not there", "restarts will take 4 ms more");
        let report = Report::of(vec![found, lacking, missing]);
        assert!(!report.full_speed);
        assert_eq!(report.summary, "c missing: restarts will take 4 ms more");
        let text = report.text();
        for line in [
            "found    a        there\n",
            "lacking  b        not there: nothing\n",
            "MISSING  c        not there: restarts will take 4 ms more\n",
        ] {
            assert!(text.contains(line), "{line} in\n{text}");
        }
    }
}
