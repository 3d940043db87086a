//! Who holds the lock of a bank, without touching it. Called by `survey`: to try the lock would
//! keep a site that starts at that moment from its bank.
//!
//! It must never lock anything.

use std::fs;
use std::io;
use std::os::fd::AsFd;

use rustix::fs::{fstat, major, minor};

/// Whether somebody holds a flock(2) on this open directory, and who: the pid that the kernel tells,
/// which is none for a holder in another pid namespace. `None`: nobody.
///
/// # Errors
/// What fstat(2) reports.
///
/// Source: /proc/locks in proc(5).
pub(crate) fn holder(directory: impl AsFd) -> io::Result<Option<Option<u32>>> {
    let stat = fstat(directory)?;
    let place = (major(stat.st_dev), minor(stat.st_dev), stat.st_ino);
    // A kernel without this file tells nothing: then nobody is known to hold it.
    let locks = fs::read_to_string("/proc/locks").unwrap_or_default();
    Ok(locks.lines().find_map(|line| held_in(line, place)))
}

/// Reads a line such as `2: FLOCK  ADVISORY  WRITE 3200 00:1b:48561151 0 EOF`; device numbers are
/// in hexadecimal. A line of a waiter has an arrow in the second place and so is passed over.
fn held_in(line: &str, place: (u32, u32, u64)) -> Option<Option<u32>> {
    let mut words = line.split_whitespace().skip(1);
    if words.next() != Some("FLOCK") {
        return None;
    }
    let pid = words.nth(2)?;
    let mut parts = words.next()?.split(':');
    let device = |part: &str| u32::from_str_radix(part, 16).ok();
    let found = (
        device(parts.next()?)?,
        device(parts.next()?)?,
        parts.next()?.parse::<u64>().ok()?,
    );
    (found == place).then(|| pid.parse().ok().filter(|pid| *pid != 0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{FlockOperation, flock};

    #[test]
    fn a_lock_is_seen_and_its_holder_named_until_it_is_given_up() {
        let root = tempfile::tempdir_in("/dev/shm").unwrap();
        let (held, looked_at) = (
            fs::File::open(root.path()).unwrap(),
            fs::File::open(root.path()).unwrap(),
        );
        assert_eq!(holder(&looked_at).unwrap(), None);
        flock(&held, FlockOperation::NonBlockingLockExclusive).unwrap();
        assert_eq!(holder(&looked_at).unwrap(), Some(Some(std::process::id())));
        flock(&held, FlockOperation::Unlock).unwrap();
        assert_eq!(holder(&looked_at).unwrap(), None);
    }

    #[test]
    fn lines_of_other_locks_and_files_are_passed_over() {
        let place = (0, 0x1b, 77);
        let held = "2: FLOCK  ADVISORY  WRITE 3200 00:1b:77 0 EOF";
        assert_eq!(held_in(held, place), Some(Some(3200)));
        let elsewhere = "2: FLOCK  ADVISORY  WRITE 0 00:1b:77 0 EOF";
        assert_eq!(held_in(elsewhere, place), Some(None));
        for line in [
            "2: -> FLOCK  ADVISORY  WRITE 3200 00:1b:77 0 EOF",
            "1: POSIX  ADVISORY  WRITE 3218 00:1b:77 0 EOF",
            "2: FLOCK  ADVISORY  WRITE 3200 00:1b:78 0 EOF",
            "2: FLOCK",
            "",
        ] {
            assert_eq!(held_in(line, place), None, "{line}");
        }
    }
}
