//! What this kernel can do, found out by doing it: for `c_init doctor`. No version is looked at, since a
//! vendor's kernel has what a newer one has, and a container's filter takes away what the kernel has.
//!
//! Each question leaves nothing behind: children are killed and reaped, files have no name, cgroups
//! are removed. Must never be asked in a process that has children of its own to wait for.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::process::Pid;

use crate::cgroup::{self, Cgroup};
use crate::pidfd::Signal;
use crate::{PidFd, Spawn, mapping, memfd};

/// How long the end of a killed child is waited for, in milliseconds; the kernel needs a few
/// hundredths of one.
const END_TIMEOUT_MS: u32 = 10_000;
/// What is executed where memfds are not: any program that waits.
const SLEEP: &str = "/bin/sleep";

/// A program of its own, as small as ELF allows: it waits for a signal, for ever.
#[cfg(target_arch = "x86_64")]
const WAITS: (u8, &[u8]) = (
    0x3e,
    // mov eax, 34 (pause); syscall; jmp back
    &[0xb8, 34, 0, 0, 0, 0x0f, 0x05, 0xeb, 0xf7],
);
/// The same: ppoll of nothing.
#[cfg(target_arch = "aarch64")]
const WAITS: (u8, &[u8]) = (
    0xb7,
    // mov x0..x4, 0; mov x8, 73 (ppoll); svc 0; b back
    &[
        0x00, 0x00, 0x80, 0xd2, 0x01, 0x00, 0x80, 0xd2, 0x02, 0x00, 0x80, 0xd2, 0x03, 0x00, 0x80,
        0xd2, 0x04, 0x00, 0x80, 0xd2, 0x28, 0x09, 0x80, 0xd2, 0x01, 0x00, 0x00, 0xd4, 0xf9, 0xff,
        0xff, 0x17,
    ],
);

/// The ELF file of [`WAITS`]: header, one segment, code. Source: elf(5).
fn waiting_program() -> Vec<u8> {
    const BASE: u64 = 0x40_0000;
    const HEADERS: u64 = 64 + 56;
    let (machine, code) = WAITS;
    let mut elf = b"\x7fELF\x02\x01\x01".to_vec();
    elf.resize(16, 0);
    // ET_EXEC, the machine, EV_CURRENT.
    elf.extend([2, 0, machine, 0, 1, 0, 0, 0]);
    for word in [BASE + HEADERS, 64, 0] {
        elf.extend(word.to_le_bytes());
    }
    elf.extend([0; 4]);
    for half in [64u16, 56, 1, 0, 0, 0] {
        elf.extend(half.to_le_bytes());
    }
    // PT_LOAD, readable and executable.
    elf.extend([1, 0, 0, 0, 5, 0, 0, 0]);
    let size = HEADERS + code.len() as u64;
    for word in [0, BASE, BASE, size, size, 0x1000] {
        elf.extend(word.to_le_bytes());
    }
    elf.extend(code);
    elf
}

/// A program to execute in a child, which then waits for its end.
#[derive(Debug)]
pub struct Sleeper {
    exe: OwnedFd,
    argv: Vec<CString>,
}

impl Sleeper {
    /// One in an executable memfd, sealed, as actor images are.
    ///
    /// # Errors
    /// [`memfd::ExecRefused`] where `vm.memfd_noexec=2`; else the kernel's.
    pub fn in_memfd() -> io::Result<Self> {
        let exe = memfd::from_bytes("refrain-doctor", &waiting_program(), true)?;
        memfd::seal_image(exe.as_fd())?;
        // A file that is open for writing cannot be executed: only the seal forbids that.
        let exe = File::open(format!("/proc/self/fd/{}", raw(&exe)))?.into();
        Ok(Self {
            exe,
            argv: vec![c"refrain-doctor".into()],
        })
    }

    /// One from a file that every machine has, for the other questions where memfds are refused.
    ///
    /// # Errors
    /// The kernel's (no such file).
    pub fn in_file() -> io::Result<Self> {
        Ok(Self {
            exe: File::open(SLEEP)?.into(),
            argv: vec![c"sleep".into(), c"3600".into()],
        })
    }

    /// Starts it, in a cgroup or in this process's own.
    ///
    /// # Errors
    /// As [`Spawn::spawn`].
    pub fn start(&self, cgroup: Option<BorrowedFd<'_>>) -> io::Result<Child> {
        let spawn = Spawn::new(self.exe.as_fd(), &self.argv, &[]).cgroup(cgroup);
        spawn.spawn().map(|(pid, pidfd)| Child { pid, pidfd })
    }
}

fn raw(fd: &OwnedFd) -> i32 {
    use std::os::fd::AsRawFd;
    fd.as_raw_fd()
}

/// A running child; dropped, it is killed and reaped.
#[derive(Debug)]
pub struct Child {
    pid: u32,
    pidfd: PidFd,
}

impl Child {
    /// Kills it through its pidfd and waits for its end.
    ///
    /// # Errors
    /// The kernel's; `TimedOut` where the end is not told.
    pub fn kill(&self) -> io::Result<()> {
        self.pidfd.send_signal(Signal::KILL)?;
        self.wait_ended()
    }

    /// Waits for its end by the pidfd.
    ///
    /// # Errors
    /// The kernel's; `TimedOut` where the end is not told.
    pub fn wait_ended(&self) -> io::Result<()> {
        match self.pidfd.wait_ended(Some(END_TIMEOUT_MS))? {
            true => Ok(()),
            false => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    /// Whether the pidfd still tells how it ended once it was reaped. It must have ended.
    ///
    /// # Errors
    /// The kernel's.
    pub fn tells_end_after_reaping(&self) -> io::Result<bool> {
        self.pidfd.reap()?;
        Ok(self.pidfd.exit_info().is_some())
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // Where it was reaped before, none of this does anything.
        if self.kill().is_err() && matches!(self.pidfd.reap(), Ok(None)) {
            // Nothing else ends it where pidfd_send_signal is filtered. The number is still its own, as
            // nobody but this process can reap it.
            let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
            if let Some(pid) = pid {
                let _ = rustix::process::kill_process(pid, Signal::KILL);
            }
            let _ = self.wait_ended();
        }
        let _ = self.pidfd.reap();
    }
}

/// Whether clone3(2) is there and let through.
///
/// # Errors
/// ENOSYS or EPERM where it is not.
///
/// Source: clone3(2).
pub fn clone3() -> io::Result<()> {
    // SAFETY: a size of 0 is refused with EINVAL before anything is read or cloned.
    let result = unsafe { libc::syscall(libc::SYS_clone3, std::ptr::null::<u8>(), 0usize) };
    let error = io::Error::last_os_error();
    match (result, error.raw_os_error()) {
        (-1, Some(libc::EINVAL)) => Ok(()),
        _ => Err(error),
    }
}

/// Whether a block can be mapped at its address and its pages be set up at once.
///
/// # Errors
/// `AlreadyExists` where something else is mapped at `address`; EINVAL from kernels without
/// MADV_POPULATE_WRITE; else the kernel's.
pub fn populate_at(address: u64) -> io::Result<()> {
    let size = rustix::param::page_size();
    let fd = memfd::from_bytes("refrain-doctor", &vec![0; size], false)?;
    mapping::map_block_fixed(fd.as_fd(), address, size)?.populate()
}

/// A cgroup of our own, below this process's.
///
/// # Errors
/// As [`cgroup::own_directory`] and [`Cgroup::create`].
pub fn own_cgroup() -> io::Result<Held> {
    let name = format!("refrain-doctor-{}", std::process::id());
    Cgroup::create(&cgroup::own_directory()?, &name).map(Held)
}

/// A cgroup for a question; dropped, it is removed.
#[derive(Debug)]
pub struct Held(Cgroup);

impl Held {
    /// Starts a child in it.
    ///
    /// # Errors
    /// `Unsupported` where clone3 cannot do it; else as [`Spawn::spawn`].
    pub fn start(&self, sleeper: &Sleeper) -> io::Result<Child> {
        let directory = self.0.directory()?;
        sleeper.start(Some(directory.as_fd()))
    }

    /// Kills all members at once.
    ///
    /// # Errors
    /// The kernel's.
    pub fn kill_all(&self) -> io::Result<()> {
        self.0.kill_all()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let _ = self.0.remove();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_is_started_from_memory_killed_and_nothing_of_it_is_left() {
        let sleeper = Sleeper::in_memfd().or_else(|_| Sleeper::in_file()).unwrap();
        let child = sleeper.start(None).unwrap();
        let pid = child.pid;
        child.kill().unwrap();
        child.tells_end_after_reaping().unwrap();
        drop(child);
        assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
        let running = sleeper.start(None).unwrap();
        let pid = running.pid;
        drop(running);
        assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
    }

    #[test]
    fn a_taken_address_is_told_from_a_kernel_that_cannot() {
        let here = a_taken_address_is_told_from_a_kernel_that_cannot as *const () as u64;
        let here = here / 4096 * 4096;
        let told = populate_at(here).unwrap_err();
        assert_eq!(told.kind(), io::ErrorKind::AlreadyExists);
    }
}
