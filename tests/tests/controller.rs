//! The death of the controller: nucleus starts the next one, which adopts what runs (SPEC H31, invariant 6).
//! No life is disturbed, lost, doubled or restarted without cause; what had ended meanwhile is handled.
#![allow(clippy::unwrap_used)] // in the helpers of tests, too

use refrain_tests::{Options, Row, Site, binaries, proc, run, wait};
use rustix::process::Signal;

/// Ends hr_ctrl by `signal` and waits until another one serves.
fn end_controller(site: &Site, signal: Signal) {
    let old = site.controller_pid();
    // Rust's own handler lets the first SIGSEGV pass that is no fault.
    if let Some(stat) = proc::stat(old) {
        wait::until_true("hr_ctrl to end", || {
            proc::signal_if_there(stat.id, signal);
            !proc::is_alive(old)
        });
    }
    wait_for_another(site, old);
}

fn wait_for_another(site: &Site, old: u32) {
    wait::until_true("another hr_ctrl to serve", || {
        // Until it serves, clients are told that there is no site.
        let finished = site.command("chorusStat --json");
        let stat: Option<serde_json::Value> = serde_json::from_str(&finished.out).ok();
        let pid = stat.and_then(|stat| stat["hr_ctrl"].as_u64());
        finished.code == Some(0) && pid.is_some_and(|pid| pid != u64::from(old))
    });
}

/// Whether both rows are of one life.
fn same_life(before: &Row, after: &Row) -> bool {
    let of = |row: &Row| {
        (
            row.pid,
            row.aid,
            row.life,
            row.capability.clone(),
            row.state.clone(),
        )
    };
    of(before) == of(after)
}

#[test]
fn h31_running_actors_notice_nothing_of_the_death_of_their_controller() {
    let site = Options::new().start();
    let nucleus = site.nucleus_pid();
    let crasher = binaries::path("crasher").display().to_string();
    let child = site.file("child").display().to_string();
    let go = site.file("go").display().to_string();
    let words = [
        "alloc", "b", "4096", "group", "add", "b", "spawn", "child", &crasher, &child, "park", ";",
        "wait", &go, "alloc", "c", "4096", "group", "add", "c", "whoami", "park",
    ];
    site.actor(1, "me", "groupie", &words);
    site.actor(2, "other", "crasher", &["say", "born", "park"]);
    site.ordinary("plain", "crasher", &["park"]);
    site.runs("child", 0);
    site.runs_with_standby("other", 0);
    let before = site.aps();
    for signal in [Signal::KILL, Signal::SEGV, Signal::ABORT, Signal::KILL] {
        end_controller(&site, signal);
        let after = site.aps();
        assert_eq!(before.len(), after.len(), "{after:?}");
        for (before, after) in before.iter().zip(&after) {
            assert!(same_life(before, after), "{before:?} {after:?}");
            assert_eq!(before.restarts, after.restarts);
        }
        assert_eq!(site.nucleus_pid(), nucleus);
    }
    assert_eq!(site.stat()["hr_ctrl_restarts"].as_u64(), Some(4));
    // Its socket, its blocks and its output go on working.
    site.write("go", "");
    let line = site.wait_line("me", |line| line.starts_with("aid="));
    let me = site.runs("me", 0);
    assert!(line.contains(&format!("aid={}", me.aid())), "{line} {me:?}");
    assert!(site.lines("me").contains(&"c = 1".to_owned()));
    assert!(site.ok("log me").contains("c = 1"));
    // And the next life has what the last one had.
    proc::kill(me.pid(), Signal::ABORT);
    site.runs("me", 1);
    site.wait_line("me", |line| line == "b = 2");
}

#[test]
fn h31_a_life_that_ends_while_there_is_no_controller_is_classified_and_followed() {
    let site = Options::new().never_bad().start();
    let go = site.file("go").display().to_string();
    site.actor(1, "anchor", "crasher", &["park"]);
    let words = ["on", "0", "wait", &go, "clean", "return", "end", "park"];
    site.actor(1, "clean", "groupie", &words);
    site.actor(2, "failed", "crasher", &["park"]);
    site.actor(3, "killed", "crasher", &["park"]);
    site.ordinary("plain", "crasher", &["park"]);
    let anchor = site.runs_with_standby("anchor", 0);
    let [failed, killed, plain] =
        ["failed", "killed", "plain"].map(|name| site.runs(name, 0).pid());
    site.runs_with_standby("failed", 0);
    site.runs_with_standby("killed", 0);
    let old = site.controller_pid();
    proc::kill(old, Signal::STOP);
    let is_stopped = || proc::stat(old).is_some_and(|stat| stat.state == 'T');
    wait::until_true("hr_ctrl to stop", is_stopped);
    site.write("go", "");
    proc::kill(failed, Signal::ABORT);
    proc::kill(killed, Signal::KILL);
    proc::kill(plain, Signal::KILL);
    // The one that failed may be waiting for somebody to take notice.
    wait::until_true("two to end", || {
        ![killed, plain].into_iter().any(proc::is_alive)
    });
    proc::kill(old, Signal::KILL);
    wait_for_another(&site, old);
    let failed = site.wait_row("failed", |row| row.runs(1));
    assert_eq!(failed.last_end.as_deref(), Some("SIGABRT"), "{failed:?}");
    let killed = site.wait_row("killed", |row| row.runs(1));
    assert_eq!(killed.last_end.as_deref(), Some("SIGKILL"), "{killed:?}");
    site.wait_row("clean", |row| row.state == "clean" && row.life == Some(0));
    site.wait_forgotten("plain");
    let after = site.row("anchor").unwrap();
    assert!(same_life(&anchor, &after), "{anchor:?} {after:?}");
}

#[test]
fn h31_a_group_in_the_middle_of_its_restart_is_restarted_by_the_next_controller() {
    let site = Options::new().never_bad().start();
    for name in ["a", "b", "c"] {
        site.actor(1, name, "crasher", &["park"]);
    }
    for round in 0..10 {
        let lives = ["a", "b", "c"].map(|name| site.runs_with_standby(name, round));
        let old = site.controller_pid();
        proc::kill(lives[round as usize % 3].pid(), Signal::ABORT);
        // Sometimes before it has noticed, sometimes while it restarts them, sometimes after.
        std::thread::sleep(std::time::Duration::from_micros(u64::from(round) * 60));
        proc::kill(old, Signal::KILL);
        wait_for_another(&site, old);
        for (name, before) in ["a", "b", "c"].iter().zip(&lives) {
            let after = site.runs(name, round + 1);
            assert!(after.aid > before.aid && after.pid != before.pid);
        }
    }
}

#[test]
fn h6_the_aid_of_a_life_stays_and_those_of_before_stay_stale() {
    let site = Site::start();
    site.actor(1, "me", "crasher", &["park"]);
    let first = site.runs("me", 0);
    proc::kill(first.pid(), Signal::ABORT);
    let second = site.runs("me", 1);
    end_controller(&site, Signal::KILL);
    let refusal = site.refused(&format!("akill {}", first.aid()));
    assert!(refusal.contains(&first.aid().to_string()), "{refusal}");
    assert!(same_life(&second, &site.runs("me", 1)));
    site.ok(&format!("akill {}", second.aid()));
    site.wait_forgotten("me");
    let third = site.actor(1, "me", "crasher", &["park"]);
    assert!(third > second.aid());
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
    end_controller(&site, Signal::KILL);
    // Also when the template is gone with it: another is built from the image that nucleus has kept.
    let life = site.runs("copy", 0).pid();
    let template = proc::stat(life).unwrap().parent;
    proc::kill(template, Signal::KILL);
    proc::kill(life, Signal::ABORT);
    site.runs("copy", 1);
    site.wait_lines("out", 2);
    proc::kill(site.runs("copy", 1).pid(), Signal::ABORT);
    site.runs("copy", 2);
}

#[test]
fn h31_a_life_whose_template_had_ended_before_the_controller_is_adopted() {
    let site = Site::start();
    let go = site.file("go").display().to_string();
    let words = [
        "wait", &go, "alloc", "b", "4096", "group", "add", "b", "park",
    ];
    site.actor(1, "me", "groupie", &words);
    let before = site.runs_with_standby("me", 0);
    let template = proc::stat(before.pid()).unwrap().parent;
    proc::kill(template, Signal::KILL);
    wait::until_true("the template to end", || !proc::is_alive(template));
    // The next template is there, so what nucleus was told of the last one lies before.
    wait::until_true("another template", || {
        let stat = proc::all();
        stat.iter()
            .any(|stat| stat.role == Some('S') && stat.parent != template)
            && site.runs("me", 0).pid == before.pid
    });
    site.runs_with_standby("me", 0);
    end_controller(&site, Signal::KILL);
    assert!(same_life(&before, &site.runs("me", 0)));
    site.write("go", "");
    site.wait_line("me", |line| line == "b = 1");
}

#[test]
fn a_halt_after_the_death_of_a_controller_leaves_nothing_behind() {
    let mut site = Site::start();
    site.actor(1, "me", "crasher", &["park"]);
    site.ordinary("plain", "crasher", &["park"]);
    let before = site.runs("me", 0);
    end_controller(&site, Signal::KILL);
    assert!(same_life(&before, &site.runs("me", 0)));
    site.halt(0);
}

#[test]
fn a_controller_that_is_stopped_is_ended_and_started_again() {
    let config = "(hr_ctrl: (answer_timeout: \"1s\"))";
    let site = Options::new().config(config).start();
    site.actor(1, "me", "crasher", &["park"]);
    let before = site.runs("me", 0);
    let old = site.controller_pid();
    proc::kill(old, Signal::STOP);
    wait::until_true("nucleus to end it", || !proc::is_alive(old));
    wait_for_another(&site, old);
    assert!(same_life(&before, &site.runs("me", 0)));
}

#[test]
fn a_template_that_was_stopped_goes_on_with_the_next_controller() {
    let site = Site::start();
    site.actor(1, "me", "crasher", &["park"]);
    let before = site.runs("me", 0);
    let template = proc::stat(before.pid()).unwrap().parent;
    proc::kill(template, Signal::STOP);
    end_controller(&site, Signal::KILL);
    assert!(same_life(&before, &site.runs("me", 0)));
    proc::kill(before.pid(), Signal::KILL);
    site.runs("me", 1);
}

#[test]
fn what_no_controller_can_adopt_is_ended_and_brought_back_by_a_site_restart() {
    let mut site = Options::new().start();
    let words = ["alloc", "b", "4096", "group", "add", "b", "park"];
    site.actor(1, "me", "groupie", &words);
    site.wait_lines("me", 2);
    let life = site.runs("me", 0).pid();
    let old = site.controller_pid();
    // Somebody has written over what nucleus keeps.
    let fds = format!("/proc/{}/fd", site.nucleus_pid());
    let of_ledger = |fd: &std::path::PathBuf| {
        let link = std::fs::read_link(fd).unwrap_or_default();
        link.to_string_lossy().contains("refrain-ledger")
    };
    let mut fds = std::fs::read_dir(fds).unwrap().map(|fd| fd.unwrap().path());
    let ledger = fds.find(of_ledger).unwrap();
    let ledger = std::fs::File::options().write(true).open(ledger).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&ledger, &[0xff; 64], 0).unwrap();
    proc::kill(old, Signal::KILL);
    wait_for_another(&site, old);
    let me = site.wait_row("me", |row| row.runs(1));
    assert_ne!(me.pid, Some(life));
    assert!(!proc::is_alive(life));
    site.wait_line("me", |line| line == "b = 2");
    site.halt(0);
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
fn h31_a_site_whose_nucleus_and_controller_were_killed_is_started_again_with_its_bank() {
    let mut site = Options::new().never_bad().keeps_bank().start();
    let words = [
        "alone",
        &site.file("lock").display().to_string(),
        "alloc",
        "b",
        "4096",
        "group",
        "add",
        "b",
        "park",
    ];
    site.actor(1, "me", "groupie", &words);
    let life = site.runs_with_standby("me", 0).pid();
    site.note_family();
    let ends = [site.nucleus_pid(), site.controller_pid()];
    ends.iter().for_each(|pid| proc::kill(*pid, Signal::KILL));
    wait::until_true("the site to be down", || {
        !ends.into_iter().any(proc::is_alive)
    });
    assert!(
        proc::is_alive(life),
        "the life goes on until somebody can take its place"
    );
    site.detach();
    let me = site.wait_row("me", |row| row.runs(1));
    assert_ne!(me.pid, Some(life));
    assert!(!proc::is_alive(life));
    site.wait_line("me", |line| line == "b = 2");
    assert!(!site.lines("me").contains(&"not alone".to_owned()));
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
