//! Checks by a command: it runs as a child of hr_ctrl, and everything that it started ends with it.
//!
//! It has the actor's directory, environment, umask, rights and rlimits, a session of its own, and a cgroup beside
//! the actor's: in that one it would be taken for something that a life has left behind. What it prints is
//! kept for the log, and only a little. Must never be waited for by a restart: [`run`] is a future of its
//! own, ended by dropping its [`Leash`].

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use refrain_sys::cgroup::Cgroup;
use refrain_sys::user::Credentials;
use refrain_sys::{PidFd, Signal, Spawn, WaitStatus, process};
use tokio::sync::oneshot;

use super::{Answer, timed_out};
use crate::watch;

/// The shell that reads the command line.
const SHELL: &str = "/bin/sh";
/// What the shell exits with when it cannot execute, or find, a command.
const CANNOT_EXECUTE: i32 = 126;
const NOT_FOUND: i32 = 127;
/// How much of what it prints is kept, in bytes; the rest is thrown away.
const MAX_OUTPUT: usize = 4096;
/// How much is read at a time: a pipe full, in bytes.
const PIPE_SIZE: usize = 64 << 10;
/// How long a command is left alone that prints more than is kept, before each read.
const FLOOD_REST: Duration = Duration::from_millis(1);
/// How often a cgroup whose last member is ending is looked at, a millisecond apart.
const REMOVALS: u32 = 1000;

/// A command about to run.
pub(crate) struct Job {
    /// For the shell.
    pub line: String,
    /// The environment.
    pub env: Vec<(String, String)>,
    /// The directory that it runs in.
    pub cwd: PathBuf,
    /// Its umask; `None`: the site's own.
    pub umask: Option<u32>,
    /// Its resource limits.
    pub rlimits: Vec<(u32, u64, u64)>,
    /// Its nice value; `None`: the site's own.
    pub nice: Option<i32>,
    /// Whose rights it has; `None`: the site's own.
    pub credentials: Option<Credentials>,
    /// Whether nothing it executes gives it more.
    pub no_new_privs: bool,
    /// The cgroup that it is given: the directory of the site's, and a name that none has ever had; `None`
    /// without cgroups. Linux 6.14 and later kill whoever is born into a cgroup whose `cgroup.kill` was used
    /// before, unless his parent is in there, too.
    ///
    /// Source: `kill_seq` in kernel/cgroup/cgroup.c.
    pub cgroup: Option<(PathBuf, String)>,
}

/// What came of a command.
pub(crate) struct Ran {
    /// The answer to the check.
    pub answer: Answer,
    /// The beginning of what it printed.
    pub output: Vec<u8>,
}

/// Keeps a command running; it is ended when this is dropped.
pub(crate) struct Leash(
    #[expect(dead_code, reason = "dropping it is what counts")] oneshot::Sender<()>,
);

/// The two ends of a leash.
pub(crate) fn leash() -> (Leash, oneshot::Receiver<()>) {
    let (sender, receiver) = oneshot::channel();
    (Leash(sender), receiver)
}

/// A command that runs.
struct Child {
    pid: u32,
    pidfd: Rc<PidFd>,
    cgroup: Option<Cgroup>,
    output: OwnedFd,
}

/// Runs a command until it ends, until `limit`, or until the leash is dropped. Returns when nothing of it
/// is left.
pub(crate) async fn run(job: Job, limit: Duration, mut dropped: oneshot::Receiver<()>) -> Ran {
    let spawned = actix_rt::task::spawn_blocking(move || spawn(&job)).await;
    let mut child = match spawned {
        Ok(Ok((pid, pidfd, cgroup, output))) => Child {
            pid,
            pidfd: Rc::new(pidfd),
            cgroup,
            output,
        },
        Ok(Err(why)) => return unable(format!("{SHELL}: {why}")),
        Err(why) => return unable(why.to_string()),
    };
    let mut output = Vec::new();
    let answer = {
        let ended = child.ended(&mut output);
        tokio::select! {
            () = ended => None,
            () = tokio::time::sleep(limit) => Some(timed_out(limit)),
            // Fails when the other end is dropped.
            _ = &mut dropped => Some(Answer::Unable("it was ended".to_owned())),
        }
    };
    let status = child.end(&mut output).await;
    let answer = answer.unwrap_or_else(|| answer_of(status, &output));
    Ran { answer, output }
}

fn unable(why: String) -> Ran {
    Ran {
        answer: Answer::Unable(why),
        output: Vec::new(),
    }
}

/// What the end of a command says about the actor.
fn answer_of(status: Option<WaitStatus>, output: &[u8]) -> Answer {
    let Some(status) = status else {
        return Answer::Unable("how it ended is not known".to_owned());
    };
    match status.exited() {
        Some(0) => Answer::Well,
        // A command that is not there says nothing about the actor.
        Some(CANNOT_EXECUTE | NOT_FOUND) => {
            let text = String::from_utf8_lossy(output);
            let line = text.lines().next().unwrap_or("it cannot be executed");
            Answer::Unable(format!("{status}: {line}"))
        }
        _ => Answer::Failed(status.to_string()),
    }
}

/// Starts the command; for a thread that may wait.
fn spawn(job: &Job) -> io::Result<(u32, PidFd, Option<Cgroup>, OwnedFd)> {
    let text = |text: &str| CString::new(text).map_err(|_| io::ErrorKind::InvalidInput);
    let argv = [text("sh")?, text("-c")?, text(&job.line)?];
    let envp = job
        .env
        .iter()
        .map(|(name, value)| text(&format!("{name}={value}")));
    let envp = envp.collect::<Result<Vec<_>, _>>()?;
    let shell = File::open(SHELL)?;
    let null = File::open("/dev/null")?;
    let (read, write) = io::pipe()?;
    process::set_nonblocking(&read, true)?;
    let cgroup = match &job.cgroup {
        Some((site, name)) => Some(Cgroup::create(site, name)?),
        None => None,
    };
    let directory = cgroup.as_ref().map(Cgroup::directory).transpose()?;
    let spawned = Spawn::new(shell.as_fd(), &argv, &envp)
        .cwd(&job.cwd)
        .umask(job.umask)
        .rlimits(&job.rlimits)
        .nice(job.nice)
        .credentials(job.credentials.as_ref())
        .no_new_privs(job.no_new_privs)
        .fds(&[(null.as_fd(), 0), (write.as_fd(), 1), (write.as_fd(), 2)])
        .cgroup(directory.as_ref().map(AsFd::as_fd))
        .setsid(true)
        .spawn();
    match spawned {
        Ok((pid, pidfd)) => Ok((pid, pidfd, cgroup, read.into())),
        Err(why) => {
            let _ = cgroup.map(|cgroup| cgroup.remove());
            Err(why)
        }
    }
}

impl Child {
    /// Reads what it prints until it has ended.
    async fn ended(&mut self, output: &mut Vec<u8>) {
        let ended = watch::readable(Rc::clone(&self.pidfd));
        tokio::pin!(ended);
        let Ok(printed) = self
            .output
            .try_clone()
            .and_then(|fd| watch::register(Rc::new(fd)))
        else {
            drop(ended.await);
            return;
        };
        loop {
            if output.len() >= MAX_OUTPUT {
                tokio::time::sleep(FLOOD_REST).await;
            }
            tokio::select! {
                _ = &mut ended => return,
                ready = printed.readable() => match ready {
                    Ok(mut guard) => {
                        let read = guard.try_io(|_| keep(&self.output, output));
                        if matches!(read, Ok(Ok(0) | Err(_))) {
                            break; // Everybody has closed it; some may run on.
                        }
                    }
                    Err(_) => break,
                },
            }
        }
        drop(ended.await);
    }

    /// Ends whatever of it is left, and waits until nothing is; answers how the command ended.
    async fn end(self, output: &mut Vec<u8>) -> Option<WaitStatus> {
        match &self.cgroup {
            Some(cgroup) => drop(cgroup.kill_all()),
            None => {
                let _ = self.pidfd.send_signal(Signal::KILL);
                // It was not reaped yet: the group is its own.
                let _ = process::kill_group_of_child(self.pid);
            }
        }
        let _ = watch::readable(Rc::clone(&self.pidfd)).await;
        let status = self.pidfd.reap().ok().flatten();
        // What was printed last; no more than that, should somebody have escaped who prints on.
        let _ = keep(&self.output, output);
        if let Some(cgroup) = self.cgroup {
            for _ in 0..REMOVALS {
                if cgroup.remove().is_ok() {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        status
    }
}

/// Reads what is there, and keeps the beginning; answers how much there was.
fn keep(pipe: &OwnedFd, output: &mut Vec<u8>) -> io::Result<usize> {
    let mut buffer = [0; PIPE_SIZE];
    let count = rustix::io::read(pipe, &mut buffer)?;
    let room = MAX_OUTPUT.saturating_sub(output.len());
    output.extend_from_slice(&buffer[..count.min(room)]);
    Ok(count)
}
