//! `supervise`: actors that have no Linux process of their own, from a panic to the next life's first line, for one
//! and for the last of a hundred that are restarted together. Ours are the controller's supervisor actors; beside
//! them, in turn in the same run, those of other libraries, which are built with the feature `peers` only.

#[cfg(feature = "peers")]
mod kameos;
mod ours;
#[cfg(feature = "peers")]
mod ractors;

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::heat::Stage;
use crate::interrupt;
use crate::lane::{micros, now};
use crate::peers::setups;
use crate::programs::installed;
use crate::progress::Progress;
use crate::report::Report;

/// The part's name.
pub const PART: &str = "supervise";
/// How many are restarted together.
pub const MANY: usize = 100;
/// How the rows of Erlang are called.
pub const ERLANG: &str = "Erlang process, one_for_all";
/// The first restarts of a pass, which load code and fill caches, do not count.
const WARM: u32 = 10;
/// Each has its turn so often: what else the machine does meets all of them.
const PASSES: u32 = 5;
/// How long a life lasts.
const LIFE: Duration = Duration::from_millis(1);

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
    // Every panic here is meant. Nobody's hook prints, or takes a backtrace; ours is in front of this one.
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let measured = libraries(stage, report);
    std::panic::set_hook(hook);
    measured?;
    report.fact(
        PART,
        "actix",
        "not run: its supervisor does not survive a panic",
    );
    if cfg!(not(feature = "peers")) {
        let how = "not built: cargo run -p refrain-bench --features peers -- supervise";
        report.fact(PART, "ractor, kameo", how);
    }
    erlang(stage, report)
}

fn libraries(stage: &Stage, report: &mut Report) -> Result<()> {
    for lives in [1, MANY] {
        let rounds = if lives == 1 {
            stage.pick(2_000, 200)
        } else {
            stage.pick(200, 20)
        };
        let ours = name("ours", lives);
        for (peer, samples) in in_turn(lives, rounds / PASSES)? {
            let limit = (peer != "ours").then_some(ours.as_str());
            report.row(PART, &name(peer, lives), limit, samples);
        }
    }
    Ok(())
}

/// Everybody's samples, by name.
fn in_turn(lives: usize, rounds: u32) -> Result<Vec<(&'static str, Vec<f64>)>> {
    let mut all = vec![("ours", Vec::new())];
    if cfg!(feature = "peers") {
        all.extend([("ractor", Vec::new()), ("kameo", Vec::new())]);
    }
    let progress = Progress::new(&name(PART, lives), u64::from(PASSES));
    for _ in 0..PASSES {
        for (who, samples) in &mut all {
            samples.extend(match *who {
                #[cfg(feature = "peers")]
                "ractor" => on_tokio(measure::<ractors::Ractor>(lives, rounds)),
                #[cfg(feature = "peers")]
                "kameo" => on_tokio(measure::<kameos::Kameo>(lives, rounds)),
                _ => actix::System::new().block_on(measure::<ours::Ours>(lives, rounds)),
            }?);
        }
        progress.step();
    }
    Ok(all)
}

/// Everything on one thread: none of them is quicker with more. So it is with ours, but for the controller.
#[cfg(feature = "peers")]
fn on_tokio<T>(measured: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(measured)
}

async fn measure<S: Supervises>(lives: usize, rounds: u32) -> Result<Vec<f64>> {
    let (watch, mut began) = unbounded_channel();
    let supervisor = S::start(lives, Watch(watch)).await?;
    last_of(lives, &mut began).await;
    let mut samples = Vec::new();
    for round in 0..rounds + WARM {
        interrupt::check()?;
        tokio::time::sleep(LIFE).await;
        supervisor.crash().await?;
        let sample = last_of(lives, &mut began).await;
        samples.extend(sample.filter(|_| round >= WARM));
    }
    supervisor.stop().await;
    Ok(samples)
}

/// What a row is called.
#[must_use]
pub fn name(peer: &str, lives: usize) -> String {
    match lives {
        1 => format!("{peer}, one"),
        _ => format!("{peer}, {lives} together"),
    }
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
            &name(ERLANG, lives),
            Some(&name("ours", lives)),
            samples,
        );
    }
    Ok(())
}
