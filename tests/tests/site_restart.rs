//! Site restart (SPEC H25 to H27) from all its triggers, and the levels of `shutdown`.
#![allow(clippy::unwrap_used)] // in the helpers of tests, too

use std::fs;

use refrain_tests::{Options, Site, binaries, proc, wait};
use rustix::process::Signal;

/// A site with two direct actors (one of `sysadm.ini`), an indirect and an ordinary one, each
/// running life 0, and the group of the first with a block.
fn busy_site() -> Site {
    let crasher = binaries::path("crasher").display().to_string();
    let ini = format!(
        "setenv BOOTED yes\narun -g 1 -n from_ini {crasher} {{dir}}/from_ini say born park\n\
         arun -n plain {crasher} {{dir}}/plain say born park\necho ini was read\n"
    );
    let site = Options::new().ini(&ini).start();
    let child = site.file("child").display().to_string();
    let words = [
        "alloc", "kept", "4096", "group", "add", "kept", "on", "0", "spawn", "child", &crasher,
        &child, "park", ";", "end", "park",
    ];
    site.actor(2, "direct", "groupie", &words);
    for name in ["from_ini", "plain", "direct", "child"] {
        site.runs(name, 0);
    }
    site.wait_lines("direct", 3);
    site
}

/// What must be true after one site restart of [`busy_site`].
fn assert_restarted_once(site: &Site) {
    for name in ["from_ini", "direct"] {
        let row = site.runs(name, 1);
        assert_eq!((row.restarts, row.kind.as_str()), (1, "direct"), "{row:?}");
    }
    site.wait_row("child", |row| {
        row.state == "waiting" && row.kind == "indirect"
    });
    // The other lines of sysadm.ini were executed: the ordinary actor is a new one.
    let plain = site.runs("plain", 0);
    assert_eq!((plain.kind.as_str(), plain.restarts), ("ordinary", 0));
    assert_eq!(site.wait_lines("plain", 2), ["born", "born"]);
    assert_eq!(
        site.wait_lines("from_ini", 2),
        ["born", "born"],
        "it was not run a second time"
    );
    assert!(site.ok("env").lines().any(|line| line == "BOOTED=yes"));
    let lines = site.wait_lines("direct", 5);
    assert!(lines[3].contains("existed=true"), "{lines:?}");
    assert_eq!(lines[4], "kept = 2", "the block is as it was left");
    assert_eq!(site.aps().len(), 4);
    assert_eq!(site.stat()["site_restarts"].as_u64(), Some(1));
}

#[test]
fn h25_restart_gives_every_direct_actor_a_new_life_and_keeps_all_blocks() {
    let site = busy_site();
    let before: Vec<u32> = site.aps().iter().map(refrain_tests::Row::pid).collect();
    site.ok("setenv LOST yes");
    site.ok("restart");
    assert_restarted_once(&site);
    assert!(
        before.iter().all(|pid| !proc::is_alive(*pid)),
        "no old life is left"
    );
    assert!(
        !site.ok("env").contains("LOST"),
        "C_INIT is in its initial state"
    );
}

#[test]
fn h25_an_image_whose_file_is_gone_survives_a_site_restart() {
    let site = Site::start();
    let program = site.file("copy");
    fs::copy(binaries::path("crasher"), &program).unwrap();
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
    fs::remove_file(&program).unwrap();
    for life in 1..4 {
        site.ok("restart");
        site.runs("copy", life);
    }
    site.wait_lines("out", 4);
}

#[test]
fn h25_a_direct_actor_that_ended_clean_runs_again() {
    let site = Site::start();
    site.actor(1, "anchor", "crasher", &["park"]);
    site.actor(
        1,
        "me",
        "groupie",
        &["on", "0", "clean", "return", "end", "park"],
    );
    site.wait_row("me", |row| row.state == "clean");
    site.ok("restart");
    site.runs("me", 1);
}

#[test]
fn h25_restarts_in_quick_succession_lose_and_double_nobody() {
    let site = Site::start();
    for name in ["a", "b"] {
        site.actor(1, name, "crasher", &["report", "park"]);
    }
    let mut askers: Vec<_> = (0..6)
        .map(|_| {
            let mut command = site.program("c_init");
            command
                .env_remove("REFRAIN_SITE")
                .args(["--site", site.name(), "-c", "restart"]);
            let quiet = std::process::Stdio::null;
            refrain_tests::run::spawn(command.stdin(quiet()).stderr(quiet()))
        })
        .collect();
    // One that comes while another is being carried out is told so.
    let codes: Vec<Option<i32>> = askers
        .iter_mut()
        .map(|asker| refrain_tests::run::wait_for(asker, "restart").code())
        .collect();
    assert!(codes.contains(&Some(0)), "{codes:?}");
    assert!(
        codes.iter().all(|code| matches!(code, Some(0 | 1))),
        "{codes:?}"
    );
    let (a, b) = (
        site.wait_row("a", |r| r.state == "running"),
        site.wait_row("b", |r| r.state == "running"),
    );
    assert_eq!(a.life, b.life);
    let life = a.life.unwrap() as usize;
    assert!((1..=6).contains(&life), "{a:?}");
    for name in ["a", "b"] {
        // A life that is restarted away at once may say nothing; none may speak twice.
        let spoke = |line: &str| -> u64 {
            serde_json::from_str::<serde_json::Value>(line).unwrap()["life"]
                .as_u64()
                .unwrap()
        };
        site.wait_line(name, |line| spoke(line) == life as u64);
        let lives: Vec<u64> = site.lines(name).iter().map(|line| spoke(line)).collect();
        assert!(lives.is_sorted_by(|a, b| a < b), "{name}: {lives:?}");
    }
}

#[test]
fn h26_shutdown_i_1_restarts_the_site() {
    let site = busy_site();
    site.ok("shutdown -i 1");
    assert_restarted_once(&site);
}

#[test]
fn h26_an_actor_restarts_the_site_with_sys_shutdown() {
    let site = busy_site();
    site.actor(
        3,
        "asker",
        "groupie",
        &["on", "0", "shutdown", "1", "end", "park"],
    );
    site.runs("asker", 1);
    for name in ["from_ini", "direct"] {
        assert_eq!(site.runs(name, 1).restarts, 1);
    }
    assert_eq!(site.stat()["site_restarts"].as_u64(), Some(1));
}

#[test]
fn h26_a_groups_badness_past_its_limit_restarts_the_site() {
    let config = "(hr_ctrl: (max_badness: 3, interval: \"1h\"))";
    let site = Options::new().config(config).start();
    site.actor(2, "healthy", "crasher", &["park"]);
    site.actor(1, "sick", "crasher", &["park"]);
    for life in 0..3 {
        proc::kill(site.runs("sick", life).pid(), Signal::ABORT);
        site.runs("sick", life + 1);
        assert_eq!(
            site.runs("healthy", 0).restarts,
            0,
            "three restarts are put up with"
        );
    }
    assert_eq!(site.stat()["site_restarts"].as_u64(), Some(0));
    proc::kill(site.runs("sick", 3).pid(), Signal::ABORT);
    site.runs("healthy", 1);
    site.runs("sick", 4);
    let stat = site.stat();
    assert_eq!(stat["site_restarts"].as_u64(), Some(1));
    assert_eq!(stat["group_restarts"].as_u64(), Some(3), "{stat}");
    // The count starts again.
    proc::kill(site.runs("sick", 4).pid(), Signal::ABORT);
    site.runs("sick", 5);
    assert_eq!(site.runs("healthy", 1).restarts, 1);
}

#[test]
fn c2_shutdown_i_0_tells_the_actors_and_halts() {
    let mut site = Site::start();
    let program = refrain_tests::programs::c_program("ruffian", site.dir());
    let out = site.file("out").display().to_string();
    site.arun(["-g", "1", program.to_str().unwrap(), "polite", &out]);
    site.wait_lines("out", 1);
    site.halt(0);
    assert_eq!(site.lines("out"), ["life 0", "told"]);
    let gone = site.command("aps");
    assert_eq!(gone.code, Some(3), "{gone:?}");
}

#[test]
fn c2_shutdown_i_3_stops_at_once_and_tells_nobody() {
    let mut site = Site::start();
    let program = refrain_tests::programs::c_program("ruffian", site.dir());
    let out = site.file("out").display().to_string();
    site.arun(["-g", "1", program.to_str().unwrap(), "polite", &out]);
    site.wait_lines("out", 1);
    site.halt(3);
    assert_eq!(site.lines("out"), ["life 0"]);
}

fn cold_restart(command: &str) {
    let site = busy_site();
    let nucleus = site.nucleus_pid();
    site.ok(command);
    // sysadm.ini is carried out in full, as at the first start; what was run by hand is gone.
    site.wait_lines("from_ini", 2);
    wait::until_true("the actor of sysadm.ini in a first life", || {
        let finished = site.command("aps --json");
        finished.code == Some(0) && site.row("from_ini").is_some_and(|row| row.runs(0))
    });
    wait::until_true("the ordinary one, too", || {
        site.row("plain").is_some_and(|row| row.runs(0))
    });
    assert!(site.row("direct").is_none() && site.row("child").is_none());
    assert!(site.blocks().is_empty(), "persistent memory is discarded");
    assert_eq!(site.nucleus_pid(), nucleus, "the site goes on");
}

#[test]
fn c2_shutdown_i_2_starts_again_with_persistent_memory_discarded() {
    cold_restart("shutdown -i 2");
}

#[test]
fn c2_reboot_is_a_cold_restart() {
    cold_restart("reboot");
}

#[test]
fn h27_every_tunable_of_the_table_is_taken() {
    let config = "(pmm: (ram_bank_size: \"2MiB\", max_blocks: 7), hr_ctrl: (max_actors: 9, \
                  max_groups: 3, max_badness: 2, interval: \"10s\"))";
    let site = Options::new().config(config).start();
    let memory = site.memory();
    assert_eq!(memory["size"].as_u64(), Some(2 << 20));
    assert_eq!(memory["max_blocks"].as_u64(), Some(7));
    assert_eq!(site.stat()["max_actors"].as_u64(), Some(9));
    for gid in 1..=3 {
        site.ok(&format!("arun -g {gid} -n s{gid} /bin/sleep 100000"));
    }
    let refusal = site.refused("arun -g 4 -n s4 /bin/sleep 100000");
    assert!(refusal.contains("max_groups"), "{refusal}");
}
