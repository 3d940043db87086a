//! Running actors (SPEC H1 to H7): what `arun` starts, what a name means, what is new in each
//! life and what stays.
#![allow(clippy::unwrap_used)] // in the helpers of tests, too

use std::fs;

use refrain_tests::programs::c_program;
use refrain_tests::{Options, Site, proc, wait};
use rustix::process::Signal;

#[test]
fn h1_a_stock_program_runs_as_a_restartable_actor() {
    let site = Site::start();
    let aid = site.arun(["-g", "1", "/bin/sleep", "100000"]);
    let row = site.runs("sleep", 0);
    assert_eq!((row.gid, row.aid, row.restarts), (Some(1), Some(aid), 0));
    assert_eq!((row.kind.as_str(), row.mode.as_str()), ("direct", "user"));
    assert_eq!(
        (row.start.as_deref(), row.last_end),
        (Some("standby"), None)
    );
    assert_eq!(
        proc::text(row.pid.unwrap(), "cmdline"),
        "/bin/sleep\n100000\n"
    );

    proc::kill(row.pid.unwrap(), Signal::SEGV);
    let next = site.runs("sleep", 1);
    assert_eq!(
        (next.gid, next.restarts, next.kind.as_str()),
        (Some(1), 1, "direct")
    );
    assert!(
        next.last_end.as_deref().unwrap().contains("SIGSEGV"),
        "{next:?}"
    );
    assert_eq!(
        proc::text(next.pid.unwrap(), "cmdline"),
        "/bin/sleep\n100000\n"
    );
}

#[test]
fn h2_an_ordinary_actor_is_not_restarted_and_its_name_is_free_afterwards() {
    let site = Site::start();
    site.arun(["/bin/sleep", "100000"]);
    let row = site.runs("sleep", 0);
    assert_eq!((row.gid, row.kind.as_str()), (None, "ordinary"));
    proc::kill(row.pid(), Signal::SEGV);
    site.wait_forgotten("sleep");
    let aid = site.arun(["-g", "4", "/bin/sleep", "100000"]);
    let again = site.runs("sleep", 0);
    assert_eq!(
        (again.gid, again.aid, again.restarts),
        (Some(4), Some(aid), 0)
    );
}

#[test]
fn h2_an_ordinary_actor_may_not_use_the_hot_restart_api() {
    let site = Site::start();
    let words = [
        "spawn",
        "s",
        "/bin/sleep",
        "1",
        ";",
        "kill-group",
        "1",
        "clean",
        "say",
        "alive",
        "park",
    ];
    site.ordinary("plain", "groupie", &words);
    let refusal = site.wait_line("plain", |line| line.starts_with("error spawn"));
    assert!(refusal.contains("arun -g"), "{refusal}");
    site.wait_line("plain", |line| line.starts_with("error kill-group"));
    site.wait_line("plain", |line| line == "alive");
    assert!(site.row("s").is_none());
}

#[test]
fn h3_the_image_is_read_once_and_later_changes_of_the_file_change_nothing() {
    let site = Site::start();
    let out = site.file("out");
    let program = c_program("whereabouts", site.dir());
    let out = out.to_str().unwrap();
    site.arun(["-g", "1", program.to_str().unwrap(), out]);
    site.wait_lines("out", 1);
    // The same path now holds a program that would end at once.
    fs::remove_file(&program).unwrap();
    fs::copy("/bin/false", &program).unwrap();
    for life in 1..4 {
        proc::kill(site.runs("whereabouts", life - 1).pid(), Signal::KILL);
        let line = site.wait_lines("out", life as usize + 1).pop().unwrap();
        assert!(line.starts_with(&format!("life={life} ")), "{line}");
    }
}

#[test]
fn h4_a_registered_name_that_is_not_alive_starts_again_from_memory() {
    let site = Site::start();
    let program = site.file("copy");
    fs::copy(refrain_tests::binaries::path("groupie"), &program).unwrap();
    site.actor(1, "keeper", "crasher", &["park"]);
    let out = site.file("out");
    let (program_text, out) = (program.to_str().unwrap(), out.to_str().unwrap());
    let first = site.arun([
        "-g",
        "1",
        program_text,
        out,
        "say",
        "here",
        "clean",
        "return",
    ]);
    site.wait_row("copy", |row| row.state == "clean");
    fs::remove_file(&program).unwrap();
    let second = site.arun(["-g", "1", program_text, out, "say", "again", "park"]);
    assert_ne!(first, second);
    let row = site.runs("copy", 1);
    assert_eq!((row.gid, row.aid, row.restarts), (Some(1), Some(second), 0));
    site.wait_line("out", |line| line == "again");
}

#[test]
fn h4_a_name_of_another_group_or_a_living_one_is_refused() {
    let site = Site::start();
    site.arun(["-g", "1", "/bin/sleep", "100000"]);
    let elsewhere = site.refused("arun -g 2 /bin/sleep 100000");
    assert!(
        elsewhere.contains("sleep") && elsewhere.contains("group 1"),
        "{elsewhere}"
    );
    let alive = site.refused("arun -g 1 /bin/sleep 100000");
    assert!(alive.contains("alive"), "{alive}");
    let ordinary = site.refused("arun /bin/sleep 100000");
    assert!(ordinary.contains("sleep"), "{ordinary}");
    assert_eq!(site.aps().len(), 1);
    assert_eq!(site.runs("sleep", 0).gid, Some(1));
    site.ok("arun -g 2 -n other /bin/sleep 100000");
    assert_eq!(site.runs("other", 0).gid, Some(2));
}

#[test]
fn h5_a_name_stays_registered_past_the_actors_end_for_as_long_as_its_group_lives() {
    let site = Site::start();
    site.actor(1, "keeper", "crasher", &["park"]);
    site.actor(1, "gone", "groupie", &["clean", "return"]);
    let row = site.wait_row("gone", |row| row.state == "clean");
    assert_eq!((row.pid, row.gid), (None, Some(1)));
    let refusal = site.refused("arun -g 2 -n gone /bin/sleep 100000");
    assert!(refusal.contains("group 1"), "{refusal}");
    site.ok("akill -g 1");
    site.ok("arun -g 2 -n gone /bin/sleep 100000");
    assert_eq!(site.runs("gone", 0).gid, Some(2));
}

#[test]
fn h6_aid_capability_and_pid_are_new_in_each_life_and_a_stale_aid_is_refused() {
    let site = Site::start();
    let words = ["whoami", "group-of", "self", "park"];
    site.actor(7, "me", "groupie", &words);
    let first = site.runs("me", 0);
    site.wait_lines("me", 2);
    proc::kill(first.pid(), Signal::ABORT);
    let second = site.runs("me", 1);
    let lines = site.wait_lines("me", 4);
    for (row, said) in [(&first, &lines[0]), (&second, &lines[2])] {
        let capability = row.capability.as_deref().unwrap();
        assert_eq!(capability.len(), 32, "128 bits");
        let wanted = format!(
            "aid={} gid=7 life={} capability={capability}",
            row.aid(),
            row.life.unwrap()
        );
        assert_eq!(*said, wanted);
    }
    assert_ne!(first.aid, second.aid);
    assert_ne!(first.capability, second.capability);
    assert_ne!(first.pid, second.pid);
    assert_eq!((&first.name, first.gid), (&second.name, second.gid));

    let refusal = site.refused(&format!("akill {}", first.aid()));
    assert!(refusal.contains(&first.aid().to_string()), "{refusal}");
    assert_eq!(
        site.runs("me", 1).pid,
        second.pid,
        "the successor was not taken for it"
    );
}

#[test]
fn h6_an_aid_is_never_given_out_twice_in_a_site() {
    let site = Options::new().never_bad().start();
    let mut seen = vec![site.arun(["-g", "1", "/bin/sleep", "100000"])];
    for life in 1..6 {
        proc::kill(site.runs("sleep", life - 1).pid(), Signal::KILL);
        seen.push(site.runs("sleep", life).aid());
    }
    site.ok("akill -g 1");
    seen.push(site.arun(["-g", "1", "/bin/sleep", "100000"]));
    let mut unique = seen.clone();
    unique.sort_unstable();
    unique.dedup();
    assert_eq!(unique.len(), seen.len(), "{seen:?}");
}

#[test]
fn h7_in_place_the_image_is_the_file_itself() {
    let site = Site::start();
    let program = c_program("whereabouts", site.dir());
    let (path, out) = (program.to_str().unwrap(), site.file("out"));
    let out = out.to_str().unwrap();
    site.arun(["-g", "1", "-xip", path, out]);
    site.arun(["-g", "2", "-n", "copied", path, out]);
    let in_place = site.runs("whereabouts", 0).pid();
    assert!(
        proc::text(in_place, "maps").contains(path),
        "mapped from the file"
    );
    let copied = site.runs("copied", 0).pid();
    assert!(
        !proc::text(copied, "maps").contains(path),
        "mapped from the image"
    );
    proc::kill(in_place, Signal::SEGV);
    site.runs("whereabouts", 1);
    let lines = site.wait_lines("out", 3);
    assert!(
        lines.iter().any(|line| line.starts_with("life=1 ")),
        "{lines:?}"
    );
}

#[test]
fn c2_arun_prints_the_aid_and_nothing_with_q() {
    let site = Site::start();
    let out = site.ok("arun -g 1 /bin/sleep 100000");
    let aid = site.runs("sleep", 0).aid();
    assert_eq!(out, format!("Started aid = {aid}\n"));
    assert_eq!(site.ok("arun -q -g 2 -n quiet /bin/sleep 100000"), "");
    site.runs("quiet", 0);
}

#[test]
fn c2_arun_d_stops_a_life_before_main_until_sigcont() {
    let site = Site::start();
    let out = site.file("out");
    site.ok(&format!(
        "arun -g 1 -d -n held {} {} say ran park",
        refrain_tests::binaries::path("crasher").display(),
        out.display()
    ));
    let pid = site.wait_row("held", |row| row.pid.is_some()).pid();
    wait::until_true("the life to be stopped", || {
        proc::stat(pid).is_some_and(|stat| stat.state == 'T')
    });
    assert!(site.lines("out").is_empty());
    proc::kill(pid, Signal::CONT);
    site.wait_line("out", |line| line == "ran");
}
