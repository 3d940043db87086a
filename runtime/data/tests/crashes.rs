//! A crash after every instruction of every operation (SPEC H32), with the real code to recover.
#![allow(clippy::unwrap_used)] // in the helpers of tests, too

use std::fmt::Debug;

use refrain_data::memory::Scratch;
use refrain_data::{Cell, Versions};
use refrain_step::{Report, crash_everywhere};

/// Two memories of one size: one to work on, one to recover in.
struct Memories {
    work: Scratch,
    copy: Scratch,
}

impl Memories {
    fn of(block: usize) -> Self {
        let new = || Scratch::with_blocks_of(block).unwrap();
        Self {
            work: new(),
            copy: new(),
        }
    }

    /// Crashes `operation` everywhere and recovers by `read`, which opens what it is given.
    fn try_all<S: PartialEq + Debug>(
        &self,
        what: &str,
        operation: impl FnOnce(),
        read: impl Fn(Scratch) -> S,
    ) -> Report {
        let recover = || read(self.copy.next_life());
        let report =
            crash_everywhere(self.work.words(), self.copy.words(), operation, recover).unwrap();
        println!("{what}: {report}");
        assert!(report.points > 0, "{what}: nothing was changed");
        assert_eq!(report.torn, [""; 0], "{what}");
        report
    }
}

/// Larger than one slot of a line, and no whole number of words.
type Value = [u8; 100];

#[test]
fn h32_a_cell_is_old_or_new_after_a_crash_at_any_instruction() {
    let memories = Memories::of(4096);
    let read = |blocks| Cell::<Value>::open(blocks).map(|cell| *cell.get()).ok();
    let mut cell = Cell::<Value>::open(memories.work.clone()).unwrap();
    for round in 1..=3 {
        memories.try_all("Cell::set", || cell.set(&[round; 100]), read);
        cell = Cell::open(memories.work.next_life()).unwrap();
        assert_eq!(*cell.get(), [round; 100]);
        let change = |value: &mut Value| value.iter_mut().for_each(|byte| *byte += 100);
        memories.try_all("Cell::update", || cell.update(change), read);
    }
}

#[test]
fn h32_a_cell_is_made_as_a_whole() {
    let memories = Memories::of(4096);
    // A crash before the end of making leaves a block that is made again.
    let open = |blocks| Cell::open_with(blocks, Versions::new(1), || [7; 100]);
    let make = || drop(open(memories.work.clone()).unwrap());
    let read = |blocks| open(blocks).map(|cell| *cell.get()).ok();
    memories.try_all("making a Cell", make, read);
}

#[test]
fn h32_a_cell_is_migrated_as_a_whole() {
    migrate::<100, 150>("in the root");
    migrate::<100, 1800>("to a block");
    migrate::<1800, 1801>("from block to block");
    migrate::<1800, 10>("to the root");
}

fn migrate<const OLD: usize, const NEW: usize>(what: &str) {
    let memories = Memories::of(8192);
    let cell = Cell::<[u8; OLD]>::open_with(memories.work.clone(), Versions::new(1), || [7; OLD]);
    drop(cell.unwrap());
    let open = |blocks| {
        let versions = Versions::new(2).from::<[u8; OLD]>(1, |old| [old[0] + 1; NEW]);
        Cell::open_with(blocks, versions, || [0; NEW])
    };
    let read = |blocks: Scratch| {
        // Old or new: who opens it with the migration finds the new value in any case.
        let old = Cell::<[u8; OLD]>::open_with(blocks.clone(), Versions::new(1), || [0; OLD]);
        let old = old.map(|cell| *cell.get() == [7; OLD]).ok();
        (old, open(blocks).map(|cell| *cell.get() == [8; NEW]).unwrap())
    };
    let operation = || drop(open(memories.work.clone()).unwrap());
    memories.try_all(what, operation, read);
}
