//! Which slots of a map are free.
//!
//! Used by the table, which is the one writer; where slots are knows [`Places`].
//!
//! Free slots are a list, through the lower half of each slot's word; behind the list, slots that were never
//! used are taken one by one. The head of the list and its length are one word, so that a pop, a push, or a
//! swap of the head for another slot is one store. The table uses the head *before* it is popped, and pushes a
//! slot before it is removed: so the head is the only slot that can be free and in use at once, and after a
//! crash one look at it tells what to finish. The upper half of a slot's word names the slot that it replaces.
use std::sync::atomic::{AtomicU64, Ordering};

use crate::map::places::Places;
use crate::order::publish;
use crate::region::Region;

/// The slots of all generations so far, and the list of those that are free.
#[derive(Debug)]
pub(super) struct Slots {
    pub(super) places: Places,
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

/// A free slot that is about to be in use: the head of the free list, and what it says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Offer {
    pub(super) slot: u32,
    /// How long the list is.
    count: u32,
    link: Link,
}

impl Slots {
    pub(super) fn new(places: Places, hot: Region) -> Self {
        Self { places, hot }
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
        self.places.total().saturating_sub(self.used())
    }

    /// The slot to be filled next, with a note of the one that it will replace. It stays free until it is settled.
    #[inline]
    pub(super) fn offer(&mut self, replaces: Option<u32>) -> Option<Offer> {
        let mut head = self.head();
        if head.first == 0 {
            head = self.refill()?;
        }
        let slot = head.first.wrapping_sub(1);
        let link = self.places.word(slot)?;
        let Link { next, .. } = Link::of(link.load(Ordering::Relaxed));
        let replaces = replaces.map_or(0, |slot| slot + 1);
        publish(link, Link { next, replaces }.word());
        Some(Offer {
            slot,
            count: head.count,
            link: Link { next, replaces },
        })
    }

    /// A slot that was never used becomes the list.
    #[cold]
    fn refill(&self) -> Option<Head> {
        let fresh = self.fresh();
        if fresh >= self.places.total() {
            return None;
        }
        let slot = u32::try_from(fresh).ok()?;
        let (next, replaces) = (0, 0);
        publish(self.places.word(slot)?, Link { next, replaces }.word());
        let (first, count) = (slot + 1, 1);
        let head = Head { first, count };
        self.set_head(head);
        publish(self.word(AT_FRESH), fresh + 1);
        Some(head)
    }

    /// The offered slot is in use, and what it replaces is free: the end of an insertion or an update.
    #[inline]
    pub(super) fn settle(&mut self, offer: Offer) -> Option<()> {
        let Offer { count, link, .. } = offer;
        let Link { next, replaces } = link;
        if replaces == 0 {
            let (first, count) = (next, count.saturating_sub(1));
            self.set_head(Head { first, count });
        } else {
            let link = self.places.word(replaces.wrapping_sub(1))?;
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
        publish(self.places.word(slot)?, Link { next, replaces }.word());
        let (first, count) = (slot + 1, count.saturating_add(1));
        self.set_head(Head { first, count });
        Some(())
    }

    /// After a crash: the slot that may be free and in use at once.
    pub(super) fn recover(&self) -> Option<Offer> {
        let Head { first, count } = self.head();
        // Between the two stores of a refill.
        if first != 0 && u64::from(first) == self.fresh().wrapping_add(1) {
            publish(self.word(AT_FRESH), u64::from(first));
        }
        let slot = first.checked_sub(1)?;
        let link = Link::of(self.places.word(slot)?.load(Ordering::Relaxed));
        Some(Offer { slot, count, link })
    }
}
