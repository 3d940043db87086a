//! From a crash to the first correct read: a life of this program fills a store and is killed, and the next one opens
//! it, reads, changes something, and is killed in its turn. The time is the next life's own, from before it opens the
//! store. Called by the part; `main.rs` leads a life to [`live`]. A store that opens in the same time however
//! large it is finds its data, and does not look for it.

use std::io::{BufRead, BufReader, Read, stdin};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use super::peers::redis::Redis;
use super::subject::{Subject, loaded};
use super::turns::fill;
use super::who::Who;
use super::{Entries, PART, what};
use crate::heat::Stage;
use crate::interrupt;
use crate::progress::Progress;
use crate::report::Report;

/// The operation's name.
pub const OP: &str = "crash to first correct read";
/// The values.
const BYTES: usize = 64;
const SIZE: &str = "64 bytes";
/// One that takes this long has fewer samples, but some.
const PATIENCE: Duration = Duration::from_secs(5);
const FEWEST: usize = 3;

/// What a life is to do.
#[derive(Serialize, Deserialize)]
struct Life {
    who: Who,
    dir: PathBuf,
    entries: u64,
    /// Whether it fills the store, or finds it filled.
    fill: bool,
}

/// A life, killed when it is dropped.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // Both fail only when it has ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The rows.
///
/// # Errors
/// When a store does not open, or holds something else.
pub fn rows(stage: &Stage, report: &mut Report, sizes: [Entries; 2]) -> Result<()> {
    let all = Who::ALL.into_iter();
    let all = all.filter(|who| who.is_peer() || matches!(who, Who::Map | Who::Heap));
    let all: Vec<Who> = all.filter(|who| who.missing().is_none()).collect();
    let most = stage.pick(20, 5);
    let first = sizes[0].1;
    for (entries, name) in sizes {
        let progress = Progress::new(&format!("{PART}, {OP}, {name}"), all.len() as u64);
        for &who in &all {
            let dir = TempDir::new_in(stage.dir)?;
            let samples = match who {
                Who::Redis => of_redis(dir.path(), entries, most)?,
                _ => of_lives(who, dir.path(), entries, most)?,
            };
            let small = what(who, OP, SIZE, first);
            let limit = (name != first).then_some(small.as_str());
            report.row(PART, &what(who, OP, SIZE, name), limit, samples);
            progress.step();
        }
    }
    report.fact(
        PART,
        &format!("Redis, {OP}"),
        "with an append-only file, from its start to its first answer; the others are opened in a program that runs",
    );
    Ok(())
}

/// Whether there are enough samples.
fn enough(begun: Instant, samples: &[f64], most: usize) -> bool {
    samples.len() >= most || samples.len() >= FEWEST && begun.elapsed() > PATIENCE
}

fn of_lives(who: Who, dir: &Path, entries: u64, most: usize) -> Result<Vec<f64>> {
    let life = |fill| {
        interrupt::check()?;
        let dir = dir.to_owned();
        let life = Life {
            who,
            dir,
            entries,
            fill,
        };
        one(&life).with_context(|| format!("{who:?}, a life"))
    };
    life(true)?;
    let (begun, mut samples) = (Instant::now(), Vec::new());
    while !enough(begun, &samples, most) {
        samples.push(life(false)?);
    }
    Ok(samples)
}

/// Starts a life and kills it when it has said how long it took.
fn one(life: &Life) -> Result<f64> {
    // This program, even if another one has been built in its place.
    let mut command = Command::new("/proc/self/exe");
    command.arg("--data-life").arg(serde_json::to_string(life)?);
    let child = command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut life = Killed(child.spawn()?);
    let output = life.0.stdout.take().context("it is a pipe")?;
    let mut line = String::new();
    BufReader::new(output).read_line(&mut line)?;
    line.trim().parse().context("it did not come so far")
}

/// The same with a server that is killed.
fn of_redis(dir: &Path, entries: u64, most: usize) -> Result<Vec<f64>> {
    let mut redis = Redis::<BYTES>::start(dir, true)?;
    fill(&mut redis, entries)?;
    drop(redis);
    let (begun, mut samples) = (Instant::now(), Vec::new());
    while !enough(begun, &samples, most) {
        // Killed when it is dropped.
        let (took, _redis) =
            first_read(entries, || Ok(Box::new(Redis::<BYTES>::start(dir, true)?)))?;
        samples.push(took);
    }
    Ok(samples)
}

/// Opens a store and reads the value in its middle; how long both took, in microseconds. Then something is changed,
/// so that a crash is one of a store that was written to.
fn first_read(
    entries: u64,
    open: impl FnOnce() -> Result<Box<dyn Subject>>,
) -> Result<(f64, Box<dyn Subject>)> {
    let begun = Instant::now();
    let mut store = open()?;
    store.get(&[loaded(entries / 2)])?;
    let took = begun.elapsed().as_secs_f64() * 1e6;
    store.update(&[loaded(0)])?;
    Ok((took, store))
}

/// Leads a life: `--data-life` and what to do.
///
/// # Errors
/// The store's.
pub fn live(life: &str) -> Result<()> {
    let life: Life = serde_json::from_str(life)?;
    ensure!(life.who != Who::Redis, "Redis has a process of its own");
    let open = || life.who.open::<BYTES>(&life.dir, life.entries);
    // Open until the end, which is a crash.
    let _store = if life.fill {
        let mut store = open()?;
        fill(&mut *store, life.entries)?;
        println!("0");
        store
    } else {
        let (took, store) = first_read(life.entries, open)?;
        println!("{took}");
        store
    };
    // Until it is killed; where that does not happen, until nobody waits for it any more.
    stdin().read_exact(&mut [0])?;
    Ok(())
}
