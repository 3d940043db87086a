//! Long sequences of operations against plain models, with ends of lives in between (SPEC H32): a handle that is
//! dropped, one that is forgotten, and a life that is killed after some change inside an operation.
#![allow(clippy::unwrap_used)] // in the helpers of tests, too

use std::collections::{HashMap, VecDeque};

use proptest::prelude::*;
use refrain_data::memory::Scratch;
use refrain_data::{ByteLog, ByteLogReader, Cell, FollowError, Log, LogReader, Map};

type Value = [u8; 12];
type Entries = HashMap<u64, Value>;

#[derive(Clone, Debug)]
enum Op {
    Insert(u64, u8),
    Update(u64, u8),
    Remove(u64),
    /// The life ends: cleanly, or with the handle.
    End {
        clean: bool,
    },
    /// The life is killed inside the operation, after so many changes of the memory.
    Killed(Box<Op>, u32),
}

fn change() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (0..60_u64, any::<u8>()).prop_map(|(key, value)| Op::Insert(key, value)),
        2 => (0..60_u64, any::<u8>()).prop_map(|(key, value)| Op::Update(key, value)),
        3 => (0..60_u64).prop_map(Op::Remove),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        40 => change(),
        2 => any::<bool>().prop_map(|clean| Op::End { clean }),
        1 => (change(), 1..14_u32).prop_map(|(op, changes)| Op::Killed(Box::new(op), changes)),
    ]
}

fn on_map(map: &mut Map<u64, Value>, op: &Op) {
    match *op {
        Op::Insert(key, value) => {
            map.insert(&key, &[value; 12]).unwrap();
        }
        Op::Update(key, value) => {
            map.update(&key, |has| has[3] = value).unwrap();
        }
        Op::Remove(key) => {
            map.remove(&key);
        }
        Op::End { .. } | Op::Killed(..) => {}
    }
}

fn on_model(model: &mut Entries, op: &Op) {
    match *op {
        Op::Insert(key, value) => {
            model.insert(key, [value; 12]);
        }
        Op::Update(key, value) => {
            if let Some(has) = model.get_mut(&key) {
                has[3] = value;
            }
        }
        Op::Remove(key) => {
            model.remove(&key);
        }
        Op::End { .. } | Op::Killed(..) => {}
    }
}

fn entries(map: &Map<u64, Value>) -> Entries {
    let entries: Entries = map.iter().map(|(key, value)| (*key, *value)).collect();
    assert_eq!((entries.len(), map.iter().count()), (map.len(), map.len()));
    assert!(
        entries
            .iter()
            .all(|(key, value)| map.get(key) == Some(value))
    );
    entries
}

/// Runs `op` in a child and kills it after so many changes; the memory is as that leaves it.
fn killed(blocks: &Scratch, changes: u32, op: impl FnOnce()) {
    let mut left = changes;
    let stepped = refrain_step::step(blocks.words(), op, |_| {
        left -= 1;
        left > 0
    });
    assert!(!stepped.unwrap().panicked);
}

fn config() -> ProptestConfig {
    ProptestConfig {
        cases: 48,
        max_shrink_iters: 200,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn h32_a_map_is_what_a_hash_map_is_whatever_ends_its_lives(ops in prop::collection::vec(op(), 1..120)) {
        let blocks = Scratch::with_blocks(8, 8192).unwrap();
        let mut map = Map::<u64, Value>::open(blocks.clone(), 0).unwrap();
        let mut model = Entries::new();
        for op in ops {
            match &op {
                Op::End { clean } => {
                    if *clean { drop(map) } else { std::mem::forget(map) }
                    map = Map::open(blocks.next_life(), 0).unwrap();
                }
                Op::Killed(inner, changes) => {
                    killed(&blocks, *changes, || on_map(&mut map, inner));
                    std::mem::forget(map);
                    map = Map::open(blocks.next_life(), 0).unwrap();
                    let mut new = model.clone();
                    on_model(&mut new, inner);
                    let now = entries(&map);
                    prop_assert!(now == model || now == new, "{:?} is neither\n{:?} nor\n{:?}", now, model, new);
                    model = now;
                }
                op => {
                    on_map(&mut map, op);
                    on_model(&mut model, op);
                }
            }
            prop_assert_eq!(map.len(), model.len());
        }
        prop_assert_eq!(entries(&map), model);
    }

    #[test]
    fn h32_an_entry_that_stays_is_met_once_in_the_stretches_of_a_map_that_changes_and_grows(
        before in prop::collection::btree_set(0..60_u64, 0..60),
        ops in prop::collection::vec((op(), 1..6_usize), 0..120),
    ) {
        let blocks = Scratch::with_blocks(8, 8192).unwrap();
        let mut map = Map::<u64, Value>::open(blocks.clone(), 0).unwrap();
        for key in &before {
            map.insert(key, &[0; 12]).unwrap();
        }
        let (mut stay, mut met) = (before, Vec::new());
        let (mut next, mut ops) = (Some(0), ops.into_iter());
        while let Some(from) = next {
            let (op, buckets) = ops.next().unwrap_or((Op::End { clean: false }, 60));
            let (some, behind) = map.stretch(from, buckets);
            met.extend(some.map(|(key, _)| *key));
            prop_assert!(behind.is_none_or(|behind| behind > from));
            next = behind;
            on_map(&mut map, &op);
            match op {
                Op::Remove(key) => drop(stay.remove(&key)),
                Op::End { .. } => {
                    drop(map);
                    map = Map::open(blocks.next_life(), 0).unwrap();
                }
                _ => {}
            }
        }
        for key in &stay {
            prop_assert_eq!(met.iter().filter(|one| *one == key).count(), 1, "{}", key);
        }
    }

    #[test]
    fn h32_a_log_is_the_end_of_what_was_appended(
        capacity in 1..9_usize,
        ops in prop::collection::vec((any::<[u8; 11]>(), 0..40_u32), 1..80),
    ) {
        let blocks = Scratch::with_blocks(1, 4096).unwrap();
        let mut log = Log::<[u8; 11]>::open(blocks.clone(), capacity).unwrap();
        let mut reader = LogReader::<[u8; 11]>::open(blocks.clone()).unwrap();
        let mut all = Vec::new();
        for (record, changes) in ops {
            if (1..4).contains(&changes) {
                killed(&blocks, changes, || log.append(&record));
                std::mem::forget(log);
                log = Log::open(blocks.next_life(), 99).unwrap();
                if log.next() > all.len() as u64 {
                    all.push(record);
                }
            } else {
                log.append(&record);
                all.push(record);
            }
            let first = all.len().saturating_sub(capacity);
            prop_assert!(log.iter().eq(&all[first..]));
            prop_assert_eq!((log.first(), log.next()), (first as u64, all.len() as u64));
            if changes % 5 == 0 {
                let at = reader.position() as usize;
                match reader.next() {
                    Ok(record) => prop_assert_eq!(record.as_ref(), all.get(at)),
                    Err(FollowError::Overtaken { lost }) => prop_assert_eq!(at + lost as usize, first),
                    Err(error) => return Err(TestCaseError::fail(error.to_string())),
                }
            }
        }
    }

    #[test]
    fn h32_a_log_of_bytes_is_the_end_of_what_was_appended(
        capacity in 64..400_usize,
        ops in prop::collection::vec((0..120_usize, 0..40_u32), 1..80),
    ) {
        let blocks = Scratch::with_blocks(1, 4096).unwrap();
        let mut log = ByteLog::open(blocks.clone(), capacity).unwrap();
        let mut reader = ByteLogReader::open(blocks.clone()).unwrap();
        let mut all = VecDeque::new();
        for (at, (len, changes)) in ops.into_iter().enumerate() {
            let record = vec![at as u8; len];
            if len > log.longest() {
                prop_assert_eq!(log.append(&record).unwrap_err().len, len);
                continue;
            }
            if (1..8).contains(&changes) {
                killed(&blocks, changes, || log.append(&record).unwrap());
                std::mem::forget(log);
                log = ByteLog::open(blocks.next_life(), 99).unwrap();
                if log.next() > all.len() as u64 {
                    all.push_back(record);
                }
            } else {
                log.append(&record).unwrap();
                all.push_back(record);
            }
            let first = log.first() as usize;
            prop_assert!(log.iter().eq(all.range(first..).cloned()));
            // It holds what was promised: the records before the oldest would not have fitted.
            let from = all.range(first.saturating_sub(1)..);
            let taken: usize = from.map(|record: &Vec<u8>| record.len().next_multiple_of(8) + 8).sum();
            prop_assert!(first == 0 || taken > capacity, "{} of {}", taken, capacity);
            if changes % 5 == 0 {
                let at = reader.position() as usize;
                match reader.next() {
                    Ok(record) => prop_assert_eq!(record.as_ref(), all.get(at)),
                    Err(FollowError::Overtaken { lost }) => prop_assert_eq!(at + lost as usize, first),
                    Err(error) => return Err(TestCaseError::fail(error.to_string())),
                }
            }
        }
    }

    /// Another actor of the group may write anything: values are wrong then, and nothing else.
    #[test]
    fn h32_any_bytes_are_opened_refused_and_used_without_a_panic(
        garbage in prop::collection::vec((0..6_usize, any::<prop::sample::Index>(), hostile_word()), 1..12),
        keys in prop::collection::vec(0..40_u64, 1..20),
    ) {
        let fresh = || Scratch::with_blocks(8, 4096).unwrap();
        let blocks = [fresh(), fresh(), fresh(), fresh()];
        let open = (
            Map::<u64, Value>::open(blocks[0].clone(), 0),
            Log::<Value>::open(blocks[1].clone(), 5),
            ByteLog::open(blocks[2].clone(), 200),
            Cell::<Value>::open(blocks[3].clone()),
        );
        let mut open = (open.0.unwrap(), open.1.unwrap(), open.2.unwrap(), open.3.unwrap());
        let mut readers = (
            LogReader::<Value>::open(blocks[1].clone()).unwrap(),
            ByteLogReader::open(blocks[2].clone()).unwrap(),
        );
        for (number, key) in keys.iter().enumerate() {
            let _ = open.0.insert(key, &[number as u8; 12]);
            open.1.append(&[number as u8; 12]);
            open.2.append(&vec![number as u8; *key as usize]).unwrap();
        }
        for blocks in &blocks {
            for (place, index, value) in &garbage {
                // The root's words, those of the structure, and its first block are where it hurts.
                let (from, len) = [(0, 8), (16, 24), (64, 24), (512, 24), (536, 200), (512, 512)][*place];
                blocks.words()[from + index.index(len)].store(*value, std::sync::atomic::Ordering::Relaxed);
            }
        }
        use_all(&mut open, &keys);
        let _ = (0..50).map(|_| readers.0.next()).filter(Result::is_err).count();
        let _ = (0..50).map(|_| readers.1.next()).filter(Result::is_err).count();
        std::mem::forget(open);
        let again = |at: usize| blocks[at].next_life();
        if let (Ok(map), Ok(log), Ok(bytes), Ok(cell)) = (
            Map::<u64, Value>::open(again(0), 0),
            Log::<Value>::open(again(1), 5),
            ByteLog::open(again(2), 200),
            Cell::<Value>::open(again(3)),
        ) {
            use_all(&mut (map, log, bytes, cell), &keys);
        }
    }
}

fn hostile_word() -> impl Strategy<Value = u64> {
    prop_oneof![
        any::<u64>(),
        0..40_u64,
        Just(u64::MAX),
        Just(u64::MAX - 7),
        any::<u64>().prop_map(|word| word & 0x1f_0000_001f)
    ]
}

fn use_all(open: &mut (Map<u64, Value>, Log<Value>, ByteLog, Cell<Value>), keys: &[u64]) {
    let (map, log, bytes, cell) = open;
    for key in keys {
        let _ = map.get(key).copied();
        let _ = map.insert(key, &[7; 12]);
        let _ = map.update(&(key + 1), |value| value[0] = 9);
        let _ = (map.remove(&(key + 2)), map.len());
        log.append(&[3; 12]);
        let _ = (log.get(*key), log.len(), log.first());
        let _ = bytes.append(&vec![1; *key as usize]);
        cell.update(|value| value[0] = 1);
    }
    let _ = (
        map.iter().count(),
        log.iter().count(),
        bytes.iter().count(),
        cell.get(),
    );
}
