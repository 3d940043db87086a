//! Resource controllers: memory, CPU time and processes of one actor, limited by a cgroup.
//!
//! Called by the controller when an actor is registered and forgotten, and when one of its lives was
//! killed; never on the restart path. With version 2 the actor's own cgroup limits, once the
//! controller is enabled for it. A machine that has the controller in a hierarchy of version 1 gets a
//! cgroup of the same name there, which the actor's template joins before it becomes the program. Both lie
//! below the cgroup of whoever started the site, so that a site never gets more than its starter has.
//! Must never touch a cgroup that Refrain did not create, but for enabling a controller for those below it.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use crate::cgroup;

/// The span that CPU time is divided in, in microseconds: the kernel's own default.
const CPU_PERIOD_US: u64 = 100_000;

/// A resource controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Controller {
    /// Memory, in bytes.
    Memory,
    /// CPU time, in percent of one CPU.
    Cpu,
    /// Processes and threads.
    Pids,
}

impl Controller {
    fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Cpu => "cpu",
            Self::Pids => "pids",
        }
    }
}

/// The version of cgroups, see cgroups(7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// A hierarchy for each controller.
    One,
    /// One hierarchy for all.
    Two,
}

/// A cgroup that limits one resource of an actor. Dropping it leaves it in place.
#[derive(Debug)]
pub struct LimitGroup {
    controller: Controller,
    version: Version,
    path: PathBuf,
}

impl LimitGroup {
    /// The actor's cgroup of version 2 at `actor`, which lies below the site's; enables the controller
    /// from the directory above the site's downwards.
    ///
    /// # Errors
    /// `Unsupported` where version 2 does not have the controller, `ResourceBusy` where the cgroup
    /// above the site's holds processes itself; else the kernel's.
    ///
    /// Source: "Enabling and Disabling" and "No Internal Process Constraint" in the kernel's cgroup-v2
    /// documentation.
    pub fn of_version_two(controller: Controller, actor: &Path) -> io::Result<Self> {
        let name = controller.name();
        let site = actor.parent().ok_or(io::ErrorKind::NotFound)?;
        let above = site.parent().ok_or(io::ErrorKind::NotFound)?;
        if !has_word(&fs::read_to_string(above.join("cgroup.controllers"))?, name) {
            let why = format!("cgroup v2 does not have the controller {name} here");
            return Err(io::Error::new(io::ErrorKind::Unsupported, why));
        }
        for directory in [above, site] {
            let file = directory.join("cgroup.subtree_control");
            if !has_word(&fs::read_to_string(&file)?, name) {
                fs::write(&file, format!("+{name}")).map_err(|error| {
                    named(&error, &format!("enabling {name} in {}", file.display()))
                })?;
            }
        }
        Ok(Self {
            controller,
            version: Version::Two,
            path: actor.to_owned(),
        })
    }

    /// A cgroup of version 1 for the actor, made below one for the site.
    ///
    /// # Errors
    /// `Unsupported` where no hierarchy has the controller; else the kernel's (EACCES, EROFS).
    pub fn of_version_one(controller: Controller, site: &str, actor: &str) -> io::Result<Self> {
        let path = cgroup::own_directory_of(controller.name())?
            .join(site)
            .join(actor);
        fs::create_dir_all(&path)
            .map_err(|error| named(&error, &format!("making {}", path.display())))?;
        Ok(Self {
            controller,
            version: Version::One,
            path,
        })
    }

    /// Sets the limit, in the controller's unit.
    ///
    /// # Errors
    /// The kernel's (EBUSY: more than that is in use already).
    pub fn set(&self, limit: u64) -> io::Result<()> {
        let quota = || limit.saturating_mul(CPU_PERIOD_US / 100);
        let files = match (self.controller, self.version) {
            (Controller::Cpu, Version::Two) => {
                vec![("cpu.max", format!("{} {CPU_PERIOD_US}", quota()))]
            }
            (Controller::Cpu, Version::One) => vec![
                ("cpu.cfs_period_us", CPU_PERIOD_US.to_string()),
                ("cpu.cfs_quota_us", quota().to_string()),
            ],
            _ => vec![(self.file(), limit.to_string())],
        };
        for (file, text) in files {
            let path = self.path.join(file);
            fs::write(&path, text)
                .map_err(|error| named(&error, &format!("writing {}", path.display())))?;
        }
        Ok(())
    }

    /// Takes the limit away.
    ///
    /// # Errors
    /// The kernel's.
    pub fn lift(&self) -> io::Result<()> {
        let none = match (self.controller, self.version) {
            (Controller::Pids, _) | (_, Version::Two) => "max",
            (_, Version::One) => "-1",
        };
        fs::write(self.path.join(self.file()), none)
    }

    /// The file that limits.
    #[must_use]
    pub fn file(&self) -> &'static str {
        match (self.controller, self.version) {
            (Controller::Memory, Version::Two) => "memory.max",
            (Controller::Memory, Version::One) => "memory.limit_in_bytes",
            (Controller::Cpu, Version::Two) => "cpu.max",
            (Controller::Cpu, Version::One) => "cpu.cfs_quota_us",
            (Controller::Pids, _) => "pids.max",
        }
    }

    /// Which version it is of.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// What a child writes `0` to in order to join it ([`crate::Spawn::joins`]); `None` with version 2,
    /// where it is born into it.
    ///
    /// # Errors
    /// The kernel's.
    pub fn joining(&self) -> io::Result<Option<OwnedFd>> {
        if self.version == Version::Two {
            return Ok(None);
        }
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        let file = self.path.join("cgroup.procs");
        Ok(Some(rustix::fs::open(file, flags, Mode::empty())?))
    }

    /// How often the limit was passed since the cgroup was made: processes that were killed for want of
    /// memory, forks that were refused. 0 where the kernel does not tell, and of CPU time, which is
    /// never passed.
    #[must_use]
    pub fn times_passed(&self) -> u64 {
        let (file, key) = match (self.controller, self.version) {
            (Controller::Memory, Version::Two) => ("memory.events", "oom_kill"),
            (Controller::Memory, Version::One) => ("memory.oom_control", "oom_kill"),
            (Controller::Pids, _) => ("pids.events", "max"),
            (Controller::Cpu, _) => return 0,
        };
        let text = fs::read_to_string(self.path.join(file)).unwrap_or_default();
        counter(&text, key).unwrap_or(0)
    }

    /// Removes a cgroup of version 1; one of version 2 is the actor's, and goes with it. Answers whether
    /// it is gone: it stays while a member is ending.
    #[must_use]
    pub fn try_remove(&self) -> bool {
        self.version == Version::Two || cgroup::remove_tree(&self.path, cgroup::MAX_DEPTH).is_ok()
    }
}

/// Removes what is left of a site's cgroups of version 1: those that hold nobody.
pub fn remove_site(site: &str) {
    for controller in [Controller::Memory, Controller::Cpu, Controller::Pids] {
        let Ok(own) = cgroup::own_directory_of(controller.name()) else {
            continue;
        };
        let site = own.join(site);
        for entry in fs::read_dir(&site).into_iter().flatten().flatten() {
            if entry.path().is_dir() {
                let _ = fs::remove_dir(entry.path());
            }
        }
        let _ = fs::remove_dir(site);
    }
}

fn has_word(text: &str, word: &str) -> bool {
    text.split_whitespace().any(|each| each == word)
}

/// `key NUMBER` on a line of its own.
fn counter(text: &str, key: &str) -> Option<u64> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
    line?.trim().parse().ok()
}

/// The error with what was being done.
fn named(error: &io::Error, what: &str) -> io::Error {
    io::Error::new(error.kind(), format!("{what}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Version 2 as files: what the kernel makes of the words that are written is its own matter.
    fn version_two(controllers: &str) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let actor = dir.path().join("site/1-a");
        fs::create_dir_all(&actor).unwrap();
        fs::write(dir.path().join("cgroup.controllers"), controllers).unwrap();
        for place in [dir.path(), &dir.path().join("site")] {
            fs::write(place.join("cgroup.subtree_control"), "").unwrap();
        }
        (dir, actor)
    }

    #[test]
    fn version_two_is_enabled_from_above_and_limited_by_its_own_files() {
        let (dir, actor) = version_two("cpuset cpu memory pids\n");
        let limit = |controller, value| {
            let group = LimitGroup::of_version_two(controller, &actor).unwrap();
            group.set(value).unwrap();
            fs::read_to_string(actor.join(group.file())).unwrap()
        };
        assert_eq!(limit(Controller::Memory, 1 << 20), "1048576");
        assert_eq!(limit(Controller::Cpu, 250), "250000 100000");
        assert_eq!(limit(Controller::Pids, 9), "9");
        for place in ["cgroup.subtree_control", "site/cgroup.subtree_control"] {
            assert_eq!(fs::read_to_string(dir.path().join(place)).unwrap(), "+pids");
        }
    }

    #[test]
    fn a_controller_that_version_two_lacks_is_unsupported() {
        let (_dir, actor) = version_two("hugetlb\n");
        let error = LimitGroup::of_version_two(Controller::Memory, &actor).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::Unsupported);
    }

    #[test]
    fn what_passed_a_limit_is_counted_by_its_own_key() {
        let events = "low 0\nhigh 3\nmax 17\noom 2\noom_kill 1\noom_group_kill 5\n";
        assert_eq!(counter(events, "oom_kill"), Some(1));
        assert_eq!(
            counter("oom_kill_disable 0\nunder_oom 0\noom_kill 4\n", "oom_kill"),
            Some(4)
        );
        assert_eq!(counter("max 9\n", "max"), Some(9));
        assert_eq!(counter("", "max"), None);
    }
}
