//! `group`: one member faults, all stop, all are restarted; to the first line of the last member's
//! `main`. Against the bare "kill all, reap all, wake all".

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::heat::{self, Bare, Contestant, Pace, Stage};
use crate::lane::{End, Lane};
use crate::report::Report;
use crate::site::Site;

const PART: &str = "group";
/// Quiet time for each member, in which the next standbys are made.
const GAP_EACH: Duration = Duration::from_millis(2);

/// The part.
///
/// # Errors
/// When something does not start or does not come back.
pub fn run(stage: &Stage, report: &mut Report) -> Result<()> {
    let sizes: &[(u64, u32)] = if stage.quick {
        &[(10, 20), (100, 4)]
    } else {
        &[(10, 200), (100, 40), (1000, 6)]
    };
    for &(members, rounds) in sizes {
        eprintln!("{PART}: {rounds} rounds of {members} members");
        one_size(stage, report, members, rounds)?;
    }
    Ok(())
}

fn one_size(stage: &Stage, report: &mut Report, members: u64, rounds: u32) -> Result<()> {
    let site = Site::start(stage.programs, stage.dir)?;
    let limit = format!("limit: {members} standbys, kill, reap, wake");
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
        bare(&format!("limit: {members} forks on demand"), "fork")?.against(&limit),
        ours(stage, &site, report, members)?.against(&limit),
    ];
    let gap = GAP_EACH.saturating_mul(u32::try_from(members).unwrap_or(u32::MAX));
    heat::run((PART, &mut *report), &site, all, Pace::single(rounds, gap))?;
    let begun = Instant::now();
    site.command("akill -g 1")?;
    let what = format!("akill of a group of {members}, as a command");
    report.fact(
        PART,
        &what,
        format!("{:.1} ms", begun.elapsed().as_secs_f64() * 1000.0),
    );
    Ok(())
}

fn ours(stage: &Stage, site: &Site, report: &mut Report, members: u64) -> Result<Contestant> {
    let mut lane = Lane::new(stage.dir, "group", members)?;
    let program: &Path = &stage.programs.actor;
    let begun = Instant::now();
    lane.start(|lane| {
        let line = |member| {
            let words = lane.words(member, 0, false);
            Site::arun_line(Some(1), &format!("member{member}"), program, &words)
        };
        site.commands(&(0..members).map(line).collect::<Result<Vec<_>>>()?)
    })?;
    let what = format!("arun of {members} members, each");
    let each = begun.elapsed().as_secs_f64() * 1000.0 / members as f64;
    report.fact(PART, &what, format!("{each:.2} ms"));
    let what = format!("ours: {members} members");
    Ok(Contestant::new(
        &what,
        End::Segv,
        lane,
        Some("member0".to_owned()),
    ))
}
