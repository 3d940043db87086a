//! The system calls that say who there is, and that end or keep what a life holds.
//!
//! Called by `fault`, `stopping`, `keeper`, `serve`, `members` and `warm`. Must be safe in a signal handler.

use core::ffi::c_void;
use core::sync::atomic::AtomicU32;

use crate::kernel::{call, fd_arg, number};
use crate::syscalls::{Fd, Result};

/// ECHILD: no such child.
pub const ECHILD: i32 = 10;
/// Every fd from some number on.
pub const LAST_FD: u32 = u32::MAX;

const WNOHANG_WEXITED_WNOWAIT_WALL: usize = 1 | 4 | 0x0100_0000 | 0x4000_0000;

/// The id of this thread.
#[must_use]
pub fn own_thread() -> u32 {
    // SAFETY: no memory is involved.
    unsafe { call(number::GETTID, []) }.unwrap_or(0) as u32
}

/// The pid of this process's parent.
#[must_use]
pub fn parent() -> u32 {
    // SAFETY: no memory is involved.
    unsafe { call(number::GETPPID, []) }.unwrap_or(0) as u32
}

/// Succeeds in a process of one thread, fails with EINVAL where there are more, and changes nothing:
/// there is nothing to be unshared in a process of one thread.
///
/// # Errors
/// The errno; EPERM under the filters of some containers.
///
/// Source: CLONE_THREAD in unshare(2).
pub fn unshare_thread() -> Result<()> {
    const CLONE_THREAD: usize = 0x1_0000;
    // SAFETY: no memory is involved.
    unsafe { call(number::UNSHARE, [CLONE_THREAD]) }.map(drop)
}

/// Whether this process has a child of any kind that was not reaped.
#[must_use]
pub fn has_children() -> bool {
    const P_ALL: usize = 0;
    let arguments = [P_ALL, 0, 0, WNOHANG_WEXITED_WNOWAIT_WALL, 0];
    // SAFETY: the kernel is given no place to write to.
    let answer = unsafe { call(number::WAITID, arguments) };
    answer != Err(ECHILD)
}

/// Whether `pid` is a child of this process that was not reaped.
#[must_use]
pub fn is_child(pid: u32) -> bool {
    const P_PID: usize = 1;
    let arguments = [P_PID, pid as usize, 0, WNOHANG_WEXITED_WNOWAIT_WALL, 0];
    // SAFETY: the kernel is given no place to write to.
    unsafe { call(number::WAITID, arguments) }.is_ok()
}

/// Whether there is a process of this pid, unless it was reaped.
#[must_use]
pub fn exists(pid: u32) -> bool {
    const ESRCH: i32 = 3;
    // SAFETY: signal 0 is none.
    let answer = unsafe { call(number::KILL, [pid as usize, 0]) };
    answer != Err(ESRCH)
}

/// What a file is, whatever its number: device and inode.
///
/// # Errors
/// The errno.
pub fn identity(fd: Fd) -> Result<(u64, u64)> {
    let [device, inode, ..] = stat(fd)?;
    Ok((device, inode))
}

/// Whether it is a regular file: one of the disk, of tmpfs, a memfd.
#[must_use]
pub fn is_regular(fd: Fd) -> bool {
    const KIND: u32 = 0o17_0000;
    const REGULAR: u32 = 0o10_0000;
    // st_mode follows the eight bytes of st_nlink on x86-64, and comes before its four on aarch64.
    let mode = |stat: [u64; STAT]| {
        let [_, _, third, fourth, ..] = stat;
        (if cfg!(target_arch = "x86_64") {
            fourth
        } else {
            third
        }) as u32
    };
    stat(fd).is_ok_and(|stat| mode(stat) & KIND == REGULAR)
}

/// The size of `struct stat`, in words: 144 bytes at most.
const STAT: usize = 18;

fn stat(fd: Fd) -> Result<[u64; STAT]> {
    let mut stat = [0; STAT];
    // SAFETY: the kernel writes a struct stat.
    unsafe { call(number::FSTAT, [fd_arg(fd), stat.as_mut_ptr().addr()]) }?;
    Ok(stat)
}

/// Closes every fd from `first` to `last`.
///
/// # Errors
/// The errno; ENOSYS before kernel 5.9.
pub fn close_range(first: u32, last: u32) -> Result<()> {
    // SAFETY: whoever calls this is about to end, is a keeper, which uses no fd, or has become a
    // template, which knows those that it uses.
    unsafe { call(number::CLOSE_RANGE, [first as usize, last as usize, 0]) }.map(drop)
}

/// Reads from a place in a file, wherever its offset is.
///
/// # Errors
/// The errno.
pub fn read_at(fd: Fd, buffer: &mut [u8], place: usize) -> Result<usize> {
    let (start, len) = (buffer.as_mut_ptr().addr(), buffer.len());
    // SAFETY: the kernel writes at most the buffer's length into it.
    unsafe { call(number::PREAD64, [fd_arg(fd), start, len, place]) }
}

/// Reads from the start of a file, wherever its offset is.
///
/// # Errors
/// The errno.
pub fn read_at_start(fd: Fd, buffer: &mut [u8]) -> Result<usize> {
    read_at(fd, buffer, 0)
}

/// `struct iovec`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Range {
    /// Its first byte.
    pub start: usize,
    /// How many bytes.
    pub len: usize,
}

/// Copies what lies at `from`, one range after the other, to `to`; stops where nothing is mapped.
/// Answers how many bytes there were.
///
/// # Safety
/// `to` is valid for writes of the sum of the lengths, and nobody holds a reference to it.
///
/// # Errors
/// The errno; EFAULT when the first byte can't be read.
///
/// Source: process_vm_readv(2).
pub unsafe fn copy_if_mapped(pid: u32, from: &[Range], to: *mut c_void) -> Result<usize> {
    let to = Range {
        start: to.expose_provenance(),
        len: from.iter().map(|range| range.len).sum(),
    };
    let arguments = [
        pid as usize,
        (&raw const to).addr(),
        1,
        from.as_ptr().addr(),
        from.len(),
        0,
    ];
    // SAFETY: the caller's promise; what can't be read is the kernel's to find out.
    unsafe { call(number::VM_READV, arguments) }
}

/// A fork without a libc whose child is one of this process's parent: 0 in the child, its pid here.
///
/// # Errors
/// The errno.
///
/// Source: CLONE_PARENT in clone(2); the exit signal is that of this process.
pub fn fork_sibling() -> Result<u32> {
    const CLONE_PARENT: usize = 0x8000;
    // SAFETY: without CLONE_VM and without a stack the child runs on in a copy of this memory.
    unsafe { call(number::CLONE, [CLONE_PARENT, 0, 0, 0, 0]) }.map(|pid| pid as u32)
}

/// Wakes everybody who sleeps on `word`.
pub fn futex_wake_all(word: &AtomicU32) {
    const FUTEX_WAKE: usize = 1;
    let arguments = [word.as_ptr().addr(), FUTEX_WAKE, i32::MAX as usize];
    // SAFETY: the kernel takes the address for a key only.
    let _ = unsafe { call(number::FUTEX, arguments) };
}

/// Has this process killed when its parent ends; exact where the parent has one thread.
pub fn end_with_parent() {
    const PR_SET_PDEATHSIG: usize = 1;
    const SIGKILL: usize = 9;
    // SAFETY: no memory is involved.
    let _ = unsafe { call(number::PRCTL, [PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0]) };
}

/// How far a keeper steps back: it works once, when it tears the memory down beside the next life.
/// Not the least of priorities: on a busy machine that would be left alone for a fifth of a second, with
/// the memory of life after life.
const NICE: usize = 5;

/// Lowers the priority of this process.
pub fn give_way() {
    // PRIO_PROCESS, and this one.
    const ONE: usize = 0;
    // SAFETY: no memory is involved.
    let _ = unsafe { call(number::SETPRIORITY, [ONE, 0, NICE]) };
}
