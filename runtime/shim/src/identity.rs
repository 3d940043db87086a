//! Which life this process is, for handlers that can ask nobody.
//!
//! Written by `life` while it is still asleep, read by `fault` and `stopping` at any moment. What is
//! here is inherited by every process that the life forks, so nothing is believed before the pid was
//! compared: a child of the life must never speak for it.

use core::ptr;
use core::sync::atomic::{AtomicI32, AtomicPtr, AtomicU32, AtomicU64, Ordering};

use refrain_abi::Serial;
use refrain_abi::control::ControlPage;

use crate::life_calls::identity;
use crate::syscalls::Fd;

static PAGE: AtomicPtr<ControlPage> = AtomicPtr::new(ptr::null_mut());
static SERIAL: AtomicU32 = AtomicU32::new(0);
/// The life's pid; 0 until it has begun.
static PID: AtomicU32 = AtomicU32::new(0);
static SOCKET: AtomicI32 = AtomicI32::new(-1);
/// What the socket is, because its number may come to mean another file.
static SOCKET_DEVICE: AtomicU64 = AtomicU64::new(0);
static SOCKET_INODE: AtomicU64 = AtomicU64::new(0);

/// The life that this process is.
#[derive(Clone, Copy, Debug)]
pub struct Own {
    /// Its control page.
    pub page: &'static ControlPage,
    /// Its serial.
    pub serial: Serial,
}

/// Notes what the next life will be; it is none before [`begin`].
pub fn prepare(page: &'static ControlPage, serial: Serial, socket: Fd) {
    PID.store(0, Ordering::Relaxed);
    PAGE.store(ptr::from_ref(page).cast_mut(), Ordering::Relaxed);
    SERIAL.store(serial.0, Ordering::Relaxed);
    let (device, inode) = identity(socket).unwrap_or_default();
    SOCKET.store(socket, Ordering::Relaxed);
    SOCKET_DEVICE.store(device, Ordering::Relaxed);
    SOCKET_INODE.store(inode, Ordering::Relaxed);
}

/// The life begins. Release, so that a handler that sees the pid sees the rest.
pub fn begin(pid: u32) {
    PID.store(pid, Ordering::Release);
}

/// This process is no life: a template that a life has become.
pub fn forget() {
    PID.store(0, Ordering::Release);
}

/// The life, if it is this process of the pid `pid`.
#[must_use]
pub fn own(pid: u32) -> Option<Own> {
    if pid == 0 || PID.load(Ordering::Acquire) != pid {
        return None;
    }
    let page = PAGE.load(Ordering::Relaxed);
    // SAFETY: null, or the control page, which is mapped for as long as the process lives.
    let page = unsafe { page.as_ref() }?;
    Some(Own {
        page,
        serial: Serial(SERIAL.load(Ordering::Relaxed)),
    })
}

/// The life's socket, if its number still stands for it: a program may close every fd, and open
/// files of its own under the same numbers.
#[must_use]
pub fn socket() -> Option<Fd> {
    let fd = SOCKET.load(Ordering::Relaxed);
    let was = (
        SOCKET_DEVICE.load(Ordering::Relaxed),
        SOCKET_INODE.load(Ordering::Relaxed),
    );
    (fd >= 0 && identity(fd) == Ok(was)).then_some(fd)
}
