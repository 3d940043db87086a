//! How commands reach a site: `-c`, a pipe, a file, a terminal, a second console (DESIGN section
//! 7), as transcripts.
#![allow(clippy::unwrap_used)] // in the helpers of tests, too

use refrain_tests::console::Console;
use refrain_tests::{Options, Site, binaries, proc, run, wait};
use rexpect::session::{PtySession, spawn_command};

#[test]
fn c1_commands_from_a_pipe_are_carried_out_to_its_end_and_the_site_halts() {
    let mut site = Options::new().prepare();
    let script = "echo one\narun -g 1 /bin/sleep 100000\naps --json\necho two\n";
    let finished = run::to_end(&mut site.starter(), Some(script.as_bytes()));
    assert_eq!(finished.code, Some(0), "{finished:?}");
    let lines: Vec<&str> = finished.out.lines().collect();
    let at = |wanted: &str| lines.iter().position(|line| line.contains(wanted));
    let order = [at("one"), at("Started aid = "), at("\"sleep\""), at("two")];
    assert!(
        order.iter().all(Option::is_some) && order.is_sorted(),
        "{finished:?}"
    );
    site.wait_down();
}

#[test]
fn c1_a_failed_command_in_a_pipe_does_not_end_it_and_is_told_by_the_exit_code() {
    let mut site = Options::new().prepare();
    let finished = run::to_end(&mut site.starter(), Some(b"bogus\necho after\n"));
    assert_eq!(finished.code, Some(1), "{finished:?}");
    assert!(
        finished.out.contains("after") && finished.err.contains("bogus"),
        "{finished:?}"
    );
    site.wait_down();
}

#[test]
fn c1_sysadm_ini_is_read_before_the_first_command() {
    let mut site = Options::new()
        .ini("echo from the file\nsetenv WHO file\n")
        .prepare();
    let mut command = site.starter();
    command.args(site.ini_argument());
    let finished = run::to_end(&mut command, Some(b"env\n"));
    assert_eq!(finished.code, Some(0), "{finished:?}");
    assert!(
        finished.out.contains("from the file") && finished.out.contains("WHO=file"),
        "{finished:?}"
    );
    site.wait_down();
}

fn once(site: &mut Site, file: &str) -> refrain_tests::Finished {
    let finished = run::to_end(site.starter().args(["--once", file]), None);
    site.wait_down();
    finished
}

#[test]
fn once_halts_when_the_file_is_done_and_no_group_is_left() {
    let mut site = Options::new().prepare();
    let groupie = binaries::path("groupie").display().to_string();
    let out = site.file("out").display().to_string();
    let words = "say line alloc b 4096 group add b on 0-2 abort end clean return";
    site.write(
        "todo",
        format!("echo begun\narun -g 1 {groupie} {out} {words}\n"),
    );
    let finished = once(&mut site, "todo");
    assert_eq!(finished.code, Some(0), "{finished:?}");
    assert!(
        finished.out.contains("begun") && finished.out.contains("Started aid = "),
        "{finished:?}"
    );
    assert!(
        finished
            .out
            .lines()
            .any(|line| line.contains("groupie") && line.contains("b = 4"))
    );
    assert_eq!(site.lines("out").last().map(String::as_str), Some("b = 4"));
}

#[test]
fn once_waits_for_ordinary_actors_too() {
    let mut site = Options::new().prepare();
    let crasher = binaries::path("crasher").display().to_string();
    let out = site.file("out").display().to_string();
    site.write(
        "todo",
        format!("arun {crasher} {out} say one threads 1 say two exit 0\n"),
    );
    let finished = once(&mut site, "todo");
    assert_eq!(finished.code, Some(0), "{finished:?}");
    assert_eq!(site.lines("out"), ["one", "two"]);
}

#[test]
fn once_of_a_file_with_an_error_ends_with_1() {
    let mut site = Options::new().prepare();
    site.write("todo", "bogus\necho after\n");
    let finished = once(&mut site, "todo");
    assert_eq!(finished.code, Some(1), "{finished:?}");
    assert!(
        finished.err.contains("todo:1: ") && finished.out.contains("after"),
        "{finished:?}"
    );
    let finished = once(&mut site, "no_such_file");
    assert_eq!(finished.code, Some(1), "{finished:?}");
    assert!(finished.err.contains("no_such_file"), "{finished:?}");
}

#[test]
fn detach_returns_when_the_site_serves_and_lets_go_of_its_callers_pipes() {
    let mut site = Options::new().ini("echo booted\n").prepare();
    let mut command = site.starter();
    // Console waits for the end of the pipes, which a site that kept them would hold open.
    let console = Console::start(command.arg("--detach").args(site.ini_argument()));
    let finished = console.close();
    assert_eq!(finished.code, Some(0), "{finished:?}");
    assert!(finished.out.contains("booted"), "{finished:?}");
    site.started();
    site.ok("echo served");
}

#[test]
fn c_answers_with_the_commands_output_and_exit_code() {
    let site = Site::start();
    assert_eq!(site.ok("echo hello"), "hello\n");
    assert_eq!(site.command("akill 99999").code, Some(1));
    assert_eq!(site.command("akill").code, Some(2));
}

#[test]
fn a_foreground_site_is_halted_by_sigterm_and_leaves_nothing() {
    let mut site = Options::new().prepare();
    let mut console = Console::start(&mut site.starter());
    console.type_line("arun -g 1 /bin/sleep 100000");
    console.wait_line("the start", |line| line.contains("Started aid = "));
    site.started();
    site.note_family();
    proc::kill(console.pid(), rustix::process::Signal::TERM);
    let _ = console.wait_end();
    site.wait_down();
}

#[test]
fn a_second_console_sees_what_actors_print_and_leaves_without_a_trace() {
    let site = Site::start();
    let (mut first, mut second) = (site.connect(), site.connect());
    first.type_line("setenv SHARED yes");
    site.actor(1, "singer", "crasher", &["say", "la la", "park"]);
    for console in [&first, &second] {
        console.wait_line("the song", |line| {
            line.contains("singer") && line.contains("la la")
        });
    }
    assert_eq!(first.close().code, Some(0));
    second.type_line("env");
    second.wait_line("the shared environment", |line| line.contains("SHARED=yes"));
    assert_eq!(second.close().code, Some(0));
    assert!(site.is_up());
}

/// A console on a terminal of its own.
fn terminal(site: &Site, args: &[&str]) -> PtySession {
    let mut command = site.program("c_init");
    command
        .env_remove("REFRAIN_SITE")
        .env("TERM", "xterm")
        .args(["--site", site.name()])
        .args(args);
    let limit = u64::try_from(wait::WATCHDOG.as_millis()).unwrap();
    spawn_command(command, Some(limit)).unwrap()
}

#[test]
fn the_interactive_console_runs_commands_and_leaves_at_end_of_input() {
    let site = Site::start();
    site.actor(1, "resident", "crasher", &["park"]);
    let mut console = terminal(&site, &["--connect"]);
    console.exp_string(&format!("{}>", site.name())).unwrap();
    console.send_line("echo from the terminal").unwrap();
    console.exp_string("\nfrom the terminal").unwrap();
    console.send_line("bogus").unwrap();
    console.exp_string("unknown command").unwrap();
    console.send_line("aps").unwrap();
    console.exp_string("resident").unwrap();
    console.exp_string(&format!("{}>", site.name())).unwrap();
    console.send_control('d').unwrap();
    console.exp_eof().unwrap();
    assert!(
        site.is_up(),
        "leaving a second console does not halt the site"
    );
}

#[test]
fn the_interactive_console_completes_commands_and_names_of_actors() {
    let site = Site::start();
    site.actor(1, "a_very_long_name", "crasher", &["say", "song", "park"]);
    let mut console = terminal(&site, &["--connect"]);
    console.exp_string(">").unwrap();
    console.send("chorus\t").unwrap();
    console.flush().unwrap();
    console.exp_string("chorusStat").unwrap();
    console.send_control('u').unwrap();
    console.send("log a_very\t").unwrap();
    console.flush().unwrap();
    console.exp_string("a_very_long_name").unwrap();
    console.send_line("").unwrap();
    console.exp_string("song").unwrap();
    console.send_control('d').unwrap();
    console.exp_eof().unwrap();
}

#[test]
fn what_an_actor_prints_comes_above_the_prompt_at_any_time() {
    let site = Site::start();
    let mut console = terminal(&site, &["--connect"]);
    console.exp_string(">").unwrap();
    site.actor(1, "singer", "crasher", &["say", "la la la", "park"]);
    console.exp_string("la la la").unwrap();
    console.send_line("echo still here").unwrap();
    console.exp_string("\nstill here").unwrap();
    console.send_control('d').unwrap();
    console.exp_eof().unwrap();
}

#[test]
fn what_is_half_typed_outlives_what_an_actor_prints() {
    let site = Site::start();
    let mut console = terminal(&site, &["--connect"]);
    console.exp_string(">").unwrap();
    console.send("echo half").unwrap();
    console.flush().unwrap();
    console.exp_string("half").unwrap();
    site.actor(1, "singer", "crasher", &["say", "la la la", "park"]);
    console.exp_string("la la la").unwrap();
    console.exp_string("> echo half").unwrap();
    console.send_line(" and whole").unwrap();
    console.exp_string("\nhalf and whole").unwrap();
    console.send_control('d').unwrap();
    console.exp_eof().unwrap();
}

#[test]
fn what_is_typed_ahead_of_a_running_command_is_carried_out_after_it() {
    let site = Site::start();
    let mut console = terminal(&site, &["--connect"]);
    console.exp_string(">").unwrap();
    console
        .send("sleep 0\necho o''ne\necho t''wo\naps --jj\x7fson\n")
        .unwrap();
    console.flush().unwrap();
    for wanted in ["one", "two", "[]"] {
        console.exp_string(wanted).unwrap();
    }
    console.send_control('d').unwrap();
    console.exp_eof().unwrap();
}

#[test]
fn ctrl_c_gives_up_the_command_that_runs_and_not_the_site() {
    let site = Site::start();
    site.actor(1, "singer", "crasher", &["say", "la la la", "park"]);
    wait::until_true("the song", || site.ok("log singer").contains("la la la"));
    let mut console = terminal(&site, &["--connect"]);
    console.exp_string(">").unwrap();
    console.send_line("log singer -f").unwrap();
    console.exp_string("la la la").unwrap();
    console.send_control('c').unwrap();
    console.send_line("echo free again").unwrap();
    console.exp_string("\nfree again").unwrap();
    console.send_control('d').unwrap();
    console.exp_eof().unwrap();
    assert!(site.is_up());
}

#[test]
fn the_console_of_a_sites_own_terminal_halts_it_at_end_of_input() {
    let mut site = Options::new()
        .ini("arun -g 1 /bin/sleep 100000\n")
        .prepare();
    let mut command = site.starter();
    command.env("TERM", "xterm").args(site.ini_argument());
    let limit = u64::try_from(wait::WATCHDOG.as_millis()).unwrap();
    let mut console = spawn_command(command, Some(limit)).unwrap();
    console.exp_string("Started aid = ").unwrap();
    console.exp_string(&format!("{}>", site.name())).unwrap();
    site.started();
    site.note_family();
    console.send_control('d').unwrap();
    console.exp_eof().unwrap();
    site.wait_down();
}
