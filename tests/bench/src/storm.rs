//! A crash storm, part of `restart`: every life ends as soon as it began, so that no standby is ready and
//! the start is a fork on demand. Called by `restart.rs`.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;

use crate::heat::Stage;
use crate::interrupt;
use crate::lane::{End, Lane, RECORDS, micros};
use crate::progress::Progress;
use crate::report::Report;
use crate::restart::{Notice, words};
use crate::site::{Site, Start};

const PART: &str = "restart, crash storm";
/// Lives of one storm.
const LIVES: u64 = 50;
/// Between two storms.
const GAP: Duration = Duration::from_millis(5);

/// One of those who are restarted in turn.
struct Stormer {
    what: String,
    limit: Option<&'static str>,
    lane: Lane,
    samples: Vec<f64>,
}

const FORK: &str = "limit: fork on pidfd";
const EXEC: &str = "limit: fork+exec on pidfd";

/// The storms.
///
/// # Errors
/// When something does not start or does not come back.
pub fn run(stage: &Stage, report: &mut Report) -> Result<()> {
    let site = Site::start(stage.programs, stage.dir)?;
    let programs = stage.programs;
    let mut all = vec![
        bare(stage, &site, FORK, "fork")?,
        bare(stage, &site, EXEC, "exec")?,
    ];
    let ours: [(&str, &str, &Path, End, Notice); 5] = [
        (
            "C, SEGV",
            "c-segv",
            &programs.actor,
            End::Segv,
            Notice::Fault,
        ),
        (
            "C, SEGV, kernel notice",
            "c-kernel",
            &programs.actor,
            End::Segv,
            Notice::Kernel,
        ),
        (
            "C, KILL",
            "c-kill",
            &programs.actor,
            End::Kill,
            Notice::Fault,
        ),
        (
            "C, exit 1",
            "c-exit",
            &programs.actor,
            End::Exit,
            Notice::Fault,
        ),
        (
            "Rust, SEGV",
            "rust-segv",
            &programs.rust,
            End::Segv,
            Notice::Fault,
        ),
    ];
    for (gid, (what, name, program, end, notice)) in (1..).zip(ours) {
        if notice == Notice::Kernel && !site.knows_notice() {
            continue;
        }
        let mut lane = Lane::new(stage.dir, name, 1)?;
        lane.start(|lane| {
            site.arun(&Start {
                gid: Some(gid),
                name,
                notice,
                program,
                words: &lane.words(0, 0, Some(end)),
            })
        })?;
        all.push(Stormer {
            what: format!("ours: {what}, at once"),
            limit: Some(FORK),
            lane,
            samples: Vec::new(),
        });
    }
    let rounds = stage.pick(10, 3);
    let progress = Progress::new(PART, rounds);
    for _ in 0..rounds {
        for one in &mut all {
            interrupt::sleep(GAP)?;
            let samples = one.lane.storm()?;
            one.samples.extend(samples);
        }
        progress.step();
    }
    drop(progress);
    for (what, name, ..) in ours {
        if let Ok(kind) = site.start_kind(name) {
            report.fact(PART, &format!("start kind of {what} at its end"), kind);
        }
    }
    for one in all {
        report.row(PART, &one.what, one.limit, one.samples);
    }
    Ok(())
}

fn bare(stage: &Stage, site: &Site, what: &str, mode: &str) -> Result<Stormer> {
    let mut lane = Lane::new(stage.dir, mode, 1)?;
    let storm = Some(End::Segv);
    let mut all = vec![mode.to_owned(), "-1".to_owned(), "1".to_owned()];
    all.extend(lane.words(0, 0, storm));
    if mode == "exec" {
        all.extend(words(&stage.programs.actor));
        all.extend(lane.words(0, 0, storm));
    }
    let start = Start {
        gid: None,
        name: mode,
        notice: Notice::Fault,
        program: &stage.programs.limit,
        words: &all,
    };
    lane.start(|_| site.arun(&start))?;
    Ok(Stormer {
        what: what.to_owned(),
        limit: None,
        lane,
        samples: Vec::new(),
    })
}

impl Lane {
    /// Ends the life that waits, and as many more as soon as they began; the latency of each.
    fn storm(&mut self) -> Result<Vec<f64>> {
        let first = self.wanted() - 1;
        self.expect(LIVES);
        self.end(End::Segv)?;
        self.wait()?;
        let record = |life: u64| life % RECORDS;
        // The first of them met a standby.
        let latency = |life| micros(self.word(record(life), 1), self.word(record(life + 1), 0));
        Ok((first + 1..first + LIVES).map(latency).collect())
    }
}
