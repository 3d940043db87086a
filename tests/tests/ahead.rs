//! What a life is sent before it asks (ADR 0015): never a block that was freed since.
#![allow(clippy::unwrap_used)] // in the helpers of tests, too

use refrain_tests::{Site, proc, wait};
use rustix::process::Signal;

/// The standbys of the template that a life comes from.
fn standbys(life: u32) -> Vec<u32> {
    let template = proc::stat(life).unwrap().parent;
    let family = proc::family(template);
    let pids = family.iter().map(|stat| stat.id.pid);
    let sleeps = |pid: &u32| {
        std::fs::read_to_string(format!("/proc/{pid}/comm"))
            .is_ok_and(|name| name.starts_with("S:"))
    };
    pids.filter(sleeps).collect()
}

#[test]
fn h15_every_life_finds_its_blocks_as_they_were_left_however_many() {
    let site = Site::start();
    // More blocks than are sent ahead.
    let mut words: Vec<String> = Vec::new();
    for block in 0..40 {
        let alloc = ["alloc", &format!("b{block}"), "4096", "key"].map(str::to_owned);
        words.extend(alloc);
        words.extend(["add".to_owned(), format!("b{block}")]);
    }
    words.push("park".to_owned());
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    site.actor(1, "me", "groupie", &words);
    for life in 0..4 {
        let lines = site.wait_lines("me", 80 * (life as usize + 1));
        for line in lines[80 * life as usize + 1..].iter().step_by(2) {
            assert!(line.ends_with(&format!("= {}", life + 1)), "{line}");
        }
        let row = site.runs_with_standby("me", life);
        proc::kill(row.pid(), Signal::KILL);
    }
}

#[test]
fn h17_a_block_that_was_freed_and_made_anew_is_never_the_old_one_in_the_next_life() {
    let site = Site::start();
    site.actor(
        1,
        "user",
        "groupie",
        &["alloc", "b", "4096", "key", "add", "b", "park"],
    );
    site.wait_lines("user", 2);
    site.runs_with_standby("user", 0);
    proc::kill(site.runs("user", 0).pid(), Signal::KILL);
    site.wait_lines("user", 4);
    site.runs_with_standby("user", 1);
    // Frees what the standby was sent, makes another of that name, and brings everybody to a restart.
    let words = [
        "on", "0", "free", "b", "alloc", "b", "4096", "key", "signal", "11", "end", "park",
    ];
    site.actor(1, "other", "groupie", &words);
    let lines = site.wait_lines("user", 6);
    assert_eq!(lines[3], "b = 2", "{lines:?}");
    assert!(lines[4].ends_with("existed=true"), "{lines:?}");
    assert_eq!(lines[5], "b = 1", "the new block was zero: {lines:?}");
}

#[test]
fn h17_h20_a_standby_that_was_sent_a_block_makes_room_for_another_when_it_is_freed() {
    let site = Site::start();
    site.actor(1, "user", "groupie", &["alloc", "b", "4096", "key", "park"]);
    site.wait_lines("user", 1);
    proc::kill(site.runs_with_standby("user", 0).pid(), Signal::KILL);
    site.wait_lines("user", 2);
    let row = site.runs_with_standby("user", 1);
    let before = standbys(row.pid());
    assert!(!before.is_empty());
    site.actor(1, "other", "groupie", &["free", "b", "park"]);
    site.wait_lines("other", 1);
    wait::until_true("the standby to be replaced", || {
        let now = standbys(row.pid());
        // Where forks take long there are two, of which the first was sent the block.
        now.len() >= before.len() && before.iter().any(|pid| !now.contains(pid))
    });
    let after = site.runs("user", 1);
    assert_eq!(after.pid(), row.pid(), "the life goes on");
}
