//! The store tried: a crash after every instruction of what takes more than one operation, and random sequences
//! against a plain map, with lives that end in between. No site: the blocks are in a memfd.
#![allow(clippy::unwrap_used)] // in the helpers of tests, too

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use proptest::prelude::*;
use refrain::data::blocks::{Blocks, BlocksError, ROOT};
use refrain::data::memory::Scratch;
use refrain::data::region::Region;
use refrain_step::{Report, crash_everywhere, done_stepping};
use refrain_sys::mapping::{SharedWords, create_words};

use crate::batch::Change;
use crate::expiry::PAUSE_MS;
use crate::objects::PIECE;
use crate::store::{MAX_KEY, SHORT, Store, StoreError};

/// What a structure has here: a root and two more blocks, which each have so many bytes.
const BLOCK: usize = 20 << 10;
const PART: usize = ROOT + 2 * BLOCK;
const PARTS: [&str; 3] = ["items", "pieces", "state"];
/// All of that: maps begin in the one block, and grow into the other.
const SIZE: usize = PARTS.len() * PART;

/// The blocks of one structure in a memory for all.
struct Part {
    words: Arc<SharedWords>,
    at: usize,
}

impl Blocks for Part {
    fn block(&mut self, number: u32, bytes: usize) -> Result<Region, BlocksError> {
        let (offset, len) = match number {
            0 => (0, ROOT),
            // The odd ones: the even ones are for migrations.
            1 => (ROOT, BLOCK),
            3 => (ROOT + BLOCK, BLOCK),
            _ => return Err("no such block".into()),
        };
        let all = Region::new(Arc::clone(&self.words)).ok_or("not at a page")?;
        let fits = bytes <= len;
        let region = all.part(self.at + offset, len).filter(|_| fits);
        region.ok_or_else(|| "too large".into())
    }

    fn free(&mut self, _number: u32) -> Result<(), BlocksError> {
        Ok(())
    }

    fn writer(&self) -> Result<NonZeroU64, BlocksError> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        // A child that is stepped goes on from its parent's number.
        let number = NEXT.fetch_add(1, Ordering::Relaxed) | u64::from(std::process::id()) << 32;
        Ok(NonZeroU64::new(number).ok_or("wrapped")?)
    }

    fn is_alive(&self, _writer: NonZeroU64) -> Result<bool, BlocksError> {
        Ok(false)
    }
}

fn memory() -> Arc<SharedWords> {
    Arc::new(create_words("kv-trial", SIZE / size_of::<u64>()).unwrap().1)
}

/// Opens the store as its next life does.
fn open(words: &Arc<SharedWords>) -> anyhow::Result<Store> {
    let part = |name: &str| Part {
        words: Arc::clone(words),
        at: PARTS.iter().position(|part| *part == name).unwrap() * PART,
    };
    Store::open(part, SIZE)
}

type Contents = BTreeMap<Vec<u8>, Vec<u8>>;

/// Everything that is there of these keys, and how many objects' pieces there are.
fn contents(store: &Store, keys: &[&[u8]]) -> (Contents, usize, usize) {
    let value = |key: &&[u8]| Some((key.to_vec(), store.get(key, 0)?.bytes.into_owned()));
    let found = keys.iter().filter_map(value).collect();
    (found, store.len(), store.objects.pieces())
}

#[test]
fn h32_a_batch_happens_as_a_whole_whenever_the_life_ends() {
    let (work, copy) = (memory(), memory());
    let keys: [&[u8]; 4] = [b"short", b"long", b"new", b"other"];
    let long = vec![b'x'; PIECE + 100];
    let longer = vec![b'y'; 2 * PIECE];
    let mut store = open(&work).unwrap();
    let recover = || {
        let store = open(&copy).ok()?;
        done_stepping();
        Some(contents(&store, &keys))
    };
    let mut total = Report::default();
    let mut trial = |what: &str, change: &dyn Fn(&mut Store)| {
        let operation = || change(&mut store);
        let report = crash_everywhere(&work, &copy, operation, recover).unwrap();
        println!("{what}: {report}");
        assert!(report.points > 0, "{what}: nothing was changed");
        assert_eq!(report.torn, [""; 0], "{what}");
        total.add(report);
        store = open(&work).unwrap();
    };
    let set = |key, value| move |store: &mut Store| store.set(key, value, 0).unwrap();
    trial("a short value", &set(keys[0], b"1"));
    trial("another one", &set(keys[0], b"2"));
    trial("a long value", &set(keys[1], &long));
    trial("a longer one", &set(keys[1], &longer));
    trial("when it ends", &|store| {
        assert!(store.expire(keys[1], 1 << 60, 0).unwrap())
    });
    let changes = [
        Change::set(keys[0], &long, 0),
        Change::set(keys[1], b"3", 0),
        Change::set(keys[2], b"4", 0),
    ];
    trial("three at once", &|store| store.change(&changes).unwrap());
    trial("two of them removed", &|store| {
        assert_eq!(
            store
                .remove(&[keys[0], keys[1], keys[1], keys[3]], 0)
                .unwrap(),
            2
        );
    });
    trial("a long value again", &set(keys[3], &long));
    let long = vec![b'x'; 2 * PIECE];
    for (what, value) in [
        ("a short key expires", &long[..1]),
        ("a long key expires", &long),
    ] {
        trial(what, &|store| store.set(keys[2], value, 5).unwrap());
        trial(what, &|store| assert_eq!(store.expire_some(5).unwrap(), 1));
    }
    trial("everything removed", &|store| store.clear().unwrap());
    println!("kv_server: {total}");
}

#[test]
fn h32_a_crash_in_a_step_of_expiry_neither_hides_what_stays_nor_keeps_what_goes() {
    let (work, copy) = (memory(), memory());
    let keys: [&[u8]; 5] = [b"short", b"long", b"longer", b"stays", b"long, stays"];
    let ends = [5, 5, 5, 0, 9];
    let mut store = open(&work).unwrap();
    for ((key, ends), pieces) in keys.into_iter().zip(ends).zip([0, 1, 2, 0, 1]) {
        store
            .set(key, &vec![b'x'; 1 + pieces * PIECE], ends)
            .unwrap();
    }
    assert_eq!((store.len(), store.objects.pieces()), (5, 7));
    let recover = || {
        let mut store = open(&copy).ok()?;
        // The next life begins a pass of its own.
        store.expire_some(5).ok()?;
        done_stepping();
        Some(contents(&store, &keys))
    };
    let operation = || assert_eq!(store.expire_some(5).unwrap(), 3);
    let report = crash_everywhere(&work, &copy, operation, recover).unwrap();
    println!("kv_server: a step of expiry: {report}");
    assert!(report.points > 30, "{report}");
    assert_eq!(report.torn, [""; 0]);
    let (found, len, pieces) = contents(&open(&work).unwrap(), &keys);
    assert!(found.keys().eq([keys[4], keys[3]]), "{found:?}");
    assert_eq!((len, pieces), (2, 2));
}

#[test]
fn what_has_expired_goes_in_steps_and_nothing_is_due_when_nothing_will_end() {
    let mut store = Store::open(|_| Scratch::with_blocks(8, 4 << 20).unwrap(), 16 << 20).unwrap();
    assert_eq!(store.expire_some(1_000).unwrap(), 0);
    let mut now = 1_000;
    // An empty map is gone through, too: what lives before have left is not known.
    while let Some(due) = store.expires_next() {
        now = now.max(due);
        store.expire_some(now).unwrap();
    }
    for number in 0..3000 {
        let value = vec![b'x'; if number % 100 == 0 { SHORT } else { 1 }];
        let expires = [0, now + 10, now + 5_000][number % 3];
        store
            .set(format!("key {number}").as_bytes(), &value, expires)
            .unwrap();
    }
    let begun = now;
    let mut steps = Vec::new();
    while let Some(due) = store.expires_next().filter(|due| *due < begun + 5_000) {
        assert!(due > now, "steps have pauses");
        now = due;
        assert_eq!(store.keys(now).count(), 2000);
        steps.push(store.expire_some(now).unwrap());
    }
    assert_eq!(
        (steps.iter().sum::<u64>(), store.expired(), store.len()),
        (1000, 1000, 2000)
    );
    assert!(
        steps.len() > 3 && steps.iter().all(|gone| *gone < 1000),
        "{steps:?}"
    );
    while let Some(due) = store.expires_next() {
        assert!(due > now);
        now = due;
        store.expire_some(now).unwrap();
    }
    assert_eq!((store.len(), store.expired()), (1000, 2000));
    assert!(now >= begun + 5_000);
    assert!(store.expire(b"key 0", now + 7, now).unwrap());
    assert!(
        store
            .expires_next()
            .is_some_and(|due| (now + 7..now + 100).contains(&due))
    );
}

#[test]
fn a_batch_that_does_not_fit_leaves_nothing_behind() {
    let words = memory();
    let mut store = open(&words).unwrap();
    let large = vec![b'x'; 3 * PIECE];
    let mut keys = Vec::new();
    let full = loop {
        let key = format!("key {}", keys.len()).into_bytes();
        match store.set(&key, &large, 0) {
            Ok(()) => keys.push(key),
            Err(error) => break error,
        }
    };
    assert!(matches!(full, StoreError::Full), "{full}");
    assert!(keys.len() > 2, "some fit");
    let all: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
    let before = contents(&store, &all);
    assert_eq!((before.0.len(), before.1), (all.len(), all.len()));
    let two = [
        Change::set(b"new", b"x", 0),
        Change::set(b"large", &large, 0),
    ];
    assert!(matches!(store.change(&two), Err(StoreError::Full)));
    assert_eq!(contents(&store, &all), before);
    assert_eq!(contents(&open(&words).unwrap(), &all), before);
    let mut store = open(&words).unwrap();
    assert_eq!(store.remove(&all[..2], 0).unwrap(), 2);
    store.set(b"large", &large, 0).unwrap();
    assert_eq!(store.get(b"large", 0).unwrap().bytes, large);
}

#[test]
fn what_is_over_makes_room_when_it_is_swept() {
    let words = memory();
    let mut store = open(&words).unwrap();
    let long = vec![b'x'; SHORT + 1];
    store.set(b"a", b"1", 10).unwrap();
    store.set(b"b", &long, 10).unwrap();
    store.set(b"c", &long, 0).unwrap();
    assert!(store.get(b"a", 9).is_some() && store.get(b"a", 10).is_none());
    assert!(store.sweep(5000).unwrap() && !store.sweep(5500).unwrap());
    assert_eq!((store.len(), store.objects.pieces()), (1, 1));
    let key = vec![b'k'; MAX_KEY + 1];
    assert!(matches!(
        store.set(&key, b"1", 0),
        Err(StoreError::LongKey(_))
    ));
    store.set(&key[1..], &long, 0).unwrap();
    assert_eq!(store.get(&key[1..], 0).unwrap().bytes, long);
    assert!(store.get(&key[2..], 0).is_none());
}

#[derive(Clone, Debug)]
enum Act {
    Set(Vec<(u8, usize)>),
    Remove(Vec<u8>),
    /// A key is to end so many milliseconds later.
    Expire(u8, u64),
    /// So many milliseconds go by, and what is due is done.
    Later(u64),
    Clear,
    NextLife,
}

fn act() -> impl Strategy<Value = Act> {
    let len = prop_oneof![3 => 0..SHORT + 8, 1 => PIECE - 8..PIECE + 8, 1 => 0..3 * PIECE];
    prop_oneof![
        20 => prop::collection::vec((0..12_u8, len), 1..4).prop_map(Act::Set),
        8 => prop::collection::vec(0..12_u8, 1..4).prop_map(Act::Remove),
        6 => (0..12_u8, 0..100_u64).prop_map(|(key, later)| Act::Expire(key, later)),
        6 => (0..60_u64).prop_map(Act::Later),
        1 => Just(Act::Clear),
        4 => Just(Act::NextLife),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn a_store_is_as_a_plain_map_over_all_its_lives(acts in prop::collection::vec(act(), 1..60)) {
        let words = memory();
        let mut store = open(&words).unwrap();
        // Values, and when they end.
        let mut model = BTreeMap::<Vec<u8>, (Vec<u8>, u64)>::new();
        let mut now = 1_000;
        let key = |number: u8| format!("key {number}").into_bytes();
        for (round, act) in acts.into_iter().enumerate() {
            model.retain(|_, (_, expires)| *expires == 0 || *expires > now);
            match act {
                Act::Set(pairs) => {
                    let value = |len: usize| vec![round as u8; len];
                    let pairs: Vec<_> = pairs.into_iter().map(|(k, len)| (key(k), value(len))).collect();
                    let changes: Vec<_> = pairs.iter().map(|(k, v)| Change::set(k, v, 0)).collect();
                    let done = match &pairs[..] {
                        [(key, value)] => store.set(key, value, 0),
                        _ => store.change(&changes),
                    };
                    match done {
                        Ok(()) => model.extend(pairs.into_iter().map(|(key, value)| (key, (value, 0)))),
                        Err(error) => prop_assert!(matches!(error, StoreError::Full), "{}", error),
                    }
                }
                Act::Remove(keys) => {
                    let keys: Vec<_> = keys.into_iter().map(key).collect();
                    let slices: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
                    let there = store.remove(&slices, now).unwrap();
                    let removed = keys.iter().filter(|key| model.remove(*key).is_some()).count();
                    prop_assert_eq!(there, removed);
                }
                Act::Expire(number, later) => {
                    let there = store.expire(&key(number), now + later, now).unwrap();
                    let has = model.get_mut(&key(number));
                    prop_assert_eq!(there, has.is_some());
                    has.into_iter().for_each(|(_, expires)| *expires = now + later);
                }
                Act::Later(time) => {
                    now += time;
                    store.expire_some(now).unwrap();
                }
                Act::Clear => {
                    store.clear().unwrap();
                    model.clear();
                }
                Act::NextLife => store = open(&words).unwrap(),
            }
            let is_there = |(_, expires): &(Vec<u8>, u64)| *expires == 0 || *expires > now;
            let there = model.iter().filter(|(_, value)| is_there(value));
            let there: Contents = there.map(|(key, (value, _))| (key.clone(), value.clone())).collect();
            let keys: Vec<_> = (0..12).map(key).collect();
            let value = |key: &Vec<u8>| Some((key.clone(), store.get(key, now)?.bytes.into_owned()));
            let has: Contents = keys.iter().filter_map(value).collect();
            prop_assert_eq!(&has, &there);
            let listed: BTreeSet<Vec<u8>> = store.keys(now).map(<[u8]>::to_vec).collect();
            prop_assert!(listed.iter().eq(there.keys()));
            // This small, a step is a whole pass: where none is due, nothing is left of what has expired.
            if store.expires_next().is_none_or(|due| due > now + PAUSE_MS) {
                prop_assert_eq!(store.len(), there.len());
                let long = there.iter().map(|(k, v)| k.len() + v.len()).filter(|len| *len > SHORT);
                prop_assert_eq!(store.objects.pieces(), long.map(|len| len.div_ceil(PIECE)).sum::<usize>());
            }
        }
    }
}
