//! Heaps in lives of a real site (SPEC H32): what each kind of end leaves, and that a heap's handler of faults
//! lives with the one of the restart path.
#![allow(clippy::unwrap_used)] // in the helpers of tests, too

use refrain_tests::{Options, Site, binaries, wait};
use serde_json::Value;

/// A site that runs `heaper` with these ends, once the last of its lives stays.
fn after(ends: &[&str]) -> Site {
    let site = Options::new().never_bad().start();
    let program = binaries::path("heaper").display().to_string();
    let mut words = vec!["-g", "1", &program, "lives"];
    words.extend(ends);
    site.arun(words);
    let _ = site.runs("heaper", ends.len() as u32 - 1);
    site
}

/// What `aps --json` says about it.
fn row(site: &Site) -> Value {
    let rows: Value = serde_json::from_str(&site.ok("aps --json")).unwrap();
    rows[0].clone()
}

/// The signal of its last failure and the address, once they are in words.
fn failure(site: &Site) -> (u64, Option<u64>) {
    wait::until_true("the failure to be in words", || {
        !row(site)["failure"].is_null()
    });
    let failure = row(site)["failure"].clone();
    (
        failure["signal"].as_u64().unwrap(),
        failure["address"].as_u64(),
    )
}

/// The heap's block, as the first life saw it.
fn block(site: &Site) -> u64 {
    let line = &site.wait_lines("lives", 1)[0];
    let text = line.split_once(" 0x").unwrap().1;
    u64::from_str_radix(text, 16).unwrap()
}

#[test]
fn h32_every_kind_of_end_in_a_transaction_leaves_what_was_committed() {
    let ends = [
        "stray",
        "elsewhere",
        "thread",
        "abort",
        "panic",
        "exit",
        "stay",
    ];
    let site = after(&ends);
    let lines = site.wait_lines("lives", ends.len());
    let at = block(&site);
    for (life, line) in lines.iter().enumerate() {
        let before: Vec<_> = (0..life).collect();
        assert_eq!(*line, format!("{before:?} {at:#x}"), "{lines:?}");
    }
}

#[test]
fn h8_a_stray_write_to_a_heap_is_a_fault_that_is_told_with_its_address() {
    const SIZE: u64 = 256 << 10;
    let site = after(&["stray", "stay"]);
    let stray = block(&site) + SIZE / 4;
    assert_eq!(failure(&site), (11, Some(stray)));
    assert_eq!(row(&site)["notice"], "fault", "the fast notice was lost");
}

#[test]
fn h8_a_fault_elsewhere_in_the_middle_of_a_transaction_ends_the_life_as_ever() {
    let site = after(&["elsewhere", "stay"]);
    assert_eq!(failure(&site).0, 11);
    assert_eq!(row(&site)["notice"], "fault", "the fast notice was lost");
    assert_eq!(
        site.wait_lines("lives", 2)[1].split(' ').next(),
        Some("[0]")
    );
}
