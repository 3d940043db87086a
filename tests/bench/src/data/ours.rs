//! Our types. Each operation is atomic by itself: no crash of the process at any instruction tears or loses it.

use std::path::Path;

use anyhow::{Context, Result, bail};
use refrain::{Cell, Log, Map};
use refrain_data::heap::{Heap, HeapMap};

use super::file::FileBlocks;
use super::subject::{Op, Subject, check, stamp, value};

/// What a type needs for a value beside it, at most, in bytes.
const OVERHEAD: usize = 128;
const MIB: usize = 1 << 20;
/// Keys of one transaction of a heap while it is filled: each may change a page of its own.
const AT_ONCE: usize = 1000;

/// Bytes that a map or a log of so many values has at most. What is not used takes no memory.
fn bytes<const N: usize>(capacity: usize) -> usize {
    2 * (capacity + 2).next_power_of_two() * (N + OVERHEAD) + MIB
}

/// A [`Map`].
pub struct Maps<const N: usize>(Map<u64, [u8; N]>);

impl<const N: usize> Maps<N> {
    /// That in `dir`, made if it is not there.
    ///
    /// # Errors
    /// The kernel's, and the map's.
    pub fn open(dir: &Path, capacity: usize) -> Result<Self> {
        let blocks = FileBlocks::open(&dir.join("map"), 0, bytes::<N>(capacity))?;
        Ok(Self(Map::open(blocks, capacity)?))
    }
}

impl<const N: usize> Subject for Maps<N> {
    fn load(&mut self, keys: &[u64]) -> Result<()> {
        self.put(keys)
    }

    fn unload(&mut self, keys: &[u64]) -> Result<()> {
        for key in keys {
            self.0.remove(key);
        }
        Ok(())
    }

    fn put(&mut self, keys: &[u64]) -> Result<()> {
        for &key in keys {
            self.0.insert(&key, &value(key))?;
        }
        Ok(())
    }

    fn get(&mut self, keys: &[u64]) -> Result<()> {
        for &key in keys {
            check(key, self.0.get(&key).map(<[u8; N]>::as_slice))?;
        }
        Ok(())
    }

    fn update(&mut self, keys: &[u64]) -> Result<()> {
        for &key in keys {
            let done = self.0.update(&key, |value| stamp(value, key))?;
            done.context("a key is not there")?;
        }
        Ok(())
    }
}

/// hashbrown's map in a [`Heap`], each change a transaction.
pub struct Heaps<const N: usize>(Heap<HeapMap<u64, [u8; N]>>);

impl<const N: usize> Heaps<N> {
    /// That in `dir`, made if it is not there.
    ///
    /// # Errors
    /// The kernel's, and the heap's.
    pub fn open(dir: &Path, capacity: usize) -> Result<Self> {
        let buckets = (capacity * 8 / 7 + 1).next_power_of_two();
        let table = (buckets * (N + 16)).div_ceil(MIB) + 1;
        // As much again for the pages that a transaction saves.
        let size = (2 * table + table / 32 + 2) * MIB;
        let blocks = FileBlocks::open(&dir.join("heap"), 1, size)?;
        let mut heap = Heap::<HeapMap<u64, [u8; N]>>::open(blocks, size)?;
        if heap.root().is_empty() {
            heap.update(|root| root.reserve(capacity))?;
        }
        Ok(Self(heap))
    }
}

impl<const N: usize> Subject for Heaps<N> {
    fn load(&mut self, keys: &[u64]) -> Result<()> {
        for keys in keys.chunks(AT_ONCE) {
            self.0.update(|root| {
                for &key in keys {
                    root.insert(key, value(key));
                }
            })?;
        }
        Ok(())
    }

    fn unload(&mut self, keys: &[u64]) -> Result<()> {
        self.0.update(|root| {
            for key in keys {
                root.remove(key);
            }
        })?;
        Ok(())
    }

    fn put(&mut self, keys: &[u64]) -> Result<()> {
        for &key in keys {
            self.0.update(|root| {
                root.insert(key, value(key));
            })?;
        }
        Ok(())
    }

    fn get(&mut self, keys: &[u64]) -> Result<()> {
        let root = self.0.root();
        for &key in keys {
            check(key, root.get(&key).map(<[u8; N]>::as_slice))?;
        }
        Ok(())
    }

    fn update(&mut self, keys: &[u64]) -> Result<()> {
        for &key in keys {
            let done = self
                .0
                .update(|root| root.get_mut(&key).map(|value| stamp(value, key)))?;
            done.context("a key is not there")?;
        }
        Ok(())
    }
}

/// A [`Cell`]: one value, which is changed again and again.
pub struct Cells<const N: usize>(Cell<[u8; N]>);

impl<const N: usize> Cells<N> {
    /// That in `dir`, made if it is not there.
    ///
    /// # Errors
    /// The kernel's, and the cell's.
    pub fn open(dir: &Path) -> Result<Self> {
        let blocks = FileBlocks::open(&dir.join("cell"), 2, bytes::<N>(1))?;
        Ok(Self(Cell::open(blocks)?))
    }
}

impl<const N: usize> Subject for Cells<N> {
    fn can(&self, op: Op) -> bool {
        op == Op::Update
    }

    fn load(&mut self, _keys: &[u64]) -> Result<()> {
        Ok(())
    }

    fn unload(&mut self, _keys: &[u64]) -> Result<()> {
        Ok(())
    }

    fn put(&mut self, _keys: &[u64]) -> Result<()> {
        bail!("a cell has no keys")
    }

    fn get(&mut self, _keys: &[u64]) -> Result<()> {
        bail!("a cell has no keys")
    }

    fn update(&mut self, keys: &[u64]) -> Result<()> {
        for &key in keys {
            self.0.update(|value| stamp(value, key));
        }
        Ok(())
    }
}

/// A [`Log`]: a put is a record at its end, in the place of the oldest.
pub struct Logs<const N: usize>(Log<[u8; N]>);

impl<const N: usize> Logs<N> {
    /// That in `dir`, made if it is not there.
    ///
    /// # Errors
    /// The kernel's, and the log's.
    pub fn open(dir: &Path, capacity: usize) -> Result<Self> {
        let blocks = FileBlocks::open(&dir.join("log"), 3, bytes::<N>(capacity))?;
        Ok(Self(Log::open(blocks, capacity)?))
    }
}

impl<const N: usize> Subject for Logs<N> {
    fn can(&self, op: Op) -> bool {
        op == Op::Put
    }

    fn load(&mut self, keys: &[u64]) -> Result<()> {
        self.put(keys)
    }

    fn unload(&mut self, _keys: &[u64]) -> Result<()> {
        Ok(())
    }

    fn put(&mut self, keys: &[u64]) -> Result<()> {
        for &key in keys {
            self.0.append(&value(key));
        }
        Ok(())
    }

    fn get(&mut self, _keys: &[u64]) -> Result<()> {
        bail!("a log has no keys")
    }

    fn update(&mut self, _keys: &[u64]) -> Result<()> {
        bail!("a log has no keys")
    }
}
