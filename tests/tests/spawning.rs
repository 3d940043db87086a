//! `hrfexec` (SPEC H2, H4, H9, H12): what a member may run, what the new member is given, what is
//! refused.
#![allow(clippy::unwrap_used)] // in the helpers of tests, too

use refrain_tests::{Options, Site, binaries, proc};
use rustix::process::Signal;

fn crasher() -> String {
    binaries::path("crasher").display().to_string()
}

#[test]
fn h12_an_indirect_member_gets_the_fds_that_its_spawner_passes() {
    let site = Site::start();
    let song = site.file("song").display().to_string();
    let (crasher, child) = (crasher(), site.file("child").display().to_string());
    let words = [
        "stdout", &song, "spawn", "child", &crasher, &child, "say", "la la", "park", ";", "park",
    ];
    site.actor(1, "spawner", "groupie", &words);
    site.wait_line("child", |line| line == "la la");
    site.wait_line("song", |line| line == "la la");
    assert!(!site.ok("log spawner").contains("la la"));
}

#[test]
fn h12_an_indirect_member_prints_where_its_spawner_does_when_nothing_is_passed() {
    let site = Site::start();
    let console = site.connect();
    let (crasher, child) = (crasher(), site.file("child").display().to_string());
    let words = [
        "spawn", "child", &crasher, &child, "say", "la la", "park", ";", "park",
    ];
    site.actor(1, "spawner", "groupie", &words);
    console.wait_line("the child's song", |line| line.contains("la la"));
}

#[test]
fn h2_an_indirect_member_may_spawn_in_its_turn_and_all_of_them_wait_after_a_restart() {
    let site = Site::start();
    let groupie = binaries::path("groupie").display().to_string();
    let files = ["child", "grandchild"].map(|name| site.file(name).display().to_string());
    // The child's script in the root's: its own `spawn` ends at `;;`.
    let words = [
        "on",
        "0",
        "spawn",
        "child",
        &groupie,
        &files[0],
        "spawn",
        "grandchild",
        &groupie,
        &files[1],
        "whoami",
        "park",
        ";;",
        "park",
        ";",
        "end",
        "park",
    ];
    site.actor(6, "root", "groupie", &words);
    let row = site.runs("grandchild", 0);
    assert_eq!((row.gid, row.kind.as_str()), (Some(6), "indirect"));
    let said = site.wait_line("grandchild", |line| line.contains("gid=6"));
    assert!(said.contains(&format!("aid={}", row.aid())), "{said}");
    proc::kill(site.runs("root", 0).pid(), Signal::KILL);
    site.runs("root", 1);
    for name in ["child", "grandchild"] {
        site.wait_row(name, |row| row.state == "waiting" && row.kind == "indirect");
    }
}

#[test]
fn h4_hrfexec_of_what_is_no_program_is_refused_and_registers_nothing() {
    let site = Site::start();
    let plain = site.write("plain", "words").display().to_string();
    let missing = site.file("missing").display().to_string();
    let words = [
        "spawn",
        "a",
        &missing,
        ";",
        "spawn",
        "b",
        &plain,
        ";",
        "spawn",
        "c/d",
        "/bin/sleep",
        ";",
        "park",
    ];
    site.actor(1, "me", "groupie", &words);
    let lines = site.wait_lines("me", 3);
    assert!(
        lines[0].starts_with("error spawn") && lines[0].contains(&missing),
        "{lines:?}"
    );
    assert!(
        lines[1].starts_with("error spawn") && lines[1].contains(&plain),
        "{lines:?}"
    );
    assert!(lines[2].starts_with("error spawn"), "{lines:?}");
    assert_eq!(site.aps().len(), 1);
    assert_eq!(site.runs("me", 0).restarts, 0);
}

#[test]
fn h4_hrfexec_of_a_living_name_or_one_of_another_group_is_refused() {
    let site = Site::start();
    site.actor(2, "stranger", "crasher", &["park"]);
    site.actor(1, "mate", "crasher", &["park"]);
    site.ordinary("plain", "crasher", &["park"]);
    let words = [
        "spawn",
        "stranger",
        "/bin/sleep",
        ";",
        "spawn",
        "mate",
        "/bin/sleep",
        ";",
        "spawn",
        "me",
        "/bin/sleep",
        ";",
        "spawn",
        "plain",
        "/bin/sleep",
        ";",
        "park",
    ];
    site.actor(1, "me", "groupie", &words);
    let lines = site.wait_lines("me", 4);
    assert!(
        lines.iter().all(|line| line.starts_with("error spawn")),
        "{lines:?}"
    );
    assert!(lines[0].contains("group 2"), "{}", lines[0]);
    assert!(
        lines[1].contains("alive") && lines[2].contains("alive"),
        "{lines:?}"
    );
}

#[test]
fn h4_an_indirect_member_that_ended_clean_is_spawned_again_from_memory() {
    let site = Site::start();
    let copy = site.file("copy");
    std::fs::copy(binaries::path("groupie"), &copy).unwrap();
    let (copy, child) = (
        copy.display().to_string(),
        site.file("child").display().to_string(),
    );
    let [gone, go] = ["gone", "go"].map(|name| site.file(name).display().to_string());
    let words = [
        "spawn", "child", &copy, &child, "say", "first", "clean", "return", ";", "wait", &go,
        "spawn", "child", &gone, &child, "say", "second", "park", ";", "park",
    ];
    site.actor(1, "me", "groupie", &words);
    site.wait_row("child", |row| row.state == "clean");
    std::fs::remove_file(&copy).unwrap();
    site.write("go", "");
    let row = site.runs("child", 1);
    assert_eq!(
        (row.kind.as_str(), row.restarts),
        ("indirect", 0),
        "it was not restarted but run"
    );
    site.wait_line("child", |line| line == "second");
    assert_eq!(site.lines("child"), ["first", "second"]);
}

#[test]
fn h27_hrfexec_past_max_actors_is_refused() {
    let site = Options::new().config("(hr_ctrl: (max_actors: 2))").start();
    let words = [
        "spawn",
        "a",
        "/bin/sleep",
        "100000",
        ";",
        "spawn",
        "b",
        "/bin/sleep",
        "100000",
        ";",
        "park",
    ];
    site.actor(1, "me", "groupie", &words);
    let lines = site.wait_lines("me", 2);
    assert!(lines[0].starts_with("spawned a"), "{lines:?}");
    assert!(
        lines[1].starts_with("error spawn") && lines[1].contains("max_actors"),
        "{lines:?}"
    );
}

#[test]
fn h24_a_member_that_spawns_for_ever_is_ended_by_a_kill() {
    let site = Options::new().never_bad().start();
    let (groupie, child) = (
        binaries::path("groupie").display().to_string(),
        site.file("child"),
    );
    let child = child.display().to_string();
    let words = ["spawn", "child", &groupie, &child, "abort", ";", "park"];
    for round in 0..5 {
        site.actor(1, "me", "groupie", &words);
        site.wait_row("me", |row| row.restarts > 2);
        site.ok("akill -g 1");
        assert!(site.aps().is_empty(), "round {round}: {:?}", site.aps());
    }
}
