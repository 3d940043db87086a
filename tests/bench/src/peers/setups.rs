//! How each peer is told to run the actor: its files, in a directory of its own, and its command. Called by
//! `peers/mod.rs`. It must never write anywhere else.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::{HALF_CYCLE, LONG, SHORT};
use crate::programs::{installed, line, script};

/// The program that asks a systemd that runs to run something.
pub const SYSTEMD: &str = "systemd-run";

/// The Erlang side, compiled where it is run.
const ERLANG: &str = include_str!("../../erlang/refrain_bench.erl");
const MODULE: &str = "refrain_bench";

/// What to run, and what after it was ended.
pub struct SetUp {
    /// The supervisor.
    pub command: Command,
    /// What ends the actor, where the supervisor's own end does not.
    pub after: Option<Command>,
}

impl From<Command> for SetUp {
    fn from(command: Command) -> Self {
        Self {
            command,
            after: None,
        }
    }
}

/// A supervisor at one setting.
pub struct Peer {
    /// Its row.
    pub name: &'static str,
    /// Its program.
    pub program: &'static str,
    /// How long a life lasts.
    pub life: Duration,
    /// Whether it restarts such a life without a delay.
    pub at_once: bool,
    /// (its program, its directory, the actor's command line)
    pub set_up: Maker,
}

/// All that are run where they are installed.
pub const PEERS: &[Peer] = &[
    at_once(
        "runit, lives of 1.2 s (no delay)",
        "runsv",
        LONG,
        run_script,
    ),
    delayed("runit, lives under 1 s", "runsv", SHORT, run_script),
    at_once(
        "daemontools, lives of 1.2 s (no delay)",
        "supervise",
        LONG,
        run_script,
    ),
    delayed(
        "daemontools, lives under 1 s",
        "supervise",
        SHORT,
        run_script,
    ),
    delayed("s6, lives of 1.2 s", "s6-supervise", LONG, run_script),
    delayed("s6, lives under 1 s", "s6-supervise", SHORT, run_script),
    at_once(
        "Erlang port, no limit, lives of 20 ms",
        "erl",
        SHORT,
        erlang,
    ),
    at_once("Erlang port, no limit, lives of 1.2 s", "erl", LONG, erlang),
    delayed(
        "supervisord, startsecs=0, lives under 1 s",
        "supervisord",
        SHORT,
        |program, dir, actor| supervisord(program, dir, actor, "startsecs=0\nautorestart=true\n"),
    ),
    delayed(
        "supervisord, default, lives of 1.2 s",
        "supervisord",
        LONG,
        |program, dir, actor| supervisord(program, dir, actor, ""),
    ),
    delayed(
        "monit, cycle of 1 s, lives of 1.2 s",
        "monit",
        LONG,
        |program, dir, actor| monit(program, dir, actor, 1),
    ),
    delayed(
        "monit, default (120 s), met in its middle",
        "monit",
        HALF_CYCLE,
        |program, dir, actor| monit(program, dir, actor, 120),
    ),
    at_once(
        "systemd, RestartSec=0, lives of 20 ms",
        SYSTEMD,
        SHORT,
        |program, dir, actor| systemd(program, dir, actor, &["-p", "RestartSec=0"]),
    ),
    delayed(
        "systemd, default delay, lives of 1.2 s",
        SYSTEMD,
        LONG,
        |program, dir, actor| systemd(program, dir, actor, &[]),
    ),
];

/// What cannot be run, and why.
pub const NOT_RUN: &[(&str, &str)] = &[
    (
        "supervisord at its default, lives under 1 s",
        "not run: it waits for 1, 2, 3 s and gives up",
    ),
    (
        "Erlang at its default",
        "not run: the supervisor ends itself at the second failure within 5 s",
    ),
];

type Maker = fn(&Path, &Path, &[String]) -> Result<SetUp>;

const fn delayed(name: &'static str, program: &'static str, life: Duration, set_up: Maker) -> Peer {
    Peer {
        name,
        program,
        life,
        at_once: false,
        set_up,
    }
}

const fn at_once(name: &'static str, program: &'static str, life: Duration, set_up: Maker) -> Peer {
    let mut peer = delayed(name, program, life, set_up);
    peer.at_once = true;
    peer
}

/// runit, daemontools and s6 have the same shape: a directory with an executable `run`.
fn run_script(program: &Path, dir: &Path, actor: &[String]) -> Result<SetUp> {
    let text = format!("#!/bin/sh\nexec {}\n", line(actor)?);
    script(&dir.join("run"), &text)?;
    let mut command = Command::new(program);
    command.arg(dir);
    Ok(command.into())
}

fn supervisord(program: &Path, dir: &Path, actor: &[String], settings: &str) -> Result<SetUp> {
    let (place, actor) = (dir.display(), line(actor)?);
    let config = dir.join("supervisord.conf");
    let text = format!(
        "[supervisord]\nnodaemon=true\nuser=root\nlogfile={place}/log\npidfile={place}/pid\nchildlogdir={place}\n\
         [program:actor]\ncommand={actor}\nstdout_logfile=NONE\nstderr_logfile=NONE\n{settings}"
    );
    std::fs::write(&config, text)?;
    let mut command = Command::new(program);
    command.arg("-c").arg(config);
    Ok(command.into())
}

fn monit(program: &Path, dir: &Path, actor: &[String], cycle: u32) -> Result<SetUp> {
    let (place, actor) = (dir.display(), line(actor)?);
    let text = format!("#!/bin/sh\n{actor} &\necho $! >{place}/pid\n");
    script(&dir.join("start"), &text)?;
    let config = dir.join("monitrc");
    let text = format!(
        "set daemon {cycle}\nset pidfile {place}/monit.pid\nset idfile {place}/id\nset statefile {place}/state\n\
         set logfile {place}/log\n\
         check process actor with pidfile {place}/pid\n  start program = \"{place}/start\"\n  \
         stop program = \"/bin/true\"\n"
    );
    script(&config, &text)?;
    let mut command = Command::new(program);
    command.arg("-I").arg("-c").arg(config);
    Ok(command.into())
}

/// A supervisor of OTP with a child that runs the actor through a port.
fn erlang(program: &Path, dir: &Path, actor: &[String]) -> Result<SetUp> {
    let mut command = erlang_module(program, dir)?;
    command.arg("port").args(actor);
    Ok(command.into())
}

/// `erl` with the benchmark's module, compiled into `dir`; its function and arguments are to be added.
///
/// # Errors
/// When it does not compile.
pub fn erlang_module(program: &Path, dir: &Path) -> Result<Command> {
    let source = dir.join(MODULE).with_extension("erl");
    std::fs::write(&source, ERLANG)?;
    let compiler = installed("erlc").context("erlc is not installed")?;
    let done = Command::new(compiler)
        .arg("-o")
        .arg(dir)
        .arg(source)
        .output()?;
    let why = String::from_utf8_lossy(&done.stdout).into_owned();
    ensure!(done.status.success(), "erlc: {}", why.trim());
    let mut command = Command::new(program);
    command.args(["-noinput", "-boot", "start_clean", "-pa"]);
    command.arg(dir).args(["-run", MODULE]);
    Ok(command)
}

/// A transient unit of the systemd that runs: the user's, or for root the system's.
fn systemd(program: &Path, dir: &Path, actor: &[String], settings: &[&str]) -> Result<SetUp> {
    let lane = dir.parent().and_then(Path::file_name);
    let lane = lane.context("a lane has a name")?.to_string_lossy();
    let unit = format!("refrain-bench-{}-{lane}", std::process::id());
    let whose: &[&str] = if rustix::process::getuid().is_root() {
        &[]
    } else {
        &["--user"]
    };
    let mut command = Command::new(program);
    command.args(whose).args(["--collect", "--unit", &unit]);
    command.args(["-p", "Restart=always", "-p", "StartLimitIntervalSec=0"]);
    command.args(settings).arg("--").args(actor);
    let mut after = Command::new("systemctl");
    after.args(whose).args(["stop", &unit]);
    Ok(SetUp {
        command,
        after: Some(after),
    })
}
