//! `memory`: the same restart when the old life has touched much memory, which the kernel tears down
//! before it says that the life has ended.

use std::time::Duration;

use anyhow::Result;

use crate::heat::{self, Bare, Contestant, Pace, Stage};
use crate::lane::End;
use crate::report::Report;
use crate::site::Site;

const PART: &str = "memory";
const GAP: Duration = Duration::from_millis(5);
/// More for each MiB: behind a fault handler's back the kernel still tears down the old life.
const GAP_EACH_MIB: Duration = Duration::from_micros(200);

/// The part.
///
/// # Errors
/// When something does not start or does not come back.
pub fn run(stage: &Stage, report: &mut Report) -> Result<()> {
    for (name, touch, rounds) in [
        ("0", 0, stage.pick(200, 30)),
        ("64 MiB", 64 << 20, stage.pick(50, 5)),
        ("1 GiB", 1 << 30, stage.pick(12, 2)),
    ] {
        eprintln!("{PART}: {rounds} rounds of {name}");
        let site = Site::start(stage.programs, stage.dir)?;
        let bare = |what: &str, mode| {
            let bare = Bare {
                mode,
                touch,
                ..Bare::default()
            };
            Contestant::bare(stage, &site, what, End::Segv, &bare)
        };
        let limit = format!("limit: standby woken on pidfd, {name}");
        let ours = format!("ours: {name}");
        let program = (stage.programs.actor.as_path(), &[][..]);
        let all = vec![
            bare(&format!("limit: fault handler, {name}"), "handler")?,
            bare(&limit, "pidfd")?,
            Contestant::ours(stage, &site, &ours, End::Segv, touch, program)?.against(&limit),
        ];
        let mib = u32::try_from(touch >> 20).unwrap_or(u32::MAX);
        let gap = GAP + GAP_EACH_MIB.saturating_mul(mib);
        heat::run((PART, &mut *report), &site, all, Pace::single(rounds, gap))?;
    }
    let median = |name: &str| report.median(PART, &format!("ours: {name}"));
    if let (Some(none), Some(much)) = (median("0"), median("1 GiB")) {
        report.fact(
            PART,
            "ours, 1 GiB against 0, p50",
            format!("{:.2}", much / none),
        );
    }
    Ok(())
}
