//! What `/proc` tells about processes: parents, states, memory, fds. Called by the tests that look
//! at a site from outside and by [`crate::leftovers`]. Everything may vanish while it is looked
//! at, so every answer is an `Option` or a list.

use std::fs;
use std::path::PathBuf;

use rustix::process::{Pid, Signal};

/// A process that cannot be mistaken for a later one of the same pid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ProcId {
    /// The pid.
    pub pid: u32,
    /// When it began, in ticks since boot.
    pub began: u64,
}

/// The part of `/proc/PID/stat` that tests use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Who.
    pub id: ProcId,
    /// The state letter: `R`, `S`, `T`, `Z` ...
    pub state: char,
    /// The parent.
    pub parent: u32,
    /// The role that its name says: `T` of a template, `S` of a standby, `K` of a keeper.
    pub role: Option<char>,
}

/// The stat of a process; `None` when there is none of that pid.
#[must_use]
pub fn stat(pid: u32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name is in parentheses and may itself hold anything; what follows the last one is plain.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let began = fields.get(19)?.parse().ok()?;
    let name = text.split_once('(')?.1;
    let role = name.get(1..2).filter(|mark| *mark == ":");
    Some(Stat {
        id: ProcId { pid, began },
        state: fields.first()?.chars().next()?,
        parent: fields.get(1)?.parse().ok()?,
        role: role.and_then(|_| name.chars().next()),
    })
}

/// Whether `id` still is there. A zombie is not: what is left of a site's processes belongs to
/// the machine's init, which may take its time.
#[must_use]
pub fn exists(id: ProcId) -> bool {
    stat(id.pid).is_some_and(|stat| stat.id == id && stat.state != 'Z' && stat.state != 'X')
}

/// Whether a process of that pid is there and not a zombie.
#[must_use]
pub fn is_alive(pid: u32) -> bool {
    stat(pid).is_some_and(|stat| stat.state != 'Z' && stat.state != 'X')
}

/// Every process of the machine.
#[must_use]
pub fn all() -> Vec<Stat> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(stat).collect()
}

/// `root` and everything below it.
#[must_use]
pub fn family(root: u32) -> Vec<Stat> {
    let all = all();
    let mut found: Vec<Stat> = all
        .iter()
        .filter(|stat| stat.id.pid == root)
        .copied()
        .collect();
    let mut next = 0;
    while let Some(parent) = found.get(next).map(|stat| stat.id.pid) {
        let children = all
            .iter()
            .filter(|stat| stat.parent == parent && stat.id.pid != parent);
        found.extend(children.copied());
        next += 1;
    }
    found
}

/// The children of `pid`.
#[must_use]
pub fn children(pid: u32) -> Vec<Stat> {
    let all = all().into_iter();
    all.filter(|stat| stat.parent == pid).collect()
}

/// The children of `pid` that are zombies.
#[must_use]
pub fn zombies_of(pid: u32) -> usize {
    children(pid)
        .iter()
        .filter(|stat| stat.state == 'Z')
        .count()
}

/// A figure of `/proc/PID/status` ("VmRSS", "Threads" ...).
#[must_use]
pub fn status(pid: u32, field: &str) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    line.split_whitespace().next()?.parse().ok()
}

/// How many fds a process has.
#[must_use]
pub fn fd_count(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}

/// A file of `/proc/PID` as text, NULs as line ends.
#[must_use]
pub fn text(pid: u32, file: &str) -> String {
    let bytes = fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).replace('\0', "\n")
}

/// What `/proc/PID/exe` points to.
#[must_use]
pub fn exe(pid: u32) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{pid}/exe")).ok()
}

/// The directory of a process in the hierarchy of version 1 whose controllers are `controller` alone or with
/// others; `None` where there is none.
#[must_use]
pub fn cgroup_of(pid: u32, controller: &str) -> Option<PathBuf> {
    let text = text(pid, "cgroup");
    let own = text.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let is_it = fields.next()?.split(',').any(|word| word == controller);
        fields.next().filter(|_| is_it)
    })?;
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let point = mounts.lines().find(|line| {
        let (_, about) = line.split_once(" - ").unwrap_or_default();
        let options = about.rsplit(' ').next().unwrap_or_default();
        about.starts_with("cgroup ") && options.split(',').any(|word| word == controller)
    })?;
    let point = point.split(' ').nth(4)?;
    Some(PathBuf::from(format!("{point}{own}")))
}

/// Sends a signal.
///
/// # Panics
/// When there is no such process: a test that kills a life knows that it lives.
pub fn kill(pid: u32, signal: Signal) {
    let raw = i32::try_from(pid)
        .ok()
        .and_then(Pid::from_raw)
        .expect("a pid is a positive number");
    rustix::process::kill_process(raw, signal)
        .unwrap_or_else(|error| panic!("cannot send {signal:?} to {pid}: {error}"));
}

/// Kills `id`, if it still is there.
pub fn kill_if_there(id: ProcId) {
    signal_if_there(id, Signal::KILL);
}

/// Sends a signal to `id`, if it still is there.
pub fn signal_if_there(id: ProcId, signal: Signal) {
    if exists(id)
        && let Some(raw) = i32::try_from(id.pid).ok().and_then(Pid::from_raw)
    {
        let _ = rustix::process::kill_process(raw, signal);
    }
}
