//! The compiled shim and stub, each in a sealed memfd, made once for the whole controller.
//!
//! Called by [`crate::template`]. The bytes come from `build.rs`.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::OnceLock;

use refrain_sys::memfd;

static SHIM_BYTES: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/shim.so"));
static SCRIPT_SHIM_BYTES: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/shim-script.so"));
static STUB_BYTES: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/stub"));

static SHIM: OnceLock<OwnedFd> = OnceLock::new();
static SCRIPT_SHIM: OnceLock<OwnedFd> = OnceLock::new();
static STUB: OnceLock<OwnedFd> = OnceLock::new();

/// The shared object that templates preload, for a program or for the interpreter of a script. It is
/// mapped, never executed.
pub(crate) fn shim(for_script: bool) -> io::Result<BorrowedFd<'static>> {
    if for_script {
        return once(&SCRIPT_SHIM, || {
            sealed("refrain-shim", SCRIPT_SHIM_BYTES, false)
        });
    }
    once(&SHIM, || sealed("refrain-shim", SHIM_BYTES, false))
}

/// The static executable: the template of programs that begin by exec.
pub(crate) fn stub() -> io::Result<BorrowedFd<'static>> {
    once(&STUB, || match sealed("refrain-stub", STUB_BYTES, true) {
        Err(error) if memfd::is_exec_refused(&error) => stub_file(),
        other => other,
    })
}

/// Two threads may both make one; the first stays, the other is dropped.
fn once(
    cell: &'static OnceLock<OwnedFd>,
    make: impl FnOnce() -> io::Result<OwnedFd>,
) -> io::Result<BorrowedFd<'static>> {
    if let Some(fd) = cell.get() {
        return Ok(fd.as_fd());
    }
    let made = make()?;
    Ok(cell.get_or_init(|| made).as_fd())
}

fn sealed(name: &str, bytes: &[u8], exec: bool) -> io::Result<OwnedFd> {
    let fd = memfd::from_bytes(name, bytes, exec)?;
    memfd::seal_image(fd.as_fd())?;
    Ok(fd)
}

/// Where executable memfds are refused: a file without a name.
fn stub_file() -> io::Result<OwnedFd> {
    let directory = [std::path::Path::new("/dev/shm"), &std::env::temp_dir()]
        .into_iter()
        .find(|directory| directory.is_dir())
        .map(std::path::Path::to_owned);
    let directory = directory.ok_or(io::ErrorKind::NotFound)?;
    crate::image::executable_file(&directory, |file| memfd::write_all(file, STUB_BYTES))
}
