//! `data`: what it costs that our types are never torn, in one program without a site: against the standard library's
//! hash map, which keeps nothing and is the limit, and beside the stores that a user would pick instead. Put, get and
//! update for values of two sizes in stores of two sizes, and how long it takes after a crash until a value is read.

mod crash;
mod file;
mod ours;
mod peers;
mod plain;
mod subject;
#[cfg(test)]
mod tests;
mod turns;
mod who;

use anyhow::Result;
use tempfile::TempDir;

use crate::heat::Stage;
use crate::machine::meminfo;
use crate::progress::Progress;
use crate::report::Report;
pub use crash::live;
use subject::Op;
use turns::{Contender, fill, measure};
pub use who::Who;

/// The part's name.
pub const PART: &str = "data";
/// The operations that goals are about.
pub const GET: &str = "get";
/// See [`GET`].
pub const PUT: &str = "put";
/// See [`GET`].
pub const UPDATE: &str = "update";
/// See [`GET`].
pub const REOPEN: &str = crash::OP;

/// How many entries, and how that is written.
type Entries = (u64, &'static str);
/// The fewer entries.
const FEW: Entries = (1_000, "1 k");
/// Bytes of values up to which everybody is loaded at the same time.
const TOGETHER: u64 = 256 << 20;
/// Memory that a store takes for a byte of a value, at most.
const FACTOR: u64 = 3;

/// The name of a row.
pub fn what(who: Who, op: &str, size: &str, entries: &str) -> String {
    format!("{}, {op}, {size}, {entries}", who.name())
}

/// Whether a row's name says that it is of this operation.
pub fn is_of(op: &str, what: &str) -> bool {
    what.split(", ").nth(1) == Some(op)
}

/// The part.
///
/// # Errors
/// When a store fails, or at an interrupt.
pub fn run(stage: &Stage, report: &mut Report) -> Result<()> {
    let many = stage.pick((1_000_000, "1 M"), (100_000, "100 k"));
    for who in Who::ALL {
        if let Some(why) = who.missing() {
            report.fact(PART, who.name(), why);
        }
    }
    for entries in [FEW, many] {
        one_size::<64>(stage, report, entries, "64 bytes")?;
        one_size::<1024>(stage, report, entries, "1 KiB")?;
    }
    crash::rows(stage, report, [FEW, many])
}

/// Values of `N` bytes, so many of them.
fn one_size<const N: usize>(
    stage: &Stage,
    report: &mut Report,
    entries: Entries,
    size: &str,
) -> Result<()> {
    let mut all = Who::ALL.to_vec();
    all.retain(|who| who.missing().is_none() && (*who != Who::Cell || entries == FEW));
    let bytes = entries.0 * N as u64;
    let groups = if bytes <= TOGETHER {
        vec![all]
    } else {
        let (peers, ours): (Vec<Who>, Vec<Who>) = all.iter().partition(|who| who.is_peer());
        let mut groups = vec![ours];
        groups.extend(peers.into_iter().map(|peer| vec![peer]));
        groups
    };
    for group in groups {
        let names: Vec<&str> = group.iter().map(|who| who.name()).collect();
        let (names, needed) = (names.join(", "), FACTOR * bytes * group.len() as u64);
        let free = meminfo("MemAvailable:") << 10;
        if free < needed {
            let why = format!("skipped: needs {} MiB of free memory", needed >> 20);
            report.fact(PART, &format!("{names}, {size}, {}", entries.1), why);
            continue;
        }
        together::<N>(stage, report, (entries, size), &group)?;
    }
    Ok(())
}

/// Those who are loaded at the same time, and take turns.
fn together<const N: usize>(
    stage: &Stage,
    report: &mut Report,
    ((count, entries), size): (Entries, &str),
    group: &[Who],
) -> Result<()> {
    let dir = TempDir::new_in(stage.dir)?;
    let label = match group {
        [one] => format!("{PART}, {}, {size}, {entries}", one.name()),
        _ => format!("{PART}, {size}, {entries}"),
    };
    let progress = Progress::new(&format!("{label}, to fill"), group.len() as u64);
    let mut all = Vec::new();
    for &who in group {
        let mut subject = who.open::<N>(dir.path(), count)?;
        fill(&mut *subject, count)?;
        all.push(Contender::new(who, subject));
        progress.step();
    }
    drop(progress);
    measure(&mut all, count, stage.pick(40, 4), &label)?;
    for one in all {
        for (op, samples) in Op::ALL.into_iter().zip(one.samples) {
            if samples.is_empty() {
                continue;
            }
            let name = |who| what(who, op.name(), size, entries);
            let limit = one.who.limit().map(name);
            report.row(PART, &name(one.who), limit.as_deref(), samples);
        }
    }
    Ok(())
}
