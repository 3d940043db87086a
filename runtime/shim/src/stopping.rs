//! Stopping for good without ending: the files of a life are closed, and no line of it runs again.
//!
//! [`on_stop`] is the handler of the signal by which the controller stops a member of a group: where a
//! life has one thread and no children, waiting until the kernel has torn down its memory is not
//! needed, and the controller ends it afterwards with SIGKILL. `fault` uses the rest. The
//! argument why that is enough is told there.
//!
//! The signal is one that no program can handle or block by its C library, and with it comes a
//! value: the C libraries use the same signals among their own threads. Where they have taken it for
//! that, the controller's grace passes and SIGKILL follows.
//!
//! Must be safe in a signal handler, and never return to the program once it has closed a file.

use core::sync::atomic::Ordering;

use refrain_abi::control::STOP_VALUE;

use crate::life_calls::{LAST_FD, close_range, has_children, unshare_thread};
use crate::signal_calls::{Context, Info, wait_for_the_end};
use crate::syscalls::{self, EINVAL, Fd};
use crate::{fault, held, identity, serve};

/// `si_code` of sigqueue(3).
const SI_QUEUE: i32 = -1;

/// The handler.
///
/// # Safety
/// Called by the kernel, with SA_SIGINFO and every signal blocked.
pub unsafe extern "C" fn on_stop(_: i32, info: *mut Info, _: *mut Context) {
    // SAFETY: the kernel has put it on this stack.
    let info = unsafe { &*info };
    // `si_value` may be an int: its upper half is not looked at.
    if info.code != SI_QUEUE || info.value as u32 != STOP_VALUE as u32 {
        return;
    }
    let pid = syscalls::own_pid();
    let Some(own) = identity::own(pid) else {
        return;
    };
    if has_one_thread() && holds_only_files() && close_files(None) {
        own.page.stopped.store(own.serial.0, Ordering::Release);
        wait_for_the_end();
    }
    fault::end(pid);
}

/// Whether the caller is the only thread of this process.
#[must_use]
pub fn has_one_thread() -> bool {
    match unshare_thread() {
        Ok(()) => true,
        Err(EINVAL) => false,
        // A filter, as containers have it, does not let anybody ask like that.
        Err(_) => serve::count_threads() == Some(1),
    }
}

/// Whether nothing of this process would stay once its files are closed, in a process of one thread.
#[must_use]
pub fn holds_only_files() -> bool {
    !held::any() && !has_children()
}

/// Closes every file but `spared`.
#[must_use]
pub fn close_files(spared: Option<Fd>) -> bool {
    let Some(spared) = spared.map(|fd| fd as u32) else {
        return close_range(0, LAST_FD).is_ok();
    };
    (spared == 0 || close_range(0, spared - 1).is_ok()) && close_range(spared + 1, LAST_FD).is_ok()
}
