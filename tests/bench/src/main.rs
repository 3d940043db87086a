//! `refrain-bench`: how long a restart takes, measured by the actors themselves, beside the bare
//! mechanism that Linux has for it and beside other supervisors. `docs/performance.md` tells how to
//! read what it prints.
//!
//! Run by hand. It measures and never judges: no number makes it fail. It must leave nothing behind,
//! also after an error or an interrupt.

mod cost;
mod curve;
mod data;
mod flat;
mod fleet;
mod goals;
mod group;
mod heap;
mod heat;
mod interrupt;
mod kv;
mod lane;
mod machine;
mod memory;
mod peers;
mod plot;
mod pmm;
mod programs;
mod progress;
mod report;
mod restart;
mod scale;
mod site;
mod storm;
mod supervise;
mod table;
mod tree;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use heat::Stage;
use programs::Programs;
use report::Report;

/// Measures restarts on this machine: against the bare mechanisms, and against other supervisors.
#[derive(Parser)]
#[command(name = "refrain-bench")]
struct Options {
    /// What to measure.
    #[arg(default_value = "all")]
    part: Part,
    /// Write everything, samples included, to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Draw a picture of each part into this directory.
    #[arg(long, value_name = "DIR")]
    svg: Option<PathBuf>,
    /// Fewer samples of fewer sizes: under a minute for one part.
    #[arg(long)]
    quick: bool,
    /// Be a life that `data` crashes; it says what to do.
    #[arg(long, hide = true)]
    data_life: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// One actor, each way to end and to start.
    Restart,
    /// Groups of 10, 100 and 1,000.
    Group,
    /// Lives that touched 0, 64 MiB, 1 GiB.
    Memory,
    /// With 0, 1,000, 10,000 idle actors beside it; what they cost; a thousand at once.
    Scale,
    /// Persistent memory in a new life.
    Pmm,
    /// Transactions on a heap.
    Heap,
    /// Other supervisors.
    Peers,
    /// Supervisor actors, and those of other libraries.
    Supervise,
    /// Our data types beside a plain hash map and beside stores of others.
    Data,
    /// The sample key-value server beside redis-server, with and without crashes.
    Kv,
    /// Whether anything grows over 100,000 restarts.
    Flat,
    /// Everything, in this order.
    All,
}

/// A part's function.
type Run = fn(&Stage, &mut Report) -> Result<()>;

fn main() -> ExitCode {
    let options = Options::parse();
    let done = match &options.data_life {
        Some(life) => data::live(life),
        None => bench(&options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("refrain-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn bench(options: &Options) -> Result<()> {
    interrupt::install()?;
    let programs_dir = TempDir::with_prefix("refrain-bench-")?;
    let shm = Path::new("/dev/shm");
    let place = if shm.is_dir() {
        shm.to_owned()
    } else {
        std::env::temp_dir()
    };
    let dir = TempDir::with_prefix_in("refrain-bench-", place)?;
    let mut report = Report::new();
    let measured = measure(options, (programs_dir.path(), dir.path()), &mut report);
    sweep([dir.path(), programs_dir.path()]);
    report.judge(options.part == Part::All);
    println!("{}", table::text(&report));
    if let Some(path) = &options.json {
        report
            .json(path)
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    if let Some(dir) = &options.svg {
        report
            .svg(dir)
            .with_context(|| format!("cannot draw into {}", dir.display()))?;
    }
    measured
}

fn measure(
    options: &Options,
    (programs_dir, dir): (&Path, &Path),
    report: &mut Report,
) -> Result<()> {
    let parts: [(Part, Run); 11] = [
        (Part::Restart, restart::run),
        (Part::Group, group::run),
        (Part::Memory, memory::run),
        (Part::Scale, scale::run),
        (Part::Pmm, pmm::run),
        (Part::Heap, heap::run),
        (Part::Peers, peers::run),
        (Part::Supervise, supervise::run),
        (Part::Data, data::run),
        (Part::Kv, kv::run),
        (Part::Flat, flat::run),
    ];
    let programs = Programs::build(programs_dir)?;
    let stage = Stage {
        programs: &programs,
        dir,
        quick: options.quick,
    };
    for (part, run) in parts {
        if options.part == part || options.part == Part::All {
            let begun = Instant::now();
            run(&stage, report)?;
            eprintln!("  {:.0} s", begun.elapsed().as_secs_f64());
        }
    }
    Ok(())
}

/// Ends whatever still carries one of our directories on its command line: what a peer had started when
/// it was ended itself, or what an error left.
fn sweep(dirs: [&Path; 2]) {
    let dirs = dirs.map(Path::to_string_lossy);
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    for entry in entries {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
            .and_then(Pid::from_raw)
        else {
            continue;
        };
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line);
        if dirs.iter().any(|dir| line.contains(&**dir)) {
            // It may have ended meanwhile.
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}
