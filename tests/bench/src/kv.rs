//! `kv`: the sample key-value server beside redis-server, driven by redis-benchmark, and what crashes cost it: how
//! long it is away, and how many writes a second are acknowledged all the same.

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
/// What redis-benchmark is told: 50 clients, keys out of 100,000; then the same with 16 requests at once.
const LOADS: [(&str, &[&str]); 2] = [
    ("one at a time", &["-c", "50", "-r", "100000", "-d", "64"]),
    (
        "16 at once",
        &["-c", "50", "-r", "100000", "-d", "64", "-P", "16"],
    ),
];
/// Writes that a client of ours sends at once.
const AT_ONCE: usize = 16;
/// Between two crashes; none at all first.
const GAPS: [(&str, Option<Duration>); 3] = [
    ("no crash", None),
    ("a crash every second", Some(Duration::from_secs(1))),
    ("a crash every 100 ms", Some(Duration::from_millis(100))),
];
/// Before something that does not come is given up.
const WATCHDOG: Duration = Duration::from_secs(30);

/// A redis-server, ended when it is dropped.
struct Redis(Child);

impl Drop for Redis {
    fn drop(&mut self) {
        // Both fail only when it has ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
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
    throughput(stage, report, port)?;
    for (what, gap) in GAPS {
        let seconds = Duration::from_secs(stage.pick(20, 3));
        let (writes, away) = with_crashes(port, seconds, gap)?;
        let rate = writes / seconds.as_secs_f64();
        report.fact(
            PART,
            &format!("ours: acknowledged SETs a second, {what}"),
            format!("{rate:.0}"),
        );
        if gap.is_some() {
            report.row(
                PART,
                &format!("ours: last answer before to first after, {what}"),
                None,
                away,
            );
        }
    }
    report.fact(PART, "ours", site.start_kind("kv")?);
    Ok(())
}

/// What redis-benchmark says of ours and of redis-server.
fn throughput(stage: &Stage, report: &mut Report, port: u16) -> Result<()> {
    let (Some(benchmark), Some(server)) = (installed("redis-benchmark"), installed("redis-server"))
    else {
        report.fact(
            PART,
            "redis-benchmark",
            "skipped: redis-tools or redis-server is not installed",
        );
        return Ok(());
    };
    let redis_port = free_port()?;
    let child = Command::new(server)
        .args(["--port", &redis_port.to_string(), "--save", "", "--dir"])
        .arg(stage.dir)
        .stdout(Stdio::null())
        .spawn()?;
    let _redis = Redis(child);
    drop(connect(redis_port)?);
    let requests = stage.pick("500000", "20000");
    for (load, words) in LOADS {
        for (who, port) in [("redis-server", redis_port), ("ours", port)] {
            for (test, rate) in rates(&benchmark, port, requests, words)? {
                report.fact(
                    PART,
                    &format!("{who}: {test} a second, {load}"),
                    format!("{rate:.0}"),
                );
            }
        }
    }
    Ok(())
}

/// Requests a second by the name of the test.
fn rates(
    benchmark: &Path,
    port: u16,
    requests: &str,
    words: &[&str],
) -> Result<Vec<(String, f64)>> {
    interrupt::check()?;
    let mut command = Command::new(benchmark);
    command
        .args(["-p", &port.to_string(), "--csv", "-n", requests])
        .args(words);
    let output = command.args(["-t", "set,get,incr,mset"]).output()?;
    ensure!(
        output.status.success(),
        "redis-benchmark: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8_lossy(&output.stdout);
    let lines = text.lines().skip(1).map(|line| {
        let mut fields = line.split(',').map(|field| field.trim_matches('"'));
        let name = fields.next().context("a line without a name")?.to_owned();
        Ok((
            name,
            fields.next().context("a line without a number")?.parse()?,
        ))
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
fn with_crashes(port: u16, time: Duration, gap: Option<Duration>) -> Result<(f64, Vec<f64>)> {
    let request: Vec<u8> = (0..AT_ONCE)
        .flat_map(|key| encode(&["SET", &format!("key {key}"), "value"]))
        .collect();
    let (begun, stop) = (Instant::now(), AtomicBool::new(false));
    let progress = Progress::new(&format!("{PART}, {gap:?} between crashes"), 1);
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
