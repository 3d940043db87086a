//! `scale`: one actor's restart while many others are idle on the site, and what an idle one costs.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::Result;
use rustix::process::{Resource, Rlimit, setrlimit};

use crate::heat::{self, Bare, Contestant, Pace, Stage};
use crate::interrupt;
use crate::lane::End;
use crate::report::Report;
use crate::site::Site;

const PART: &str = "scale";
const GAP: Duration = Duration::from_millis(2);
/// Actors that are started by one command: between two of them an interrupt is noticed.
const BATCH: u32 = 250;
/// How many idle actors' memory is looked at.
const LOOKED_AT: usize = 100;
/// Each has a group of its own, past those of the measured ones.
const FIRST_GID: u32 = 1_000_000;
/// How many idle actors make room for the measured ones, where the site takes no more.
const ROOM: u32 = 8;

/// The part.
///
/// # Errors
/// When something does not start or does not come back.
pub fn run(stage: &Stage, report: &mut Report) -> Result<()> {
    raise_fds();
    let site = Site::start(stage.programs, stage.dir)?;
    let counts: &[u32] = if stage.quick {
        &[0, 500]
    } else {
        &[0, 1_000, MANY]
    };
    let mut there = 0;
    for &count in counts {
        eprintln!("{PART}: {count} other actors");
        let begun = Instant::now();
        let first = there;
        let refused = fill(stage, &site, &mut there, count)?;
        if let Some(why) = &refused {
            report.fact(
                PART,
                &format!("arun stopped at {there} actors"),
                why.clone(),
            );
        }
        let count = there;
        if count > first {
            let new = f64::from(count - first);
            let each = begun.elapsed().as_secs_f64() * 1000.0 / new;
            report.fact(
                PART,
                &format!("arun, {first} to {count} actors, each"),
                format!("{each:.2} ms"),
            );
            interrupt::sleep(Duration::from_secs(2))?;
            idle_cost(&site, report, count)?;
        }
        measure(stage, &site, report, count)?;
        if refused.is_some() {
            break;
        }
    }
    Ok(())
}

/// Starts idle actors until `there` are `count`; answers why not, where the site takes no more.
fn fill(stage: &Stage, site: &Site, there: &mut u32, count: u32) -> Result<Option<String>> {
    while *there < count {
        interrupt::check()?;
        let end = count.min(*there + BATCH);
        let line = |n| {
            let name = format!("idle{n}");
            Site::arun_line(Some(FIRST_GID + n), &name, &stage.programs.idle, &[])
        };
        if let Err(error) = site.commands(&(*there..end).map(line).collect::<Result<Vec<_>>>()?) {
            let idle = |name: &str| name.starts_with("idle");
            *there = u32::try_from(site.aps()?.iter().filter(|row| idle(&row.name)).count())?;
            // Room for those that are measured.
            for _ in 0..ROOM {
                *there -= 1;
                site.command(&format!("akill -g {}", FIRST_GID + *there))?;
            }
            let why = error.to_string();
            return Ok(Some(
                why.rsplit_once("arun: ")
                    .map_or(why.clone(), |(_, why)| why.to_owned()),
            ));
        }
        *there = end;
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

/// As many as the machine is asked to hold: three processes each, of which Linux numbers 32,768
/// where nobody has raised `kernel.pid_max`.
const MANY: u32 = 10_000;

fn measure(stage: &Stage, site: &Site, report: &mut Report, count: u32) -> Result<()> {
    let bare = Bare {
        mode: "pidfd",
        ..Bare::default()
    };
    let limit = format!("limit: standby woken on pidfd, {count} others");
    let ours = format!("ours: {count} others");
    let program = (stage.programs.actor.as_path(), &[][..]);
    let all = vec![
        Contestant::bare(stage, site, &limit, End::Segv, &bare)?,
        Contestant::ours(stage, site, &ours, End::Segv, 0, program)?.against("ours: 0 others"),
    ];
    heat::run(
        (PART, &mut *report),
        site,
        all,
        Pace {
            rounds: stage.pick(100, 15),
            burst: 4,
            gap: GAP,
        },
    )?;
    let begun = Instant::now();
    site.aps()?;
    let what = format!("aps --json with {count} others, as a program");
    report.fact(
        PART,
        &what,
        format!("{:.1} ms", begun.elapsed().as_secs_f64() * 1000.0),
    );
    Ok(())
}

/// The proportional share of template, standby and life of idle actors.
fn idle_cost(site: &Site, report: &mut Report, count: u32) -> Result<()> {
    let rows = site.aps()?;
    let idle: Vec<u32> = rows
        .iter()
        .filter(|row| row.name.starts_with("idle"))
        .filter_map(|row| row.pid)
        .take(LOOKED_AT)
        .collect();
    let mut kept = 0.0;
    let mut lives = 0.0;
    for &pid in &idle {
        lives += pss(pid);
        let Some(template) = parent(pid) else {
            continue;
        };
        kept += pss(template);
        let children = fs::read_to_string(format!("/proc/{template}/task/{template}/children"));
        let children = children.map_or_else(|_| siblings(template), |text| pids(&text));
        kept += children
            .iter()
            .filter(|child| **child != pid)
            .map(|child| pss(*child))
            .sum::<f64>();
    }
    let number = idle.len().max(1) as f64;
    let what = format!("PSS of template and standby of an idle actor, {count} of them");
    report.fact(PART, &what, format!("{:.0} KiB", kept / number));
    let what = format!("PSS of its life, {count} of them");
    report.fact(PART, &what, format!("{:.0} KiB", lives / number));
    if let Some(controller) = rows
        .iter()
        .find_map(|row| row.pid)
        .and_then(parent)
        .and_then(parent)
    {
        let fds = fs::read_dir(format!("/proc/{controller}/fd")).map_or(0, Iterator::count);
        report.fact(
            PART,
            &format!("fds of hr_ctrl with {count}"),
            fds.to_string(),
        );
        let rss = field(&format!("/proc/{controller}/smaps_rollup"), "Pss:");
        report.fact(
            PART,
            &format!("PSS of hr_ctrl with {count}"),
            format!("{rss:.0} KiB"),
        );
    }
    Ok(())
}

fn field(path: &str, name: &str) -> f64 {
    let text = fs::read_to_string(path).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    number.unwrap_or(0.0)
}

/// In KiB.
fn pss(pid: u32) -> f64 {
    field(&format!("/proc/{pid}/smaps_rollup"), "Pss:")
}

fn parent(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?
        .1
        .split_whitespace()
        .nth(1)?
        .parse()
        .ok()
}

fn pids(text: &str) -> Vec<u32> {
    text.split_whitespace()
        .filter_map(|word| word.parse().ok())
        .collect()
}

/// The children of `of`, on a kernel that does not list them: they were forked soon after it.
fn siblings(of: u32) -> Vec<u32> {
    (of + 1..of + 64)
        .filter(|pid| parent(*pid) == Some(of))
        .collect()
}
