//! The handler of faults: SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT where the program leaves them to
//! the system.
//!
//! Installed by `signals` in a template, inherited by its lives. It notes what was seen, and where the
//! life was alone it closes its files, says that it has stopped for good, and wakes the next life
//! itself, if the controller has allowed that beforehand (the word `relay`). In every case the life
//! then ends by the very signal that came.
//!
//! # Why no two lives run at once (DESIGN invariant 1)
//! From the first instruction of the handler on, this thread runs no line of the program again:
//!
//! - Every signal is blocked in the handler, so that no handler of the program interrupts it. A fault
//!   in the handler itself is a fault while its signal is blocked: the kernel ends the process.
//! - The handler queues the same signal, with its original `siginfo`, to its own thread. It is blocked
//!   until the handler returns, and the mask that the kernel restores then is changed to block
//!   every other signal. So at the return, before an instruction of the program, exactly one signal can
//!   be delivered, and its disposition is the default by then: the process ends, with the registers of
//!   the fault in its core. That the faulting instruction is not simply tried again matters, because
//!   it need not fault again: the signal may have been sent, or another process may have changed what
//!   it read.
//! - Whatever of this fails, the process is ended by SIGKILL from within the handler.
//!
//! Before the next life is woken, the kernel has said that this process has no other thread
//! (`unshare` of a thread fails otherwise), and no child (`waitid`), and nothing that runs now could
//! start one. What a life may have started and lost since (a grandchild whose parent has ended) is
//! not known to it: hence the next life, when it was woken by this one and not by the
//! controller, looks at who is in the actor's cgroup before it runs a line of the program (`life`,
//! `members`), and asks for the controller if there is anybody.
//!
//! # Why what it held is free (invariant 2)
//! Its files are closed, and with them its ports and locks, before the wake-up; but for its own socket
//! to the controller, which is nobody's but Refrain's. Blocks may stay mapped for as long as the
//! process takes to be torn down: nothing writes to them any more. A file that the program has mapped
//! is still held by the mapping, and so are locks on it and rings of requests that the
//! kernel goes on working at: such a life is not alone (`held`).
//!
//! # The order
//! Files are closed first: where that can't be done, nothing was promised yet. Then `stopped` is stored
//! with Release: who reads this serial there (Acquire) knows the files to be closed. Then
//! the permission is claimed, by one compare-and-swap against the controller's, and `wake` is stored,
//! with Release again, so that the next life, which loads it with Acquire, sees all that came
//! before. A life that dies between these two has claimed without waking; the controller, which sees
//! the claim and the end, wakes in its place.
//!
//! Must be safe at any instruction of any program: no libc, no lock, no allocation, little stack.

use core::sync::atomic::{AtomicBool, Ordering};

use refrain_abi::control::Relay;
use refrain_abi::request::Request;

use crate::failure::Who;
use crate::identity::{self, Own};
use crate::life_calls::{futex_wake_all, own_thread};
use crate::signal_calls::{self, Context, Info};
use crate::socket::{self, Wait};
use crate::syscalls::{self, Fd, SIGKILL};
use crate::{failure, stopping};

/// Whether a thread of this life is in the handler already.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// The handler.
///
/// # Safety
/// Called by the kernel, with SA_SIGINFO and every signal blocked.
pub unsafe extern "C" fn on_fault(signal: i32, info: *mut Info, context: *mut Context) {
    let pid = syscalls::own_pid();
    // SAFETY: the kernel has put it on this stack, and nobody else looks at it.
    let seen = unsafe { &*info };
    // SAFETY: as above.
    let context = unsafe { &mut *context };
    let tid = match identity::own(pid) {
        Some(own) if !TAKEN.swap(true, Ordering::Relaxed) => {
            first_thread(own, signal, seen, context, pid)
        }
        // A child of the life, a standby, a template, or a second thread that faults.
        _ => own_thread(),
    };
    context.blocked = !(1 << (signal - 1));
    let ended = signal_calls::reset(signal).and_then(|()| {
        // SAFETY: it came from the kernel.
        unsafe { signal_calls::queue(pid, tid, signal, info) }
    });
    if ended.is_err() {
        end(pid);
    }
}

/// What the first thread of a life does that faults; answers its id.
fn first_thread(own: Own, signal: i32, info: &Info, context: &Context, pid: u32) -> u32 {
    let single = stopping::has_one_thread();
    let tid = if single { pid } else { own_thread() };
    failure::record(own, signal, info, context, Who { pid, tid, single });
    let clean = own.page.is_clean(own.serial);
    let socket = identity::socket();
    if single && !clean && stopping::holds_only_files() && stopping::close_files(socket) {
        own.page.stopped.store(own.serial.0, Ordering::Release);
        relay(own);
    }
    if let Some(socket) = socket {
        tell(socket);
    }
    tid
}

/// Wakes the next life, if the controller has allowed this one to.
fn relay(own: Own) {
    let relay = Relay::of(own.page.relay.load(Ordering::Acquire));
    let Relay::Armed { from, to } = relay else {
        return;
    };
    let is_ours = from == own.serial;
    if is_ours
        && own
            .page
            .exchange_relay(relay, Relay::Claimed { to })
            .is_ok()
    {
        own.page.wake.store(to.0, Ordering::Release);
        futex_wake_all(&own.page.wake);
    }
}

/// Tells the controller, without waiting: the kernel tells it too, later.
fn tell(socket: Fd) {
    let mut frame = [0; 16];
    if let Ok(len) = Request::Failing.encode(0, &mut frame)
        && let Some(frame) = frame.get_mut(..len)
    {
        let _ = socket::send(socket, frame, &[], Wait::No);
    }
}

/// The end where nothing better can be had.
pub fn end(pid: u32) -> ! {
    syscalls::kill(pid, SIGKILL);
    syscalls::exit(NOT_ENDED)
}

/// The exit code of a life that was not even allowed to kill itself.
const NOT_ENDED: i32 = 127;
