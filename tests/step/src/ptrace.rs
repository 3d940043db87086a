//! A child that runs one instruction at a time (ptrace(2)).
//!
//! The one place of this crate that calls the kernel. It must never leave a child behind.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::BorrowedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rustix::mm::{MapFlags, ProtFlags};
use rustix::process::{Pid, WaitOptions, WaitStatus};
use rustix::thread::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity};

/// Whether this is a child under single-step.
static STEPPED: AtomicBool = AtomicBool::new(false);

/// Exit status of a child whose operation panicked.
const PANICKED: i32 = 101;

/// What came of an operation under single-step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stepped {
    /// How many instructions it ran, with what leads to it and from it.
    pub instructions: u64,
    /// After how many of them the memory was another than before.
    pub points: u64,
    /// Whether the operation panicked.
    pub panicked: bool,
}

/// A child that is killed and reaped when this goes.
struct Child(Pid);

impl Drop for Child {
    fn drop(&mut self) {
        let _ = rustix::process::kill_process(self.0, rustix::process::Signal::KILL);
        while let Ok(Some((_, status))) =
            rustix::process::waitpid(Some(self.0), WaitOptions::empty())
        {
            if status.exited() || status.signaled() {
                return;
            }
        }
    }
}

/// This thread, and children that it forks, on the CPU that it runs on, until this goes: a step is then a
/// switch and not a wake-up on another CPU.
struct OneCpu(Option<CpuSet>);

impl OneCpu {
    fn new() -> Self {
        let before = sched_getaffinity(None).ok();
        let mut one = CpuSet::new();
        one.set(sched_getcpu());
        Self(before.filter(|_| sched_setaffinity(None, &one).is_ok()))
    }
}

impl Drop for OneCpu {
    fn drop(&mut self) {
        if let Some(before) = self.0 {
            let _ = sched_setaffinity(None, &before);
        }
    }
}

/// Runs `operation` in a child, one instruction at a time (a system call is one), and calls `each` with the
/// bytes of `memory`, as words, after every instruction that changed them.
///
/// `memory` must be shared with the child: a mapping of a memfd. What the operation changes elsewhere is lost with
/// the child. When `each` answers `false`, the child is killed there.
///
/// # Errors
/// The kernel's, where it forbids ptrace; a signal that ended the child.
///
/// Source: PTRACE_SINGLESTEP in ptrace(2).
pub fn step(
    memory: &[AtomicU64],
    operation: impl FnOnce(),
    mut each: impl FnMut(&[u64]) -> bool,
) -> io::Result<Stepped> {
    let _one_cpu = OneCpu::new();
    let mut seen = image(memory);
    let child = fork(operation)?;
    let mut stepped = Stepped {
        instructions: 0,
        points: 0,
        panicked: false,
    };
    // The first stop is the child's own, before the operation.
    wait(child.0)?;
    let mut signal = 0;
    loop {
        single_step(child.0, signal)?;
        let status = wait(child.0)?;
        if let Some(code) = status.exit_status() {
            // Reaped: nothing is left to be killed.
            std::mem::forget(child);
            stepped.panicked = code == PANICKED;
            return Ok(stepped);
        }
        signal = 0;
        match status.stopping_signal() {
            Some(libc::SIGTRAP) => {}
            // A fault is the operation's: its handler mends it, or it ends by the signal.
            Some(libc::SIGSEGV) => signal = libc::SIGSEGV,
            other => {
                return Err(io::Error::other(format!(
                    "the operation ended: {status:?} {other:?}"
                )));
            }
        }
        stepped.instructions += 1;
        if changed(memory, &mut seen) {
            stepped.points += 1;
            if !each(&seen) {
                return Ok(stepped);
            }
        }
    }
}

/// Puts the memory behind `fd` in the place of `words`, for this process: from here on they are that memory's.
///
/// For an operation that needs its memory at the address at which the copies are recovered: it begins with
/// this, in the child.
///
/// # Errors
/// `InvalidInput` when `words` are no whole pages or `fd` has fewer; else the kernel's.
///
/// Source: MAP_FIXED in mmap(2).
pub fn lay_over(words: &[AtomicU64], fd: BorrowedFd<'_>) -> io::Result<()> {
    let (address, len) = (words.as_ptr(), size_of_val(words));
    let page = rustix::param::page_size();
    let has = u64::try_from(rustix::fs::fstat(fd)?.st_size).unwrap_or(0);
    if !address.addr().is_multiple_of(page) || !len.is_multiple_of(page) || has < len as u64 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: whole pages that hold nothing but these words; they are atomics, whose value may change at any
    // time, and memory stays mapped there. The new mapping is a shared one, as theirs.
    unsafe {
        rustix::mm::mmap(
            address.cast_mut().cast(),
            len,
            ProtFlags::READ | ProtFlags::WRITE,
            MapFlags::SHARED | MapFlags::FIXED,
            fd,
            0,
        )
    }?;
    Ok(())
}

/// The words as they are now.
pub(crate) fn image(memory: &[AtomicU64]) -> Vec<u64> {
    memory
        .iter()
        .map(|word| word.load(Ordering::Relaxed))
        .collect()
}

/// Brings `seen` up to date; whether there was a difference.
fn changed(memory: &[AtomicU64], seen: &mut [u64]) -> bool {
    if bytes_of(memory) == seen {
        return false;
    }
    for (word, seen) in memory.iter().zip(seen) {
        *seen = word.load(Ordering::Relaxed);
    }
    true
}

/// The words as plain memory, so that comparing them is one `memcmp`.
fn bytes_of(memory: &[AtomicU64]) -> &[u64] {
    // SAFETY: same size and alignment; the only one who writes is the child, and it is stopped.
    unsafe { std::slice::from_raw_parts(memory.as_ptr().cast(), memory.len()) }
}

fn wait(pid: Pid) -> io::Result<WaitStatus> {
    match rustix::process::waitpid(Some(pid), WaitOptions::empty())? {
        Some((_, status)) => Ok(status),
        None => Err(io::ErrorKind::NotFound.into()),
    }
}

fn single_step(pid: Pid, signal: i32) -> io::Result<()> {
    let none = std::ptr::null_mut::<libc::c_void>();
    // SAFETY: the child is traced by this thread and stopped; no memory of ours is passed.
    let result = unsafe {
        libc::ptrace(
            libc::PTRACE_SINGLESTEP,
            pid.as_raw_nonzero().get(),
            none,
            signal,
        )
    };
    if result == -1 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Forks a child that stops, runs `operation`, and ends.
fn fork(operation: impl FnOnce()) -> io::Result<Child> {
    // SAFETY: the child runs the operation, whose locks are its own (the C library's allocator is usable
    // after a fork), and leaves by _exit, so that nothing of the parent's is torn down in it.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => run_stopped(operation),
        pid => Ok(Child(Pid::from_raw(pid).expect("fork gives a pid"))),
    }
}

fn run_stopped(operation: impl FnOnce()) -> ! {
    // SAFETY: takes no memory; the parent becomes the tracer.
    let traced = unsafe { libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0) };
    STEPPED.store(true, Ordering::Relaxed);
    let mut code = PANICKED;
    // A backtrace is hundreds of millions of instructions; that it panicked is what the parent is told.
    std::panic::set_hook(Box::new(|_| {}));
    if traced == 0 {
        // SAFETY: stops this child until its tracer lets it go on.
        unsafe { libc::raise(libc::SIGSTOP) };
        if catch_unwind(AssertUnwindSafe(operation)).is_ok() {
            code = 0;
        }
    }
    end(code)
}

fn end(code: i32) -> ! {
    // SAFETY: ends the child at once; nothing runs behind it.
    unsafe { libc::_exit(code) }
}

/// Says that what is to be stepped is done: a child under single-step ends here, whoever else calls it goes on. A
/// recovery that is followed by a look at everything calls it in between, and saves the steps.
pub fn done_stepping() {
    if STEPPED.load(Ordering::Relaxed) {
        end(0);
    }
}
