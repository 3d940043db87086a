//! `help`: the list of commands, and the usage of one, both taken from the definitions that the
//! flags are parsed by. `docs/commands/` holds the same text, and a test compares the two.

use std::fmt::Write as _;

use clap::{Arg, Args, Command};

use super::{CommandError, Flow, Outcome};
use crate::interpreter::Context;

/// `help`: lists the commands, or explains one.
#[derive(Clone, Debug, Args)]
#[command(override_usage = "help [COMMAND]")]
pub struct Help {
    /// the command to explain
    #[arg(value_name = "COMMAND")]
    pub command: Option<String>,
}

impl Help {
    pub(crate) fn run(&self, cx: &Context<'_>) -> Outcome {
        let text = match &self.command {
            None => list(),
            Some(name) => {
                let unknown =
                    || CommandError::Failed(format!("no command '{name}'; help lists them"));
                explain(&super::find(name).ok_or_else(unknown)?)
            }
        };
        cx.out(text);
        Ok(Flow::Next)
    }
}

/// Every command with what it does.
#[must_use]
pub fn list() -> String {
    super::all()
        .iter()
        .fold(String::new(), |mut text, command| {
            let _ = writeln!(text, "{:<12}{}", command.get_name(), about(command));
            text
        })
}

/// The width of the column of flags; a longer one has a line of its own.
const LABEL: usize = 22;

/// Usage, purpose and arguments of a command.
#[must_use]
pub fn explain(command: &Command) -> String {
    let usage = command.clone().render_usage().to_string();
    let usage = usage.trim_start_matches("Usage:").trim();
    let mut text = format!("usage: {usage}\n{}\n", about(command));
    let shown = command.get_arguments().filter(|arg| !is_help(arg));
    let (named, placed): (Vec<_>, Vec<_>) = shown.partition(|arg| !arg.is_positional());
    if !(named.is_empty() && placed.is_empty()) {
        text.push('\n');
    }
    for arg in named.into_iter().chain(placed) {
        let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
        let label = label(arg);
        if label.len() > LABEL {
            let _ = writeln!(text, "  {label}\n  {:<LABEL$}{help}", "");
        } else {
            let _ = writeln!(text, "  {label:<LABEL$}{help}");
        }
    }
    text
}

fn about(command: &Command) -> String {
    command
        .get_about()
        .map(ToString::to_string)
        .unwrap_or_default()
}

fn is_help(arg: &Arg) -> bool {
    matches!(arg.get_id().as_str(), "help" | "version")
}

/// How an argument is written: `-g GID`, `--json`, `-xip`, `AID`.
fn label(arg: &Arg) -> String {
    let value = arg
        .get_value_names()
        .and_then(<[_]>::first)
        .map_or("", |it| it.as_str());
    let takes_value = arg.get_action().takes_values();
    let flag = match (arg.get_short(), arg.get_long()) {
        (Some(short), Some(long)) => format!("-{short}, --{long}"),
        (Some(short), None) => format!("-{short}"),
        (None, Some(long)) => format!("--{long}"),
        (None, None) => return value.to_owned(),
    };
    match arg.get_possible_values().as_slice() {
        // A flag with a single possible value is that value behind the letter: `-xip`.
        [only] if takes_value => format!("{flag}{}", only.get_name()),
        _ if takes_value => format!("{flag} {value}"),
        _ => flag,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c2_help_lists_every_command_and_explains_each() {
        let list = list();
        for command in crate::commands::all() {
            assert!(list.contains(command.get_name()));
            let text = explain(&command);
            assert!(
                text.starts_with(&format!("usage: {}", command.get_name())),
                "{text}"
            );
            assert!(!about(&command).is_empty(), "{}", command.get_name());
        }
    }

    #[test]
    fn c2_help_writes_flags_as_they_are_typed() {
        let text = explain(&crate::commands::find("arun").unwrap());
        for flag in ["  -g GID ", "  -xip ", "  --layout same|fresh ", "  PATH "] {
            assert!(text.contains(flag), "{flag} in\n{text}");
        }
    }
}
