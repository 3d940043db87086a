//! What idle actors cost: memory of their processes and of the kernel for them, fds, wake-ups. Called by
//! `scale.rs` while they do nothing.

use std::time::Duration;

use anyhow::{Context, Result};

use crate::interrupt;
use crate::machine::meminfo;
use crate::report::Report;
use crate::scale::PART;
use crate::site::{Row, Site};
use crate::tree::{self, Keepers, Tree};

/// The figure that a goal is set for; how many actors there were follows.
pub const KEPT: &str = "PSS of template and standby of an idle actor";
/// How many idle actors' memory is looked at.
const LOOKED_AT: usize = 100;
/// How long wake-ups are counted.
const QUIET: Duration = Duration::from_secs(5);
/// The kernel's memory for processes, fields of `/proc/meminfo`.
const KERNEL: [&str; 3] = ["Slab:", "KernelStack:", "PageTables:"];

/// The kernel's memory before there were actors.
pub struct Before([u64; 3]);

impl Before {
    /// Looks at it.
    pub fn look() -> Self {
        Self(KERNEL.map(meminfo))
    }
}

/// Tells the report what `count` idle actors cost.
///
/// # Errors
/// When the site does not answer, or at an interrupt.
pub fn tell(site: &Site, report: &mut Report, before: &Before, count: u32) -> Result<()> {
    let with = |what: &str| format!("{what}, {count} of them");
    let each = f64::from(count);
    for ((name, before), after) in KERNEL.iter().zip(before.0).zip(KERNEL.map(meminfo)) {
        let name = name.trim_end_matches(':');
        let more = after.saturating_sub(before) as f64;
        let what = with(&format!("{name} of the kernel for an idle actor"));
        report.figure(PART, &what, more / each, "KiB");
    }
    let rows = site.aps()?;
    let keepers = Keepers::of(&rows).context("no actor is alive")?;
    let tree = Tree::look();
    let idle = Memory::of(&rows, &tree);
    report.figure(PART, &with(KEPT), idle.kept, "KiB");
    report.figure(PART, &with("PSS of its life"), idle.life, "KiB");
    report.figure(
        PART,
        &with("processes of an idle actor"),
        idle.processes,
        "",
    );
    report.figure(PART, &with("fds of its processes"), idle.fds, "");
    for (name, pid) in [("hr_ctrl", keepers.hr_ctrl), ("nucleus", keepers.nucleus)] {
        let (fds, pss) = (tree::fds(pid) as f64, tree::pss(pid));
        let what = format!("fds of {name} with {count}");
        report.figure(PART, &what, fds, "");
        report.figure(PART, &format!("{what}, for each actor"), fds / each, "");
        report.figure(PART, &format!("PSS of {name} with {count}"), pss, "KiB");
    }
    wake_ups(report, &tree.below(keepers.nucleus), count)
}

/// Means over some idle actors, in KiB.
struct Memory {
    kept: f64,
    life: f64,
    processes: f64,
    fds: f64,
}

impl Memory {
    fn of(rows: &[Row], tree: &Tree) -> Self {
        let idle = rows.iter().filter(|row| row.name.starts_with("idle"));
        let lives: Vec<u32> = idle.filter_map(|row| row.pid).take(LOOKED_AT).collect();
        let mut sum = Self {
            kept: 0.0,
            life: 0.0,
            processes: 0.0,
            fds: 0.0,
        };
        for &life in &lives {
            sum.life += tree::pss(life);
            let Some(template) = tree::parent(life) else {
                continue;
            };
            let family = tree.below(template);
            let own = |pid: &&u32| **pid != life && !tree::is_keeper(**pid);
            sum.kept += family
                .iter()
                .filter(own)
                .map(|pid| tree::pss(*pid))
                .sum::<f64>();
            sum.processes += family.len() as f64;
            sum.fds += family.iter().map(|pid| tree::fds(*pid) as f64).sum::<f64>();
        }
        let number = lives.len().max(1) as f64;
        Self {
            kept: sum.kept / number,
            life: sum.life / number,
            processes: sum.processes / number,
            fds: sum.fds / number,
        }
    }
}

/// How often anybody of an idle site is woken.
fn wake_ups(report: &mut Report, pids: &[u32], count: u32) -> Result<()> {
    let each: Vec<f64> = pids.iter().map(|pid| tree::sleeps(*pid)).collect();
    interrupt::sleep(QUIET)?;
    let mut woken = 0.0;
    for (pid, before) in pids.iter().zip(each) {
        woken += (tree::sleeps(*pid) - before).max(0.0);
    }
    let what = format!("wake-ups of the whole site with {count} idle actors");
    let second = woken / QUIET.as_secs_f64();
    report.figure(PART, &what, second, "a second");
    Ok(())
}
