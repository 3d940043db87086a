//! How the kernel is called: registers and numbers of the two architectures.
//!
//! Called by `syscalls`, `signal_calls` and `life_calls`, which wrap each call. There is no libc
//! to rely on, and where there is one (in a template) it belongs to the program, whose `errno` and
//! locks are not ours to touch. Must never be called from anywhere else.
//!
//! Source: syscall(2) for the registers, the kernel's unistd.h for the numbers.

use crate::syscalls::{Fd, Result};

/// The numbers of the calls.
#[cfg(target_arch = "x86_64")]
pub mod number {
    #![allow(missing_docs)]
    pub const READ: usize = 0;
    pub const CLOSE: usize = 3;
    pub const FSTAT: usize = 5;
    pub const MMAP: usize = 9;
    pub const RT_SIGACTION: usize = 13;
    pub const RT_SIGPROCMASK: usize = 14;
    pub const PREAD64: usize = 17;
    pub const MADVISE: usize = 28;
    pub const GETPID: usize = 39;
    pub const SENDMSG: usize = 46;
    pub const RECVMSG: usize = 47;
    pub const CLONE: usize = 56;
    pub const WAIT4: usize = 61;
    pub const KILL: usize = 62;
    pub const FCNTL: usize = 72;
    pub const FLOCK: usize = 73;
    pub const SETPGID: usize = 109;
    pub const GETPPID: usize = 110;
    pub const SIGALTSTACK: usize = 131;
    pub const SETPRIORITY: usize = 141;
    pub const PRCTL: usize = 157;
    pub const GETTID: usize = 186;
    pub const FUTEX: usize = 202;
    pub const GETDENTS64: usize = 217;
    pub const EXIT_GROUP: usize = 231;
    pub const WAITID: usize = 247;
    pub const OPENAT: usize = 257;
    pub const READLINKAT: usize = 267;
    pub const PPOLL: usize = 271;
    pub const UNSHARE: usize = 272;
    pub const SIGNALFD4: usize = 289;
    pub const DUP3: usize = 292;
    pub const RT_TGSIGQUEUEINFO: usize = 297;
    pub const VM_READV: usize = 310;
    pub const EXECVEAT: usize = 322;
    pub const PIDFD_OPEN: usize = 434;
    pub const CLOSE_RANGE: usize = 436;
}

/// The numbers of the calls.
#[cfg(target_arch = "aarch64")]
pub mod number {
    #![allow(missing_docs)]
    pub const DUP3: usize = 24;
    pub const FCNTL: usize = 25;
    pub const FLOCK: usize = 32;
    pub const OPENAT: usize = 56;
    pub const CLOSE: usize = 57;
    pub const GETDENTS64: usize = 61;
    pub const READ: usize = 63;
    pub const PREAD64: usize = 67;
    pub const PPOLL: usize = 73;
    pub const SIGNALFD4: usize = 74;
    pub const READLINKAT: usize = 78;
    pub const FSTAT: usize = 80;
    pub const EXIT_GROUP: usize = 94;
    pub const WAITID: usize = 95;
    pub const UNSHARE: usize = 97;
    pub const FUTEX: usize = 98;
    pub const KILL: usize = 129;
    pub const SIGALTSTACK: usize = 132;
    pub const RT_SIGACTION: usize = 134;
    pub const RT_SIGPROCMASK: usize = 135;
    pub const SETPRIORITY: usize = 140;
    pub const SETPGID: usize = 154;
    pub const PRCTL: usize = 167;
    pub const GETPID: usize = 172;
    pub const GETPPID: usize = 173;
    pub const GETTID: usize = 178;
    pub const SENDMSG: usize = 211;
    pub const RECVMSG: usize = 212;
    pub const CLONE: usize = 220;
    pub const MMAP: usize = 222;
    pub const MADVISE: usize = 233;
    pub const RT_TGSIGQUEUEINFO: usize = 240;
    pub const WAIT4: usize = 260;
    pub const VM_READV: usize = 270;
    pub const EXECVEAT: usize = 281;
    pub const PIDFD_OPEN: usize = 434;
    pub const CLOSE_RANGE: usize = 436;
}

/// The call itself.
///
/// # Safety
/// As the call demands of its arguments.
#[cfg(target_arch = "x86_64")]
unsafe fn raw(number: usize, a: [usize; 6]) -> isize {
    let result: isize;
    // SAFETY: the registers are those of the calling convention of the kernel; what the call does
    // to memory is the caller's promise.
    unsafe {
        core::arch::asm!(
            "syscall",
            inlateout("rax") number => result,
            in("rdi") a[0], in("rsi") a[1], in("rdx") a[2],
            in("r10") a[3], in("r8") a[4], in("r9") a[5],
            lateout("rcx") _, lateout("r11") _,
            options(nostack),
        );
    }
    result
}

/// The call itself.
///
/// # Safety
/// As the call demands of its arguments.
#[cfg(target_arch = "aarch64")]
unsafe fn raw(number: usize, a: [usize; 6]) -> isize {
    let result: isize;
    // SAFETY: as for the other architecture.
    unsafe {
        core::arch::asm!(
            "svc #0",
            in("x8") number,
            inlateout("x0") a[0] => result,
            in("x1") a[1], in("x2") a[2], in("x3") a[3], in("x4") a[4], in("x5") a[5],
            options(nostack),
        );
    }
    result
}

/// A call with its answer sorted.
///
/// # Safety
/// As the call demands of its arguments.
///
/// # Errors
/// The errno.
pub unsafe fn call<const N: usize>(number: usize, arguments: [usize; N]) -> Result<usize> {
    let mut all = [0; 6];
    for (place, argument) in all.iter_mut().zip(arguments) {
        *place = argument;
    }
    // SAFETY: the caller's promise.
    let result = unsafe { raw(number, all) };
    if (-4095..0).contains(&result) {
        Err(-result as i32)
    } else {
        Ok(result as usize)
    }
}

/// An fd as an argument.
#[must_use]
pub fn fd_arg(fd: Fd) -> usize {
    fd as isize as usize
}
