//! `group`: one member faults, all stop, all are restarted; to the first line of the last member's
//! `main`. Against the bare "kill all, reap all, wake all".

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::heat::{self, Bare, Contestant, Pace, Stage};
use crate::lane::{End, Lane};
use crate::report::Report;
use crate::restart::Notice;
use crate::site::{Site, Start};

/// The part's name.
pub const PART: &str = "group";
/// Quiet time for each member, in which the next standbys are made.
const GAP_EACH: Duration = Duration::from_millis(2);

/// The name of our row for a group of that size.
pub fn ours(members: u64) -> String {
    format!("ours: {members} members")
}

/// The part.
///
/// # Errors
/// When something does not start or does not come back.
pub fn run(stage: &Stage, report: &mut Report) -> Result<()> {
    let sizes: &[(u64, u32)] = if stage.quick {
        &[(10, 20), (100, 4)]
    } else {
        &[(10, 200), (100, 40), (1000, 10)]
    };
    for &(members, rounds) in sizes {
        one_size(stage, report, members, rounds)?;
    }
    Ok(())
}

fn one_size(stage: &Stage, report: &mut Report, members: u64, rounds: u32) -> Result<()> {
    let site = Site::start(stage.programs, stage.dir)?;
    let limit = format!("limit: {members} standbys, kill, reap, wake");
    let forks = format!("limit: {members} forks on demand");
    let bare = |what: &str, mode| {
        let bare = Bare {
            mode,
            members,
            ..Bare::default()
        };
        Contestant::bare(stage, &site, what, End::Segv, &bare)
    };
    let all = vec![
        bare(&limit, "pidfd")?,
        bare(&forks, "fork")?.against(&limit),
        start(stage, &site, report, members)?.against(&limit),
    ];
    let gap = GAP_EACH.saturating_mul(u32::try_from(members).unwrap_or(u32::MAX));
    let pace = Pace::single(rounds, gap);
    let label = format!("{PART} of {members}");
    heat::run((PART, &label, &mut *report), &site, all, pace)?;
    for (what, curve) in [
        (limit, "limit: kill, reap, wake standbys"),
        (forks, "limit: kill, reap, fork"),
        (ours(members), "ours"),
    ] {
        report.point(PART, &what, curve, members as f64);
    }
    Ok(())
}

fn start(stage: &Stage, site: &Site, report: &mut Report, members: u64) -> Result<Contestant> {
    let mut lane = Lane::new(stage.dir, "group", members)?;
    let begun = Instant::now();
    lane.start(|lane| {
        let line = |member| {
            let start = Start {
                gid: Some(1),
                name: &format!("member{member}"),
                notice: Notice::Fault,
                program: &stage.programs.actor,
                words: &lane.words(member, 0, None),
            };
            start.line()
        };
        site.commands(&(0..members).map(line).collect::<Result<Vec<_>>>()?)
    })?;
    let what = format!("arun of {members} members, each");
    let each = begun.elapsed().as_secs_f64() * 1000.0 / members as f64;
    report.figure(PART, &what, each, "ms");
    let name = Some("member0".to_owned());
    Ok(Contestant::new(&ours(members), End::Segv, lane, name))
}
