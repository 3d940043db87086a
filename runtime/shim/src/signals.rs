//! Signal dispositions: a program sees and does what it would without Refrain.
//!
//! [`install`] is called by `start` in a template, before it serves; from then on, for the signals in
//! [`FAULTS`], the default disposition *is* the handler in `fault`. The functions here stand in front
//! of libc's: who asks is told SIG_DFL, who sets SIG_DFL gets ours, and anything else goes through
//! unchanged. So a program's own handlers are installed as ever (Rust's library looks first whether the
//! disposition is the default), and where such a handler puts the default back and lets the fault
//! happen again, ours takes that.
//!
//! Must never change the disposition of a signal that the program handles or ignores. A program that
//! calls the kernel without its C library sees our handler; it may replace it, and then has no fast
//! notice.

use core::ffi::{c_int, c_void};
use core::mem::transmute;
use core::ptr;
use core::sync::atomic::{AtomicBool, AtomicPtr, Ordering};

use refrain_abi::control::STOP_SIGNAL;

use crate::signal_calls::{self, DEFAULT, Handler, ONSTACK, RESTART, SIGINFO};
use crate::start::Hidden;
use crate::{fault, keeper, prefault, stopping, syscalls};

/// SIGILL, SIGABRT, SIGBUS, SIGFPE, SIGSEGV.
const FAULTS: [c_int; 5] = [4, 6, 7, 8, 11];
/// The two signals that the C libraries keep for themselves. The controller sends [`STOP_SIGNAL`];
/// each is taken by one of the libraries at some point (glibc's SIGSETXID is 33, at the first thread; its
/// SIGCANCEL is 32, at the first cancellation; musl's SIGCANCEL is 33).
const STOPS: [c_int; 2] = [32, 33];
const _: () = assert!(STOP_SIGNAL == STOPS[0] || STOP_SIGNAL == STOPS[1]);

/// The size of the alternate stack, in bytes: for our handlers, and for those of a program that finds
/// one to be there.
const STACK: usize = 32 << 10;
/// How much of it a handler of ours uses, the kernel's frame included, in bytes.
const STACK_USED: usize = 8 << 10;

/// Whether the default disposition is ours.
static INSTALLED: AtomicBool = AtomicBool::new(false);
/// The stack of the keeper, and above it the alternate stack.
static STACKS: AtomicPtr<u8> = AtomicPtr::new(ptr::null_mut());

/// libc's `struct sigaction`, the same in glibc and musl on both architectures.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Action {
    handler: usize,
    mask: [u64; 16],
    flags: c_int,
    restorer: usize,
}

const ZERO: Action = Action {
    handler: DEFAULT,
    mask: [0; 16],
    flags: 0,
    restorer: 0,
};

type SigAction = unsafe extern "C" fn(c_int, *const Action, *mut Action) -> c_int;
type Signal = unsafe extern "C" fn(c_int, usize) -> usize;

fn ours() -> usize {
    fault::on_fault as Handler as usize
}

/// Our handler, as libc takes it.
fn our_action() -> Action {
    Action {
        handler: ours(),
        mask: [u64::MAX; 16],
        flags: (SIGINFO | ONSTACK) as c_int,
        restorer: 0,
    }
}

/// Installs the handlers where the disposition is the default, and the alternate stack where there is
/// none. What fails is left as it is: that program has no fast notice. Without `handlers` it is only the
/// keeper's stack that is made.
pub fn install(handlers: bool) {
    let Ok(stacks) = syscalls::map(None, keeper::STACK + STACK) else {
        return;
    };
    let stacks = stacks.cast::<u8>();
    STACKS.store(stacks, Ordering::Relaxed);
    if !handlers {
        return;
    }
    let base = stacks.wrapping_add(keeper::STACK).expose_provenance();
    // SAFETY: memory of our own, which is never unmapped.
    if unsafe { signal_calls::alternate_stack(base, STACK) }.is_err() {
        return;
    }
    for stop in STOPS {
        let _ = signal_calls::handle(stop, stopping::on_stop, ONSTACK | RESTART);
    }
    // Looked up here, because a program may call them in a handler, where nothing can be.
    for function in [&SIGACTION, &SIGNAL, &SYSV_SIGNAL] {
        function.seek();
    }
    INSTALLED.store(true, Ordering::Relaxed);
    for signal in FAULTS {
        let mut now = ZERO;
        // SAFETY: asks only.
        let asked = unsafe { real_action(signal, ptr::null(), &raw mut now) };
        if asked == 0 && now.handler == DEFAULT {
            // SAFETY: our handler is of the type that its flags promise.
            unsafe { real_action(signal, &our_action(), ptr::null_mut()) };
        }
    }
}

/// Sets up what a handler of ours touches, in a standby.
pub fn prefault_stack() {
    let stacks = STACKS.load(Ordering::Relaxed);
    if INSTALLED.load(Ordering::Relaxed) {
        let end = stacks.addr() + keeper::STACK + STACK;
        prefault::writable(end - STACK_USED..end);
    }
}

/// The stack of the keeper, [`keeper::STACK`] bytes; null before [`install`].
#[must_use]
pub fn keeper_stack() -> *mut u8 {
    STACKS.load(Ordering::Relaxed)
}

fn is_ours(signal: c_int) -> bool {
    INSTALLED.load(Ordering::Relaxed) && FAULTS.contains(&signal)
}

static SIGACTION: Hidden = Hidden::new(c"sigaction");
static SIGNAL: Hidden = Hidden::new(c"signal");
static SYSV_SIGNAL: Hidden = Hidden::new(c"__sysv_signal");

/// libc's.
///
/// # Safety
/// As sigaction(2).
unsafe fn real_action(signal: c_int, new: *const Action, old: *mut Action) -> c_int {
    // SAFETY: libc's function of this name has this type.
    let next = unsafe { transmute::<*mut c_void, SigAction>(SIGACTION.address()) };
    // SAFETY: the caller's promise.
    unsafe { next(signal, new, old) }
}

/// # Safety
/// As sigaction(2): each pointer is null or valid.
unsafe fn action(signal: c_int, new: *const Action, old: *mut Action) -> c_int {
    if !is_ours(signal) {
        // SAFETY: the caller's promise.
        return unsafe { real_action(signal, new, old) };
    }
    let ours_instead = our_action();
    let mut seen = ZERO;
    // SAFETY: the caller's promise.
    let sets_default = unsafe { new.as_ref() }.is_some_and(|new| new.handler == DEFAULT);
    let new = if sets_default { &ours_instead } else { new };
    // SAFETY: the caller's action or ours, and a place of our own.
    let result = unsafe { real_action(signal, new, &raw mut seen) };
    if result == 0 && !old.is_null() {
        let told = if seen.handler == ours() { ZERO } else { seen };
        // SAFETY: the caller's promise.
        unsafe { *old = told };
    }
    result
}

/// # Safety
/// As signal(2); `function` is one of its kind.
unsafe fn simple(signal: c_int, handler: usize, function: &Hidden) -> usize {
    const FAILED: usize = usize::MAX;
    if is_ours(signal) && handler == DEFAULT {
        let mut old = ZERO;
        // SAFETY: as `action`, with places of our own.
        let result = unsafe { action(signal, &ZERO, &raw mut old) };
        return if result == 0 { old.handler } else { FAILED };
    }
    // SAFETY: libc's functions of this kind have this type.
    let next = unsafe { transmute::<*mut c_void, Signal>(function.address()) };
    // SAFETY: the caller's promise.
    let old = unsafe { next(signal, handler) };
    if old == ours() { DEFAULT } else { old }
}

/// In front of libc's.
///
/// # Safety
/// As sigaction(2).
#[cfg_attr(shim_object, unsafe(no_mangle))]
pub unsafe extern "C" fn sigaction(signal: c_int, new: *const Action, old: *mut Action) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { action(signal, new, old) }
}

/// In front of glibc's.
///
/// # Safety
/// As sigaction(2).
#[cfg_attr(shim_object, unsafe(no_mangle))]
pub unsafe extern "C" fn __sigaction(signal: c_int, new: *const Action, old: *mut Action) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { action(signal, new, old) }
}

/// In front of libc's; `bsd_signal` and `ssignal` are the same.
///
/// # Safety
/// As signal(2).
#[cfg_attr(shim_object, unsafe(no_mangle))]
pub unsafe extern "C" fn signal(signal: c_int, handler: usize) -> usize {
    // SAFETY: the caller's promise.
    unsafe { simple(signal, handler, &SIGNAL) }
}

/// See [`signal`].
///
/// # Safety
/// As signal(2).
#[cfg_attr(shim_object, unsafe(no_mangle))]
pub unsafe extern "C" fn bsd_signal(signal: c_int, handler: usize) -> usize {
    // SAFETY: the caller's promise.
    unsafe { simple(signal, handler, &SIGNAL) }
}

/// See [`signal`].
///
/// # Safety
/// As signal(2).
#[cfg_attr(shim_object, unsafe(no_mangle))]
pub unsafe extern "C" fn ssignal(signal: c_int, handler: usize) -> usize {
    // SAFETY: the caller's promise.
    unsafe { simple(signal, handler, &SIGNAL) }
}

/// In front of libc's, whose handlers are taken away at the first signal.
///
/// # Safety
/// As signal(2).
#[cfg_attr(shim_object, unsafe(no_mangle))]
pub unsafe extern "C" fn sysv_signal(signal: c_int, handler: usize) -> usize {
    // SAFETY: the caller's promise.
    unsafe { simple(signal, handler, &SYSV_SIGNAL) }
}

/// See [`sysv_signal`].
///
/// # Safety
/// As signal(2).
#[cfg_attr(shim_object, unsafe(no_mangle))]
pub unsafe extern "C" fn __sysv_signal(signal: c_int, handler: usize) -> usize {
    // SAFETY: the caller's promise.
    unsafe { simple(signal, handler, &SYSV_SIGNAL) }
}
