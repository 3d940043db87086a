//! Where the bank lies, and what the machine does with memory.
//!
//! Called by `doctor`. It must never make the bank's directory.

use std::path::{Path, PathBuf};

use hr_ctrl::paths;
use refrain_abi::tunables::Tunables;
use refrain_sys::process;

use super::{Finding, told};
use crate::table::size;

/// Everything that was looked at.
pub(super) fn findings() -> Vec<Finding> {
    let root = paths::site_root();
    // Its parent, which the machine has made.
    let place = root.parent().unwrap_or(&root).to_owned();
    let mut findings = vec![bank(&place)];
    findings.extend(
        ["/run", "/dev/shm"]
            .into_iter()
            .filter(|other| Path::new(other) != place)
            .map(other_place),
    );
    findings.extend([swap(&place), overcommit(), huge_pages()]);
    findings
}

/// What is free on a file system, in bytes.
fn free(place: &Path) -> Option<u64> {
    let stat = rustix::fs::statvfs(place).ok()?;
    Some(stat.f_bavail.saturating_mul(stat.f_frsize))
}

fn bank(place: &Path) -> Finding {
    let feature = "place of the bank";
    let wanted = Tunables::default().pmm.ram_bank_size;
    let name = place.display();
    if !process::is_tmpfs(place).unwrap_or(false) {
        return Finding::missing(
            feature,
            format!("{name} is not on tmpfs"),
            "each change of the bank waits for a disk, and a restart may, too; mount a tmpfs on \
             /run or /dev/shm",
        );
    }
    match free(place) {
        Some(free) if free < wanted => Finding::missing(
            feature,
            format!("{name} has {} free", size(free)),
            format!(
                "pmm.ram_bank_size is {}: allocations will fail; enlarge the file system or lower \
                 it",
                size(wanted)
            ),
        ),
        Some(free) => Finding::found(feature, format!("{name}, tmpfs, {} free", size(free))),
        None => Finding::found(feature, format!("{name}, tmpfs")),
    }
}

fn other_place(place: &'static str) -> Finding {
    let path = Path::new(place);
    let kind = match process::is_tmpfs(path) {
        Ok(true) => "tmpfs",
        Ok(false) => "no tmpfs",
        Err(_) => "not there",
    };
    match free(path) {
        Some(free) => Finding::note(place, format!("{kind}, {} free", size(free))),
        None => Finding::note(place, kind),
    }
}

fn swap(place: &Path) -> Finding {
    let feature = "memory stays in memory";
    let areas = told("/proc/swaps").map_or(0, |text| text.lines().skip(1).count());
    let group = refrain_sys::cgroup::own_directory().ok();
    let forbidden = group
        .and_then(|dir| told(&dir.join("memory.swap.max").display().to_string()))
        .is_some_and(|limit| limit == "0");
    if areas == 0 {
        Finding::found(feature, "there is no swap")
    } else if forbidden {
        Finding::found(feature, "memory.swap.max is 0")
    } else if has_option(place, "noswap") {
        Finding::found(feature, "the bank's tmpfs is mounted noswap")
    } else {
        Finding::lacking(
            feature,
            format!("{areas} swap areas"),
            "blocks and images may be swapped out, and the restart waits then; mount the bank's \
             tmpfs with noswap (Linux 6.4)",
        )
    }
}

/// Whether the mount that a path lies on has an option.
fn has_option(path: &Path, option: &str) -> bool {
    let mounts = told("/proc/self/mountinfo").unwrap_or_default();
    options_of(&mounts, path)
        .iter()
        .any(|given| given == option)
}

/// The options of the deepest mount above `path`. Source: /proc/PID/mountinfo in proc(5).
fn options_of(mounts: &str, path: &Path) -> Vec<String> {
    let above = mounts.lines().filter_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        let point = PathBuf::from(left.split(' ').nth(4)?);
        let options = format!("{},{}", left.split(' ').nth(5)?, right.split(' ').nth(2)?);
        path.starts_with(&point).then_some((point, options))
    });
    // Of mounts on one point the last one covers the others.
    let deepest = above.max_by_key(|(point, _)| point.components().count());
    deepest.map_or_else(Vec::new, |(_, options)| {
        options.split(',').map(str::to_owned).collect()
    })
}

fn overcommit() -> Finding {
    let feature = "overcommit";
    match told("/proc/sys/vm/overcommit_memory").as_deref() {
        Some("2") => Finding::lacking(
            feature,
            "vm.overcommit_memory=2",
            "each standby counts as if it had written to all its memory: starts may be refused \
             where there is enough",
        ),
        Some(value) => Finding::found(feature, format!("vm.overcommit_memory={value}")),
        None => Finding::note(feature, "not told"),
    }
}

fn huge_pages() -> Finding {
    let chosen = |file: &str| {
        let text = told(&format!("/sys/kernel/mm/transparent_hugepage/{file}"))?;
        let chosen = text.split('[').nth(1)?.split(']').next()?;
        Some(chosen.to_owned())
    };
    let text = |file| chosen(file).unwrap_or_else(|| "not there".into());
    let what = format!(
        "private memory {}, shared memory {}",
        text("enabled"),
        text("shmem_enabled")
    );
    Finding::note("huge pages", what)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
22 1 0:20 / / rw,relatime - ext4 /dev/vda rw
31 22 0:28 / /run rw,nosuid - tmpfs tmpfs rw,mode=755
32 31 0:29 / /run/user/7 rw,nosuid - tmpfs tmpfs rw,size=1k,noswap
33 31 0:30 / /run rw,noexec - tmpfs tmpfs rw
";

    #[test]
    fn h20_the_options_are_those_of_the_mount_that_counts() {
        let options = |path: &str| options_of(MOUNTS, Path::new(path));
        assert!(options("/run/user/7/refrain").contains(&"noswap".to_owned()));
        assert!(!options("/run/user").contains(&"noswap".to_owned()));
        assert!(options("/run/user").contains(&"noexec".to_owned()));
        assert_eq!(options("/home"), ["rw", "relatime", "rw"]);
        assert!(options_of("", Path::new("/")).is_empty());
    }
}
