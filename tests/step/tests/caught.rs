//! The harness can fail: what is wrong is caught (SPEC H32).
#![allow(clippy::unwrap_used)] // in the helpers of tests, too

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Relaxed, Release};

use refrain_step::{Report, crash_everywhere, done_stepping, step};
use refrain_sys::mapping::{SharedWords, create_words};

/// Words 0 and 1 hold a value, twice the same number; word 2 says how many times it was written.
struct Memories([SharedWords; 2]);

impl Memories {
    fn new() -> Self {
        Self(["work", "copy"].map(|name| create_words(name, 512).unwrap().1))
    }

    fn crash(&self, operation: impl Fn(&[AtomicU64]), recover: impl Fn(&[AtomicU64])) -> Report {
        let Self([work, copy]) = self;
        let open = || {
            recover(copy);
            done_stepping();
            [0, 1, 2].map(|at| copy[at].load(Relaxed))
        };
        crash_everywhere(work, copy, || operation(work), open).unwrap()
    }
}

/// Recovery by a note: word 3 is set while the value is being changed to what word 4 says.
fn finish(words: &[AtomicU64]) {
    if words[3].load(Relaxed) == 1 {
        let value = words[4].load(Relaxed);
        words[0].store(value, Release);
        words[1].store(value, Release);
        words[2].store(value, Release);
        words[3].store(0, Release);
    }
}

#[test]
fn h32_a_change_in_two_stores_is_torn() {
    let write = |words: &[AtomicU64]| [0, 1].iter().for_each(|at| words[*at].store(5, Release));
    let report = Memories::new().crash(write, |_| {});
    assert_eq!((report.points, report.torn.len()), (2, 1), "{report}");
}

#[test]
fn h32_a_note_before_the_change_makes_it_whole_and_its_recovery_is_crashed_too() {
    let write = |words: &[AtomicU64]| {
        words[4].store(5, Release);
        words[3].store(1, Release);
        finish(words);
    };
    let report = Memories::new().crash(write, finish);
    assert_eq!(report.torn, [""; 0], "{report}");
    assert!(report.in_recovery > 0, "{report}");
}

#[test]
fn h32_a_note_that_is_written_too_late_is_torn() {
    let write = |words: &[AtomicU64]| {
        words[3].store(1, Release);
        words[4].store(5, Release);
        finish(words);
    };
    let memories = Memories::new();
    memories.0[0][4].store(9, Relaxed);
    let report = memories.crash(write, finish);
    assert!(!report.torn.is_empty(), "{report}");
}

#[test]
fn h32_a_recovery_that_takes_its_note_away_too_soon_is_torn() {
    let hasty = |words: &[AtomicU64]| {
        if words[3].swap(0, Relaxed) == 1 {
            let value = words[4].load(Relaxed);
            [0, 1, 2]
                .iter()
                .for_each(|at| words[*at].store(value, Release));
        }
    };
    let write = |words: &[AtomicU64]| {
        words[4].store(5, Release);
        words[3].store(1, Release);
        finish(words);
    };
    let report = Memories::new().crash(write, hasty);
    let caught = report.torn.iter().any(|what| what.contains("in recovery"));
    assert!(caught, "{report}: {:?}", report.torn);
}

#[test]
fn an_operation_may_be_killed_in_the_middle_and_a_panic_is_told() {
    let Memories([work, _]) = Memories::new();
    let write = || work.iter().for_each(|word| word.store(1, Release));
    let mut left = 3;
    let stepped = step(&work, write, |_| {
        left -= 1;
        left > 0
    });
    assert_eq!(stepped.unwrap().points, 3);
    assert_eq!(
        work.iter().filter(|word| word.load(Relaxed) == 1).count(),
        3
    );
    let stepped = step(&work, || panic!("on purpose"), |_| true).unwrap();
    assert!(stepped.panicked);
}
