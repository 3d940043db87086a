//! Starting a program from an fd: vfork-style clone3, then execveat.
//!
//! Templates are spawned by this, off the restart path. Called by `refrain-image` and by nucleus.
//!
//! # Why CLONE_VM | CLONE_VFORK
//! A fork of the controller would copy its page tables and make every later write of its fault; the
//! bigger the site, the slower the spawn. With CLONE_VM the child borrows the controller's memory
//! instead, and with CLONE_VFORK the calling thread stands still until the child has executed the
//! image or ended. Other threads of the controller run on meanwhile, so what the child does is bound
//! by strict rules, kept in `spawn_child`:
//!
//! - everything it needs is computed before the clone ([`Plan`]); it allocates nothing and takes no
//!   lock, because another thread may hold any lock at that moment and the child has its memory but
//!   not its threads;
//! - it runs on a stack of its own, so nothing it does shows in the frame of the waiting thread;
//! - all signals are blocked around the clone: a handler of the controller's that ran in the child
//!   would change the controller's memory under a foreign pid. The child sets every disposition to
//!   default *before* it unblocks (its table is a copy, as CLONE_SIGHAND is not given), and that
//!   includes the ignored ones, which survive an exec (Rust ignores SIGPIPE);
//! - an errno comes back by a word in the plan, as memory is shared: no pipe, no extra fd.
#![allow(unsafe_code)]

use std::ffi::{CString, c_char};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::Ordering;

use crate::PidFd;
use crate::signals::AllBlocked;
use crate::spawn_child::{self, FdMove, Limit, Plan};
use crate::user::Credentials;

/// The stack that the child runs on until it executes the image, in bytes.
const STACK_SIZE: usize = 64 << 10;
/// The libc crate's constant of this name overflows its type. Source: linux/sched.h.
const CLONE_INTO_CGROUP: u64 = 1 << 33;

/// A program about to be started. See the module for how.
#[derive(Debug)]
pub struct Spawn<'a> {
    exe: BorrowedFd<'a>,
    argv: &'a [CString],
    envp: &'a [CString],
    cwd: Option<CString>,
    umask: Option<u32>,
    limits: Vec<Limit>,
    fds: Vec<FdMove>,
    cgroup: Option<BorrowedFd<'a>>,
    joins: Vec<RawFd>,
    setsid: bool,
    fixed_layout: bool,
    nice: Option<i32>,
    credentials: Option<&'a Credentials>,
    no_new_privs: bool,
}

impl<'a> Spawn<'a> {
    /// A program from the executable file `exe`, with these arguments (`argv[0]` included) and this
    /// environment, and nothing inherited: stdin, stdout, stderr are the caller's unless given by
    /// [`Spawn::fds`], every other fd is closed.
    #[must_use]
    pub fn new(exe: BorrowedFd<'a>, argv: &'a [CString], envp: &'a [CString]) -> Self {
        Self {
            exe,
            argv,
            envp,
            cwd: None,
            umask: None,
            limits: Vec::new(),
            fds: Vec::new(),
            cgroup: None,
            joins: Vec::new(),
            setsid: false,
            fixed_layout: false,
            nice: None,
            credentials: None,
            no_new_privs: false,
        }
    }

    /// Its working directory. A path with a NUL makes [`Spawn::spawn`] fail with ENOENT.
    #[must_use]
    pub fn cwd(mut self, path: &Path) -> Self {
        self.cwd = Some(CString::new(path.as_os_str().as_bytes()).unwrap_or_default());
        self
    }

    /// Its umask; `None` keeps the caller's.
    #[must_use]
    pub fn umask(mut self, mask: Option<u32>) -> Self {
        self.umask = mask;
        self
    }

    /// Resource limits: RLIMIT number, soft, hard.
    #[must_use]
    pub fn rlimits(mut self, limits: &[(u32, u64, u64)]) -> Self {
        self.limits = limits
            .iter()
            .map(|&(resource, soft, hard)| (resource, soft, hard))
            .collect();
        self
    }

    /// Fds it is given: which, and under which number. Sources and targets may overlap.
    #[must_use]
    pub fn fds(mut self, fds: &[(BorrowedFd<'a>, RawFd)]) -> Self {
        self.fds = fds
            .iter()
            .map(|(fd, target)| FdMove {
                source: fd.as_raw_fd(),
                held: -1,
                target: *target,
            })
            .collect();
        self
    }

    /// The cgroup (directory) that it is born into; `None` for the caller's.
    #[must_use]
    pub fn cgroup(mut self, directory: Option<BorrowedFd<'a>>) -> Self {
        self.cgroup = directory;
        self
    }

    /// Whether it leads a session of its own: terminal signals don't reach it.
    #[must_use]
    pub fn setsid(mut self, yes: bool) -> Self {
        self.setsid = yes;
        self
    }

    /// Whether the kernel lays out its address space the same at every start (SPEC H11).
    #[must_use]
    pub fn fixed_layout(mut self, yes: bool) -> Self {
        self.fixed_layout = yes;
        self
    }

    /// Its nice value, -20 to 19; `None` keeps the caller's.
    #[must_use]
    pub fn nice(mut self, value: Option<i32>) -> Self {
        self.nice = value;
        self
    }

    /// The cgroups of version 1 that it joins before it becomes the program: their `cgroup.procs`, open
    /// for writing.
    #[must_use]
    pub fn joins(mut self, procs: &[BorrowedFd<'a>]) -> Self {
        self.joins = procs.iter().map(AsRawFd::as_raw_fd).collect();
        self
    }

    /// Whose rights it has; `None` for the caller's. Limits, nice value and cgroups are the caller's
    /// to give, its directory is entered with its own rights.
    ///
    /// While the child is another user, it still has the caller's memory. The kernel keeps that user's
    /// other processes out of it: it makes the memory undumpable, which also stays so for the caller.
    ///
    /// Source: PR_SET_DUMPABLE in prctl(2), "The process's effective user or group ID is changed".
    #[must_use]
    pub fn credentials(mut self, credentials: Option<&'a Credentials>) -> Self {
        self.credentials = credentials;
        self
    }

    /// Whether nothing that it executes can give it more rights.
    ///
    /// Source: PR_SET_NO_NEW_PRIVS in prctl(2).
    #[must_use]
    pub fn no_new_privs(mut self, yes: bool) -> Self {
        self.no_new_privs = yes;
        self
    }

    /// Starts it: pid and pidfd, of a program that has replaced the child's image.
    ///
    /// # Errors
    /// What the kernel said to the clone, or to whatever the child did up to the exec (ENOENT,
    /// EACCES, ENOEXEC, ETXTBSY ...); the child was reaped then. `Unsupported` for a cgroup where
    /// clone3 is not to be had.
    ///
    /// Source: clone3(2), execveat(2), vfork(2).
    pub fn spawn(self) -> io::Result<(u32, PidFd)> {
        let argv = pointers(self.argv);
        let envp = pointers(self.envp);
        let mut moves = self.fds;
        let mut plan = Plan::new(self.exe.as_raw_fd(), &argv, &envp, &mut moves, &self.limits);
        plan.cwd = self
            .cwd
            .as_ref()
            .map_or(std::ptr::null(), |path| path.as_ptr());
        plan.umask = self.umask;
        plan.setsid = self.setsid;
        plan.nice = self.nice;
        plan.joins = &self.joins;
        plan.credentials = self.credentials;
        plan.no_new_privs = self.no_new_privs;
        plan.personality = if self.fixed_layout {
            Some(fixed_personality()?)
        } else {
            None
        };
        let (pid, pidfd) = clone_and_exec(&mut plan, self.cgroup)?;
        match plan.error.load(Ordering::Acquire) {
            0 => Ok((pid, pidfd)),
            errno => {
                // The child has ended or is about to; nobody else knows of it.
                let _ = pidfd.wait_ended(None);
                let _ = pidfd.reap();
                Err(io::Error::from_raw_os_error(errno))
            }
        }
    }
}

/// The null-terminated array of pointers that exec takes.
fn pointers(strings: &[CString]) -> Vec<*const c_char> {
    strings
        .iter()
        .map(|text| text.as_ptr())
        .chain([std::ptr::null()])
        .collect()
}

/// This process's personality with randomisation off. Source: personality(2).
fn fixed_personality() -> io::Result<libc::c_ulong> {
    // SAFETY: 0xffffffff only asks for the present value.
    let now = unsafe { libc::personality(0xffff_ffff) };
    if now == -1 {
        return Err(io::Error::last_os_error());
    }
    Ok((now | libc::ADDR_NO_RANDOMIZE) as libc::c_ulong)
}

/// Clones, waits until the child has executed or ended, and answers its pid and pidfd.
fn clone_and_exec(plan: &mut Plan<'_>, cgroup: Option<BorrowedFd<'_>>) -> io::Result<(u32, PidFd)> {
    let mut stack: Box<[u128]> = vec![0; STACK_SIZE / size_of::<u128>()].into_boxed_slice();
    let mut pidfd: RawFd = -1;
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PIDFD;
    let mut args = spawn_child::CloneArgs {
        flags: flags as u64,
        pidfd: (&raw mut pidfd).addr() as u64,
        exit_signal: libc::SIGCHLD as u64,
        stack: stack.as_mut_ptr().addr() as u64,
        stack_size: STACK_SIZE as u64,
        ..Default::default()
    };
    if let Some(directory) = &cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = directory.as_fd().as_raw_fd() as u64;
    }
    let blocked = AllBlocked::new()?;
    // SAFETY: `plan`, `stack` and `pidfd` outlive the call: with CLONE_VFORK it returns only once
    // the child has left this memory for good. Signals are blocked, as `clone_child` wants.
    let mut result = unsafe { spawn_child::clone_child(&args, plan) };
    if result == -i64::from(libc::ENOSYS) {
        // A container's filter that knows clone but not clone3.
        if cgroup.is_some() {
            return Err(io::ErrorKind::Unsupported.into());
        }
        // SAFETY: as above.
        result = unsafe { spawn_child::clone_child_old(&args, plan) };
    }
    drop(blocked);
    if result < 0 {
        return Err(io::Error::from_raw_os_error(-result as i32));
    }
    // SAFETY: the clone succeeded, so the kernel has stored a new fd there, which is ours.
    let pidfd = PidFd::from(unsafe { OwnedFd::from_raw_fd(pidfd) });
    Ok((result as u32, pidfd))
}
