//! Who is there: the processes of the site's cgroup and of nucleus' family, each of them accounted for,
//! and the open files of those that must not collect any.
//!
//! Called now and then, with every actor at rest. It asks `/proc` and the cgroup, never the site.

use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use refrain_tests::{leftovers, proc};

use crate::cast::{Body, Cast, Member, Role};
use crate::interrupt;
use crate::link::{Stat, WATCHDOG};
use crate::model::{Known, Stand};
use crate::plan::Part;
use crate::stage::Unfit;

/// By how many fds nucleus, hr_ctrl and a template may exceed what they had at first: actors, standbys
/// and sockets come and go.
const SLACK: [usize; 3] = [80, 200, 16];
/// The same for memory of hr_ctrl, in KiB.
const SLACK_KIB: u64 = 64 << 10;
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(5);

/// Where to look, and what was there at first.
pub struct Census {
    cgroup: PathBuf,
    first: Option<Held>,
    /// The largest numbers so far.
    pub most: Held,
}

/// What the processes that stay hold.
#[derive(Clone, Copy, Debug, Default)]
pub struct Held {
    /// Open files of nucleus, hr_ctrl, and of the template that has most.
    pub fds: [usize; 3],
    /// Resident memory of nucleus and hr_ctrl, in KiB.
    pub kib: [u64; 2],
}

/// The processes of one actor.
#[derive(Clone, Debug, Default)]
pub struct Family {
    /// Templates.
    pub templates: Vec<u32>,
    /// Standbys.
    pub standbys: Vec<u32>,
    /// Keepers.
    pub keepers: Vec<u32>,
    /// Lives, and what they have started.
    pub others: Vec<u32>,
}

impl Census {
    /// The census of the site `name`.
    ///
    /// # Errors
    /// [`Unfit`]: without a cgroup nobody can say who belongs to an actor.
    pub fn new(name: &str) -> Result<Self> {
        let mut all = leftovers::cgroups(name).into_iter();
        let cgroup = all
            .next()
            .ok_or(Unfit("no cgroup of version 2 can be made"))?;
        Ok(Self {
            cgroup,
            first: None,
            most: Held::default(),
        })
    }

    /// The processes of an actor that are there now; nobody where it has no cgroup.
    #[must_use]
    pub fn family(&self, name: &str) -> Family {
        let entries = fs::read_dir(&self.cgroup).into_iter().flatten().flatten();
        // `3-a1`, or `3-a1+1` where the cgroup before was killed as a whole.
        let is_it = |path: &PathBuf| {
            let folder = path.file_name().and_then(|folder| folder.to_str());
            let of = folder.and_then(|folder| Some(folder.split_once('-')?.1));
            of.is_some_and(|of| of.split_once('+').map_or(of, |(of, _)| of) == name)
        };
        let mut family = Family::default();
        for folder in entries.map(|entry| entry.path()).filter(is_it) {
            family.add(&fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default());
        }
        family
    }

    /// Waits until an actor has a template and a standby, if it is one that has them.
    ///
    /// # Errors
    /// When they do not come.
    pub fn wait_parts(&self, member: &Member) -> Result<()> {
        self.until(|| {
            let family = self.family(&member.name);
            let whole = !family.templates.is_empty() && !family.standbys.is_empty();
            let told = || format!("{} has no template or standby: {family:?}", member.name);
            if whole { Ok(()) } else { Err(told()) }
        })
    }

    /// A process of an actor, where there is one.
    #[must_use]
    pub fn part(&self, member: &Member, known: &Known, part: Part) -> Option<u32> {
        let family = || self.family(&member.name);
        match part {
            Part::Life => Some(known.pid),
            Part::Template => family().templates.first().copied(),
            Part::Standby => family().standbys.first().copied(),
            Part::Keeper => family().keepers.first().copied(),
        }
    }

    /// Counts everybody, and looks what the processes that stay hold.
    ///
    /// # Errors
    /// Somebody who is not accounted for, too many or too few of an actor, too many open files.
    pub fn count(&mut self, cast: &Cast, known: &[Known], stat: Stat) -> Result<()> {
        self.until(|| {
            let mut accounted = vec![stat.nucleus, stat.hr_ctrl];
            for (member, known) in cast.members.iter().zip(known) {
                let family = self.family(&member.name);
                check_family(member, known, &family)?;
                accounted.extend(family.all());
            }
            let is_stranger = |stat: &proc::Stat| {
                !accounted.contains(&stat.id.pid) && stat.state != 'Z' && stat.state != 'X'
            };
            let strangers: Vec<_> = proc::family(stat.nucleus)
                .into_iter()
                .filter(is_stranger)
                .map(|stat| stat.id)
                .collect();
            if strangers.is_empty() {
                return Ok(());
            }
            Err(format!(
                "not accounted for: {:?}",
                leftovers::describe(&strangers)
            ))
        })?;
        self.look_at_holdings(cast, stat)
    }

    fn look_at_holdings(&mut self, cast: &Cast, stat: Stat) -> Result<()> {
        let templates = cast
            .members
            .iter()
            .flat_map(|member| self.family(&member.name).templates);
        let held = Held {
            fds: [
                proc::fd_count(stat.nucleus),
                proc::fd_count(stat.hr_ctrl),
                templates.map(proc::fd_count).max().unwrap_or(0),
            ],
            kib: [stat.nucleus, stat.hr_ctrl].map(|pid| proc::status(pid, "VmRSS").unwrap_or(0)),
        };
        let first = *self.first.get_or_insert(held);
        for (who, name) in ["nucleus", "hr_ctrl", "a template"].iter().enumerate() {
            let (now, then) = (held.fds[who], first.fds[who]);
            ensure!(
                now <= then + SLACK[who],
                "{name} had {then} fds at first and has {now} now"
            );
            self.most.fds[who] = self.most.fds[who].max(now);
        }
        for (who, name) in ["nucleus", "hr_ctrl"].iter().enumerate() {
            let (now, then) = (held.kib[who], first.kib[who]);
            ensure!(
                now <= then + SLACK_KIB,
                "{name} held {then} KiB at first and holds {now} now"
            );
            self.most.kib[who] = self.most.kib[who].max(now);
        }
        Ok(())
    }

    /// What was held at first, and at most.
    #[must_use]
    pub fn holdings(&self) -> String {
        let first = self.first.unwrap_or_default();
        let most = self.most;
        format!(
            "open files at first, at most: nucleus {} {}, hr_ctrl {} {}, a template {} {}; \
             memory in KiB: nucleus {} {}, hr_ctrl {} {}",
            first.fds[0],
            most.fds[0],
            first.fds[1],
            most.fds[1],
            first.fds[2],
            most.fds[2],
            first.kib[0],
            most.kib[0],
            first.kib[1],
            most.kib[1]
        )
    }

    fn until(&self, look: impl Fn() -> Result<(), String>) -> Result<()> {
        let begun = Instant::now();
        loop {
            interrupt::check()?;
            match look() {
                Ok(()) => return Ok(()),
                Err(why) => ensure!(begun.elapsed() < WATCHDOG, "{why}"),
            }
            thread::sleep(PAUSE);
        }
    }
}

impl Family {
    fn add(&mut self, procs: &str) {
        for pid in procs.lines().filter_map(|line| line.parse().ok()) {
            let Some(stat) = proc::stat(pid) else {
                continue;
            };
            match stat.role {
                Some('T') => self.templates.push(pid),
                Some('S') => self.standbys.push(pid),
                Some('K') => self.keepers.push(pid),
                _ => self.others.push(pid),
            }
        }
    }

    fn all(&self) -> impl Iterator<Item = u32> {
        let all = [&self.templates, &self.standbys, &self.keepers, &self.others];
        all.into_iter().flatten().copied()
    }
}

/// How many processes a life of `member` starts.
fn kids(member: &Member) -> usize {
    match (member.has('k'), member.body) {
        (true, Body::Rust) => 1,
        (true, _) => 2,
        (false, _) => 0,
    }
}

fn check_family(member: &Member, known: &Known, family: &Family) -> Result<(), String> {
    let told = |what: &str| Err(format!("{}: {what}: {family:?}, {known:?}", member.name));
    let (lives, kids) = match known.stand {
        Stand::Runs => (1, kids(member)),
        Stand::Clean | Stand::Absent => (0, 0),
    };
    if known.stand == Stand::Absent && family.all().next().is_some() {
        return told("it is gone, and somebody of it is left");
    }
    if known.stand == Stand::Absent {
        return Ok(());
    }
    if family.others.len() != lives + kids {
        return told("lives and their children are not as many as they must be");
    }
    if lives == 1 && !family.others.contains(&known.pid) {
        return told("the life is not among them");
    }
    // The template that a life came from stays with it when another one takes its place.
    let changes = member.has('w') || member.options.contains(&"fresh");
    if !(1..=if changes { 2 } else { 1 }).contains(&family.templates.len()) {
        return told("templates are not as many as they must be");
    }
    // A second standby where forks are slow; an ordinary actor has one life.
    let standbys = if member.role == Role::Ordinary {
        0..=0
    } else {
        1..=2
    };
    if !standbys.contains(&family.standbys.len()) {
        return told("standbys are not as many as they must be");
    }
    if family.keepers.len() > family.standbys.len() + lives {
        return told("there are too many keepers");
    }
    Ok(())
}
