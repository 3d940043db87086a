//! `c_init bank`: looks at a bank, checks it, repairs it. It works on the bank's directory itself and
//! needs no site; beside one that runs it only looks.
//!
//! Called by [`crate::main`] where the first word is `bank`. What is sound and what is not is decided
//! by `refrain-pmm`; nothing here writes into a bank.

mod repair;
mod show;

use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{ArgGroup, Args, CommandFactory, Parser, Subcommand};
use hr_ctrl::paths;
use refrain_pmm::{CheckError, Survey};

use crate::client::{self, screen};
use crate::commands::{self, help};
use crate::program::{complain, site_name};
use crate::words::printable;
use crate::{DONE, FAILED, NO_SITE, USAGE};

/// `c_init bank` and what follows.
#[derive(Clone, Debug, Parser)]
#[command(name = "c_init bank", disable_help_subcommand = true)]
struct Line {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Clone, Debug, Subcommand)]
enum Verb {
    /// show what a bank holds, and what is wrong with it
    #[command(override_usage = "c_init bank show [--json] DIR | --site NAME")]
    Show {
        /// an object, for programs; sizes in bytes
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        place: Place,
    },
    /// say what is wrong with a bank, one thing a line
    #[command(override_usage = "c_init bank check DIR | --site NAME")]
    Check {
        #[command(flatten)]
        place: Place,
    },
    /// say how a bank that is damaged can be mended, or mend it
    #[command(override_usage = "c_init bank repair [--yes] DIR | --site NAME")]
    Repair {
        /// do it; without, nothing is changed
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        place: Place,
    },
}

/// Which bank is meant.
#[derive(Clone, Debug, Args)]
#[command(group(ArgGroup::new("place").required(true)))]
struct Place {
    /// the bank of this site, running or not
    #[arg(long, value_name = "NAME", group = "place")]
    site: Option<String>,
    /// the bank in this directory
    #[arg(value_name = "DIR", group = "place")]
    dir: Option<PathBuf>,
}

/// The definitions of the subcommands, for the pages in `docs/commands/`.
#[must_use]
pub fn definitions() -> Vec<clap::Command> {
    Line::command().get_subcommands().cloned().collect()
}

/// The entry point: reads the program's arguments, `bank` included. Answers the exit code.
#[must_use]
pub(crate) fn main() -> i32 {
    let line = match Line::try_parse_from(std::env::args_os().skip(1)) {
        Ok(line) => line,
        Err(error) if error.kind() == ErrorKind::DisplayHelp => {
            screen::out(&explain());
            return DONE;
        }
        Err(error) => {
            let what = match error.kind() {
                ErrorKind::MissingRequiredArgument => "DIR or --site NAME is missing".into(),
                ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
                | ErrorKind::MissingSubcommand => "show, check or repair is missing".into(),
                _ => commands::one_line(&error),
            };
            return complain(USAGE, format!("bank: {what}; see c_init bank --help"));
        }
    };
    let (Verb::Show { place, .. } | Verb::Check { place } | Verb::Repair { place, .. }) =
        &line.verb;
    let dir = match place.directory() {
        Ok(dir) => dir,
        Err(why) => return complain(USAGE, format!("bank: {why}")),
    };
    let done = match &line.verb {
        Verb::Show { json, .. } => Survey::of(&dir).map(|survey| show::show(&survey, *json)),
        Verb::Check { .. } => Survey::of(&dir).map(|survey| check(&survey)),
        Verb::Repair { yes, .. } => repair::repair(&dir, *yes),
    };
    done.unwrap_or_else(|why| {
        let code = match why {
            CheckError::NoBank { .. } => NO_SITE,
            _ => FAILED,
        };
        complain(code, format!("bank: {}", printable(&why.to_string())))
    })
}

fn explain() -> String {
    let parts: Vec<_> = definitions().iter().map(help::explain).collect();
    parts.join("\n")
}

impl Place {
    /// The bank's directory. A running site is asked where it has its bank.
    fn directory(&self) -> Result<PathBuf, String> {
        if let Some(dir) = &self.dir {
            return Ok(dir.clone());
        }
        let site = site_name(self.site.clone())?;
        let told = client::ask(&site, &["memstat", "--json"]).and_then(|text| {
            let memory: serde_json::Value = serde_json::from_str(&text).ok()?;
            Some(PathBuf::from(memory.get("bank")?.as_str()?))
        });
        Ok(told.unwrap_or_else(|| paths::default_bank(&site)))
    }
}

/// `check`: a line for each damage, or one that says there is none.
fn check(survey: &Survey) -> i32 {
    if let Some(why) = &survey.refusal {
        screen::out(&format!(
            "{why}; start a site on the machine that made it\n"
        ));
        return FAILED;
    }
    if survey.damage.is_empty() {
        screen::out(&format!(
            "whole: {} blocks, {} registrations{}\n",
            survey.blocks.len(),
            survey.actors.len(),
            if survey.steady {
                ""
            } else {
                "; it changed all the while"
            }
        ));
        return DONE;
    }
    let lines = survey.damage.iter().map(show::damage_line);
    screen::out(&lines.collect::<String>());
    FAILED
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c3_the_definition_of_bank_is_sound() {
        Line::command().debug_assert();
        for part in ["show [--json]", "repair [--yes]", "  --site NAME", "  DIR "] {
            assert!(explain().contains(part), "{part} in\n{}", explain());
        }
    }

    #[test]
    fn c3_a_bank_is_named_by_its_directory_or_its_site() {
        let read = |line: &str| Line::try_parse_from(line.split(' '));
        for line in [
            "bank show x",
            "bank show --json --site x",
            "bank check x",
            "bank repair --yes x",
        ] {
            assert!(read(line).is_ok(), "{line}");
        }
        for line in [
            "bank",
            "bank show",
            "bank show x --site y",
            "bank check --json x",
            "bank check --yes x",
            "bank mend x",
        ] {
            assert!(read(line).is_err(), "{line}");
        }
    }
}
