//! What a site leaves behind: processes, files in the places where sites keep theirs, cgroups.
//! Called by [`crate::Site`] when it is dropped; touches only what carries the site's own unique
//! name or was seen below its nucleus.

use std::fs;
use std::path::{Path, PathBuf};

use crate::proc::{self, ProcId};

/// The environment variable that every process of a test's site inherits, with the site's name.
/// Not one of Refrain's own, which lives do not see.
pub const MARK: &str = "SYSTEST_SITE";

/// The processes of the site `name`: those that carry its mark, its name on their command line or
/// in their cgroup, and those of `known` that are still there.
#[must_use]
pub fn processes(name: &str, known: &[ProcId]) -> Vec<ProcId> {
    let me = std::process::id();
    let mark = format!("{MARK}={name}");
    let mut found: Vec<ProcId> = known
        .iter()
        .copied()
        .filter(|id| proc::exists(*id))
        .collect();
    for stat in proc::all() {
        let pid = stat.id.pid;
        if pid == me || found.contains(&stat.id) {
            continue;
        }
        let marked = proc::text(pid, "environ").lines().any(|line| line == mark)
            || proc::text(pid, "cmdline").contains(name)
            || proc::text(pid, "cgroup").contains(name);
        if marked && proc::exists(stat.id) {
            found.push(stat.id);
        }
    }
    found
}

/// One line a process, for the message of a test that failed.
#[must_use]
pub fn describe(ids: &[ProcId]) -> Vec<String> {
    let line = |id: &ProcId| {
        let state = proc::stat(id.pid).map_or('?', |stat| stat.state);
        let comm = proc::text(id.pid, "comm").trim().to_owned();
        let cmdline = proc::text(id.pid, "cmdline").replace('\n', " ");
        format!("{} {state} {comm}: {cmdline}", id.pid)
    };
    ids.iter().map(line).collect()
}

/// Files and folders that carry the site's name in the places where sites keep theirs.
#[must_use]
pub fn files(name: &str) -> Vec<PathBuf> {
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let mut places = vec![PathBuf::from("/run/refrain"), PathBuf::from("/dev/shm")];
    places.extend(runtime.map(|dir| dir.join("refrain")));
    let shm = fs::read_dir("/dev/shm").into_iter().flatten().flatten();
    places.extend(shm.map(|entry| entry.path()).filter(|path| path.is_dir()));
    let mut found = Vec::new();
    for place in places {
        found.extend(named_in(&place, name));
    }
    found
}

/// Cgroups that carry the site's name.
#[must_use]
pub fn cgroups(name: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut places = vec![PathBuf::from("/sys/fs/cgroup")];
    while let Some(place) = places.pop() {
        found.extend(
            named_in(&place, name)
                .into_iter()
                .filter(|path| path.is_dir()),
        );
        let entries = fs::read_dir(&place).into_iter().flatten().flatten();
        let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        places.extend(folders.map(|entry| entry.path()));
    }
    found
}

fn named_in(place: &Path, name: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(place).into_iter().flatten().flatten();
    let named = entries.filter(|entry| entry.file_name().to_string_lossy().contains(name));
    named.map(|entry| entry.path()).collect()
}
