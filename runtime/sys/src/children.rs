//! Who descends from a process, where there is no cgroup v2 to ask.
//!
//! Called by the controller when a life has ended, to sweep what it started. Slow (it reads
//! `/proc`) and racy by nature: the caller sweeps again until nothing is left, and makes sure of each
//! pid by a pidfd opened before it was looked at. Must never signal anybody itself.

use std::collections::HashMap;
use std::fs;
use std::io;

/// The pids of the direct children of `pid`.
///
/// # Errors
/// `NotFound` when there is no such process; else the kernel's (`/proc` not mounted).
///
/// Source: /proc/PID/task/TID/children and /proc/PID/stat in proc(5).
pub fn children_of(pid: u32) -> io::Result<Vec<u32>> {
    match children_by_list(pid) {
        // The file exists only with CONFIG_PROC_CHILDREN.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            fs::metadata(format!("/proc/{pid}"))?;
            let parents = parents()?;
            Ok(parents
                .into_iter()
                .filter(|(_, parent)| *parent == pid)
                .map(|(p, _)| p)
                .collect())
        }
        other => other,
    }
}

/// The pids of all descendants of `pid`, nearest first, in one look at `/proc`.
///
/// # Errors
/// As [`children_of`].
pub fn descendants_of(pid: u32) -> io::Result<Vec<u32>> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for (child, parent) in parents()? {
        children.entry(parent).or_default().push(child);
    }
    // A child is listed under one parent, and its list is taken out: nobody is found twice, also where a
    // pid was given out anew during the look.
    let mut found = children.remove(&pid).unwrap_or_default();
    let mut next = 0;
    while let Some(parent) = found.get(next) {
        found.extend(children.remove(parent).unwrap_or_default());
        next += 1;
    }
    found.retain(|found| *found != pid);
    Ok(found)
}

fn children_by_list(pid: u32) -> io::Result<Vec<u32>> {
    let mut children = Vec::new();
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        let text = fs::read_to_string(thread?.path().join("children"))?;
        children.extend(
            text.split_whitespace()
                .filter_map(|pid| pid.parse::<u32>().ok()),
        );
    }
    Ok(children)
}

/// Every process with its parent.
fn parents() -> io::Result<Vec<(u32, u32)>> {
    let mut pairs = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        // It may end between the two looks.
        let Ok(stat) = fs::read(format!("/proc/{pid}/stat")) else {
            continue;
        };
        pairs.extend(parent_in_stat(&stat).map(|parent| (pid, parent)));
    }
    Ok(pairs)
}

/// The fourth field of `stat`. The second is a name that its owner chose: it may hold blanks and
/// brackets, so the fields are counted from the last bracket.
fn parent_in_stat(stat: &[u8]) -> Option<u32> {
    let end = stat.iter().rposition(|byte| *byte == b')')?;
    let rest = std::str::from_utf8(stat.get(end + 1..)?).ok()?;
    rest.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_does_not_shift_the_fields() {
        assert_eq!(parent_in_stat(b"7 (a) R 1 (b)) S 42 7 7 0"), Some(42));
        assert_eq!(parent_in_stat(b"7 (a"), None);
        assert_eq!(parent_in_stat(b"7 (a)"), None);
    }
}
