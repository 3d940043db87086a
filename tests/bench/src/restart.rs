//! `restart`: one actor, from the end of a life to the first line of the next `main`, for each way to
//! end, each way to notice it and each way to start; back to back, and cold. Storms are in `storm.rs`.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;

use crate::heat::{self, Bare, Contestant, Ours, Pace, Stage};
use crate::lane::End;
use crate::report::Report;
use crate::site::Site;
use crate::storm;

/// Where caches are warm.
pub const HOT: &str = "restart, back to back";
/// One restart after some quiet.
pub const COLD: &str = "restart, cold";

/// Between two crashes of one: long enough for the next standby, short enough for warm caches.
const HOT_GAP: Duration = Duration::from_millis(1);
/// What a user sees.
const COLD_GAP: Duration = Duration::from_millis(200);

/// The bare mechanisms that ours are compared with.
const HANDLER: &str = "limit: fault handler wakes standby";
const PYTHON: &str = "limit: fork+exec, Python, SEGV";
const HEAVY: &str = "limit: fork+exec, Python with imports, SEGV";

/// How the site learns that a life is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// From the life's own fault handler where the end has one, else from the kernel: the default.
    Fault,
    /// From the kernel alone.
    Kernel,
}

/// The name of a row of ours that starts from a standby.
pub fn ours(language: &str, end: &str, notice: Notice) -> String {
    match (end, notice) {
        // Only a fault has both.
        ("SEGV", Notice::Fault) => format!("ours: {language}, SEGV, fault notice, standby"),
        ("SEGV", Notice::Kernel) => format!("ours: {language}, SEGV, kernel notice, standby"),
        _ => format!("ours: {language}, {end}, standby"),
    }
}

fn on_pidfd(end: &str) -> String {
    format!("limit: standby woken on pidfd, {end}")
}

fn by_exec(end: &str) -> String {
    format!("limit: fork+exec, static C, {end}")
}

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
    let cold = Pace::single(stage.pick(100, 5), COLD_GAP);
    let slow_cold = Pace::single(stage.pick(25, 3), COLD_GAP);
    let heats: [(Heat, &str, Pace, Pace); 4] = [
        (faults, "faults", hot, cold),
        (kills_and_exits, "kills and exits", hot, cold),
        (execs, "exec", hot, slow_cold),
        (pythons, "Python", slow, slow_cold),
    ];
    for (heat, name, hot, cold) in heats {
        for (part, pace) in [(HOT, hot), (COLD, cold)] {
            // A site for each heat: an actor that was measured does not stand about for the next.
            let site = Site::start(stage.programs, stage.dir)?;
            let contestants = heat(stage, &site)?;
            let label = format!("{part}, {name}");
            heat::run((part, &label, &mut *report), &site, contestants, pace)?;
        }
    }
    storm::run(stage, report)
}

pub(crate) fn words(path: &Path) -> Vec<String> {
    vec![path.display().to_string()]
}

/// A fault in the life, under every mechanism. Without the flag of `arun` rows are missing: `heat.rs`
/// says so.
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
    let pidfd = on_pidfd("SEGV");
    let mut all = vec![
        bare(HANDLER, "handler", false)?,
        bare("limit: the same on one CPU", "handler", true)?,
        bare(&pidfd, "pidfd", false)?,
        bare(
            "limit: standby on pidfd, with a keeper, SEGV",
            "keeper",
            false,
        )?,
        bare("limit: standby on pidfd, one CPU, SEGV", "pidfd", true)?,
        bare("limit: fork on pidfd, SEGV", "fork", false)?,
        bare("limit: fork+exec on pidfd, SEGV", "exec", false)?,
    ];
    for (language, program) in [("C", &programs.actor), ("Rust", &programs.rust)] {
        for (notice, limit) in [(Notice::Fault, HANDLER), (Notice::Kernel, &*pidfd)] {
            if notice == Notice::Fault && !site.knows_notice() {
                continue;
            }
            let set_up = Ours {
                notice,
                ..Ours::new(program, End::Segv)
            };
            let what = ours(language, "SEGV", notice);
            all.push(Contestant::ours(stage, site, &what, &set_up)?.against(limit));
        }
    }
    Ok(all)
}

/// SIGKILL from outside, and an exit.
fn kills_and_exits(stage: &Stage, site: &Site) -> Result<Vec<Contestant>> {
    let mut all = Vec::new();
    for (end, name) in [(End::Kill, "KILL"), (End::Exit, "exit 1")] {
        let limit = on_pidfd(name);
        let bare = Bare {
            mode: "pidfd",
            ..Bare::default()
        };
        all.push(Contestant::bare(stage, site, &limit, end, &bare)?);
        for (language, program) in [("C", &stage.programs.actor), ("Rust", &stage.programs.rust)] {
            let name = if (end, language) == (End::Exit, "Rust") {
                "panic"
            } else {
                name
            };
            let what = ours(language, name, Notice::Kernel);
            let set_up = Ours::new(program, end);
            all.push(Contestant::ours(stage, site, &what, &set_up)?.against(&limit));
        }
    }
    Ok(all)
}

/// A static program: its lives start by exec of the image.
fn execs(stage: &Stage, site: &Site) -> Result<Vec<Contestant>> {
    let mut all = Vec::new();
    let Some(program) = &stage.programs.actor_static else {
        return Ok(all);
    };
    for (end, name) in [
        (End::Segv, "SEGV"),
        (End::Kill, "KILL"),
        (End::Exit, "exit 1"),
    ] {
        let limit = by_exec(name);
        let bare = Bare {
            mode: "exec",
            program: words(program),
            ..Bare::default()
        };
        all.push(Contestant::bare(stage, site, &limit, end, &bare)?);
        let what = format!("ours: static C, {name}, exec");
        let set_up = Ours::new(program, end);
        all.push(Contestant::ours(stage, site, &what, &set_up)?.against(&limit));
    }
    Ok(all)
}

/// Scripts: the interpreter starts up in each life, after its `main` and before the first line, unless the
/// script takes its image after its imports.
fn pythons(stage: &Stage, site: &Site) -> Result<Vec<Contestant>> {
    let Some((interpreter, script)) = &stage.programs.python else {
        return Ok(Vec::new());
    };
    let program = [words(interpreter), words(script)].concat();
    let bare = Bare {
        mode: "exec",
        program,
        ..Bare::default()
    };
    let mut all = vec![Contestant::bare(stage, site, PYTHON, End::Segv, &bare)?];
    let table = [
        (script, End::Segv, "SEGV", Notice::Fault),
        (script, End::Segv, "SEGV", Notice::Kernel),
        (script, End::Kill, "KILL", Notice::Kernel),
        (script, End::Exit, "exit 1", Notice::Kernel),
    ];
    for (script, end, name, notice) in table {
        if notice == Notice::Fault && !site.knows_notice() {
            continue;
        }
        let set_up = Ours {
            before: words(script),
            notice,
            ..Ours::new(interpreter, end)
        };
        let what = ours("Python", name, notice);
        all.push(Contestant::ours(stage, site, &what, &set_up)?.against(PYTHON));
    }
    let heavy = script.with_file_name("heavy.py");
    let bare = Bare {
        mode: "exec",
        program: [words(interpreter), words(&heavy)].concat(),
        ..Bare::default()
    };
    all.push(Contestant::bare(stage, site, HEAVY, End::Segv, &bare)?);
    let warm = stage
        .programs
        .warm
        .then(|| script.with_file_name("warm.py"));
    let scripts = [(Some(heavy), "imports"), (warm, "imports, warm image")];
    for (script, what) in scripts {
        let Some(script) = script else { continue };
        let set_up = Ours {
            before: words(&script),
            ..Ours::new(interpreter, End::Segv)
        };
        let what = format!("ours: Python with {what}, SEGV");
        all.push(Contestant::ours(stage, site, &what, &set_up)?.against(HEAVY));
    }
    Ok(all)
}
