//! What a child does between the fork and the program's `main`.
//!
//! Called by `serve`. A standby prepares all it can, its start frame included, sleeps on the futex in
//! the control page, and on waking does as little as possible: this is the restart path. Must never
//! open a file there, and must never run a line of the program before its serial was called.
//!
//! # Who woke it
//! The controller begins a life by storing its serial in `go`, then in `wake`, each with Release. A
//! failing life that was allowed to wake its successor stores `wake` alone. So a standby that has
//! loaded its serial from `wake` with Acquire, and finds `go` below it, was woken by a life,
//! and nobody has looked yet whether that left somebody behind: the standby looks itself. Where it
//! finds a stranger, or can't find out, it says so (`declined`) and waits for `go`, which the
//! controller stores once the strangers have ended. Only the controller can advance `go`; that a hostile
//! life writes these words harms nobody but its own actor, as it may write to its own blocks anyhow.

use core::ffi::c_char;
use core::sync::atomic::{AtomicU32, Ordering};

use refrain_abi::Serial;
use refrain_abi::template::{MAX_FRAME, StartFrame};

use crate::environ::LifeEnvironment;
use crate::serve::{Asked, Template, in_role};
use crate::socket::{self, Wait};
use crate::syscalls::{self, Fd, MaskHow, SIGSTOP, SignalMask};
use crate::{identity, members, prefault};

/// Where a life's socket is put, out of the way of numbers that programs take for granted.
const SOCKET_ABOVE: usize = 60;
/// The exit code of a life that could not begin.
const NOT_BEGUN: i32 = 127;

/// The next life, forked but not begun.
#[derive(Debug)]
pub struct Standby<'a> {
    serial: Serial,
    keeper: bool,
    socket: Fd,
    template: &'a Template,
    /// A life of the same warm image, whose beginning this one's will be like.
    before: Option<u32>,
}

/// A life that has begun: what `main` is called with.
#[derive(Debug)]
pub struct Life {
    /// Its environment.
    pub envp: *mut *const c_char,
}

impl<'a> Standby<'a> {
    /// Puts the socket where it stays: it goes with the program through an exec only where that is
    /// how the life begins.
    #[must_use]
    pub fn new(asked: &Asked, template: &'a Template, before: Option<u32>) -> Self {
        syscalls::lead_process_group();
        let cloexec = template.fds.image.is_none();
        let socket = match syscalls::duplicate_above(asked.socket, SOCKET_ABOVE, cloexec) {
            Ok(moved) => {
                syscalls::close(asked.socket);
                moved
            }
            // The limit of fds is lower: it stays where it is.
            Err(_) => {
                syscalls::set_cloexec(asked.socket, cloexec);
                asked.socket
            }
        };
        Self {
            serial: asked.serial,
            keeper: asked.keeper,
            socket,
            template,
            before,
        }
    }

    /// Prepares, takes the start frame, sleeps until the serial is called and becomes a life.
    ///
    /// # Safety
    /// `envp` is a null-terminated array of C strings that live as long as the process.
    pub unsafe fn sleep_and_begin(self, envp: *const *const c_char, mask: SignalMask) -> Life {
        let (page, name) = (self.template.page, &self.template.name);
        syscalls::set_name(&in_role(b'S', name));
        identity::prepare(page, self.serial, self.socket);
        // SAFETY: the caller's promise.
        let environment = match unsafe { LifeEnvironment::prepare(envp, self.socket) } {
            Ok(environment) => environment,
            Err(_) => syscalls::exit(NOT_BEGUN),
        };
        #[cfg(not(shim_stub))]
        self.prepare_program();
        prefault::stack();
        // Queued ahead where the controller knows already what it will say; else it comes with the
        // wake-up.
        let Some(start) = self.take_start() else {
            syscalls::exit(NOT_BEGUN)
        };
        let envp = environment.finish(start.life.0);
        let own = syscalls::own_pid();
        let _ = syscalls::signal_mask(MaskHow::Set, mask);
        sleep_until(&page.wake, self.serial);
        if !self.serial.is_called(page.go.load(Ordering::Acquire)) {
            self.take_the_place(own);
        }
        page.began.store(self.serial.0, Ordering::Release);
        identity::begin(own);
        syscalls::set_name(name);
        if let Some(members) = self.template.fds.members {
            syscalls::close(members);
        }
        if start.stopped {
            syscalls::kill(own, SIGSTOP);
        }
        Life { envp }
    }

    /// What only a program has that was loaded before the fork.
    #[cfg(not(shim_stub))]
    fn prepare_program(&self) {
        use crate::{held, keeper, signals, start, written};

        start::prefault_objects();
        signals::prefault_stack();
        if let Some(life) = self.before {
            written::beforehand(life);
        }
        let (page, stack) = (self.template.page, signals::keeper_stack());
        // One that is awake is wanted at once, and one that holds more than files has none.
        if !self.keeper
            || self.template.fds.members.is_none()
            || stack.is_null()
            || self.serial.is_called(page.wake.load(Ordering::Acquire))
            || held::any()
        {
            return;
        }
        let (template, name) = (self.template.pid, &self.template.name);
        // SAFETY: the stack is the keeper's, of which a standby starts one.
        unsafe { keeper::start(page, self.serial, template, name, stack) };
    }

    /// Woken by a failing life: goes on if nobody was left behind, else when the controller says so.
    fn take_the_place(&self, own: u32) {
        let page = self.template.page;
        let known = self
            .template
            .fds
            .members
            .is_some_and(|members| members::are_known(members, page, self.template.pid, own));
        if !known {
            page.declined.store(self.serial.0, Ordering::Release);
            sleep_until(&page.go, self.serial);
        }
    }

    /// Takes the frame that begins this life, and puts the fds beside it in place as stdin, stdout
    /// and stderr.
    fn take_start(&self) -> Option<StartFrame> {
        let mut buffer = [0; MAX_FRAME];
        let received = socket::receive(self.socket, &mut buffer, Wait::Yes).ok()?;
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

/// Sleeps until `word` has reached the serial. Acquire: what whoever stored it did before is seen.
fn sleep_until(word: &AtomicU32, serial: Serial) {
    loop {
        let reached = word.load(Ordering::Acquire);
        if serial.is_called(reached) {
            return;
        }
        syscalls::futex_wait(word, reached);
    }
}
