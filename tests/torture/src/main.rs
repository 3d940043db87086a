//! `refrain-torture`: attacks a site of its own at random and checks it against a model. See
//! `docs/reliability.md`.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::{Parser, ValueEnum};
use refrain_torture::interrupt;
use refrain_torture::plan::Family;
use refrain_torture::run::{Length, Torture};
use refrain_torture::stage::Unfit;

/// The exit code where this machine lacks what it takes.
const UNFIT: u8 = 3;

/// Attacks a site of its own at random, and checks it against a model after every step.
#[derive(Parser)]
#[command(name = "refrain-torture")]
struct Options {
    /// Which faults, and in which order: the same seed gives the same again.
    #[arg(long)]
    seed: Option<u64>,
    /// How long, at most.
    #[arg(long, default_value_t = 3.0)]
    minutes: f64,
    /// How many steps, at most.
    #[arg(long, default_value_t = u64::MAX, hide_default_value = true)]
    steps: u64,
    /// What to do, separated by commas; everything if nothing is said.
    #[arg(long, value_delimiter = ',')]
    faults: Vec<Family>,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let seed = options
        .seed
        .unwrap_or_else(|| u64::from(std::process::id()));
    println!("seed {seed}");
    match torture(&options, seed) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("refrain-torture: seed {seed}: {error:#}");
            let is_unfit = error.downcast_ref::<Unfit>().is_some();
            ExitCode::from(if is_unfit { UNFIT } else { 1 })
        }
    }
}

fn torture(options: &Options, seed: u64) -> Result<()> {
    interrupt::install()?;
    let families = match &options.faults[..] {
        [] => Family::value_variants(),
        chosen => chosen,
    };
    let length = Length {
        time: Duration::from_secs_f64(options.minutes * 60.0),
        steps: options.steps,
    };
    let mut torture = Torture::new()?;
    let run = torture.run(seed, families, length);
    if run.is_err() {
        torture.tell();
    }
    println!("{}", torture.report());
    let end = torture.end();
    run.and(end)
}
