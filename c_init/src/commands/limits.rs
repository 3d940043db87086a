//! `umask` and `ulimit`: what the actors started afterwards are given (SPEC C2). Actors that run
//! already keep what they have, in every life.

use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};
use rustix::process::{Resource, Rlimit, getrlimit};

use super::{CommandError, Flow, Outcome};
use crate::interpreter::Context;

/// `umask`: shows or sets the file mode creation mask.
#[derive(Clone, Debug, Args)]
#[command(override_usage = "umask [MODE]")]
pub struct Umask {
    /// the mask, in octal
    #[arg(value_name = "MODE", value_parser = octal)]
    pub mode: Option<u32>,
}

impl Umask {
    pub(crate) fn run(&self, cx: &Context<'_>) -> Outcome {
        match self.mode {
            Some(mode) => cx.state_mut().umask = Some(mode),
            None => {
                let mask = cx.state().umask.map_or_else(own_umask, Ok)?;
                cx.out(format!("{mask:04o}\n"));
            }
        }
        Ok(Flow::Next)
    }
}

fn octal(text: &str) -> Result<u32, String> {
    let mode = u32::from_str_radix(text, 8)
        .ok()
        .filter(|&mode| mode <= 0o777);
    mode.ok_or_else(|| "not an octal mode up to 0777".to_owned())
}

/// The site's own mask, from proc(5): umask(2) can only be asked by changing it, under the feet
/// of the other threads.
fn own_umask() -> Result<u32, CommandError> {
    let status = std::fs::read_to_string("/proc/self/status").map_err(CommandError::failed)?;
    let line = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    line.and_then(|text| u32::from_str_radix(text.trim(), 8).ok())
        .ok_or_else(|| CommandError::failed("the kernel does not tell the mask"))
}

/// A resource with its letter, its name and the bytes or other units that a number counts, all
/// as in `sh`.
struct Limit {
    letter: char,
    id: &'static str,
    what: &'static str,
    resource: Resource,
    unit: u64,
}

const LIMITS: [Limit; 10] = [
    Limit {
        letter: 'c',
        id: "core",
        what: "core dump, in 512-byte blocks",
        resource: Resource::Core,
        unit: 512,
    },
    Limit {
        letter: 'd',
        id: "data",
        what: "data segment, in KiB",
        resource: Resource::Data,
        unit: 1024,
    },
    Limit {
        letter: 'f',
        id: "file",
        what: "size of a file, in 512-byte blocks",
        resource: Resource::Fsize,
        unit: 512,
    },
    Limit {
        letter: 'l',
        id: "memlock",
        what: "locked memory, in KiB",
        resource: Resource::Memlock,
        unit: 1024,
    },
    Limit {
        letter: 'm',
        id: "rss",
        what: "resident memory, in KiB",
        resource: Resource::Rss,
        unit: 1024,
    },
    Limit {
        letter: 'n',
        id: "nofile",
        what: "open files",
        resource: Resource::Nofile,
        unit: 1,
    },
    Limit {
        letter: 's',
        id: "stack",
        what: "stack, in KiB",
        resource: Resource::Stack,
        unit: 1024,
    },
    Limit {
        letter: 't',
        id: "cpu",
        what: "cpu time, in seconds",
        resource: Resource::Cpu,
        unit: 1,
    },
    Limit {
        letter: 'u',
        id: "nproc",
        what: "threads and processes of the user",
        resource: Resource::Nproc,
        unit: 1,
    },
    Limit {
        letter: 'v',
        id: "as",
        what: "address space, in KiB",
        resource: Resource::As,
        unit: 1024,
    },
];

/// `ulimit`: shows or sets resource limits.
#[derive(Clone, Debug)]
pub struct Ulimit {
    hard: bool,
    soft: bool,
    all: bool,
    /// Indexes into [`LIMITS`].
    which: Vec<usize>,
    limit: Option<String>,
}

// By hand, so that the letters come from the table.
impl Args for Ulimit {
    fn augment_args(command: Command) -> Command {
        let flag = |id: &'static str, letter: char, help: &'static str| {
            Arg::new(id)
                .short(letter)
                .action(ArgAction::SetTrue)
                .help(help)
        };
        let command = command
            .override_usage("ulimit [-H|-S] [-a|-cdflmnstuv] [LIMIT]")
            .arg(flag(
                "hard",
                'H',
                "the hard limit; without -H and -S, LIMIT sets both",
            ))
            .arg(flag("soft", 'S', "the soft limit"))
            .arg(flag("all", 'a', "show all limits").conflicts_with("limit"));
        LIMITS
            .iter()
            .fold(command, |command, it| {
                command.arg(flag(it.id, it.letter, it.what))
            })
            .arg(
                Arg::new("limit")
                    .value_name("LIMIT")
                    .help("a number, hard, soft or unlimited; without a letter it is that of -f"),
            )
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Ulimit {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let given = |&at: &usize| matches.get_flag(LIMITS[at].id);
        Ok(Self {
            hard: matches.get_flag("hard"),
            soft: matches.get_flag("soft"),
            all: matches.get_flag("all"),
            which: (0..LIMITS.len()).filter(given).collect(),
            limit: matches.get_one::<String>("limit").cloned(),
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Ulimit {
    pub(crate) fn run(&self, cx: &Context<'_>) -> Outcome {
        let file = LIMITS.iter().position(|it| it.letter == 'f').into_iter();
        let which: Vec<_> = match (self.all, self.which.is_empty()) {
            (true, _) => (0..LIMITS.len()).collect(),
            (false, true) => file.collect(),
            (false, false) => self.which.clone(),
        };
        let limits: Vec<_> = which.into_iter().map(|at| &LIMITS[at]).collect();
        match (&self.limit, limits.as_slice()) {
            (None, [one]) => cx.out(format!("{}\n", self.shown(one, cx))),
            (None, many) => cx.out(
                many.iter()
                    .map(|it| format!("-{}  {:<36}{}\n", it.letter, it.what, self.shown(it, cx)))
                    .collect::<String>(),
            ),
            (Some(text), [one]) => self.set(one, text, cx)?,
            (Some(_), _) => {
                return Err(CommandError::Usage(
                    "one resource at a time; see help ulimit".into(),
                ));
            }
        }
        Ok(Flow::Next)
    }

    fn shown(&self, limit: &Limit, cx: &Context<'_>) -> String {
        let (soft, hard) = now(limit, cx);
        let value = if self.hard { hard } else { soft };
        if value == u64::MAX {
            "unlimited".to_owned()
        } else {
            (value / limit.unit).to_string()
        }
    }

    fn set(&self, limit: &Limit, text: &str, cx: &Context<'_>) -> Result<(), CommandError> {
        let (mut soft, mut hard) = now(limit, cx);
        let value = match text {
            "unlimited" => u64::MAX,
            "hard" => hard,
            "soft" => soft,
            number => {
                let number: Option<u64> = number.parse().ok();
                let value = number.and_then(|number| number.checked_mul(limit.unit));
                value.ok_or_else(|| {
                    CommandError::Usage(format!("'{text}' is no limit; see help ulimit"))
                })?
            }
        };
        if self.hard || !self.soft {
            hard = value;
        }
        if self.soft || !self.hard {
            soft = value;
        }
        if soft > hard {
            return Err(CommandError::failed(
                "the soft limit would be above the hard one; set both",
            ));
        }
        let own = of_the_site(limit.resource);
        if hard > own.1 && !rustix::process::geteuid().is_root() {
            return Err(CommandError::failed(
                "only root raises a limit above the site's own hard one",
            ));
        }
        cx.state_mut()
            .limits
            .insert(limit.resource as u32, (soft, hard));
        Ok(())
    }
}

/// What an actor started now would get: soft, hard; `u64::MAX` is no limit.
fn now(limit: &Limit, cx: &Context<'_>) -> (u64, u64) {
    let set = cx.state().limits.get(&(limit.resource as u32)).copied();
    set.unwrap_or_else(|| of_the_site(limit.resource))
}

/// How many files the site itself was allowed to open when it was started. hr_ctrl has raised
/// its own limit since; its parent, nucleus, has not. Actors get what they would get without
/// Refrain, for a program may size its tables by it.
pub(crate) fn inherited_nofile() -> Option<(u32, (u64, u64))> {
    let parent = rustix::process::getppid()?.as_raw_nonzero();
    let limits = std::fs::read_to_string(format!("/proc/{parent}/limits")).ok()?;
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?;
    let mut numbers = line.split_whitespace().map(|word| match word {
        "unlimited" => Some(u64::MAX),
        number => number.parse().ok(),
    });
    let (soft, hard) = (numbers.next()??, numbers.next()??);
    Some((Resource::Nofile as u32, (soft, hard)))
}

fn of_the_site(resource: Resource) -> (u64, u64) {
    let Rlimit { current, maximum } = getrlimit(resource);
    (current.unwrap_or(u64::MAX), maximum.unwrap_or(u64::MAX))
}
