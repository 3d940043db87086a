//! The sample that people are to believe: `samples/kv_server` under the load of redis-benchmark, killed again and
//! again, with clients that remember what they were told (SPEC H32). `REFRAIN_KV_CRASHES` says how often, 60 if
//! unset; `SEED` which moments.
#![allow(clippy::unwrap_used)] // in the helpers of tests, too

use std::io;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use refrain_tests::programs::{free_port, installed};
use refrain_tests::resp::{Answer, Client};
use refrain_tests::{Options, Site, binaries, proc, run, wait};
use rustix::process::Signal;

use checker::{Checker, Dice, bytes_of};

mod checker;
mod like_redis;

const CRASHES: u64 = 60;
/// Clients that check, each with keys of its own.
const CHECKERS: u64 = 2;

fn start(site: &Site) -> u16 {
    let port = free_port();
    let program = binaries::path("kv_server").display().to_string();
    site.arun([
        "-g",
        "1",
        "-n",
        "kv",
        &program,
        "--port",
        &port.to_string(),
        "--size",
        "32MiB",
    ]);
    connect(port);
    port
}

/// A connection that is answered, however long the server is away.
fn connect(port: u16) -> Client {
    wait::soon("the server to answer", || {
        let mut client = Client::connect(port).ok()?;
        let pong = client.ask(&["PING"]).ok()?;
        assert_eq!(pong, Answer::Word("PONG".to_owned()));
        Some(client)
    })
}

fn ok() -> Answer {
    Answer::Word("OK".to_owned())
}

/// Who answers: the life's number, and its pid.
fn life(client: &mut Client) -> io::Result<(u64, u32)> {
    let Some(info) = bytes_of(client.ask(&["INFO"])?) else {
        panic!("INFO says nothing");
    };
    let info = String::from_utf8(info).unwrap();
    let field = |name: &str| -> u64 {
        let line = info
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.unwrap_or_else(|| panic!("no {name} in {info}"))
            .parse()
            .unwrap()
    };
    Ok((field("life"), u32::try_from(field("process_id")).unwrap()))
}

/// Kills the server that `client` is connected to, and comes back with the next life.
fn crash(port: u16, client: &mut Client, signal: Signal) {
    let (old, pid) = life(client).unwrap();
    let server = proc::stat(pid).unwrap().id;
    wait::soon("the next life", || {
        // A SEGV that was no fault is let pass by the handler of Rust's library, once.
        proc::signal_if_there(server, signal);
        *client = connect(port);
        life(client).ok().filter(|(life, _)| *life > old)
    });
}

/// Runs redis-benchmark again and again: it gives up when the server crashes. Answers how often.
fn load(benchmark: &Path, port: u16, stop: &AtomicBool) -> u64 {
    let mut rounds = 0;
    while !stop.load(Ordering::Relaxed) {
        let mut command = Command::new(benchmark);
        command.args([
            "-p",
            &port.to_string(),
            "-q",
            "-n",
            "20000",
            "-c",
            "8",
            "-r",
            "1000",
            "-P",
            "4",
        ]);
        command
            .args(["-t", "set,get,incr,mset"])
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        while child.try_wait().unwrap().is_none() {
            if stop.load(Ordering::Relaxed) {
                child.kill().unwrap();
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        rounds += 1;
    }
    rounds
}

/// Writes short and long values that end soon, and are never asked for.
fn make_what_expires(port: u16, seed: u64, stop: &AtomicBool) {
    let (mut client, mut dice) = (connect(port), Dice(seed ^ 0xe0d5));
    while !stop.load(Ordering::Relaxed) {
        let (key, time) = (format!("ends {}", dice.throw(500)), 1 + dice.throw(40));
        let value = "x".repeat([10, 500, 3000][dice.throw(3) as usize]);
        match client.ask(&["SET", &key, &value, "PX", &time.to_string()]) {
            Ok(answer) => assert_eq!(answer, ok()),
            Err(_) => client = connect(port),
        }
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn h32_no_acknowledged_write_is_lost_however_often_the_server_crashes() {
    let crashes = number("REFRAIN_KV_CRASHES").unwrap_or(CRASHES);
    let seed = number("SEED").unwrap_or_else(|| u64::from(std::process::id()));
    println!("SEED={seed}");
    let site = Options::new().never_bad().start();
    let port = start(&site);
    let (stop, writes) = (AtomicBool::new(false), AtomicU64::new(0));
    let check = |number| {
        let mut checker = Checker::new(port, number, seed);
        while !stop.load(Ordering::Relaxed) {
            checker.round();
        }
        checker.verify();
        writes.fetch_add(checker.acknowledged, Ordering::Relaxed);
        checker.gaps
    };
    let check = &check;
    let mut gaps: Vec<u64> = std::thread::scope(|scope| {
        let checkers: Vec<_> = (0..CHECKERS)
            .map(|number| scope.spawn(move || check(number)))
            .collect();
        if let Some(benchmark) = installed("redis-benchmark") {
            let stop = &stop;
            scope.spawn(move || load(&benchmark, port, stop));
        }
        let stop = &stop;
        scope.spawn(move || make_what_expires(port, seed, stop));
        let stopper = StopOnDrop(stop);
        let mut dice = Dice(!seed);
        let mut client = connect(port);
        for _ in 0..crashes {
            std::thread::sleep(Duration::from_micros(dice.throw(20_000)));
            let signal = [Signal::KILL, Signal::SEGV, Signal::ABORT][dice.throw(3) as usize];
            crash(port, &mut client, signal);
        }
        drop(stopper);
        checkers
            .into_iter()
            .flat_map(|checker| checker.join().unwrap())
            .collect()
    });
    gaps.sort_unstable();
    let percent = |percent: usize| gaps[(gaps.len() * percent).div_ceil(100).saturating_sub(1)];
    println!(
        "kv_server: {crashes} crashes, {} acknowledged writes, none lost; {} gaps: p50 {} us, p99 {} us",
        writes.into_inner(),
        gaps.len(),
        percent(50),
        percent(99)
    );
    assert_eq!(u64::from(site.row("kv").unwrap().restarts), crashes);
    let mut client = connect(port);
    let list = |client: &mut Client, pattern| match client.ask(&["KEYS", pattern]).unwrap() {
        Answer::List(keys) => keys.len(),
        other => panic!("{other:?}"),
    };
    wait::soon("what has expired to go", || {
        let size = client.ask(&["DBSIZE"]).unwrap();
        (size == Answer::Number(list(&mut client, "*") as i64)).then_some(())
    });
    assert_eq!(list(&mut client, "ends *"), 0);
    assert_eq!(client.ask(&["FLUSHALL"]).unwrap(), ok());
    crash(port, &mut client, Signal::KILL);
    assert_eq!(client.ask(&["DBSIZE"]).unwrap(), Answer::Number(0));
    // It ends clean, its group is over, and its memory is free again.
    assert!(client.ask(&["SHUTDOWN"]).is_err());
    site.wait_forgotten("kv");
    assert!(site.blocks().is_empty());
}

/// Ends the other threads also when this one panics.
struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn redis_benchmark_runs_to_its_end_and_its_keys_are_there_after_a_crash() {
    let Some(benchmark) = installed("redis-benchmark") else {
        return;
    };
    let site = Site::start();
    let port = start(&site);
    let mut command = Command::new(benchmark);
    command.args([
        "-p",
        &port.to_string(),
        "-q",
        "-n",
        "2000",
        "-c",
        "20",
        "-r",
        "300",
        "-d",
        "1500",
    ]);
    let out = run::to_end(command.args(["-t", "ping,set,get,incr,mset"]), None)
        .expect_ok("redis-benchmark");
    assert!(
        out.contains("MSET (10 keys)") && !out.contains("ERR"),
        "{out}"
    );
    let mut client = connect(port);
    let before = client.ask(&["DBSIZE"]).unwrap();
    let value = client.ask(&["GET", "key:000000000007"]).unwrap();
    crash(port, &mut client, Signal::SEGV);
    assert_eq!(client.ask(&["DBSIZE"]).unwrap(), before);
    assert_eq!(client.ask(&["GET", "key:000000000007"]).unwrap(), value);
    assert!(matches!(before, Answer::Number(300..)), "{before:?}");
}

#[test]
fn keys_that_expire_go_by_themselves_also_those_of_a_life_that_has_crashed() {
    let site = Site::start();
    let port = start(&site);
    let mut client = connect(port);
    let long = "x".repeat(3000);
    for number in 0..200 {
        let value = if number % 10 == 0 { &long } else { "v" };
        let (ends, stays) = (format!("ends {number}"), format!("stays {number}"));
        for words in [
            &["SET", &ends, value, "PX", "300"][..],
            &["SET", &stays, value],
        ] {
            assert_eq!(client.ask(words).unwrap(), ok());
        }
    }
    crash(port, &mut client, Signal::KILL);
    let mut down_to = |size: i64| {
        wait::soon("what has expired to go", || {
            (client.ask(&["DBSIZE"]).unwrap() == Answer::Number(size)).then_some(())
        });
        let info = bytes_of(client.ask(&["INFO", "stats"]).unwrap()).unwrap();
        let info = String::from_utf8(info).unwrap();
        let expired = info
            .lines()
            .find_map(|line| line.strip_prefix("expired_keys:"));
        expired.unwrap().parse::<u64>().unwrap()
    };
    let before = down_to(200);
    let mut other = connect(port);
    assert_eq!(other.ask(&["SET", "late", "v", "PX", "1"]).unwrap(), ok());
    assert_eq!(down_to(200), before + 1);
    assert_eq!(
        other.ask(&["STRLEN", "stays 0"]).unwrap(),
        Answer::Number(3000)
    );
}
