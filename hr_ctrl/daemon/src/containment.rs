//! What a life started ends with it: finding the children of lives (DESIGN invariant 2, ADR 0003).
//!
//! With cgroup v2 every actor has a cgroup that its template is born into; whatever a life starts
//! is a member, however often it forks. One read of a file that is open already lists them. Without
//! cgroup v2 the template, a subreaper, is the ancestor of them all, and `/proc` is searched.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use refrain_abi::ActorName;
use refrain_sys::cgroup::{self, Cgroup};
use refrain_sys::{PidFd, Signal, children, limit_group, process};

/// How often what a killed site has left is looked at, and how long apart: memory of many GiB takes a second
/// to go.
const END_ROUNDS: u32 = 2000;
const END_ROUND: Duration = Duration::from_millis(5);

/// How the site finds what lives started.
#[derive(Debug)]
pub enum Containment {
    /// Cgroups below this one, which is the site's own.
    Cgroup(Cgroup),
    /// A search of `/proc`.
    Sweep {
        /// The name that the site's cgroup would have.
        site: String,
        /// Why there is no better.
        why: String,
    },
}

/// How one actor's are found.
#[derive(Debug)]
pub enum Contained {
    /// Its cgroup.
    Cgroup(Cgroup),
    /// A search below its template.
    Sweep,
}

impl Containment {
    /// Looks what this machine offers. `site` names the site's cgroup.
    #[must_use]
    pub fn probe(site: &str) -> Self {
        end_left_over(site);
        Self::adopt(site)
    }

    /// As [`Containment::probe`], with everything that is there already.
    #[must_use]
    pub fn adopt(site: &str) -> Self {
        // The site's own cgroup is the probe: without write access or `cgroup.kill` it is not made.
        let made = cgroup::base_directory()
            .and_then(|parent| Cgroup::create(&parent, &site_name(site)))
            .map_err(|error| error.to_string());
        match made {
            Ok(cgroup) => Self::Cgroup(cgroup),
            Err(why) => Self::Sweep {
                site: site_name(site),
                why,
            },
        }
    }

    /// "cgroup v2" or "sweep", for `chorusStat`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Cgroup(_) => "cgroup v2",
            Self::Sweep { .. } => "sweep",
        }
    }

    /// The name of the site's cgroup, in every hierarchy.
    #[must_use]
    pub fn site_name(&self) -> String {
        match self {
            Self::Cgroup(site) => {
                let name = site.path().file_name().unwrap_or_default();
                name.to_string_lossy().into_owned()
            }
            Self::Sweep { site, .. } => site.clone(),
        }
    }

    /// The name of an actor's cgroup; `number` keeps two actors of one name apart.
    #[must_use]
    pub fn name_of(name: ActorName, number: u64) -> String {
        format!("{number}-{name}")
    }

    /// Makes the containment of one actor; `number` keeps two actors of one name apart.
    #[must_use]
    pub fn contain(&self, name: ActorName, number: u64) -> Contained {
        match self {
            Self::Cgroup(site) => match Cgroup::create(site.path(), &Self::name_of(name, number)) {
                Ok(cgroup) => Contained::Cgroup(cgroup),
                Err(error) => {
                    tracing::warn!(%name, %error, "no cgroup for the actor");
                    Contained::Sweep
                }
            },
            Self::Sweep { .. } => Contained::Sweep,
        }
    }

    /// Another cgroup for the actor that has this one. `None` where the actor has no cgroup, or there is no
    /// other to be had.
    #[must_use]
    pub fn contain_again(&self, contained: &Contained) -> Option<Contained> {
        let (Self::Cgroup(site), Contained::Cgroup(old)) = (self, contained) else {
            return None;
        };
        let name = next_name(old.path().file_name()?.to_str()?);
        match Cgroup::create(site.path(), &name) {
            Ok(cgroup) => Some(Contained::Cgroup(cgroup)),
            Err(error) => {
                tracing::error!(%name, %error, "no other cgroup for the actor");
                None
            }
        }
    }

    /// The containment of an actor that an hr_ctrl before made: its cgroup by that name, or a new one.
    #[must_use]
    pub fn contained(&self, cgroup: Option<&str>, name: ActorName, number: u64) -> Contained {
        match (self, cgroup) {
            (Self::Cgroup(site), Some(directory)) => match Cgroup::create(site.path(), directory) {
                Ok(cgroup) => Contained::Cgroup(cgroup),
                Err(error) => {
                    tracing::warn!(%name, %error, "the actor's cgroup is lost");
                    Contained::Sweep
                }
            },
            _ => self.contain(name, number),
        }
    }

    /// The cgroups below the site's that are none of these.
    #[must_use]
    pub fn strangers(&self, known: &[&Contained]) -> Vec<Cgroup> {
        let Self::Cgroup(site) = self else {
            return Vec::new();
        };
        let is_known = |path: &Path| {
            let of = |contained: &&Contained| match contained {
                Contained::Cgroup(cgroup) => cgroup.path() == path,
                Contained::Sweep => false,
            };
            known.iter().any(of)
        };
        let names = below(site.path()).filter(|path| !is_known(path));
        names
            .filter_map(|path| Cgroup::create(site.path(), path.file_name()?.to_str()?).ok())
            .collect()
    }

    /// The directory below which the site's cgroups are; `None` where there are none.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Cgroup(site) => Some(site.path()),
            Self::Sweep { .. } => None,
        }
    }

    /// Removes the site's cgroups; every actor's are gone by then.
    pub fn remove(self) {
        limit_group::remove_site(&self.site_name());
        if let Self::Cgroup(cgroup) = self {
            let path = cgroup.path().to_owned();
            if let Err(error) = cgroup.remove() {
                tracing::warn!(path = %path.display(), %error, "cgroup not removed");
            }
        }
    }
}

impl Contained {
    /// The directory that a template is to be born into.
    #[must_use]
    pub fn directory(&self) -> Option<OwnedFd> {
        match self {
            Self::Cgroup(cgroup) => cgroup.directory().ok(),
            Self::Sweep => None,
        }
    }

    /// The open list of members for the actor's template: a standby that a failing life woke reads it,
    /// too. `None` where there is no cgroup.
    #[must_use]
    pub fn procs(&self) -> Option<OwnedFd> {
        match self {
            Self::Cgroup(cgroup) => cgroup.procs().try_clone_to_owned().ok(),
            Self::Sweep => None,
        }
    }

    /// Stores every pid of the actor into `members`, which is emptied first; where there is a cgroup,
    /// those of its `templates`, too. With a cgroup it allocates only where the buffer has to grow, and
    /// opens no file: this is on the restart path.
    pub fn members_into(&self, templates: &[Option<u32>], members: &mut Vec<u32>) {
        match self {
            Self::Cgroup(cgroup) => {
                let _ = cgroup.members(members);
            }
            Self::Sweep => {
                members.clear();
                for template in templates.iter().flatten() {
                    members.extend(children::descendants_of(*template).unwrap_or_default());
                }
                members.retain(|pid| !is_zombie(*pid));
            }
        }
    }

    /// Kills every member, template and standby included.
    ///
    /// # Errors
    /// The kernel's; `Unsupported` where there is no cgroup.
    pub fn kill_all(&self) -> io::Result<()> {
        match self {
            Self::Cgroup(cgroup) => cgroup.kill_all(),
            Self::Sweep => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// Whether somebody has frozen it.
    #[must_use]
    pub fn is_frozen(&self) -> bool {
        match self {
            Self::Cgroup(cgroup) => cgroup.is_frozen(),
            Self::Sweep => false,
        }
    }

    /// Removes the cgroup; answers whether it is gone. It stays while a member is left.
    #[must_use]
    pub fn try_remove(&self) -> bool {
        match self {
            Self::Cgroup(cgroup) => cgroup.remove().is_ok(),
            Self::Sweep => true,
        }
    }
}

/// The name of a site's cgroup.
fn site_name(site: &str) -> String {
    format!("refrain-{}-{site}", refrain_sys::process::getuid())
}

/// The name of the cgroup after the one of this name: `3-a`, `3-a+1`, `3-a+2`. The number in front keeps it
/// apart from those of other actors, whatever they are called.
fn next_name(name: &str) -> String {
    let counted = name.rsplit_once('+');
    let counted = counted.and_then(|(name, count)| Some((name, count.parse::<u64>().ok()?)));
    let (name, count) = counted.unwrap_or((name, 0));
    format!("{name}+{}", count.wrapping_add(1))
}

/// Removes what a controller that was killed left: its actors are gone, their cgroups are not.
pub fn remove_left_over(site: &str) {
    let name = site_name(site);
    limit_group::remove_site(&name);
    let Ok(parent) = cgroup::base_directory() else {
        return;
    };
    let site = parent.join(name);
    below(&site).for_each(|actor| drop(std::fs::remove_dir(actor)));
    let _ = std::fs::remove_dir(site);
}

/// Ends what a site of this name has left: nucleus and hr_ctrl were killed, lives went on. Nobody can adopt
/// them, for their templates have ended, and the lives that take their place must not meet them.
fn end_left_over(site: &str) {
    let Ok(parent) = cgroup::base_directory() else {
        return;
    };
    let path = parent.join(site_name(site));
    for round in 0..END_ROUNDS {
        let left: Vec<_> = below(&path)
            .filter_map(|actor| Cgroup::create(&path, actor.file_name()?.to_str()?).ok())
            .filter(|cgroup| cgroup.kill_all().is_ok() && cgroup.remove().is_err())
            .collect();
        if left.is_empty() {
            break;
        }
        if round + 1 == END_ROUNDS {
            tracing::error!(?left, "lives of a site that was killed do not end");
        }
        std::thread::sleep(END_ROUND);
    }
    limit_group::remove_site(&site_name(site));
    let _ = std::fs::remove_dir(path);
}

/// Ends a life of a site that was killed, where no cgroup says who that is: the process of this pid, if it
/// began when that life did. `start_time` 0: that is not known, and nobody is ended.
pub fn end_life(pid: u32, start_time: u64) {
    // The pidfd pins whoever has the pid now; then it is looked who that is.
    let Ok(pidfd) = PidFd::open(pid) else {
        return;
    };
    if start_time == 0 || process::start_time(pid) != Some(start_time) {
        return;
    }
    let _ = pidfd.send_signal(Signal::KILL);
    let limit = END_ROUNDS * END_ROUND.as_millis() as u32;
    if !pidfd.wait_ended(Some(limit)).unwrap_or(false) {
        tracing::error!(pid, "a life of a site that was killed does not end");
    }
}

/// The cgroups just below one.
fn below(path: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.path())
        .filter(|path| path.is_dir())
}

fn is_zombie(pid: u32) -> bool {
    process::state(pid).is_none_or(|state| matches!(state, 'Z' | 'X'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cgroups_of_an_actor_are_counted() {
        assert_eq!(next_name("3-a"), "3-a+1");
        assert_eq!(next_name("3-a+1"), "3-a+2");
        assert_eq!(next_name("3-a+b"), "3-a+b+1");
    }
}
