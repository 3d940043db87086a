//! The child's half of [`crate::spawn`]: between clone and exec, in borrowed memory.
//!
//! Called by `spawn` only, which says why it is done like this. Code here must never allocate,
//! lock, panic, return, or call what is not a plain system call: another thread of the parent may hold
//! any lock, and whatever is written here is written in the parent too.
#![allow(unsafe_code)]

use std::ffi::{c_char, c_int, c_long, c_ulong};
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicI32, Ordering};

use crate::user::Credentials;

/// A resource limit: RLIMIT number, soft, hard.
pub(crate) type Limit = (u32, u64, u64);

/// An fd that the child is given, and where it holds it between the two passes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FdMove {
    pub(crate) source: RawFd,
    pub(crate) held: RawFd,
    pub(crate) target: RawFd,
}

/// All that the child does, computed by the parent.
pub(crate) struct Plan<'a> {
    exe: RawFd,
    argv: &'a [*const c_char],
    envp: &'a [*const c_char],
    moves: &'a mut [FdMove],
    limits: &'a [Limit],
    /// The lowest number above every target.
    above: RawFd,
    pub(crate) cwd: *const c_char,
    pub(crate) umask: Option<u32>,
    pub(crate) personality: Option<c_ulong>,
    pub(crate) setsid: bool,
    pub(crate) nice: Option<i32>,
    pub(crate) joins: &'a [RawFd],
    pub(crate) credentials: Option<&'a Credentials>,
    pub(crate) no_new_privs: bool,
    /// What failed in the child: its errno, 0 while all is well.
    pub(crate) error: AtomicI32,
}

impl<'a> Plan<'a> {
    /// A plan of the inevitable; the rest is set field by field.
    pub(crate) fn new(
        exe: RawFd,
        argv: &'a [*const c_char],
        envp: &'a [*const c_char],
        moves: &'a mut [FdMove],
        limits: &'a [Limit],
    ) -> Self {
        let above = moves.iter().map(|fd| fd.target).max().unwrap_or(2).max(2) + 1;
        Self {
            exe,
            argv,
            envp,
            moves,
            limits,
            above,
            cwd: std::ptr::null(),
            umask: None,
            personality: None,
            setsid: false,
            nice: None,
            joins: &[],
            credentials: None,
            no_new_privs: false,
            error: AtomicI32::new(0),
        }
    }
}

/// `struct clone_args` of linux/sched.h.
#[repr(C)]
#[derive(Debug, Default)]
pub(crate) struct CloneArgs {
    pub(crate) flags: u64,
    pub(crate) pidfd: u64,
    pub(crate) child_tid: u64,
    pub(crate) parent_tid: u64,
    pub(crate) exit_signal: u64,
    pub(crate) stack: u64,
    pub(crate) stack_size: u64,
    pub(crate) tls: u64,
    pub(crate) set_tid: u64,
    pub(crate) set_tid_size: u64,
    pub(crate) cgroup: u64,
}

/// clone3 with `args`; the child runs [`child_main`] with `plan`. Answers the pid or -errno.
///
/// # Safety
/// `args` asks for CLONE_VM and CLONE_VFORK with a stack of the child's own, all signals are
/// blocked, and what `args` and `plan` point to outlives the call.
pub(crate) unsafe fn clone_child(args: &CloneArgs, plan: &mut Plan<'_>) -> i64 {
    let words = [std::ptr::from_ref(args).addr(), size_of::<CloneArgs>(), 0];
    // SAFETY: the caller's promise is the callee's demand.
    unsafe { clone_into(libc::SYS_clone3, words, plan) }
}

/// As [`clone_child`], by the older clone(2), which knows no cgroup.
///
/// # Safety
/// As [`clone_child`].
pub(crate) unsafe fn clone_child_old(args: &CloneArgs, plan: &mut Plan<'_>) -> i64 {
    let flags = (args.flags | args.exit_signal) as usize;
    let words = [
        flags,
        (args.stack + args.stack_size) as usize,
        args.pidfd as usize,
    ];
    // SAFETY: the caller's promise is the callee's demand.
    unsafe { clone_into(libc::SYS_clone, words, plan) }
}

/// The one piece of assembly: after the clone the child must not come back into a Rust frame, as
/// its stack is another; it calls `child_main` at once.
///
/// # Safety
/// As [`clone_child`]; `words` are the first arguments of the call `number`.
#[cfg(target_arch = "x86_64")]
unsafe fn clone_into(number: c_long, words: [usize; 3], plan: &mut Plan<'_>) -> i64 {
    let result: i64;
    // SAFETY: the parent goes on behind the assembly with its registers as they were but for
    // those named; the child starts on its own 16-aligned stack and never comes back.
    unsafe {
        std::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, r12",
            "call r13",
            "ud2",
            "2:",
            inlateout("rax") number => result,
            in("rdi") words[0],
            in("rsi") words[1],
            in("rdx") words[2],
            in("r10") 0usize,
            in("r8") 0usize,
            in("r12") std::ptr::from_mut(plan),
            in("r13") child_main as extern "C" fn(*mut Plan<'static>) -> !,
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    result
}

/// As above, for the other architecture.
///
/// # Safety
/// As above.
#[cfg(target_arch = "aarch64")]
unsafe fn clone_into(number: c_long, words: [usize; 3], plan: &mut Plan<'_>) -> i64 {
    let result: i64;
    // SAFETY: as above.
    unsafe {
        std::arch::asm!(
            "svc #0",
            "cbnz x0, 2f",
            "mov x29, xzr",
            "mov x0, x20",
            "blr x21",
            "brk #1",
            "2:",
            in("x8") number,
            inlateout("x0") words[0] => result,
            in("x1") words[1],
            in("x2") words[2],
            in("x3") 0usize,
            in("x4") 0usize,
            in("x20") std::ptr::from_mut(plan),
            in("x21") child_main as extern "C" fn(*mut Plan<'static>) -> !,
        );
    }
    result
}

/// What the child does, to its end.
extern "C" fn child_main(plan: *mut Plan<'static>) -> ! {
    // SAFETY: `clone_into` passes the parent's plan, which outlives this child, and the parent
    // stands still (CLONE_VFORK), so that this is the only reference in use.
    let plan = unsafe { &mut *plan };
    let errno = match prepare(plan) {
        Ok(exe) => execute(plan, exe),
        Err(errno) => errno,
    };
    plan.error.store(errno, Ordering::Release);
    // SAFETY: ends this process alone, running no handler of the parent's.
    unsafe { libc::_exit(127) }
}

/// The errno of a call that answered -1.
fn errno() -> i32 {
    // SAFETY: the address of this thread's errno is always valid. It is the waiting parent
    // thread's errno too, which that thread does not look at until it goes on.
    let place = unsafe { libc::__errno_location() };
    // SAFETY: as above.
    unsafe { *place }
}

fn check(result: c_int) -> Result<c_int, i32> {
    if result < 0 { Err(errno()) } else { Ok(result) }
}

/// Everything up to the exec; answers the fd to execute.
fn prepare(plan: &mut Plan<'_>) -> Result<RawFd, i32> {
    default_signals();
    let exe = place_fds(plan)?;
    if plan.setsid {
        // SAFETY: no memory is involved.
        check(unsafe { libc::setsid() })?;
    }
    if let Some(mask) = plan.umask {
        // SAFETY: no memory is involved; the mask is this child's (no CLONE_FS).
        unsafe { libc::umask(mask) };
    }
    if let Some(nice) = plan.nice {
        // SAFETY: no memory is involved.
        check(unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, nice) })?;
    }
    if let Some(personality) = plan.personality {
        // SAFETY: no memory is involved; takes effect at the exec.
        check(unsafe { libc::personality(personality) })?;
    }
    for &(resource, soft, hard) in plan.limits {
        let limit = libc::rlimit64 {
            rlim_cur: soft,
            rlim_max: hard,
        };
        // SAFETY: `limit` is a valid rlimit64, and no old one is asked for; 0 is this child.
        let result =
            unsafe { libc::syscall(libc::SYS_prlimit64, 0, resource, &raw const limit, 0usize) };
        check(result as c_int)?;
    }
    for &procs in plan.joins {
        // SAFETY: one byte of a static string; "0" is whoever writes.
        let written = unsafe { libc::write(procs, c"0".as_ptr().cast(), 1) };
        check(written as c_int)?;
    }
    become_user(plan)?;
    if !plan.cwd.is_null() {
        // SAFETY: the parent made `cwd` a C string that outlives this child.
        check(unsafe { libc::chdir(plan.cwd) })?;
    }
    Ok(exe)
}

/// Takes the rights that it is to have: last, for what comes before may need the parent's. The bare
/// system calls: the C library's functions would tell threads of the parent to do the same.
fn become_user(plan: &Plan<'_>) -> Result<(), i32> {
    if plan.no_new_privs {
        // SAFETY: no memory is involved.
        check(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) })?;
    }
    let Some(user) = plan.credentials else {
        return Ok(());
    };
    let (uid, gid) = (user.uid, user.gid);
    let (count, groups) = (user.groups.len(), user.groups.as_ptr());
    // SAFETY: `groups` points to `count` gids, which outlive this child.
    check(unsafe { libc::syscall(libc::SYS_setgroups, count, groups) } as c_int)?;
    // SAFETY: no memory is involved.
    check(unsafe { libc::syscall(libc::SYS_setresgid, gid, gid, gid) } as c_int)?;
    // SAFETY: no memory is involved.
    check(unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) } as c_int)?;
    Ok(())
}

/// Every signal to its default, the ignored ones too; then nothing blocked.
fn default_signals() {
    // The kernel's sigaction: handler, flags, restorer, mask; all zero is SIG_DFL.
    let default = [0u64; 4];
    for number in 1..=64 {
        // SAFETY: `default` is a whole kernel sigaction with an 8-byte mask; numbers that can't be
        // changed are refused, which is right.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                number,
                &raw const default,
                0usize,
                8usize,
            )
        };
    }
    let empty = 0u64;
    // SAFETY: `empty` is a kernel mask of 8 bytes.
    unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            &raw const empty,
            0usize,
            8usize,
        )
    };
}

/// Gives the child its fds. Two passes, because a target may be another's source: first every
/// source is held above all targets, then each takes its place. Answers the fd to execute, which
/// is out of the way as well.
fn place_fds(plan: &mut Plan<'_>) -> Result<RawFd, i32> {
    // Whatever the parent was started with and did not mark is not for this child. Kernels before
    // 5.11 can't; there the parent's own discipline has to do.
    // SAFETY: sets flags in this child's fd table only (no CLONE_FILES).
    unsafe {
        libc::syscall(
            libc::SYS_close_range,
            3u32,
            u32::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        )
    };
    let exe = hold(plan.exe, plan.above)?;
    for fd in plan.moves.iter_mut() {
        fd.held = hold(fd.source, plan.above)?;
    }
    for fd in plan.moves.iter() {
        // SAFETY: numbers only; dup2 leaves CLOEXEC off.
        check(unsafe { libc::dup2(fd.held, fd.target) })?;
    }
    Ok(exe)
}

fn hold(fd: RawFd, above: RawFd) -> Result<RawFd, i32> {
    // SAFETY: numbers only.
    check(unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, above) })
}

/// Executes the image; comes back only with an errno.
fn execute(plan: &Plan<'_>, exe: RawFd) -> i32 {
    // SAFETY: both arrays are null-terminated arrays of C strings that outlive the call, and the
    // path is empty, as AT_EMPTY_PATH wants.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            exe,
            c"".as_ptr(),
            plan.argv.as_ptr(),
            plan.envp.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    errno()
}
