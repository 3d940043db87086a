//! Hang detection (SPEC H34): checks of actors from outside, by command, TCP and HTTP.
#![allow(clippy::unwrap_used)] // in the helpers of tests, too

use std::fs;
use std::time::Duration;

use refrain_tests::programs::{free_port, installed, skipped};
use refrain_tests::watched::{NEVER, path, runs, was_well};
use refrain_tests::{Options, Site, proc, run, wait};
use rustix::process::Signal;
use serde_json::Value;

#[test]
fn h34_a_server_that_takes_no_connections_any_more_hangs() {
    let site = Options::new().never_bad().start();
    let (port, deaf) = (free_port().to_string(), path(&site, "deaf"));
    let target = format!("127.0.0.1:{port}");
    let flags = [
        "-g",
        "1",
        "-n",
        "server",
        "--check-tcp",
        &target,
        "--check-every",
        "50ms",
    ];
    let more = [
        "--check-timeout",
        "300ms",
        "--check-failures",
        "2",
        "--check-after",
        "300ms",
    ];
    let flags = [&flags[..], &more].concat();
    runs(
        &site,
        &flags,
        "crasher",
        &[
            "on", "0", "deaf", &port, &deaf, "end", "listen", &port, "park",
        ],
    );
    let seen = site.wait_watch("server", "seen well", was_well);
    assert_eq!(
        (&seen["check"], &seen["progress_ms"]),
        (&target.as_str().into(), &Value::Null)
    );
    site.write("deaf", "");
    let row = site.runs("server", 1);
    assert_eq!(row.restarts, 1);
    let row = site.wait_row("server", |row| row.last_end.is_some());
    let end = row.last_end.unwrap();
    assert_eq!(end, "hang: check failed 2 times: no answer within 300 ms");
    site.wait_watch("server", "seen well in its next life", was_well);
}

#[test]
fn h34_a_server_that_answers_with_an_error_hangs() {
    let site = Options::new().never_bad().start();
    let (port, ill) = (free_port().to_string(), path(&site, "ill"));
    let url = format!("http://localhost:{port}/health");
    let flags = [
        "-g",
        "1",
        "-n",
        "web",
        "--check-http",
        &url,
        "--check-every",
        "50ms",
    ];
    runs(&site, &flags, "crasher", &["http", &port, &ill, "park"]);
    let seen = site.wait_watch("web", "seen well", was_well);
    assert_eq!(seen["check"], url, "{seen}");
    let pid = site.runs("web", 0).pid();
    site.write("ill", "");
    let row = site.wait_row("web", |row| row.last_end.is_some());
    assert_ne!(row.pid, Some(pid));
    assert_eq!(
        row.last_end.as_deref(),
        Some("hang: check failed 3 times: HTTP 503")
    );
    fs::remove_file(site.file("ill")).unwrap();
    site.wait_watch("web", "well again", |seen| {
        was_well(seen) && seen["failed"].is_null()
    });
}

#[test]
fn h34_a_command_checks_with_the_actors_directory_and_environment_and_what_it_prints_is_logged() {
    let site = Options::new().never_bad().start();
    site.write(
        "probe.sh",
        "#!/bin/sh\nenv > seen.tmp; pwd >> seen.tmp; mv seen.tmp seen\n\
                            kill -0 $REFRAIN_PID || exit 9\n\
                            test ! -e ill || { echo it is ill; exit 3; }\n",
    );
    let flags = [
        "-g",
        "1",
        "-n",
        "db",
        "--check",
        "sh ./probe.sh",
        "--check-every",
        "50ms",
    ];
    runs(
        &site,
        &[&flags[..], &["--check-failures", "1"]].concat(),
        "crasher",
        &["park"],
    );
    let row = site.runs("db", 0);
    site.wait_watch("db", "seen well", was_well);
    let seen = site.lines("seen");
    for line in [
        format!("REFRAIN_PID={}", row.pid()),
        format!("REFRAIN_AID={}", row.aid()),
        "REFRAIN_LIFE=0".to_owned(),
        "REFRAIN_NAME=db".to_owned(),
        site.dir().canonicalize().unwrap().display().to_string(),
    ] {
        assert!(seen.contains(&line), "{line} in {seen:#?}");
    }
    site.write("ill", "");
    let row = site.wait_row("db", |row| row.last_end.is_some());
    assert_eq!(row.last_end.as_deref(), Some("hang: check failed: exit 3"));
    fs::remove_file(site.file("ill")).unwrap();
    let log = wait::until("the log", || {
        Some(site.ok("log db")).filter(|log| log.contains("HR_CTRL: check: it is ill"))
    });
    assert!(
        log.contains("HR_CTRL: check failed (1 of 1): exit 3"),
        "{log}"
    );
    let said = site.command("log HR_CTRL").out;
    assert!(!said.contains("it is ill"), "not on the console: {said}");
}

#[test]
fn h34_a_command_that_hangs_is_ended_with_everything_it_started_and_is_a_failed_check() {
    let site = Options::new().never_bad().start();
    site.write(
        "probe.sh",
        "test -e ill || exit 0\n\
                            setsid sleep 9711 &\nyes | head -c 300000\nsleep 9712\n",
    );
    let flags = [
        "-g",
        "1",
        "-n",
        "db",
        "--check",
        "sh ./probe.sh",
        "--check-every",
        "50ms",
    ];
    let more = ["--check-timeout", "300ms", "--check-failures", "2"];
    runs(&site, &[&flags[..], &more].concat(), "crasher", &["park"]);
    site.wait_watch("db", "seen well", was_well);
    site.write("ill", "");
    let row = site.wait_row("db", |row| row.last_end.is_some());
    let end = row.last_end.unwrap();
    assert_eq!(end, "hang: check failed 2 times: no answer within 300 ms");
    fs::remove_file(site.file("ill")).unwrap();
    site.wait_watch("db", "well again", |seen| {
        was_well(seen) && seen["failed"].is_null()
    });
    wait::until_true("the sleeps to end", || sleepers(&site).is_empty());
}

/// Who sleeps below the nucleus of the site.
fn sleepers(site: &Site) -> Vec<u32> {
    let family = proc::family(site.nucleus_pid())
        .into_iter()
        .map(|stat| stat.id.pid);
    let sleeps = |pid: &u32| proc::text(*pid, "cmdline").starts_with("sleep\n");
    family.filter(sleeps).collect()
}

#[test]
fn h34_a_command_that_is_under_way_ends_with_the_life_and_holds_up_nobody() {
    let mut site = Options::new().never_bad().start();
    let flags = [
        "-g",
        "1",
        "-n",
        "db",
        "--check",
        "sleep 9713",
        "--check-every",
        "10ms",
    ];
    let more = ["--check-timeout", "1h"];
    runs(&site, &[&flags[..], &more].concat(), "crasher", &["park"]);
    let find = || sleepers(&site).first().copied();
    let first = wait::until("a check under way", find);
    proc::kill(site.runs("db", 0).pid(), Signal::KILL);
    site.runs("db", 1);
    wait::until_true("the first life's check to end", || !proc::is_alive(first));
    wait::until("a check of the next life", find);
    site.ok("akill -g 1");
    wait::until_true("no check to be left", || sleepers(&site).is_empty());
    runs(&site, &[&flags[..], &more].concat(), "crasher", &["park"]);
    wait::until("a check of the third life", || {
        sleepers(&site).first().copied()
    });
    site.halt(3);
}

#[test]
fn h34_a_check_that_cannot_be_carried_out_is_told_once_and_is_nobodys_failure() {
    let site = Options::new().never_bad().start();
    let flags = [
        "-g",
        "1",
        "-n",
        "db",
        "--check",
        "./no-such-check",
        "--check-every",
        "20ms",
    ];
    runs(
        &site,
        &[&flags[..], &["--check-failures", "1"]].concat(),
        "crasher",
        &["park"],
    );
    let told = site.said("db: its check cannot be carried out (exit 127");
    assert!(told.contains("no-such-check"), "{told}");
    let flags = [
        "-g",
        "2",
        "-n",
        "far",
        "--check-tcp",
        "no-such-host.invalid:80",
    ];
    let more = ["--check-every", "20ms", "--check-failures", "1"];
    runs(&site, &[&flags[..], &more].concat(), "crasher", &["park"]);
    site.said("far: its check cannot be carried out (no-such-host.invalid: ");
    std::thread::sleep(Duration::from_millis(300));
    for name in ["db", "far"] {
        assert!(site.runs(name, 0).last_end.is_none());
        let seen = site.watch(name);
        assert!(
            seen["trouble"].is_string() && seen["failed"].is_null(),
            "{seen}"
        );
    }
    let log = site.ok("log HR_CTRL");
    assert_eq!(log.matches("its check cannot").count(), 2, "{log}");
    // A check that works again speaks for itself.
    site.write("no-such-check", "#!/bin/sh\nexit 1\n");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(site.file("no-such-check"), mode).unwrap();
    let row = site.wait_row("db", |row| row.last_end.is_some());
    assert_eq!(row.last_end.as_deref(), Some("hang: check failed: exit 1"));
}

#[test]
fn h34_a_port_that_nobody_listens_on_is_a_failure_and_a_slow_start_is_allowed_for() {
    let site = Options::new().never_bad().start();
    let (port, go) = (free_port().to_string(), path(&site, "go"));
    let target = format!("127.0.0.1:{port}");
    let quick = [
        "-g",
        "1",
        "-n",
        "quick",
        "--check-tcp",
        &target,
        "--check-every",
        "20ms",
    ];
    runs(&site, &quick, "crasher", &["park"]);
    let row = site.wait_row("quick", |row| row.last_end.is_some());
    assert!(
        row.last_end
            .unwrap()
            .starts_with("hang: check failed 3 times: Connection refused")
    );
    site.ok("akill -g 1");
    let slow = [
        "-g",
        "2",
        "-n",
        "slow",
        "--check-tcp",
        &target,
        "--check-every",
        "20ms",
    ];
    let slow = [&slow[..], &["--check-after", "1h", "--progress", "50ms"]].concat();
    runs(&site, &slow, "crasher", &["wait", &go, "park"]);
    std::thread::sleep(Duration::from_millis(400));
    assert!(site.runs("slow", 0).last_end.is_none());
}

#[test]
fn h34_the_configuration_has_actors_watched_by_name() {
    let site = Options::new()
        .config(
            r#"(hr_ctrl: (max_badness: 1000000000), actors: {
                "one": (progress: "100ms"),
                "two": (progress: "1h", check_after: "1ms",
                        check: (command: "true", every: "20ms", timeout: "5s", failures: 7)),
            })"#,
        )
        .start();
    let flags = ["-g", "1", "-n", "two", "--progress", "2h"];
    runs(&site, &flags, "crasher", &["park"]);
    let seen = site.wait_watch("two", "seen well", was_well);
    assert_eq!(
        (&seen["check"], &seen["failures"]),
        (&"true".into(), &7.into()),
        "{seen}"
    );
    assert_eq!(seen["progress_ms"], 7_200_000, "arun wins: {seen}");
    runs(&site, &["-g", "2", "-n", "one"], "crasher", &["park"]);
    site.said("one hangs (no progress for 100 ms)");
    site.ok("akill -g 2");
}

#[test]
fn h34_a_command_has_the_rights_of_the_actors_user() {
    if !rustix::process::geteuid().is_root() {
        return skipped("only root runs actors as other users");
    }
    let site = Options::new().never_bad().start();
    let check = [
        "-g",
        "1",
        "-n",
        "db",
        "--check",
        "test $(id -u) = 65534",
        "-u",
        "65534:65534",
    ];
    let more = ["--check-every", "30ms", "--check-failures", "1"];
    let sleep = installed("sleep").unwrap().display().to_string();
    let words = [&check[..], &more, &[&sleep, "9715"]].concat();
    let mut arun = site.program("arun");
    let done = run::to_end(arun.current_dir("/").args(words), None);
    let _ = done.expect_ok("arun");
    site.wait_watch("db", "seen well", was_well);
    assert!(site.runs("db", 0).last_end.is_none());
}

#[test]
fn h31_the_next_controller_watches_what_the_one_before_has_watched() {
    let site = Options::new().never_bad().start();
    let hang = path(&site, "hang");
    let words = [
        "on", "0", "promise", "300", "beat", &hang, "park", "end", "promise", "300", "beat", NEVER,
    ];
    runs(&site, &["-g", "1", "-n", "worker"], "groupie", &words);
    let flags = [
        "-g",
        "2",
        "-n",
        "db",
        "--check",
        "sh ./probe.sh",
        "--check-every",
        "20ms",
    ];
    let more = ["--check-timeout", "1h", "--progress", "1h"];
    site.write("calm", "");
    let probe = "test -e calm && exit 0\necho $$ >> asked\n\
                 while test ! -e calm; do sleep 0.05; done\n";
    site.write("probe.sh", probe);
    runs(&site, &[&flags[..], &more].concat(), "crasher", &["park"]);
    site.wait_watch("db", "seen well", was_well);
    fs::remove_file(site.file("calm")).unwrap();
    let checking: u32 = site.wait_lines("asked", 1)[0].parse().unwrap();
    let pids = ["worker", "db"].map(|name| site.runs(name, 0).pid());
    let controller = site.controller_pid();
    proc::kill(controller, Signal::KILL);
    wait::until_true("the next controller", || {
        site.command("chorusStat").code == Some(0) && site.controller_pid() != controller
    });
    wait::until_true("the check of the one before to end", || {
        !proc::is_alive(checking)
    });
    site.write("calm", "");
    let seen = site.wait_watch("db", "seen well again", was_well);
    assert_eq!(seen["progress_ms"], 3_600_000, "{seen}");
    let seen = site.wait_watch("worker", "its own promise is kept", was_well);
    assert_eq!(seen["progress_ms"], 300, "{seen}");
    assert_eq!(["worker", "db"].map(|name| site.runs(name, 0).pid()), pids);
    site.write("hang", "");
    let row = site.runs("worker", 1);
    assert_eq!(row.restarts, 1);
    let row = site.wait_row("worker", |row| row.last_end.is_some());
    assert_eq!(
        row.last_end.as_deref(),
        Some("hang: no progress for 300 ms")
    );
}
