//! The machine that is measured on: part of every report, because numbers of two machines cannot be
//! compared. Called by `report.rs` once, at the start.

use std::fs;

use serde::Serialize;

/// What it is, and how busy.
#[derive(Debug, Serialize)]
pub struct Machine {
    /// The processor.
    pub cpu: String,
    /// How many of them.
    pub cpus: usize,
    /// The kernel.
    pub kernel: String,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// Load of the last minute when the run began: others disturb it.
    pub load: String,
}

impl Machine {
    /// Reads it from `/proc`.
    pub fn look() -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let cpus = read("/proc/cpuinfo");
        let model = cpus
            .lines()
            .find_map(|line| line.strip_prefix("model name"));
        let model = model.map(|rest| rest.trim_start_matches(['\t', ' ', ':']));
        let load = read("/proc/loadavg");
        Self {
            cpu: model.unwrap_or("unknown").to_owned(),
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            memory_mib: meminfo("MemTotal:") / 1024,
            load: load.split(' ').next().unwrap_or_default().to_owned(),
        }
    }
}

/// A field of `/proc/meminfo`, in KiB; 0 where there is none.
pub fn meminfo(name: &str) -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    number.unwrap_or(0)
}
