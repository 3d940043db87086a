//! `restart`: one actor, from the end of a life to the first line of the next `main`, for each way to
//! end and each way to start; back to back, and cold.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;

use crate::heat::{self, Bare, Contestant, Pace, Stage};
use crate::interrupt;
use crate::lane::{End, Lane, micros};
use crate::report::Report;
use crate::site::Site;

const HOT: &str = "restart, back to back";
const COLD: &str = "restart, cold";
const STORM: &str = "restart, crash storm";

/// Between two crashes of one: long enough for the next standby, short enough for warm caches.
const HOT_GAP: Duration = Duration::from_millis(1);
/// What a user sees.
const COLD_GAP: Duration = Duration::from_millis(200);
/// Lives of one storm.
const STORM_LIVES: u64 = 50;

/// Sets up the contestants of a heat.
type Heat = fn(&Stage, &Site) -> Result<Vec<Contestant>>;

/// The part.
///
/// # Errors
/// When something does not start or does not come back.
pub fn run(stage: &Stage, report: &mut Report) -> Result<()> {
    let hot = Pace {
        rounds: stage.pick(200, 15),
        burst: 4,
        gap: HOT_GAP,
    };
    let slow = Pace {
        rounds: stage.pick(60, 6),
        burst: 2,
        gap: HOT_GAP,
    };
    let cold = Pace::single(stage.pick(25, 3), COLD_GAP);
    let heats: [(Heat, Pace); 3] = [(faults, hot), (kills_and_exits, hot), (pythons, slow)];
    for (heat, pace) in heats {
        for (part, pace) in [(HOT, pace), (COLD, cold)] {
            eprintln!("{part}: {} rounds", pace.rounds);
            // A site for each heat: an actor that was measured does not stand about for the next.
            let site = Site::start(stage.programs, stage.dir)?;
            let contestants = heat(stage, &site)?;
            heat::run((part, &mut *report), &site, contestants, pace)?;
        }
    }
    storm(stage, report)
}

fn words(path: &Path) -> Vec<String> {
    vec![path.display().to_string()]
}

/// A fault in the life, under every mechanism.
fn faults(stage: &Stage, site: &Site) -> Result<Vec<Contestant>> {
    let programs = stage.programs;
    let bare = |what: &str, mode: &str, one_cpu| {
        let program = words(&programs.actor);
        let bare = Bare {
            mode,
            one_cpu,
            program,
            ..Bare::default()
        };
        Contestant::bare(stage, site, what, End::Segv, &bare)
    };
    let ours = |what: &str, program: &Path| {
        Contestant::ours(stage, site, what, End::Segv, 0, (program, &[]))
    };
    let pidfd = "limit: standby woken on pidfd, SEGV";
    let mut all = vec![
        bare("limit: fault handler wakes standby", "handler", false)?,
        bare("limit: the same on one CPU", "handler", true)?,
        bare(pidfd, "pidfd", false)?,
        bare("limit: standby on pidfd, one CPU, SEGV", "pidfd", true)?,
        bare("limit: fork on pidfd, SEGV", "fork", false)?,
        bare("limit: fork+exec on pidfd, SEGV", "exec", false)?,
        ours("ours: C, SEGV, standby", &programs.actor)?.against(pidfd),
        ours("ours: Rust, SEGV, standby", &programs.rust)?.against(pidfd),
    ];
    if let Some(program) = &programs.actor_static {
        let program = words(program);
        let bare = Bare {
            mode: "exec",
            program,
            ..Bare::default()
        };
        let what = "limit: fork+exec, static C, SEGV";
        all.push(Contestant::bare(stage, site, what, End::Segv, &bare)?);
    }
    if let Some(program) = &programs.actor_static {
        all.push(
            ours("ours: static C, SEGV, exec", program)?
                .against("limit: fork+exec, static C, SEGV"),
        );
    }
    Ok(all)
}

/// SIGKILL from outside, and an exit.
fn kills_and_exits(stage: &Stage, site: &Site) -> Result<Vec<Contestant>> {
    let mut all = Vec::new();
    for (end, name) in [(End::Kill, "KILL"), (End::Exit, "exit 1")] {
        let limit = format!("limit: standby woken on pidfd, {name}");
        let bare = Bare {
            mode: "pidfd",
            ..Bare::default()
        };
        all.push(Contestant::bare(stage, site, &limit, end, &bare)?);
        for (language, program) in [("C", &stage.programs.actor), ("Rust", &stage.programs.rust)] {
            let what = match (end, language) {
                (End::Exit, "Rust") => "ours: Rust, panic, standby".to_owned(),
                _ => format!("ours: {language}, {name}, standby"),
            };
            let ours = Contestant::ours(stage, site, &what, end, 0, (program, &[]))?;
            all.push(ours.against(&limit));
        }
    }
    Ok(all)
}

/// A script: the interpreter starts up in each life, after its `main` and before the first line.
fn pythons(stage: &Stage, site: &Site) -> Result<Vec<Contestant>> {
    let Some((interpreter, script)) = &stage.programs.python else {
        return Ok(Vec::new());
    };
    let limit = "limit: fork+exec, Python, SEGV";
    let program = [words(interpreter), words(script)].concat();
    let bare = Bare {
        mode: "exec",
        program,
        ..Bare::default()
    };
    let mut all = vec![Contestant::bare(stage, site, limit, End::Segv, &bare)?];
    for (end, name) in [
        (End::Segv, "SEGV"),
        (End::Kill, "KILL"),
        (End::Exit, "exit 1"),
    ] {
        let what = format!("ours: Python, {name}, standby");
        let before = words(script);
        let ours = Contestant::ours(stage, site, &what, end, 0, (interpreter, &before))?;
        all.push(ours.against(limit));
    }
    Ok(all)
}

/// Every life faults as soon as it began, so that no standby is ready: the start is a fork.
fn storm(stage: &Stage, report: &mut Report) -> Result<()> {
    let rounds = stage.pick(10, 3);
    eprintln!("{STORM}: {rounds} rounds of {STORM_LIVES} lives");
    let site = Site::start(stage.programs, stage.dir)?;
    let limit = "limit: fork on pidfd";
    let mut lanes = Vec::new();
    for (what, mode) in [(limit, "fork"), ("limit: fork+exec on pidfd", "exec")] {
        let mut lane = Lane::new(stage.dir, mode, 1)?;
        let mut all = vec![mode.to_owned(), "-1".to_owned(), "1".to_owned()];
        all.extend(lane.words(0, 0, true));
        if mode == "exec" {
            all.extend(words(&stage.programs.actor));
            all.extend(lane.words(0, 0, true));
        }
        lane.start(|_| site.arun(None, mode, &stage.programs.limit, &all))?;
        lanes.push((what, None, lane, Vec::new()));
    }
    let mut lane = Lane::new(stage.dir, "storm", 1)?;
    lane.start(|lane| {
        site.arun(
            Some(1),
            "storm",
            &stage.programs.actor,
            &lane.words(0, 0, true),
        )
    })?;
    lanes.push(("ours: C, SEGV at once", Some(limit), lane, Vec::new()));
    for _ in 0..rounds {
        for (_, _, lane, samples) in &mut lanes {
            interrupt::sleep(Duration::from_millis(5))?;
            samples.extend(lane.storm(STORM_LIVES)?);
        }
    }
    report.fact(
        STORM,
        "start kind of ours at its end",
        site.start_kind("storm")?,
    );
    for (what, limit, _, samples) in lanes {
        report.row(STORM, what, limit, samples);
    }
    Ok(())
}

impl Lane {
    /// Ends the life that waits, and as many more as soon as they began; the latency of each.
    fn storm(&mut self, lives: u64) -> Result<Vec<f64>> {
        let first = self.wanted() - 1;
        self.expect(lives);
        self.end(End::Segv)?;
        self.wait()?;
        let record = |life: u64| life % crate::lane::RECORDS;
        // The first of them met a standby.
        let latency = |life| micros(self.word(record(life), 1), self.word(record(life + 1), 0));
        Ok((first + 1..first + lives).map(latency).collect())
    }
}
