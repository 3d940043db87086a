//! The table of a map: index and slots together, each change atomic.
//!
//! Used by [`Map`](crate::Map), which knows the types of values; the table knows their size. It must never leave
//! an order of stores in which a crash shows half of a change.
//!
//! | change | stores, in this order | counts from |
//! | --- | --- | --- |
//! | insert | entry into the head of the free list; bucket; head popped | the bucket |
//! | update | the same, with a note of the old slot; head becomes the old slot | the bucket |
//! | remove | slot becomes the head; word `closing`; buckets move up; `closing` cleared | `closing` |
//! | grow | a larger index and more slots in the next block; generation | the generation |
//!
//! Opening finishes what a crash has cut: a removal that counts is gone on with, and a head that a
//! bucket points at is popped. That is a look at three words and one probe, whatever the size.

use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::blocks::Blocks;
use crate::error::{OpenError, damaged};
use crate::map::hash::Seed;
use crate::map::index::{Index, Probe};
use crate::map::places::{Layout, Places};
use crate::map::slots::Slots;
use crate::order::publish;
use crate::region::{LINE, Plain, Region};

/// Offsets in the table's words in the root, behind the free list's two.
const AT_GENERATION: usize = 16;
const AT_CLOSING: usize = 24;
const AT_SEED: usize = 32;
/// The size of these words.
pub(super) const HOT: usize = LINE;

/// Blocks of a set: one a generation.
const GENERATIONS: u32 = 24;

/// The most slots that the first generation has, as a power of two.
pub(super) const MAX_LOG2: u32 = 30;

/// What is said of a block that cannot hold its generation.
const TOO_SMALL: OpenError = damaged("a block is too small");

/// How large a table begins and where it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub(super) layout: Layout,
    /// Slots of the first generation, as a power of two.
    pub(super) log2: u32,
    /// Which of two sets of blocks it is in: 0 or 1. A migration fills the other one.
    pub(super) set: u32,
}

impl Shape {
    /// Buckets are twice as many as slots: at most half of them are filled.
    fn index_log2(self, generation: u32) -> u32 {
        self.log2 + generation + 1
    }

    /// The size of a generation's block in bytes; `None` past what can be.
    pub(super) fn block_bytes(self, generation: u32) -> Option<usize> {
        let index = Index::bytes(self.index_log2(generation))?.checked_next_multiple_of(LINE)?;
        let slots = Places::in_segment(self.log2, generation).checked_mul(self.layout.stride)?;
        index.checked_add(slots.checked_next_multiple_of(LINE)?)
    }

    /// The number of a generation's block: the sets take turns.
    pub(super) fn block(self, generation: u32) -> u32 {
        1 + 2 * generation + self.set
    }

    /// Gives every block of its set back.
    pub(super) fn free(self, blocks: &mut dyn Blocks) -> Result<(), OpenError> {
        (0..GENERATIONS).try_for_each(|number| crate::blocks::free(blocks, self.block(number)))
    }

    fn generation(
        self,
        blocks: &mut dyn Blocks,
        generation: u32,
    ) -> Result<(Index, Region), OpenError> {
        let bytes = self
            .block_bytes(generation)
            .ok_or(damaged("its size is none"))?;
        let region = crate::blocks::get(blocks, self.block(generation), bytes)?;
        let log2 = self.index_log2(generation);
        let parts = Index::bytes(log2).and_then(|len| {
            let at = len.checked_next_multiple_of(LINE)?;
            Some((Index::over(&region, log2)?, region.part(at, bytes - at)?))
        });
        parts.ok_or(TOO_SMALL)
    }
}

/// A table of keys `K` and of values of one size.
#[derive(Debug)]
pub(super) struct Table<K> {
    shape: Shape,
    hot: Region,
    seed: Seed,
    index: Index,
    pub(super) slots: Slots,
    of: PhantomData<K>,
}

/// The table is not what this library writes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Broken;

impl<K: Plain> Table<K> {
    /// Makes an empty one. It counts when the root says so.
    pub(super) fn create(
        shape: Shape,
        hot: Region,
        blocks: &mut dyn Blocks,
    ) -> Result<Self, OpenError> {
        let seed = Seed::draw();
        let word = |at| hot.word(at).ok_or(damaged("a root is too small"));
        for (number, part) in seed.0.into_iter().enumerate() {
            word(AT_SEED + number * size_of::<u64>())?.store(part, Ordering::Relaxed);
        }
        word(AT_GENERATION)?.store(0, Ordering::Relaxed);
        word(AT_CLOSING)?.store(0, Ordering::Relaxed);
        let (index, segment) = shape.generation(blocks, 0)?;
        index.clear();
        let mut slots = Slots::new(Places::new(shape.layout, shape.log2), hot.clone());
        slots.clear();
        slots.places.push(segment).ok_or(TOO_SMALL)?;
        Ok(Self {
            shape,
            hot,
            seed,
            index,
            slots,
            of: PhantomData,
        })
    }

    /// Opens one, and finishes what a crash has cut.
    pub(super) fn open(
        shape: Shape,
        hot: Region,
        blocks: &mut dyn Blocks,
    ) -> Result<Self, OpenError> {
        let load = |at| {
            let word = hot.word(at).ok_or(damaged("a root is too small"))?;
            Ok::<_, OpenError>(word.load(Ordering::Acquire))
        };
        let seed = Seed([load(AT_SEED)?, load(AT_SEED + size_of::<u64>())?]);
        let newest = load(AT_GENERATION)?;
        if newest >= u64::from(GENERATIONS) {
            return Err(damaged("it has grown more often than it can"));
        }
        let mut slots = Slots::new(Places::new(shape.layout, shape.log2), hot.clone());
        let (mut index, segment) = shape.generation(blocks, 0)?;
        slots.places.push(segment).ok_or(TOO_SMALL)?;
        for generation in 1..=newest as u32 {
            let (newer, segment) = shape.generation(blocks, generation)?;
            slots.places.push(segment).ok_or(TOO_SMALL)?;
            index = newer;
        }
        let mut table = Self {
            shape,
            hot,
            seed,
            index,
            slots,
            of: PhantomData,
        };
        table.recover();
        Ok(table)
    }

    fn recover(&mut self) {
        let closing = self.closing().load(Ordering::Relaxed);
        if let Some(gap) = closing.checked_sub(1) {
            self.close(gap as usize);
        }
        let Some(offer) = self.slots.recover() else {
            return;
        };
        let Some(key) = self.slots.places.key::<K>(offer.slot) else {
            return;
        };
        let hash = self.seed.hash(key.as_bytes());
        if let Probe::Found(..) = self.index.probe(hash, |slot| slot == offer.slot) {
            // A removal that does not count yet, or an entry that does.
            let _ = self.slots.settle(offer);
        }
    }

    fn closing(&self) -> &AtomicU64 {
        self.hot
            .word(AT_CLOSING)
            .expect("checked when it was opened")
    }

    fn close(&mut self, bucket: usize) {
        let closing = self.closing();
        self.index
            .close(bucket, |gap| publish(closing, gap as u64 + 1));
        publish(closing, 0);
    }

    /// Looks for a key.
    #[inline]
    pub(super) fn probe(&self, key: &K) -> (u32, Probe) {
        let hash = self.seed.hash(key.as_bytes());
        let Some(has) = self.slots.places.keys::<K>() else {
            return (hash, Probe::Nowhere);
        };
        let is_it = |slot| has(slot).is_some_and(|has| has.as_bytes() == key.as_bytes());
        (hash, self.index.probe(hash, is_it))
    }

    /// The value of a key.
    #[inline]
    pub(super) fn find<V: Plain>(&self, key: &K) -> Option<&V> {
        let hash = self.seed.hash(key.as_bytes());
        let entry = self.slots.places.entries::<K, V>()?;
        let mut value = None;
        self.index.probe(hash, |slot| {
            let found = entry(slot).filter(|(has, _)| has.as_bytes() == key.as_bytes());
            value = found.map(|(_, value)| value);
            value.is_some()
        });
        value
    }

    /// How many entries there are.
    pub(super) fn len(&self) -> u64 {
        self.slots.used()
    }

    /// Whether there is room for another key. One slot stays free for updates.
    #[inline]
    pub(super) fn has_room(&self) -> bool {
        self.slots.free() > 1
    }

    /// Puts an entry where a probe for its key has come to: `fill` is given the places, a free slot for the value,
    /// and the slot with the key's old value. The caller has seen to room. Whatever `fill` does before it
    /// returns is not seen after a crash.
    #[inline]
    pub(super) fn put<R>(
        &mut self,
        key: &K,
        (hash, probe): (u32, Probe),
        fill: impl FnOnce(&mut Places, u32, Option<u32>) -> Option<R>,
    ) -> Result<R, Broken> {
        let (bucket, old) = match probe {
            Probe::Found(bucket, slot) => (bucket, Some(slot)),
            Probe::Empty(bucket) => (bucket, None),
            Probe::Nowhere => return Err(Broken),
        };
        let offer = self.slots.offer(old).ok_or(Broken)?;
        self.slots.places.put_key(offer.slot, key).ok_or(Broken)?;
        let result = fill(&mut self.slots.places, offer.slot, old).ok_or(Broken)?;
        self.index.point(bucket, hash, offer.slot);
        self.slots.settle(offer).ok_or(Broken)?;
        Ok(result)
    }

    /// Takes a key out; what it had is still in its slot, which is free now.
    pub(super) fn remove(&mut self, key: &K) -> Option<u32> {
        let (_, Probe::Found(bucket, slot)) = self.probe(key) else {
            return None;
        };
        self.slots.push_free(slot)?;
        self.close(bucket);
        Some(slot)
    }

    /// Doubles the table, in a further block.
    pub(super) fn grow(&mut self, blocks: &mut dyn Blocks) -> Result<(), OpenError> {
        let word = self.hot.word(AT_GENERATION);
        let word = word.expect("checked when it was opened");
        let next = word.load(Ordering::Relaxed).saturating_add(1);
        if next >= u64::from(GENERATIONS) {
            return Err(damaged("it has grown as often as it can"));
        }
        let (index, segment) = self.shape.generation(blocks, next as u32)?;
        index.clear();
        index
            .take_all(&self.index)
            .ok_or(damaged("its index does not fit into a larger one"))?;
        self.slots.places.push(segment).ok_or(TOO_SMALL)?;
        publish(word, next);
        self.index = index;
        Ok(())
    }

    /// Where a migration left something, or comes from.
    pub(super) fn other_set(&self) -> Shape {
        Shape {
            set: 1 - self.shape.set.min(1),
            ..self.shape
        }
    }

    pub(super) fn sync(&self) -> std::io::Result<()> {
        self.slots.places.sync()
    }

    /// Every slot that is in use.
    pub(super) fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.index.slots()
    }

    /// Some of the slots in use, from the hash `from` on, and the hash to go on from.
    pub(super) fn stretch(
        &self,
        from: u32,
        buckets: usize,
    ) -> (impl Iterator<Item = u32> + '_, Option<u32>) {
        self.index.stretch(from, buckets)
    }
}
