//! Hostile sizes and peers (the list under "Security"): each is refused or bounded, with a line
//! where somebody is there to read it, and an actor beside it is restarted from its standby as ever.
#![allow(clippy::unwrap_used)] // in the helpers of tests, too

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use refrain_tests::{Options, Site, leftovers, proc, run, wait};
use rexpect::session::spawn_command;
use rustix::process::{Resource, Rlimit, Signal, getrlimit, setrlimit};

/// What opens a session.
const OPEN: &[u8] = b"{\"open\":{\"version\":1,\"cwd\":\"/\",\"console\":false}}\n";

/// The socket of the site, found by its name.
fn socket(site: &Site) -> PathBuf {
    let files = leftovers::files(site.name());
    let is_socket = |path: &PathBuf| path.to_string_lossy().ends_with(".sock");
    files.into_iter().find(is_socket).unwrap()
}

fn connect(site: &Site) -> UnixStream {
    let stream = UnixStream::connect(socket(site)).unwrap();
    stream.set_read_timeout(Some(wait::WATCHDOG)).unwrap();
    stream
}

/// The memory of hr_ctrl, in KiB.
fn memory(controller: u32) -> u64 {
    proc::status(controller, "VmRSS").unwrap()
}

/// An actor that says a line in each life.
fn resident(site: &Site) {
    site.actor(1, "resident", "crasher", &["say", "begun", "park"]);
    site.runs_with_standby("resident", 0);
}

/// The resident is restarted from its standby, by the controller that there was.
fn assert_restarts(site: &Site, controller: u32, life: u32) {
    proc::kill(site.runs_with_standby("resident", life).pid(), Signal::KILL);
    let row = site.runs("resident", life + 1);
    assert_eq!(row.start.as_deref(), Some("standby"));
    assert_eq!(site.controller_pid(), controller, "hr_ctrl is the same");
}

#[test]
fn frames_that_are_none_are_refused_and_the_life_goes_on() {
    let site = Site::start();
    resident(&site);
    let controller = site.controller_pid();
    site.actor(2, "bad", "hostile", &["frames", "say", "done", "park"]);
    site.wait_line("bad", |line| line == "done");
    let lines = site.lines("bad");
    let (last, refused) = lines[..lines.len() - 1].split_last().unwrap();
    assert_eq!(refused.len(), 6);
    for line in refused {
        let known = line.ends_with("not a request of this protocol")
            || line.ends_with("a frame that is too long, or with too many fds");
        assert!(known, "{line}");
    }
    assert!(last.starts_with("two fds: Welcome"), "{last}");
    site.runs("bad", 0);
    assert_restarts(&site, controller, 0);
}

#[test]
fn what_is_no_memory_is_not_read_for_hrfexec() {
    let site = Site::start();
    resident(&site);
    let controller = site.controller_pid();
    site.actor(2, "bad", "hostile", &["blobs", "say", "done", "park"]);
    site.wait_line("bad", |line| line == "done");
    let lines = site.lines("bad");
    for (what, why) in [
        ("pipe", "the blob is no memory"),
        ("directory", "the blob is no memory"),
        ("zero", "the blob is no memory"),
        ("file", "the blob is no memory"),
        ("sparse", "another number of strings"),
        ("all", "more than"),
        ("short", "shorter than its frame says"),
    ] {
        let told = |line: &String| line.starts_with(&format!("{what}: ")) && line.contains(why);
        assert!(lines.iter().any(told), "{what}: {lines:?}");
    }
    assert!(memory(controller) < 128 << 10);
    assert_restarts(&site, controller, 0);
}

#[test]
fn a_life_that_reads_no_answers_loses_them_and_holds_up_nobody() {
    let site = Site::start();
    resident(&site);
    let controller = site.controller_pid();
    let before = memory(controller);
    let words = ["requests", "20000", "say", "done", "park"];
    site.actor(2, "bad", "hostile", &words);
    assert_restarts(&site, controller, 0);
    site.wait_line("bad", |line| line == "done");
    let after = memory(controller);
    assert!(
        after < before + (32 << 10),
        "{before} KiB, then {after} KiB"
    );
    assert_restarts(&site, controller, 1);
}

#[test]
fn c1_a_terminal_is_not_steered_by_what_an_actor_prints() {
    let site = Site::start();
    let mut command = site.program("c_init");
    command
        .env_remove("REFRAIN_SITE")
        .args(["--site", site.name(), "--connect"]);
    let patience = u64::try_from(wait::WATCHDOG.as_millis()).unwrap();
    let mut console = spawn_command(command, Some(patience)).unwrap();
    // The answer proves that it is a console by now.
    console.send_line("echo con''nected").unwrap();
    console.exp_string("connected").unwrap();
    site.actor(1, "bad", "hostile", &["escapes", "park"]);
    console
        .exp_string("bad: before\\u{1b}[2J\\u{1b}]0;title\\u{7}after\ttab")
        .unwrap();
    console.send_line("log bad").unwrap();
    console
        .exp_string("before\\u{1b}[2J\\u{1b}]0;title\\u{7}after\ttab")
        .unwrap();
    let piped = site.ok("log bad");
    assert_eq!(piped, "before\x1b[2J\x1b]0;title\x07after\ttab\n");
    console.send_line("exit").unwrap();
    console.exp_eof().unwrap();
}

/// Control characters, and the one that turns the rest of the line around.
fn steers(c: char) -> bool {
    c.is_control() || c == '\u{202e}'
}

#[test]
fn a_name_that_would_steer_a_terminal_is_refused_on_one_plain_line() {
    let site = Site::start();
    for name in ["a\x1b[2Jb", "a\u{9b}1mb", "a\u{202e}b", "a\x07"] {
        let finished = site.applet("arun", ["-g", "1", "-n", name, "/bin/sleep", "9"]);
        let line = finished.expect_refusal(1, name);
        assert!(!line.chars().any(steers), "{line:?}");
        let finished = site.applet("arun", ["-g", "1", &format!("/no/such/{name}")]);
        assert!(matches!(finished.code, Some(1 | 2)), "{finished:?}");
        let line = finished.err.trim_end();
        assert!(!line.chars().any(steers), "{line:?}");
    }
    assert!(site.aps().is_empty());
}

#[test]
fn a_line_without_end_of_an_actor_costs_no_memory() {
    let site = Options::new()
        .config("(console: (log_size: \"64KiB\"))")
        .start();
    resident(&site);
    let controller = site.controller_pid();
    let before = memory(controller);
    let bytes = (64 << 20).to_string();
    site.actor(
        2,
        "bad",
        "hostile",
        &["endless", &bytes, "say", "done", "park"],
    );
    assert_restarts(&site, controller, 0);
    site.wait_line("bad", |line| line == "done");
    let after = memory(controller);
    assert!(
        after < before + (32 << 10),
        "{before} KiB, then {after} KiB"
    );
    let log = site.ok("log bad");
    let longest = log.lines().map(str::len).max().unwrap();
    assert!(
        log.len() <= 64 << 10 && longest < 32 << 10,
        "{} {longest}",
        log.len()
    );
    assert_restarts(&site, controller, 1);
}

#[test]
fn c4_a_line_of_half_a_gigabyte_in_a_file_is_passed_over() {
    let site = Site::start();
    resident(&site);
    let controller = site.controller_pid();
    // A hole: as long as it looks, and no larger than its end.
    let mut file = File::create(site.file("huge")).unwrap();
    file.set_len(512 << 20).unwrap();
    std::io::Seek::seek(&mut file, std::io::SeekFrom::End(0)).unwrap();
    file.write_all(b"\nsetenv AFTER it\n").unwrap();
    let mut sourcing = site.connect();
    sourcing.type_line("source huge");
    assert_restarts(&site, controller, 0);
    let line = sourcing.wait_line("the refusal", |line| line.starts_with("huge:1: "));
    assert!(line.contains("longer than 65536 bytes"), "{line}");
    sourcing.type_line("env");
    sourcing.wait_line("the variable", |line| line == "AFTER=it");
    assert!(memory(controller) < 128 << 10);
    assert_eq!(site.controller_pid(), controller, "hr_ctrl is the same");
}

/// Raises how many fds this test may have; answers how many those are.
fn raise_nofile() -> usize {
    let maximum = getrlimit(Resource::Nofile).maximum;
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    setrlimit(Resource::Nofile, raised).unwrap();
    usize::try_from(maximum.unwrap_or(1 << 20)).unwrap()
}

#[test]
fn ten_thousand_connections_leave_the_controller_its_fds() {
    let site = Site::start();
    resident(&site);
    let controller = site.controller_pid();
    let pid = site.runs("resident", 0).pid();
    let connections = 10_000.min(raise_nofile() - 200);
    let mut held = Vec::with_capacity(connections);
    for _ in 0..connections {
        let mut stream = connect(&site);
        // Where there is no room for it, the site has hung up by now or does so.
        let _ = stream.write_all(OPEN);
        held.push(stream);
    }
    let line = site.command("aps").expect_refusal(1, "a session too many");
    assert_eq!(
        line,
        "c_init: the site has 128 sessions already; end one of them"
    );
    assert!(proc::fd_count(controller) < 512);
    let mut refused = String::new();
    BufReader::new(held.last().unwrap())
        .read_line(&mut refused)
        .unwrap();
    assert!(refused.contains("refused"), "{refused:?}");
    proc::kill(pid, Signal::KILL);
    site.wait_lines("resident", 2);
    drop(held);
    wait::until_true("room for a session", || site.command("aps").code == Some(0));
    let row = site.runs("resident", 1);
    assert_eq!(row.start.as_deref(), Some("standby"));
    assert_restarts(&site, controller, 1);
}

#[test]
fn a_client_that_reads_nothing_loses_its_session_and_the_site_no_fd() {
    let site = Site::start();
    resident(&site);
    let controller = site.controller_pid();
    let fds = || proc::fd_count(controller);
    let at_rest = fds();
    let mut clients: Vec<_> = (0..2).map(|_| connect(&site)).collect();
    let long = format!("{{\"line\":\"echo {}\"}}\n", "x".repeat(60_000));
    for client in &mut clients {
        client.set_write_timeout(Some(wait::WATCHDOG)).unwrap();
        client.write_all(OPEN).unwrap();
        // Some 60 MB of answers, of which half may wait; the site hangs up before they are all asked for.
        let taken = (0..1000).take_while(|_| client.write_all(long.as_bytes()).is_ok());
        assert!(taken.count() < 1000, "the session was never given up");
    }
    wait::until_true("their fds to be closed", || fds() <= at_rest);
    assert!(memory(controller) < 192 << 10);
    assert_restarts(&site, controller, 0);
    drop(clients);
}

#[test]
fn a_connection_that_opens_no_session_is_given_up_with_a_line() {
    let site = Site::start();
    let mut idle = connect(&site);
    let mut half = connect(&site);
    half.write_all(&OPEN[..20]).unwrap();
    for stream in [&mut idle, &mut half] {
        let mut said = String::new();
        stream.read_to_string(&mut said).unwrap();
        assert!(said.contains("was not opened in time"), "{said:?}");
    }
    assert_eq!(run::to_end(&mut site.program("aps"), None).code, Some(0));
}
