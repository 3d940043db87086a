//! The death of the controller: nucleus starts it again, every direct actor lives again and the
//! blocks are as they were. (Adoption of running actors, SPEC H31, is a later issue; until then a
//! new controller begins with a site restart.)
#![allow(clippy::unwrap_used)] // in the helpers of tests, too

use refrain_tests::{Options, Site, binaries, proc, run, wait};
use rustix::process::Signal;

/// Kills hr_ctrl and waits until another one serves.
fn kill_controller(site: &Site) {
    let old = site.controller_pid();
    proc::kill(old, Signal::KILL);
    wait::until_true("another hr_ctrl to serve", || {
        // Until it serves, clients are told that there is no site.
        let finished = site.command("chorusStat --json");
        let stat: Option<serde_json::Value> = serde_json::from_str(&finished.out).ok();
        let pid = stat.and_then(|stat| stat["hr_ctrl"].as_u64());
        finished.code == Some(0) && pid.is_some_and(|pid| pid != u64::from(old))
    });
}

#[test]
fn the_actors_of_a_controller_that_was_killed_live_again_with_their_blocks() {
    let site = Options::new().start();
    let nucleus = site.nucleus_pid();
    let crasher = binaries::path("crasher").display().to_string();
    let child = site.file("child").display().to_string();
    let words = [
        "alloc", "b", "4096", "group", "add", "b", "on", "0", "spawn", "child", &crasher, &child,
        "park", ";", "end", "park",
    ];
    site.actor(1, "me", "groupie", &words);
    site.actor(2, "other", "crasher", &["say", "born", "park"]);
    site.wait_lines("me", 3);
    site.runs("child", 0);
    for round in 1..4_u32 {
        let old: Vec<u32> = site.aps().iter().filter_map(|row| row.pid).collect();
        kill_controller(&site);
        let row = site.runs("me", round);
        assert_eq!((row.gid, row.kind.as_str()), (Some(1), "direct"));
        site.runs("other", round);
        assert!(
            old.iter().all(|pid| !proc::is_alive(*pid)),
            "no life of before is left"
        );
        let line = site.wait_line("me", |line| *line == format!("b = {}", round + 1));
        assert!(!line.is_empty());
        site.wait_row("child", |row| {
            row.state == "waiting" && row.kind == "indirect"
        });
        assert_eq!(site.nucleus_pid(), nucleus);
    }
    assert_eq!(
        site.lines("me")
            .iter()
            .filter(|line| line.contains("existed=false"))
            .count(),
        1
    );
}

#[test]
fn h6_aids_and_capabilities_of_before_the_death_of_the_controller_are_stale() {
    let site = Site::start();
    site.actor(1, "me", "crasher", &["park"]);
    let before = site.runs("me", 0);
    kill_controller(&site);
    let after = site.runs("me", 1);
    assert!(after.aid > before.aid, "{before:?} {after:?}");
    assert_ne!(after.capability, before.capability);
    let refusal = site.refused(&format!("akill {}", before.aid()));
    assert!(refusal.contains(&before.aid().to_string()), "{refusal}");
}

#[test]
fn the_programs_file_may_be_gone_when_the_controller_is_started_again() {
    let site = Site::start();
    let program = site.file("copy");
    std::fs::copy(binaries::path("crasher"), &program).unwrap();
    let out = site.file("out").display().to_string();
    site.arun([
        "-g",
        "1",
        program.to_str().unwrap(),
        &out,
        "say",
        "born",
        "park",
    ]);
    site.wait_lines("out", 1);
    std::fs::remove_file(&program).unwrap();
    kill_controller(&site);
    site.runs("copy", 1);
    site.wait_lines("out", 2);
    proc::kill(site.runs("copy", 1).pid(), Signal::ABORT);
    site.runs("copy", 2);
}

#[test]
fn a_halt_after_the_death_of_a_controller_leaves_nothing_behind() {
    let mut site = Site::start();
    site.actor(1, "me", "crasher", &["park"]);
    site.ordinary("plain", "crasher", &["park"]);
    site.runs("me", 0);
    kill_controller(&site);
    site.runs("me", 1);
    site.halt(0);
}

#[test]
fn a_clean_end_is_remembered_across_the_death_of_the_controller() {
    let site = Site::start();
    site.actor(1, "anchor", "crasher", &["park"]);
    site.actor(1, "me", "groupie", &["say", "ran", "clean", "return"]);
    site.wait_row("me", |row| row.state == "clean");
    kill_controller(&site);
    // A site restart starts every direct member, the clean one too (SPEC H25).
    site.wait_lines("me", 2);
    site.runs("anchor", 1);
    site.wait_row("me", |row| row.state == "clean" && row.life == Some(1));
}

#[test]
fn a_controller_that_is_stopped_is_started_again() {
    let config = "(hr_ctrl: (answer_timeout: \"1s\"))";
    let site = Options::new().config(config).start();
    site.actor(1, "me", "crasher", &["park"]);
    site.runs("me", 0);
    let old = site.controller_pid();
    proc::kill(old, Signal::STOP);
    wait::until_true("nucleus to end it", || !proc::is_alive(old));
    wait::until_true("another one to serve", || {
        site.command("aps").code == Some(0)
    });
    assert_ne!(site.controller_pid(), old);
    site.runs("me", 1);
}

#[test]
fn a_controller_that_keeps_dying_ends_the_site_and_the_bank_stays() {
    let mut site = Options::new().keeps_bank().start();
    site.actor(
        1,
        "me",
        "groupie",
        &["alloc", "b", "4096", "group", "add", "b", "park"],
    );
    site.wait_lines("me", 2);
    let nucleus = site.nucleus_pid();
    site.note_family();
    wait::until_true("the site to end", || {
        let children = proc::children(nucleus);
        let controllers = children
            .iter()
            .filter(|stat| proc::text(stat.id.pid, "comm").trim() == "hr_ctrl");
        controllers.for_each(|stat| proc::kill_if_there(stat.id));
        !site.is_up()
    });
    site.wait_down();
    site.detach();
    site.wait_row("me", |row| row.state == "running");
    let lines = site.lines("me");
    let made = lines.iter().filter(|line| line.contains("existed=false"));
    assert_eq!(made.count(), 1, "{lines:?}");
}

#[test]
fn a_site_whose_nucleus_was_killed_is_commanded_and_halted_as_before() {
    let mut site = Site::start();
    let aid = site.actor(1, "stays", "crasher", &["park"]);
    let pid = site.row("stays").unwrap().pid();
    proc::kill(site.nucleus_pid(), Signal::KILL);
    assert_eq!(site.runs("stays", 0).pid(), pid);
    // The name is taken for as long as the site can be commanded.
    let second = run::to_end(site.starter().arg("--detach"), None);
    assert_eq!(second.code, Some(1), "{second:?}");
    assert!(second.err.contains("already running"), "{second:?}");
    site.ok(&format!("akill {aid}"));
    site.halt(0);
}

#[test]
fn a_template_that_somebody_has_stopped_does_not_hold_up_its_group_for_ever() {
    let config = "(hr_ctrl: (max_badness: 1000, template_timeout: \"500ms\"))";
    let site = Options::new().config(config).start();
    site.actor(1, "held", "crasher", &["park"]);
    let first = site.runs_with_standby("held", 0).pid();
    let template = proc::stat(first).unwrap().parent;
    proc::kill(template, Signal::STOP);
    proc::kill(first, Signal::KILL);
    proc::kill(site.runs("held", 1).pid(), Signal::KILL);
    site.runs("held", 2);
    site.ok("akill -g 1");
}
