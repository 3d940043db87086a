//! The samples run to their end as the README says (the first scenario).
#![allow(clippy::unwrap_used)] // in the helpers of tests, too

use std::path::Path;

use refrain_tests::programs::{installed, with_libhr_file};
use refrain_tests::{Finished, Options, Site, binaries, run, wait};

/// Runs `line` as the only one of a file with `c_init --once`.
fn once(line: &str) -> Finished {
    let mut site = Options::new().prepare();
    site.write("sysadm.ini", format!("{line}\n"));
    let finished = run::to_end(site.starter().args(["--once", "sysadm.ini"]), None);
    site.wait_down();
    finished
}

/// The command of a sample's own `sysadm.ini`, with the programs of this build.
fn command_of(sample: &str) -> String {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../samples");
    let ini = std::fs::read_to_string(format!("{folder}/{sample}/sysadm.ini")).unwrap();
    let line = ini.lines().find(|line| line.starts_with("arun")).unwrap();
    let place = |word: &str| match word.strip_prefix("target/debug/") {
        Some(program) => binaries::path(program).display().to_string(),
        None => word.to_owned(),
    };
    line.split(' ').map(place).collect::<Vec<_>>().join(" ")
}

/// The command of a sample in C, built in a directory that lives as long as the site.
fn command_in_c(site: &Site, programs: &[&str]) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../samples/c");
    let built = programs.iter().map(|program| {
        let built = with_libhr_file(&folder.join(format!("{program}.c")), site.dir());
        built.display().to_string()
    });
    format!("arun -g 1 {}", built.collect::<Vec<_>>().join(" "))
}

#[test]
fn hello_restart_faults_once_and_ends_clean_in_its_second_life() {
    hello_comes_out_right(&command_of("hello_restart"));
}

#[test]
fn hello_restart_in_c_says_the_same() {
    if installed("cc").is_some() {
        let place = Options::new().prepare();
        hello_comes_out_right(&command_in_c(&place, &["hello_restart"]));
    }
}

fn hello_comes_out_right(command: &str) {
    let finished = once(command);
    assert_eq!(finished.code, Some(0), "{finished:?}");
    let said = |text: &str| finished.out.matches(text).count();
    assert_eq!(said("the counter is 1;"), 1, "{finished:?}");
    assert_eq!(said("hello again: the counter is 2"), 1, "{finished:?}");
}

/// The numbers of the song's lines in the order in which they came out. The child prints where
/// its spawner does, so they have the spawner's name in front.
fn line_numbers(out: &str) -> Vec<usize> {
    let said = out.lines().filter_map(|line| line.split_once(": "));
    let numbers = said.filter_map(|(_, text)| text.trim_start().split_once("  "));
    numbers
        .filter_map(|(number, _)| number.parse().ok())
        .collect()
}

#[test]
fn restart_spawn_comes_out_right_however_often_the_parent_crashes() {
    the_song_comes_out_right(&command_of("restart_spawn"));
}

#[test]
fn restart_spawn_in_c_says_the_same() {
    if installed("cc").is_some() {
        let place = Options::new().prepare();
        the_song_comes_out_right(&command_in_c(&place, &["HR_parent", "HR_child"]));
    }
}

fn the_song_comes_out_right(command: &str) {
    for (crashes, interval) in [("4", "200"), ("12", "1")] {
        let line = format!("{command} {crashes} {interval}");
        let finished = once(&line);
        assert_eq!(finished.code, Some(0), "{finished:?}");
        let last = format!("restart_spawn: {crashes} crashes, 8 lines, transcript right");
        assert!(finished.out.contains(&last), "{finished:?}");
        let mut numbers = line_numbers(&finished.out);
        assert!(numbers.is_sorted(), "{finished:?}");
        numbers.dedup();
        assert_eq!(numbers, [1, 2, 3, 4, 5, 6, 7, 8], "{finished:?}");
    }
}

#[test]
fn restart_spawn_comes_out_right_across_site_restarts() {
    let site = Site::start();
    let console = site.connect();
    site.ok(&format!("{} 4 100", command_of("restart_spawn")));
    let lives = || {
        console
            .out()
            .matches("of the parent runs the child")
            .count()
    };
    for _ in 0..4 {
        let before = lives();
        site.ok("restart");
        // However slow the machine is: the song may have come to its end meanwhile.
        wait::until_true("the parent to live again, or to be done", || {
            lives() > before || site.aps().is_empty()
        });
    }
    console.wait_line("the verdict", |line| {
        line.contains("restart_spawn: 4 crashes, 8 lines, transcript right")
    });
    site.wait_forgotten("HR_parent");
    assert!(site.blocks().is_empty(), "the group has terminated");
    assert_eq!(site.stat()["site_restarts"].as_u64(), Some(4));
    assert_eq!(console.close().code, Some(0));
}
