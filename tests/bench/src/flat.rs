//! `flat`: whether anything grows over very many restarts of one actor, and of a group of three: memory,
//! fds, threads, the dead, the bank's files, the kernel's memory. All ways to end in turn; every other
//! restart comes at once, the others when the next standby has had time to fall asleep.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::heat::Stage;
use crate::interrupt;
use crate::lane::{End, Lane};
use crate::machine::meminfo;
use crate::progress::Progress;
use crate::report::{Report, Series};
use crate::restart::Notice;
use crate::site::{Site, Start};
use crate::tree::{self, Keepers, Tree};

/// The part's name.
pub const PART: &str = "flat";
/// Words of columns that are shown but not held against a goal: what is the whole machine's, and shares,
/// which move with whoever else runs the same programs.
pub const NOT_JUDGED: [&str; 2] = ["machine", "PSS"];
/// How often everything is looked at.
const LOOKS: u64 = 10;
/// In which a standby falls asleep.
const GAP: Duration = Duration::from_millis(1);
/// Before everything is looked at: the kernel frees some of what the dead held later.
const SETTLE: Duration = Duration::from_secs(1);
const ENDS: [End; 3] = [End::Segv, End::Kill, End::Exit];
const COLUMNS: [&str; 15] = [
    "restarts",
    "nucleus RSS KiB",
    "nucleus PSS KiB",
    "nucleus fds",
    "hr_ctrl RSS KiB",
    "hr_ctrl PSS KiB",
    "hr_ctrl fds",
    "hr_ctrl threads",
    "templates RSS KiB",
    "templates PSS KiB",
    "templates fds",
    "processes",
    "zombies",
    "bank KiB",
    "machine Slab KiB",
];

/// The part.
///
/// # Errors
/// When something does not start or does not come back.
pub fn run(stage: &Stage, report: &mut Report) -> Result<()> {
    let restarts = stage.pick(100_000, 5_000);
    for (what, members) in [("one actor", 1), ("a group of 3", 3)] {
        one(stage, report, (what, members), restarts)?;
    }
    Ok(())
}

fn one(
    stage: &Stage,
    report: &mut Report,
    (what, members): (&str, u64),
    restarts: u64,
) -> Result<()> {
    let site = Site::start(stage.programs, stage.dir)?;
    let mut lane = Lane::new(stage.dir, "flat", members)?;
    lane.start(|lane| {
        (0..members).try_for_each(|member| {
            site.arun(&Start {
                gid: Some(1),
                name: &format!("member{member}"),
                notice: Notice::Fault,
                program: &stage.programs.actor,
                words: &lane.words(member, 0, None),
            })
        })
    })?;
    let every = restarts / LOOKS;
    let progress = Progress::new(&format!("{PART}, {what}"), restarts);
    let mut rows = vec![look(&site, 0)?];
    for (done, end) in (1..=restarts).zip(ENDS.into_iter().cycle()) {
        if done % 2 == 0 {
            interrupt::sleep(GAP)?;
        }
        lane.restart(end)
            .with_context(|| format!("{what}: restart {done}, {end:?}"))?;
        progress.step();
        if done % every == 0 {
            rows.push(look(&site, done)?);
        }
    }
    drop(progress);
    report.fact(
        PART,
        &format!("{what} at its end"),
        site.start_kind("member0")?,
    );
    report.series(Series {
        part: PART,
        what: what.to_owned(),
        columns: COLUMNS.map(str::to_owned).to_vec(),
        rows,
    });
    Ok(())
}

fn look(site: &Site, done: u64) -> Result<Vec<f64>> {
    interrupt::sleep(SETTLE)?;
    let keepers = Keepers::of(&site.aps()?).context("no actor is alive")?;
    let tree = Tree::look();
    let all = tree.below(keepers.nucleus);
    let templates = tree.children(keepers.hr_ctrl);
    let sum = |of: fn(u32) -> f64| templates.iter().map(|pid| of(*pid)).sum();
    let fds = |pid| tree::fds(pid) as f64;
    let (nucleus, hr_ctrl) = (keepers.nucleus, keepers.hr_ctrl);
    let zombies = all.iter().filter(|pid| tree::is_zombie(**pid)).count();
    Ok(vec![
        done as f64,
        tree::rss(nucleus),
        tree::pss(nucleus),
        fds(nucleus),
        tree::rss(hr_ctrl),
        tree::pss(hr_ctrl),
        fds(hr_ctrl),
        tree::threads(hr_ctrl),
        sum(tree::rss),
        sum(tree::pss),
        sum(|pid| tree::fds(pid) as f64),
        all.len() as f64,
        zombies as f64,
        allocated(site.dir()) as f64,
        meminfo("Slab:") as f64,
    ])
}

/// What the files below `dir` occupy, in KiB.
fn allocated(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let each = entries.map(|entry| match entry.metadata() {
        Ok(data) if data.is_dir() => allocated(&entry.path()),
        // Blocks of 512 bytes.
        Ok(data) => data.blocks() / 2,
        Err(_) => 0,
    });
    each.sum()
}
