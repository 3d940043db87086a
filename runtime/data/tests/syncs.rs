//! `sync` of every structure reaches all of its blocks: against a failure of the power a half is nothing.
#![allow(clippy::unwrap_used)] // in the helpers of tests, too

use std::collections::BTreeMap;
use std::io;
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use refrain_data::blocks::BlocksError;
use refrain_data::heap::{Heap, HeapVec};
use refrain_data::{Blocks, ByteLog, Cell, Log, Map, Memory, Region};
use refrain_sys::mapping::{SharedWords, create_words};

/// The memory of one block, which counts how often it was written to its storage.
struct Storage {
    words: SharedWords,
    syncs: AtomicUsize,
}

impl Memory for Storage {
    fn words(&self) -> &[AtomicU64] {
        &self.words
    }

    fn sync(&self) -> io::Result<()> {
        self.syncs.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

/// Blocks that are each a memory of their own, as those of a bank are.
#[derive(Clone, Default)]
struct Disk(Arc<Mutex<BTreeMap<u32, Arc<Storage>>>>);

impl Disk {
    /// How often each block was written to its storage since the last look.
    fn syncs(&self) -> Vec<usize> {
        let blocks = self.0.lock().unwrap();
        let counts = blocks.values();
        counts
            .map(|block| block.syncs.swap(0, Ordering::SeqCst))
            .collect()
    }

    fn assert_all_synced(&self, blocks: usize) {
        let syncs = self.syncs();
        assert_eq!(syncs.len(), blocks);
        assert!(syncs.iter().all(|count| *count > 0), "{syncs:?}");
    }
}

impl Blocks for Disk {
    fn block(&mut self, number: u32, bytes: usize) -> Result<Region, BlocksError> {
        let mut blocks = self.0.lock().unwrap();
        let block = blocks.entry(number).or_insert_with(|| {
            let (_, words) = create_words("synced", bytes.div_ceil(8)).unwrap();
            let syncs = AtomicUsize::new(0);
            Arc::new(Storage { words, syncs })
        });
        Ok(Region::new(Arc::clone(block)).ok_or("a memfd begins at a page")?)
    }

    fn free(&mut self, number: u32) -> Result<(), BlocksError> {
        self.0.lock().unwrap().remove(&number);
        Ok(())
    }

    fn writer(&self) -> Result<NonZeroU64, BlocksError> {
        Ok(NonZeroU64::MIN)
    }

    fn is_alive(&self, _writer: NonZeroU64) -> Result<bool, BlocksError> {
        Ok(false)
    }
}

#[test]
fn h32_a_sync_of_a_cell_and_of_logs_reaches_root_and_body() {
    let disk = Disk::default();
    let mut cell = Cell::<[u64; 1000]>::open(disk.clone()).unwrap();
    cell.set(&[7; 1000]);
    assert!(
        disk.syncs().iter().all(|count| *count == 0),
        "not by itself"
    );
    cell.sync().unwrap();
    disk.assert_all_synced(2);

    let disk = Disk::default();
    let mut log = Log::<u64>::open(disk.clone(), 100).unwrap();
    log.append(&7);
    log.sync().unwrap();
    disk.assert_all_synced(2);

    let disk = Disk::default();
    let mut log = ByteLog::open(disk.clone(), 4096).unwrap();
    log.append(b"seven").unwrap();
    log.sync().unwrap();
    disk.assert_all_synced(2);
}

#[test]
fn h32_a_sync_of_a_map_that_has_grown_reaches_every_generation() {
    let disk = Disk::default();
    let mut map = Map::<u64, u64>::open(disk.clone(), 10).unwrap();
    for key in 0..100 {
        map.insert(&key, &key).unwrap();
    }
    map.sync().unwrap();
    // The root, and 16, 32, 64 and 128 slots.
    disk.assert_all_synced(5);
}

#[test]
fn h32_a_sync_of_a_heap_reaches_root_and_values() {
    let disk = Disk::default();
    let mut heap = Heap::<HeapVec<u64>>::open(disk.clone(), 1 << 20).unwrap();
    heap.update(|root| root.push(7)).unwrap();
    heap.sync().unwrap();
    disk.assert_all_synced(2);
}
