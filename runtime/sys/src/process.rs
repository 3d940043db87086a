//! What a Refrain process does to itself, and small questions about others.
//!
//! Called by nucleus, the controller and the clients' start-up. Must never be called on behalf of
//! an actor: those calls happen in the child, in `spawn_child`.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use rustix::event::Timespec;
pub use rustix::event::{PollFd, PollFlags};
use rustix::process::{Pid, Resource, Rlimit, Signal};

use crate::WaitStatus;

/// Makes this process adopt the orphans below it, in place of init.
///
/// # Errors
/// The kernel's (none since 3.4).
///
/// Source: PR_SET_CHILD_SUBREAPER in prctl(2).
pub fn set_subreaper() -> io::Result<()> {
    Ok(rustix::process::set_child_subreaper(Some(
        rustix::process::getpid(),
    ))?)
}

/// Names the calling thread in `ps` and `/proc/PID/comm`: the first 15 bytes are kept.
///
/// # Errors
/// `InvalidInput` for a name with a NUL.
///
/// Source: PR_SET_NAME in prctl(2).
pub fn set_name(name: &str) -> io::Result<()> {
    let name = CString::new(name).map_err(|_| io::ErrorKind::InvalidInput)?;
    Ok(rustix::thread::set_name(&name)?)
}

/// Leaves the terminal and its signals: a session of its own.
///
/// # Errors
/// EPERM for the leader of a process group.
///
/// Source: setsid(2).
pub fn setsid() -> io::Result<()> {
    Ok(rustix::process::setsid().map(drop)?)
}

/// When a process began, in clock ticks since the machine did; `None` when there is no such process. With the pid
/// and the boot id it tells this process from every other.
///
/// Source: field 22 of /proc/PID/stat in proc_pid_stat(5).
#[must_use]
pub fn start_time(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may hold anything.
    let (_, fields) = stat.rsplit_once(") ")?;
    fields.split(' ').nth(19)?.parse().ok()
}

/// Whether the kernel is writing the core dump of a process, which may take long.
///
/// Source: CoreDumping in proc_pid_status(5).
#[must_use]
pub fn is_dumping_core(pid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status.lines().any(|line| {
        line.strip_prefix("CoreDumping:")
            .is_some_and(|is| is.trim() == "1")
    })
}

/// The state letter of a process: `R`, `S`, `D`, `T` (stopped by a signal), `t` (by a debugger) ...;
/// `None` when there is none of that pid. Of a process with several threads it is that of the first, which
/// a signal stops together with the others.
///
/// Source: state in proc_pid_stat(5).
#[must_use]
pub fn state(pid: u32) -> Option<char> {
    let stat = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
    // The name before it is in parentheses and may itself hold anything.
    let end = stat.iter().rposition(|byte| *byte == b')')?;
    stat.get(end + 2).copied().map(char::from)
}

/// Kills the process group that a child leads, that is, one with a session of its own
/// ([`crate::Spawn::setsid`]). Safe only for a child that was not reaped yet: as long as it is there, be it
/// as a zombie, nobody else is given its number.
///
/// # Errors
/// ESRCH when nobody is in it; `InvalidInput` for pid 0 and negative ones.
///
/// Source: kill(2), "If pid is less than -1".
pub fn kill_group_of_child(leader: u32) -> io::Result<()> {
    let leader = i32::try_from(leader).ok().and_then(Pid::from_raw);
    let leader = leader.ok_or(io::ErrorKind::InvalidInput)?;
    // The same as a kill of the negative number.
    Ok(rustix::process::kill_process_group(leader, Signal::KILL)?)
}

/// The real user id of this process.
#[must_use]
pub fn getuid() -> u32 {
    rustix::process::getuid().as_raw()
}

/// The effective user id of this process.
#[must_use]
pub fn geteuid() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// May raise hard limits. Source: capabilities(7), linux/capability.h.
pub const CAP_SYS_RESOURCE: u32 = 24;
/// May lower nice values. Source: capabilities(7), linux/capability.h.
pub const CAP_SYS_NICE: u32 = 23;

/// Whether this process has a capability, by its number.
///
/// Source: CapEff in proc_pid_status(5).
#[must_use]
pub fn has_capability(number: u32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let bits = line.and_then(|line| u64::from_str_radix(line.trim(), 16).ok());
    bits.is_some_and(|bits| bits >> number & 1 == 1)
}

/// Keeps this process's memory and fds from other processes of its user, unless that is root, who may
/// look anyhow. It writes no core dump then.
///
/// # Errors
/// The kernel's (none).
///
/// Source: PR_SET_DUMPABLE in prctl(2); ptrace access mode checking in ptrace(2).
pub fn hide_from_own_user() -> io::Result<()> {
    use rustix::process::DumpableBehavior::NotDumpable;
    if geteuid() == 0 {
        return Ok(());
    }
    Ok(rustix::process::set_dumpable_behavior(NotDumpable)?)
}

/// This process's nice value.
///
/// Source: nice(2): it answers the value, which adding nothing leaves.
#[must_use]
pub fn own_nice() -> i32 {
    rustix::process::nice(0).unwrap_or(0)
}

/// The effective group id of this process.
#[must_use]
pub fn getegid() -> u32 {
    rustix::process::getegid().as_raw()
}

/// Reaps one ended child, whichever it is, threads' children included; `None` when none has ended
/// or there is none.
///
/// # Errors
/// The kernel's, ECHILD excepted.
///
/// Source: __WALL in waitpid(2).
pub fn reap_any() -> io::Result<Option<(u32, WaitStatus)>> {
    let mut status = 0;
    // SAFETY: `status` is a valid place for one int.
    let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG | libc::__WALL) };
    match pid {
        0 => Ok(None),
        -1 => match io::Error::last_os_error() {
            error if error.raw_os_error() == Some(libc::ECHILD) => Ok(None),
            error => Err(error),
        },
        pid => Ok(Some((pid.unsigned_abs(), WaitStatus(status as u32)))),
    }
}

/// Who connected a Unix socket, as the kernel vouches for it: pid, uid, gid.
///
/// # Errors
/// The kernel's (no Unix socket).
///
/// Source: SO_PEERCRED in unix(7).
pub fn peer_credentials(socket: BorrowedFd<'_>) -> io::Result<(u32, u32, u32)> {
    let peer = rustix::net::sockopt::socket_peercred(socket)?;
    let pid = peer.pid.as_raw_nonzero().get().unsigned_abs();
    Ok((pid, peer.uid.as_raw(), peer.gid.as_raw()))
}

/// Whether a path lies on tmpfs: in memory, gone at the next boot.
///
/// # Errors
/// The kernel's (no such path).
///
/// Source: TMPFS_MAGIC in statfs(2).
pub fn is_tmpfs(path: &Path) -> io::Result<bool> {
    Ok(rustix::fs::statfs(path)?.f_type == 0x0102_1994)
}

/// Raises the soft limit of open fds to the hard one, and both to `wanted` where that is more and this
/// process may (CAP_SYS_RESOURCE); answers the new limit. Actors are given the limit that was found
/// before, by the caller: this is the controller's own need.
///
/// # Errors
/// The kernel's.
///
/// Source: RLIMIT_NOFILE in setrlimit(2); /proc/sys/fs/nr_open in proc_sys_fs(5).
pub fn raise_nofile_limit(wanted: u64) -> io::Result<u64> {
    let mut limit = rustix::process::getrlimit(Resource::Nofile);
    if limit.maximum.is_some_and(|maximum| maximum < wanted) {
        let most = std::fs::read_to_string("/proc/sys/fs/nr_open").ok();
        let most = most.and_then(|text| text.trim().parse().ok());
        let more = Some(wanted.min(most.unwrap_or(wanted)));
        let raised = Rlimit {
            current: more,
            maximum: more,
        };
        if more > limit.maximum && rustix::process::setrlimit(Resource::Nofile, raised).is_ok() {
            limit = raised;
        }
    }
    limit.current = limit.maximum;
    rustix::process::setrlimit(Resource::Nofile, limit)?;
    Ok(limit.maximum.unwrap_or(u64::MAX))
}

/// Waits until one of `fds` is ready; answers how many are. `None` waits for ever. A signal
/// answers 0, so that the caller looks at what it was.
///
/// # Errors
/// The kernel's.
///
/// Source: poll(2).
pub fn poll(fds: &mut [PollFd<'_>], timeout_ms: Option<u64>) -> io::Result<usize> {
    let timeout = timeout_ms.map(|ms| Timespec {
        tv_sec: i64::try_from(ms / 1000).unwrap_or(i64::MAX),
        tv_nsec: (ms % 1000) as i64 * 1_000_000,
    });
    match rustix::event::poll(fds, timeout.as_ref()) {
        Err(rustix::io::Errno::INTR) => Ok(0),
        other => Ok(other?),
    }
}

/// Sets or clears O_NONBLOCK.
///
/// # Errors
/// The kernel's.
pub fn set_nonblocking(fd: impl AsFd, nonblocking: bool) -> io::Result<()> {
    Ok(rustix::io::ioctl_fionbio(fd, nonblocking)?)
}

/// The fds from 3 upwards are no longer inherited by what this process executes: for a
/// controller that was started with fds of its starter's.
///
/// # Errors
/// ENOSYS or EINVAL before kernel 5.11.
///
/// Source: CLOSE_RANGE_CLOEXEC in close_range(2).
pub fn mark_all_cloexec() -> io::Result<()> {
    // SAFETY: the call closes nothing; it only sets flags, which no Rust object relies upon.
    let result = unsafe {
        libc::syscall(
            libc::SYS_close_range,
            3u32,
            u32::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
