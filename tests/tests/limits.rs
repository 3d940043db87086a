//! Limits of actors (SPEC H34): each holds, and passing one is a failure with its own cause. What a
//! machine cannot enforce is refused there (`platform.rs`), and skipped here with a visible line.
#![allow(clippy::unwrap_used)] // in the helpers of tests, too

use std::fs;

use refrain_tests::programs::{c_program, skipped};
use refrain_tests::{Options, Row, Site, proc, wait};
use rustix::process::Signal;
use serde_json::Value;

/// Runs `hungry KIND` as an actor of that name in group 1, with `flags`; false where this machine cannot
/// enforce what they ask for.
fn hungry(site: &Site, flags: &[&str], kind: &str) -> bool {
    let program = c_program("hungry", site.dir()).display().to_string();
    let out = site.file(kind).display().to_string();
    let words = [&["-g", "1", "-n", kind], flags, &[&program, &out, kind]].concat();
    let finished = site.applet("arun", words);
    if finished.err.contains("cannot be enforced here") {
        skipped(finished.err.trim_end());
        return false;
    }
    let _ = finished.expect_ok("arun");
    true
}

fn field(site: &Site, name: &str, field: &str) -> Value {
    let all: Value = serde_json::from_str(&site.ok("aps --json")).unwrap();
    let rows = all.as_array().unwrap();
    rows.iter().find(|row| row["name"] == name).unwrap()[field].clone()
}

/// What enforces a limit.
fn enforcer(site: &Site, name: &str, limit: &str) -> String {
    field(site, name, "limits")[limit]["by"]
        .as_str()
        .unwrap()
        .to_owned()
}

/// The row of life `life`, once it is known how the life before it ended.
fn restarted(site: &Site, name: &str, life: u32) -> Row {
    site.wait_row(name, |row| row.runs(life) && row.last_end.is_some())
}

#[test]
fn h34_a_life_that_passes_its_memory_fails_for_want_of_it_and_the_next_one_runs() {
    let site = Options::new().never_bad().start();
    let console = site.connect();
    if !hungry(&site, &["--memory", "64MiB"], "memory") {
        return;
    }
    let by = enforcer(&site, "memory", "memory");
    if !by.starts_with("cgroup") {
        return skipped(&format!("memory is limited by {by} here"));
    }
    site.wait_lines("memory", 1);
    let row = restarted(&site, "memory", 1);
    assert_eq!(row.last_end.as_deref(), Some("out of memory"));
    assert_eq!(site.lines("memory"), ["life 1"]);
    console.wait_line("the cause", |line| {
        line.contains("memory failed (out of memory), group 1")
    });
    // A kill that has another reason is told as what it is.
    proc::kill(row.pid(), Signal::KILL);
    let row = restarted(&site, "memory", 2);
    assert_eq!(row.last_end.as_deref(), Some("SIGKILL"));
    let _ = console.close();
}

#[test]
fn h34_a_child_that_is_killed_for_want_of_memory_is_told_and_is_no_cause_of_a_later_end() {
    let site = Options::new().never_bad().start();
    let console = site.connect();
    if !hungry(&site, &["--memory", "64MiB"], "child") {
        return;
    }
    if !enforcer(&site, "child", "memory").starts_with("cgroup") {
        return skipped("memory is not limited by a cgroup here");
    }
    assert_eq!(site.wait_lines("child", 1), ["child ended by 9"]);
    console.wait_line("what was killed", |line| {
        line.contains("child: out of memory: 1 of")
    });
    proc::kill(site.runs("child", 0).pid(), Signal::KILL);
    assert_eq!(
        restarted(&site, "child", 1).last_end.as_deref(),
        Some("SIGKILL")
    );
    let _ = console.close();
}

#[test]
fn h34_template_and_standby_that_are_killed_are_no_failure_of_the_life() {
    let site = Options::new().never_bad().start();
    if !hungry(&site, &["--memory", "64MiB", "--pids", "4"], "who") {
        return;
    }
    let row = site.runs_with_standby("who", 0);
    let template = proc::stat(row.pid()).unwrap().parent;
    let others = proc::children(template).into_iter().map(|stat| stat.id);
    for other in others.filter(|id| id.pid != row.pid()) {
        proc::kill_if_there(other);
        wait::until_true("its end", || !proc::exists(other));
    }
    let again = site.runs_with_standby("who", 0);
    assert_eq!(
        (again.pid(), again.restarts, &again.last_end),
        (row.pid(), 0, &None)
    );
}

#[test]
fn h34_pids_are_limited_and_running_out_of_them_is_named_with_the_end() {
    let site = Options::new().never_bad().start();
    if !hungry(&site, &["--pids", "12"], "forks") {
        return;
    }
    let row = restarted(&site, "forks", 1);
    assert_eq!(row.last_end.as_deref(), Some("exit 1, out of processes"));
    let line = site.wait_lines("forks", 2).remove(0);
    let forked: u32 = line.split([' ', ':']).nth(1).unwrap().parse().unwrap();
    // The life is one of the twelve, and ours have room beside them.
    assert!((11..=11 + hr_ctrl_our_pids()).contains(&forked), "{line}");
    proc::kill(site.runs_with_standby("forks", 1).pid(), Signal::ABORT);
    let row = restarted(&site, "forks", 2);
    assert_eq!(row.last_end.as_deref(), Some("SIGABRT"));
    assert_eq!(
        row.start.as_deref(),
        Some("standby"),
        "there is room for ours, too"
    );
}

/// `OUR_PIDS` of `hr_ctrl/daemon/src/limits.rs`, which is told in `docs/commands/arun.md`.
fn hr_ctrl_our_pids() -> u32 {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/commands/arun.md");
    let page = fs::read_to_string(page).unwrap();
    let (_, rest) = page.split_once("room for ").unwrap();
    rest.split(' ').next().unwrap().parse().unwrap()
}

#[test]
fn h34_cpu_time_is_limited() {
    let site = Site::start();
    if !hungry(&site, &["--cpu", "5%"], "spins") {
        return;
    }
    let row = site.runs("spins", 0);
    if !enforcer(&site, "spins", "cpu").contains("v1") {
        return skipped("cpu is limited by version 2 here, which this test cannot read");
    }
    let stat = proc::cgroup_of(row.pid(), "cpu").unwrap().join("cpu.stat");
    let throttled = || {
        let text = fs::read_to_string(&stat).unwrap();
        let line = text.lines().find(|line| line.starts_with("nr_throttled"));
        line.unwrap()
            .split(' ')
            .nth(1)
            .unwrap()
            .parse::<u64>()
            .unwrap()
    };
    wait::until_reaches("times it was held back", 3, throttled);
    site.ok("akill -g 1");
}

#[test]
fn h34_a_life_that_has_had_its_cpu_time_fails_for_want_of_it() {
    let site = Options::new().never_bad().prepare();
    let program = c_program("hungry", site.dir()).display().to_string();
    let out = site.file("spins").display().to_string();
    let mut site = site;
    site.detach();
    // In one session: limits of ulimit are the session's.
    site.write(
        "spin.ini",
        format!("ulimit -S -t 1\narun -g 1 -n spins {program} {out} spins\n"),
    );
    site.ok("source spin.ini");
    let row = restarted(&site, "spins", 1);
    assert_eq!(row.last_end.as_deref(), Some("out of cpu time"));
}

#[test]
fn h34_open_files_and_nice_value_are_those_that_were_asked_for() {
    let site = Options::new().never_bad().start();
    assert!(hungry(&site, &["--open-files", "33"], "files"));
    assert_eq!(site.wait_lines("files", 1), ["highest 32 limit 33"]);
    assert!(hungry(&site, &["--nice", "7", "--no-new-privs"], "who"));
    site.wait_lines("who", 1);
    proc::kill(site.runs("who", 0).pid(), Signal::SEGV);
    let lines = site.wait_lines("who", 2);
    assert!(
        lines.iter().all(|line| line.contains("nnp=1 nice=7 ")),
        "{lines:?}"
    );
    assert_eq!(field(&site, "who", "no_new_privs"), true);
    assert_eq!(field(&site, "who", "limits")["nice"]["limit"], 7);
    // However few files: ours have their place above them.
    site.ok("akill -g 1");
    assert!(hungry(&site, &["--open-files", "32"], "files"));
    proc::kill(site.runs_with_standby("files", 0).pid(), Signal::SEGV);
    site.runs("files", 1);
}

#[test]
fn h34_what_the_configuration_says_of_a_name_holds_where_arun_says_nothing() {
    let config = r#"(actors: {
        "who": (nice: 5, open_files: 64, no_new_privs: true),
        "other": (nice: 9),
    })"#;
    let site = Options::new().config(config).start();
    assert!(hungry(&site, &["--open-files", "50"], "who"));
    let line = site.wait_lines("who", 1).remove(0);
    assert!(line.contains("nnp=1 nice=5 "), "{line}");
    let limits = field(&site, "who", "limits");
    assert_eq!(
        (&limits["nice"]["limit"], &limits["open_files"]["limit"]),
        (&5.into(), &50.into())
    );
}

#[test]
fn h34_an_indirect_actor_has_the_limits_of_its_spawner_or_stricter_ones() {
    let config = r#"(actors: {
        "stricter": (nice: 9, open_files: 40),
        "looser": (nice: 1, open_files: 4000),
    })"#;
    let site = Options::new().config(config).start();
    let crasher = refrain_tests::binaries::path("crasher")
        .display()
        .to_string();
    let mut words = Vec::new();
    for name in ["stricter", "looser", "plain"] {
        words.extend(["spawn", name, &crasher, "-", "park", ";"]);
    }
    words.push("park");
    let flags = [
        "-g",
        "1",
        "-n",
        "spawner",
        "--nice",
        "4",
        "--open-files",
        "99",
        "--no-new-privs",
    ];
    site.run_actor(&flags, "spawner", "groupie", &words);
    for (name, nice, files) in [("stricter", 9, 40), ("looser", 4, 99), ("plain", 4, 99)] {
        site.runs(name, 0);
        let limits = field(&site, name, "limits");
        let got = (&limits["nice"]["limit"], &limits["open_files"]["limit"]);
        assert_eq!(got, (&nice.into(), &files.into()), "{name}");
        assert_eq!(field(&site, name, "no_new_privs"), true, "{name}");
    }
}

#[test]
fn h34_other_limits_hold_from_the_next_start_and_none_when_none_are_asked_for() {
    let site = Site::start();
    site.actor(1, "resident", "crasher", &["park"]);
    let limits = |flags: &[&str]| {
        let words = ["-g", "1", "-n", "changing"];
        site.run_actor(
            &[&words, flags].concat(),
            "changing",
            "groupie",
            &["clean", "return"],
        );
        site.wait_row("changing", |row| row.state == "clean");
        field(&site, "changing", "limits")
    };
    let first = site.applet("arun", ["-n", "probe", "--memory", "1GiB", "true"]);
    if first.code != Some(0) {
        return skipped(&first.err);
    }
    assert_eq!(
        limits(&["--memory", "1GiB"])["memory"]["limit"],
        1_u64 << 30
    );
    assert_eq!(
        limits(&["--memory", "2GiB", "--nice", "3"])["memory"]["limit"],
        2_u64 << 30
    );
    assert_eq!(limits(&[]), serde_json::json!({}));
}

#[test]
fn h34_limits_outlive_the_controller() {
    let site = Options::new().never_bad().start();
    if !hungry(&site, &["--pids", "12", "--nice", "3"], "who") {
        return;
    }
    if !enforcer(&site, "who", "pids").contains("v1") {
        return skipped(
            "pids are limited by version 2 here, whose cgroup this test does not look for",
        );
    }
    site.wait_lines("who", 1);
    let life = site.runs("who", 0).pid();
    let before = field(&site, "who", "limits");
    kill_controller(&site);
    let row = site.wait_row("who", |row| row.state == "running");
    assert_eq!((row.pid(), field(&site, "who", "limits")), (life, before));
    // Templates that are built from now on are limited, too.
    let template = proc::stat(life).unwrap().parent;
    proc::kill(template, Signal::KILL);
    proc::kill(life, Signal::KILL);
    let line = site.wait_lines("who", 2).remove(1);
    assert!(line.contains(" nice=3 "), "{line}");
    let group = proc::cgroup_of(site.runs("who", 1).pid(), "pids").unwrap();
    assert!(
        group.display().to_string().contains(site.name()),
        "{group:?}"
    );
}

/// Kills hr_ctrl and waits until the next one serves.
fn kill_controller(site: &Site) {
    let controller = site.controller_pid();
    proc::kill(controller, Signal::KILL);
    wait::until_true("the next controller", || {
        let stat = site.command("chorusStat --json");
        let stat: Option<Value> = serde_json::from_str(&stat.out).ok();
        stat.is_some_and(|stat| stat["hr_ctrl"] != controller)
    });
}

#[test]
fn h34_a_limit_that_is_none_is_refused_with_what_one_is() {
    let site = Site::start();
    for (flags, said) in [
        ("--memory 0", "a size more than 0"),
        ("--memory lots", "64MiB"),
        ("--cpu 50", "50%"),
        ("--cpu 0%", "50%"),
        ("--pids 0", "pids"),
        ("--open-files 31", "open-files"),
        ("--nice 20", "nice"),
        ("--nice -21", "nice"),
    ] {
        let line = site.misused(&format!("arun -g 1 {flags} true"));
        assert!(line.contains(said), "{flags}: {line}");
    }
    let line = site.refused("arun -g 1 -u no-such-user true");
    assert!(line.contains("no user 'no-such-user'"), "{line}");
    assert!(site.aps().is_empty());
}
