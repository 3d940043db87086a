//! `pmm`: what a life pays for its persistent memory when it begins, against mapping a file of the
//! same size. The actor `tests/bench/actors/bench_pmm.rs` measures, this part collects.

use std::time::Duration;

use anyhow::Result;

use crate::heat::Stage;
use crate::interrupt;
use crate::lane::{End, Lane, micros};
use crate::report::Report;
use crate::site::Site;

const PART: &str = "pmm";
/// The sizes of the actor's blocks, in its order.
const SIZES: [&str; 3] = ["4 KiB", "1 MiB", "1 GiB"];

/// The part.
///
/// # Errors
/// When something does not start or does not come back.
pub fn run(stage: &Stage, report: &mut Report) -> Result<()> {
    for (keep, verb, rounds) in [
        ("keep", "re-attach", stage.pick(200, 30)),
        ("fresh", "allocate", stage.pick(10, 2)),
    ] {
        eprintln!("{PART}: {rounds} lives that {verb}");
        let site = Site::start(stage.programs, stage.dir)?;
        let mut lane = Lane::new(stage.dir, "pmm", 1)?;
        lane.start(|lane| {
            let words = [lane.words(0, 0, false), vec![keep.to_owned()]].concat();
            site.arun(Some(1), "pmm", &stage.programs.pmm, &words)
        })?;
        let mut bare = vec![Vec::new(); SIZES.len()];
        let mut ours = bare.clone();
        let mut attach = Vec::new();
        for _ in 0..rounds {
            interrupt::sleep(Duration::from_millis(2))?;
            lane.restart(End::Exit)?;
            attach.push(micros(0, lane.word(0, 3)));
            for size in 0..SIZES.len() {
                ours[size].push(micros(0, lane.word(0, 4 + size)));
                bare[size].push(micros(0, lane.word(1, size)));
            }
        }
        report.row(PART, &format!("ours: attach, before {verb}"), None, attach);
        for ((size, bare), ours) in SIZES.iter().zip(bare).zip(ours) {
            let limit = format!("limit: open and mmap {size}, beside {verb}");
            let what = format!("ours: {verb} {size}");
            report.row(PART, &limit, None, bare);
            report.row(PART, &what, Some(&limit), ours);
            let median = |what: &str| report.median(PART, what).unwrap_or(f64::NAN);
            let more = median(&what) - median(&limit);
            report.fact(
                PART,
                &format!("{verb} {size} more than the mapping, p50"),
                format!("{more:.1} us"),
            );
        }
    }
    Ok(())
}
