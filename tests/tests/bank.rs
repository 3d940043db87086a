//! The bank's directory (DESIGN section 3, the list for `runtime/pmm`): kept or discarded,
//! found again after the worst, refused with one clear line when it is no good.
#![allow(clippy::unwrap_used)] // in the helpers of tests, too

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use refrain_tests::{Finished, Options, Site, leftovers, proc, run, wait};
use rustix::process::Signal;

/// Kills every process of the site at once, as a machine's failure would.
fn kill_everything(site: &mut Site) {
    site.note_family();
    for id in leftovers::processes(site.name(), &[]) {
        proc::kill_if_there(id);
    }
    wait::until_true("every process to be gone", || {
        // What had been forked meanwhile goes in a second round.
        let left = leftovers::processes(site.name(), &[]);
        left.iter().copied().for_each(proc::kill_if_there);
        left.is_empty()
    });
}

#[test]
fn a_bank_outlives_a_site_whose_every_pid_is_killed_at_once() {
    let mut site = Options::new().keeps_bank().start();
    let words = [
        "alloc", "kept", "4096", "key", "add", "kept", "alloc", "ours", "4096", "group", "add",
        "ours", "park",
    ];
    site.actor(1, "me", "groupie", &words);
    site.wait_lines("me", 4);
    kill_everything(&mut site);
    assert_eq!(site.command("aps").code, Some(3), "there is no site now");

    site.detach();
    // Registrations are found in the bank: the direct actor lives again, with its blocks.
    site.runs("me", 1);
    let lines = site.wait_lines("me", 8);
    assert!(
        lines[4].contains("existed=true") && lines[6].contains("existed=true"),
        "{lines:?}"
    );
    assert_eq!(
        (lines[5].as_str(), lines[7].as_str()),
        ("kept = 2", "ours = 2")
    );
    site.halt(0);
}

#[test]
fn a_site_that_was_killed_in_the_middle_of_crashes_comes_up_again_each_time() {
    let mut site = Options::new().never_bad().keeps_bank().start();
    let words = [
        "alloc",
        "b",
        "4096",
        "group",
        "crash-until",
        "b",
        "1000000000",
    ];
    site.actor(1, "loops", "groupie", &words);
    for round in 0..5 {
        site.wait_row("loops", |row| row.restarts > 3);
        kill_everything(&mut site);
        site.detach();
        let blocks = site.blocks();
        assert_eq!(blocks, ["b"], "round {round}");
    }
    let lines = site.lines("loops");
    let made = lines.iter().filter(|line| line.contains("existed=false"));
    assert_eq!(made.count(), 1, "the block was made once: {lines:#?}");
    site.halt(3);
}

#[test]
fn a_bank_that_is_kept_is_found_by_the_next_site_without_its_groups_blocks() {
    let mut site = Options::new()
        .config("(pmm: (keep_on_halt: true))")
        .keeps_bank()
        .start();
    let words = [
        "alloc", "kept", "4096", "key", "add", "kept", "alloc", "ours", "4096", "group", "park",
    ];
    site.actor(1, "me", "groupie", &words);
    site.wait_lines("me", 3);
    site.halt(0);
    site.detach();
    assert!(site.aps().is_empty(), "nobody is registered");
    assert_eq!(site.blocks(), ["kept"]);
    site.actor(
        1,
        "me",
        "groupie",
        &["alloc", "kept", "4096", "key", "add", "kept", "park"],
    );
    site.wait_line("me", |line| line == "kept = 2");
}

/// A bank that a site has left behind on purpose, with a block in it.
fn used_bank() -> (Site, PathBuf) {
    let mut site = Options::new()
        .config("(pmm: (keep_on_halt: true))")
        .keeps_bank()
        .start();
    site.actor(
        1,
        "me",
        "groupie",
        &["alloc", "kept", "65536", "key", "fill", "kept", "park"],
    );
    site.wait_lines("me", 2);
    site.halt(0);
    let bank = site.bank();
    (site, bank)
}

/// What `c_init --detach` says on that bank; it must refuse with one line that names it.
fn refusal(site: &Site) -> String {
    let finished = run::to_end(site.starter().arg("--detach"), None);
    let line = finished.expect_refusal(1, "c_init on a bad bank");
    assert!(line.contains(&site.bank().display().to_string()), "{line}");
    line
}

/// The largest file but the blocks: the catalogue.
fn catalogue(bank: &Path) -> PathBuf {
    let files = fs::read_dir(bank)
        .unwrap()
        .flatten()
        .map(|entry| entry.path());
    let mut files: Vec<PathBuf> = files.filter(|path| path.is_file()).collect();
    files.retain(|path| {
        !path
            .file_name()
            .unwrap()
            .to_str()
            .unwrap()
            .starts_with("block")
    });
    files.sort_by_key(|path| fs::metadata(path).unwrap().len());
    files.pop().expect("a bank has a catalogue")
}

#[test]
fn a_bank_of_another_version_is_refused() {
    let (site, bank) = used_bank();
    let path = catalogue(&bank);
    let good = fs::read(&path).unwrap();
    // The version stands within the first sixteen bytes (docs/bank-format.md).
    let mut refused = 0;
    for at in 0..16 {
        let mut other = good.clone();
        other[at] ^= 0x40;
        fs::write(&path, &other).unwrap();
        let finished = run::to_end(site.starter().arg("--detach"), None);
        assert_eq!(finished.code, Some(1), "byte {at}: {finished:?}");
        assert_eq!(
            finished.err.trim_end().lines().count(),
            1,
            "byte {at}: {finished:?}"
        );
        refused += usize::from(finished.err.contains("version"));
    }
    assert!(refused > 0, "no refusal speaks of the version");
}

#[test]
fn a_damaged_bank_is_refused_and_not_touched() {
    let (site, bank) = used_bank();
    let path = catalogue(&bank);
    let good = fs::read(&path).unwrap();
    let damages: [(&str, Vec<u8>); 4] = [
        ("empty", Vec::new()),
        ("cut short", good[..good.len() / 2].to_vec()),
        ("nonsense", vec![0x5a; good.len()]),
        ("zeroed", vec![0; good.len()]),
    ];
    for (what, bytes) in damages {
        fs::write(&path, &bytes).unwrap();
        refusal(&site);
        assert_eq!(fs::read(&path).unwrap(), bytes, "{what}");
    }
    // What is whole again is taken again.
    fs::write(&path, good).unwrap();
    let mut site = site;
    site.detach();
    assert_eq!(site.blocks(), ["kept"]);
}

#[test]
fn a_bank_whose_block_is_missing_or_cut_is_refused_or_goes_on_without_a_fault() {
    let (mut site, bank) = used_bank();
    let files = fs::read_dir(&bank)
        .unwrap()
        .flatten()
        .map(|entry| entry.path());
    let block = files
        .filter(|path| fs::metadata(path).unwrap().len() == 65536)
        .find(|path| *path != catalogue(&bank))
        .expect("a block is a file");
    fs::OpenOptions::new()
        .write(true)
        .open(&block)
        .unwrap()
        .set_len(4096)
        .unwrap();
    let finished = run::to_end(site.starter().arg("--detach"), None);
    if finished.code == Some(0) {
        site.started();
        site.actor(
            1,
            "me",
            "groupie",
            &[
                "alloc", "kept", "65536", "key", "fill", "kept", "say", "on", "park",
            ],
        );
        site.wait_line("me", |line| line == "on");
        assert_eq!(
            site.runs("me", 0).restarts,
            0,
            "no fault at a page that is not there"
        );
    } else {
        let line = finished.expect_refusal(1, "c_init on a bank with a cut block");
        assert!(line.contains(&bank.display().to_string()), "{line}");
    }
}

/// Starts the site with its bank on a tmpfs of its own, mounted with `options` in a mount
/// namespace that ends with the site.
fn on_a_tmpfs(site: &Site, options: &str) -> Finished {
    let bank = site.bank();
    fs::create_dir_all(&bank).unwrap();
    let starter = site.starter();
    let mut command = Command::new("unshare");
    let script = format!(
        "mount -t tmpfs -o mode=0700,{options} none '{}' && exec \"$0\" \"$@\"",
        bank.display()
    );
    command
        .args(["-m", "sh", "-c", &script])
        .arg(starter.get_program())
        .args(starter.get_args());
    command.arg("--detach").current_dir(site.dir());
    for (key, value) in starter.get_envs() {
        match value {
            Some(value) => command.env(key, value),
            None => command.env_remove(key),
        };
    }
    run::to_end(&mut command, None)
}

/// Whether this machine lets a test mount; says so when it does not.
fn may_mount() -> bool {
    let mut probe = Command::new("unshare");
    probe.args(["-m", "sh", "-c", "mount -t tmpfs none /mnt"]);
    let may = probe.output().is_ok_and(|output| output.status.success());
    if !may {
        refrain_tests::programs::skipped("mounting is not allowed here");
    }
    may
}

#[test]
fn a_bank_on_a_read_only_file_system_is_refused() {
    if !may_mount() {
        return;
    }
    let site = Options::new().prepare();
    let line = on_a_tmpfs(&site, "ro").expect_refusal(1, "c_init on a read-only file system");
    assert!(line.contains(&site.bank().display().to_string()), "{line}");
    assert!(line.to_lowercase().contains("read-only"), "{line}");
}

#[test]
fn a_bank_on_a_full_file_system_is_refused_at_start_or_at_allocation() {
    if !may_mount() {
        return;
    }
    let site = Options::new().prepare();
    let line = on_a_tmpfs(&site, "size=16k").expect_refusal(1, "c_init on a full file system");
    assert!(line.contains(&site.bank().display().to_string()), "{line}");

    let mut site = Options::new().config("(pmm: (max_blocks: 16))").prepare();
    let started = on_a_tmpfs(&site, "size=8m");
    assert_eq!(started.code, Some(0), "{started:?}");
    site.started();
    let words = [
        "alloc", "big", "16777216", "key", "say", "still", "alloc", "small", "65536", "key",
        "fill", "small", "park",
    ];
    site.actor(1, "me", "groupie", &words);
    let lines = site.wait_lines("me", 4);
    assert!(
        lines[0].starts_with("error alloc big") || lines[0].starts_with("error alloc"),
        "{lines:?}"
    );
    assert_eq!(lines[1], "still");
    assert_eq!(lines[3], "filled small", "{lines:?}");
    assert_eq!(site.runs("me", 0).restarts, 0, "no fault at first touch");
    site.halt(0);
}

#[test]
fn a_bank_that_cannot_be_made_is_refused() {
    let site = Options::new()
        .bank(Path::new("/proc/no/such/place"))
        .prepare();
    refusal(&site);
    let file = Options::new().prepare();
    let site = Options::new().bank(&file.write("a_file", "")).prepare();
    refusal(&site);
}

#[test]
fn a_site_is_killed_and_its_name_can_be_used_again_at_once() {
    let mut site = Options::new().keeps_bank().start();
    site.actor(1, "me", "crasher", &["park"]);
    proc::kill(site.nucleus_pid(), Signal::KILL);
    kill_everything(&mut site);
    site.detach();
    site.ok("echo served");
}
