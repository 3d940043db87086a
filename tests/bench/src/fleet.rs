//! What is done to a thousand actors at once: their start, `akill` of them as one group, a site restart.
//! Called by `scale.rs`, on a site of its own.

use std::time::Instant;

use anyhow::{Context, Result};

use crate::heat::Stage;
use crate::interrupt;
use crate::lane::{Lane, micros, now};
use crate::progress::Progress;
use crate::report::Report;
use crate::restart::Notice;
use crate::scale::PART;
use crate::site::{Site, Start};

/// The group that all of them are in, where they are in one.
const TOGETHER: u32 = 1;
/// The first of the groups that have one member.
const APART: u32 = 1_000;

/// Starts, kills and restarts them.
///
/// # Errors
/// When the site refuses, or a life does not come.
pub fn run(stage: &Stage, report: &mut Report) -> Result<()> {
    let members = stage.pick(1_000, 200);
    let rounds = stage.pick(3, 1);
    let site = Site::start(stage.programs, stage.dir)?;
    let progress = Progress::new(&format!("{PART}, fleet of {members}"), 2 * rounds + 1);
    let (mut starts, mut kills) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let (_, started) = start(stage, &site, members, |_| TOGETHER)?;
        starts.push(started);
        let begun = Instant::now();
        site.command(&format!("akill -g {TOGETHER}"))?;
        kills.push(begun.elapsed().as_secs_f64() * 1e6);
        progress.step();
    }
    let apart = |member| APART + u32::try_from(member).unwrap_or(0);
    let (mut lane, started) = start(stage, &site, members, apart)?;
    progress.step();
    let mut restarts = Vec::new();
    for _ in 0..rounds {
        interrupt::sleep(std::time::Duration::from_secs(1))?;
        lane.expect(members);
        let begun = now();
        site.command("restart")?;
        lane.wait().context("after a site restart")?;
        restarts.push(micros(begun, lane.last_main()));
        progress.step();
    }
    drop(progress);
    for (what, samples) in [
        (format!("start of {members} members of one group"), starts),
        (format!("akill of a group of {members}"), kills),
        (
            format!("start of {members} actors in as many groups"),
            vec![started],
        ),
        (format!("site restart of {members} actors"), restarts),
    ] {
        report.row(PART, &what, None, samples);
    }
    Ok(())
}

/// Starts them all by one file of commands; to the first line of the last `main`, in microseconds.
fn start(
    stage: &Stage,
    site: &Site,
    members: u64,
    gid: impl Fn(u64) -> u32,
) -> Result<(Lane, f64)> {
    let mut lane = Lane::new(stage.dir, "fleet", members)?;
    let line = |lane: &Lane, member| {
        Start {
            gid: Some(gid(member)),
            name: &format!("member{member}"),
            notice: Notice::Fault,
            program: &stage.programs.actor,
            words: &lane.words(member, 0, None),
        }
        .line()
    };
    let begun = lane.start(|lane| {
        let lines = (0..members).map(|member| line(lane, member));
        let lines = lines.collect::<Result<Vec<_>>>()?;
        let begun = now();
        site.commands(&lines)?;
        Ok(begun)
    })?;
    let last = lane.last_main();
    Ok((lane, micros(begun, last)))
}
