//! Failure and group restart (SPEC H8 to H14): what counts as a failure, who starts again and
//! what a new life finds.
#![allow(clippy::unwrap_used)] // in the helpers of tests, too

use std::collections::BTreeMap;

use refrain_tests::programs::c_program;
use refrain_tests::{Options, Row, Site, binaries, proc};
use rustix::process::Signal;
use serde_json::Value;

#[test]
fn h8_every_end_without_the_exit_handler_is_a_failure() {
    let site = Site::start();
    let program = c_program("faults", site.dir());
    let ends = [
        ("segv", "SIGSEGV"),
        ("stack", "SIGSEGV"),
        ("bus", "SIGBUS"),
        ("fpe", "SIGFPE"),
        ("ill", "SIGILL"),
        ("abort", "SIGABRT"),
        ("term", "SIGTERM"),
        ("exit0", "exit 0"),
        ("exit3", "exit 3"),
        ("_exit", "exit 4"),
        ("return", "exit 0"),
    ];
    for (gid, (kind, _)) in ends.iter().enumerate() {
        site.arun([
            "-g",
            &gid.to_string(),
            "-n",
            kind,
            program.to_str().unwrap(),
            kind,
        ]);
    }
    for (kind, end) in ends {
        let row = site.runs(kind, 1);
        assert!(
            row.last_end.as_deref().unwrap().contains(end),
            "{kind}: {row:?}"
        );
        assert_eq!(row.restarts, 1, "{kind}");
    }
}

#[test]
fn h8_a_rust_panic_is_a_failure_in_main_and_in_none_but_main() {
    let site = Site::start();
    site.actor(1, "panics", "crasher", &["on", "0", "panic", "end", "park"]);
    let row = site.runs("panics", 1);
    assert!(
        row.last_end.as_deref().unwrap().contains("exit 101"),
        "{row:?}"
    );
}

#[test]
fn h8_a_life_that_is_killed_from_outside_has_failed() {
    let site = Site::start();
    for (gid, signal) in [
        (1, Signal::KILL),
        (2, Signal::TERM),
        (3, Signal::HUP),
        (4, Signal::INT),
    ] {
        let name = format!("victim{gid}");
        site.actor(gid, &name, "crasher", &["park"]);
        proc::kill(site.runs(&name, 0).pid(), signal);
        site.runs(&name, 1);
    }
}

/// A group as in the third scenario: a direct member that ended clean, a direct one that
/// runs and spawns, and an indirect one. Another member must run already, or the group
/// terminates with the clean one's end.
fn group_of_three(site: &Site) -> [Row; 3] {
    let crasher = binaries::path("crasher");
    let (crasher, child) = (crasher.display().to_string(), site.file("child"));
    let child = child.display().to_string();
    // The second life waits before it spawns, so that a test can look in between.
    let go = site.file("go").display().to_string();
    let spawner = [
        "on", "1+", "wait", &go, "end", "spawn", "child", &crasher, &child, "say", "born", "park",
        ";", "park",
    ];
    site.actor(1, "clean", "groupie", &["say", "ran", "clean", "return"]);
    site.actor(1, "spawner", "groupie", &spawner);
    let clean = site.wait_row("clean", |row| row.state == "clean");
    [clean, site.runs("spawner", 0), site.runs("child", 0)]
}

#[test]
fn h9_the_clean_member_starts_again_and_the_indirect_one_with_its_spawner() {
    let site = Site::start();
    site.actor(1, "anchor", "crasher", &["park"]);
    site.actor(2, "stranger", "crasher", &["park"]);
    let stranger = site.runs("stranger", 0);
    let [clean, spawner, child] = group_of_three(&site);
    assert_eq!((clean.life, clean.pid), (Some(0), None));
    assert_eq!(
        (clean.kind.as_str(), child.kind.as_str()),
        ("direct", "indirect")
    );

    proc::kill(spawner.pid(), Signal::ABORT);
    let again = site.runs("spawner", 1);
    assert_eq!(again.restarts, 1);
    site.runs("anchor", 1);
    // It ran a second time and ended clean a second time.
    let clean = site.wait_row("clean", |row| row.state == "clean" && row.life == Some(1));
    assert_eq!(clean.restarts, 1);
    assert_eq!(site.wait_lines("clean", 2), ["ran", "ran"]);
    let waiting = site.wait_row("child", |row| row.state == "waiting");
    assert_eq!((waiting.pid, waiting.gid), (None, Some(1)));
    assert!(
        !proc::is_alive(child.pid()),
        "the indirect member was stopped"
    );

    site.write("go", "");
    let reborn = site.runs("child", 1);
    assert_eq!((reborn.kind.as_str(), reborn.gid), ("indirect", Some(1)));
    assert_eq!(site.wait_lines("child", 2), ["born", "born"]);
    let untouched = site.runs("stranger", 0);
    assert_eq!(untouched, stranger, "the other group noticed nothing");
}

#[test]
fn h9_members_that_fail_together_are_restarted_together_once() {
    let site = Site::start();
    let go = site.file("go").display().to_string();
    let words = ["on", "0", "wait", &go, "abort", "end", "park"];
    for name in ["a", "b", "c"] {
        site.actor(1, name, "crasher", &words);
        site.runs(name, 0);
    }
    site.write("go", "");
    for name in ["a", "b", "c"] {
        site.runs(name, 1);
    }
    let stat = site.stat();
    assert_eq!(stat["group_restarts"].as_u64(), Some(1), "{stat}");
}

#[test]
fn h9_initial_arguments_and_environment_are_those_of_the_first_start() {
    let site = Site::start();
    site.ok("setenv FLAVOUR first");
    site.actor(1, "me", "crasher", &["report", "park"]);
    site.wait_lines("me", 1);
    site.ok("setenv FLAVOUR second");
    proc::kill(site.runs("me", 0).pid(), Signal::KILL);
    let reports = reports(&site, "me", 2);
    assert_eq!(reports[0]["env"]["FLAVOUR"], "first");
    assert_eq!(reports[1]["env"]["FLAVOUR"], "first");
    assert_eq!(reports[0]["args"], reports[1]["args"]);
    assert_eq!(reports[0]["cwd"], reports[1]["cwd"]);
}

fn reports(site: &Site, file: &str, count: usize) -> Vec<Value> {
    let lines = site.wait_lines(file, count);
    lines
        .iter()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn h11_code_data_and_blocks_are_at_the_same_address_in_every_life() {
    let site = Site::start();
    let words = [
        "report", "alloc", "block", "8192", "group", "point", "block", "park",
    ];
    site.actor(1, "me", "groupie", &words);
    for life in 0..4 {
        site.wait_lines("me", 3 * (life as usize + 1));
        proc::kill(site.runs("me", life).pid(), Signal::ABORT);
    }
    let lines = site.wait_lines("me", 15);
    let first: Value = serde_json::from_str(&lines[0]).unwrap();
    for life in 1..5 {
        let report: Value = serde_json::from_str(&lines[3 * life]).unwrap();
        assert_eq!(report["life"], life);
        assert_eq!(report["code"], first["code"], "life {life}");
        assert_eq!(report["data"], first["data"], "life {life}");
        assert_eq!(
            lines[3 * life + 1],
            lines[1].replace("existed=false", "existed=true")
        );
        assert_eq!(lines[3 * life + 2], "pointer same");
    }
}

#[test]
fn h11_a_fresh_layout_is_another_one_when_asked_for() {
    let site = Options::new().never_bad().start();
    let program = binaries::path("crasher");
    let out = site.file("me");
    let line = format!(
        "arun -g 1 -n me --layout fresh {} {} report park",
        program.display(),
        out.display()
    );
    site.ok(&line);
    for life in 0..4 {
        site.wait_lines("me", life as usize + 1);
        proc::kill(site.runs("me", life).pid(), Signal::KILL);
    }
    let reports = reports(&site, "me", 5);
    let places: BTreeMap<String, ()> = reports
        .iter()
        .map(|report| (report["code"].to_string(), ()))
        .collect();
    assert!(places.len() > 1, "five lives, one place: {places:?}");
}

#[test]
fn h12_files_threads_and_sockets_of_the_last_life_are_gone() {
    let site = Site::start();
    let port = refrain_tests::programs::free_port().to_string();
    let words = [
        "report", "threads", "3", "listen", &port, "on", "0", "abort", "end", "park",
    ];
    site.actor(1, "me", "crasher", &words);
    site.wait_line("me", |line| line == "listening in life 1");
    let lines = site.lines("me");
    let first: Value = serde_json::from_str(&lines[0]).unwrap();
    let second: Value = serde_json::from_str(&lines[2]).unwrap();
    assert_eq!(second["threads"], 1);
    let kinds = |report: &Value| -> Vec<(u64, String)> {
        let fds = report["fds"].as_array().unwrap().iter();
        // A socket's inode differs from life to life; that it is a socket does not.
        fds.map(|fd| {
            let target = fd[1].as_str().unwrap();
            (
                fd[0].as_u64().unwrap(),
                target.split('[').next().unwrap().to_owned(),
            )
        })
        .collect()
    };
    assert_eq!(
        kinds(&first),
        kinds(&second),
        "a new life holds what the first one held"
    );
}

#[test]
fn h13_a_life_finds_its_number_and_its_fd_and_nothing_else_of_refrain() {
    let site = Site::start();
    site.actor(
        1,
        "me",
        "crasher",
        &["report", "on", "0", "abort", "end", "park"],
    );
    for (life, report) in reports(&site, "me", 2).iter().enumerate() {
        let env = report["env"].as_object().unwrap();
        assert_eq!(env["REFRAIN_LIFE"], life.to_string());
        let ours = env
            .keys()
            .filter(|key| key.starts_with("REFRAIN"))
            .cloned()
            .collect::<Vec<_>>();
        assert!(
            ours.iter()
                .all(|key| key == "REFRAIN_LIFE" || key == "REFRAIN_FD"),
            "{ours:?}"
        );
        assert!(
            !env.contains_key("LD_PRELOAD") && !env.contains_key("LD_BIND_NOW"),
            "{env:?}"
        );
        assert!(
            !env.contains_key("LD_LIBRARY_PATH") || std::env::var_os("LD_LIBRARY_PATH").is_some()
        );
    }
}

#[test]
fn h14_the_group_of_an_aid_is_told_and_a_stale_aid_is_refused() {
    let site = Site::start();
    let other = site.actor(9, "other", "crasher", &["park"]).to_string();
    let plain = site.ordinary("plain", "crasher", &["park"]).to_string();
    let go = site.file("go").display().to_string();
    let words = [
        "group-of",
        "self",
        "group-of",
        &other,
        "group-of",
        &plain,
        "wait",
        &go,
        "group-of",
        &other,
        "group-of",
        "4000000000",
        "park",
    ];
    let me = site.actor(3, "me", "groupie", &words);
    let lines = site.wait_lines("me", 3);
    assert_eq!(lines[0], format!("group of {me} is 3"));
    assert_eq!(lines[1], format!("group of {other} is 9"));
    assert_eq!(lines[2], format!("group of {plain} is none"));
    proc::kill(site.runs("other", 0).pid(), Signal::KILL);
    site.runs("other", 1);
    site.write("go", "");
    let lines = site.wait_lines("me", 5);
    assert!(lines[3].starts_with("error group-of"), "{}", lines[3]);
    assert!(lines[4].starts_with("error group-of"), "{}", lines[4]);
}
