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
pub(crate) const MAX_DEPTH: usize = 16;

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

/// Where a site makes its cgroup: [`own_directory`], or the one above it where that was handed to us
/// whole, as systemd does for `Delegate=` with `DelegateSubgroup=`. Resource controllers can be enabled
/// there: a cgroup that holds processes itself has none for those below it.
///
/// # Errors
/// As [`own_directory`].
///
/// Source: "Delegation" in the kernel's cgroup-v2 documentation; user.delegate in systemd's
/// CGROUP_DELEGATION.
pub fn base_directory() -> io::Result<PathBuf> {
    let own = own_directory()?;
    let above = own.parent().filter(|above| is_delegated(above));
    Ok(above.map(Path::to_owned).unwrap_or(own))
}

fn is_delegated(directory: &Path) -> bool {
    ["user.delegate", "trusted.delegate"].iter().any(|name| {
        let mut value = [0; 8];
        let got = rustix::fs::getxattr(directory, *name, &mut value);
        got.is_ok_and(|len| value.get(..len).is_some_and(|value| value == b"1"))
    })
}

/// The directory that this process is in, of the version 1 hierarchy with `controller`.
///
/// # Errors
/// `Unsupported` when there is none, or this process's group is not below its mount; else the
/// kernel's.
///
/// Source: cgroups(7), /proc/self/mountinfo in proc(5).
pub fn own_directory_of(controller: &str) -> io::Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    let groups = fs::read_to_string("/proc/self/cgroup")?;
    locate_v1(&mounts, &groups, controller).ok_or_else(|| {
        let why = format!("no cgroup hierarchy with the controller {controller} is mounted here");
        io::Error::new(io::ErrorKind::Unsupported, why)
    })
}

/// As [`locate`], of a version 1 hierarchy: `4:memory:/path`, mounted with the option `memory`.
fn locate_v1(mountinfo: &str, cgroup: &str, controller: &str) -> Option<PathBuf> {
    let has = |list: &str| list.split(',').any(|word| word == controller);
    let own = cgroup.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        fields.next().filter(|list| has(list))?;
        fields.next()
    })?;
    below_mount(mountinfo, own, |kind, options| {
        kind == "cgroup" && has(options)
    })
}

/// Reads the two files: mount point of cgroup2 plus this process's path below the mount's root.
fn locate(mountinfo: &str, cgroup: &str) -> Option<PathBuf> {
    let own = cgroup.lines().find_map(|line| line.strip_prefix("0::"))?;
    below_mount(mountinfo, own, |kind, _| kind == "cgroup2")
}

/// The path `own` below the mount whose kind and options are `wanted`.
fn below_mount(mountinfo: &str, own: &str, wanted: impl Fn(&str, &str) -> bool) -> Option<PathBuf> {
    mountinfo.lines().find_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        let mut about = right.split(' ');
        if !wanted(about.next()?, about.nth(1)?) {
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

    /// Whether its members are frozen, by whom and from how far above ever.
    ///
    /// Source: cgroup.events and cgroup.freeze in the kernel's cgroup-v2 documentation.
    #[must_use]
    pub fn is_frozen(&self) -> bool {
        let events = fs::read_to_string(self.path.join("cgroup.events")).unwrap_or_default();
        events.lines().any(|line| line == "frozen 1")
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

pub(crate) fn remove_tree(path: &Path, depth: usize) -> io::Result<()> {
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
    fn a_hierarchy_of_version_one_is_found_by_its_controller() {
        let groups = "9:pids:/\n3:cpu,cpuacct:/a\n0::/user.slice\n";
        let path = locate_v1(MOUNTS, groups, "cpu").unwrap();
        assert_eq!(path, Path::new("/sys/fs/cgroup/cpu/a"));
        assert_eq!(locate_v1(MOUNTS, groups, "pids"), None, "not mounted");
        assert_eq!(locate_v1(MOUNTS, groups, "memory"), None);
    }

    #[test]
    fn without_version_two_there_is_none() {
        assert_eq!(locate(MOUNTS, "9:pids:/\n"), None);
        assert_eq!(locate("", "0::/\n"), None);
    }
}
