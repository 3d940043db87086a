//! A handler of faults in front of the one that is there, which gets whatever is not its own.
//!
//! Called by `first_write`. One handler a signal; the function that looks at a fault says whether it was
//! its own, and mended. Must never swallow a signal that it did not mend: a real fault ends the life by the
//! same signal, with the same siginfo, as if nobody had looked.
#![allow(unsafe_code)]

use std::cell::Cell;
use std::io;
use std::mem::{MaybeUninit, transmute};
use std::ptr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicPtr, Ordering};

/// Looks at a fault in the handler: whether it was its own, and the instruction may be tried again. It may
/// do only what a signal handler may.
pub(crate) type Look = fn(&libc::siginfo_t) -> bool;

/// Who was there before; never freed, because a handler may be reading it. Null: the default.
static BEFORE: AtomicPtr<libc::sigaction> = AtomicPtr::new(ptr::null_mut());
/// Who looks. Set before the handler is installed, and never to another one.
static LOOK: AtomicPtr<()> = AtomicPtr::new(ptr::null_mut());
/// Held while the disposition is changed.
static CHANGING: Mutex<()> = Mutex::new(());

thread_local! {
    /// Whether this thread is passing a signal on: one that comes back to us then goes in a circle.
    static PASSING: Cell<bool> = const { Cell::new(false) };
}

type Plain = extern "C" fn(i32);
type WithInfo = unsafe extern "C" fn(i32, *mut libc::siginfo_t, *mut libc::c_void);

/// Sees to it that `look` is the first to hear of `signal`. Costs one system call where it is so already.
///
/// # Errors
/// The kernel's.
///
/// # Panics
/// When it is called with two functions: there is one chain.
pub(crate) fn install(signal: i32, look: Look) -> io::Result<()> {
    if is_ours(&disposition(signal)?) {
        return Ok(());
    }
    let _changing = CHANGING
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let before = disposition(signal)?;
    if is_ours(&before) {
        return Ok(());
    }
    let look = look as *mut ();
    let was = LOOK.swap(look, Ordering::Release);
    assert!(was.is_null() || was == look, "one function looks at faults");
    let mut ours = before;
    ours.sa_sigaction = on_signal as WithInfo as usize;
    // On the alternate stack, because the handler before may need to be there. Restarting of system calls
    // is left as that handler had it.
    ours.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | (before.sa_flags & libc::SA_RESTART);
    let same = |known: &libc::sigaction| {
        known.sa_sigaction == before.sa_sigaction && known.sa_flags == before.sa_flags
    };
    // SAFETY: what is stored there is never freed and never written to.
    let known = unsafe { BEFORE.load(Ordering::Acquire).as_ref() }.is_some_and(same);
    if !known {
        BEFORE.store(Box::into_raw(Box::new(before)), Ordering::Release);
    }
    // SAFETY: `ours` is a whole action, and its function has the type that its flags promise.
    match unsafe { libc::sigaction(signal, &raw const ours, ptr::null_mut()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Blocks a signal in this thread, or lets it through; answers whether it was blocked.
///
/// # Errors
/// The kernel's.
///
/// Source: pthread_sigmask(3).
pub(crate) fn set_blocked(signal: i32, blocked: bool) -> io::Result<bool> {
    let mut set = MaybeUninit::uninit();
    // SAFETY: a valid place for a set.
    unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    // SAFETY: the set was initialised above.
    unsafe { libc::sigaddset(set.as_mut_ptr(), signal) };
    let mut old = MaybeUninit::uninit();
    let how = if blocked {
        libc::SIG_BLOCK
    } else {
        libc::SIG_UNBLOCK
    };
    // SAFETY: `set` is valid, `old` is a place for another one.
    let error = unsafe { libc::pthread_sigmask(how, set.as_ptr(), old.as_mut_ptr()) };
    if error != 0 {
        return Err(io::Error::from_raw_os_error(error));
    }
    // SAFETY: the call succeeded, so it has stored the old mask there.
    Ok(unsafe { libc::sigismember(old.as_ptr(), signal) } == 1)
}

fn disposition(signal: i32) -> io::Result<libc::sigaction> {
    let mut action = MaybeUninit::uninit();
    // SAFETY: asks only, into a valid place.
    if unsafe { libc::sigaction(signal, ptr::null(), action.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call succeeded.
    Ok(unsafe { action.assume_init() })
}

fn is_ours(action: &libc::sigaction) -> bool {
    action.sa_sigaction == on_signal as WithInfo as usize
}

/// # Safety
/// Called by the kernel, with SA_SIGINFO.
unsafe extern "C" fn on_signal(
    signal: i32,
    info: *mut libc::siginfo_t,
    context: *mut libc::c_void,
) {
    // SAFETY: this thread's own.
    let errno_place = unsafe { libc::__errno_location() };
    // SAFETY: as above.
    let errno = unsafe { *errno_place };
    let look = LOOK.load(Ordering::Acquire);
    // SAFETY: `install` has stored a function of this type before it installed this handler.
    let look = unsafe { transmute::<*mut (), Look>(look) };
    // SAFETY: the kernel has put it on this stack.
    let own = look(unsafe { &*info });
    if !own {
        pass_on(signal, info, context);
    }
    // SAFETY: as above.
    unsafe { *errno_place = errno };
}

/// Gives the signal to whoever was there before.
fn pass_on(signal: i32, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: what is stored there is never freed and never written to.
    let before = unsafe { BEFORE.load(Ordering::Acquire).as_ref() };
    // SAFETY: the kernel has put it on this stack.
    let was_sent = unsafe { (*info).si_code } <= 0;
    match before {
        Some(before) if before.sa_sigaction == libc::SIG_IGN && was_sent => {}
        Some(before)
            if before.sa_sigaction != libc::SIG_DFL
                && before.sa_sigaction != libc::SIG_IGN
                && !PASSING.replace(true) =>
        {
            call(before, signal, info, context);
            PASSING.set(false);
        }
        _ => end_by(signal, info),
    }
}

fn call(
    before: &libc::sigaction,
    signal: i32,
    info: *mut libc::siginfo_t,
    context: *mut libc::c_void,
) {
    if before.sa_flags & libc::SA_SIGINFO == 0 {
        // SAFETY: a handler without SA_SIGINFO has this type.
        let handler = unsafe { transmute::<usize, Plain>(before.sa_sigaction) };
        handler(signal);
    } else {
        // SAFETY: a handler with SA_SIGINFO has this type.
        let handler = unsafe { transmute::<usize, WithInfo>(before.sa_sigaction) };
        // SAFETY: what the kernel gave us for it.
        unsafe { handler(signal, info, context) };
    }
}

/// Ends the process as the signal does by default. It is blocked until the handler returns; then it is
/// delivered before an instruction of the program.
fn end_by(signal: i32, info: *mut libc::siginfo_t) {
    let mut default = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: zeroed memory is an action: SIG_DFL, no flags, no signals.
    unsafe { default.assume_init_mut() }.sa_sigaction = libc::SIG_DFL;
    // Through libc, in front of which Refrain's shim puts its own handler for the default.
    // SAFETY: a whole action.
    unsafe { libc::sigaction(signal, default.as_ptr(), ptr::null_mut()) };
    // SAFETY: a call without arguments.
    let (pid, tid) = (unsafe { libc::getpid() }, rustix::thread::gettid());
    // SAFETY: `info` is a whole siginfo. Where it fails, the faulting instruction faults again.
    unsafe {
        libc::syscall(
            libc::SYS_rt_tgsigqueueinfo,
            pid,
            tid.as_raw_nonzero().get(),
            signal,
            info,
        )
    };
}
