//! Cells as their users see them: what opens, what is refused, what readers get.
#![allow(clippy::unwrap_used)] // in the helpers of tests, too

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering::Relaxed;

use refrain_data::memory::Scratch;
use refrain_data::{Blocks, Cell, CellReader, OpenError, ReadError, Versions};

#[test]
fn h32_a_cell_is_found_again_as_it_was_left() {
    let blocks = Scratch::new().unwrap();
    let mut cell = Cell::<[u64; 2]>::open(blocks.clone()).unwrap();
    assert_eq!(*cell.get(), [0, 0]);
    cell.set(&[1, 2]);
    assert_eq!(cell.update(|value| std::mem::replace(&mut value[0], 9)), 1);
    drop(cell);
    let cell = Cell::<[u64; 2]>::open_with(blocks, Versions::default(), || [7; 2]).unwrap();
    assert_eq!(*cell.get(), [9, 2]);
}

#[test]
fn h32_a_panic_inside_an_update_leaves_the_old_value() {
    let mut cell = Cell::<u64>::open(Scratch::new().unwrap()).unwrap();
    cell.set(&5);
    let change = |value: &mut u64| {
        *value = 6;
        panic!("on purpose");
    };
    assert!(catch_unwind(AssertUnwindSafe(|| cell.update(change))).is_err());
    assert_eq!(*cell.get(), 5);
}

#[test]
fn h32_opening_a_cell_as_another_type_names_both() {
    let blocks = Scratch::new().unwrap();
    drop(Cell::<u64>::open(blocks.clone()).unwrap());
    let error = Cell::<[u8; 8]>::open(blocks.clone()).unwrap_err();
    assert!(matches!(error, OpenError::OtherType { .. }), "{error:?}");
    let text = error.to_string();
    assert!(
        text.contains("Cell<u64>") && text.contains("Cell<[u8; 8]>"),
        "{text}"
    );
    let error = Cell::<u64>::open_with(blocks.clone(), Versions::new(3), || 0).unwrap_err();
    assert!(matches!(error, OpenError::OtherVersion { .. }), "{error:?}");
    let error = CellReader::<i64>::open(blocks).unwrap_err();
    assert!(matches!(error, OpenError::OtherType { .. }), "{error:?}");
}

#[test]
fn h32_a_second_writer_is_refused_until_the_first_has_ended() {
    let blocks = Scratch::new().unwrap();
    let first = Cell::<u64>::open(blocks.clone()).unwrap();
    let error = Cell::<u64>::open(blocks.clone()).unwrap_err();
    assert!(matches!(error, OpenError::Busy { .. }), "{error:?}");
    // A crash drops nothing, and the next life gets in all the same.
    std::mem::forget(first);
    let next = Cell::<u64>::open(blocks.next_life()).unwrap();
    drop(next);
    assert!(Cell::<u64>::open(blocks).is_ok());
}

#[test]
fn h32_a_block_with_something_else_in_it_is_left_alone() {
    let blocks = Scratch::new().unwrap();
    let root = blocks.clone().block(0, 4096).unwrap();
    root.word(0).unwrap().store(77, Relaxed);
    let error = Cell::<u64>::open(blocks.clone()).unwrap_err();
    assert!(matches!(error, OpenError::NoStructure(77)), "{error:?}");
    let rest = root.words(8, 4088).unwrap();
    assert!(rest.iter().all(|word| word.load(Relaxed) == 0));
}

#[test]
fn h32_a_reader_sees_what_was_published_and_is_told_of_a_migration() {
    let blocks = Scratch::new().unwrap();
    let error = CellReader::<u32>::open(blocks.clone()).unwrap_err();
    assert!(matches!(error, OpenError::NotYet), "{error:?}");
    let mut cell = Cell::<u32>::open(blocks.clone()).unwrap();
    let reader = CellReader::<u32>::open(blocks.clone()).unwrap();
    assert_eq!(reader.read(), Ok(0));
    cell.set(&4);
    assert_eq!(reader.read(), Ok(4));
    drop(cell);
    let versions = Versions::new(1).from::<u32>(0, |old| u64::from(*old));
    let cell = Cell::<u64>::open_with(blocks, versions, || 0).unwrap();
    assert_eq!((*cell.get(), reader.read()), (4, Err(ReadError::Replaced)));
}

#[test]
fn h32_a_cell_is_migrated_again_and_again() {
    let blocks = Scratch::new().unwrap();
    let mut cell = Cell::<[u8; 1000]>::open(blocks.clone()).unwrap();
    cell.set(&[1; 1000]);
    drop(cell);
    for version in 1..9 {
        let open = |blocks| {
            let add = |old: &[u8; 1000]| old.map(|byte| byte + 1);
            let versions = Versions::new(version).from(version - 1, add);
            Cell::<[u8; 1000]>::open_with(blocks, versions, || [0; 1000]).unwrap()
        };
        assert_eq!(*open(blocks.clone()).get(), [version as u8 + 1; 1000]);
        assert_eq!(*open(blocks.clone()).get(), [version as u8 + 1; 1000]);
    }
}

#[test]
fn h32_readers_beside_a_writer_see_whole_values_in_their_order() {
    const LAST: u64 = 20_000;
    let blocks = Scratch::new().unwrap();
    let mut cell = Cell::<[u64; 40]>::open(blocks.clone()).unwrap();
    let reader = CellReader::<[u64; 40]>::open(blocks).unwrap();
    let reads = std::thread::spawn(move || {
        let mut newest = 0;
        while newest < LAST {
            let value = reader.read().unwrap();
            assert_eq!(value, [value[0]; 40]);
            assert!(value[0] >= newest, "{} after {newest}", value[0]);
            newest = value[0];
        }
    });
    for number in 1..=LAST {
        if number % 2 == 0 {
            cell.set(&[number; 40]);
        } else {
            cell.update(|value| *value = [number; 40]);
        }
    }
    reads.join().unwrap();
}
