//! How a Linux process ended, as `waitpid` encodes it.
//!
//! Comes from [`crate::pidfd`], [`crate::process::reap_any`] and the control page. Must never be
//! built from anything an actor wrote without being treated as a mere report.

use std::fmt;

use crate::pidfd::Signal;

/// A raw wait status: what `waitpid` stores and PIDFD_GET_INFO calls the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WaitStatus(pub u32);

impl WaitStatus {
    /// The status of a process that ended by `exit(code)`.
    #[must_use]
    pub fn from_exit(code: i32) -> Self {
        Self((code as u32 & 0xff) << 8)
    }

    /// The status of a process that was ended by the signal of this number.
    #[must_use]
    pub fn from_signal(number: i32, core_dumped: bool) -> Self {
        Self((number as u32 & 0x7f) | if core_dumped { 0x80 } else { 0 })
    }

    /// The exit code, when it ended by `exit` or a return from `main`.
    #[must_use]
    pub fn exited(self) -> Option<i32> {
        (self.0 & 0x7f == 0).then_some((self.0 >> 8 & 0xff) as i32)
    }

    /// The number of the signal that ended it.
    #[must_use]
    pub fn signal(self) -> Option<i32> {
        let number = self.0 & 0x7f;
        (number != 0 && number != 0x7f).then_some(number as i32)
    }

    /// Whether a core was dumped.
    #[must_use]
    pub fn core_dumped(self) -> bool {
        self.signal().is_some() && self.0 & 0x80 != 0
    }
}

impl fmt::Display for WaitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.exited(), self.signal()) {
            (Some(code), _) => write!(f, "exit {code}"),
            (None, Some(number)) => match signal_name(number) {
                Some(name) => f.write_str(name),
                None => write!(f, "signal {number}"),
            },
            (None, None) => write!(f, "status {:#x}", self.0),
        }
    }
}

/// The name of a signal of Linux ("SIGSEGV"), `None` for real-time signals and what is none.
#[must_use]
pub fn signal_name(number: i32) -> Option<&'static str> {
    const NAMES: &[(Signal, &str)] = &[
        (Signal::HUP, "SIGHUP"),
        (Signal::INT, "SIGINT"),
        (Signal::QUIT, "SIGQUIT"),
        (Signal::ILL, "SIGILL"),
        (Signal::TRAP, "SIGTRAP"),
        (Signal::ABORT, "SIGABRT"),
        (Signal::BUS, "SIGBUS"),
        (Signal::FPE, "SIGFPE"),
        (Signal::KILL, "SIGKILL"),
        (Signal::USR1, "SIGUSR1"),
        (Signal::SEGV, "SIGSEGV"),
        (Signal::USR2, "SIGUSR2"),
        (Signal::PIPE, "SIGPIPE"),
        (Signal::ALARM, "SIGALRM"),
        (Signal::TERM, "SIGTERM"),
        (Signal::CHILD, "SIGCHLD"),
        (Signal::CONT, "SIGCONT"),
        (Signal::STOP, "SIGSTOP"),
        (Signal::TSTP, "SIGTSTP"),
        (Signal::TTIN, "SIGTTIN"),
        (Signal::TTOU, "SIGTTOU"),
        (Signal::URG, "SIGURG"),
        (Signal::XCPU, "SIGXCPU"),
        (Signal::XFSZ, "SIGXFSZ"),
        (Signal::VTALARM, "SIGVTALRM"),
        (Signal::PROF, "SIGPROF"),
        (Signal::WINCH, "SIGWINCH"),
        (Signal::IO, "SIGIO"),
        (Signal::POWER, "SIGPWR"),
        (Signal::SYS, "SIGSYS"),
    ];
    NAMES
        .iter()
        .find(|(signal, _)| signal.as_raw() == number)
        .map(|(_, name)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h8_every_kind_of_end_is_told_apart() {
        assert_eq!(WaitStatus(3 << 8).exited(), Some(3));
        assert_eq!(WaitStatus(3 << 8).to_string(), "exit 3");
        assert_eq!(WaitStatus(11).signal(), Some(11));
        assert_eq!(WaitStatus(11).exited(), None);
        assert_eq!(WaitStatus(11 | 0x80).to_string(), "SIGSEGV");
        assert!(WaitStatus(11 | 0x80).core_dumped());
        assert!(!WaitStatus(0x80 << 8).core_dumped());
        assert_eq!(WaitStatus(40).to_string(), "signal 40");
        assert_eq!(WaitStatus::from_exit(-1).exited(), Some(255));
        assert_eq!(WaitStatus::from_signal(6, true), WaitStatus(0x86));
    }

    #[test]
    fn a_stopped_child_counts_as_neither_exited_nor_killed() {
        let stopped = WaitStatus(0x137f);
        assert_eq!((stopped.exited(), stopped.signal()), (None, None));
        assert_eq!(stopped.to_string(), "status 0x137f");
    }
}
