//! What an actor may take of the machine, and whose rights it has, as plain numbers with units.
//!
//! Written by `arun` and by the configuration, carried in the actor's specification, applied by the
//! controller. Holds no way to enforce anything: what can be enforced is the machine's matter.

use serde::{Deserialize, Serialize};

use crate::hang::HangWatch;

/// The limits of one actor: its template, standby and keepers count with its life. `None`: no limit of
/// its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ActorLimits {
    /// Memory, in bytes.
    pub memory: Option<u64>,
    /// CPU time, in percent of one CPU: 250 is two CPUs and a half.
    pub cpu_percent: Option<u32>,
    /// Processes and threads that a life and what it starts may be.
    pub pids: Option<u32>,
    /// Open files of each process.
    pub open_files: Option<u64>,
    /// Nice value, -20 to 19.
    pub nice: Option<i32>,
}

impl ActorLimits {
    /// These limits, and those of `other` where there are none.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            memory: self.memory.or(other.memory),
            cpu_percent: self.cpu_percent.or(other.cpu_percent),
            pids: self.pids.or(other.pids),
            open_files: self.open_files.or(other.open_files),
            nice: self.nice.or(other.nice),
        }
    }

    /// The stricter of both, limit by limit: what an actor gets that another one starts, so that no
    /// name gives it more than its spawner has.
    #[must_use]
    pub fn stricter(self, other: Self) -> Self {
        fn least<T: Ord>(a: Option<T>, b: Option<T>) -> Option<T> {
            a.into_iter().chain(b).min()
        }
        Self {
            memory: least(self.memory, other.memory),
            cpu_percent: least(self.cpu_percent, other.cpu_percent),
            pids: least(self.pids, other.pids),
            open_files: least(self.open_files, other.open_files),
            // The nicer, the less.
            nice: self.nice.into_iter().chain(other.nice).max(),
        }
    }
}

/// Another user than the site's own, as the kernel knows him.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunAs {
    /// As he was named, for people.
    pub name: String,
    /// His uid.
    pub uid: u32,
    /// His primary group.
    pub gid: u32,
    /// His supplementary groups.
    pub groups: Vec<u32>,
}

/// What the configuration says of an actor by its name; options of `arun` win over it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ActorTunables {
    /// Its limits.
    pub limits: ActorLimits,
    /// Under whose uid it runs: `USER[:GROUP]`, names or numbers; `None`: the site's own. For actors that
    /// `arun` starts; what an actor starts runs as that one does.
    pub user: Option<String>,
    /// Whether nothing it executes gives it more rights (PR_SET_NO_NEW_PRIVS).
    pub no_new_privs: bool,
    /// How its lives are watched for hangs.
    pub hang: HangWatch,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_limited_is_taken_from_the_other_and_the_stricter_wins_when_asked_for() {
        let one = ActorLimits {
            memory: Some(10),
            nice: Some(-5),
            ..ActorLimits::default()
        };
        let other = ActorLimits {
            memory: Some(5),
            pids: Some(7),
            nice: Some(3),
            ..ActorLimits::default()
        };
        let both = one.or(other);
        assert_eq!(
            (both.memory, both.pids, both.nice),
            (Some(10), Some(7), Some(-5))
        );
        let least = one.stricter(other);
        assert_eq!(
            (least.memory, least.pids, least.nice),
            (Some(5), Some(7), Some(3))
        );
        assert_eq!(least.cpu_percent, None);
    }
}
