//! The limits of an actor: who enforces each, and whether one was passed (SPEC H34, ADR 0022).
//!
//! Memory, CPU time and processes are limited by the actor's cgroup: by that of version 2 where the
//! controller is enabled there, else by one of version 1. Memory falls back on RLIMIT_DATA, which is each
//! process's own. A limit that nothing enforces is refused, never ignored. Called by the engine when an
//! actor is registered, changed, forgotten, or told how a life of it ended; never on the restart path.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;

use refrain_abi::limits::ActorLimits;
use refrain_sys::limit_group::{Controller, LimitGroup, Version};
use refrain_sys::{WaitStatus, process};
use rustix::process::{Resource, getrlimit};
use serde::Serialize;

use crate::containment::Contained;

/// How many processes of ours are in an actor's cgroup at most, beside the life and what that starts: a
/// template and one that is retired or made by a life; the life's keeper; two standbys and a life that
/// is ending, each with a keeper.
pub const OUR_PIDS: u32 = 10;

/// A limit as `aps` shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct LimitRow {
    /// How much: bytes, percent of one CPU, processes, files, or a nice value.
    pub limit: i64,
    /// What enforces it.
    pub by: &'static str,
}

/// The limits of an actor by name: "memory", "cpu", "pids", "open_files", "nice".
pub type LimitRows = BTreeMap<&'static str, LimitRow>;

/// Why an actor cannot have a limit; one line, with the cure.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LimitError {
    /// Nothing here enforces it.
    #[error(
        "a limit of {what} cannot be enforced here: {why}; leave it out, or see docs/commands/arun.md"
    )]
    Unenforced {
        /// What is limited.
        what: &'static str,
        /// What each way said.
        why: String,
    },
    /// More than this site may give.
    #[error("{what} of {wanted} cannot be given: this site may give {most} at most")]
    TooMuch {
        /// What is limited.
        what: &'static str,
        /// What was asked for.
        wanted: i64,
        /// What there is.
        most: i64,
    },
}

/// The limits of one actor, as they are enforced.
#[derive(Debug, Default)]
pub struct Limited {
    groups: Vec<Group>,
    rows: LimitRows,
    rlimits: Vec<(u32, u64, u64)>,
    nice: Option<i32>,
}

/// A cgroup that limits, or has limited.
#[derive(Debug)]
struct Group {
    controller: Controller,
    cgroup: LimitGroup,
    /// How often the limit had been passed when it was last looked at.
    seen: u64,
}

/// Where the cgroups of version 1 lie: below the site's name, under the actor's.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The name of the site's cgroup.
    pub site: &'a str,
    /// The name of the actor's.
    pub actor: &'a str,
}

impl Limited {
    /// Sets the limits of an actor that has none yet, or has others.
    ///
    /// # Errors
    /// [`LimitError`]; then nothing is promised of the limits of before.
    pub fn set(
        &mut self,
        limits: &ActorLimits,
        contained: &Contained,
        place: Place<'_>,
    ) -> Result<(), LimitError> {
        self.rows.clear();
        self.rlimits.clear();
        self.nice = None;
        let wanted = [
            (Controller::Memory, limits.memory),
            (Controller::Cpu, limits.cpu_percent.map(u64::from)),
            (Controller::Pids, limits.pids.map(u64::from)),
        ];
        for (controller, limit) in wanted {
            match limit {
                Some(limit) => self.set_one(controller, limit, contained, place)?,
                None => self.lift(controller),
            }
        }
        if let Some(files) = limits.open_files {
            self.set_open_files(files)?;
        }
        if let Some(nice) = limits.nice {
            self.set_nice(nice)?;
        }
        Ok(())
    }

    fn set_one(
        &mut self,
        controller: Controller,
        limit: u64,
        contained: &Contained,
        place: Place<'_>,
    ) -> Result<(), LimitError> {
        let value = match controller {
            Controller::Pids => limit.saturating_add(u64::from(OUR_PIDS)),
            _ => limit,
        };
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let what = name_of(controller);
        let why = match self.in_cgroup(controller, value, contained, place) {
            Ok(by) => {
                self.rows.insert(what, LimitRow { limit, by });
                return Ok(());
            }
            Err(why) => why,
        };
        if controller != Controller::Memory {
            return Err(LimitError::Unenforced { what, why });
        }
        self.rlimits.push((Resource::Data as u32, value, value));
        let by = "RLIMIT_DATA of each process";
        self.rows.insert(what, LimitRow { limit, by });
        Ok(())
    }

    /// Has a cgroup enforce it; answers which file does, or what stood in the way.
    fn in_cgroup(
        &mut self,
        controller: Controller,
        value: u64,
        contained: &Contained,
        place: Place<'_>,
    ) -> Result<&'static str, String> {
        let known = self
            .groups
            .iter()
            .find(|group| group.controller == controller);
        if let Some(group) = known {
            group.cgroup.set(value).map_err(|error| error.to_string())?;
            return Ok(enforcer(&group.cgroup));
        }
        let version_two = match contained {
            Contained::Cgroup(own) => LimitGroup::of_version_two(controller, own.path()),
            Contained::Sweep => Err(io::Error::other("no cgroup v2 to be had")),
        };
        let made = version_two.or_else(|two| {
            LimitGroup::of_version_one(controller, place.site, place.actor)
                .map_err(|one| format!("{two}; {one}"))
        });
        let cgroup = made?;
        if let Err(error) = cgroup.set(value) {
            let _ = cgroup.try_remove();
            return Err(error.to_string());
        }
        let by = enforcer(&cgroup);
        let seen = cgroup.times_passed();
        self.groups.push(Group {
            controller,
            cgroup,
            seen,
        });
        Ok(by)
    }

    fn lift(&mut self, controller: Controller) {
        let known = self
            .groups
            .iter()
            .find(|group| group.controller == controller);
        if let Some(group) = known
            && let Err(error) = group.cgroup.lift()
        {
            tracing::warn!(?controller, %error, "limit not lifted");
        }
    }

    fn set_open_files(&mut self, files: u64) -> Result<(), LimitError> {
        let most = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
        if files > most && !process::has_capability(process::CAP_SYS_RESOURCE) {
            return Err(too_much("a limit of open files", files, most));
        }
        self.rlimits.push((Resource::Nofile as u32, files, files));
        let limit = i64::try_from(files).unwrap_or(i64::MAX);
        let by = "RLIMIT_NOFILE of each process";
        self.rows.insert("open_files", LimitRow { limit, by });
        Ok(())
    }

    fn set_nice(&mut self, nice: i32) -> Result<(), LimitError> {
        let own = process::own_nice();
        if nice < own && !process::has_capability(process::CAP_SYS_NICE) {
            // Source: RLIMIT_NICE in getrlimit(2): the ceiling is 20 minus the limit.
            let limit = getrlimit(Resource::Nice).current.unwrap_or(40);
            let least = 20 - i64::try_from(limit.min(40)).unwrap_or(0);
            if i64::from(nice) < least.min(i64::from(own)) {
                let most = least.min(i64::from(own));
                let (what, wanted) = ("a nice value", i64::from(nice));
                return Err(LimitError::TooMuch { what, wanted, most });
            }
        }
        self.nice = Some(nice);
        let (limit, by) = (i64::from(nice), "setpriority");
        self.rows.insert("nice", LimitRow { limit, by });
        Ok(())
    }

    /// What a template gets as resource limits: these, and of `given` what they leave.
    #[must_use]
    pub fn rlimits(&self, given: &[(u32, u64, u64)]) -> Vec<(u32, u64, u64)> {
        let ours = |resource: u32| self.rlimits.iter().any(|own| own.0 == resource);
        let rest = given.iter().filter(|limit| !ours(limit.0));
        rest.chain(&self.rlimits).copied().collect()
    }

    /// The nice value that a template gets; `None`: the site's own.
    #[must_use]
    pub fn nice(&self) -> Option<i32> {
        self.nice
    }

    /// What a template joins before it becomes the program.
    ///
    /// # Errors
    /// The kernel's (EMFILE).
    pub fn joining(&self) -> io::Result<Vec<OwnedFd>> {
        let fds = self.groups.iter().map(|group| group.cgroup.joining());
        fds.filter_map(Result::transpose).collect()
    }

    /// What `aps` shows.
    #[must_use]
    pub fn rows(&self) -> &LimitRows {
        &self.rows
    }

    /// How a life ended, in words; a limit that it passed is the cause. `over`: the life after it has
    /// ended, too, and what was counted since may be that one's.
    pub fn cause(&mut self, status: WaitStatus, clean: bool, over: bool) -> String {
        if status.signal() == Some(refrain_sys::Signal::KILL.as_raw())
            && self.was_passed(Controller::Memory, over)
        {
            return "out of memory".to_owned();
        }
        let how = said(status);
        if !clean && self.was_passed(Controller::Pids, over) {
            return format!("{how}, out of processes");
        }
        how
    }

    /// Whether a limit was passed since it was last asked about.
    fn was_passed(&mut self, controller: Controller, over: bool) -> bool {
        let group = self
            .groups
            .iter_mut()
            .find(|group| group.controller == controller);
        let Some(group) = group else { return false };
        let now = group.cgroup.times_passed();
        let passed = now > group.seen;
        group.seen = if passed && over { group.seen + 1 } else { now };
        passed
    }

    /// How often its lives or what they started were killed for want of memory since that was last
    /// asked about; `None` where no cgroup limits its memory.
    #[must_use]
    pub fn untold_kills(&self) -> Option<u64> {
        let is_memory = |group: &&Group| group.controller == Controller::Memory;
        let group = self.groups.iter().find(is_memory)?;
        Some(group.cgroup.times_passed().saturating_sub(group.seen))
    }

    /// What was counted up to now is nobody's cause: a standby or a template was killed.
    pub fn forget_passed(&mut self) {
        for group in &mut self.groups {
            group.seen = group.cgroup.times_passed();
        }
    }

    /// Its actor has another cgroup from now on: what that one of version 2 limited is to be set anew.
    pub fn leave(&mut self) {
        let stays = |group: &Group| group.cgroup.version() == Version::One;
        self.groups.retain(stays);
    }

    /// Removes its cgroups of version 1; answers whether they are gone.
    #[must_use]
    pub fn try_remove(&mut self) -> bool {
        self.groups.retain(|group| !group.cgroup.try_remove());
        self.groups.is_empty()
    }
}

/// How a life ended, in words: two signals say that a limit was passed.
fn said(status: WaitStatus) -> String {
    use refrain_sys::Signal;
    match status.signal() {
        Some(signal) if signal == Signal::XCPU.as_raw() => "out of cpu time".to_owned(),
        Some(signal) if signal == Signal::XFSZ.as_raw() => "file too large".to_owned(),
        _ => status.to_string(),
    }
}

fn too_much(what: &'static str, wanted: u64, most: u64) -> LimitError {
    let number = |number| i64::try_from(number).unwrap_or(i64::MAX);
    LimitError::TooMuch {
        what,
        wanted: number(wanted),
        most: number(most),
    }
}

fn name_of(controller: Controller) -> &'static str {
    match controller {
        Controller::Memory => "memory",
        Controller::Cpu => "cpu",
        Controller::Pids => "pids",
    }
}

fn enforcer(group: &LimitGroup) -> &'static str {
    match (group.file(), group.version()) {
        ("memory.max", _) => "cgroup v2 memory.max",
        ("memory.limit_in_bytes", _) => "cgroup v1 memory.limit_in_bytes",
        ("cpu.max", _) => "cgroup v2 cpu.max",
        ("cpu.cfs_quota_us", _) => "cgroup v1 cpu.cfs_quota_us",
        (_, Version::Two) => "cgroup v2 pids.max",
        (_, Version::One) => "cgroup v1 pids.max",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h34_an_end_by_a_limit_is_told_as_one() {
        let mut limited = Limited::default();
        let mut cause = |status| limited.cause(status, false, false);
        assert_eq!(cause(WaitStatus::from_signal(24, false)), "out of cpu time");
        assert_eq!(cause(WaitStatus::from_signal(25, true)), "file too large");
        assert_eq!(cause(WaitStatus::from_signal(9, false)), "SIGKILL");
        assert_eq!(cause(WaitStatus::from_exit(1)), "exit 1");
    }

    #[test]
    fn h34_a_limit_of_the_actors_own_takes_the_place_of_ulimits() {
        let mut limited = Limited::default();
        let place = Place {
            site: "-",
            actor: "-",
        };
        let limits = ActorLimits {
            open_files: Some(33),
            ..ActorLimits::default()
        };
        limited.set(&limits, &Contained::Sweep, place).unwrap();
        let nofile = Resource::Nofile as u32;
        let given = [(nofile, 5, 6), (Resource::Core as u32, 0, 0)];
        let all = limited.rlimits(&given);
        assert_eq!(all, [(Resource::Core as u32, 0, 0), (nofile, 33, 33)]);
        assert_eq!(limited.rows()["open_files"].limit, 33);
    }
}
