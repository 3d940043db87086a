//! What a child does between the fork and the program's `main`.
//!
//! Called by `serve`. A standby prepares all it can, sleeps on the futex in the control page, and
//! on waking does as little as possible: this is the restart path. Must never open a file, and
//! must never run a line of the program before its serial was called.

use core::ffi::c_char;
use core::sync::atomic::Ordering;

use refrain_abi::Serial;
use refrain_abi::control::ControlPage;
use refrain_abi::template::{MAX_FRAME, StartFrame};

use crate::environ::LifeEnvironment;
use crate::prefault;
use crate::serve::{Comm, in_role, is_awake};
use crate::socket::{self, Wait};
use crate::syscalls::{self, EAGAIN, Fd, MaskHow, SIGSTOP, SignalMask};

/// Where a life's socket is put, out of the way of numbers that programs take for granted.
const SOCKET_ABOVE: usize = 60;
/// The exit code of a life that could not begin.
const NOT_BEGUN: i32 = 127;

/// The next life, forked but not begun.
#[derive(Debug)]
pub struct Standby {
    serial: Serial,
    socket: Fd,
}

/// A life that has begun: what `main` is called with.
#[derive(Debug)]
pub struct Life {
    /// Its environment.
    pub envp: *mut *const c_char,
}

impl Standby {
    /// Puts the socket where it stays: it goes with the program through an exec only where that is
    /// how the life begins (`by_exec`).
    #[must_use]
    pub fn new(serial: Serial, socket: Fd, by_exec: bool) -> Self {
        syscalls::lead_process_group();
        let socket = match syscalls::duplicate_above(socket, SOCKET_ABOVE, !by_exec) {
            Ok(moved) => {
                syscalls::close(socket);
                moved
            }
            // The limit of fds is lower: it stays where it is.
            Err(_) => {
                syscalls::set_cloexec(socket, !by_exec);
                socket
            }
        };
        Self { serial, socket }
    }

    /// Prepares, sleeps until the serial is called, takes the start frame and becomes a life.
    ///
    /// # Safety
    /// `envp` is a null-terminated array of C strings that live as long as the process.
    pub unsafe fn sleep_and_begin(
        self,
        page: &ControlPage,
        envp: *const *const c_char,
        mask: SignalMask,
        name: &Comm,
    ) -> Life {
        syscalls::set_name(&in_role(b'S', name));
        // SAFETY: the caller's promise.
        let environment = match unsafe { LifeEnvironment::prepare(envp, self.socket) } {
            Ok(environment) => environment,
            Err(_) => syscalls::exit(NOT_BEGUN),
        };
        #[cfg(not(shim_stub))]
        crate::start::prefault_objects();
        prefault::stack();
        loop {
            let woken = page.wake.load(Ordering::Acquire);
            if is_awake(woken, self.serial) {
                break;
            }
            syscalls::futex_wait(&page.wake, woken);
        }
        page.began.store(self.serial.0, Ordering::Release);
        syscalls::set_name(name);
        let Some(start) = self.take_start() else {
            syscalls::exit(NOT_BEGUN)
        };
        let envp = environment.finish(start.life.0);
        let _ = syscalls::signal_mask(MaskHow::Set, mask);
        if start.stopped {
            syscalls::kill(syscalls::own_pid(), SIGSTOP);
        }
        Life { envp }
    }

    /// Takes the frame that was queued before the wake-up, and puts the fds beside it in place as
    /// stdin, stdout and stderr.
    fn take_start(&self) -> Option<StartFrame> {
        let mut buffer = [0; MAX_FRAME];
        let received = match socket::receive(self.socket, &mut buffer, Wait::No) {
            Err(EAGAIN) => socket::receive(self.socket, &mut buffer, Wait::Yes),
            other => other,
        }
        .ok()?;
        let start = StartFrame::decode(buffer.get(..received.len)?).ok()?;
        if start.serial != self.serial || received.fd_count != received.fds.len() {
            return None;
        }
        for (fd, target) in received.fds.into_iter().zip(0..) {
            if fd == target {
                syscalls::set_cloexec(fd, false);
                continue;
            }
            syscalls::place(fd, target).ok()?;
        }
        for fd in received.fds.into_iter().filter(|fd| *fd > 2) {
            syscalls::close(fd);
        }
        Some(start)
    }
}
