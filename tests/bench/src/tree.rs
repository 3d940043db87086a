//! The site's processes as `/proc` shows them: who is whose child, what each holds. Called where the cost
//! of a site is looked at. It only reads, and takes what has ended meanwhile for nothing.

use std::collections::HashMap;
use std::fs;
use std::str::FromStr;

use crate::site::Row;

/// Who is whose child, at one moment.
pub struct Tree(HashMap<u32, Vec<u32>>);

impl Tree {
    /// Looks at all processes.
    pub fn look() -> Self {
        let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
        for pid in numbers("/proc") {
            if let Some(parent) = parent(pid) {
                children.entry(parent).or_default().push(pid);
            }
        }
        Self(children)
    }

    /// The children of `of`.
    pub fn children(&self, of: u32) -> &[u32] {
        self.0.get(&of).map_or(&[], Vec::as_slice)
    }

    /// `of` and all below it.
    pub fn below(&self, of: u32) -> Vec<u32> {
        let mut all = vec![of];
        let mut at = 0;
        while let Some(&pid) = all.get(at) {
            all.extend(self.children(pid));
            at += 1;
        }
        all
    }
}

/// The processes of a site that are no actor's.
#[derive(Clone, Copy)]
pub struct Keepers {
    /// The root of the site's tree.
    pub nucleus: u32,
    /// The controller.
    pub hr_ctrl: u32,
}

impl Keepers {
    /// Found from any actor that is alive.
    pub fn of(rows: &[Row]) -> Option<Self> {
        let template = rows.iter().find_map(|row| row.pid).and_then(parent)?;
        let hr_ctrl = parent(template)?;
        let nucleus = parent(hr_ctrl)?;
        Some(Self { nucleus, hr_ctrl })
    }
}

/// The parent of a process.
pub fn parent(pid: u32) -> Option<u32> {
    stat(pid, 1)
}

/// Whether it has ended and waits to be reaped.
pub fn is_zombie(pid: u32) -> bool {
    stat::<char>(pid, 0) == Some('Z')
}

/// A field of `/proc/PID/stat`, counted from the state.
fn stat<T: FromStr>(pid: u32, field: usize) -> Option<T> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let rest = stat.rsplit_once(')')?.1;
    rest.split_whitespace().nth(field)?.parse().ok()
}

/// The proportional share of its memory, in KiB.
pub fn pss(pid: u32) -> f64 {
    field(&format!("/proc/{pid}/smaps_rollup"), "Pss:")
}

/// Its resident memory, in KiB.
pub fn rss(pid: u32) -> f64 {
    field(&format!("/proc/{pid}/status"), "VmRSS:")
}

/// How many threads it has.
pub fn threads(pid: u32) -> f64 {
    field(&format!("/proc/{pid}/status"), "Threads:")
}

/// How many fds it has open.
pub fn fds(pid: u32) -> usize {
    numbers(&format!("/proc/{pid}/fd")).len()
}

/// How often its threads have gone to sleep so far: as often as they were woken.
pub fn sleeps(pid: u32) -> f64 {
    let threads = format!("/proc/{pid}/task");
    let status = |thread| format!("{threads}/{thread}/status");
    let each = |thread| field(&status(thread), "voluntary_ctxt_switches:");
    numbers(&threads).into_iter().map(each).sum()
}

/// Whether it shares the memory of another process of its template, so that its memory must not be counted again: a
/// keeper of a life or of a standby.
pub fn is_keeper(pid: u32) -> bool {
    let comm = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    comm.starts_with("K:")
}

fn numbers(dir: &str) -> Vec<u32> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

fn field(path: &str, name: &str) -> f64 {
    let text = fs::read_to_string(path).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    number.unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_runs_is_below_its_parent() {
        let own = std::process::id();
        let parent = parent(own).unwrap();
        let tree = Tree::look();
        assert!(tree.children(parent).contains(&own));
        assert!(tree.below(parent).contains(&own));
        assert!(pss(own) > 0.0 && rss(own) > 0.0 && threads(own) >= 1.0);
        assert!(!is_zombie(own));
    }
}
