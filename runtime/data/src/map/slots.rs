//! The slots of a map: where entries are, and which are free.
//!
//! A slot holds a word, a key and a value. Slots lie in segments, one a generation: as many as in all before it,
//! so that a number tells its segment. Used by the table, which is the one writer. This is where references to
//! keys and values are made; it must never make one outside of its segment.
//!
//! Free slots are a list, through the lower half of each slot's word; behind the list, slots that were never
//! used are taken one by one. The head of the list and its length are one word, so that a pop, a push, or a
//! swap of the head for another slot is one store. The table uses the head *before* it is popped, and pushes a
//! slot before it is removed: so the head is the only slot that can be free and in use at once, and after a
//! crash one look at it tells what to finish. The upper half of a slot's word names the slot that it replaces.
#![allow(unsafe_code)]

use std::sync::atomic::{AtomicU64, Ordering};

use crate::order::publish;
use crate::region::{LINE, Plain, Region, WORD};

/// Where key and value are in a slot, in bytes, and how long it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    key: usize,
    pub(super) value: usize,
    pub(super) stride: usize,
}

impl Layout {
    /// For keys and values of these sizes and alignments; `None` where that cannot be.
    pub(super) fn new(key: (usize, usize), value: (usize, usize)) -> Option<Self> {
        let aligned = |align: usize| align.is_power_of_two() && align <= LINE;
        if !aligned(key.1) || !aligned(value.1) {
            return None;
        }
        let key_at = WORD.next_multiple_of(key.1);
        // At a word at least, and to the end of one: a value of up to a word is then one store.
        let value_at = key_at
            .checked_add(key.0)?
            .checked_next_multiple_of(value.1.max(WORD))?;
        let stride = value_at
            .checked_add(value.0)?
            .checked_next_multiple_of(key.1.max(value.1).max(WORD))?;
        Some(Self {
            key: key_at,
            value: value_at,
            stride,
        })
    }
}

/// The slots of all generations so far.
#[derive(Debug)]
pub(super) struct Slots {
    pub(super) layout: Layout,
    /// How many slots the first segment has, as a power of two.
    log2: u32,
    segments: Vec<Region>,
    /// The two words of the free list, in the root.
    hot: Region,
}

/// Offsets in `hot`.
const AT_HEAD: usize = 0;
const AT_FRESH: usize = 8;

/// The head of the free list, as it is kept in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Head {
    /// The slot's number plus one, 0 for none.
    first: u32,
    count: u32,
}

impl Head {
    fn of(word: u64) -> Self {
        Self {
            first: word as u32,
            count: (word >> 32) as u32,
        }
    }

    #[inline]
    fn word(self) -> u64 {
        u64::from(self.count) << 32 | u64::from(self.first)
    }
}

/// The word of a slot.
#[derive(Clone, Copy, Debug)]
struct Link {
    /// The next free slot plus one.
    next: u32,
    /// The slot that this one replaces, plus one.
    replaces: u32,
}

impl Link {
    fn of(word: u64) -> Self {
        Self {
            next: word as u32,
            replaces: (word >> 32) as u32,
        }
    }

    fn word(self) -> u64 {
        u64::from(self.replaces) << 32 | u64::from(self.next)
    }
}

impl Slots {
    pub(super) fn new(layout: Layout, log2: u32, hot: Region) -> Self {
        Self {
            layout,
            log2,
            segments: Vec::new(),
            hot,
        }
    }

    /// How many slots segment `number` has.
    pub(super) fn in_segment(log2: u32, number: u32) -> usize {
        1 << (log2 + number.saturating_sub(1))
    }

    /// Adds the next segment.
    pub(super) fn push(&mut self, segment: Region) {
        self.segments.push(segment);
    }

    /// How many slots there are.
    #[inline]
    pub(super) fn total(&self) -> u64 {
        match self.segments.len() as u32 {
            0 => 0,
            segments => 1 << (self.log2 + segments - 1),
        }
    }

    /// The segment of a slot, and where in it the slot begins; `None` when there is no such slot.
    #[inline]
    fn place(&self, slot: u32) -> Option<(&Region, usize)> {
        // Most maps are made large enough.
        if slot >> self.log2 == 0 {
            return Some((self.segments.first()?, slot as usize * self.layout.stride));
        }
        let generation = u32::BITS - (slot >> self.log2).leading_zeros();
        let before = 1 << (self.log2 + generation - 1);
        let segment = self.segments.get(generation as usize)?;
        Some((segment, (slot as usize - before) * self.layout.stride))
    }

    #[inline]
    fn link(&self, slot: u32) -> Option<&AtomicU64> {
        let (segment, at) = self.place(slot)?;
        segment.word(at)
    }

    /// The key in a slot.
    #[inline]
    pub(super) fn key<K: Plain>(&self, slot: u32) -> Option<&K> {
        let (segment, at) = self.place(slot)?;
        // SAFETY: the table is the one writer, and changes a slot by `&mut self` only.
        unsafe { segment.view(at + self.layout.key) }
    }

    /// The value in a slot.
    #[inline]
    pub(super) fn value<V: Plain>(&self, slot: u32) -> Option<&V> {
        let (segment, at) = self.place(slot)?;
        // SAFETY: as for the key.
        unsafe { segment.view(at + self.layout.value) }
    }

    /// Key and value in a slot.
    #[inline]
    pub(super) fn entry<K: Plain, V: Plain>(&self, slot: u32) -> Option<(&K, &V)> {
        let (segment, at) = self.place(slot)?;
        // SAFETY: as for the key.
        let key = unsafe { segment.view(at + self.layout.key) }?;
        // SAFETY: as for the key.
        let value = unsafe { segment.view(at + self.layout.value) }?;
        Some((key, value))
    }

    /// The value in a slot that is free, to be filled in.
    #[inline]
    pub(super) fn value_mut<V: Plain>(&mut self, slot: u32) -> Option<&mut V> {
        let (segment, at) = self.place(slot)?;
        // SAFETY: `&mut self` keeps every other reference away.
        unsafe { segment.view_mut(at + self.layout.value) }
    }

    /// Copies a value from slot to slot; the latter is free.
    #[inline]
    pub(super) fn copy_value<V: Plain>(&mut self, from: u32, to: u32) -> Option<()> {
        let ((first, from), (second, to)) = (self.place(from)?, self.place(to)?);
        let value = self.layout.value;
        // SAFETY: `&mut self` keeps every other reference away.
        unsafe { Region::copy::<V>((first, from + value), (second, to + value)) }
    }

    /// Puts a key into a slot that is free.
    #[inline]
    pub(super) fn put_key<K: Plain>(&mut self, slot: u32, key: &K) -> Option<()> {
        let (segment, at) = self.place(slot)?;
        // SAFETY: `&mut self` keeps every other reference away.
        let place: &mut K = unsafe { segment.view_mut(at + self.layout.key) }?;
        place.as_mut_bytes().copy_from_slice(key.as_bytes());
        Some(())
    }

    /// The bytes of a value of `size` bytes, as words.
    pub(super) fn value_words(&self, slot: u32, size: usize) -> Option<&[AtomicU64]> {
        let (segment, at) = self.place(slot)?;
        segment.words(at + self.layout.value, size)
    }

    /// Each segment is in the block of its generation's index.
    pub(super) fn sync(&self) -> std::io::Result<()> {
        self.segments.iter().try_for_each(Region::sync)
    }

    fn word(&self, at: usize) -> &AtomicU64 {
        self.hot
            .word(at)
            .expect("the table has a place for the free list")
    }

    #[inline]
    fn head(&self) -> Head {
        Head::of(self.word(AT_HEAD).load(Ordering::Relaxed))
    }

    #[inline]
    fn set_head(&self, head: Head) {
        publish(self.word(AT_HEAD), head.word());
    }

    #[inline]
    fn fresh(&self) -> u64 {
        self.word(AT_FRESH).load(Ordering::Relaxed)
    }

    /// Makes all slots free.
    pub(super) fn clear(&self) {
        self.word(AT_HEAD).store(0, Ordering::Relaxed);
        self.word(AT_FRESH).store(0, Ordering::Relaxed);
    }

    /// How many slots are in use.
    #[inline]
    pub(super) fn used(&self) -> u64 {
        self.fresh().saturating_sub(u64::from(self.head().count))
    }

    /// How many are free.
    #[inline]
    pub(super) fn free(&self) -> u64 {
        self.total().saturating_sub(self.used())
    }

    /// The slot to be filled next, with a note of the one that it will replace. It stays free until one of the
    /// two calls below.
    #[inline]
    pub(super) fn offer(&mut self, replaces: Option<u32>) -> Option<u32> {
        if self.head().first == 0 {
            self.refill()?;
        }
        let slot = self.head().first.wrapping_sub(1);
        let link = self.link(slot)?;
        let Link { next, .. } = Link::of(link.load(Ordering::Relaxed));
        let replaces = replaces.map_or(0, |slot| slot + 1);
        publish(link, Link { next, replaces }.word());
        Some(slot)
    }

    /// A slot that was never used becomes the list.
    fn refill(&self) -> Option<()> {
        let fresh = self.fresh();
        if fresh >= self.total() {
            return None;
        }
        let slot = u32::try_from(fresh).ok()?;
        let (next, replaces) = (0, 0);
        publish(self.link(slot)?, Link { next, replaces }.word());
        let (first, count) = (slot + 1, 1);
        self.set_head(Head { first, count });
        publish(self.word(AT_FRESH), fresh + 1);
        Some(())
    }

    /// The offered slot is in use, and what it replaces is free: the end of an insertion or an update.
    #[inline]
    pub(super) fn settle(&mut self) -> Option<()> {
        let Head { first, count } = self.head();
        let Link { next, replaces } =
            Link::of(self.link(first.wrapping_sub(1))?.load(Ordering::Relaxed));
        if replaces == 0 {
            let (first, count) = (next, count.saturating_sub(1));
            self.set_head(Head { first, count });
        } else {
            let link = self.link(replaces.wrapping_sub(1))?;
            publish(link, Link { next, replaces: 0 }.word());
            let first = replaces;
            self.set_head(Head { first, count });
        }
        Some(())
    }

    /// Puts a slot that is in use at the head of the list: the begin of a removal.
    pub(super) fn push_free(&mut self, slot: u32) -> Option<()> {
        let Head { first, count } = self.head();
        let (next, replaces) = (first, 0);
        publish(self.link(slot)?, Link { next, replaces }.word());
        let (first, count) = (slot + 1, count.saturating_add(1));
        self.set_head(Head { first, count });
        Some(())
    }

    /// After a crash: the slot that may be free and in use at once.
    pub(super) fn recover(&self) -> Option<u32> {
        let head = self.head();
        // Between the two stores of a refill.
        if head.first != 0 && u64::from(head.first) == self.fresh().wrapping_add(1) {
            publish(self.word(AT_FRESH), u64::from(head.first));
        }
        head.first.checked_sub(1)
    }
}
