//! `actors:` in the configuration file: limits and rights of actors by name, and how they are watched
//! (SPEC H34).

use std::collections::BTreeMap;

use refrain_abi::ActorName;
use refrain_abi::limits::{ActorLimits, ActorTunables};
use serde::de::{self, Deserialize, Deserializer, Unexpected};

use crate::commands::confine::MIN_FILES;

use super::hang::{Check, Progress, watch};
use super::units::{Count, Percent, Size, Time};

/// The section.
pub(super) type Actors = BTreeMap<Name, Actor>;

/// A name that an actor can have.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Name(String);

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        match ActorName::new(&name) {
            Ok(_) => Ok(Self(name)),
            Err(why) => {
                let why = format!("the name of an actor ({why})");
                Err(de::Error::invalid_value(
                    Unexpected::Str(&name),
                    &why.as_str(),
                ))
            }
        }
    }
}

/// One actor.
#[derive(Default, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Actor {
    memory: Option<Size>,
    cpu: Option<Percent>,
    pids: Option<Count>,
    open_files: Option<Files>,
    nice: Option<Nice>,
    user: Option<String>,
    no_new_privs: bool,
    progress: Option<Progress>,
    check: Option<Check>,
    check_after: Option<Time>,
    hang_core: bool,
}

/// A nice value.
struct Nice(i32);

impl<'de> Deserialize<'de> for Nice {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match i32::deserialize(deserializer)? {
            nice @ -20..=19 => Ok(Self(nice)),
            other => {
                let other = Unexpected::Signed(other.into());
                Err(de::Error::invalid_value(
                    other,
                    &"a nice value from -20 to 19",
                ))
            }
        }
    }
}

/// How many files a process may have open.
struct Files(u64);

impl<'de> Deserialize<'de> for Files {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match u64::deserialize(deserializer)? {
            files if files >= MIN_FILES => Ok(Self(files)),
            other => {
                let least = format!("a number of open files, at least {MIN_FILES}");
                Err(de::Error::invalid_value(
                    Unexpected::Unsigned(other),
                    &least.as_str(),
                ))
            }
        }
    }
}

/// The section as the controller uses it.
pub(super) fn tunables(actors: Actors) -> BTreeMap<String, ActorTunables> {
    let one = |(name, it): (Name, Actor)| {
        let limits = ActorLimits {
            memory: it.memory.map(|it| it.0),
            cpu_percent: it.cpu.map(|it| it.0),
            pids: it.pids.map(|it| it.0),
            open_files: it.open_files.map(|it| it.0),
            nice: it.nice.map(|it| it.0),
        };
        let tunables = ActorTunables {
            limits,
            user: it.user,
            no_new_privs: it.no_new_privs,
            hang: watch(it.progress, it.check, it.check_after, it.hang_core),
        };
        (name.0, tunables)
    };
    actors.into_iter().map(one).collect()
}
