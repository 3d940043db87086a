//! The lives that part `data` crashes: each finds what the first one has put in. How the part starts and kills them
//! is in `src/data/crash.rs`; here every store takes part, and its answer is read, not its time.

#![allow(clippy::unwrap_used)] // in the helpers of tests, too

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::TempDir;

/// Stores that outlive a crash of their program.
const STORES: &[&str] = &[
    "Map",
    "Heap",
    #[cfg(feature = "peers")]
    "Redb",
    #[cfg(feature = "peers")]
    "Lmdb",
    #[cfg(feature = "peers")]
    "Fjall",
    #[cfg(feature = "peers")]
    "Sqlite",
];

/// What a life says before it is killed; nothing where it ends by itself.
fn life(who: &str, dir: &Path, fill: bool) -> String {
    let what = serde_json::json!({ "who": who, "dir": dir, "entries": 1000, "fill": fill });
    let mut child = Command::new(env!("CARGO_BIN_EXE_refrain-bench"))
        .args(["--data-life", &what.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    output.read_line(&mut line).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    line
}

#[test]
fn h32_each_life_reads_what_the_first_has_put_in_before_it_was_killed() {
    for who in STORES {
        let dir = TempDir::new_in("/dev/shm").unwrap();
        assert_eq!(life(who, dir.path(), true), "0\n", "{who}");
        for again in 0..3 {
            let took = life(who, dir.path(), false);
            let took: f64 = took.trim().parse().unwrap_or(0.0);
            assert!(took > 0.0, "{who}, life {again} found nothing");
        }
    }
}

#[test]
fn a_life_that_finds_an_empty_store_says_nothing() {
    for who in STORES {
        let dir = TempDir::new_in("/dev/shm").unwrap();
        assert_eq!(life(who, dir.path(), false), "", "{who}");
    }
}
