//! Persistent memory (SPEC H15 to H20): blocks, keys, groups, limits.
#![allow(clippy::unwrap_used)] // in the helpers of tests, too

use refrain_tests::{Options, Site, proc};
use rustix::process::Signal;

/// The address in a line that `alloc` said.
fn address(line: &str) -> &str {
    let rest = line
        .split_once("addr=")
        .unwrap_or_else(|| panic!("no block: {line}"))
        .1;
    rest.split(' ').next().unwrap()
}

#[test]
fn h15_a_new_block_is_zeroed_and_rounded_up_to_pages() {
    let site = Site::start();
    let words = [
        "alloc", "b", "5000", "key", "sum", "b", "fill", "b", "sum", "b", "park",
    ];
    site.actor(1, "me", "groupie", &words);
    let lines = site.wait_lines("me", 4);
    assert!(
        lines[0].ends_with("size=8192 existed=false"),
        "{}",
        lines[0]
    );
    assert_eq!(lines[1], "sum b = 0");
    assert_eq!(
        lines[3], "sum b = 1024",
        "every word of both pages can be written"
    );
}

#[test]
fn h15_an_existing_block_is_returned_as_it_was_left() {
    let site = Site::start();
    let words = [
        "alloc", "b", "4096", "group", "add", "b", "on", "0-2", "signal", "11", "end", "park",
    ];
    site.actor(1, "me", "groupie", &words);
    site.runs("me", 3);
    let lines = site.wait_lines("me", 8);
    for life in 0..4 {
        let existed = life > 0;
        assert!(
            lines[2 * life].ends_with(&format!("existed={existed}")),
            "{lines:?}"
        );
        assert_eq!(address(&lines[2 * life]), address(&lines[0]));
        assert_eq!(lines[2 * life + 1], format!("b = {}", life + 1));
    }
}

#[test]
fn h15_a_block_of_another_size_is_refused() {
    let site = Site::start();
    let words = [
        "alloc", "b", "4096", "key", "alloc", "b", "8192", "key", "alloc", "b", "4095", "key",
        "add", "b", "park",
    ];
    site.actor(1, "me", "groupie", &words);
    let lines = site.wait_lines("me", 4);
    let second = site.actor(1, "you", "groupie", &["alloc", "b", "12288", "key", "park"]);
    assert!(
        lines[1].starts_with("error alloc") && lines[1].contains('b'),
        "{}",
        lines[1]
    );
    assert!(
        lines[2].contains("existed=true"),
        "the same number of pages: {}",
        lines[2]
    );
    assert_eq!(lines[3], "b = 1", "the refusal did no harm");
    let refusal = site.wait_lines("you", 1).remove(0);
    assert!(
        refusal.starts_with("error alloc"),
        "{refusal} (aid {second})"
    );
    assert_eq!(site.runs("me", 0).restarts, 0);
}

#[test]
fn h16_an_ordinary_actor_may_use_persistent_memory() {
    let site = Site::start();
    site.ordinary(
        "first",
        "groupie",
        &["alloc", "b", "4096", "key", "add", "b", "return"],
    );
    site.wait_line("first", |line| line == "b = 1");
    site.wait_forgotten("first");
    site.ordinary(
        "second",
        "groupie",
        &["alloc", "b", "4096", "key", "add", "b", "return"],
    );
    site.wait_line("second", |line| line == "b = 2");
}

#[test]
fn h16_members_of_a_group_share_a_block_at_one_address() {
    let site = Site::start();
    for name in ["a", "b", "c"] {
        site.actor(
            1,
            name,
            "groupie",
            &["alloc", "shared", "4096", "group", "add", "shared", "park"],
        );
    }
    let all: Vec<Vec<String>> = ["a", "b", "c"]
        .iter()
        .map(|name| site.wait_lines(name, 2))
        .collect();
    assert!(
        all.iter()
            .all(|lines| address(&lines[0]) == address(&all[0][0])),
        "{all:?}"
    );
    let mut counts: Vec<&str> = all.iter().map(|lines| lines[1].as_str()).collect();
    counts.sort_unstable();
    assert_eq!(counts, ["shared = 1", "shared = 2", "shared = 3"]);
}

#[test]
fn h17_a_block_is_freed_by_name_by_any_member() {
    let site = Site::start();
    site.actor(
        1,
        "maker",
        "groupie",
        &["alloc", "b", "4096", "group", "add", "b", "park"],
    );
    site.wait_lines("maker", 2);
    assert_eq!(site.blocks(), ["b"]);
    let words = [
        "free", "b", "free", "b", "alloc", "b", "8192", "group", "sum", "b", "park",
    ];
    site.actor(1, "freer", "groupie", &words);
    let lines = site.wait_lines("freer", 4);
    assert_eq!(lines[0], "freed b");
    assert!(lines[1].starts_with("error free"), "{}", lines[1]);
    assert!(lines[2].contains("size=8192 existed=false"), "{}", lines[2]);
    assert_eq!(lines[3], "sum b = 0");
}

#[test]
fn h17_one_key_frees_many_blocks_and_no_other() {
    let site = Site::start();
    let words = [
        "alloc", "a", "4096", "red", "alloc", "b", "4096", "red", "alloc", "c", "4096", "blue",
        "alloc", "d", "4096", "group", "free-all", "red", "free-all", "group", "free-all", "green",
        "park",
    ];
    site.actor(1, "me", "groupie", &words);
    let lines = site.wait_lines("me", 7);
    assert_eq!(lines[4], "freed 2 of red");
    assert!(
        lines[5].starts_with("error free-all"),
        "HR_GROUP_KEY is refused: {}",
        lines[5]
    );
    assert!(
        lines[6].starts_with("freed 0") || lines[6].starts_with("error free-all"),
        "{}",
        lines[6]
    );
    let mut blocks = site.blocks();
    blocks.sort();
    assert_eq!(blocks, ["c", "d"]);
}

#[test]
fn h18_a_group_key_block_goes_with_its_group_and_another_stays() {
    let site = Site::start();
    let words = [
        "alloc", "mine", "4096", "group", "alloc", "kept", "4096", "key", "add", "kept", "park",
    ];
    site.actor(1, "me", "groupie", &words);
    site.wait_lines("me", 3);
    let used = site.memory()["used"].as_u64().unwrap();
    proc::kill(site.runs("me", 0).pid(), Signal::ABORT);
    site.runs("me", 1);
    assert_eq!(site.blocks().len(), 2, "a restart frees nothing");
    site.ok("akill -g 1");
    assert_eq!(site.blocks(), ["kept"]);
    assert!(site.memory()["used"].as_u64().unwrap() < used);

    site.actor(
        1,
        "again",
        "groupie",
        &[
            "alloc", "mine", "4096", "group", "alloc", "kept", "4096", "key", "park",
        ],
    );
    let lines = site.wait_lines("again", 2);
    assert!(lines[0].ends_with("existed=false"), "{}", lines[0]);
    assert!(lines[1].ends_with("existed=true"), "{}", lines[1]);
}

#[test]
fn h18_clean_termination_of_the_last_member_frees_them_too() {
    let site = Site::start();
    site.actor(
        1,
        "me",
        "groupie",
        &["alloc", "mine", "4096", "group", "clean", "return"],
    );
    site.wait_forgotten("me");
    assert!(site.blocks().is_empty(), "{:?}", site.blocks());
}

#[test]
fn h19_a_block_of_another_group_cannot_be_mapped_or_freed_unless_granted() {
    let site = Site::start();
    let go = site.file("go").display().to_string();
    let owner = [
        "alloc", "b", "4096", "group", "add", "b", "wait", &go, "grant", "b", "2", "park",
    ];
    site.actor(1, "owner", "groupie", &owner);
    site.wait_lines("owner", 2);
    let granted = site.file("granted").display().to_string();
    let thief = [
        "alloc", "b", "4096", "group", "free", "b", "grant", "b", "2", "say", "tried", "wait",
        &granted, "alloc", "b", "4096", "group", "add", "b", "park",
    ];
    site.actor(2, "thief", "groupie", &thief);
    let lines = site.wait_lines("thief", 4);
    assert!(
        lines[..3].iter().all(|line| line.starts_with("error ")),
        "{lines:?}"
    );
    assert_eq!(site.blocks(), ["b"]);
    // An ordinary actor is no member either.
    site.ordinary(
        "plain",
        "groupie",
        &["alloc", "b", "4096", "key", "free", "b", "park"],
    );
    let plain = site.wait_lines("plain", 2);
    assert!(
        plain.iter().all(|line| line.starts_with("error ")),
        "{plain:?}"
    );

    site.write("go", "");
    site.wait_line("owner", |line| line == "granted b to 2");
    site.write("granted", "");
    let lines = site.wait_lines("thief", 6);
    assert!(lines[4].ends_with("existed=true"), "{}", lines[4]);
    assert_eq!(lines[5], "b = 2");
}

#[test]
fn h19_what_an_actor_holds_gives_no_way_to_the_controllers_memory() {
    let site = Site::start();
    site.actor(
        1,
        "me",
        "groupie",
        &["alloc", "b", "4096", "group", "report", "park"],
    );
    let report = site.wait_line("me", |line| line.starts_with('{'));
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    let bank = site.bank().display().to_string();
    let files = report["fds"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|fd| fd[1].as_str());
    let banked: Vec<&str> = files.filter(|file| file.contains(&bank)).collect();
    assert!(banked.len() <= 1, "no more than its own block: {banked:?}");
    assert!(
        !banked.iter().any(|file| file.contains("catalogue")),
        "{banked:?}"
    );
}

#[test]
fn h20_exhaustion_of_the_bank_is_an_error_at_allocation() {
    let site = Options::new()
        .config("(pmm: (ram_bank_size: \"1MiB\"))")
        .start();
    let half = (600 << 10).to_string();
    let words = [
        "alloc",
        "huge",
        "1099511627776",
        "key",
        "alloc",
        "a",
        &half,
        "key",
        "fill",
        "a",
        "alloc",
        "b",
        &half,
        "key",
        "free",
        "a",
        "alloc",
        "b",
        &half,
        "key",
        "fill",
        "b",
        "park",
    ];
    site.actor(1, "me", "groupie", &words);
    let lines = site.wait_lines("me", 6);
    assert!(
        lines[0].starts_with("error alloc"),
        "past the bank's size: {}",
        lines[0]
    );
    assert!(lines[1].ends_with("existed=false"), "{}", lines[1]);
    assert_eq!(lines[2], "filled a");
    assert!(
        lines[3].starts_with("error alloc"),
        "the bank is full: {}",
        lines[3]
    );
    assert_eq!(lines[4], "freed a");
    let lines = site.wait_lines("me", 7);
    assert!(
        lines[5].ends_with("existed=false") && lines[6] == "filled b",
        "{lines:?}"
    );
    assert_eq!(site.runs("me", 0).restarts, 0, "no fault at first touch");
}

#[test]
fn h20_the_number_of_blocks_is_limited_and_freeing_makes_room() {
    let site = Options::new().config("(pmm: (max_blocks: 3))").start();
    let words = [
        "alloc", "a", "4096", "key", "alloc", "b", "4096", "key", "alloc", "c", "4096", "key",
        "alloc", "d", "4096", "key", "free", "b", "alloc", "d", "4096", "key", "park",
    ];
    site.actor(1, "me", "groupie", &words);
    let lines = site.wait_lines("me", 6);
    assert!(
        lines[..3].iter().all(|line| line.starts_with("block ")),
        "{lines:?}"
    );
    assert!(
        lines[3].starts_with("error alloc") && lines[3].contains("max_blocks"),
        "{}",
        lines[3]
    );
    assert!(lines[5].starts_with("block d"), "{}", lines[5]);
}

#[test]
fn h20_a_size_of_nothing_and_a_bad_name_are_refused() {
    let site = Site::start();
    let words = [
        "alloc", "b", "0", "key", "alloc", "a/b", "4096", "key", "say", "alive", "park",
    ];
    site.actor(1, "me", "groupie", &words);
    let lines = site.wait_lines("me", 3);
    assert!(
        lines[0].starts_with("error alloc") && lines[1].starts_with("error alloc"),
        "{lines:?}"
    );
    assert_eq!(lines[2], "alive");
}
