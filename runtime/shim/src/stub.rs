//! The static executable: the template of programs that can't be forked.
//!
//! Static programs have no dynamic loader that would preload anything, and a program whose constructors
//! start threads would lose them by a fork. Their lives begin by exec of the image instead: this
//! stub serves the same requests, and each of its children executes. It has no libc, so that it is small,
//! and forks in the time of a system call. Must never stay in the program's memory: the exec
//! replaces it.

use core::ffi::c_char;
use core::sync::atomic::{AtomicPtr, Ordering};

use crate::environ;
use crate::serve::Template;
use crate::{syscalls, text};

/// The environment that the stub was started with.
static ENVIRONMENT: AtomicPtr<*const c_char> = AtomicPtr::new(core::ptr::null_mut());

fn environment() -> *const *const c_char {
    ENVIRONMENT.load(Ordering::Relaxed)
}

/// Where the kernel starts the stub: passes on the stack as it was, which holds the arguments.
#[cfg(all(shim_stub, target_arch = "x86_64"))]
core::arch::global_asm!(
    ".globl _start",
    "_start:",
    "xor ebp, ebp",
    "mov rdi, rsp",
    "and rsp, -16",
    "call {main}",
    "ud2",
    main = sym stub_main,
);

/// Where the kernel starts the stub: passes on the stack as it was, which holds the arguments.
#[cfg(all(shim_stub, target_arch = "aarch64"))]
core::arch::global_asm!(
    ".globl _start",
    "_start:",
    "mov x29, xzr",
    "mov x0, sp",
    "bl {main}",
    "brk #1",
    main = sym stub_main,
);

/// The stub's whole life; in a child, the beginning of an actor's.
///
/// # Safety
/// `stack` is the stack as the kernel has laid it out: argc, argv, null, envp, null.
pub unsafe extern "C" fn stub_main(stack: *const usize) -> ! {
    // SAFETY: the caller's promise.
    let argc = unsafe { *stack };
    let argv = stack.wrapping_add(1).cast::<*const c_char>();
    let envp = argv.wrapping_add(argc + 1);
    ENVIRONMENT.store(envp.cast_mut(), Ordering::Relaxed);
    // SAFETY: the environment follows the arguments and their null.
    unsafe { environ::read_template(envp) };
    let fds = environ::template_fds().filter(|fds| fds.image.is_some());
    // SAFETY: the arguments end with their null.
    let name = unsafe { text::first_argument(argv) };
    let Some(Ok(template)) = fds.map(|fds| Template::new(fds, syscalls::fork, name)) else {
        syscalls::exit(126)
    };
    // SAFETY: the stack's strings are never freed.
    let life = unsafe { template.serve(environment) };
    let image = template.image().unwrap_or(-1);
    // SAFETY: both arrays are null-terminated arrays of C strings.
    let errno = unsafe { syscalls::execute(image, argv, life.envp) };
    template
        .page()
        .exec_errno
        .store(errno as u32, Ordering::Release);
    syscalls::exit(127)
}

/// What the compiler calls where there is no libc. Volatile, so that it does not turn a loop that
/// copies into a call of the very function that the loop is in.
#[cfg(shim_stub)]
mod memory {
    /// memcpy(3).
    ///
    /// # Safety
    /// As libc's: `to` and `from` are `len` bytes each and do not overlap.
    // SAFETY: the stub is linked with nothing else that has this name.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, len: usize) -> *mut u8 {
        for at in 0..len {
            // SAFETY: within the caller's `len` bytes.
            let byte = unsafe { from.wrapping_add(at).read_volatile() };
            // SAFETY: within the caller's `len` bytes.
            unsafe { to.wrapping_add(at).write_volatile(byte) };
        }
        to
    }

    /// memmove(3).
    ///
    /// # Safety
    /// As libc's: `to` and `from` are `len` bytes each.
    // SAFETY: the stub is linked with nothing else that has this name.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, len: usize) -> *mut u8 {
        if to.addr() <= from.addr() {
            // SAFETY: a copy upwards from a higher address never reads what it has written.
            return unsafe { memcpy(to, from, len) };
        }
        for at in (0..len).rev() {
            // SAFETY: within the caller's `len` bytes.
            let byte = unsafe { from.wrapping_add(at).read_volatile() };
            // SAFETY: within the caller's `len` bytes.
            unsafe { to.wrapping_add(at).write_volatile(byte) };
        }
        to
    }

    /// memset(3).
    ///
    /// # Safety
    /// As libc's: `to` is `len` bytes.
    // SAFETY: the stub is linked with nothing else that has this name.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn memset(to: *mut u8, byte: i32, len: usize) -> *mut u8 {
        for at in 0..len {
            // SAFETY: within the caller's `len` bytes.
            unsafe { to.wrapping_add(at).write_volatile(byte as u8) };
        }
        to
    }

    /// memcmp(3).
    ///
    /// # Safety
    /// As libc's: `a` and `b` are `len` bytes each.
    // SAFETY: the stub is linked with nothing else that has this name.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn memcmp(a: *const u8, b: *const u8, len: usize) -> i32 {
        for at in 0..len {
            // SAFETY: within the caller's `len` bytes.
            let left = unsafe { a.wrapping_add(at).read_volatile() };
            // SAFETY: within the caller's `len` bytes.
            let right = unsafe { b.wrapping_add(at).read_volatile() };
            if left != right {
                return i32::from(left) - i32::from(right);
            }
        }
        0
    }

    /// bcmp(3).
    ///
    /// # Safety
    /// As libc's: `a` and `b` are `len` bytes each.
    // SAFETY: the stub is linked with nothing else that has this name.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn bcmp(a: *const u8, b: *const u8, len: usize) -> i32 {
        // SAFETY: the caller's promise.
        unsafe { memcmp(a, b, len) }
    }

    /// strlen(3).
    ///
    /// # Safety
    /// As libc's: `text` ends with a NUL.
    // SAFETY: the stub is linked with nothing else that has this name.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn strlen(text: *const u8) -> usize {
        let mut len = 0;
        loop {
            // SAFETY: the string goes on up to a NUL, where this stops.
            if unsafe { text.wrapping_add(len).read_volatile() } == 0 {
                return len;
            }
            len += 1;
        }
    }
}
