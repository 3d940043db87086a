//! The bank's directory and the lock on it. Called by `open`.
//!
//! The lock is flock(2) on the directory itself, which keeps its inode while catalogues come and
//! go, and ends with the controller however that ends. Nobody else may write in the directory: it
//! is the bank's user's own, or it is refused.
//!
//! It must never wait for a lock, or follow a symbolic link to the directory.

use std::fs::DirBuilder;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use rustix::fs::{FlockOperation, Mode, OFlags, flock, fstat};
use rustix::io::Errno;

use crate::catalogue::{Catalogue, read_header};
use crate::error::OpenError;
use crate::layout::HEADER;
use crate::open::{io_error, not_a_bank};
use crate::store::{CATALOGUE, DirStore, Store};

/// How often the directory is looked up again when it is removed under our hands.
const ATTEMPTS: u32 = 16;

/// Makes the directory if need be, checks whose it is, and locks it. Says whether it was made.
pub(crate) fn lock_directory(dir: &Path) -> Result<(OwnedFd, bool), OpenError> {
    let mut made = false;
    for _ in 0..ATTEMPTS {
        made |= make_directory(dir)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = match rustix::fs::open(dir, flags, Mode::empty()) {
            Ok(fd) => fd,
            // Another site discarded it a moment ago.
            Err(Errno::NOENT) => continue,
            Err(Errno::NOTDIR | Errno::LOOP) => {
                return Err(not_a_bank(dir, "it is no directory".into()));
            }
            Err(error) => return Err(io_error(dir, "open the directory", error.into(), 0)),
        };
        let stat =
            fstat(&fd).map_err(|error| io_error(dir, "examine the directory", error.into(), 0))?;
        let user = rustix::process::geteuid().as_raw();
        if stat.st_uid != user {
            let what = format!(
                "it belongs to user {}, this is user {user}; choose another with --bank",
                stat.st_uid
            );
            return Err(OpenError::Permission {
                dir: dir.into(),
                what,
            });
        }
        if stat.st_mode & 0o022 != 0 {
            let what =
                "other users may write in it; `chmod 700` it, or choose another with --bank".into();
            return Err(OpenError::Permission {
                dir: dir.into(),
                what,
            });
        }
        match flock(&fd, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                return Err(OpenError::Locked {
                    dir: dir.into(),
                    by: holder(fd),
                });
            }
            Err(error) => return Err(io_error(dir, "lock the directory", error.into(), 0)),
        }
        if fstat(&fd).is_ok_and(|stat| stat.st_nlink > 0) {
            return Ok((fd, made));
        }
    }
    let source = io::Error::from(io::ErrorKind::ResourceBusy);
    Err(OpenError::Io {
        dir: dir.into(),
        doing: "lock the directory, which is being removed",
        source,
    })
}

fn make_directory(dir: &Path) -> Result<bool, OpenError> {
    let failed = |error| io_error(dir, "make the directory", error, 0);
    if let Some(parent) = dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        match DirBuilder::new().recursive(true).mode(0o700).create(parent) {
            Err(error)
                if matches!(
                    Errno::from_io_error(&error),
                    Some(Errno::NOTDIR | Errno::EXIST)
                ) =>
            {
                return Err(not_a_bank(
                    dir,
                    format!("{} is no directory", parent.display()),
                ));
            }
            result => result.map_err(failed)?,
        }
    }
    match DirBuilder::new().mode(0o700).create(dir) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        // A read-only file system says so even where the directory exists.
        Err(_) if dir.is_dir() => Ok(false),
        Err(error) => Err(failed(error)),
    }
}

/// The pid that the catalogue of a locked bank tells. It is being written to meanwhile, and only
/// shown to a person: what can't be read is left out.
fn holder(dir: OwnedFd) -> Option<u32> {
    let store = DirStore::new(dir).ok()?;
    let size = read_header(&store.read(CATALOGUE, HEADER as u64).ok()?)
        .ok()?
        .file_size();
    let catalogue = Catalogue::load(&store.read(CATALOGUE, size).ok()?).ok()?;
    Some(catalogue.state().pid)
}
