//! Every input of the corpora, and every one that was once a finding, is taken by its target.
//!
//! So what the fuzzer has found stays mended wherever the tests run, without the fuzzer.
#![allow(clippy::unwrap_used)] // in the helpers of tests, too

use std::fs;
use std::path::{Path, PathBuf};

use refrain_fuzz::{Bench, Target, corpus, home, targets};

fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten();
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn replay(target: &'static Target, files: &[PathBuf]) {
    let scratch = tempfile::tempdir_in("/dev/shm").unwrap();
    let bench = Bench::new(target, scratch.path().to_owned());
    for file in files {
        println!("{}", file.display());
        bench.put(&fs::read(file).unwrap());
    }
}

#[test]
fn every_entry_of_every_corpus_is_taken() {
    for target in targets::ALL {
        let entries = files(&corpus(target));
        assert!(!entries.is_empty(), "{} has a corpus", target.name);
        replay(target, &entries);
    }
}

#[test]
fn what_was_once_a_finding_is_none_any_more() {
    for target in targets::ALL {
        let mut findings = files(&home().join("crashes"));
        let prefix = format!("{}-", target.name);
        findings.retain(|file| {
            file.file_name()
                .unwrap()
                .to_string_lossy()
                .starts_with(&prefix)
        });
        replay(target, &findings);
    }
}

#[test]
fn no_input_at_all_is_taken() {
    for target in targets::ALL {
        let scratch = tempfile::tempdir_in("/dev/shm").unwrap();
        Bench::new(target, scratch.path().to_owned()).put(&[]);
    }
}
