//! Pidfds: a hold on one Linux process that a recycled pid can never be mistaken for.
//!
//! The controller watches and kills lives through these only (DESIGN section 1). Must never
//! signal by a number.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions};

pub use rustix::process::Signal;

use crate::WaitStatus;

/// A pidfd. Readable once the process has ended with all its threads.
#[derive(Debug)]
pub struct PidFd(OwnedFd);

impl From<OwnedFd> for PidFd {
    /// Takes an fd that somebody passed; that it is a pidfd shows at the first use.
    fn from(fd: OwnedFd) -> Self {
        Self(fd)
    }
}

impl From<PidFd> for OwnedFd {
    fn from(pidfd: PidFd) -> Self {
        pidfd.0
    }
}

impl AsFd for PidFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// `struct pidfd_info` as its first version has it (64 bytes). Source: linux/pidfd.h.
#[repr(C)]
#[derive(Default)]
struct PidFdInfo {
    mask: u64,
    cgroupid: u64,
    ids: [u32; 11],
    exit_code: i32,
}

/// PIDFD_INFO_CGROUPID: the cgroup is wanted, and was there.
const INFO_CGROUP: u64 = 1 << 2;
/// PIDFD_INFO_EXIT: the exit code is wanted, and was there.
const INFO_EXIT: u64 = 1 << 3;
/// `_IOWR(0xFF, 11, struct pidfd_info)`.
const GET_INFO: libc::c_ulong =
    3 << 30 | (size_of::<PidFdInfo>() as libc::c_ulong) << 16 | 0xff << 8 | 11;

/// `siginfo_t` of a queued signal: 128 bytes. Source: asm-generic/siginfo.h.
#[repr(C)]
struct Queued {
    number: i32,
    errno: i32,
    code: i32,
    padding: i32,
    pid: i32,
    uid: u32,
    value: u64,
    rest: [u64; 12],
}

const _: () = assert!(size_of::<Queued>() == 128);

/// Who a process is, as far as its pidfd tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Its pid.
    pub pid: u32,
    /// Its parent's, at the moment: a process whose parent has ended has another.
    pub parent: u32,
    /// The inode of its cgroup's directory in the unified hierarchy; `None` on kernels before 6.13.
    pub cgroup: Option<u64>,
}

impl PidFd {
    /// Opens a pidfd by number. Safe only for a child that was not reaped yet.
    ///
    /// # Errors
    /// ESRCH when there is no such process; `InvalidInput` for pid 0 and negative ones.
    ///
    /// Source: pidfd_open(2).
    pub fn open(pid: u32) -> io::Result<Self> {
        let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(Self(rustix::process::pidfd_open(pid, PidfdFlags::empty())?))
    }

    /// Another fd for the same process.
    ///
    /// # Errors
    /// The kernel's (EMFILE).
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self(self.0.try_clone()?))
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// ESRCH when the process was reaped.
    ///
    /// Source: pidfd_send_signal(2).
    pub fn send_signal(&self, signal: Signal) -> io::Result<()> {
        Ok(rustix::process::pidfd_send_signal(&self.0, signal)?)
    }

    /// Queues a signal with a value (`si_code` SI_QUEUE). `number` may be one that libc keeps to
    /// itself, which [`Signal`] has no name for.
    ///
    /// # Errors
    /// ESRCH when the process was reaped, EAGAIN when too many signals are queued for its user.
    ///
    /// Source: pidfd_send_signal(2), sigqueue(3).
    pub fn queue_signal(&self, number: i32, value: u64) -> io::Result<()> {
        let info = Queued {
            number,
            errno: 0,
            code: libc::SI_QUEUE,
            padding: 0,
            pid: std::process::id() as i32,
            uid: rustix::process::getuid().as_raw(),
            value,
            rest: [0; 12],
        };
        // SAFETY: an open pidfd, and a siginfo that outlives the call.
        let done = unsafe {
            libc::syscall(
                libc::SYS_pidfd_send_signal,
                self.0.as_raw_fd(),
                number,
                &raw const info,
                0,
            )
        };
        if done == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    }

    /// Whether the process has ended, all its threads included. Never blocks.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.wait_ended(Some(0)).unwrap_or(false)
    }

    /// Waits until the process has ended; `false` when `timeout_ms` passed before that.
    ///
    /// # Errors
    /// The kernel's; EINTR is retried with the same timeout.
    pub fn wait_ended(&self, timeout_ms: Option<u32>) -> io::Result<bool> {
        let timeout = timeout_ms.map(|ms| Timespec {
            tv_sec: i64::from(ms / 1000),
            tv_nsec: i64::from(ms % 1000) * 1_000_000,
        });
        let mut fds = [PollFd::new(&self.0, PollFlags::IN)];
        loop {
            match rustix::event::poll(&mut fds, timeout.as_ref()) {
                Err(rustix::io::Errno::INTR) => {}
                ready => return Ok(ready? > 0),
            }
        }
    }

    /// Reaps a child of this process; `None` while it runs.
    ///
    /// # Errors
    /// ECHILD when it is no child of this process, or was reaped.
    ///
    /// Source: P_PIDFD in waitid(2).
    pub fn reap(&self) -> io::Result<Option<WaitStatus>> {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        let status = rustix::process::waitid(WaitId::PidFd(self.0.as_fd()), options)?;
        Ok(status.and_then(|status| match status.exit_status() {
            Some(code) => Some(WaitStatus::from_exit(code)),
            None => status
                .terminating_signal()
                .map(|number| WaitStatus::from_signal(number, status.dumped())),
        }))
    }

    /// Who this is; also of a process that has ended, until it is reaped: `None` from then on. One
    /// ioctl, or on kernels before 6.13 three files to read.
    ///
    /// # Errors
    /// `InvalidInput` when the fd is no pidfd; the kernel's.
    ///
    /// Source: PIDFD_GET_INFO in linux/pidfd.h.
    pub fn identity(&self) -> io::Result<Option<Identity>> {
        let mut info = PidFdInfo {
            mask: INFO_CGROUP,
            ..PidFdInfo::default()
        };
        match self.get_info(&mut info) {
            Ok(()) => {
                let [pid, _, parent, ..] = info.ids;
                let cgroup = (info.mask & INFO_CGROUP != 0).then_some(info.cgroupid);
                Ok((pid != 0).then_some(Identity {
                    pid,
                    parent,
                    cgroup,
                }))
            }
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(None),
            // An older kernel, or no pidfd.
            Err(_) => self.identity_by_files(),
        }
    }

    /// As [`PidFd::identity`], without the ioctl.
    fn identity_by_files(&self) -> io::Result<Option<Identity>> {
        let Some(pid) = self.pid_in_fdinfo()? else {
            return Ok(None);
        };
        let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else {
            return Ok(None);
        };
        // The name, in parentheses, may hold anything; then state and parent.
        let fields = stat.rsplit_once(") ").map(|(_, fields)| fields);
        let parent = fields.and_then(|fields| fields.split(' ').nth(1)?.parse().ok());
        let parent = parent.ok_or(io::ErrorKind::InvalidData)?;
        // It was not reaped meanwhile, so the number was its own when the file was read.
        let same = self.pid_in_fdinfo()? == Some(pid);
        Ok(same.then_some(Identity {
            pid,
            parent,
            cgroup: None,
        }))
    }

    fn get_info(&self, info: &mut PidFdInfo) -> io::Result<()> {
        // SAFETY: the request's size field is the size of `info`, which the kernel fills and
        // which outlives the call; an fd that is no pidfd answers ENOTTY.
        let result = unsafe { libc::ioctl(self.0.as_raw_fd(), GET_INFO as _, &raw mut *info) };
        if result == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    }

    /// How a process ended that somebody else has reaped. `None` before that, and on kernels
    /// before 6.15, which do not tell.
    ///
    /// Source: PIDFD_GET_INFO in linux/pidfd.h.
    #[must_use]
    pub fn exit_info(&self) -> Option<WaitStatus> {
        let mut info = PidFdInfo {
            mask: INFO_EXIT,
            ..PidFdInfo::default()
        };
        self.get_info(&mut info).ok()?;
        (info.mask & INFO_EXIT != 0).then_some(WaitStatus(info.exit_code as u32))
    }

    /// The pid, for people to read; `None` when the process was reaped.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.pid_in_fdinfo().ok().flatten()
    }

    fn pid_in_fdinfo(&self) -> io::Result<Option<u32>> {
        let path = format!("/proc/self/fdinfo/{}", self.0.as_raw_fd());
        let text = std::fs::read_to_string(path)?;
        let line = text.lines().find_map(|line| line.strip_prefix("Pid:"));
        // -1 once it was reaped, 0 in another pid namespace.
        let pid = line.ok_or(io::ErrorKind::InvalidInput)?.trim().parse();
        Ok(pid.ok().filter(|pid| *pid != 0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h31_a_pidfd_tells_who_it_is_of_until_that_is_reaped() {
        let mut child = std::process::Command::new("cat")
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let pidfd = PidFd::open(child.id()).unwrap();
        let (pid, parent) = (child.id(), std::process::id());
        let is_told = |who: io::Result<Option<Identity>>| {
            let who = who.unwrap().unwrap();
            assert_eq!((who.pid, who.parent), (pid, parent));
        };
        is_told(pidfd.identity());
        is_told(pidfd.identity_by_files());
        drop(child.stdin.take());
        assert!(pidfd.wait_ended(None).unwrap());
        is_told(pidfd.identity());
        is_told(pidfd.identity_by_files());
        child.wait().unwrap();
        assert_eq!(pidfd.identity().unwrap(), None);
        assert_eq!(pidfd.identity_by_files().unwrap(), None);
    }

    #[test]
    fn an_fd_that_is_no_pidfd_says_so() {
        for path in ["/dev/null", "/proc/self/status", "/"] {
            let fd = OwnedFd::from(std::fs::File::open(path).unwrap());
            let error = PidFd::from(fd).identity().unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{path}");
        }
    }
}
