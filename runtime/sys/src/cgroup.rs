//! Control groups, version 2: what a life started ends with it (DESIGN invariant 2).
//!
//! The controller makes one cgroup an actor, spawns the template into it, and asks it for members
//! and for their end. The list of members is opened beforehand, so that asking for it opens no file on
//! the restart path (DESIGN invariant 3); directory and `cgroup.kill` are needed seldom and opened when
//! they are, because a site holds the fds of thousands of cgroups. Must never touch a cgroup that it
//! did not create.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, Mode, OFlags};

/// The longest line of `cgroup.procs`, in bytes: a 32-bit number and its line end.
const MAX_PID_LINE: usize = 12;
/// How deep cgroups that a life made itself are removed; a deeper tree stays, with an error.
const MAX_DEPTH: usize = 16;

/// The cgroup v2 directory that this process is in.
///
/// # Errors
/// `Unsupported` when no cgroup2 file system is mounted or this process's group is not below it;
/// else the kernel's.
///
/// Source: cgroups(7), /proc/self/mountinfo in proc(5).
pub fn own_directory() -> io::Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    let groups = fs::read_to_string("/proc/self/cgroup")?;
    locate(&mounts, &groups).ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::Unsupported,
            "no cgroup v2 hierarchy is mounted here",
        )
    })
}

/// Reads the two files: mount point of cgroup2 plus this process's path below the mount's root.
fn locate(mountinfo: &str, cgroup: &str) -> Option<PathBuf> {
    let own = cgroup.lines().find_map(|line| line.strip_prefix("0::"))?;
    mountinfo.lines().find_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        if right.split(' ').next() != Some("cgroup2") {
            return None;
        }
        let mut fields = left.split(' ').skip(3);
        let (root, point) = (unescape(fields.next()?), unescape(fields.next()?));
        let below = Path::new(own).strip_prefix(root).ok()?;
        Some(Path::new(&point).join(below))
    })
}

/// Undoes the octal escapes of mountinfo (`\040` for a space).
fn unescape(field: &str) -> String {
    let mut parts = field.split('\\');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part
            .get(..3)
            .and_then(|octal| u8::from_str_radix(octal, 8).ok())
        {
            Some(byte) => {
                text.push(char::from(byte));
                text.push_str(part.get(3..).unwrap_or_default());
            }
            None => {
                text.push('\\');
                text.push_str(part);
            }
        }
    }
    text
}

/// A cgroup that this process has created. Dropping it leaves it in place; see [`Cgroup::remove`].
#[derive(Debug)]
pub struct Cgroup {
    path: PathBuf,
    procs: OwnedFd,
}

impl Cgroup {
    /// Creates the cgroup `name` below `parent`, or takes over one of that name that a dead
    /// controller left behind.
    ///
    /// # Errors
    /// `Unsupported` when the kernel has no `cgroup.kill` (before 5.14); else the kernel's (EACCES,
    /// EROFS where cgroups are not ours to make).
    pub fn create(parent: &Path, name: &str) -> io::Result<Self> {
        let path = parent.join(name);
        let created = match fs::create_dir(&path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            result => result.is_ok(),
        };
        Self::open(&path).inspect_err(|_| {
            if created {
                let _ = fs::remove_dir(&path);
            }
        })
    }

    fn open(path: &Path) -> io::Result<Self> {
        let kill = path.join("cgroup.kill");
        rustix::fs::access(&kill, Access::WRITE_OK).map_err(|errno| match errno {
            rustix::io::Errno::NOENT => io::Error::new(
                io::ErrorKind::Unsupported,
                "this kernel has no cgroup.kill (5.14)",
            ),
            other => other.into(),
        })?;
        Ok(Self {
            path: path.to_owned(),
            procs: open_file(&path.join("cgroup.procs"), OFlags::RDONLY)?,
        })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens its directory, for [`crate::Spawn::cgroup`].
    ///
    /// # Errors
    /// The kernel's (ENOENT once it was removed, EMFILE).
    pub fn directory(&self) -> io::Result<OwnedFd> {
        open_file(&self.path, OFlags::RDONLY | OFlags::DIRECTORY)
    }

    /// The open list of its members, `cgroup.procs`: a pid a line, read from offset 0 each time.
    #[must_use]
    pub fn procs(&self) -> BorrowedFd<'_> {
        self.procs.as_fd()
    }

    /// Stores the pids of its members into `members`, which is emptied first; zombies are not
    /// among them, nor members of cgroups below it. Opens no file; allocates only when `members`
    /// has to grow.
    ///
    /// # Errors
    /// The kernel's (ENODEV once it was removed).
    pub fn members(&self, members: &mut Vec<u32>) -> io::Result<()> {
        members.clear();
        let mut buffer = [0u8; 4096];
        let (mut offset, mut number) = (0u64, None::<u32>);
        loop {
            let count = match rustix::io::pread(&self.procs, &mut buffer, offset) {
                Err(rustix::io::Errno::INTR) => continue,
                other => other?,
            };
            if count == 0 {
                break;
            }
            offset += count as u64;
            // The kernel fills the buffer as far as one more pid would fit: this was the end.
            let is_all = count + MAX_PID_LINE < buffer.len();
            for byte in buffer.iter().take(count) {
                match byte {
                    b'0'..=b'9' => {
                        let digit = u32::from(byte - b'0');
                        number = Some(number.unwrap_or(0).wrapping_mul(10).wrapping_add(digit));
                    }
                    _ => members.extend(number.take()),
                }
            }
            if is_all {
                break;
            }
        }
        members.extend(number);
        Ok(())
    }

    /// Sends SIGKILL to every member and to those of every cgroup below, forks that are under way
    /// included.
    ///
    /// # Errors
    /// The kernel's (ENOENT once it was removed, EMFILE).
    ///
    /// Source: cgroup.kill in the kernel's cgroup-v2 documentation.
    pub fn kill_all(&self) -> io::Result<()> {
        let kill = open_file(&self.path.join("cgroup.kill"), OFlags::WRONLY)?;
        rustix::io::pwrite(kill, b"1", 0)?;
        Ok(())
    }

    /// Removes it, and the cgroups that its members made below it.
    ///
    /// # Errors
    /// `ResourceBusy` while something runs in it; else the kernel's.
    pub fn remove(&self) -> io::Result<()> {
        remove_tree(&self.path, MAX_DEPTH)
    }
}

fn open_file(path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(
        path,
        flags | OFlags::CLOEXEC,
        Mode::empty(),
    )?)
}

fn remove_tree(path: &Path, depth: usize) -> io::Result<()> {
    match fs::remove_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::ResourceBusy && depth > 0 => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => return other,
    }
    let mut nested = false;
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            nested = true;
            remove_tree(&entry.path(), depth - 1)?;
        }
    }
    // Without nested groups it is busy because something runs in it: the error stands.
    if nested {
        fs::remove_dir(path)
    } else {
        Err(io::ErrorKind::ResourceBusy.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 cgroup2 rw
";

    #[test]
    fn a_hybrid_hierarchy_is_found_beside_the_old_one() {
        let path = locate(MOUNTS, "9:pids:/\n0::/user.slice\n").unwrap();
        assert_eq!(path, Path::new("/sys/fs/cgroup/unified/user.slice"));
    }

    #[test]
    fn a_mount_of_a_part_of_the_hierarchy_is_taken_from_its_root() {
        let mounts = "41 31 0:38 /docker/7 /sys/fs/my\\040cg rw - cgroup2 cgroup2 rw\n";
        let path = locate(mounts, "0::/docker/7/a\n").unwrap();
        assert_eq!(path, Path::new("/sys/fs/my cg/a"));
        assert_eq!(locate(mounts, "0::/elsewhere\n"), None);
    }

    #[test]
    fn without_version_two_there_is_none() {
        assert_eq!(locate(MOUNTS, "9:pids:/\n"), None);
        assert_eq!(locate("", "0::/\n"), None);
    }
}
