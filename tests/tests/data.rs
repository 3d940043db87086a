//! Structures in persistent memory, kept by real actors through real crashes (SPEC H32).
#![allow(clippy::unwrap_used)] // in the helpers of tests, too

use refrain_tests::Options;

#[test]
fn h32_cell_map_and_log_go_on_after_every_crash() {
    let mut site = Options::new().never_bad().start();
    let words = [
        "open", "group", "count", "on", "0-19", "abort", "end", "park",
    ];
    site.actor(1, "counts", "tally", &words);
    let lines = site.wait_lines("counts", 42);
    // 20 crashes; the map has grown on the way, from 15 keys.
    let sum: u64 = (1..=21).map(|life| life * life).sum();
    let last = format!("life 21, 21 squares, sum {sum}, recent [19, 20, 21]");
    assert_eq!(lines[41], last, "{lines:#?}");
    let mut blocks = site.blocks();
    blocks.sort();
    let named = [
        "lives",
        "recent",
        "recent.1",
        "squares",
        "squares.1",
        "squares.3",
    ];
    assert_eq!(blocks, named);
    site.halt(0);
}

#[test]
fn h32_there_is_one_writer_whose_crash_lets_the_next_one_in_and_others_read() {
    let mut site = Options::new().never_bad().start();
    let gone = site.file("gone");
    let wait = gone.to_str().unwrap();
    let words = [
        "open", "group", "count", "on", "0", "wait", wait, "abort", "end", "park",
    ];
    let aid = site.actor(1, "writer", "tally", &words);
    site.wait_lines("writer", 2);
    site.actor(
        1,
        "second",
        "tally",
        &["open", "group", "read", "group", "park"],
    );
    let lines = site.wait_lines("second", 2);
    let refusal = format!(
        "error open: the structure is being written by the life with aid {aid}; it has one writer at a time"
    );
    assert_eq!(
        (lines[0].as_str(), lines[1].as_str()),
        (refusal.as_str(), "sees 1, recent [1]")
    );
    // The group restarts: whoever comes first becomes the writer, the other one is refused.
    std::fs::write(&gone, "").unwrap();
    site.runs("writer", 1);
    site.runs("second", 1);
    let lines = [site.wait_lines("writer", 4), site.wait_lines("second", 4)];
    let open = [&lines[0][2], &lines[1][2]].map(|line| line == "open");
    assert!(open[0] != open[1], "{lines:#?}");
    site.halt(0);
}

#[test]
fn h32_an_older_version_is_brought_up_to_date_and_the_program_of_before_is_told() {
    let mut site = Options::new().never_bad().start();
    let words = [
        "open", "group", "count", "on", "0", "abort", "end", "migrate", "open", "group", "park",
    ];
    site.actor(1, "moves", "tally", &words);
    let lines = site.wait_lines("moves", 6);
    assert_eq!(lines[4], "now [2, 1002]");
    let told = "error open: the block holds Cell<[u64; 2]> version 1 (16 bytes), it was opened as \
                Cell<u64> version 0 (8 bytes); open it as what it is, or free it";
    assert_eq!(lines[5], told);
    site.halt(0);
}
