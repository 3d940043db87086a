//! A crash after every instruction of every operation (SPEC H32), with the real code to recover.
#![allow(clippy::unwrap_used)] // in the helpers of tests, too

use std::fmt::Debug;

use refrain_data::memory::Scratch;
use refrain_data::{ByteLog, Cell, Log, Map, Versions};
use refrain_step::{Report, crash_everywhere, done_stepping};

/// Two memories of one size: one to work on, one to recover in.
struct Memories {
    work: Scratch,
    copy: Scratch,
}

impl Memories {
    fn of(blocks: usize, bytes: usize) -> Self {
        let new = || Scratch::with_blocks(blocks, bytes).unwrap();
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
    let memories = Memories::of(0, 0);
    let read = |blocks| {
        let cell = Cell::<Value>::open(blocks).ok()?;
        done_stepping();
        Some(*cell.get())
    };
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
    let memories = Memories::of(0, 0);
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
    let memories = Memories::of(2, 4096);
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
        (
            old,
            open(blocks).map(|cell| *cell.get() == [8; NEW]).unwrap(),
        )
    };
    let operation = || drop(open(memories.work.clone()).unwrap());
    memories.try_all(what, operation, read);
}

/// Larger than a word, so that an update goes to another slot.
type Entries = Vec<(u64, [u8; 20])>;

fn entries<const SIZE: usize>(blocks: Scratch) -> Option<Vec<(u64, [u8; SIZE])>> {
    let map = Map::<u64, [u8; SIZE]>::open(blocks, 0).ok()?;
    done_stepping();
    let mut all: Vec<_> = map.iter().map(|(key, value)| (*key, *value)).collect();
    all.sort_unstable();
    assert_eq!((all.len(), all.len()), (map.len(), map.iter().count()));
    let found = |(key, value): &(u64, [u8; SIZE])| map.get(key) == Some(value);
    assert!(all.iter().all(found), "each entry is found by its key");
    Some(all)
}

/// Inserts, updates and removes, with the list in any state and clusters to be closed.
#[test]
fn h32_a_map_is_old_or_new_after_a_crash_at_any_instruction() {
    let memories = Memories::of(1, 4096);
    let mut total = Report::default();
    let mut model = Entries::new();
    // Fills 12 of 32 buckets, then takes each second one out: some of these close gaps.
    let keys = (0..14).chain([13, 1, 12, 2, 11, 3, 10, 4, 9, 5, 8, 6, 1, 1, 2, 3]);
    for (round, key) in keys.enumerate() {
        let mut map = Map::open(memories.work.next_life(), 0).unwrap();
        let value = [round as u8; 20];
        if (3..12).contains(&round) {
            // As the ones before; the table is to be filled.
            assert!(!map.insert(&key, &value).unwrap());
            model.push((key, value));
            continue;
        }
        let had = model.iter().position(|(has, _)| *has == key);
        let report = match had {
            Some(at) if round % 2 == 0 => {
                model.remove(at);
                let remove = || assert!(map.remove(&key).is_some());
                memories.try_all("Map::remove", remove, entries::<20>)
            }
            Some(at) => {
                model[at].1 = value;
                let update = || assert!(map.update(&key, |has| *has = value).unwrap().is_some());
                memories.try_all("Map::update", update, entries::<20>)
            }
            None => {
                model.push((key, value));
                let insert = || assert!(!map.insert(&key, &value).unwrap());
                memories.try_all("Map::insert", insert, entries::<20>)
            }
        };
        total.add(report);
        model.sort_unstable();
        assert_eq!(
            entries::<20>(memories.work.next_life()),
            Some(model.clone())
        );
    }
    println!("Map: {total}");
}

#[test]
fn h32_a_map_of_words_is_old_or_new_after_a_crash_at_any_instruction() {
    let memories = Memories::of(1, 4096);
    let mut map = Map::<u64, [u8; 8]>::open(memories.work.clone(), 0).unwrap();
    memories.try_all(
        "Map::insert, a word",
        || drop(map.insert(&1, &[1; 8])),
        entries::<8>,
    );
    let mut map = Map::<u64, [u8; 8]>::open(memories.work.next_life(), 0).unwrap();
    memories.try_all(
        "Map::insert, again",
        || drop(map.insert(&1, &[2; 8])),
        entries::<8>,
    );
    let update = || drop(map.update(&1, |value| *value = [3; 8]));
    memories.try_all("Map::update, a word", update, entries::<8>);
}

#[test]
fn h32_a_map_is_made_grows_and_is_migrated_as_a_whole() {
    let memories = Memories::of(4, 4096);
    let make = || drop(Map::<u64, [u8; 20]>::open(memories.work.clone(), 0).unwrap());
    memories.try_all("making a Map", make, entries::<20>);
    let mut map = Map::open(memories.work.next_life(), 0).unwrap();
    for key in 0..15_u64 {
        map.insert(&key, &[key as u8; 20]).unwrap();
    }
    let insert = || assert!(!map.insert(&15, &[15; 20]).unwrap());
    memories.try_all("Map::insert that grows", insert, entries::<20>);
    assert_eq!(entries::<20>(memories.work.next_life()).unwrap().len(), 16);
    let mut map = Map::<u64, [u8; 20]>::open(memories.work.next_life(), 0).unwrap();
    assert!((5..16).all(|key| map.remove(&key).is_some()));
    drop(map);

    let open = |blocks| {
        let versions = Versions::new(1).from::<[u8; 20]>(0, |old| [old[0]; 30]);
        Map::<u64, [u8; 30]>::open_with(blocks, versions, 0)
    };
    let read = |blocks: Scratch| {
        let old = Map::<u64, [u8; 20]>::open(blocks.clone(), 0)
            .map(|map| map.len())
            .ok();
        let map = open(blocks).unwrap();
        done_stepping();
        let right = |(key, value): (&u64, &[u8; 30])| *value == [*key as u8; 30];
        (old, map.len(), map.iter().all(right))
    };
    let migrate = || drop(open(memories.work.next_life()).unwrap());
    memories.try_all("migrating a Map", migrate, read);
}

#[test]
fn h32_a_log_is_old_or_new_after_a_crash_at_any_instruction() {
    let memories = Memories::of(2, 4096);
    let read = |blocks| {
        let log = Log::<[u8; 20]>::open(blocks, 3).ok()?;
        done_stepping();
        Some((log.first(), log.iter().copied().collect::<Vec<_>>()))
    };
    let make = || drop(Log::<[u8; 20]>::open(memories.work.clone(), 3).unwrap());
    memories.try_all("making a Log", make, read);
    for round in 0..6 {
        let mut log = Log::<[u8; 20]>::open(memories.work.next_life(), 3).unwrap();
        memories.try_all("Log::append", || log.append(&[round; 20]), read);
    }
    let open = |blocks| {
        let versions = Versions::new(1).from::<[u8; 20]>(0, |old| u64::from(old[0]));
        Log::open_with(blocks, versions, 2).unwrap()
    };
    let read = |blocks: Scratch| {
        let old = Log::<[u8; 20]>::open(blocks.clone(), 3)
            .map(|log| (log.first(), log.len()))
            .ok();
        let log = open(blocks);
        done_stepping();
        (old, log.first(), log.iter().copied().collect::<Vec<_>>())
    };
    memories.try_all(
        "migrating a Log",
        || drop(open(memories.work.next_life())),
        read,
    );
    assert_eq!(read(memories.work.next_life()), (None, 4, vec![4, 5]));
}

#[test]
fn h32_a_log_of_bytes_is_old_or_new_after_a_crash_at_any_instruction() {
    let memories = Memories::of(1, 4096);
    let read = |blocks| {
        let log = ByteLog::open(blocks, 100).ok()?;
        done_stepping();
        Some((log.first(), log.iter().collect::<Vec<_>>()))
    };
    let make = || drop(ByteLog::open(memories.work.clone(), 100).unwrap());
    memories.try_all("making a ByteLog", make, read);
    for round in 0..12_u8 {
        let mut log = ByteLog::open(memories.work.next_life(), 100).unwrap();
        let record = vec![round; usize::from(round) * 13 % 50];
        memories.try_all("ByteLog::append", || log.append(&record).unwrap(), read);
        let last = read(memories.work.next_life()).and_then(|(_, mut all)| all.pop());
        assert_eq!(last, Some(record));
    }
}
