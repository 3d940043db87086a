//! `c_init bank`: a bank is looked at without a site and beside one, told what is wrong with it, and
//! repaired (DESIGN section 3; docs/commands/bank.md).
#![allow(clippy::unwrap_used)] // in the helpers of tests, too

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use refrain_tests::{Finished, Options, Site, binaries, leftovers, proc, run, wait};
use serde_json::Value;

/// Where the first block's record begins.
const FIRST_BLOCK: u64 = 8192;

fn bank<S: AsRef<OsStr>>(words: impl IntoIterator<Item = S>) -> Finished {
    let mut command = Command::new(binaries::path("c_init"));
    run::to_end(command.arg("bank").args(words), None)
}

fn on(verb: &[&str], dir: &Path) -> Finished {
    bank(verb.iter().map(OsStr::new).chain([dir.as_os_str()]))
}

fn shown(dir: &Path) -> Value {
    let text = on(&["show", "--json"], dir).expect_ok("bank show");
    serde_json::from_str(&text).unwrap()
}

fn names(shown: &Value, of: &str) -> Vec<String> {
    let all = shown[of].as_array().unwrap().iter();
    all.map(|it| it["name"].as_str().unwrap().to_owned())
        .collect()
}

/// Every file below a directory with its content.
fn contents(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(contents(&path));
        } else {
            let bytes = fs::read(&path).unwrap();
            all.insert(path, bytes);
        }
    }
    all
}

/// A site with two blocks and one registration, whose every process was then killed at once.
fn killed_site() -> Site {
    let mut site = Options::new().keeps_bank().start();
    let words = [
        "alloc", "kept", "4096", "key", "add", "kept", "alloc", "ours", "8192", "group", "add",
        "ours", "park",
    ];
    site.actor(1, "me", "groupie", &words);
    site.wait_lines("me", 4);
    site.note_family();
    wait::until_true("every process to be gone", || {
        let left = leftovers::processes(site.name(), &[]);
        left.iter().copied().for_each(proc::kill_if_there);
        left.is_empty()
    });
    site
}

/// Damages the record of block `kept`.
fn damage(dir: &Path) {
    let catalogue = File::options()
        .write(true)
        .open(dir.join("catalogue"))
        .unwrap();
    catalogue.write_all_at(b"XXXX", FIRST_BLOCK + 100).unwrap();
}

#[test]
fn h31_a_bank_whose_site_was_killed_is_told_without_a_byte_changed() {
    let mut site = killed_site();
    let dir = site.bank();
    fs::write(dir.join("block-77"), "left by a crash").unwrap();
    let before = contents(&dir);
    let text = on(&["show"], &dir).expect_ok("bank show");
    for part in [
        "held by        nobody",
        "kept   group 1  ",
        "ours   group 1  group",
        "me     1    direct",
        "the next start will: remove block-77",
    ] {
        assert!(text.contains(part), "{part} in\n{text}");
    }
    let whole = on(&["check"], &dir).expect_ok("bank check");
    assert_eq!(whole, "whole: 2 blocks, 1 registrations\n");
    let nothing = on(&["repair"], &dir).expect_ok("bank repair");
    assert_eq!(nothing, "whole: nothing to repair\n");
    let view = shown(&dir);
    assert_eq!(names(&view, "blocks"), ["kept", "ours"]);
    assert_eq!(view["blocks"][1]["provided"], 8192);
    assert_eq!(view["registrations"][0]["kind"], "direct");
    assert_eq!(
        (&view["held"], &view["this_boot"]),
        (&false.into(), &true.into())
    );
    assert_eq!(contents(&dir), before);
    site.detach();
    site.runs("me", 1);
    site.halt(0);
}

#[test]
fn h31_a_bank_on_a_read_only_file_system_is_checked() {
    let mut site = killed_site();
    let dir = site.bank();
    let place = dir.display();
    let script = format!(
        "mount --bind {place} {place} && mount -o remount,ro,bind {place} || exit 99; exec \"$0\" \"$@\""
    );
    let read_only = |words: &[&str]| {
        let mut command = Command::new("unshare");
        command.args(["-m", "sh", "-c", &script]);
        command
            .arg(binaries::path("c_init"))
            .arg("bank")
            .args(words);
        run::to_end(command.arg(&dir), None)
    };
    let told = read_only(&["check"]);
    if told.code == Some(99) || told.err.contains("unshare") {
        println!("skipped: a read-only mount is not permitted here");
    } else {
        assert_eq!(
            told.expect_ok("check"),
            "whole: 2 blocks, 1 registrations\n"
        );
        assert_eq!(read_only(&["show"]).code, Some(0));
        damage(&dir);
        assert_eq!(read_only(&["check"]).code, Some(1));
        assert_eq!(read_only(&["repair"]).code, Some(1), "the plan can be told");
        let told = read_only(&["repair", "--yes"]).expect_refusal(1, "repair");
        assert!(told.contains("Read-only"), "{told}");
        assert_eq!(on(&["repair", "--yes"], &dir).code, Some(0));
    }
    site.detach();
    site.halt(0);
}

#[test]
fn h20_damage_is_told_planned_and_mended_and_the_other_block_is_found_again() {
    let mut site = killed_site();
    let dir = site.bank();
    damage(&dir);
    let harmed = contents(&dir);
    let started = run::to_end(site.starter().arg("--detach"), None);
    let refused = started.expect_refusal(1, "c_init on a damaged bank");
    assert!(refused.contains("damaged"), "{refused}");
    let told = on(&["check"], &dir);
    assert_eq!((told.code, told.err.as_str()), (Some(1), ""));
    assert_eq!(
        told.out,
        "catalogue offset 8192: the checksum of a record is wrong\n"
    );
    let plan = on(&["repair"], &dir);
    assert_eq!(plan.code, Some(1));
    assert!(
        plan.out
            .ends_with("nothing was changed; repair --yes does this\n"),
        "{plan:?}"
    );
    assert_eq!(contents(&dir), harmed);

    let done = on(&["repair", "--yes"], &dir).expect_ok("bank repair --yes");
    let steps = |text: &str| -> Vec<String> {
        let lines = text.lines().map(str::to_owned).collect::<Vec<_>>();
        lines[..lines.len() - 1].to_vec()
    };
    assert_eq!(steps(&done), steps(&plan.out), "it does what it said");
    assert_eq!(on(&["check"], &dir).code, Some(0));
    let kept = contents(&dir.join("lost+found-1"));
    assert_eq!(kept.len(), 2, "the old catalogue and the nameless block");
    assert!(
        kept.values()
            .any(|bytes| *bytes == harmed[&dir.join("catalogue")])
    );
    site.detach();
    let lines = site.wait_lines("me", 8);
    assert!(
        lines[4].contains("existed=false") && lines[6].contains("existed=true"),
        "{lines:?}"
    );
    assert_eq!(lines[7], "ours = 2");
    site.halt(0);
}

#[test]
fn h31_beside_a_running_site_a_bank_is_looked_at_and_never_repaired() {
    let site = Options::new().never_bad().start();
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
    site.wait_row("loops", |row| row.restarts > 3);
    let named = |verb: &[&str]| bank(verb.iter().copied().chain(["--site", site.name()]));
    for _ in 0..20 {
        // Lives begin and end meanwhile, so the site writes into the bank all the time.
        assert_eq!(named(&["check"]).expect_ok("check").lines().count(), 1);
    }
    let text = named(&["show", "--json"]).expect_ok("show");
    let view: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(view["bank"], site.bank().display().to_string());
    assert_eq!(view["held_by"], site.controller_pid());
    assert_eq!(names(&view, "blocks"), site.blocks());
    assert_eq!(names(&view, "registrations"), ["loops"]);
    let before = site.row("loops").unwrap().restarts;
    let refused = named(&["repair", "--yes"]).expect_refusal(1, "repair");
    assert!(refused.contains("in use by a living site"), "{refused}");
    site.wait_row("loops", |row| row.restarts > before);
}

#[test]
fn c3_wrong_usage_and_a_missing_bank_have_their_exit_codes() {
    for words in [
        &["show"][..],
        &["check", "a", "b"],
        &["mend", "a"],
        &["check", "--yes", "a"],
        &["show", "--site", "no/name"],
        &[],
    ] {
        let line = bank(words.iter().copied()).expect_refusal(2, "bank");
        assert!(line.starts_with("c_init: bank: "), "{line}");
    }
    let empty = tempfile::tempdir().unwrap();
    for verb in ["show", "check", "repair"] {
        let line = on(&[verb], empty.path()).expect_refusal(3, verb);
        assert!(line.contains("no bank in"), "{line}");
        let missing = empty.path().join("missing");
        let _ = on(&[verb], &missing).expect_refusal(3, verb);
        assert!(!missing.exists());
        let _ = bank([verb, "--site", "nobody-has-this-name"]).expect_refusal(3, verb);
    }
    assert_eq!(fs::read_dir(empty.path()).unwrap().count(), 0);
    assert_eq!(bank(["--help"]).code, Some(0));
}
