//! Actors of another user (`arun -u`, SPEC H34): everything works for them as for others, with that user's
//! rights and no more.
#![allow(clippy::unwrap_used)] // in the helpers of tests, too

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use refrain_tests::programs::{c_program, compile, skipped, with_libhr};
use refrain_tests::{Options, Row, Site, binaries, proc};
use rustix::process::Signal;

/// A site whose directory every user may use; `None`, with a visible line, without root.
fn site() -> Option<Site> {
    if !rustix::process::geteuid().is_root() {
        skipped("only root can become somebody else");
        return None;
    }
    let site = Options::new().never_bad().start();
    set_mode(site.dir(), 0o777);
    Some(site)
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// A program of this package where every user may run it.
fn copied(site: &Site, program: &str) -> String {
    let place = site.file(&format!("bin-{program}"));
    fs::copy(binaries::path(program), &place).unwrap();
    set_mode(&place, 0o755);
    place.display().to_string()
}

fn text(path: PathBuf) -> String {
    path.display().to_string()
}

/// The row of life `life`, once it is known how the one before ended.
fn restarted(site: &Site, name: &str, life: u32) -> Row {
    site.wait_row(name, |row| row.runs(life) && row.last_end.is_some())
}

fn uid_of(pid: u32) -> u64 {
    proc::status(pid, "Uid").unwrap()
}

const NOBODY: u64 = 65_534;

#[test]
fn h34_every_life_of_a_users_actor_has_his_rights_and_restarts_like_any_other() {
    let Some(site) = site() else { return };
    let (program, out) = (
        text(c_program("hungry", site.dir())),
        text(site.file("who")),
    );
    site.arun([
        "-g", "1", "-n", "who", "-u", "nobody", &program, &out, "who",
    ]);
    for life in 0..4 {
        site.wait_lines("who", life as usize + 1);
        let row = site.runs_with_standby("who", life);
        assert_eq!(uid_of(row.pid()), NOBODY);
        proc::kill(
            row.pid(),
            if life % 2 == 0 {
                Signal::SEGV
            } else {
                Signal::KILL
            },
        );
        let row = restarted(&site, "who", life + 1);
        assert_eq!(row.start.as_deref(), Some("standby"));
        let notice = if life % 2 == 0 { "fault" } else { "kernel" };
        assert_eq!(row.notice.as_deref(), Some(notice), "life {life}");
        assert!(row.keeper, "life {life}");
    }
    for (life, line) in site.wait_lines("who", 5).iter().enumerate() {
        let start = format!("life={life} uid=65534 gid=65534 groups=1 home=");
        assert!(
            line.starts_with(&start) && line.contains(" user=nobody nnp=1 "),
            "{line}"
        );
        assert!(line.ends_with("stdout=opens"), "{line}");
    }
}

#[test]
fn h34_a_user_is_named_by_numbers_too_and_an_ordinary_actor_has_one_as_well() {
    let Some(site) = site() else { return };
    let (program, out) = (
        text(c_program("hungry", site.dir())),
        text(site.file("who")),
    );
    site.arun(["-n", "plain", "-u", "54321:54322", &program, &out, "who"]);
    let line = site.wait_lines("who", 1).remove(0);
    assert!(
        line.starts_with("life=0 uid=54321 gid=54322 groups=1 home=/ user=54321 nnp=1 "),
        "{line}"
    );
    let refused = site.refused("arun -u 54321 true");
    assert!(
        refused.contains("54321") && refused.contains("UID:GID"),
        "{refused}"
    );
}

#[test]
fn h34_a_script_by_its_path_runs_as_its_user() {
    let Some(site) = site() else { return };
    let script =
        "#!/bin/sh\necho \"$REFRAIN_LIFE $0 $(id -u)\" >> who\nwhile :; do sleep 1000; done\n";
    let path = site.write("script.sh", script);
    set_mode(&path, 0o755);
    let path = text(path);
    site.arun(["-g", "1", "-u", "nobody", &path]);
    site.wait_lines("who", 1);
    proc::kill(site.runs_with_standby("script.sh", 0).pid(), Signal::KILL);
    let lines = site.wait_lines("who", 2);
    assert_eq!(
        lines,
        [format!("0 {path} 65534"), format!("1 {path} 65534")]
    );
}

#[test]
fn h34_programs_that_start_by_exec_or_in_place_run_as_their_user() {
    let Some(site) = site() else { return };
    let dir = site.dir();
    let exec = text(compile("cc", "hungry", dir, "static", &["-static"]));
    let (place, out) = (text(c_program("hungry", dir)), text(site.file("who")));
    site.arun(["-g", "1", "-u", "nobody", &exec, &out, "who"]);
    site.arun(["-g", "2", "-u", "nobody", "-xip", &place, &out, "who"]);
    site.wait_lines("who", 2);
    for name in ["static", "hungry"] {
        proc::kill(site.runs_with_standby(name, 0).pid(), Signal::SEGV);
        assert_eq!(uid_of(site.runs(name, 1).pid()), NOBODY);
    }
    let lines = site.wait_lines("who", 4);
    assert!(
        lines.iter().all(|line| line.contains(" uid=65534 ")),
        "{lines:?}"
    );
}

#[test]
fn h34_a_users_actor_has_blocks_and_spawns_actors_that_are_his_too() {
    let Some(site) = site() else { return };
    let (groupie, crasher) = (copied(&site, "groupie"), copied(&site, "crasher"));
    let out = text(site.file("owner"));
    let words = [
        "alloc", "b", "65536", "group", "add", "b", "on", "0", "abort", "end",
    ];
    let spawn = [
        "spawn", "child", &crasher, "-", "park", ";", "shutdown", "0", "park",
    ];
    let start = ["-g", "1", "-n", "owner", "-u", "nobody", &groupie, &out];
    site.arun([&start[..], &words, &spawn].concat());
    let lines = site.wait_lines("owner", 6);
    assert!(
        lines[2].ends_with("existed=true") && lines[3] == "b = 2",
        "{lines:?}"
    );
    assert!(
        lines[5].starts_with("error shutdown: ") && lines[5].contains("does not command"),
        "{lines:?}"
    );
    assert_eq!(uid_of(site.runs("child", 0).pid()), NOBODY);
    assert!(site.is_up());
}

#[test]
fn h34_what_a_user_may_not_read_he_cannot_run_nor_have_run() {
    let Some(site) = site() else { return };
    let groupie = copied(&site, "groupie");
    let secret = site.write("secret.sh", "#!/bin/sh\n# a password\nsleep 1000\n");
    // Executable for everybody, readable for nobody but root.
    set_mode(&secret, 0o711);
    let secret = text(secret);
    let line = site.refused(&format!("arun -g 1 -u nobody {secret}"));
    assert!(
        line.contains("as user nobody") && line.contains(&secret),
        "{line}"
    );
    // Root has had it read before: that helps nobody.
    site.arun(["-g", "1", &secret]);
    let out = text(site.file("thief"));
    let words = ["spawn", "loot", &secret, ";", "park"];
    let start = ["-g", "2", "-n", "thief", "-u", "nobody", &groupie, &out];
    site.arun([&start[..], &words].concat());
    let line = site.wait_lines("thief", 1).remove(0);
    assert!(
        line.starts_with("error spawn: ") && line.contains("as user nobody"),
        "{line}"
    );
    assert!(site.row("loot").is_none());
}

#[test]
fn h34_a_directory_that_the_user_may_not_enter_is_told() {
    let Some(site) = site() else { return };
    set_mode(site.dir(), 0o700);
    let line = site.refused("arun -g 1 -u nobody sleep 1000");
    assert!(
        line.contains("nobody") && line.contains("may not enter"),
        "{line}"
    );
}

#[test]
fn h34_the_configuration_names_the_user_of_an_actor() {
    if !rustix::process::geteuid().is_root() {
        return skipped("only root can become somebody else");
    }
    let config =
        r#"(actors: { "nap": (user: "nobody", nice: 2), "dream": (user: "no-such-user") })"#;
    let site = Options::new().config(config).start();
    set_mode(site.dir(), 0o777);
    site.ok("arun -g 1 -n nap sleep 1000");
    assert_eq!(uid_of(site.runs("nap", 0).pid()), NOBODY);
    site.ok("arun -g 2 -n root-nap -u root sleep 1000");
    assert_eq!(uid_of(site.runs("root-nap", 0).pid()), 0);
    let line = site.refused("arun -g 1 -n dream sleep 1000");
    assert!(line.contains("no-such-user"), "{line}");
}

#[test]
fn h34_a_warm_image_of_a_users_life_is_his() {
    let Some(site) = site() else { return };
    let program = text(with_libhr("warm", site.dir()));
    let (out, loads) = (text(site.file("out")), text(site.file("loads")));
    site.arun(["-g", "1", "-u", "nobody", &program, &out, &loads]);
    site.wait_lines("out", 1);
    for life in 0..2 {
        site.wait_lines("out", life as usize + 1);
        proc::kill(site.runs_with_standby("warm", life).pid(), Signal::SEGV);
        let row = site.runs("warm", life + 1);
        assert_eq!((row.image.as_str(), uid_of(row.pid())), ("warm", NOBODY));
    }
    site.wait_lines("out", 3);
    assert_eq!(site.lines("loads").len(), 1);
}

#[test]
fn h34_the_next_controller_runs_the_actor_as_the_same_user() {
    let Some(site) = site() else { return };
    site.ok("arun -g 1 -n nap -u nobody sleep 1000");
    site.runs("nap", 0);
    let controller = site.controller_pid();
    proc::kill(controller, Signal::KILL);
    refrain_tests::wait::until_true("the next controller", || {
        let row = site.command("chorusStat --json");
        row.code == Some(0) && !row.out.contains(&format!("\"hr_ctrl\": {controller},"))
    });
    let row = site.wait_row("nap", |row| row.state == "running" && row.pid.is_some());
    assert_eq!(uid_of(row.pid()), NOBODY);
}
