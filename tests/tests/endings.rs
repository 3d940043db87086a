//! The end of actors and groups (SPEC H21 to H24): clean ends, blocked groups, kills.
#![allow(clippy::unwrap_used)] // in the helpers of tests, too

use refrain_tests::{Site, binaries, proc, wait};
use rustix::process::Signal;

#[test]
fn h21_after_the_exit_handler_any_end_is_clean() {
    let site = Site::start();
    site.actor(1, "anchor", "crasher", &["park"]);
    for (name, end) in [
        ("a", &["signal", "11"][..]),
        ("b", &["exit", "3"]),
        ("c", &["panic"]),
    ] {
        site.actor(1, name, "groupie", &[&["clean"], end].concat());
        let row = site.wait_row(name, |row| row.state == "clean");
        assert_eq!(
            (row.life, row.restarts, row.pid),
            (Some(0), 0, None),
            "{row:?}"
        );
    }
    assert_eq!(site.runs("anchor", 0).restarts, 0);
}

#[test]
fn h21_a_life_that_called_the_exit_handler_and_is_killed_has_ended_clean() {
    let site = Site::start();
    site.actor(1, "anchor", "crasher", &["park"]);
    site.actor(1, "me", "groupie", &["clean", "say", "cleared", "park"]);
    site.wait_line("me", |line| line == "cleared");
    assert_eq!(
        site.runs("me", 0).state,
        "running",
        "it lives until it ends"
    );
    proc::kill(site.runs("me", 0).pid(), Signal::KILL);
    site.wait_row("me", |row| row.state == "clean" && row.life == Some(0));
    assert_eq!(site.runs("anchor", 0).restarts, 0);
}

#[test]
fn h21_a_later_group_restart_starts_it_again() {
    let site = Site::start();
    site.actor(1, "anchor", "crasher", &["park"]);
    site.actor(
        1,
        "me",
        "groupie",
        &["say", "ran", "on", "0", "clean", "return", "end", "park"],
    );
    site.wait_row("me", |row| row.state == "clean");
    proc::kill(site.runs("anchor", 0).pid(), Signal::KILL);
    let row = site.runs("me", 1);
    assert_eq!(row.restarts, 1);
    // The exit handler of the first life says nothing about the second.
    proc::kill(row.pid(), Signal::KILL);
    site.runs("me", 2);
    site.runs("anchor", 2);
}

#[test]
fn h22_the_group_terminates_when_every_member_has_ended_clean() {
    let site = Site::start();
    let go = site.file("go").display().to_string();
    let words = [
        "alloc", "b", "4096", "group", "wait", &go, "clean", "return",
    ];
    site.actor(1, "a", "groupie", &words);
    site.actor(1, "b", "groupie", &words);
    site.wait_lines("b", 1);
    assert_eq!(site.stat()["groups"].as_array().unwrap().len(), 1);
    site.write("go", "");
    site.wait_forgotten("a");
    site.wait_forgotten("b");
    assert!(
        site.stat()["groups"].as_array().unwrap().is_empty(),
        "the group is forgotten"
    );
    assert!(site.blocks().is_empty(), "its blocks are freed");
    assert_eq!(
        site.memory()["images"].as_u64(),
        Some(0),
        "its images are freed"
    );
    site.ok("arun -g 2 -n a /bin/sleep 100000");
    assert_eq!(site.runs("a", 0).gid, Some(2), "its names are free");
}

#[test]
fn h23_a_blocked_group_is_told_in_these_words_and_running_the_member_unblocks_it() {
    let site = Site::start();
    let console = site.connect();
    let crasher = binaries::path("crasher").display().to_string();
    let child = site.file("child").display().to_string();
    // The first life spawns; the second one ends clean without spawning again.
    let words = [
        "on", "0", "spawn", "child", &crasher, &child, "say", "born", "park", ";", "park", "end",
        "clean", "return",
    ];
    site.actor(5, "spawner", "groupie", &words);
    site.runs("child", 0);
    proc::kill(site.runs("spawner", 0).pid(), Signal::ABORT);
    let message = "HR_CTRL: group 5 blocked, some members have not terminated: child";
    console.wait_line("the blocked message", |line| line == message);
    site.wait_row("child", |row| row.state == "waiting");
    site.wait_row("spawner", |row| row.state == "clean" && row.life == Some(1));
    assert!(
        site.refused("arun -g 6 -n child /bin/sleep 1")
            .contains("group 5")
    );

    site.ok(&format!(
        "arun -g 5 -n child {crasher} {child} say born park"
    ));
    let row = site.runs("child", 1);
    assert_eq!(row.kind, "indirect", "its kind is that of its first start");
    assert_eq!(
        console.out().matches(message).count() + console.err().matches(message).count(),
        1
    );
    site.ok("akill -g 5");
    assert!(site.aps().is_empty());
}

#[test]
fn h23_killing_a_blocked_group_terminates_it() {
    let site = Site::start();
    let words = [
        "on",
        "0",
        "spawn",
        "child",
        "/bin/sleep",
        "100000",
        ";",
        "park",
        "end",
        "alloc",
        "b",
        "4096",
        "group",
        "clean",
        "return",
    ];
    site.actor(5, "spawner", "groupie", &words);
    site.runs("child", 0);
    proc::kill(site.runs("spawner", 0).pid(), Signal::ABORT);
    site.wait_row("spawner", |row| row.state == "clean");
    site.wait_row("child", |row| row.state == "waiting");
    assert_eq!(site.blocks(), ["b"]);
    site.ok("akill -g 5");
    assert!(site.aps().is_empty());
    assert!(site.blocks().is_empty());
}

#[test]
fn h24_akill_g_kills_every_member_and_nothing_starts_again() {
    let site = Site::start();
    let mut pids = Vec::new();
    for name in ["a", "b", "c"] {
        site.actor(1, name, "crasher", &["say", "born", "park"]);
        pids.push(site.runs(name, 0).pid());
    }
    site.actor(2, "other", "crasher", &["park"]);
    site.ok("akill -g 1");
    // The command returns when everything is gone.
    assert!(pids.iter().all(|pid| !proc::is_alive(*pid)));
    let names: Vec<String> = site.aps().into_iter().map(|row| row.name).collect();
    assert_eq!(names, ["other"]);
    // A restart of everything that is registered brings none of them back.
    site.ok("restart");
    site.runs("other", 1);
    assert!(
        ["a", "b", "c"]
            .iter()
            .all(|name| site.lines(name).len() == 1)
    );
}

#[test]
fn h24_akill_of_one_members_aid_kills_its_group() {
    let site = Site::start();
    let aid = site.actor(1, "a", "crasher", &["park"]);
    site.actor(1, "b", "crasher", &["park"]);
    site.ok(&format!("akill {aid}"));
    assert!(site.aps().is_empty());
}

#[test]
fn h24_akill_of_an_ordinary_actor_kills_it_alone() {
    let site = Site::start();
    let aid = site.ordinary("a", "crasher", &["park"]);
    site.ordinary("b", "crasher", &["park"]);
    let pid = site.runs("a", 0).pid();
    site.ok(&format!("akill {aid}"));
    assert!(!proc::is_alive(pid));
    assert!(site.row("a").is_none());
    site.runs("b", 0);
}

#[test]
fn h24_akill_c_tells_the_actor_first() {
    let site = Site::start();
    let program = refrain_tests::programs::c_program("ruffian", site.dir());
    let out = site.file("out").display().to_string();
    let polite = [program.to_str().unwrap(), "polite", &out];
    let aid = site.arun(["-g", "1"].iter().chain(&polite));
    site.wait_line("out", |line| line == "life 0");
    site.ok(&format!("akill -c {aid}"));
    assert_eq!(site.lines("out"), ["life 0", "told"]);
    assert!(site.aps().is_empty(), "it is not restarted");

    let aid = site.arun(["-g", "1"].iter().chain(&polite));
    site.wait_lines("out", 3);
    site.ok(&format!("akill {aid}"));
    assert_eq!(site.lines("out").len(), 3, "without -c it is not told");
}

#[test]
fn h24_a_member_kills_its_own_group_and_no_other() {
    let site = Site::start();
    site.actor(1, "a", "crasher", &["park"]);
    site.actor(2, "bystander", "crasher", &["park"]);
    let go = site.file("go").display().to_string();
    site.actor(
        1,
        "killer",
        "groupie",
        &["kill-group", "2", "wait", &go, "kill-group", "self", "park"],
    );
    let refusal = site.wait_lines("killer", 1).remove(0);
    assert!(
        refusal.starts_with("error kill-group") && refusal.contains('2'),
        "{refusal}"
    );
    site.runs("a", 0);
    site.write("go", "");
    wait::until_true("the group to be gone", || site.aps().len() == 1);
    assert_eq!(site.runs("bystander", 0).restarts, 0);
}

#[test]
fn h24_a_kill_in_the_middle_of_a_crash_loop_ends_the_group_for_good() {
    let site = refrain_tests::Options::new().never_bad().start();
    for round in 0..10 {
        site.actor(1, "loops", "crasher", &["abort"]);
        site.wait_row("loops", |row| row.restarts > 2);
        site.ok("akill -g 1");
        assert!(site.row("loops").is_none(), "round {round}");
    }
}
