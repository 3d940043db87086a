//! `peers`: the same crashing program under other supervisors, each at its shortest delay and at its
//! default, beside ours; all in one run, each with a thread that crashes its actor and waits.
//!
//! What is not installed is skipped, and said so. Nothing outside a temporary directory is touched.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::heat::{Contestant, Stage};
use crate::interrupt;
use crate::lane::{End, Lane};
use crate::programs::{installed, line, script};
use crate::report::Report;
use crate::site::Site;

const PART: &str = "peers";
/// A life that a supervisor takes for healthy: runit, daemontools, s6 and supervisord look at a second.
const LONG: Duration = Duration::from_millis(1_200);
/// One that it takes for a crash at the start.
const SHORT: Duration = Duration::from_millis(20);
const OURS: &str = "ours: C, SEGV, lives of 1.2 s";

/// A supervisor that is running, ended when it is dropped; what it started is swept by `main.rs`.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only when it has ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Makes a supervisor's files in a directory, for an actor's command line; answers its command.
type SetUp = fn(&Path, &Path, &str) -> Result<Command>;

/// (name and setting, its program, how long a life lasts, how it is set up)
const PEERS: &[(&str, &str, Duration, SetUp)] = &[
    (
        "runit, lives of 1.2 s (no delay)",
        "runsv",
        LONG,
        run_script,
    ),
    ("runit, lives under 1 s", "runsv", SHORT, run_script),
    (
        "daemontools, lives of 1.2 s (no delay)",
        "supervise",
        LONG,
        run_script,
    ),
    (
        "daemontools, lives under 1 s",
        "supervise",
        SHORT,
        run_script,
    ),
    ("s6, lives of 1.2 s", "s6-supervise", LONG, run_script),
    ("s6, lives under 1 s", "s6-supervise", SHORT, run_script),
    (
        "supervisord, startsecs=0, lives under 1 s",
        "supervisord",
        SHORT,
        supervisord_at_once,
    ),
    (
        "supervisord, default, lives of 1.2 s",
        "supervisord",
        LONG,
        supervisord_default,
    ),
    ("monit, cycle of 1 s, lives of 1.2 s", "monit", LONG, monit),
];

/// The part.
///
/// # Errors
/// When something does not start or does not come back.
pub fn run(stage: &Stage, report: &mut Report) -> Result<()> {
    let rounds = stage.pick(15, 3);
    eprintln!("{PART}: {rounds} rounds");
    let site = Site::start(stage.programs, stage.dir)?;
    let ours = |what: &str| {
        let program = (stage.programs.actor.as_path(), &[][..]);
        Contestant::ours(stage, &site, what, End::Segv, 0, program)
    };
    let mut contestants = vec![
        (ours(OURS)?, LONG),
        (ours("ours: C, SEGV, lives of 20 ms")?.against(OURS), SHORT),
    ];
    let mut running = Vec::new();
    for (name, program, life, set_up) in PEERS {
        let Some(program) = installed(program) else {
            eprintln!("skipped: {name}: {program} is not installed");
            report.fact(PART, name, format!("skipped: {program} is not installed"));
            continue;
        };
        let (contestant, child) = start(stage, name, &program, *set_up)?;
        contestants.push((contestant.against(OURS), *life));
        running.push(child);
    }
    report.fact(
        PART,
        "monit at its default (Debian: a cycle of 120 s)",
        "not run: 60 s on average".into(),
    );
    if !Path::new("/run/systemd/system").exists() {
        report.fact(PART, "systemd", "skipped: it does not run here".into());
    }
    crash(&mut contestants, rounds)?;
    for (contestant, _) in contestants {
        contestant.tell(PART, report);
    }
    Ok(())
}

/// Each in a thread of its own, for most of them wait for a second each time.
fn crash(contestants: &mut [(Contestant, Duration)], rounds: u32) -> Result<()> {
    thread::scope(|scope| {
        let threads: Vec<_> = contestants
            .iter_mut()
            .map(|(contestant, life)| {
                scope.spawn(move || -> Result<()> {
                    for _ in 0..rounds {
                        interrupt::sleep(*life)?;
                        contestant.restart()?;
                    }
                    Ok(())
                })
            })
            .collect();
        let mut ends = threads.into_iter().map(|thread| thread.join());
        ends.try_for_each(|end| end.unwrap_or_else(|_| Err(anyhow::anyhow!("a thread panicked"))))
    })
}

fn start(
    stage: &Stage,
    name: &str,
    program: &Path,
    set_up: SetUp,
) -> Result<(Contestant, Running)> {
    let mut lane = Lane::new(stage.dir, "peer", 1)?;
    let child = lane.start(|lane| {
        let dir = lane.dir().join("supervised");
        std::fs::create_dir(&dir)?;
        let mut words = vec![stage.programs.actor.display().to_string()];
        words.extend(lane.words(0, 0, false));
        let mut command = set_up(program, &dir, &line(words)?)?;
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let child = command.current_dir(&dir).spawn();
        Ok(Running(child.with_context(|| {
            format!("cannot run {}", program.display())
        })?))
    });
    let child = child.with_context(|| name.to_owned())?;
    Ok((Contestant::new(name, End::Segv, lane, None), child))
}

/// runit, daemontools and s6 have the same shape: a directory with an executable `run`.
fn run_script(program: &Path, dir: &Path, actor: &str) -> Result<Command> {
    script(&dir.join("run"), &format!("#!/bin/sh\nexec {actor}\n"))?;
    let mut command = Command::new(program);
    command.arg(dir);
    Ok(command)
}

fn supervisord_at_once(program: &Path, dir: &Path, actor: &str) -> Result<Command> {
    supervisord(program, dir, actor, "startsecs=0\nautorestart=true\n")
}

fn supervisord_default(program: &Path, dir: &Path, actor: &str) -> Result<Command> {
    supervisord(program, dir, actor, "")
}

fn supervisord(program: &Path, dir: &Path, actor: &str, settings: &str) -> Result<Command> {
    let place = dir.display();
    let config = dir.join("supervisord.conf");
    let text = format!(
        "[supervisord]\nnodaemon=true\nuser=root\nlogfile={place}/log\npidfile={place}/pid\nchildlogdir={place}\n\
         [program:actor]\ncommand={actor}\nstdout_logfile=NONE\nstderr_logfile=NONE\n{settings}"
    );
    std::fs::write(&config, text)?;
    let mut command = Command::new(program);
    command.arg("-c").arg(config);
    Ok(command)
}

fn monit(program: &Path, dir: &Path, actor: &str) -> Result<Command> {
    let place = dir.display();
    script(
        &dir.join("start"),
        &format!("#!/bin/sh\n{actor} &\necho $! >{place}/pid\n"),
    )?;
    let config = dir.join("monitrc");
    let text = format!(
        "set daemon 1\nset pidfile {place}/monit.pid\nset idfile {place}/id\nset statefile {place}/state\n\
         set logfile {place}/log\n\
         check process actor with pidfile {place}/pid\n  start program = \"{place}/start\"\n  \
         stop program = \"/bin/true\"\n"
    );
    script(&config, &text)?;
    let mut command = Command::new(program);
    command.arg("-I").arg("-c").arg(config);
    Ok(command)
}
