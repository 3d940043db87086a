//! Actors that have no process of their own: from a panic to the next life's first line, for one and for the
//! last of a hundred that are restarted together. Rows of their own, compared with nothing of ours: the
//! controller has no supervisor actors yet. Called by `peers/mod.rs`.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Result, ensure};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::{kameos, ractors, setups};
use crate::heat::Stage;
use crate::interrupt;
use crate::lane::{micros, now};
use crate::programs::installed;
use crate::progress::Progress;
use crate::report::Report;

const PART: &str = "peers, in process";
/// How many are restarted together.
const MANY: usize = 100;
/// The first restarts, which load code and fill caches, do not count.
const WARM: u32 = 10;

/// What actors tell the benchmark.
#[derive(Clone)]
pub struct Watch(UnboundedSender<u64>);

/// When the last panic was.
static PANICKED: AtomicU64 = AtomicU64::new(0);

impl Watch {
    /// A life has begun.
    pub fn began(&self) {
        // Nobody listens any more at the end.
        let _ = self.0.send(now());
    }
}

/// Ends a life.
///
/// # Panics
/// Always: that is what it is for.
pub fn panic_now() {
    PANICKED.store(now(), Ordering::SeqCst);
    panic!("told to end");
}

/// Waits until `lives` have begun, and answers what the last took since the panic.
async fn last_of(lives: usize, began: &mut UnboundedReceiver<u64>) -> Option<f64> {
    let mut last = 0;
    for _ in 0..lives {
        last = last.max(began.recv().await?);
    }
    Some(micros(PANICKED.load(Ordering::SeqCst), last))
}

/// Something that supervises `lives` actors and can be told to crash the first of them.
pub trait Supervises: Sized {
    /// Starts it.
    async fn start(lives: usize, watch: Watch) -> Result<Self>;
    /// Makes one of them panic.
    async fn crash(&self) -> Result<()>;
    /// Ends it.
    async fn stop(self);
}

/// The rows.
///
/// # Errors
/// When an actor does not come back, or at an interrupt.
pub fn run(stage: &Stage, report: &mut Report) -> Result<()> {
    for lives in [1, MANY] {
        let rounds = if lives == 1 {
            stage.pick(2_000, 200)
        } else {
            stage.pick(200, 20)
        };
        // Every panic here is meant.
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(|_| {}));
        let ractor = rust::<ractors::Ractor>(lives, rounds);
        let kameo = rust::<kameos::Kameo>(lives, rounds);
        std::panic::set_hook(hook);
        report.row(PART, &name("ractor", lives), None, ractor?);
        report.row(PART, &name("kameo", lives), None, kameo?);
    }
    report.fact(
        PART,
        "actix",
        "not run: its supervisor does not survive a panic",
    );
    erlang(stage, report)
}

fn name(peer: &str, lives: usize) -> String {
    match lives {
        1 => format!("{peer}, one"),
        _ => format!("{peer}, {lives} together"),
    }
}

/// Everything on one thread: none of them is quicker with more.
fn rust<S: Supervises>(lives: usize, rounds: u32) -> Result<Vec<f64>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let (watch, mut began) = unbounded_channel();
        let supervisor = S::start(lives, Watch(watch)).await?;
        last_of(lives, &mut began).await;
        let mut samples = Vec::new();
        for round in 0..rounds + WARM {
            interrupt::check()?;
            supervisor.crash().await?;
            let sample = last_of(lives, &mut began).await;
            samples.extend(sample.filter(|_| round >= WARM));
        }
        supervisor.stop().await;
        Ok(samples)
    })
}

/// The same in Erlang, which does it by itself and prints.
fn erlang(stage: &Stage, report: &mut Report) -> Result<()> {
    let Some(program) = installed("erl") else {
        report.fact(PART, "Erlang", "skipped: erl is not installed");
        return Ok(());
    };
    let progress = Progress::new(PART, 1);
    let dir = stage.dir.join("erlang-native");
    std::fs::create_dir(&dir)?;
    let rounds: u32 = stage.pick(2_000, 200);
    let mut command = setups::erlang_module(&program, Path::new(&dir))?;
    let done = command.args(["native", &rounds.to_string()]).output()?;
    ensure!(done.status.success(), "erl: {}", done.status);
    progress.step();
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    for (word, lives) in [("one", 1), ("all", MANY)] {
        let lines = text.lines().filter_map(|line| line.split_once(' '));
        let samples = lines.filter(|(first, _)| *first == word);
        let samples = samples.filter_map(|(_, sample)| sample.trim().parse().ok());
        let samples = samples.skip(WARM as usize).collect();
        report.row(
            PART,
            &name("Erlang process, one_for_all", lives),
            None,
            samples,
        );
    }
    Ok(())
}
