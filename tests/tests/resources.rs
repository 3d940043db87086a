//! Actors with bad manners do not disturb the site, and a halt leaves nothing behind.
#![allow(clippy::unwrap_used)] // in the helpers of tests, too

use std::fs;

use refrain_tests::programs::c_program;
use refrain_tests::{Options, Site, proc, wait};
use rustix::process::Signal;

fn ruffian(site: &Site, gid: u32, kind: &str) {
    let program = c_program("ruffian", site.dir()).display().to_string();
    let out = site.file(kind).display().to_string();
    site.arun(["-g", &gid.to_string(), "-n", kind, &program, kind, &out]);
    site.wait_lines(kind, 1);
}

/// The site answers, restarts and ends actors as if nothing were.
fn assert_undisturbed(site: &Site) {
    site.actor(50, "probe", "crasher", &["park"]);
    proc::kill(site.runs("probe", 0).pid(), Signal::ABORT);
    site.runs("probe", 1);
    site.ok("akill -g 50");
}

#[test]
fn a_flood_of_output_does_not_disturb_the_site() {
    let site = Site::start();
    let memory = |site: &Site| proc::status(site.controller_pid(), "VmRSS").unwrap();
    let flood = (96_u64 << 20).to_string();
    let before = memory(&site);
    site.actor(1, "flood", "crasher", &["flood", &flood, "park"]);
    ruffian(&site, 2, "stderr");
    assert_undisturbed(&site);
    wait::until_true("the flood to be over", || {
        site.lines("flood") == ["flooded"]
    });
    let grown = memory(&site).saturating_sub(before);
    assert!(grown < 64 << 10, "hr_ctrl grew by {grown} KiB");
    let log = site.ok("log flood");
    assert!(
        log.len() < 1 << 20,
        "the log keeps the end only: {} bytes",
        log.len()
    );
    assert!(log.contains("xxxx"));
    assert_undisturbed(&site);
    site.ok("akill -g 2");
}

#[test]
fn a_flood_with_a_console_that_does_not_read_does_not_disturb_the_site() {
    let site = Site::start();
    // Its stdout is a pipe that nobody reads any more once it has shown that it is there.
    let (mut stuck, _stdin, _reader) = site.piped_console();
    let flood = (64_u64 << 20).to_string();
    site.actor(1, "flood", "crasher", &["flood", &flood, "park"]);
    wait::until_true("the flood to be over", || {
        site.lines("flood") == ["flooded"]
    });
    assert_undisturbed(&site);
    let rss = proc::status(site.controller_pid(), "VmRSS").unwrap();
    assert!(
        rss < 256 << 10,
        "hr_ctrl keeps what the console does not read: {rss} KiB"
    );
    stuck.kill().unwrap();
    stuck.wait().unwrap();
}

#[test]
fn an_actor_that_ignores_sigterm_is_ended_all_the_same() {
    let site = Options::new()
        .config("(hr_ctrl: (grace: \"50ms\"))")
        .start();
    ruffian(&site, 1, "deaf");
    let pid = site.runs("deaf", 0).pid();
    site.ok("akill -g 1");
    assert!(!proc::is_alive(pid));
    ruffian(&site, 1, "deaf");
    let row = site.runs("deaf", 0);
    site.ok(&format!("akill -c {}", row.aid()));
    assert!(!proc::is_alive(row.pid()) && site.row("deaf").is_none());
}

#[test]
fn a_halt_ends_an_actor_that_ignores_sigterm() {
    let mut site = Options::new()
        .config("(hr_ctrl: (grace: \"50ms\"))")
        .start();
    ruffian(&site, 1, "deaf");
    site.halt(0);
}

#[test]
fn an_actor_that_closes_all_its_fds_is_watched_and_restarted_like_any_other() {
    let site = Site::start();
    ruffian(&site, 1, "fdless");
    for life in 0..3 {
        site.wait_lines("fdless", life as usize + 1);
        let row = site.runs("fdless", life);
        assert_eq!(proc::fd_count(row.pid()), 0);
        proc::kill(row.pid(), Signal::SEGV);
    }
    site.runs("fdless", 3);
    assert_undisturbed(&site);
    site.ok("akill -g 1");
}

#[test]
fn garbage_on_an_actors_own_socket_is_answered_by_no_crash() {
    let site = Site::start();
    let controller = site.controller_pid();
    ruffian(&site, 1, "scribble");
    proc::kill(site.runs("scribble", 0).pid(), Signal::SEGV);
    site.runs("scribble", 1);
    assert_undisturbed(&site);
    assert_eq!(site.controller_pid(), controller, "hr_ctrl is the same");
}

#[test]
fn a_stopped_member_does_not_hold_up_its_groups_restart() {
    let site = Site::start();
    site.actor(1, "stopped", "crasher", &["park"]);
    site.actor(1, "fails", "crasher", &["park"]);
    proc::kill(site.runs("stopped", 0).pid(), Signal::STOP);
    proc::kill(site.runs("fails", 0).pid(), Signal::ABORT);
    site.runs("fails", 1);
    let pid = site.runs("stopped", 1).pid();
    assert_ne!(proc::stat(pid).unwrap().state, 'T');
}

#[test]
fn the_output_of_an_actor_is_on_the_console_with_its_name_and_in_its_log() {
    let site = Site::start();
    let console = site.connect();
    site.actor(
        1,
        "singer",
        "crasher",
        &["say", "la la la", "on", "0", "abort", "end", "park"],
    );
    site.runs("singer", 1);
    console.wait_line("the song", |line| {
        line.contains("singer") && line.contains("la la la")
    });
    wait::until_true("the song of both lives in the log", || {
        site.ok("log singer").matches("la la la").count() == 2
    });
    let finished = console.close();
    assert_eq!(finished.code, Some(0), "{finished:?}");
    assert!(site.is_up(), "a console that leaves does not halt the site");
}

#[test]
fn a_halt_of_a_busy_site_leaves_nothing_behind() {
    for level in [0, 3] {
        let mut site = Options::new().never_bad().start();
        let daemoniser = c_program("daemoniser", site.dir()).display().to_string();
        let port = refrain_tests::programs::free_port().to_string();
        let out = site.file("daemons").display().to_string();
        site.arun(["-g", "1", &daemoniser, &port, &out]);
        site.wait_lines("daemons", 1);
        site.actor(2, "loops", "crasher", &["abort"]);
        site.actor(
            3,
            "block",
            "groupie",
            &["alloc", "b", "65536", "key", "fill", "b", "park"],
        );
        site.wait_lines("block", 2);
        site.ordinary("plain", "crasher", &["park"]);
        site.wait_row("loops", |row| row.restarts > 2);
        // Panics if anything is left: processes, cgroups, files beside the bank or in it.
        site.halt(level);
    }
}

#[test]
fn the_default_bank_is_gone_after_a_halt() {
    let mut site = Options::new().default_bank().start();
    site.actor(
        1,
        "block",
        "groupie",
        &["alloc", "b", "65536", "key", "park"],
    );
    site.wait_lines("block", 1);
    let bank = site.memory()["bank"].as_str().unwrap().to_owned();
    assert!(fs::metadata(&bank).unwrap().is_dir());
    site.halt(0);
    assert!(
        !std::path::Path::new(&bank).exists(),
        "{bank} is still there"
    );
}

#[test]
fn a_bank_that_is_to_be_kept_is_found_again_by_the_next_site() {
    let config = "(pmm: (keep_on_halt: true))";
    let mut site = Options::new().config(config).keeps_bank().start();
    site.actor(
        1,
        "me",
        "groupie",
        &["alloc", "b", "4096", "key", "add", "b", "park"],
    );
    site.wait_line("me", |line| line == "b = 1");
    site.halt(0);
    site.detach();
    assert_eq!(site.blocks(), ["b"]);
    site.actor(
        1,
        "me",
        "groupie",
        &["alloc", "b", "4096", "key", "add", "b", "park"],
    );
    site.wait_line("me", |line| line.contains("existed=true"));
    site.wait_line("me", |line| line == "b = 2");
}
