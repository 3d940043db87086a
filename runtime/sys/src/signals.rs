//! Signals as an fd, for nucleus and the controller: no handler runs in either.
//!
//! Must be set up before any thread is started, because a mask is inherited by new threads and a
//! thread that lacks it takes the signal away. Spawned actors start with an empty mask
//! (`spawn_child`).
#![allow(unsafe_code)]

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::pidfd::Signal;

/// A set of signals.
fn set_of(signals: &[Signal]) -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: `set` is a valid place for a sigset_t.
    unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    for signal in signals {
        // SAFETY: the set was initialised above; a number out of range is refused by libc.
        unsafe { libc::sigaddset(set.as_mut_ptr(), signal.as_raw()) };
    }
    // SAFETY: sigemptyset has initialised it.
    unsafe { set.assume_init() }
}

/// Blocks signals in the calling thread, and in those that it starts from now on.
///
/// # Errors
/// The kernel's.
///
/// Source: pthread_sigmask(3).
pub fn block_signals(signals: &[Signal]) -> io::Result<()> {
    let set = set_of(signals);
    // SAFETY: `set` is a valid set, and no old mask is asked for.
    let error = unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &set, std::ptr::null_mut()) };
    if error == 0 {
        Ok(())
    } else {
        Err(io::Error::from_raw_os_error(error))
    }
}

/// All signals blocked in this thread for as long as it lives; then the mask is as it was.
pub(crate) struct AllBlocked(libc::sigset_t);

impl AllBlocked {
    pub(crate) fn new() -> io::Result<Self> {
        let mut all = MaybeUninit::uninit();
        // SAFETY: `all` is a valid place for a sigset_t.
        unsafe { libc::sigfillset(all.as_mut_ptr()) };
        let mut old = MaybeUninit::uninit();
        // SAFETY: `all` was initialised above, `old` is a valid place for the old mask.
        let error =
            unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), old.as_mut_ptr()) };
        if error != 0 {
            return Err(io::Error::from_raw_os_error(error));
        }
        // SAFETY: the call succeeded, so it has stored the old mask.
        Ok(Self(unsafe { old.assume_init() }))
    }
}

impl Drop for AllBlocked {
    fn drop(&mut self) {
        // SAFETY: `self.0` is the mask that pthread_sigmask stored.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &self.0, std::ptr::null_mut()) };
    }
}

/// An fd that signals are read from. Readable while one is pending.
#[derive(Debug)]
pub struct SignalFd(OwnedFd);

impl SignalFd {
    /// Blocks `signals` in the calling thread and opens an fd for them, nonblocking and CLOEXEC.
    ///
    /// # Errors
    /// The kernel's (EMFILE).
    ///
    /// Source: signalfd(2).
    pub fn new(signals: &[Signal]) -> io::Result<Self> {
        block_signals(signals)?;
        let set = set_of(signals);
        // SAFETY: `set` is a valid set; -1 asks for a new fd.
        let fd = unsafe { libc::signalfd(-1, &set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just given us this fd, and nobody else has it.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// The next pending signal and the pid that sent it; `None` when none is pending. Signals
    /// coalesce: one SIGCHLD may stand for many children.
    ///
    /// # Errors
    /// The kernel's.
    pub fn read(&self) -> io::Result<Option<(Signal, u32)>> {
        let mut info = [0u8; size_of::<libc::signalfd_siginfo>()];
        match rustix::io::read(&self.0, &mut info) {
            Ok(count) if count == info.len() => {}
            Ok(_) | Err(rustix::io::Errno::AGAIN) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        let word = |at: usize| -> u32 {
            info.get(at..at + 4)
                .and_then(|b| b.try_into().ok())
                .map_or(0, u32::from_ne_bytes)
        };
        let number = word(std::mem::offset_of!(libc::signalfd_siginfo, ssi_signo));
        let sender = word(std::mem::offset_of!(libc::signalfd_siginfo, ssi_pid));
        Ok(Signal::from_named_raw(number as i32).map(|signal| (signal, sender)))
    }

    /// The fd's number, for an event loop that wants one.
    #[must_use]
    pub fn raw(&self) -> i32 {
        self.0.as_raw_fd()
    }
}

impl AsFd for SignalFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
