//! `peers`: the same crashing program under other supervisors, each at its shortest delay and at its
//! default. Those that wait before they restart run first, all at the same time, each with a thread that
//! crashes its actor and waits. Then, with nobody else about, those that do not wait are crashed in turn with
//! ours, at the same length of life. How they are set up is in `setups.rs`; actors without a process of
//! their own are in the part `supervise`.
//!
//! What is not installed is skipped, and said so. Nothing outside a temporary directory is touched.

pub mod setups;

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::heat::{Contestant, Ours, Stage};
use crate::interrupt;
use crate::lane::{End, Lane};
use crate::programs::installed;
use crate::progress::Progress;
use crate::report::Report;
use crate::restart::Notice;
use crate::site::Site;
use setups::{PEERS, Peer};

/// The part's name.
pub const PART: &str = "peers";
/// A life that a supervisor takes for healthy: runit, daemontools, s6 and supervisord look at a second.
const LONG: Duration = Duration::from_millis(1_200);
/// One that it takes for a crash at the start.
const SHORT: Duration = Duration::from_millis(20);
/// Half of the cycle of a monit that nobody has configured: it is met there on average.
const HALF_CYCLE: Duration = Duration::from_secs(60);
/// Longer than the slowest of them takes.
const WATCHDOG: Duration = Duration::from_secs(200);

/// The row of ours whose lives last as long.
fn ours(life: Duration) -> &'static str {
    if life == SHORT {
        "ours: C, SEGV, lives of 20 ms"
    } else {
        "ours: C, SEGV, lives of 1.2 s"
    }
}

/// Between two crashes of a turn, where lives are long.
const GAP: Duration = Duration::from_millis(20);

/// A supervisor that is running, ended when it is dropped; what it started is swept by `main.rs`.
struct Running {
    child: Child,
    /// What ends what it started, where it does not belong to it.
    after: Option<Command>,
}

impl Drop for Running {
    fn drop(&mut self) {
        // All fail only when it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(after) = &mut self.after {
            let _ = after.output();
        }
    }
}

/// Who is crashed, after how long a life, and how often.
struct Turn {
    contestant: Contestant,
    life: Duration,
    rounds: u32,
}

/// The part.
///
/// # Errors
/// When something does not start or does not come back.
pub fn run(stage: &Stage, report: &mut Report) -> Result<()> {
    let mut there = Vec::new();
    for peer in PEERS {
        match missing(stage, peer) {
            None => there.push(peer),
            Some(why) => {
                eprintln!("skipped: {}: {why}", peer.name);
                report.fact(PART, peer.name, format!("skipped: {why}"));
            }
        }
    }
    for (what, why) in setups::NOT_RUN {
        report.fact(PART, what, *why);
    }
    let (at_once, delayed): (Vec<&Peer>, Vec<&Peer>) =
        there.into_iter().partition(|peer| peer.at_once);
    let slow = wait_for(stage, &delayed)?;
    for life in [LONG, SHORT] {
        let all: Vec<&Peer> = at_once
            .iter()
            .copied()
            .filter(|peer| peer.life == life)
            .collect();
        for contestant in beside_ours(stage, &all, life)? {
            contestant.tell(PART, report);
        }
    }
    for turn in slow {
        turn.contestant.tell(PART, report);
    }
    Ok(())
}

/// Those that wait.
fn wait_for(stage: &Stage, peers: &[&Peer]) -> Result<Vec<Turn>> {
    let mut running = Vec::new();
    let mut turns = Vec::new();
    for peer in peers {
        let (contestant, child) = start(stage, peer).with_context(|| peer.name.to_owned())?;
        running.push(child);
        turns.push(Turn {
            contestant: contestant.against(ours(peer.life)),
            life: peer.life,
            rounds: if peer.life > LONG {
                1
            } else {
                stage.pick(15, 3)
            },
        });
    }
    crash(&mut turns)?;
    Ok(turns)
}

/// Those that do not, in turn with ours.
fn beside_ours(stage: &Stage, peers: &[&Peer], life: Duration) -> Result<Vec<Contestant>> {
    let site = Site::start(stage.programs, stage.dir)?;
    let set_up = Ours {
        notice: Notice::Fault,
        ..Ours::new(&stage.programs.actor, End::Segv)
    };
    let mut all = vec![Contestant::ours(stage, &site, ours(life), &set_up)?];
    let mut running = Vec::new();
    for peer in peers {
        let (contestant, child) = start(stage, peer).with_context(|| peer.name.to_owned())?;
        running.push(child);
        all.push(contestant.against(ours(life)));
    }
    let (rounds, quiet, gap) = if life == SHORT {
        (stage.pick(200_u32, 10), Duration::ZERO, SHORT)
    } else {
        (stage.pick(25, 3), LONG, GAP)
    };
    let progress = Progress::new(&format!("{PART}, {}", ours(life)), u64::from(rounds));
    for _ in 0..rounds {
        interrupt::sleep(quiet)?;
        for contestant in &mut all {
            interrupt::sleep(gap)?;
            contestant.restart()?;
        }
        progress.step();
    }
    Ok(all)
}

/// Why a peer cannot be run, if it cannot.
fn missing(stage: &Stage, peer: &Peer) -> Option<String> {
    if stage.quick && peer.life > LONG {
        return Some("it takes a minute".to_owned());
    }
    if peer.program == setups::SYSTEMD && !Path::new("/run/systemd/system").exists() {
        return Some("systemd does not run here".to_owned());
    }
    let none = installed(peer.program).is_none();
    none.then(|| format!("{} is not installed", peer.program))
}

/// Each in a thread of its own, for most of them wait for a second each time.
fn crash(turns: &mut [Turn]) -> Result<()> {
    let steps = turns.iter().map(|turn| u64::from(turn.rounds)).sum();
    let label = format!("{PART} that wait");
    let progress = &Progress::new(&label, steps);
    thread::scope(|scope| {
        let threads: Vec<_> = turns
            .iter_mut()
            .map(|turn| {
                scope.spawn(move || -> Result<()> {
                    for _ in 0..turn.rounds {
                        interrupt::sleep(turn.life)?;
                        turn.contestant.restart()?;
                        progress.step();
                    }
                    Ok(())
                })
            })
            .collect();
        let mut ends = threads.into_iter().map(|thread| thread.join());
        ends.try_for_each(|end| end.unwrap_or_else(|_| Err(anyhow::anyhow!("a thread panicked"))))
    })
}

fn start(stage: &Stage, peer: &Peer) -> Result<(Contestant, Running)> {
    let program = installed(peer.program).context("it was installed a moment ago")?;
    let mut lane = Lane::new(stage.dir, "peer", 1)?;
    let child = lane.start(|lane| {
        let dir = lane.dir().join("supervised");
        std::fs::create_dir(&dir)?;
        let mut words = vec![stage.programs.actor.display().to_string()];
        words.extend(lane.words(0, 0, None));
        let mut set_up = (peer.set_up)(&program, &dir, &words)?;
        let null = Stdio::null;
        let command = set_up.command.stdin(null()).stdout(null()).stderr(null());
        let child = command.current_dir(&dir).spawn();
        Ok(Running {
            child: child.with_context(|| format!("cannot run {}", program.display()))?,
            after: set_up.after,
        })
    })?;
    let contestant = Contestant::new(peer.name, End::Segv, lane, None);
    Ok((contestant.patient(WATCHDOG), child))
}
