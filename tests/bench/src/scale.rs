//! `scale`: one actor's restart and `aps` while many others are idle on the site. What an idle one costs is
//! in `cost.rs`, what is done to a thousand at once in `fleet.rs`.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::Result;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::heat::{self, Bare, Contestant, Ours, Pace, Stage};
use crate::lane::End;
use crate::progress::Progress;
use crate::report::Report;
use crate::restart::Notice;
use crate::site::{Site, Start};
use crate::{cost, fleet, interrupt};

/// The part's name.
pub const PART: &str = "scale";
/// Its curve.
pub const CURVE: &str = "ours";
/// The row that those with others are compared with.
pub const OURS_ALONE: &str = "ours: 0 others";
const GAP: Duration = Duration::from_millis(2);
/// Actors that are started by one command: between two of them an interrupt is noticed.
const BATCH: u32 = 250;
/// Each has a group of its own, past those of the measured ones.
const FIRST_GID: u32 = 1_000_000;
/// How many idle actors make room for the measured ones, where the site takes no more.
const ROOM: u32 = 8;
/// As many as the machine is asked to hold; each is several processes, of which Linux numbers 32,768
/// where nobody has raised `kernel.pid_max`.
const MANY: u32 = 10_000;
/// Until the standbys of those that were started last are asleep.
const SETTLE: Duration = Duration::from_secs(2);

/// The part.
///
/// # Errors
/// When something does not start or does not come back.
pub fn run(stage: &Stage, report: &mut Report) -> Result<()> {
    raise_fds();
    limits(report);
    let site = Site::start(stage.programs, stage.dir)?;
    let counts: &[u32] = if stage.quick {
        &[0, 500]
    } else {
        &[0, 1_000, MANY]
    };
    let before = cost::Before::look();
    let mut there = 0;
    for &count in counts {
        let begun = Instant::now();
        let first = there;
        let refused = fill(stage, &site, &mut there, count)?;
        if let Some(why) = &refused {
            let what = format!("arun stopped at {there} actors");
            report.fact(PART, &what, why.clone());
        }
        let count = there;
        if count > first {
            let new = f64::from(count - first);
            let each = begun.elapsed().as_secs_f64() * 1000.0 / new;
            let what = format!("arun, {first} to {count} actors, each");
            report.figure(PART, &what, each, "ms");
            interrupt::sleep(SETTLE)?;
            cost::tell(&site, report, &before, count)?;
        }
        measure(stage, &site, report, count)?;
        if refused.is_some() {
            break;
        }
    }
    drop(site);
    fleet::run(stage, report)
}

/// What the machine allows.
fn limits(report: &mut Report) {
    let pids = fs::read_to_string("/proc/sys/kernel/pid_max").unwrap_or_default();
    report.fact(PART, "kernel.pid_max", pids.trim());
    let files = getrlimit(Resource::Nofile).maximum;
    let files = files.map_or("unlimited".to_owned(), |files| files.to_string());
    report.fact(PART, "open files of one process, at most", files);
}

/// Starts idle actors until `there` are `count`; answers why not, where the site takes no more.
fn fill(stage: &Stage, site: &Site, there: &mut u32, count: u32) -> Result<Option<String>> {
    if *there == count {
        return Ok(None);
    }
    let label = format!("{PART}, start of {count} idle actors");
    let progress = Progress::new(&label, u64::from((count - *there) / BATCH));
    while *there < count {
        interrupt::check()?;
        let end = count.min(*there + BATCH);
        let line = |n| {
            let name = format!("idle{n}");
            let start = Start {
                gid: Some(FIRST_GID + n),
                name: &name,
                notice: Notice::Fault,
                program: &stage.programs.idle,
                words: &[],
            };
            start.line()
        };
        if let Err(error) = site.commands(&(*there..end).map(line).collect::<Result<Vec<_>>>()?) {
            let idle = |name: &str| name.starts_with("idle");
            *there = u32::try_from(site.aps()?.iter().filter(|row| idle(&row.name)).count())?;
            // Room for those that are measured.
            for _ in 0..ROOM.min(*there) {
                *there -= 1;
                site.command(&format!("akill -g {}", FIRST_GID + *there))?;
            }
            let why = error.to_string();
            let why = why.rsplit_once("arun: ").map_or(&*why, |(_, why)| why);
            return Ok(Some(why.to_owned()));
        }
        *there = end;
        progress.step();
    }
    Ok(None)
}

/// Room for as many fds as the kernel allows, where the caller may ask for it: `hr_ctrl` holds several
/// for each actor, and a login session has often no more than a thousand.
fn raise_fds() {
    let most = fs::read_to_string("/proc/sys/fs/nr_open").ok();
    let most = most.and_then(|text| text.trim().parse().ok());
    let limit = Rlimit {
        current: most,
        maximum: most,
    };
    // Refused to whoever is not root; the site then says at how many actors it ends.
    let _ = setrlimit(Resource::Nofile, limit);
}

fn measure(stage: &Stage, site: &Site, report: &mut Report, count: u32) -> Result<()> {
    let bare = Bare {
        mode: "pidfd",
        ..Bare::default()
    };
    let limit = format!("limit: standby woken on pidfd, {count} others");
    let ours = format!("ours: {count} others");
    let set_up = Ours {
        notice: Notice::Fault,
        ..Ours::new(&stage.programs.actor, End::Segv)
    };
    let all = vec![
        Contestant::bare(stage, site, &limit, End::Segv, &bare)?,
        Contestant::ours(stage, site, &ours, &set_up)?.against(OURS_ALONE),
    ];
    let pace = Pace {
        rounds: stage.pick(100, 15),
        burst: 4,
        gap: GAP,
    };
    let label = format!("{PART}, {count} others");
    heat::run((PART, &label, &mut *report), site, all, pace)?;
    report.point(PART, &ours, CURVE, f64::from(count));
    report.point(PART, &limit, "limit: pidfd", f64::from(count));
    let mut listings = Vec::new();
    for _ in 0..stage.pick(20, 5) {
        interrupt::check()?;
        let begun = Instant::now();
        site.command("aps --json")?;
        listings.push(begun.elapsed().as_secs_f64() * 1e6);
    }
    let aps = |count: u32| format!("aps --json as a program, {count} others");
    report.row(PART, &aps(count), Some(&aps(0)), listings);
    Ok(())
}
