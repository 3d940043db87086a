//! The ways in which a life can be made to end: by itself, told on its FIFO, or by a signal from outside.
//!
//! A table, read by the plan (which may be chosen), by whoever carries a step out, and by the check of
//! what the site says about the end.

use rustix::process::Signal;

use crate::cast::{Body, Member};

/// A way to end.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    /// What the table of a run calls it.
    pub name: &'static str,
    /// Who can end like this.
    pub bodies: &'static [Body],
    /// The flag that the program needs for it.
    pub flag: Option<char>,
    /// How often it is chosen, beside the others.
    pub weight: usize,
    /// How it is done.
    pub how: How,
    /// What `aps` says about the end, where nothing else is in [`Fault::other_ends`].
    pub end: &'static str,
    /// The same, for programs of which it is something else.
    pub other_ends: &'static [(Body, &'static str)],
}

/// Who does it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// The life, when it reads this letter.
    Letter(char),
    /// Whoever sends this signal from outside.
    Signal(Signal),
}

impl Fault {
    /// Whether `member` can end like this.
    #[must_use]
    pub fn fits(&self, member: &Member) -> bool {
        self.bodies.contains(&member.body) && self.flag.is_none_or(|flag| member.has(flag))
    }

    /// What `aps` says about the end of such a life.
    #[must_use]
    pub fn end_of(&self, body: Body) -> &'static str {
        let other = self.other_ends.iter().find(|(other, _)| *other == body);
        other.map_or(self.end, |(_, end)| end)
    }
}

const ALL: &[Body] = &[Body::Rust, Body::C, Body::Static, Body::Python, Body::Shell];
const COMPILED: &[Body] = &[Body::Rust, Body::C, Body::Static];
const RUST: &[Body] = &[Body::Rust];
/// Rust's own handler steps back at the first SIGSEGV that is no fault.
const NOT_RUST: &[Body] = &[Body::C, Body::Static, Body::Python, Body::Shell];
const THREADED: &[Body] = &[Body::Rust, Body::C, Body::Static, Body::Python];
const HIGH: &[Body] = &[Body::Rust, Body::Python];

const fn by(
    name: &'static str,
    letter: char,
    bodies: &'static [Body],
    weight: usize,
    end: &'static str,
) -> Fault {
    Fault {
        name,
        bodies,
        flag: None,
        weight,
        how: How::Letter(letter),
        end,
        other_ends: &[],
    }
}

const fn sent(
    name: &'static str,
    signal: Signal,
    bodies: &'static [Body],
    weight: usize,
    end: &'static str,
) -> Fault {
    Fault {
        name,
        bodies,
        flag: None,
        weight,
        how: How::Signal(signal),
        end,
        other_ends: &[],
    }
}

/// All of them.
pub const FAULTS: &[Fault] = &[
    by("SIGSEGV", 's', ALL, 10, "SIGSEGV"),
    by("SIGBUS", 'b', ALL, 6, "SIGBUS"),
    by("SIGFPE", 'f', ALL, 6, "SIGFPE"),
    by("SIGILL", 'i', ALL, 6, "SIGILL"),
    by("abort", 'a', ALL, 8, "SIGABRT"),
    by("SIGKILL by itself", 'k', ALL, 5, "SIGKILL"),
    Fault {
        other_ends: &[(Body::Rust, "SIGABRT")],
        ..by("stack overflow", 'o', COMPILED, 2, "SIGSEGV")
    },
    Fault {
        other_ends: &[(Body::Python, "exit 1")],
        ..by("out of memory", 'm', THREADED, 3, "SIGABRT")
    },
    Fault {
        other_ends: &[(Body::Python, "exit 1")],
        ..by("panic", 'P', HIGH, 8, "exit 101")
    },
    by("exit 0", 'x', ALL, 6, "exit 0"),
    by("exit 3", 'y', ALL, 6, "exit 3"),
    by("return from main", 'r', COMPILED, 5, "exit 0"),
    by("exit in a thread", 't', THREADED, 4, "exit 7"),
    by("SIGSEGV in a thread", 'u', COMPILED, 4, "SIGSEGV"),
    Fault {
        flag: Some('l'),
        ..by("SIGKILL within a commit", 'h', RUST, 10, "SIGKILL")
    },
    sent("kill -KILL", Signal::KILL, ALL, 10, "SIGKILL"),
    sent("kill -TERM", Signal::TERM, ALL, 3, "SIGTERM"),
    sent("kill -HUP", Signal::HUP, ALL, 2, "SIGHUP"),
    sent("kill -ABRT", Signal::ABORT, ALL, 3, "SIGABRT"),
    sent("kill -SEGV", Signal::SEGV, NOT_RUST, 4, "SIGSEGV"),
];
