//! `kv`: the sample key-value server beside redis-server, driven by redis-benchmark in turns, and what crashes cost
//! it: how long it is away, and how many writes a second are acknowledged all the same.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use refrain_tests::resp::{Answer, Client, encode};
use rustix::process::{Pid, Signal, kill_process};

use crate::heat::Stage;
use crate::interrupt;
use crate::programs::installed;
use crate::progress::Progress;
use crate::report::Report;
use crate::restart::Notice;
use crate::site::{Site, Start};

/// The part's name.
pub const PART: &str = "kv";
/// What redis-benchmark is told always: 50 clients, keys out of 100,000, values of 64 bytes.
const LOAD: [&str; 8] = ["-t", "set,get", "-c", "50", "-r", "100000", "-d", "64"];
/// How many requests each client sends at once, and how many are sent in a turn, in full and quickly.
const LOADS: [(&str, &str, [&str; 2]); 2] = [
    ("one at a time", "1", ["100000", "5000"]),
    ("16 at once", "16", ["500000", "20000"]),
];
/// Writes that a client of ours sends at once.
const AT_ONCE: usize = 16;
/// Between two crashes; none at all first.
const GAPS: [(&str, Option<Duration>); 3] = [
    ("no crash", None),
    ("a crash every second", Some(Duration::from_secs(1))),
    ("a crash every 50 ms", Some(Duration::from_millis(50))),
];
/// Before something that does not come is given up.
const WATCHDOG: Duration = Duration::from_secs(30);
const REDIS: &str = "redis-server";
const OURS: &str = "ours";

/// A redis-server, ended when it is dropped.
struct Redis(Child);

impl Drop for Redis {
    fn drop(&mut self) {
        // Both fail only when it has ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Redis {
    /// One that keeps nothing on a disk, as ours does not.
    fn start(server: &Path, dir: &Path) -> Result<(Self, u16)> {
        let port = free_port()?;
        let mut command = Command::new(server);
        command.args([
            "--port",
            &port.to_string(),
            "--save",
            "",
            "--appendonly",
            "no",
            "--dir",
        ]);
        let child = command.arg(dir).stdout(Stdio::null()).spawn()?;
        Ok((Self(child), port))
    }
}

/// The part.
///
/// # Errors
/// When something does not start or does not come back.
pub fn run(stage: &Stage, report: &mut Report) -> Result<()> {
    let site = Site::start(stage.programs, stage.dir)?;
    let port = free_port()?;
    let words = ["--port", &port.to_string(), "--size", "512MiB"].map(str::to_owned);
    site.arun(&Start {
        gid: Some(1),
        name: "kv",
        notice: Notice::Fault,
        program: &stage.programs.kv,
        words: &words,
    })?;
    drop(connect(port)?);
    let redis = match installed(REDIS) {
        Some(server) => Some(Redis::start(&server, stage.dir)?),
        None => {
            report.fact(PART, REDIS, "skipped: it is not installed");
            None
        }
    };
    let redis_port = redis.as_ref().map(|(_, port)| *port);
    match (installed("redis-benchmark"), redis_port) {
        (Some(benchmark), Some(redis)) => {
            throughput(stage, report, &benchmark, [(REDIS, redis), (OURS, port)])?
        }
        _ => report.fact(
            PART,
            "redis-benchmark",
            "skipped: it, or redis-server, is not installed",
        ),
    }
    let seconds = Duration::from_secs(stage.pick(20, 2));
    let write = |report: &mut Report,
                 who: &str,
                 port,
                 (what, gap): (&str, Option<Duration>)|
     -> Result<()> {
        let (writes, away) = with_crashes(port, seconds, (what, gap))?;
        let rate = writes / seconds.as_secs_f64();
        report.figure(
            PART,
            &format!("{who}: acknowledged SETs a second, one client, {what}"),
            rate,
            "",
        );
        if gap.is_some() {
            report.row(
                PART,
                &format!("{who}: last answer before to first after, {what}"),
                None,
                away,
            );
        }
        Ok(())
    };
    if let Some(port) = redis_port {
        write(report, REDIS, port, GAPS[0])?;
    }
    for gap in GAPS {
        write(report, OURS, port, gap)?;
    }
    report.fact(PART, OURS, site.start_kind("kv")?);
    Ok(())
}

/// What redis-benchmark says of both, in turns, so that a disturbance meets both: the median of the turns.
fn throughput(
    stage: &Stage,
    report: &mut Report,
    benchmark: &Path,
    servers: [(&str, u16); 2],
) -> Result<()> {
    for (_, port) in servers {
        drop(connect(port)?);
    }
    let turns = stage.pick(5, 2);
    for (load, at_once, requests) in LOADS {
        let requests = stage.pick(requests[0], requests[1]);
        let mut rates = BTreeMap::<(String, &str), Vec<f64>>::new();
        let progress = Progress::new(&format!("{PART}, {load}"), turns);
        for _ in 0..turns {
            for (who, port) in servers {
                for (test, rate) in turn(benchmark, port, [at_once, requests])? {
                    rates.entry((test, who)).or_default().push(rate);
                }
            }
            progress.step();
        }
        for ((test, who), rates) in &rates {
            let (rate, least, most) = median(rates);
            let what = format!("{who}: {test} a second, {load}");
            report.figure(
                PART,
                &what,
                rate,
                &format!("({least:.0} to {most:.0} in {turns} turns)"),
            );
        }
        for test in ["GET", "SET"] {
            let of = |who| {
                rates
                    .get(&(test.to_owned(), who))
                    .map(|rates| median(rates).0)
            };
            if let (Some(ours), Some(theirs)) = (of(OURS), of(REDIS)) {
                let what = format!("{OURS} to {REDIS}: {test}, {load}");
                report.fact(PART, &what, format!("{:.2}", ours / theirs));
            }
        }
    }
    Ok(())
}

/// The median, the least and the most.
fn median(of: &[f64]) -> (f64, f64, f64) {
    let mut sorted = of.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = |at: usize| sorted.get(at).copied().unwrap_or(f64::NAN);
    (
        at(sorted.len() / 2),
        at(0),
        at(sorted.len().saturating_sub(1)),
    )
}

/// Requests a second by the name of the test.
fn turn(benchmark: &Path, port: u16, [at_once, requests]: [&str; 2]) -> Result<Vec<(String, f64)>> {
    interrupt::check()?;
    let mut command = Command::new(benchmark);
    command.args([
        "-p",
        &port.to_string(),
        "--csv",
        "-P",
        at_once,
        "-n",
        requests,
    ]);
    let output = command.args(LOAD).output()?;
    ensure!(
        output.status.success(),
        "redis-benchmark: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8_lossy(&output.stdout);
    let lines = text.lines().skip(1).map(|line| {
        let mut fields = line.split(',').map(|field| field.trim_matches('"'));
        let name = fields.next().context("a line without a name")?.to_owned();
        let rate = fields.next().context("a line without a number")?.parse()?;
        Ok((name, rate))
    });
    lines.collect()
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

/// A connection that is answered.
fn connect(port: u16) -> Result<Client> {
    let begun = Instant::now();
    while begun.elapsed() < WATCHDOG {
        let client =
            Client::connect(port).and_then(|mut client| client.ask(&["PING"]).map(|_| client));
        if let Ok(client) = client {
            return Ok(client);
        }
        thread::sleep(Duration::from_micros(20));
    }
    bail!("nobody answers on port {port}")
}

/// One client writes for so long, while the server is killed again and again. Answers how many writes were
/// acknowledged, and how long each time there was no answer, in microseconds.
fn with_crashes(
    port: u16,
    time: Duration,
    (what, gap): (&str, Option<Duration>),
) -> Result<(f64, Vec<f64>)> {
    let request: Vec<u8> = (0..AT_ONCE)
        .flat_map(|key| encode(&["SET", &format!("key {key}"), "value"]))
        .collect();
    let (begun, stop) = (Instant::now(), AtomicBool::new(false));
    let progress = Progress::new(&format!("{PART}, {what}"), 1);
    let result = thread::scope(|scope| {
        let stop = &stop;
        let killer = gap.map(|gap| scope.spawn(move || kill_every(port, gap, stop)));
        let written = (|| {
            let mut client = connect(port)?;
            let (mut writes, mut away, mut answered) = (0.0, Vec::new(), Instant::now());
            while begun.elapsed() < time {
                let ok = Answer::Word("OK".to_owned());
                let all = client.send(&request).and_then(|()| {
                    for _ in 0..AT_ONCE {
                        writes += f64::from(u8::from(client.answer()? == ok));
                        answered = Instant::now();
                    }
                    Ok(())
                });
                if all.is_err() {
                    client = connect(port)?;
                    away.push(answered.elapsed().as_secs_f64() * 1e6);
                }
            }
            Ok((writes, away))
        })();
        stop.store(true, Ordering::Relaxed);
        match killer.map(thread::ScopedJoinHandle::join) {
            Some(Ok(killed)) => killed.and(written),
            Some(Err(_)) => bail!("the thread that kills has panicked"),
            None => written,
        }
    });
    progress.step();
    result
}

/// Kills the life that answers, each time one does.
fn kill_every(port: u16, gap: Duration, stop: &AtomicBool) -> Result<()> {
    while !stop.load(Ordering::Relaxed) {
        interrupt::sleep(gap)?;
        let Ok(Answer::Bytes(info)) = connect(port)?.ask(&["INFO"]) else {
            bail!("no answer to INFO from a server that nobody has killed");
        };
        let info = String::from_utf8_lossy(&info);
        let pid = info
            .lines()
            .find_map(|line| line.strip_prefix("process_id:"));
        let pid = pid
            .and_then(|pid| Pid::from_raw(pid.parse().ok()?))
            .context("INFO names no pid")?;
        kill_process(pid, Signal::KILL)?;
    }
    Ok(())
}
