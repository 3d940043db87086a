//! `c_init doctor` on this machine, and on machines that lack something (DESIGN section 9): each of
//! those is made from this one, by limits, namespaces or a tracer that lets system calls fail. Where
//! that is not permitted the test says so and skips.
#![allow(clippy::unwrap_used)] // in the helpers of tests, too

use std::process::Command;

use refrain_tests::programs::installed;
use refrain_tests::{Finished, binaries, leftovers, run, wait};
use serde_json::Value;

/// `c_init doctor --json` behind `words`, which execute what follows them.
fn doctor(words: &[&str]) -> Option<(Finished, Value)> {
    let mut all: Vec<String> = words.iter().map(ToString::to_string).collect();
    all.extend([
        binaries::path("c_init").display().to_string(),
        "doctor".into(),
        "--json".into(),
    ]);
    let mut command = Command::new(&all[0]);
    let finished = run::to_end(command.args(&all[1..]).env_remove("XDG_RUNTIME_DIR"), None);
    let Ok(report) = serde_json::from_str(&finished.out) else {
        println!("skipped: {words:?} is not permitted here: {finished:?}");
        return None;
    };
    Some((finished, report))
}

/// A line of shell in a mount namespace of its own, then the doctor.
fn elsewhere(line: &str) -> Option<(Finished, Value)> {
    let line = format!("{line} || exit 99; exec \"$0\" \"$@\"");
    doctor(&["unshare", "-m", "sh", "-c", &line])
}

fn feature<'a>(report: &'a Value, name: &str) -> &'a Value {
    let features = report["features"].as_array().unwrap();
    let found = features.iter().find(|it| it["feature"] == name);
    found.unwrap_or_else(|| panic!("nothing about {name} in {report:#}"))
}

/// The feature is missing, that matters, and the report says what it costs.
fn assert_missing((finished, report): &(Finished, Value), name: &str, cost: &str) {
    let found = feature(report, name);
    assert_eq!(found["state"], "missing", "{found}");
    assert!(found["cost"].as_str().unwrap().contains(cost), "{found}");
    assert_eq!(finished.code, Some(1));
    assert_eq!(report["full_speed"], false);
    assert!(
        report["summary"].as_str().unwrap().contains(name),
        "{report}"
    );
}

/// The doctor under a tracer that lets each such call fail.
fn without(calls: &[(&str, &str)]) -> Option<(Finished, Value)> {
    let strace = installed("strace")?.display().to_string();
    let mut words = vec![strace, "-f".into(), "-o".into(), "/dev/null".into()];
    for (call, error) in calls {
        words.extend(["-e".into(), format!("inject={call}:error={error}")]);
    }
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    doctor(&words)
}

#[test]
fn the_report_of_this_machine_is_whole_and_leaves_nothing_behind() {
    let path = binaries::path("c_init");
    let mut child = run::spawn(
        Command::new(path)
            .arg("doctor")
            .stdout(std::process::Stdio::null()),
    );
    let mark = format!("refrain-doctor-{}", child.id());
    run::wait_for(&mut child, "c_init doctor");
    assert!(leftovers::cgroups(&mark).is_empty());
    let (finished, report) = doctor(&["env"]).unwrap();
    let missing = report["features"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|it| it["state"] == "missing");
    let count = missing.count();
    assert_eq!(report["full_speed"], count == 0);
    assert_eq!(finished.code, Some(i32::from(count != 0)));
    for one in report["features"].as_array().unwrap() {
        let is_less = one["state"] == "missing" || one["state"] == "lacking";
        assert_eq!(one["cost"].is_string(), is_less, "{one}");
        assert!(!one["what"].as_str().unwrap().is_empty(), "{one}");
    }
    // Those of other tests' doctors go with them; one that was left would stay.
    wait::until_true("no child of a doctor to be left", || {
        leftovers::processes("refrain-doctor", &[]).is_empty()
    });
}

#[test]
fn the_text_ends_with_a_summary() {
    let mut command = Command::new(binaries::path("c_init"));
    let finished = run::to_end(command.arg("doctor"), None);
    let last = finished.out.lines().last().unwrap();
    match finished.code {
        Some(0) => assert_eq!(last, "Refrain runs at full speed here"),
        code => assert!(
            code == Some(1) && last.contains(" missing: "),
            "{finished:?}"
        ),
    }
}

#[test]
fn few_open_files_are_told_with_how_many_actors_they_allow() {
    // Root may raise its limits again, so it has to be without that capability.
    let limited = "ulimit -n 500 || exit 99; exec \"$0\" \"$@\"";
    let told = doctor(&["sh", "-c", limited]).unwrap();
    let found = feature(&told.1, "open files");
    if found["what"].as_str().unwrap().contains("may be raised") {
        println!("skipped: root may raise its limits here");
        return;
    }
    assert_missing(&told, "open files", "room for 20 actors only");
}

#[test]
fn a_machine_without_cgroup_v2_is_told() {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let points = mounts.lines().filter(|line| line.contains(" - cgroup2 "));
    let points: Vec<_> = points.filter_map(|line| line.split(' ').nth(4)).collect();
    if let Some(told) = elsewhere(&format!("umount {}", points.join(" "))) {
        assert_missing(&told, "cgroup v2", "restarts will take");
    }
}

#[test]
fn a_machine_without_tmpfs_or_with_a_small_one_is_told() {
    let both = |kind: &str| format!("mount {kind} none /run && mount {kind} none /dev/shm");
    if let Some(told) = elsewhere(&both("-t ramfs")) {
        assert_missing(&told, "place of the bank", "waits for a disk");
    }
    if let Some(told) = elsewhere(&both("-t tmpfs -o size=1m")) {
        assert_missing(&told, "place of the bank", "allocations will fail");
    }
}

#[test]
fn a_machine_that_refuses_executable_memfds_loses_no_speed() {
    let line = "echo 2 > /proc/sys/vm/memfd_noexec || exit 99; exec \"$0\" \"$@\"";
    let words = [
        "unshare",
        "--pid",
        "--fork",
        "--mount-proc",
        "sh",
        "-c",
        line,
    ];
    if let Some((_, report)) = doctor(&words) {
        let found = feature(&report, "executable memfds");
        assert_eq!(found["state"], "lacking", "{found}");
        assert_eq!(feature(&report, "pidfds")["state"], "found");
    }
}

#[test]
fn system_calls_that_a_filter_takes_away_are_told_one_by_one() {
    for (calls, name, cost) in [
        (("clone3", "ENOSYS"), "clone3", "restarts will take"),
        (
            ("clone3", "ENOSYS"),
            "CLONE_INTO_CGROUP",
            "restarts will take",
        ),
        (("pidfd_send_signal", "ENOSYS"), "pidfds", "cannot run"),
        (
            ("madvise", "EINVAL"),
            "MADV_POPULATE_WRITE",
            "for each page",
        ),
        (("close_range", "ENOSYS"), "close_range", "for each MiB"),
        (("execveat", "EPERM"), "start of a program", "no actor"),
    ] {
        let Some(told) = without(&[calls]) else {
            return;
        };
        if name == "CLONE_INTO_CGROUP" && feature(&told.1, "cgroup v2")["state"] != "found" {
            continue;
        }
        assert_missing(&told, name, cost);
    }
}

#[test]
fn c3_wrong_usage_is_one_line() {
    for word in ["--bogus", "more"] {
        let mut command = Command::new(binaries::path("c_init"));
        let line = run::to_end(command.args(["doctor", word]), None).expect_refusal(2, word);
        assert!(line.starts_with("c_init: doctor: "), "{line}");
    }
}
