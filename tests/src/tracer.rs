//! strace, attached to processes of a site: it writes down their system calls, or lets them fail with an
//! error of the test's choice.
//!
//! Used by tests of what a site opens, and of what it does when the kernel has nothing left to give. It
//! never outlives its test, and detaches before it ends: who was traced goes on.

use std::ffi::OsStr;
use std::process::{Child, Command, Stdio};

use rustix::process::Signal;

use crate::{proc, programs, run, wait};

/// An strace that is attached. Dropping it detaches.
pub struct Tracer {
    child: Child,
}

impl Tracer {
    /// Attaches to `pids` and to all their threads and children, with the flags `words`; returns when it
    /// traces them all. `None`, and a visible line, where strace is not installed.
    #[must_use]
    pub fn attach<S: AsRef<OsStr>>(
        words: impl IntoIterator<Item = S>,
        pids: &[u32],
    ) -> Option<Self> {
        let mut command = Command::new(programs::installed("strace")?);
        command.args(["-f", "-q"]).args(words);
        for pid in pids {
            command.args(["-p", &pid.to_string()]);
        }
        let child = run::spawn(command.stdin(Stdio::null()).stderr(Stdio::null()));
        let tracer = Self { child };
        wait::until_true("strace to be attached", || {
            let of = |pid: &u32| proc::status(*pid, "TracerPid");
            pids.iter()
                .all(|pid| of(pid).is_some_and(|tracer| tracer != 0))
        });
        Some(tracer)
    }

    /// Attaches to `pid` and lets these system calls, separated by commas, fail with `error` from now on.
    /// Calls that this strace does not know, or this machine does not have, are left out.
    #[must_use]
    pub fn fail(calls: &str, error: &str, pid: u32) -> Option<Self> {
        let known = calls.split(',').map(|call| format!("?{call}"));
        let calls = known.collect::<Vec<_>>().join(",");
        let inject = format!("inject={calls}:error={error}");
        Self::attach(["-o", "/dev/null", "-e", &inject], &[pid])
    }

    /// Detaches, and returns when nobody is traced any more.
    pub fn detach(self) {}
}

impl Drop for Tracer {
    fn drop(&mut self) {
        proc::kill(self.child.id(), Signal::INT);
        let _ = self.child.wait();
    }
}
