//! The fast restart path under attack (DESIGN invariants 1 and 2): lives that write to shared memory by
//! every means they have while they fault, and successors that look whether anybody still does.
#![allow(clippy::unwrap_used)] // in the helpers of tests, too

use refrain_tests::programs::{compile, free_port};
use refrain_tests::{Options, Site, proc, wait};

/// How many lives, when nothing else is said.
const LIVES: u64 = 10_000;
/// The words of the record before those that are written to: lives, strangers, not_free, skipped,
/// last, ways.
const HEAD: usize = 13;
/// The record: the head and 64 words, 4 bytes each.
const RECORD: usize = (HEAD + 64) * 4;

fn lives() -> u64 {
    let asked = std::env::var("REFRAIN_LIVES").ok();
    asked.and_then(|text| text.parse().ok()).unwrap_or(LIVES)
}

fn words(site: &Site) -> Vec<u32> {
    let bytes = std::fs::read(site.file("record")).unwrap();
    bytes
        .chunks_exact(4)
        .map(|word| u32::from_le_bytes(word.try_into().unwrap()))
        .collect()
}

/// Runs `lives` lives of the attacker, as many as `members` at once in one group.
fn attack(lives: u64, notice: &str) -> (Site, Vec<u32>) {
    let site = Options::new().never_bad().start();
    let program = compile("cc", "writers", site.dir(), "writers", &["-pthread", "-w"]);
    std::fs::write(site.file("record"), vec![0; RECORD]).unwrap();
    site.write("lock", "");
    site.arun([
        "-g",
        "1",
        "--notice",
        notice,
        program.to_str().unwrap(),
        site.file("record").to_str().unwrap(),
        site.file("lock").to_str().unwrap(),
        &free_port().to_string(),
        &lives.to_string(),
    ]);
    wait::until_reaches("the attack", lives + 1, || u64::from(words(&site)[0]));
    let words = words(&site);
    (site, words)
}

fn check(words: &[u32], lives: u64) {
    let [begun, strangers, not_free, skipped, last, ways @ ..] = &words[..HEAD] else {
        panic!("the record is shorter than {HEAD} words");
    };
    let told = format!("{words:?}");
    assert_eq!(
        (u64::from(*begun), u64::from(*last)),
        (lives + 1, lives + 1)
    );
    assert_eq!(*strangers, 0, "invariant 1: an old life wrote: {told}");
    assert_eq!(
        *not_free, 0,
        "invariant 2: a port or a lock was held: {told}"
    );
    assert_eq!(*skipped, 0, "a life was lost or doubled: {told}");
    assert!(ways.iter().all(|count| *count > 0), "{told}");
}

#[test]
fn invariants_1_and_2_hold_while_lives_that_write_fault_ten_thousand_times() {
    let lives = lives();
    let (site, words) = attack(lives, "fault");
    check(&words, lives);
    let row = site.runs("writers", u32::try_from(lives).unwrap());
    assert_eq!(u64::from(row.restarts), lives);
}

#[test]
fn invariants_1_and_2_hold_with_the_kernels_notice_alone() {
    let lives = lives() / 10;
    let (_site, words) = attack(lives, "kernel");
    check(&words, lives);
}

#[test]
fn a_life_alone_is_noticed_by_its_fault_handler_unless_that_is_left_out() {
    let site = Options::new().never_bad().start();
    let go = site.file("go").display().to_string();
    let words = ["on", "0", "wait", &go, "abort", "end", "park"];
    for (gid, notice) in [("1", "fault"), ("2", "kernel")] {
        let flags = ["-g", gid, "-n", notice, "--notice", notice];
        site.run_actor(&flags, notice, "crasher", &words);
    }
    for notice in ["fault", "kernel"] {
        let life = site.runs(notice, 0).pid();
        wait::until_true("its standby to sleep", || {
            let template = proc::stat(life).expect("the life waits").parent;
            let family = proc::family(template);
            let is_there = |role| family.iter().any(|stat| stat.role == Some(role));
            is_there('S') && is_there('K')
        });
    }
    site.write("go", "");
    for notice in ["fault", "kernel"] {
        let row = site.runs(notice, 1);
        assert_eq!(row.notice.as_deref(), Some(notice), "{row:?}");
        assert!(
            row.last_end
                .as_deref()
                .is_some_and(|end| end.contains("SIGABRT"))
        );
    }
}

#[test]
fn a_kill_between_the_claim_and_the_wake_up_loses_no_life() {
    // Nobody can hit those few instructions on purpose, so each life faults while somebody kills it.
    let site = Options::new().never_bad().start();
    let words = [
        "on",
        "0",
        "wait",
        &site.file("go").display().to_string(),
        "end",
        "abort",
    ];
    site.actor(1, "races", "crasher", &words);
    let first = proc::stat(site.runs("races", 0).pid()).expect("life 0 waits");
    site.write("go", "");
    let mut killed = 0;
    while killed < 300 {
        // Whatever is no template, standby or keeper is a life, on its way to its fault or its end.
        for child in proc::children(first.parent) {
            if child.role.is_none() && child.state != 'Z' {
                proc::kill_if_there(child.id);
                killed += 1;
            }
        }
    }
    let life = || u64::from(site.row("races").and_then(|row| row.life).unwrap_or(0));
    let now = life();
    wait::until_reaches("it to go on", now + 20, life);
    site.ok("akill -g 1");
    assert!(site.row("races").is_none());
}
