//! Children that a life started end with it, before the next life begins (DESIGN section 8,
//! invariant 2), whatever they did to get away.
#![allow(clippy::unwrap_used)] // in the helpers of tests, too

use std::fs;

use refrain_tests::programs::{c_program, free_port, skipped};
use refrain_tests::{Options, Site, proc, wait};
use rustix::process::Signal;

/// How many processes `forkbomb` is given.
const BOMBERS: &str = "300";

/// A line of `daemoniser`: life, its pid, its child's, its daemon's, and whether it could bind.
fn daemoniser_line(line: &str) -> (u32, [u32; 3], String) {
    let mut words = line.splitn(5, ' ');
    let mut number = || words.next().unwrap().parse().unwrap();
    let (life, pids) = (number(), [number(), number(), number()]);
    (life, pids, words.next().unwrap().to_owned())
}

fn daemoniser(site: &Site) -> String {
    let program = c_program("daemoniser", site.dir()).display().to_string();
    let (port, out) = (
        free_port().to_string(),
        site.file("out").display().to_string(),
    );
    site.arun(["-g", "1", &program, &port, &out]);
    program
}

#[test]
fn invariant_2_daemonised_children_end_with_the_life_and_the_port_is_free_at_once() {
    let site = Options::new().never_bad().start();
    daemoniser(&site);
    let mut old: Vec<u32> = Vec::new();
    for life in 0..10 {
        let line = site.wait_lines("out", life as usize + 1).pop().unwrap();
        let (said, pids, bound) = daemoniser_line(&line);
        assert_eq!((said, bound.as_str()), (life, "bound"), "{line}");
        // This life has run already, so nothing of the earlier ones may be there.
        assert!(
            old.iter().all(|pid| !proc::is_alive(*pid)),
            "life {life}: {old:?}"
        );
        assert!(pids.iter().all(|pid| proc::is_alive(*pid)), "{line}");
        old.extend(pids);
        proc::kill(site.runs("daemoniser", life).pid(), Signal::SEGV);
    }
}

#[test]
fn invariant_2_a_kill_ends_daemonised_children_too() {
    let site = Site::start();
    daemoniser(&site);
    let (_, pids, _) = daemoniser_line(&site.wait_lines("out", 1)[0]);
    site.ok("akill -g 1");
    assert!(pids.iter().all(|pid| !proc::is_alive(*pid)), "{pids:?}");
}

#[test]
fn invariant_2_an_ordinary_actors_end_ends_its_daemons_too() {
    let site = Site::start();
    let daemon = "echo $$ > \"$0\"; exec sleep 100000";
    let script =
        format!("setsid -f sh -c '{daemon}' \"$0\"; while [ ! -s \"$0\" ]; do :; done; exit 1");
    let out = site.file("out").display().to_string();
    site.arun(["-n", "plain", "/bin/sh", "-c", &script, &out]);
    site.wait_forgotten("plain");
    let pid: u32 = site.lines("out")[0].parse().unwrap();
    assert!(!proc::is_alive(pid), "the daemon {pid} lives on");
}

/// Runs `forkstorm` in group 1 and returns when it blows; the answer is how many processes there
/// have been in it so far.
fn forkstorm(site: &Site) -> impl Fn() -> u64 {
    let program = c_program("forkstorm", site.dir()).display().to_string();
    let [lives, storm] = ["lives", "storm"].map(|name| site.file(name));
    site.arun([
        "-g",
        "1",
        &program,
        lives.to_str().unwrap(),
        storm.to_str().unwrap(),
    ]);
    let born = move || fs::metadata(&storm).map_or(0, |file| file.len());
    wait::until_reaches("the storm", 200, &born);
    born
}

#[test]
fn invariant_2_children_that_keep_changing_their_pids_are_caught_before_the_next_life() {
    let site = Site::start();
    let born = forkstorm(&site);
    proc::kill(site.runs("forkstorm", 0).pid(), Signal::KILL);
    site.wait_lines("lives", 2);
    let then = born();
    // Time for a link that was missed: what is asked now comes later than its millisecond.
    for _ in 0..5 {
        site.runs("forkstorm", 1);
    }
    assert_eq!(born(), then, "the storm blows on in the second life");
}

#[test]
fn invariant_2_children_that_keep_changing_their_pids_are_caught_by_a_kill() {
    let site = Site::start();
    let born = forkstorm(&site);
    site.ok("akill -g 1");
    let then = born();
    for _ in 0..5 {
        assert!(site.aps().is_empty());
    }
    assert_eq!(born(), then, "the storm blows on");
}

#[test]
fn invariant_2_a_fork_bomb_ends_with_its_life_and_the_next_one_runs() {
    let site = Options::new().never_bad().start();
    let program = c_program("forkbomb", site.dir()).display().to_string();
    let [lives, born] = ["lives", "born"].map(|name| site.file(name).display().to_string());
    let words = ["-g", "1", "--pids", BOMBERS, &program, &lives, &born];
    let finished = site.applet("arun", words);
    if finished.err.contains("cannot be enforced here") {
        return skipped(finished.err.trim_end());
    }
    let _ = finished.expect_ok("arun");
    let born = || fs::metadata(site.file("born")).map_or(0, |file| file.len());
    let many = BOMBERS.parse::<u64>().unwrap();
    let mut before = 0;
    for life in 0..5 {
        // Some of the bomb before were born after it was asked about.
        wait::until_reaches("the bomb", before + many / 2, born);
        before = born();
        proc::kill(site.runs("forkbomb", life).pid(), Signal::KILL);
        site.wait_lines("lives", life as usize + 2);
    }
    // A life that the end of a bomb had killed, too, would have been one more.
    assert_eq!(site.lines("lives"), ["0", "1", "2", "3", "4", "5"]);
    site.ok("akill -g 1");
    let then = born();
    for _ in 0..5 {
        assert!(site.aps().is_empty());
    }
    assert_eq!(born(), then, "the bomb goes on");
}

#[test]
fn c2_memory_and_files_of_children_do_not_outlive_the_site() {
    let mut site = Site::start();
    daemoniser(&site);
    let (_, pids, _) = daemoniser_line(&site.wait_lines("out", 1)[0]);
    site.halt(0);
    assert!(pids.iter().all(|pid| !proc::is_alive(*pid)));
    assert!(fs::read_dir(site.bank()).map_or(0, Iterator::count) == 0);
}
