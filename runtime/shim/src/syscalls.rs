//! The system calls on files, memory and children; those on signals are in `signal_calls`, those that
//! say who there is in `life_calls`.
//!
//! Called by every other module. Each wrapper is safe to call and answers the errno on failure. Must
//! never touch libc's `errno`.

use core::ffi::{CStr, c_char, c_void};
use core::sync::atomic::AtomicU32;

use crate::kernel::{call, fd_arg, number};

/// An fd, by number: no destructor may run in a child that is about to become a program.
pub type Fd = i32;
/// What a call answers: a value, or an errno.
pub type Result<T> = core::result::Result<T, i32>;

/// A signal mask as the kernel has it.
pub type SignalMask = u64;

/// Where relative paths start: the working directory.
pub const AT_FDCWD: Fd = -100;
/// EINTR, EAGAIN, EINVAL: the errnos that are decided by.
pub const EINTR: i32 = 4;
/// See [`EINTR`].
pub const EAGAIN: i32 = 11;
/// See [`EINTR`].
pub const EINVAL: i32 = 22;

/// Ends the process, all threads.
pub fn exit(code: i32) -> ! {
    loop {
        // SAFETY: ends the process; no memory is involved.
        let _ = unsafe { call(number::EXIT_GROUP, [code as usize]) };
    }
}

/// Reads into `buffer`.
///
/// # Errors
/// The errno.
pub fn read(fd: Fd, buffer: &mut [u8]) -> Result<usize> {
    // SAFETY: the kernel writes at most the buffer's length into it.
    unsafe {
        call(
            number::READ,
            [fd_arg(fd), buffer.as_mut_ptr().addr(), buffer.len()],
        )
    }
}

/// Closes an fd; that it was not open is no matter.
pub fn close(fd: Fd) {
    // SAFETY: every fd that is closed here was made or received by this object.
    let _ = unsafe { call(number::CLOSE, [fd_arg(fd)]) };
}

/// Opens a directory for reading, CLOEXEC.
///
/// # Errors
/// The errno.
pub fn open_directory(path: &CStr) -> Result<Fd> {
    const O_DIRECTORY_CLOEXEC: usize = 0o200_0000
        | if cfg!(target_arch = "aarch64") {
            0o4_0000
        } else {
            0o20_0000
        };
    let arguments = [
        fd_arg(AT_FDCWD),
        path.as_ptr().addr(),
        O_DIRECTORY_CLOEXEC,
        0,
    ];
    // SAFETY: `path` is a C string.
    unsafe { call(number::OPENAT, arguments) }.map(|fd| fd as Fd)
}

/// Opens a file for reading, CLOEXEC.
///
/// # Errors
/// The errno.
pub fn open_to_read(path: &CStr) -> Result<Fd> {
    const O_CLOEXEC: usize = 0o200_0000;
    let arguments = [fd_arg(AT_FDCWD), path.as_ptr().addr(), O_CLOEXEC, 0];
    // SAFETY: `path` is a C string.
    unsafe { call(number::OPENAT, arguments) }.map(|fd| fd as Fd)
}

/// Reads directory entries into `buffer` (struct linux_dirent64).
///
/// # Errors
/// The errno.
pub fn getdents64(fd: Fd, buffer: &mut [u8]) -> Result<usize> {
    // SAFETY: the kernel writes at most the buffer's length into it.
    unsafe {
        call(
            number::GETDENTS64,
            [fd_arg(fd), buffer.as_mut_ptr().addr(), buffer.len()],
        )
    }
}

/// Maps `len` bytes read-write: of `fd`, shared, or anonymous and private without one.
///
/// # Errors
/// The errno.
pub fn map(fd: Option<Fd>, len: usize) -> Result<*mut c_void> {
    const READ_WRITE: usize = 3;
    const SHARED: usize = 1;
    const PRIVATE_ANONYMOUS: usize = 0x22;
    let flags = if fd.is_some() {
        SHARED
    } else {
        PRIVATE_ANONYMOUS
    };
    let arguments = [0, len, READ_WRITE, flags, fd_arg(fd.unwrap_or(-1)), 0];
    // SAFETY: without MAP_FIXED a new mapping replaces nothing.
    unsafe { call(number::MMAP, arguments) }.map(core::ptr::with_exposed_provenance_mut)
}

/// MADV_POPULATE_READ.
pub const POPULATE_READ: usize = 22;
/// MADV_POPULATE_WRITE.
pub const POPULATE_WRITE: usize = 23;

/// Sets up page tables for a range: [`POPULATE_READ`] or [`POPULATE_WRITE`].
///
/// # Errors
/// The errno; EINVAL before kernel 5.14.
pub fn populate(address: usize, len: usize, how: usize) -> Result<()> {
    // SAFETY: populating changes no byte of any mapping; both advices are checked by the kernel.
    unsafe { call(number::MADVISE, [address, len, how]) }.map(drop)
}

/// What to do with a signal mask.
#[derive(Clone, Copy, Debug)]
pub enum MaskHow {
    /// Block these too.
    Block = 0,
    /// Block exactly these.
    Set = 2,
}

/// Changes this thread's signal mask; answers the old one.
///
/// # Errors
/// The errno (none in practice).
pub fn signal_mask(how: MaskHow, mask: SignalMask) -> Result<SignalMask> {
    let mut old: SignalMask = 0;
    let (new, place) = ((&raw const mask).addr(), (&raw mut old).addr());
    // SAFETY: both are masks of the 8 bytes that are named.
    unsafe { call(number::RT_SIGPROCMASK, [how as usize, new, place, 8]) }.map(|_| old)
}

/// An fd to read blocked signals from, nonblocking and CLOEXEC.
///
/// # Errors
/// The errno.
pub fn signalfd(mask: SignalMask) -> Result<Fd> {
    const NONBLOCK_CLOEXEC: usize = 0o200_4000;
    let mask = (&raw const mask).addr();
    // SAFETY: the mask has the 8 bytes that are named.
    unsafe { call(number::SIGNALFD4, [fd_arg(-1), mask, 8, NONBLOCK_CLOEXEC]) }.map(|fd| fd as Fd)
}

/// One fd of [`poll`].
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct PollFd {
    /// Which.
    pub fd: Fd,
    /// What is waited for: 1 is POLLIN.
    pub events: i16,
    /// What is there; POLLHUP and POLLERR too.
    pub seen: i16,
}

/// Waits until one of the fds is ready.
///
/// # Errors
/// The errno; EINTR at a signal.
pub fn poll(fds: &mut [PollFd], timeout_ns: Option<u32>) -> Result<usize> {
    // struct timespec.
    let mut limit = [0, timeout_ns.unwrap_or_default() as usize];
    let timeout = timeout_ns.map_or(0, |_| limit.as_mut_ptr().addr());
    let (at, count) = (fds.as_mut_ptr().addr(), fds.len());
    // SAFETY: the kernel writes into the two arrays only; no mask is given.
    unsafe { call(number::PPOLL, [at, count, timeout, 0, 8]) }
}

/// `struct msghdr`.
#[repr(C)]
#[derive(Debug)]
pub struct Message {
    pub(crate) name: usize,
    pub(crate) name_len: u32,
    pub(crate) parts: *const Part,
    pub(crate) part_count: usize,
    pub(crate) control: *mut u64,
    pub(crate) control_len: usize,
    pub(crate) flags: i32,
}

/// `struct iovec`.
#[repr(C)]
#[derive(Debug)]
pub struct Part {
    pub(crate) base: *mut u8,
    pub(crate) len: usize,
}

/// sendmsg(2).
///
/// # Safety
/// Every pointer in `message` is valid for its length.
///
/// # Errors
/// The errno.
pub unsafe fn send_message(fd: Fd, message: &Message, flags: usize) -> Result<usize> {
    // SAFETY: the caller's promise.
    unsafe {
        call(
            number::SENDMSG,
            [fd_arg(fd), core::ptr::from_ref(message).addr(), flags],
        )
    }
}

/// recvmsg(2).
///
/// # Safety
/// Every pointer in `message` is valid for writes of its length.
///
/// # Errors
/// The errno.
pub unsafe fn receive_message(fd: Fd, message: &mut Message, flags: usize) -> Result<usize> {
    // SAFETY: the caller's promise.
    unsafe {
        call(
            number::RECVMSG,
            [fd_arg(fd), core::ptr::from_mut(message).addr(), flags],
        )
    }
}

/// A fork without a libc: only for a process that has none.
///
/// # Errors
/// The errno.
pub fn fork() -> Result<u32> {
    const SIGCHLD: usize = 17;
    // SAFETY: without CLONE_VM and without a stack the child runs on in a copy of this memory.
    unsafe { call(number::CLONE, [SIGCHLD, 0, 0, 0, 0]) }.map(|pid| pid as u32)
}

/// Reaps one ended child of any kind: its pid and wait status, pid 0 when none has ended.
///
/// # Errors
/// The errno; ECHILD without children.
pub fn reap() -> Result<(u32, u32)> {
    const WNOHANG_WALL: usize = 0x4000_0001;
    let mut status = 0u32;
    let arguments = [fd_arg(-1), (&raw mut status).addr(), WNOHANG_WALL, 0];
    // SAFETY: the kernel writes the status word only.
    unsafe { call(number::WAIT4, arguments) }.map(|pid| (pid as u32, status))
}

/// SIGKILL.
pub const SIGKILL: usize = 9;
/// SIGSTOP.
pub const SIGSTOP: usize = 19;

/// Sends a signal to a child that was not reaped yet, or to oneself.
pub fn kill(pid: u32, signal: usize) {
    // SAFETY: no memory is involved.
    let _ = unsafe { call(number::KILL, [pid as usize, signal]) };
}

/// This process's pid.
#[must_use]
pub fn own_pid() -> u32 {
    // SAFETY: no memory is involved.
    unsafe { call(number::GETPID, []) }.unwrap_or(0) as u32
}

/// A pidfd of a child that was not reaped yet.
///
/// # Errors
/// The errno.
pub fn pidfd_open(pid: u32) -> Result<Fd> {
    // SAFETY: no memory is involved.
    unsafe { call(number::PIDFD_OPEN, [pid as usize, 0]) }.map(|fd| fd as Fd)
}

/// A process group of one's own.
pub fn lead_process_group() {
    // SAFETY: no memory is involved.
    let _ = unsafe { call(number::SETPGID, [0, 0]) };
}

/// Adopts the orphans below this process.
pub fn become_subreaper() {
    const PR_SET_CHILD_SUBREAPER: usize = 36;
    // SAFETY: no memory is involved.
    let _ = unsafe { call(number::PRCTL, [PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0]) };
}

/// Names this thread; `name` ends with a NUL among its 16 bytes.
pub fn set_name(name: &[u8; 16]) {
    const PR_SET_NAME: usize = 15;
    // SAFETY: the kernel reads at most 16 bytes.
    let _ = unsafe { call(number::PRCTL, [PR_SET_NAME, name.as_ptr().addr(), 0, 0, 0]) };
}

/// The name of this thread, as [`set_name`] takes it.
#[must_use]
pub fn name() -> [u8; 16] {
    const PR_GET_NAME: usize = 16;
    let mut name = [0; 16];
    // SAFETY: the kernel writes at most 16 bytes, a NUL among them.
    let _ = unsafe {
        call(
            number::PRCTL,
            [PR_GET_NAME, name.as_mut_ptr().addr(), 0, 0, 0],
        )
    };
    name
}

/// Sleeps while `word` is `expected`; may return for no reason.
pub fn futex_wait(word: &AtomicU32, expected: u32) {
    const FUTEX_WAIT: usize = 0;
    let arguments = [word.as_ptr().addr(), FUTEX_WAIT, expected as usize, 0];
    // SAFETY: the kernel reads the word; no timeout is given.
    let _ = unsafe { call(number::FUTEX, arguments) };
}

/// A copy of `fd` at `least` or above; CLOEXEC or not.
///
/// # Errors
/// The errno; EINVAL when the limit of fds is below `least`.
pub fn duplicate_above(fd: Fd, least: usize, cloexec: bool) -> Result<Fd> {
    const F_DUPFD: usize = 0;
    const F_DUPFD_CLOEXEC: usize = 1030;
    let command = if cloexec { F_DUPFD_CLOEXEC } else { F_DUPFD };
    // SAFETY: numbers only.
    unsafe { call(number::FCNTL, [fd_arg(fd), command, least]) }.map(|fd| fd as Fd)
}

/// Sets or clears CLOEXEC.
pub fn set_cloexec(fd: Fd, yes: bool) {
    const F_SETFD: usize = 2;
    // SAFETY: numbers only.
    let _ = unsafe { call(number::FCNTL, [fd_arg(fd), F_SETFD, usize::from(yes)]) };
}

/// Makes `target` a copy of `fd`, without CLOEXEC. The two differ.
///
/// # Errors
/// The errno.
pub fn place(fd: Fd, target: Fd) -> Result<()> {
    // SAFETY: numbers only.
    unsafe { call(number::DUP3, [fd_arg(fd), fd_arg(target), 0]) }.map(drop)
}

/// Executes the file that `fd` is; answers only on failure, its errno.
///
/// # Safety
/// `argv` and `envp` are null-terminated arrays of C strings.
pub unsafe fn execute(fd: Fd, argv: *const *const c_char, envp: *const *const c_char) -> i32 {
    const AT_EMPTY_PATH: usize = 0x1000;
    let arguments = [
        fd_arg(fd),
        c"".as_ptr().addr(),
        argv.addr(),
        envp.addr(),
        AT_EMPTY_PATH,
    ];
    // SAFETY: the caller's promise.
    unsafe { call(number::EXECVEAT, arguments) }
        .err()
        .unwrap_or(0)
}

/// readlinkat(2) as it is.
///
/// # Safety
/// `path` is a C string, `buffer` is valid for writes of `len` bytes.
///
/// # Errors
/// The errno.
pub unsafe fn read_link(
    directory: Fd,
    path: *const c_char,
    buffer: *mut c_char,
    len: usize,
) -> Result<usize> {
    let arguments = [fd_arg(directory), path.addr(), buffer.addr(), len];
    // SAFETY: the caller's promise.
    unsafe { call(number::READLINKAT, arguments) }
}
