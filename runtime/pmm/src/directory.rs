//! The bank's directory and the lock on it. Called by `open`.
//!
//! The lock is flock(2) on the directory itself, which keeps its inode while catalogues come and
//! go, and ends with the controller however that ends. Nobody else may write in the directory: it
//! is the bank's user's own, or it is refused.
//!
//! It must never wait for a lock that a living site holds, or follow a symbolic link to the
//! directory.

use std::fs::{DirBuilder, File};
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::Path;
use std::time::Duration;

use rustix::fs::{FlockOperation, Mode, OFlags, flock, fstat, openat};
use rustix::io::Errno;

use crate::catalogue::Catalogue;
use crate::error::OpenError;
use crate::layout::HEADER;
use crate::open::{io_error, not_a_bank};
use crate::slot::read_header;
use crate::store::CATALOGUE;

/// How often the directory is looked up again when it is removed under our hands.
const ATTEMPTS: u32 = 16;
/// How often a lock is tried that nobody alive seems to hold, and how long apart: half a second
/// together.
const LOCK_ATTEMPTS: u32 = 100;
const LOCK_PAUSE: Duration = Duration::from_millis(5);

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
        check_owner(dir, &fd)?;
        lock(dir, &fd, || std::thread::sleep(LOCK_PAUSE))?;
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

fn check_owner(dir: &Path, fd: &OwnedFd) -> Result<(), OpenError> {
    let stat =
        fstat(fd).map_err(|error| io_error(dir, "examine the directory", error.into(), 0))?;
    let user = rustix::process::geteuid().as_raw();
    let what = if stat.st_uid != user {
        format!(
            "it belongs to user {}, this is user {user}; choose another with --bank",
            stat.st_uid
        )
    } else if stat.st_mode & 0o022 != 0 {
        "other users may write in it; `chmod 700` it, or choose another with --bank".into()
    } else {
        return Ok(());
    };
    Err(OpenError::Permission {
        dir: dir.into(),
        what,
    })
}

/// Takes the lock. A controller that was killed while it started a program leaves its lock, for a
/// moment, to the child that has not come to its exec: where the pid that the catalogue tells is
/// no more, that moment is waited for, so that the next controller need not be started twice.
fn lock(dir: &Path, fd: &OwnedFd, mut pause: impl FnMut()) -> Result<(), OpenError> {
    let mut by = None;
    for _ in 0..LOCK_ATTEMPTS {
        match flock(fd, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(()),
            Err(Errno::WOULDBLOCK) => by = holder(fd).filter(|pid| alive(*pid)),
            Err(error) => return Err(io_error(dir, "lock the directory", error.into(), 0)),
        }
        if by.is_some() {
            break;
        }
        pause();
    }
    Err(OpenError::Locked {
        dir: dir.into(),
        by,
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

/// Makes the names durable by which a bank's directory is reached, on its own file system: it, and what
/// leads to it, may just have been made.
pub(crate) fn sync_above(dir: &Path) -> io::Result<()> {
    let dir = dir.canonicalize()?;
    let device = dir.metadata()?.dev();
    for above in dir.ancestors().skip(1) {
        if above.metadata()?.dev() != device {
            break;
        }
        match File::open(above) {
            // Not ours to read, so not ours to have made.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
            opened => opened?.sync_all()?,
        }
    }
    Ok(())
}

/// The pid that the catalogue of a locked bank tells. It is being written to meanwhile, and only
/// shown to a person: what can't be read is left out.
fn holder(fd: &OwnedFd) -> Option<u32> {
    let read = |limit: u64| {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let file = File::from(openat(fd, CATALOGUE, flags, Mode::empty()).ok()?);
        let mut bytes = Vec::new();
        file.take(limit).read_to_end(&mut bytes).ok()?;
        Some(bytes)
    };
    let size = read_header(&read(HEADER as u64)?).ok()?.file_size();
    Some(Catalogue::load(&read(size)?).ok()?.state().pid)
}

/// Whether there is a process of that pid which has not ended.
fn alive(pid: u32) -> bool {
    // The state follows the name, which is in parentheses and may hold any character.
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(") ").map(|(_, rest)| rest);
    state.is_some_and(|state| !state.starts_with(['Z', 'X']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pid_is_alive_until_it_has_ended() {
        assert!(alive(std::process::id()));
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = child.id();
        // Not reaped yet: a zombie, once it has come to its end.
        while alive(pid) {
            std::thread::yield_now();
        }
        child.wait().unwrap();
        assert!(!alive(pid));
    }

    #[test]
    fn h31_a_lock_that_a_dead_controllers_child_still_holds_is_waited_for() {
        let root = tempfile::tempdir().unwrap();
        let open = || rustix::fs::open(root.path(), OFlags::DIRECTORY, Mode::empty()).unwrap();
        let (left_behind, next) = (open(), open());
        flock(&left_behind, FlockOperation::NonBlockingLockExclusive).unwrap();
        let refused = lock(root.path(), &next, || {});
        assert!(matches!(refused, Err(OpenError::Locked { by: None, .. })));
        let mut left_behind = Some(left_behind);
        lock(root.path(), &next, || drop(left_behind.take())).unwrap();
        assert!(left_behind.is_none(), "the lock was waited for");
    }
}
