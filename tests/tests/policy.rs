//! Restart policy with real actors (SPEC H33): limits and what follows them, delays, exit codes.
//!
//! What is looked at is what the console, `aps` and `chorusStat` say; no test measures time.
#![allow(clippy::unwrap_used)] // in the helpers of tests, too

use refrain_tests::{Options, Site, binaries, leftovers, proc, wait};
use rustix::process::Signal;
use serde_json::Value;

/// Runs `crasher` as `name` in group `gid` with these options of a policy.
fn run_with(site: &Site, gid: u32, policy: &[&str], name: &str, words: &[&str]) {
    let gid = gid.to_string();
    let flags: Vec<&str> = [&["-g", &gid, "-n", name], policy].concat();
    site.run_actor(&flags, name, "crasher", words);
}

fn kill(site: &Site, name: &str, life: u32) {
    let pid = i32::try_from(site.runs(name, life).pid()).unwrap();
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, Signal::KILL).unwrap();
}

/// The row of a group in `chorusStat --json`.
fn group(site: &Site, gid: u32) -> Option<Value> {
    let groups = site.stat()["groups"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    groups.into_iter().find(|group| group["gid"] == gid)
}

fn wait_group(site: &Site, gid: u32, state: &str) -> Value {
    wait::until(&format!("group {gid} to be {state}"), || {
        group(site, gid).filter(|group| group["state"] == state)
    })
}

/// The delays of a group that the console has told of, in milliseconds, with their attempts.
fn delays(console: &str, gid: u32) -> Vec<(u64, u32)> {
    let told = console.lines().filter_map(|line| {
        let rest = line.split_once(&format!("HR_CTRL: group {gid} waits "))?.1;
        let (ms, rest) = rest.split_once(" ms before it is restarted (attempt ")?;
        Some((ms.parse().ok()?, rest.strip_suffix(')')?.parse().ok()?))
    });
    told.collect()
}

#[test]
fn h33_delays_grow_to_their_cap_and_a_healthy_run_begins_anew() {
    let site = Site::start();
    let console = site.connect();
    let policy = [
        "--backoff",
        "20ms,2,70ms",
        "--max-restarts",
        "100",
        "--healthy-after",
        "1h",
    ];
    run_with(
        &site,
        1,
        &policy,
        "looping",
        &["on", "0-4", "exit", "3", "end", "park"],
    );
    site.runs("looping", 5);
    console.wait_line("the fifth delay", |line| line.contains("(attempt 5)"));
    let grown = [(20, 1), (40, 2), (70, 3), (70, 4), (70, 5)];
    assert_eq!(delays(&console.out(), 1), grown);

    // From now on every run is a healthy one.
    let policy = [
        "--backoff",
        "20ms,2,70ms",
        "--max-restarts",
        "100",
        "--healthy-after",
        "1ms",
    ];
    run_with(&site, 1, &policy, "other", &["park"]);
    site.runs("other", 0);
    std::thread::sleep(std::time::Duration::from_millis(5));
    kill(&site, "looping", 5);
    site.runs("looping", 6);
    let healthy = [&grown[..], &[(20, 1)]].concat();
    wait::until_true("the next delay", || delays(&console.out(), 1) == healthy);
}

#[test]
fn h33_a_group_that_waits_says_so_and_is_run_or_killed_at_once() {
    let site = Site::start();
    let policy = ["--backoff", "1h,1,1h"];
    for (gid, name) in [(1, "a"), (2, "b")] {
        run_with(
            &site,
            gid,
            &policy,
            name,
            &["say", "born", "on", "0", "exit", "3", "end", "park"],
        );
        let waiting = wait_group(&site, gid, "delayed");
        assert_eq!(
            (&waiting["alive"], &waiting["attempts"]),
            (&0.into(), &1.into())
        );
        assert!(
            waiting["waits_ms"]
                .as_u64()
                .is_some_and(|ms| ms > 3_000_000),
            "{waiting}"
        );
        assert_eq!(site.row(name).unwrap().state, "failed");
    }
    assert!(site.ok("chorusStat").contains("attempt 1 in "));
    run_with(&site, 1, &[], "a", &["park"]);
    site.runs("a", 1);
    site.ok("akill -g 2");
    assert_eq!((group(&site, 2), site.row("b")), (None, None));
    assert_eq!(
        site.lines("a"),
        ["born"],
        "it was run with the words of the second arun"
    );
}

#[test]
fn h33_past_its_limit_a_group_is_stopped_and_started_again_by_hand() {
    let site = Site::start();
    let console = site.connect();
    let policy = [
        "--max-restarts",
        "2",
        "--interval",
        "1h",
        "--past-limit",
        "stop",
    ];
    run_with(
        &site,
        1,
        &policy,
        "looping",
        &["say", "born", "on", "0-2", "exit", "3", "end", "park"],
    );
    site.actor(2, "other", "crasher", &["park"]);
    let row = site.wait_row("looping", |row| row.state == "stopped");
    assert_eq!(
        (row.life, row.last_end.as_deref()),
        (Some(2), Some("exit 3")),
        "{row:?}"
    );
    let said = console.wait_line("why", |line| line.contains("group 1 stopped"));
    assert!(
        said.contains("looping failed, failure 3 within the interval"),
        "{said}"
    );
    assert!(
        said.contains("arun -g 1") && said.contains("akill -g 1"),
        "{said}"
    );
    assert_eq!(wait_group(&site, 1, "stopped")["gave_up"], "past its limit");
    assert_eq!(site.lines("looping"), ["born", "born", "born"]);
    assert_eq!(site.stat()["site_restarts"].as_u64(), Some(0));

    // The image is kept, the history is not.
    run_with(
        &site,
        1,
        &[],
        "looping",
        &["say", "again", "on", "3", "exit", "4", "end", "park"],
    );
    site.runs("looping", 4);
    assert_eq!(site.wait_lines("looping", 5)[3..], ["again", "again"]);
    assert_eq!(group(&site, 1).unwrap()["badness"], 1);
    assert_eq!(site.runs("other", 0).restarts, 0);
}

#[test]
fn h33_past_its_limit_a_group_may_be_tried_on_at_the_cap() {
    let site = Site::start();
    let console = site.connect();
    let policy = [
        "--max-restarts",
        "1",
        "--interval",
        "1h",
        "--past-limit",
        "retry",
        "--backoff",
        "0,1,30ms",
        "--healthy-after",
        "1h",
    ];
    run_with(
        &site,
        1,
        &policy,
        "looping",
        &["on", "0-3", "exit", "3", "end", "park"],
    );
    site.runs("looping", 4);
    console.wait_line("the last delay", |line| line.contains("(attempt 4)"));
    assert_eq!(delays(&console.out(), 1), [(30, 2), (30, 3), (30, 4)]);
    assert_eq!(site.stat()["site_restarts"].as_u64(), Some(0));
}

#[test]
fn h26_past_its_limit_the_site_is_restarted_where_nothing_else_is_said() {
    let site = Site::start();
    site.actor(2, "other", "crasher", &["park"]);
    site.runs("other", 0);
    let policy = ["--max-restarts", "1", "--interval", "1h"];
    run_with(
        &site,
        1,
        &policy,
        "looping",
        &["on", "0-1", "exit", "3", "end", "park"],
    );
    site.runs("looping", 2);
    site.runs("other", 1);
    assert_eq!(site.stat()["site_restarts"].as_u64(), Some(1));
}

#[test]
fn h33_a_permanent_exit_code_stops_the_group_and_others_run_on() {
    let site = Site::start();
    let console = site.connect();
    site.actor(2, "other", "crasher", &["park"]);
    let words = [
        "say", "born", "on", "0", "exit", "1", "end", "wait", "GO", "exit", "78",
    ];
    let go = site.file("go").display().to_string();
    let words = words.map(|word| if word == "GO" { go.as_str() } else { word });
    run_with(&site, 1, &["--permanent-exit", "2,78"], "b", &["park"]);
    site.runs("b", 0);
    run_with(&site, 1, &[], "a", &words);
    site.runs("a", 1);
    site.runs("b", 1);
    site.write("go", "");
    for name in ["a", "b"] {
        site.wait_row(name, |row| row.state == "stopped");
    }
    let said = console.wait_line("why", |line| line.contains("group 1 stopped"));
    assert!(
        said.contains("a ended with exit 78, a permanent failure"),
        "{said}"
    );
    assert_eq!(wait_group(&site, 1, "stopped")["gave_up"], "exit 78");
    assert_eq!(site.lines("a"), ["born", "born"]);
    assert_eq!(site.runs("other", 0).restarts, 0);
    // A fault and a kill have no exit code.
    run_with(
        &site,
        3,
        &["--permanent-exit", "2,9,11"],
        "c",
        &["on", "0", "signal", "11", "end", "park"],
    );
    site.runs("c", 1);
    kill(&site, "c", 1);
    site.runs("c", 2);
}

#[test]
fn h33_a_program_that_starts_by_exec_has_an_exit_code_too() {
    let site = Site::start();
    let shell = [
        "-g",
        "1",
        "-n",
        "sh",
        "--permanent-exit",
        "5",
        "sh",
        "-c",
        "exit 5",
    ];
    site.arun(shell);
    let row = site.wait_row("sh", |row| row.state == "stopped");
    assert_eq!(row.last_end.as_deref(), Some("exit 5"), "{row:?}");
    let fresh = [
        "-g", "2", "-n", "sh2", "--layout", "fresh", "--notice", "kernel",
    ];
    let end = ["--permanent-exit", "6", "sh", "-c", "exit 6"];
    site.arun([&fresh[..], &end[..]].concat());
    site.wait_row("sh2", |row| row.state == "stopped");
}

#[test]
fn h33_a_crash_loop_of_one_group_leaves_the_restarts_of_another_alone() {
    let site = Site::start();
    let policy = [
        "--backoff",
        "10ms,1,10ms",
        "--max-restarts",
        "100000",
        "--healthy-after",
        "1h",
    ];
    run_with(&site, 1, &policy, "looping", &["exit", "3"]);
    // Each of these is below the default limit: another group's failures do not count.
    site.actor(2, "other", "crasher", &["park"]);
    for life in 0..5 {
        kill(&site, "other", life);
    }
    site.runs("other", 5);
    let other = group(&site, 2).unwrap();
    assert_eq!(
        (&other["restarts"], &other["attempts"]),
        (&5.into(), &5.into()),
        "{other}"
    );
    wait::until_true("the loop to go on", || {
        site.row("looping").is_some_and(|row| row.restarts > 5)
    });
    assert_eq!(site.stat()["site_restarts"].as_u64(), Some(0));
    site.ok("akill -g 1");
}

#[test]
fn h33_the_configuration_names_policies_and_arun_goes_before_them() {
    let config = r#"(policy: (past_limit: "stop", interval: "1h"),
        groups: { 7: (max_restarts: 0), 8: (max_restarts: 1, permanent_exit: [4]) })"#;
    let site = Options::new().config(config).start();
    site.actor(7, "seven", "crasher", &["exit", "3"]);
    assert_eq!(
        site.wait_row("seven", |row| row.state == "stopped").life,
        Some(0)
    );
    site.actor(
        8,
        "eight",
        "crasher",
        &["on", "0", "exit", "3", "end", "exit", "4"],
    );
    site.wait_row("eight", |row| row.state == "stopped");
    assert_eq!(wait_group(&site, 8, "stopped")["gave_up"], "exit 4");
    site.ok("akill -g 8");
    // What arun leaves out comes from the configuration.
    run_with(
        &site,
        8,
        &["--permanent-exit", "5"],
        "eight",
        &["exit", "4"],
    );
    site.wait_row("eight", |row| row.state == "stopped");
    assert_eq!(wait_group(&site, 8, "stopped")["gave_up"], "past its limit");
}

#[test]
fn h33_a_policy_outlives_the_end_of_everything() {
    let mut site = Options::new().keeps_bank().start();
    let policy = ["--max-restarts", "0", "--past-limit", "stop"];
    run_with(&site, 1, &policy, "a", &["park"]);
    site.runs("a", 0);
    site.note_family();
    wait::until_true("every process to be gone", || {
        let left = leftovers::processes(site.name(), &[]);
        left.iter().copied().for_each(proc::kill_if_there);
        left.is_empty()
    });
    site.detach();
    kill(&site, "a", 1);
    site.wait_row("a", |row| row.state == "stopped");
    site.ok("restart");
    kill(&site, "a", 2);
    site.wait_row("a", |row| row.state == "stopped");
}

#[test]
fn h31_delays_and_stopped_groups_outlive_the_controller() {
    let site = Site::start();
    let once = ["--max-restarts", "0", "--past-limit", "stop"];
    run_with(&site, 1, &once, "stopped", &["exit", "3"]);
    run_with(
        &site,
        2,
        &["--backoff", "1h,1,1h"],
        "waiting",
        &["exit", "3"],
    );
    run_with(
        &site,
        3,
        &["--permanent-exit", "9"],
        "coded",
        &["wait", &site.file("go").display().to_string(), "exit", "9"],
    );
    site.wait_row("stopped", |row| row.state == "stopped");
    wait_group(&site, 2, "delayed");
    site.runs("coded", 0);
    let before = site.controller_pid();
    let pid = rustix::process::Pid::from_raw(i32::try_from(before).unwrap()).unwrap();
    rustix::process::kill_process(pid, Signal::KILL).unwrap();
    wait::until_true("the next controller", || {
        let said = site.command("chorusStat --json");
        said.code == Some(0) && site.controller_pid() != before
    });
    assert_eq!(site.row("stopped").unwrap().state, "stopped");
    assert_eq!(wait_group(&site, 2, "delayed")["attempts"], 1);
    site.write("go", "");
    site.wait_row("coded", |row| row.state == "stopped");
    assert_eq!(wait_group(&site, 3, "stopped")["gave_up"], "exit 9");
}

#[test]
fn h33_a_bad_policy_is_refused_with_one_line() {
    let site = Site::start();
    let program = binaries::path("crasher").display().to_string();
    for (options, why) in [
        ("-g 1 --backoff soon", "'soon' is no time"),
        ("-g 1 --backoff 1s,0.5", "'0.5' is no factor"),
        ("-g 1 --backoff 2s,2,1s", "shorter than its first"),
        ("-g 1 --interval 0s", "'0s' is no time"),
        ("-g 1 --healthy-after 10", "'10' is no time"),
        ("-g 1 --past-limit never", "never"),
        ("-g 1 --permanent-exit 256", "256"),
        ("-g 1 --max-restarts -1", "-1"),
        ("--max-restarts 3", "-g"),
    ] {
        let said = site.misused(&format!("arun {options} {program} - park"));
        assert!(said.contains(why), "{options}: {said}");
    }
    assert!(site.aps().is_empty());
}
