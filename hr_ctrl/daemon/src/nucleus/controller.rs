//! What nucleus starts as the controller: hr_ctrl, or a program that has a site inside.
//!
//! Used by nucleus at each start. Must know nothing of what either does with it.

use std::ffi::CString;
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};

use super::{BOOT_FD, EXE_FD, LISTENER_FD, STATUS_FD};

/// What an embedding program finds in its environment below nucleus ([`Origin`]).
pub(crate) const ORIGIN: &str = "REFRAIN_NUCLEUS";

/// What is started as hr_ctrl.
pub(super) enum Controller {
    /// hr_ctrl itself.
    HrCtrl {
        boot: OwnedFd,
        listener: OwnedFd,
        /// Until the first one is started.
        status: Option<OwnedFd>,
    },
    /// A program that has a site inside ([`crate::embed`]), with its own words.
    Embedding { argv: Vec<CString> },
}

/// What the next life of it is told.
#[derive(Clone, Copy)]
pub(super) struct About<'a> {
    pub(super) site: &'a str,
    /// 0 for the first.
    pub(super) life: u32,
    /// How the life before ended; empty for none.
    pub(super) last_end: &'a str,
}

/// How it is started.
pub(super) struct Command<'a> {
    pub(super) argv: Vec<CString>,
    pub(super) envp: Vec<CString>,
    /// Beside lock and socket.
    pub(super) fds: Vec<(BorrowedFd<'a>, RawFd)>,
}

impl Controller {
    pub(super) fn is_embedding(&self) -> bool {
        matches!(self, Self::Embedding { .. })
    }

    /// How the next life is started.
    pub(super) fn command<'a>(&'a self, exe: &'a OwnedFd, about: About<'_>) -> Command<'a> {
        let mut variables: Vec<_> = std::env::vars().collect();
        let mut fds = Vec::new();
        let argv = match self {
            Self::HrCtrl {
                boot,
                listener,
                status,
            } => {
                let all = [(exe, EXE_FD), (boot, BOOT_FD), (listener, LISTENER_FD)];
                fds.extend(all.map(|(fd, number)| (fd.as_fd(), number)));
                fds.extend(status.as_ref().map(|status| (status.as_fd(), STATUS_FD)));
                let life = about.life.to_string();
                let words = ["hr_ctrl", &life, about.site, about.last_end];
                words
                    .map(|word| CString::new(word).unwrap_or_default())
                    .to_vec()
            }
            Self::Embedding { argv } => {
                let origin = Origin {
                    nucleus: std::process::id(),
                    life: about.life,
                    last_end: about.last_end.to_owned(),
                };
                variables.retain(|(name, _)| name != ORIGIN);
                variables.push((ORIGIN.to_owned(), origin.to_string()));
                argv.clone()
            }
        };
        let envp = variables
            .iter()
            .filter_map(|(name, value)| CString::new(format!("{name}={value}")).ok())
            .collect();
        Command { argv, envp, fds }
    }

    /// The first one runs: nobody else is told whether the site came up.
    pub(super) fn started(&mut self) {
        if let Self::HrCtrl { status, .. } = self {
            *status = None;
        }
    }
}

/// Of which nucleus an embedding program is a child, and what became of its life before: `PID:LIFE:END`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    /// To compare with what the kernel says: children of the program inherit the variable.
    pub(crate) nucleus: u32,
    /// 0 for the first.
    pub(crate) life: u32,
    /// How the life before ended; empty for none.
    pub(crate) last_end: String,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            nucleus,
            life,
            last_end,
        } = self;
        write!(f, "{nucleus}:{life}:{last_end}")
    }
}

impl Origin {
    /// Reads the variable; `None` when it is none of ours.
    pub(crate) fn read(word: &str) -> Option<Self> {
        let mut parts = word.splitn(3, ':');
        Some(Self {
            nucleus: parts.next()?.parse().ok()?,
            life: parts.next()?.parse().ok()?,
            last_end: parts.next()?.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_reads_back_whatever_the_end_was() {
        for end in ["", "SIGKILL", "exit 3", "it did not answer", "a:b"] {
            let origin = Origin {
                nucleus: 4711,
                life: 7,
                last_end: end.to_owned(),
            };
            assert_eq!(Origin::read(&origin.to_string()), Some(origin));
        }
        assert_eq!(Origin::read("4711"), None);
        assert_eq!(Origin::read("x:1:"), None);
    }
}
