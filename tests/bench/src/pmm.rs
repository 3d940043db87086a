//! `pmm`: what a life pays for its persistent memory when it begins, against mapping a file of the
//! same size. The actor `tests/bench/actors/bench_pmm.rs` measures, this part collects.

use std::time::Duration;

use anyhow::Result;

use crate::heat::Stage;
use crate::interrupt;
use crate::lane::{End, Lane, micros};
use crate::progress::Progress;
use crate::report::{Kind, Report};
use crate::restart::Notice;
use crate::site::{Site, Start};

/// The part's name.
pub const PART: &str = "pmm";
/// The sizes of the actor's blocks, in its order.
pub const SIZES: [&str; 3] = ["4 KiB", "1 MiB", "1 GiB"];
/// Between two lives.
const GAP: Duration = Duration::from_millis(2);

/// The name of the comparison with the bare mapping.
pub fn more(verb: &str, size: &str) -> String {
    format!("{verb} {size} more than the mapping")
}

/// The part.
///
/// # Errors
/// When something does not start or does not come back.
pub fn run(stage: &Stage, report: &mut Report) -> Result<()> {
    for (keep, verb, rounds) in [
        ("keep", "re-attach", stage.pick(400, 30)),
        ("fresh", "allocate", stage.pick(10, 2)),
    ] {
        let site = Site::start(stage.programs, stage.dir)?;
        let mut lane = Lane::new(stage.dir, "pmm", 1)?;
        lane.start(|lane| {
            site.arun(&Start {
                gid: Some(1),
                name: "pmm",
                notice: Notice::Fault,
                program: &stage.programs.pmm,
                words: &[lane.words(0, 0, None), vec![keep.to_owned()]].concat(),
            })
        })?;
        let mut bare = vec![Vec::new(); SIZES.len()];
        let mut ours = bare.clone();
        let mut attach = Vec::new();
        let progress = Progress::new(&format!("{PART}, lives that {verb}"), rounds);
        for _ in 0..rounds {
            interrupt::sleep(GAP)?;
            lane.restart(End::Exit)?;
            attach.push(micros(0, lane.word(0, 3)));
            for size in 0..SIZES.len() {
                ours[size].push(micros(0, lane.word(0, 4 + size)));
                bare[size].push(micros(0, lane.word(1, size)));
            }
            progress.step();
        }
        report.row(PART, &format!("ours: attach, before {verb}"), None, attach);
        for ((size, bare), ours) in SIZES.iter().zip(bare).zip(ours) {
            let limit = format!("limit: open and mmap {size}, beside {verb}");
            let what = format!("ours: {verb} {size}");
            report.row(PART, &limit, None, bare);
            report.row(PART, &what, Some(&limit), ours);
            report.compare(PART, &more(verb, size), (&what, &limit), Kind::More);
        }
    }
    Ok(())
}
