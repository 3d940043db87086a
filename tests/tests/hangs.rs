//! Hang detection (SPEC H34): promises of progress, with real actors.
#![allow(clippy::unwrap_used)] // in the helpers of tests, too

use std::fs;
use std::path::Path;
use std::time::Duration;

use refrain_tests::programs::{c_program, installed};
use refrain_tests::watched::{NEVER, path, runs, was_well};
use refrain_tests::{Options, Site, binaries, proc, wait};
use rustix::process::Signal;
use serde_json::Value;

#[test]
fn h34_a_life_that_breaks_its_promise_of_progress_fails_and_its_group_restarts() {
    let site = Options::new().never_bad().start();
    let hang = path(&site, "hang");
    let words = [
        "on", "0", "promise", "200", "beat", &hang, "park", "end", "promise", "60000", "beat",
        NEVER,
    ];
    runs(&site, &["-g", "1", "-n", "worker"], "groupie", &words);
    site.actor(1, "other", "crasher", &["park"]);
    let seen = site.wait_watch("worker", "seen well", was_well);
    assert_eq!(seen["progress_ms"], 200, "{seen}");
    assert!(seen["check"].is_null(), "{seen}");
    assert_eq!(
        site.watch("other"),
        Value::Null,
        "who promises nothing is not watched"
    );
    assert!(site.ok("aps -l").contains("progress 0.2s, well"));
    let pid = site.runs("worker", 0).pid();
    site.write("hang", "");
    let row = site.runs("worker", 1);
    assert_ne!(row.pid(), pid);
    let row = site.wait_row("worker", |row| row.last_end.is_some());
    assert_eq!(
        row.last_end.as_deref(),
        Some("hang: no progress for 200 ms")
    );
    site.runs("other", 1);
    site.said("worker hangs (no progress for 200 ms): it is sent SIGKILL");
    site.said("worker failed (hang: no progress for 200 ms), group 1 restarted");
    let seen = site.wait_watch("worker", "the next life's own promise", was_well);
    assert_eq!(seen["progress_ms"], 60_000, "{seen}");
}

#[test]
fn h34_arun_promises_for_a_program_and_wins_over_its_own_promise() {
    let site = Options::new().never_bad().start();
    let words = ["promise", "20", "on", "1+", "beat", NEVER, "end", "park"];
    let flags = ["-g", "1", "-n", "worker", "--progress", "300ms"];
    runs(&site, &flags, "groupie", &words);
    site.runs("worker", 1);
    let row = site.wait_row("worker", |row| row.last_end.is_some());
    assert_eq!(
        row.last_end.as_deref(),
        Some("hang: no progress for 300 ms")
    );
    let seen = site.wait_watch("worker", "progress", was_well);
    assert_eq!(seen["progress_ms"], 300, "{seen}");
}

#[test]
fn h34_a_promise_that_is_taken_back_and_an_end_that_is_clean_are_not_watched() {
    let site = Options::new().never_bad().start();
    let out = path(&site, "out");
    let words = ["promise", "50", "promise", "0", "say", "free", "park"];
    let program = binaries::path("groupie").display().to_string();
    let mut all = vec!["-g", "1", "-n", "free", &program, &out];
    all.extend(words);
    site.arun(all);
    let clean = ["promise", "50", "clean", "say", "clean", "park"];
    let mut all = vec!["-g", "2", "-n", "clean", &program, &out];
    all.extend(clean);
    site.arun(all);
    site.wait_lines("out", 2);
    let excused = |seen: &Value| seen["trouble"] == "it has called the exit handler";
    site.wait_watch("clean", "excused", excused);
    // Many of its periods, in which nothing may happen.
    std::thread::sleep(Duration::from_millis(500));
    assert!(site.runs("free", 0).last_end.is_none());
    assert_eq!(site.watch("free")["progress_ms"], Value::Null);
    assert!(site.runs("clean", 0).last_end.is_none());
}

#[test]
fn h34_a_life_that_somebody_has_stopped_does_not_hang() {
    let site = Options::new().never_bad().start();
    let hang = path(&site, "hang");
    let words = [
        "on", "0", "promise", "100", "beat", &hang, "park", "end", "park",
    ];
    runs(&site, &["-g", "1", "-n", "worker"], "groupie", &words);
    let check = [
        "-g",
        "2",
        "-n",
        "checked",
        "--check",
        "false",
        "--check-every",
        "20ms",
        "-d",
    ];
    runs(&site, &check, "crasher", &["park"]);
    site.wait_watch("worker", "seen well", was_well);
    let pid = site.runs("worker", 0).pid();
    proc::kill(pid, Signal::STOP);
    let stopped = |seen: &Value| seen["trouble"] == "somebody has stopped it";
    site.wait_watch("worker", "excused", stopped);
    site.wait_watch("checked", "excused, by arun -d", stopped);
    // Many periods, in which nothing may happen.
    std::thread::sleep(Duration::from_millis(800));
    assert_eq!(site.runs("worker", 0).pid(), pid);
    let checked = site.runs("checked", 0).pid();
    proc::kill(pid, Signal::CONT);
    site.wait_watch("worker", "well again", |seen| seen["trouble"].is_null());
    assert_eq!(site.runs("worker", 0).pid(), pid);
    site.write("hang", "");
    site.runs("worker", 1);
    assert_eq!(site.runs("checked", 0).pid(), checked);
    proc::kill(checked, Signal::CONT);
    site.runs("checked", 1);
}

#[test]
fn h34_a_life_that_spins_is_told_where_with_hang_core() {
    let site = Options::new().never_bad().start();
    let flags = [
        "-g",
        "1",
        "-n",
        "spins",
        "--progress",
        "200ms",
        "--hang-core",
    ];
    runs(
        &site,
        &flags,
        "crasher",
        &["on", "0", "spin", "end", "park"],
    );
    site.runs("spins", 1);
    let row = site.wait_row("spins", |row| row.last_end.is_some());
    assert_eq!(
        row.last_end.as_deref(),
        Some("hang: no progress for 200 ms")
    );
    wait::until_true("the backtrace", || {
        let rows: Value = serde_json::from_str(&site.ok("aps --json")).unwrap();
        rows[0]["failure"]["signal"] == 6 && rows[0]["failure"]["backtrace"].is_array()
    });
}

#[test]
fn h34_an_aborting_life_that_takes_no_notice_is_killed_all_the_same() {
    let config = r#"(hr_ctrl: (max_badness: 1000000000, grace: "100ms"))"#;
    let site = Options::new().config(config).start();
    let program = c_program("stubborn", site.dir());
    let flags = ["-g", "1", "--progress", "200ms", "--hang-core"];
    site.arun(flags.iter().copied().chain([program.to_str().unwrap()]));
    site.runs("stubborn", 1);
    let row = site.wait_row("stubborn", |row| row.last_end.is_some());
    assert_eq!(
        row.last_end.as_deref(),
        Some("hang: no progress for 200 ms")
    );
}

#[test]
fn h34_python_promises_through_ctypes() {
    let site = Options::new().never_bad().start();
    let Some(python) = installed("python3") else {
        return;
    };
    let module = Path::new(env!("CARGO_MANIFEST_DIR")).join("../runtime/capi/python/refrain.py");
    fs::copy(module, site.file("refrain.py")).unwrap();
    fs::copy(binaries::path("libhr.so"), site.file("libhr.so")).unwrap();
    let program = site.write(
        "spin.py",
        "import time, refrain\n\
         refrain.promise_progress(0.4)\n\
         for _ in range(40):\n    refrain.progress()\n    time.sleep(0.01)\n\
         while refrain.life() == 0:\n    pass\n\
         while True:\n    refrain.progress()\n    time.sleep(0.01)\n",
    );
    let words = [python.to_str().unwrap(), program.to_str().unwrap()];
    site.arun(["-g", "1", "-n", "spin"].iter().copied().chain(words));
    site.runs("spin", 1);
    let row = site.wait_row("spin", |row| row.last_end.is_some());
    assert_eq!(
        row.last_end.as_deref(),
        Some("hang: no progress for 400 ms")
    );
    site.wait_watch("spin", "seen well", was_well);
}

#[test]
fn h34_an_ordinary_actor_that_hangs_is_killed_and_not_restarted() {
    let site = Site::start();
    runs(
        &site,
        &["-n", "once", "--progress", "100ms"],
        "crasher",
        &["park"],
    );
    site.wait_forgotten("once");
    site.said("once hangs (no progress for 100 ms)");
}

#[test]
fn c4_what_cannot_be_watched_for_is_one_clear_line() {
    let site = Site::start();
    for (flags, told) in [
        ("--progress 1ms", "from 10ms to 24h"),
        ("--progress 5", "with its unit"),
        ("--check-tcp 80", "HOST:PORT"),
        ("--check-http https://x/", "https is not spoken"),
        ("--check true --check-tcp a:1", "cannot be used with"),
        ("--check-every 5s", "is missing"),
        ("--check true --check-failures 0", "0"),
    ] {
        let done = site.command(&format!("arun {flags} sleep 1"));
        assert_eq!(done.code, Some(2), "{flags}: {done:?}");
        assert!(done.err.contains(told), "{flags}: {done:?}");
        assert_eq!(done.err.lines().count(), 1, "{flags}: {done:?}");
    }
}
