//! Several changes at once: all of them, or none, whenever the life ends.
//!
//! Called by `store.rs`. A journal in one cell says how far a batch has come; objects hold the new values and the
//! record of what is to be done. Each step below is one operation of one structure, or is taken back or done again
//! as a whole.
//!
//! | phase | what is done in it | after a crash in it |
//! | --- | --- | --- |
//! | idle | nothing | nothing |
//! | preparing | objects with long values and the record are written | they are freed |
//! | reserving | keys that are new get a place in the map, hidden from clients | the places and the objects are freed |
//! | committed | each item is put or removed, its old object freed; at last the record | the same, from the begin |
//! | clearing | everything is removed | the same |
//!
//! The step to *committed* is one store: before it none of the changes have happened, after it all have. Nothing
//! behind it can fail: each item has its place. It must never free an object that an item may still point at.

use std::collections::HashSet;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::store::{Digest, Item, Store, StoreError};

const IDLE: u64 = 0;
const PREPARING: u64 = 1;
const RESERVING: u64 = 2;
const COMMITTED: u64 = 3;
const CLEARING: u64 = 4;

/// The journal, and what else is one of a kind.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct State {
    /// What digests are made with; drawn once.
    pub seed: [u64; 2],
    phase: u64,
    /// The number of the next object; 0 in a new store, whose first one is 1.
    next: u64,
    /// The object with the record of the batch; values are in those behind it.
    record: u64,
    /// How many objects the batch has, the record among them.
    objects: u64,
    /// How many steps are in its record.
    steps: u64,
}

/// A change of one key: a value and the moment at which it ends, or none.
pub struct Change<'a> {
    key: &'a [u8],
    value: Option<(&'a [u8], u64)>,
}

/// What is to be done with one item: a line of the record.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Step {
    digest: Digest,
    /// The object that is freed; 0 is none.
    old: u64,
    /// Whether `item` is put; else the one that is there is removed.
    puts: u64,
    item: Item,
}

impl<'a> Change<'a> {
    /// A key gets a value.
    pub fn set(key: &'a [u8], value: &'a [u8], expires: u64) -> Self {
        let value = Some((value, expires));
        Self { key, value }
    }

    /// A key is removed.
    pub fn remove(key: &'a [u8]) -> Self {
        Self { key, value: None }
    }
}

/// Makes all changes; of several to one key, the last.
pub fn apply(store: &mut Store, changes: &[Change]) -> Result<(), StoreError> {
    let mut met = HashSet::new();
    let mut steps = Vec::new();
    for change in changes.iter().rev().filter(|change| met.insert(change.key)) {
        let (digest, item) = store.place(change.key)?;
        let old = item.map_or(0, |item| item.object);
        steps.push((change, digest, old));
    }
    store.state.update(|state| {
        state.steps = steps.len() as u64;
        state.objects = 1 + state.steps;
        state.record = state.next.max(1);
        state.next = state.record + state.objects;
        state.phase = PREPARING;
    });
    let prepared = prepare(store, &steps);
    if prepared.is_err() {
        take_back(store)?;
    } else {
        store.state.update(|state| state.phase = COMMITTED);
        finish(store)?;
    }
    prepared
}

/// Up to where nothing can fail any more.
fn prepare(store: &mut Store, changes: &[(&Change, Digest, u64)]) -> Result<(), StoreError> {
    let record = store.state.get().record;
    let mut bytes = Vec::with_capacity(changes.len() * size_of::<Step>());
    for ((change, digest, old), object) in changes.iter().zip(record + 1..) {
        let item = match change.value {
            None => None,
            Some((value, expires)) => Some(match Item::short(change.key, value, expires) {
                Some(item) => item,
                None => {
                    store.objects.write(object, &[change.key, value].concat())?;
                    let lens = (change.key.len(), value.len());
                    Item::long(lens, object, expires).ok_or(StoreError::Full)?
                }
            }),
        };
        let step = Step {
            digest: *digest,
            old: *old,
            puts: u64::from(item.is_some()),
            item: item.unwrap_or_else(Item::reserved),
        };
        bytes.extend(step.as_bytes());
    }
    store.objects.write(record, &bytes)?;
    store.state.update(|state| state.phase = RESERVING);
    for (change, digest, _) in changes {
        if change.value.is_some() && !store.items.contains_key(digest) {
            store.items.insert(digest, &Item::reserved())?;
        }
    }
    Ok(())
}

/// The steps of the batch that is under way.
fn record(store: &Store) -> Result<Vec<Step>, StoreError> {
    let state = store.state.get();
    let steps = usize::try_from(state.steps).ok();
    let len = steps.and_then(|steps| steps.checked_mul(size_of::<Step>()));
    let bytes = len.and_then(|len| store.objects.read(state.record, 0..len));
    let bytes = bytes.ok_or(StoreError::Damaged("a batch without its record"))?;
    let steps = bytes.chunks(size_of::<Step>()).map(Step::read_from_bytes);
    steps
        .collect::<Result<_, _>>()
        .map_err(|_| StoreError::Damaged("half a step in a record"))
}

/// Undoes what does not count.
fn take_back(store: &mut Store) -> Result<(), StoreError> {
    if store.state.get().phase == RESERVING {
        for Step { digest, .. } in record(store)? {
            if store.items.get(&digest).is_some_and(Item::is_reserved) {
                store.items.remove(&digest);
            }
        }
        // From here on the record is not needed, and may be half gone after the next crash.
        store.state.update(|state| state.phase = PREPARING);
    }
    let state = *store.state.get();
    for object in (state.record..).take(usize::try_from(state.objects).unwrap_or(0)) {
        store.objects.free(object);
    }
    store.state.update(|state| state.phase = IDLE);
    Ok(())
}

/// Does what counts already.
fn finish(store: &mut Store) -> Result<(), StoreError> {
    for step in record(store)? {
        if step.puts != 0 {
            store.items.insert(&step.digest, &step.item)?;
        } else {
            store.items.remove(&step.digest);
        }
        if step.old != 0 {
            store.objects.free(step.old);
        }
    }
    // The values belong to items now. The record is left, and goes as one goes that was not finished.
    store.state.update(|state| {
        state.objects = 1;
        state.phase = PREPARING;
    });
    take_back(store)
}

/// Removes everything.
pub fn clear(store: &mut Store) -> Result<(), StoreError> {
    store.state.update(|state| state.phase = CLEARING);
    let all: Vec<Digest> = store.items.iter().map(|(digest, _)| *digest).collect();
    for digest in all {
        store.items.remove(&digest);
    }
    store.objects.clear();
    store.state.update(|state| state.phase = IDLE);
    Ok(())
}

/// Brings a store that a crash has left to one of the two sides.
pub fn recover(store: &mut Store) -> Result<(), StoreError> {
    match store.state.get().phase {
        IDLE => Ok(()),
        PREPARING | RESERVING => take_back(store),
        COMMITTED => finish(store),
        CLEARING => clear(store),
        _ => Err(StoreError::Damaged("a phase that there is not")),
    }
}
