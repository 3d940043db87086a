//! Runs the fuzz targets: builds the engine, gives each target its time, and tells what came of it.
//!
//! `cargo run -p refrain-fuzz -- --target all --seconds 20` is what `.ci/run` calls. It ends with code 1
//! when an input made a target panic, abort, take more than ten seconds or more than a gibibyte of
//! memory; that input is then in `tests/fuzz/crashes`, where `cargo test -p refrain-fuzz` finds it too.

mod build;
mod report;
mod run;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Mutex;

use anyhow::Context;
use clap::Parser;
use refrain_fuzz::{Bench, Target, targets};

/// Fuzzes what reads bytes that somebody else wrote.
#[derive(Debug, Parser)]
pub struct Options {
    /// a target, or all of them
    #[arg(long, default_value = "all")]
    target: String,
    /// how long each target runs
    #[arg(long, default_value_t = 20)]
    seconds: u32,
    /// how many targets run at once
    #[arg(long, default_value_t = 2)]
    jobs: usize,
    /// where the engine's random numbers begin; by default anywhere, and printed
    #[arg(long)]
    seed: Option<u32>,
    /// add inputs that reach new code to the corpora, while those stay small
    #[arg(long)]
    keep: bool,
    /// give one input to the target, and do nothing else
    #[arg(long, value_name = "FILE")]
    replay: Option<PathBuf>,
}

fn main() -> ExitCode {
    match start(&Options::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("refrain-fuzz: {why:#}");
            ExitCode::from(2)
        }
    }
}

fn start(options: &Options) -> anyhow::Result<bool> {
    let wanted: Vec<&'static Target> = if options.target == "all" {
        targets::ALL.iter().collect()
    } else {
        let unknown = || {
            format!(
                "{}: no such target; all, or one of {}",
                options.target,
                names()
            )
        };
        vec![targets::find(&options.target).with_context(unknown)?]
    };
    let scratch = tempfile::tempdir_in("/dev/shm").context("no directory in /dev/shm")?;
    if let Some(file) = &options.replay {
        let bytes = std::fs::read(file).with_context(|| file.display().to_string())?;
        for target in wanted {
            Bench::new(target, scratch.path().to_owned()).put(&bytes);
        }
        return Ok(true);
    }
    let engine = build::engine()?;
    let seed = options.seed.unwrap_or_else(|| std::process::id() ^ 0x5eed);
    println!(
        "{} targets, {} s each, seed {seed}",
        wanted.len(),
        options.seconds
    );
    let waiting = Mutex::new(wanted.into_iter());
    let ended = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..options.jobs.max(1) {
            scope.spawn(|| {
                while let Some(target) = next(&waiting) {
                    let outcome = run::target(&engine, target, scratch.path(), options, seed);
                    report::say(target, &outcome);
                    ended.lock().expect("nobody panics with it").push(outcome);
                }
            });
        }
    });
    let ended = ended.into_inner().expect("nobody panics with it");
    let sound = |outcome: &anyhow::Result<run::Outcome>| outcome.as_ref().is_ok_and(|it| it.sound);
    let failed = ended.iter().filter(|outcome| !sound(outcome)).count();
    println!("{} passed, {failed} failed", ended.len() - failed);
    Ok(failed == 0)
}

fn next(waiting: &Mutex<impl Iterator<Item = &'static Target>>) -> Option<&'static Target> {
    waiting.lock().expect("nobody panics with it").next()
}

fn names() -> String {
    let names: Vec<_> = targets::ALL.iter().map(|target| target.name).collect();
    names.join(", ")
}
