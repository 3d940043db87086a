//! Sites inside other programs: the builder, the stream of events, and a program that is killed.
#![allow(clippy::unwrap_used)] // in the helpers of tests, too

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use actix::{Actor, Context, Handler, Message};
use hr_ctrl::events::{Events, Heard, SiteEvent};
use hr_ctrl::policy::PolicyParts;
use hr_ctrl::site::{ActorInfo, Site, StartSpec};
use hr_ctrl::supervise::Supervise;
use hr_ctrl::{ActorName, Gid};
use refrain_abi::tunables::Tunables;
use refrain_sys::{PidFd, Signal};
use refrain_tests::{binaries, wait};
use tempfile::TempDir;

const WATCHDOG: Duration = Duration::from_secs(60);
const GROUP: Gid = Gid(1);

/// A directory whose bank no other test has; its name is the site's, too.
fn place(test: &str) -> (TempDir, String) {
    let dir = TempDir::with_prefix_in("embed-", "/dev/shm").unwrap();
    (dir, format!("embed-{test}-{}", std::process::id()))
}

fn sleeper(name: &str) -> StartSpec {
    StartSpec {
        argv: vec!["sleep".to_owned(), "1000".to_owned()],
        env: vec![("PATH".to_owned(), std::env::var("PATH").unwrap())],
        gid: Some(GROUP),
        ..StartSpec::new(ActorName::new(name).unwrap(), "sleep")
    }
}

async fn in_life(site: &Site, name: &str, life: u32) -> ActorInfo {
    let start = Instant::now();
    loop {
        let rows = site.actors().await.unwrap();
        let is_it =
            |row: &ActorInfo| row.name == name && row.life == Some(life) && row.state == "running";
        if let Some(row) = rows.into_iter().find(is_it) {
            return row;
        }
        assert!(
            start.elapsed() < WATCHDOG,
            "life {life} of {name} never came"
        );
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

fn kill(pid: u32) {
    PidFd::open(pid).unwrap().send_signal(Signal::KILL).unwrap();
}

#[tokio::test]
async fn h9_an_embedded_site_restarts_what_fails_and_halts_without_a_trace() {
    let (dir, name) = place("halts");
    let bank = dir.path().join("bank");
    let builder = Site::builder(&name).bank(&bank).keep_on_halt(false);
    let site = builder
        .clone()
        .actor(sleeper("sleeper"))
        .start()
        .await
        .unwrap();
    let refused = builder.start().await.unwrap_err().to_string();
    assert!(refused.contains("in use"), "{refused}");
    let first = in_life(&site, "sleeper", 0).await;
    kill(first.pid.unwrap());
    let second = in_life(&site, "sleeper", 1).await;
    assert_ne!(first.pid, second.pid);
    site.restart().await.unwrap();
    let third = in_life(&site, "sleeper", 2).await;
    let pidfd = PidFd::open(third.pid.unwrap()).unwrap();
    site.halt().await.unwrap();
    assert!(pidfd.has_ended());
    assert!(!bank.exists(), "the bank is discarded");
}

/// Panics.
struct Crasher;

impl Actor for Crasher {
    type Context = Context<Self>;
}

#[derive(Message)]
#[rtype(result = "()")]
struct Crash;

impl Handler<Crash> for Crasher {
    type Result = ();
    fn handle(&mut self, _: Crash, _: &mut Context<Self>) {
        panic!("told to crash");
    }
}

/// Everything to the end of the site.
async fn all(mut events: Events) -> Vec<SiteEvent> {
    let mut all = Vec::new();
    while let Some(heard) = tokio::time::timeout(WATCHDOG, events.next()).await.unwrap() {
        match heard {
            Heard::Event(event) => all.push(event),
            Heard::Missed(count) => panic!("{count} events were missed"),
        }
    }
    all
}

/// Each life that began, by its aid: name and number, and how it ended.
fn lives(events: &[SiteEvent]) -> BTreeMap<u32, (String, u32, Option<String>)> {
    let mut lives = BTreeMap::new();
    let mut ended = BTreeMap::new();
    for event in events {
        match event {
            SiteEvent::Started {
                actor, life, aid, ..
            } => {
                let new = lives.insert(aid.0, (actor.to_string(), life.0, None));
                assert!(new.is_none(), "{event:?} for the second time");
            }
            SiteEvent::Ended {
                actor,
                life,
                aid,
                cause,
                ..
            } => {
                let end = (actor.to_string(), life.0, cause.clone());
                assert!(
                    ended.insert(aid.0, end).is_none(),
                    "{event:?} for the second time"
                );
            }
            _ => {}
        }
    }
    let of = |lives: &BTreeMap<u32, (String, u32, Option<String>)>| {
        lives
            .iter()
            .map(|(aid, life)| (*aid, life.0.clone(), life.1))
            .collect::<Vec<_>>()
    };
    assert_eq!(of(&lives), of(&ended), "every life that began has ended");
    ended
}

#[tokio::test]
async fn the_stream_of_events_tells_each_life_once_and_each_restart() {
    const ROUNDS: u32 = 20;
    let (dir, name) = place("events");
    let policy = PolicyParts {
        max_restarts: Some(1000),
        ..PolicyParts::default()
    };
    let mut tunables = Tunables::default();
    tunables.pmm.window_base += tunables.pmm.window_size;
    let site = Site::builder(&name)
        .bank(dir.path().join("bank"))
        .tunables(tunables)
        .group(GROUP, policy)
        .actor(sleeper("user"))
        .start()
        .await
        .unwrap();
    let events = tokio::spawn(all(site.events()));
    let crasher = site
        .supervise(Supervise::new("crasher", GROUP), |_| Crasher)
        .await
        .unwrap();
    for life in 0..ROUNDS {
        let user = in_life(&site, "user", life).await;
        in_life(&site, "crasher", life).await;
        if life % 2 == 0 {
            crasher.send(Crash).await.unwrap_err();
        } else {
            kill(user.pid.unwrap());
        }
    }
    in_life(&site, "user", ROUNDS).await;
    in_life(&site, "crasher", ROUNDS).await;
    site.halt().await.unwrap();
    let events = events.await.unwrap();
    let lives = lives(&events);
    assert_eq!(lives.len() as u32, 2 * (ROUNDS + 1), "{lives:?}");
    let panicked = lives.values().filter(|(_, _, cause)| {
        cause
            .as_deref()
            .is_some_and(|cause| cause.ends_with("told to crash"))
    });
    assert_eq!(panicked.count() as u32, ROUNDS / 2);
    let restarts = events.iter().filter_map(|event| match event {
        SiteEvent::GroupRestarted {
            failed,
            badness,
            latency,
            ..
        } => {
            assert!(
                latency.is_some_and(|latency| latency < WATCHDOG),
                "{event:?}"
            );
            Some((failed.to_string(), *badness))
        }
        _ => None,
    });
    let expected = (0..ROUNDS).map(|life| {
        let who = if life % 2 == 0 { "crasher" } else { "user" };
        (who.to_owned(), life + 1)
    });
    assert!(restarts.eq(expected), "{events:?}");
    assert_eq!(events.last(), Some(&SiteEvent::Halted));
}

#[tokio::test]
async fn h26_a_limit_that_is_passed_and_the_site_restart_after_it_are_told() {
    let (dir, name) = place("limit");
    let mut tunables = Tunables::default();
    tunables.pmm.window_base += 2 * tunables.pmm.window_size;
    let builder = Site::builder(&name)
        .bank(dir.path().join("bank"))
        .tunables(tunables);
    let site = builder.start().await.unwrap();
    let events = tokio::spawn(all(site.events()));
    let crasher = site
        .supervise(Supervise::new("crasher", GROUP), |_| Crasher)
        .await
        .unwrap();
    for _ in 0..6 {
        let _ = crasher.send(Crash).await;
    }
    in_life(&site, "crasher", 6).await;
    site.halt().await.unwrap();
    let events = events.await.unwrap();
    assert_eq!(lives(&events).len(), 7);
    let is_passed = |event: &&SiteEvent| matches!(event, SiteEvent::LimitPassed { badness: 6, .. });
    assert_eq!(events.iter().filter(is_passed).count(), 1, "{events:?}");
    assert!(events.contains(&SiteEvent::SiteRestarted));
    let restarts = events
        .iter()
        .filter(|e| matches!(e, SiteEvent::GroupRestarted { .. }));
    assert_eq!(restarts.count(), 5, "{events:?}");
}

/// A program that is killed at the end of a test that fails, too.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs `embed_actix`, to its end or until it asks to be killed; answers what it printed.
fn shop(bank: &Path, hangs: bool) -> Vec<String> {
    let mut command = Command::new(binaries::path("embed_actix"));
    command.arg(bank).stdout(Stdio::piped());
    let child = command.args(hangs.then_some("--hang")).spawn().unwrap();
    let mut running = Running(child);
    let out = BufReader::new(running.0.stdout.take().unwrap());
    let mut lines = Vec::new();
    for line in out.lines().map(Result::unwrap) {
        if line == "kill me" {
            kill(running.0.id());
            break;
        }
        lines.push(line);
    }
    let status = running.0.wait().unwrap();
    assert_eq!(status.success(), !hangs, "{lines:?}");
    lines
}

#[test]
fn h31_a_program_that_is_killed_finds_its_bank_and_its_actors_again() {
    let (dir, name) = place("killed");
    let bank = dir.path().join(name);
    for (run, hangs) in [(0, true), (1, true), (2, false)] {
        let lines = shop(&bank, hangs);
        let (sum, life) = (6 * (run + 1), lines[0].rsplit(' ').next().unwrap());
        // The bank may be a life or two behind where it is left by a kill.
        assert!(life.parse::<u32>().unwrap() > run, "{lines:?}");
        assert_eq!(lines[0], format!("the tally is {sum} in life {life}"));
        let tally = lines
            .iter()
            .find(|line| line.starts_with("tally (supervisor)"));
        assert!(
            tally.unwrap().ends_with("somebody paid nothing"),
            "{lines:?}"
        );
        assert!(
            lines
                .iter()
                .any(|line| line.starts_with("neighbour (user)")),
            "{lines:?}"
        );
    }
    wait::until_true("the bank is discarded", || !bank.exists());
}

/// `embed_nucleus`, whose nucleus is the process that was started.
struct Keeping {
    nucleus: Running,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

/// What a life of it tells: pid and life of the program and of each actor, and how the life before ended.
type Told = (BTreeMap<String, (u32, u32)>, String);

impl Keeping {
    fn start(bank: &Path, timeout_ms: Option<u64>) -> Self {
        let mut command = Command::new(binaries::path("embed_nucleus"));
        command.arg(bank).stdout(Stdio::piped());
        let child = command.args(timeout_ms.map(|ms| ms.to_string())).spawn();
        let mut nucleus = Running(child.unwrap());
        let lines = BufReader::new(nucleus.0.stdout.take().unwrap()).lines();
        Self { nucleus, lines }
    }

    fn told(&mut self) -> Told {
        let lines = self.lines.by_ref().map(Result::unwrap);
        let lines: Vec<_> = lines.take_while(|line| line != "all told").collect();
        let mut before = String::new();
        let rows = lines.iter().map(|line| {
            let (name, rest) = line.split_once(": pid ").unwrap();
            let (pid, life) = rest.split_once(", life ").unwrap();
            let (life, end) = life.split_once(", after ").unwrap_or((life, ""));
            if name == "program" {
                before = end.to_owned();
            }
            (
                name.to_owned(),
                (pid.parse().unwrap(), life.parse().unwrap()),
            )
        });
        (rows.collect(), before)
    }

    /// Ends it as an operator does; nothing is left.
    fn ends(mut self, last: &BTreeMap<String, (u32, u32)>, bank: &Path) {
        let pids = last.values().map(|(pid, _)| *pid).filter(|pid| *pid > 0);
        let all: Vec<_> = pids.map(|pid| PidFd::open(pid).unwrap()).collect();
        let nucleus = PidFd::open(self.nucleus.0.id()).unwrap();
        nucleus.send_signal(Signal::TERM).unwrap();
        assert!(self.nucleus.0.wait().unwrap().success());
        assert!(all.iter().all(PidFd::has_ended));
        assert!(!bank.exists());
    }
}

#[test]
fn h31_below_a_nucleus_the_actors_of_a_program_that_is_killed_run_on() {
    let (dir, name) = place("nucleus");
    let bank = dir.path().join(name);
    let mut site = Keeping::start(&bank, None);
    let (first, before) = site.told();
    assert_eq!((first["program"].1, &*before), (0, "nothing"));
    assert_eq!(first.len(), 4, "{first:?}");
    let mut last = first.clone();
    for life in 1..4 {
        kill(last["program"].0);
        let (now, before) = site.told();
        assert_eq!((now["program"].1, &*before), (life, "SIGKILL"));
        assert_ne!(now["program"].0, last["program"].0);
        // Its own group: nothing has happened.
        assert_eq!(now["lighthouse"], first["lighthouse"]);
        // A member has failed with the program.
        assert_eq!((now["keeper"].1, now["log"].1), (life, life), "{now:?}");
        assert_ne!(now["keeper"].0, last["keeper"].0);
        last = now;
    }
    site.ends(&last, &bank);
}

#[test]
fn h31_below_a_nucleus_a_program_that_does_not_answer_is_started_again() {
    let (dir, name) = place("hangs");
    let bank = dir.path().join(name);
    let mut site = Keeping::start(&bank, Some(2000));
    let (first, _) = site.told();
    let program = PidFd::open(first["program"].0).unwrap();
    program.send_signal(Signal::STOP).unwrap();
    let (now, before) = site.told();
    assert_eq!((now["program"].1, &*before), (1, "it did not answer"));
    assert_eq!(now["lighthouse"], first["lighthouse"]);
    site.ends(&now, &bank);
}

#[test]
fn h31_a_second_program_below_a_nucleus_of_this_name_is_refused() {
    let (dir, name) = place("second");
    let bank = dir.path().join(name);
    let mut site = Keeping::start(&bank, None);
    let (first, _) = site.told();
    let again = Command::new(binaries::path("embed_nucleus"))
        .arg(&bank)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&again.stderr).into_owned();
    assert!(
        !again.status.success() && said.contains("is already running"),
        "{said}"
    );
    site.ends(&first, &bank);
}

#[test]
fn the_sample_on_plain_tokio_hears_of_every_life() {
    let (dir, name) = place("tokio");
    let mut command = Command::new(binaries::path("embed_tokio"));
    let out = command.arg(dir.path().join(name)).output().unwrap();
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(
        out.status.success(),
        "{text}{}",
        String::from_utf8_lossy(&out.stderr)
    );
    for life in 0..3 {
        let said = format!("flaky begins life {life}, the {}. that was seen", life + 1);
        assert!(text.contains(&said), "{text}");
        assert!(
            text.contains(&format!("flaky has ended life {life}: exit 3")),
            "{text}"
        );
        assert!(text.contains(&format!("this is life {life}")), "{text}");
    }
    assert!(text.contains("group 1 was restarted, badness 2"), "{text}");
    assert!(
        text.contains("group 1 is given up: past its limit"),
        "{text}"
    );
}
