//! `memory`: the same restart when the old life has touched much memory, which the kernel tears down
//! before it says that the life has ended.

use std::time::Duration;

use anyhow::Result;

use crate::heat::{self, Bare, Contestant, Ours, Pace, Stage};
use crate::lane::End;
use crate::report::{Kind, Report};
use crate::restart::Notice;
use crate::site::Site;

/// The part's name.
pub const PART: &str = "memory";
const GAP: Duration = Duration::from_millis(5);
/// More for each MiB: behind a fault handler's back the kernel still tears down the old life.
const GAP_EACH_MIB: Duration = Duration::from_micros(200);
/// Name, MiB.
const SIZES: [(&str, u64); 3] = [("0", 0), ("64 MiB", 64), ("1 GiB", 1024)];

/// The name of a row of ours.
fn ours(notice: Notice, size: &str) -> String {
    match notice {
        Notice::Fault => format!("ours: fault notice, {size}"),
        Notice::Kernel => format!("ours: kernel notice, {size}"),
    }
}

/// The name of the comparison of the largest with nothing.
pub fn against_none(notice: Notice) -> String {
    format!("{} against 0", ours(notice, "1 GiB"))
}

/// The part.
///
/// # Errors
/// When something does not start or does not come back.
pub fn run(stage: &Stage, report: &mut Report) -> Result<()> {
    let rounds = [stage.pick(200, 30), stage.pick(50, 5), stage.pick(20, 2)];
    for ((size, mib), rounds) in SIZES.into_iter().zip(rounds) {
        one_size(stage, report, (size, mib), rounds)?;
    }
    for notice in [Notice::Fault, Notice::Kernel] {
        let rows = (ours(notice, "1 GiB"), ours(notice, "0"));
        let what = against_none(notice);
        report.compare(PART, &what, (&rows.0, &rows.1), Kind::Ratio);
    }
    Ok(())
}

fn one_size(
    stage: &Stage,
    report: &mut Report,
    (size, mib): (&str, u64),
    rounds: u32,
) -> Result<()> {
    let site = Site::start(stage.programs, stage.dir)?;
    let touch = mib << 20;
    let handler = format!("limit: fault handler, {size}");
    let pidfd = format!("limit: standby woken on pidfd, {size}");
    let keeper = format!("limit: standby on pidfd, with a keeper, {size}");
    let mut all = Vec::new();
    let mut names = Vec::new();
    for (what, mode, curve) in [
        (&handler, "handler", "limit: fault handler"),
        (&pidfd, "pidfd", "limit: pidfd"),
        (&keeper, "keeper", "limit: pidfd, keeper"),
    ] {
        let bare = Bare {
            mode,
            touch,
            ..Bare::default()
        };
        all.push(Contestant::bare(stage, &site, what, End::Segv, &bare)?);
        names.push((what.clone(), curve));
    }
    for (notice, limit, curve) in [
        (Notice::Fault, &handler, "ours: fault notice"),
        (Notice::Kernel, &pidfd, "ours: kernel notice"),
    ] {
        if notice == Notice::Fault && !site.knows_notice() {
            continue;
        }
        let set_up = Ours {
            touch,
            notice,
            ..Ours::new(&stage.programs.actor, End::Segv)
        };
        let what = ours(notice, size);
        all.push(Contestant::ours(stage, &site, &what, &set_up)?.against(limit));
        names.push((what, curve));
    }
    let gap = GAP + GAP_EACH_MIB.saturating_mul(u32::try_from(mib).unwrap_or(u32::MAX));
    let label = format!("{PART}, {size}");
    let pace = Pace::single(rounds, gap);
    heat::run((PART, &label, &mut *report), &site, all, pace)?;
    for (what, curve) in names {
        report.point(PART, &what, curve, mib as f64);
    }
    Ok(())
}
