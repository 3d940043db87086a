//! Bad input: every item of the list, each answered by one line that says what and where,
//! with the exit code of DESIGN section 7, and the site goes on.
#![allow(clippy::unwrap_used)] // in the helpers of tests, too

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use refrain_tests::{Finished, Options, Site, proc, run};
use rustix::process::Signal;

/// After bad input: the site still does its work.
fn assert_works(site: &Site) {
    site.ok("arun -g 77 -n proof /bin/sleep 100000");
    site.runs("proof", 0);
    site.ok("akill -g 77");
}

#[test]
fn c4_an_unknown_command_is_named() {
    let site = Site::start();
    let line = site.command("bogus --really").expect_refusal(2, "bogus");
    assert!(
        line.starts_with("c_init: ") && line.contains("bogus"),
        "{line}"
    );
    assert_works(&site);
}

#[test]
fn c4_an_unknown_flag_is_named_in_every_command() {
    let site = Site::start();
    for command in [
        "arun",
        "akill",
        "aps",
        "shutdown",
        "memstat",
        "chorusStat",
        "umask",
        "restart",
    ] {
        let line = site.misused(&format!("{command} --no-such-flag"));
        assert!(
            line.contains(command) && line.contains("--no-such-flag"),
            "{line}"
        );
    }
    for applet in ["arun", "akill", "aps", "memstat", "chorusStat"] {
        let line = site
            .applet(applet, ["--no-such-flag"])
            .expect_refusal(2, applet);
        assert!(line.contains("--no-such-flag"), "{line}");
    }
    assert_works(&site);
}

#[test]
fn c4_missing_and_ill_typed_arguments_are_wrong_usage() {
    let site = Site::start();
    let lines = [
        "arun",
        "arun -g",
        "arun -g minus /bin/true",
        "arun -g 99999999999 /bin/true",
        "akill",
        "akill x",
        "akill -g",
        "shutdown",
        "shutdown -i",
        "shutdown -i 4",
        "umask 9",
        "sleep soon",
        "setenv ONE",
        "log",
    ];
    for line in lines {
        site.misused(line);
    }
    let line = site.misused("arun -g minus /bin/true");
    assert!(line.contains("a whole number is wanted"), "{line}");
    assert!(site.aps().is_empty());
    assert_works(&site);
}

#[test]
fn c4_an_unknown_actor_group_or_aid_is_refused() {
    let site = Site::start();
    assert!(site.refused("akill 4000000").contains("4000000"));
    assert!(site.refused("akill -g 4000").contains("4000"));
    assert!(site.refused("log nobody").contains("nobody"));
    assert_works(&site);
}

#[test]
fn h6_a_stale_aid_is_refused_as_ended() {
    let site = Site::start();
    let aid = site.actor(1, "me", "crasher", &["park"]);
    proc::kill(site.runs("me", 0).pid(), Signal::KILL);
    let row = site.runs("me", 1);
    assert!(
        site.refused(&format!("akill {aid}"))
            .contains(&aid.to_string())
    );
    assert_eq!(site.runs("me", 1).pid, row.pid);
}

/// Files that are no programs, each with a word that its refusal must hold.
fn no_programs(site: &Site) -> Vec<(PathBuf, &'static str)> {
    let executable = |name: &str, bytes: &[u8]| {
        let path = site.write(name, bytes);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    };
    let elf = fs::read("/bin/true").unwrap();
    let mut foreign = elf.clone();
    // e_machine: SPARC V9, which is not what this test runs on.
    foreign[18..20].copy_from_slice(&43_u16.to_le_bytes());
    let mut hollow = elf[..64].to_vec();
    hollow.resize(4096, 0);
    let plain = site.write("plain", &elf);
    fs::set_permissions(&plain, fs::Permissions::from_mode(0o644)).unwrap();
    vec![
        (site.file("missing"), "missing"),
        (plain, "plain"),
        (site.dir().to_owned(), "director"),
        (executable("truncated", &elf[..elf.len() / 2]), "truncated"),
        (executable("head", &elf[..40]), "head"),
        (executable("hollow", &hollow), "hollow"),
        (executable("foreign", &foreign), "foreign"),
        (executable("empty", b""), "empty"),
        (executable("text", b"just some words\n"), "text"),
        (
            executable("no_interpreter", b"#!/no/such/interpreter\n"),
            "no_interpreter",
        ),
        (
            executable(
                "endless_line",
                &[b"#!".to_vec(), vec![b'x'; 70_000]].concat(),
            ),
            "endless_line",
        ),
    ]
}

#[test]
fn c4_what_is_no_program_is_refused_with_its_path() {
    let site = Site::start();
    for (gid, (path, word)) in no_programs(&site).into_iter().enumerate() {
        let path = path.display().to_string();
        for flags in [
            format!("-g {gid} -n a{gid}"),
            format!("-n b{gid}"),
            format!("-g {gid} -xip -n c{gid}"),
        ] {
            let line = site.refused(&format!("arun {flags} {path}"));
            assert!(line.contains(word) && line.contains(&path), "{line}");
        }
    }
    assert!(
        site.aps().is_empty(),
        "nothing of them is registered: {:?}",
        site.aps()
    );
    assert!(site.stat()["groups"].as_array().unwrap().is_empty());
    assert_works(&site);
}

#[test]
fn c4_a_bad_actor_name_is_refused() {
    let site = Site::start();
    let long = "x".repeat(64);
    for name in ["a/b", "''", "..", "'a b'", long.as_str()] {
        let finished = site.command(&format!("arun -g 1 -n {name} /bin/sleep 1"));
        assert!(matches!(finished.code, Some(1 | 2)), "{name}: {finished:?}");
        assert_eq!(
            finished.err.trim_end().lines().count(),
            1,
            "{name}: {finished:?}"
        );
    }
    assert_works(&site);
}

/// The site's first lines of stderr when `sysadm.ini` is `bytes`; the site must come up.
fn boot_errors(bytes: &[u8]) -> (Site, Vec<String>) {
    let site = Options::new().ini_bytes(bytes).start();
    let Finished { err, .. } = site.boot_output().clone();
    assert_works(&site);
    let lines = err.lines().map(str::to_owned).collect();
    (site, lines)
}

#[test]
fn c4_errors_in_sysadm_ini_name_file_and_line_and_the_rest_is_done() {
    let ini = b"# a comment\nsetenv A 1\n\nbogus\narun -g 1 /no/such\nsetenv B 2\naps --bad\n";
    let (site, lines) = boot_errors(ini);
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert!(
        lines[0].starts_with("sysadm.ini:4: ") && lines[0].contains("bogus"),
        "{lines:?}"
    );
    assert!(
        lines[1].starts_with("sysadm.ini:5: ") && lines[1].contains("/no/such"),
        "{lines:?}"
    );
    assert!(lines[2].starts_with("sysadm.ini:7: "), "{lines:?}");
    let env = site.ok("env");
    assert!(env.contains("A=1") && env.contains("B=2"), "{env}");
}

#[test]
fn c4_a_sysadm_ini_with_nul_bytes_is_refused_line_by_line() {
    let (site, lines) = boot_errors(b"setenv A 1\nsetenv\0 B 2\nsetenv C 3\n");
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].starts_with("sysadm.ini:2: "), "{lines:?}");
    assert!(site.ok("env").contains("C=3"));
}

#[test]
fn c4_a_line_of_a_megabyte_is_refused() {
    let long = [
        b"setenv A 1\necho ".to_vec(),
        vec![b'x'; 1 << 20],
        b"\nsetenv C 3\n".to_vec(),
    ]
    .concat();
    let (site, lines) = boot_errors(&long);
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(
        lines[0].starts_with("sysadm.ini:2: ") && lines[0].len() < 500,
        "{}",
        lines[0].len()
    );
    assert!(site.ok("env").contains("C=3"));
}

#[test]
fn c4_unbalanced_quotes_are_refused() {
    let (site, lines) = boot_errors(b"setenv A 1\necho \"half\necho 'half\nsetenv C 3\n");
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[0].starts_with("sysadm.ini:2: ") && lines[1].starts_with("sysadm.ini:3: "));
    assert!(site.ok("env").contains("C=3"));
    let line = site.misused("echo 'half");
    assert!(line.contains("quot"), "{line}");
}

#[test]
fn c4_crlf_line_ends_and_a_missing_last_one_are_taken() {
    let (site, lines) = boot_errors(b"setenv A 1\r\n\r\n# comment\r\nsetenv C 3");
    assert!(lines.is_empty(), "{lines:?}");
    let env = site.ok("env");
    assert!(
        env.lines().any(|line| line == "A=1") && env.lines().any(|line| line == "C=3"),
        "{env:?}"
    );
}

#[test]
fn c4_a_byte_order_mark_in_front_of_a_file_is_passed_over() {
    let (site, lines) = boot_errors(b"\xef\xbb\xbfsetenv A 1\nsetenv C 3\n");
    assert!(lines.is_empty(), "{lines:?}");
    assert!(site.ok("env").lines().any(|line| line == "A=1"));
}

#[test]
fn c4_bytes_that_are_no_text_are_refused_line_by_line() {
    let (site, lines) = boot_errors(b"setenv A 1\nsetenv B \xff\xfe\nsetenv C 3\n");
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].starts_with("sysadm.ini:2: "), "{lines:?}");
    assert!(site.ok("env").contains("C=3"));
}

#[test]
fn c4_a_sourced_file_is_named_with_its_line_and_may_not_source_itself_for_ever() {
    let site = Site::start();
    site.write("more", "setenv A 1\nbogus\n");
    let line = site.refused("source more");
    assert!(line.starts_with("more:2: "), "{line}");
    site.write("self", "source self\n");
    let finished = site.command("source self");
    assert_eq!(finished.code, Some(1), "{finished:?}");
    assert!(site.refused("source nowhere").contains("nowhere"));
    assert!(site.refused("source .").starts_with("c_init: "));
    assert_works(&site);
}

#[test]
fn h27_arun_past_max_actors_is_refused_and_room_is_made_by_a_kill() {
    let site = Options::new().config("(hr_ctrl: (max_actors: 3))").start();
    for (gid, flag) in [(1, "-g 1"), (2, ""), (3, "-g 1")] {
        site.ok(&format!("arun {flag} -n s{gid} /bin/sleep 100000"));
    }
    let line = site.refused("arun -g 4 -n s4 /bin/sleep 100000");
    assert!(line.contains("max_actors"), "{line}");
    let line = site.refused("arun -n s5 /bin/sleep 100000");
    assert!(line.contains("max_actors"), "{line}");
    site.ok("akill -g 1");
    site.ok("arun -g 4 -n s4 /bin/sleep 100000");
}

#[test]
fn c2_a_second_site_of_the_same_name_is_refused_and_the_first_goes_on() {
    let site = Site::start();
    site.actor(1, "me", "crasher", &["park"]);
    let row = site.runs("me", 0);
    let second = run::to_end(site.starter().arg("--detach"), None);
    let line = second.expect_refusal(1, "a second site");
    assert!(
        line.starts_with("c_init: ") && line.contains(site.name()),
        "{line}"
    );
    assert_eq!(site.runs("me", 0), row);
}

#[test]
fn c2_a_bank_in_use_by_another_site_is_refused() {
    let site = Site::start();
    let other = Options::new().bank(&site.bank()).prepare();
    let finished = run::to_end(other.starter().arg("--detach"), None);
    let line = finished.expect_refusal(1, "a site on a bank in use");
    assert!(line.contains(&site.bank().display().to_string()), "{line}");
    assert_works(&site);
}

#[test]
fn c2_no_such_site_is_exit_code_3() {
    let site = Options::new().prepare();
    let line = site.command("aps").expect_refusal(3, "aps on no site");
    assert!(line.contains(site.name()), "{line}");
    for (applet, words) in [
        ("arun", &["/bin/true"][..]),
        ("akill", &["1"]),
        ("aps", &[]),
    ] {
        let line = site.applet(applet, words).expect_refusal(3, applet);
        assert!(line.contains(site.name()), "{line}");
    }
    let finished = run::to_end(site.program("c_init").arg("--connect"), Some(b"aps\n"));
    let _ = finished.expect_refusal(3, "--connect to no site");
}

#[test]
fn c2_a_bad_site_name_is_refused() {
    let site = Options::new().prepare();
    for name in ["a/b", "", "..", &"x".repeat(300)] {
        let mut command = site.program("c_init");
        let finished = run::to_end(command.args(["--site", name, "--detach"]), None);
        assert!(matches!(finished.code, Some(1 | 2)), "{name}: {finished:?}");
        assert_eq!(
            finished.err.trim_end().lines().count(),
            1,
            "{name}: {finished:?}"
        );
    }
}

#[test]
fn h27_a_bad_configuration_is_refused_with_line_and_column() {
    let cases = [
        ("(hr_ctrl: (max_actor: 3))", "max_actor"),
        ("(hr_ctrl: (max_actors: \"three\"))", "1:"),
        ("(pmm: (ram_bank_size: \"64 parsecs\"))", "parsecs"),
        ("(pmm: (ram_bank_size: 64MiB))", "1:"),
        ("(hr_ctrl: (interval: \"soon\"))", "soon"),
        ("(hr_ctrl: (", "1:"),
        ("(pmm: (max_blocks: -1))", "1:"),
    ];
    for (config, word) in cases {
        let site = Options::new().config(config).prepare();
        let finished = run::to_end(site.starter().arg("--detach"), None);
        assert!(
            matches!(finished.code, Some(1 | 2)),
            "{config}: {finished:?}"
        );
        let line = finished.err.trim_end();
        assert_eq!(line.lines().count(), 1, "{config}: {line}");
        assert!(
            line.contains("config.ron:1:") && line.contains(word),
            "{config}: {line}"
        );
    }
}

#[test]
fn c2_a_client_that_disconnects_half_way_disturbs_nothing() {
    let site = Site::start();
    site.actor(1, "me", "crasher", &["park"]);
    let row = site.runs("me", 0);
    for line in ["sleep 100000", "log me -f", "console", "sleep 100000"] {
        let mut command = site.program("c_init");
        command
            .env_remove("REFRAIN_SITE")
            .args(["--site", site.name(), "-c", line]);
        let mut child = run::spawn(command.stdout(std::process::Stdio::null()));
        // It may be anywhere between its start and its answer.
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(site.runs("me", 0), row);
    }
    assert_works(&site);
}

#[test]
fn a_template_that_passes_a_strangers_pidfd_for_its_standby_gets_nobody_killed() {
    let site = Site::start();
    let program = refrain_tests::programs::c_program("impostor", site.dir());
    let mut victim = run::spawn(std::process::Command::new("sleep").arg("100000"));
    for pid in [victim.id(), site.controller_pid(), site.nucleus_pid()] {
        let line = site.refused(&format!("arun -g 1 {} {pid}", program.display()));
        assert!(line.contains("its template ended"), "{line}");
        assert!(proc::is_alive(pid) && site.is_up());
        assert!(site.row("impostor").is_none());
    }
    assert_works(&site);
    assert!(victim.try_wait().unwrap().is_none());
    victim.kill().unwrap();
    victim.wait().unwrap();
}
