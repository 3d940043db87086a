//! Every command of C_INIT (SPEC C2): one definition of its flags, shared by the interpreter,
//! by the program of the same name, by `help` and by the pages in `docs/commands/`.
//!
//! A command is a `clap` argument struct with a `run`. It may ask the site and change the
//! interpreter's state; it must never touch an actor itself, nor block the thread, which holds
//! every other session too.

pub mod actors;
pub mod aps;
pub(crate) mod confine;
pub mod environment;
mod error;
pub mod files;
pub mod hang;
pub mod help;
pub mod limits;
pub mod output;
pub mod power;
pub mod rshd;
pub mod stat;

use std::sync::OnceLock;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use futures_util::future::LocalBoxFuture;

pub use error::{CommandError, one_line};

use crate::interpreter::Context;

/// What follows a command that was carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// The next line.
    Next,
    /// Nothing: the file or the session ends here.
    End,
}

/// How a command ended.
pub type Outcome = Result<Flow, CommandError>;

/// A command line: the first word is the command.
#[derive(Clone, Debug, Parser)]
#[command(name = "c_init", multicall = true, disable_help_subcommand = true)]
pub struct CommandLine {
    /// The command and its arguments.
    #[command(subcommand)]
    pub verb: Verb,
}

/// The commands, with ChorusOS's own spelling.
#[derive(Clone, Debug, Subcommand)]
pub enum Verb {
    /// kill an actor with its group, or a group
    Akill(actors::Akill),
    /// list the actors
    Aps(aps::Aps),
    /// run a program as an actor
    Arun(Box<actors::Arun>),
    /// show the site's figures
    #[command(name = "chorusStat")]
    ChorusStat(stat::ChorusStat),
    /// make this session the site's console
    Console(output::Console),
    /// print the words
    Echo(environment::Echo),
    /// list the environment that actors are given
    Env(environment::Env),
    /// leave this file or session
    #[command(alias = "quit")]
    Exit(files::Exit),
    /// list the commands, or explain one
    Help(help::Help),
    /// show the end of an actor's output
    Log(output::Log),
    /// show persistent memory
    Memstat(stat::Memstat),
    /// cold restart: the same as shutdown -i 2
    Reboot(power::Reboot),
    /// site restart: every direct actor begins a new life, persistent memory is kept
    Restart(power::Restart),
    /// take commands from a TCP port until the site restarts
    Rshd(rshd::Rshd),
    /// set a variable in the environment that actors are given
    Setenv(environment::Setenv),
    /// halt or restart the site
    Shutdown(power::Shutdown),
    /// wait
    Sleep(files::Sleep),
    /// carry out the commands in a file
    Source(files::Source),
    /// show or set the resource limits of the actors started from now on
    Ulimit(limits::Ulimit),
    /// show or set the file mode creation mask of the actors started from now on
    Umask(limits::Umask),
    /// remove a variable from the environment that actors are given
    Unsetenv(environment::Unsetenv),
}

impl Verb {
    /// Whether all that it does is to set something in the interpreter, which an hr_ctrl that is started
    /// again has to do again.
    pub(crate) fn sets_something(&self) -> bool {
        matches!(
            self,
            Self::Rshd(_)
                | Self::Setenv(_)
                | Self::Source(_)
                | Self::Ulimit(_)
                | Self::Umask(_)
                | Self::Unsetenv(_)
        )
    }

    /// Carries the command out.
    pub(crate) fn run<'a>(&'a self, cx: &'a Context<'a>) -> LocalBoxFuture<'a, Outcome> {
        match self {
            Self::Akill(args) => Box::pin(args.run(cx)),
            Self::Aps(args) => Box::pin(args.run(cx)),
            Self::Arun(args) => Box::pin(args.run(cx)),
            Self::ChorusStat(args) => Box::pin(args.run(cx)),
            Self::Console(args) => ready(args.run(cx)),
            Self::Echo(args) => ready(args.run(cx)),
            Self::Env(args) => ready(args.run(cx)),
            Self::Exit(args) => ready(args.run()),
            Self::Help(args) => ready(args.run(cx)),
            Self::Log(args) => Box::pin(args.run(cx)),
            Self::Memstat(args) => Box::pin(args.run(cx)),
            Self::Reboot(args) => Box::pin(args.run(cx)),
            Self::Restart(args) => Box::pin(args.run(cx)),
            Self::Rshd(args) => Box::pin(args.run(cx)),
            Self::Setenv(args) => ready(args.run(cx)),
            Self::Shutdown(args) => Box::pin(args.run(cx)),
            Self::Sleep(args) => Box::pin(args.run()),
            Self::Source(args) => Box::pin(args.run(cx)),
            Self::Ulimit(args) => ready(args.run(cx)),
            Self::Umask(args) => ready(args.run(cx)),
            Self::Unsetenv(args) => ready(args.run(cx)),
        }
    }
}

/// A command that did not have to wait.
fn ready(outcome: Outcome) -> LocalBoxFuture<'static, Outcome> {
    Box::pin(std::future::ready(outcome))
}

/// The definition of the command `name`.
#[must_use]
pub fn find(name: &str) -> Option<clap::Command> {
    all()
        .into_iter()
        .find(|it| it.get_name() == name || it.get_all_aliases().any(|a| a == name))
}

/// The definitions of all commands, by name.
#[must_use]
pub fn all() -> Vec<clap::Command> {
    let root = CommandLine::command();
    let mut all: Vec<_> = root.get_subcommands().cloned().collect();
    all.sort_by_key(|it| it.get_name().to_lowercase());
    all
}

/// Reads words as a command.
///
/// # Errors
/// [`CommandError::Usage`] for an unknown command or a wrong flag; [`CommandError::Help`] where
/// the flags ask for help.
pub fn parse(words: &[String]) -> Result<Verb, CommandError> {
    let name = words.first().map_or("", String::as_str);
    // Made once: it takes as long as carrying out most commands.
    static DEFINITION: OnceLock<clap::Command> = OnceLock::new();
    let definition = DEFINITION.get_or_init(CommandLine::command);
    if definition.find_subcommand(name).is_none() {
        return Err(CommandError::Usage(format!(
            "{name}: unknown command; help lists them"
        )));
    }
    let matches = definition.clone().try_get_matches_from(words);
    match matches.and_then(|matches| CommandLine::from_arg_matches(&matches)) {
        Ok(line) => Ok(line.verb),
        Err(error) if error.kind() == clap::error::ErrorKind::DisplayHelp => {
            Err(CommandError::Help(name.to_owned()))
        }
        Err(error) => Err(CommandError::Usage(format!(
            "{name}: {}; see help {name}",
            one_line(&error)
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        crate::words::split(line).unwrap()
    }

    #[test]
    fn c2_every_definition_is_sound() {
        CommandLine::command().debug_assert();
        for name in [
            "arun", "akill", "aps", "umask", "ulimit", "setenv", "unsetenv", "env", "echo",
        ] {
            assert!(find(name).is_some(), "{name}");
        }
        for name in [
            "source",
            "sleep",
            "help",
            "memstat",
            "chorusStat",
            "console",
            "rshd",
        ] {
            assert!(find(name).is_some(), "{name}");
        }
        for name in ["restart", "reboot", "shutdown", "log", "exit", "quit"] {
            assert!(find(name).is_some(), "{name}");
        }
    }

    #[test]
    fn c2_what_follows_the_path_belongs_to_the_program() {
        let line = "arun -g 1 -q -xip redis-server -g --port 7777 --save '' -xip --help";
        let Ok(Verb::Arun(arun)) = parse(&words(line)) else {
            panic!("not parsed")
        };
        assert_eq!(
            (arun.gid, arun.quiet, arun.in_place()),
            (Some(1), true, true)
        );
        assert_eq!(
            arun.program,
            words("redis-server -g --port 7777 --save '' -xip --help")
        );
    }

    #[test]
    fn c4_wrong_usage_is_one_line_that_names_the_cure() {
        let told = |line: &str| parse(&words(line)).unwrap_err().to_string();
        assert_eq!(told("bogus 1"), "bogus: unknown command; help lists them");
        assert_eq!(
            told("arun --bogus x"),
            "arun: unexpected argument '--bogus'; see help arun"
        );
        assert_eq!(told("arun"), "arun: PATH is missing; see help arun");
        assert_eq!(
            told("shutdown"),
            "shutdown: -i LEVEL is missing; see help shutdown"
        );
        for line in [
            "arun -g x p",
            "arun -g 4294967295 p",
            "akill",
            "akill -g 1 2",
            "akill x",
            "aps x",
        ] {
            let told = told(line);
            assert_eq!(told.lines().count(), 1, "{told}");
            assert!(told.contains("; see help a"), "{told}");
        }
    }

    #[test]
    fn c4_xip_is_one_flag_and_no_bundle() {
        for line in ["arun -x p", "arun -xi p", "arun -xipq p"] {
            assert!(parse(&words(line)).is_err(), "{line}");
        }
    }
}
