//! The children of a template that were not reaped yet, and the wait for their ends and for requests.
//!
//! Called by `serve`. Must never let go of a child before that was reaped: its pid could be
//! somebody else's by then.

use core::sync::atomic::Ordering;

use refrain_abi::Serial;
use refrain_abi::control::ControlPage;

use crate::syscalls::{self, EINTR, Fd, MaskHow, PollFd, SignalMask};

/// How many children a template remembers: the life, its successor, and room for some that are on
/// their way out.
const MAX_CHILDREN: usize = 64;
/// How long a child that has ended is left alone, in nanoseconds.
const LEFT_ALONE_NS: u32 = 1_000_000;
const POLLIN: i16 = 1;
const SIGCHLD: u32 = 17;

/// A child that was not reaped yet.
#[derive(Clone, Copy)]
pub(crate) struct Child {
    pub pid: u32,
    pub kind: Kind,
}

/// What a child is.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    /// A life or standby. Its end of its socket is kept open here until it is reaped: else the
    /// controller would hear of the closed socket before it hears of the end, which matters more. So is the
    /// controller's end, for the next controller.
    Life {
        serial: Serial,
        socket: Fd,
        controller_end: Fd,
    },
    /// A keeper that was told to end.
    Keeper,
}

/// The children, and the fd that tells of their ends.
pub(crate) struct Watch {
    pub children: [Option<Child>; MAX_CHILDREN],
    signals: Fd,
    /// The mask that the program had.
    pub saved: SignalMask,
    /// A child has ended and was not reaped yet.
    somebody_ended: bool,
}

impl Child {
    /// Closes what is kept of it.
    pub fn close(&self) {
        if let Kind::Life {
            socket,
            controller_end,
            ..
        } = self.kind
        {
            syscalls::close(socket);
            syscalls::close(controller_end);
        }
    }
}

impl Watch {
    /// Blocks SIGCHLD and opens the fd that it is read from.
    pub fn new() -> Option<Self> {
        let mask = 1 << (SIGCHLD - 1);
        let saved = syscalls::signal_mask(MaskHow::Block, mask).ok()?;
        let signals = syscalls::signalfd(mask).ok()?;
        Some(Self {
            children: [None; MAX_CHILDREN],
            signals,
            saved,
            somebody_ended: false,
        })
    }

    /// A free place in the table.
    pub fn place(&mut self) -> Option<&mut Option<Child>> {
        self.children.iter_mut().find(|child| child.is_none())
    }

    /// Closes what is kept of all of them, in a child.
    pub fn close(&self) {
        syscalls::close(self.signals);
        self.children.iter().flatten().for_each(Child::close);
    }

    /// The pid of the life that was called last.
    pub fn life_of(&self, page: &ControlPage) -> Option<u32> {
        let woken = page.wake.load(Ordering::Acquire);
        let called = |child: &Child| match child.kind {
            Kind::Life { serial, .. } if serial.is_called(woken) => {
                Some((woken.wrapping_sub(serial.0), child.pid))
            }
            _ => None,
        };
        let lives = self.children.iter().flatten().filter_map(called);
        lives.min().map(|(_, pid)| pid)
    }

    /// Takes a child out of the table.
    pub fn take(&mut self, pid: u32) -> Option<Child> {
        self.children
            .iter_mut()
            .find(|child| child.is_some_and(|child| child.pid == pid))
            .and_then(Option::take)
    }

    /// Waits; answers whether there is a request, and whether a child is to be reaped.
    ///
    /// A child that ends is left alone for a moment, or until the next request: the life after it is
    /// being woken just then, and reaping, reporting and the end of a keeper with all its memory
    /// would take the CPU that it is woken on.
    pub fn wait(&mut self, socket: Fd) -> [bool; 2] {
        let fds = [socket, self.signals];
        let mut fds = fds.map(|fd| PollFd {
            fd,
            events: POLLIN,
            seen: 0,
        });
        let [only_socket, _] = &mut fds;
        let waited = if self.somebody_ended {
            syscalls::poll(core::slice::from_mut(only_socket), Some(LEFT_ALONE_NS))
        } else {
            syscalls::poll(&mut fds, None)
        };
        match waited {
            Ok(_) => {}
            Err(EINTR) => return [false, false],
            Err(_) => syscalls::exit(126),
        }
        let [request, ended] = fds.map(|fd| fd.seen != 0);
        if !self.somebody_ended {
            self.somebody_ended = ended;
            return [request, false];
        }
        self.somebody_ended = false;
        // One signal may stand for many; what it says is asked of wait4.
        let mut info = [0; 128];
        let _ = syscalls::read(self.signals, &mut info);
        [request, true]
    }
}
