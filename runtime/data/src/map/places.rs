//! The places of a map's slots: memory for as many as there are, and where in one its key and its value are.
//!
//! A slot holds a word, a key and a value. Slots lie in segments, one a generation: as many as in all before it,
//! so that a number tells its segment. Used by [`Slots`](super::slots::Slots), whose one owner is the table, the
//! one writer. This is where references to keys and values are made; it must never make one outside of its
//! segment.
#![allow(unsafe_code)]

use std::sync::atomic::AtomicU64;

use crate::region::{LINE, Plain, Region, WORD};

/// Where key and value are in a slot, in bytes, and how long it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    key: usize,
    pub(super) value: usize,
    pub(super) stride: usize,
}

impl Layout {
    /// For keys and values of these sizes and alignments; `None` where that cannot be.
    #[inline]
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

/// The slots of all generations so far, as memory.
///
/// A segment has all the bytes of the slots that it stands for: [`Places::push`] sees to that once, so that a
/// look at a slot's number is all that an access to it takes.
#[derive(Debug)]
pub(super) struct Places {
    pub(super) layout: Layout,
    /// How many slots the first segment has, as a power of two.
    log2: u32,
    /// That number; 0 until there is a segment.
    in_first: u32,
    segments: Vec<Region>,
}

impl Places {
    pub(super) fn new(layout: Layout, log2: u32) -> Self {
        Self {
            layout,
            log2,
            in_first: 0,
            segments: Vec::new(),
        }
    }

    /// How many slots segment `number` has.
    pub(super) fn in_segment(log2: u32, number: u32) -> usize {
        1 << (log2 + number.saturating_sub(1))
    }

    /// Adds the next segment; `None` when it is too small for its slots.
    pub(super) fn push(&mut self, segment: Region) -> Option<()> {
        let slots = Self::in_segment(self.log2, self.segments.len() as u32);
        if segment.len() < slots.checked_mul(self.layout.stride)? {
            return None;
        }
        if self.segments.is_empty() {
            self.in_first = u32::try_from(slots).ok()?;
        }
        self.segments.push(segment);
        Some(())
    }

    /// How many slots there are.
    #[inline]
    pub(super) fn total(&self) -> u64 {
        match self.segments.len() as u32 {
            0 => 0,
            segments => 1 << (self.log2 + segments - 1),
        }
    }

    /// Each segment is in the block of its generation's index.
    pub(super) fn sync(&self) -> std::io::Result<()> {
        self.segments.iter().try_for_each(Region::sync)
    }

    /// Where a slot begins; `None` when there is no such slot. From there on, `stride` bytes are inside.
    #[inline]
    fn place(&self, slot: u32, stride: usize) -> Option<*mut u8> {
        debug_assert_eq!(stride, self.layout.stride, "it is there to be a constant");
        if slot >= self.in_first {
            return self.place_further(slot);
        }
        let first = self.segments.first()?.as_ptr();
        Some(first.wrapping_add(slot as usize * stride))
    }

    /// The same behind the first segment: most maps are made large enough.
    #[cold]
    fn place_further(&self, slot: u32) -> Option<*mut u8> {
        let generation = u32::BITS - (slot >> self.log2).leading_zeros();
        let segment = self.segments.get(generation as usize)?;
        let before = Self::in_segment(self.log2, generation);
        let at = (slot as usize - before) * self.layout.stride;
        Some(segment.as_ptr().wrapping_add(at))
    }

    /// The word of a slot.
    #[inline]
    pub(super) fn word(&self, slot: u32) -> Option<&AtomicU64> {
        let place = self.place(slot, self.layout.stride)?;
        // SAFETY: a slot begins with its word, at a multiple of 8 in a segment that the borrow keeps.
        Some(unsafe { &*place.cast() })
    }

    /// Where the key in a slot is; `None` when there is no such slot, or its keys are not `K`.
    #[inline]
    fn key_place<K>(&self, slot: u32) -> Option<*mut K> {
        let Layout { key, stride, .. } = self.layout;
        let place = self.place(slot, stride).filter(|_| self.has_keys::<K>())?;
        Some(place.wrapping_add(key).cast())
    }

    #[inline]
    fn has_keys<K>(&self) -> bool {
        let Layout { key, value, .. } = self.layout;
        key + size_of::<K>() <= value && key.is_multiple_of(align_of::<K>())
    }

    /// Where the value in a slot is; `None` when there is no such slot, or its values are not `V`.
    #[inline]
    fn value_place<V>(&self, slot: u32) -> Option<*mut V> {
        let Layout { value, stride, .. } = self.layout;
        let fits = value + size_of::<V>() <= stride && value.is_multiple_of(align_of::<V>());
        let place = self.place(slot, stride).filter(|_| fits)?;
        Some(place.wrapping_add(value).cast())
    }

    /// What finds keys `K`; `None` when its keys are others.
    #[inline]
    pub(super) fn keys<'a, K: Plain>(&'a self) -> Option<impl Fn(u32) -> Option<&'a K>> {
        let Layout { key, stride, .. } = self.layout;
        self.has_keys::<K>().then_some(move |slot| {
            let place = self.place(slot, stride)?.wrapping_add(key);
            // SAFETY: inside and aligned; the table is the one writer, and changes a slot by `&mut self` only.
            Some(unsafe { &*place.cast() })
        })
    }

    /// What finds entries of keys `K` and values `V`; `None` when its entries are not of that layout.
    #[inline]
    pub(super) fn entries<'a, K: Plain, V: Plain>(
        &'a self,
    ) -> Option<impl Fn(u32) -> Option<(&'a K, &'a V)>> {
        // Known to the compiler, other than the same numbers in `self`.
        let key = (size_of::<K>(), align_of::<K>());
        let layout = Layout::new(key, (size_of::<V>(), align_of::<V>()))?;
        (layout == self.layout).then_some(move |slot| {
            let place = self.place(slot, layout.stride)?;
            // SAFETY: inside and aligned, by the layout; who writes is said above.
            let key = unsafe { &*place.wrapping_add(layout.key).cast() };
            // SAFETY: as for the key.
            let value = unsafe { &*place.wrapping_add(layout.value).cast() };
            Some((key, value))
        })
    }

    /// The key in a slot.
    #[inline]
    pub(super) fn key<K: Plain>(&self, slot: u32) -> Option<&K> {
        // SAFETY: inside and aligned; the table is the one writer, and changes a slot by `&mut self` only.
        self.key_place(slot).map(|place| unsafe { &*place })
    }

    /// The value in a slot.
    #[inline]
    pub(super) fn value<V: Plain>(&self, slot: u32) -> Option<&V> {
        // SAFETY: as for the key.
        self.value_place(slot).map(|place| unsafe { &*place })
    }

    /// The value in a slot that is free, to be filled in.
    #[inline]
    pub(super) fn value_mut<V: Plain>(&mut self, slot: u32) -> Option<&mut V> {
        // SAFETY: inside and aligned; `&mut self` keeps every other reference away.
        self.value_place(slot).map(|place| unsafe { &mut *place })
    }

    /// Copies a value from slot to slot; the latter is free.
    #[inline]
    pub(super) fn copy_value<V: Plain>(&mut self, from: u32, to: u32) -> Option<()> {
        let (from, to) = (self.value_place::<V>(from)?, self.value_place::<V>(to)?);
        // SAFETY: both are inside and aligned, and may be one; `&mut self` keeps every reference away.
        unsafe { std::ptr::copy(from, to, 1) };
        Some(())
    }

    /// Puts a key into a slot that is free.
    #[inline]
    pub(super) fn put_key<K: Plain>(&mut self, slot: u32, key: &K) -> Option<()> {
        // SAFETY: as for `value_mut`.
        let place: &mut K = unsafe { &mut *self.key_place(slot)? };
        place.as_mut_bytes().copy_from_slice(key.as_bytes());
        Some(())
    }

    /// The bytes of a value of `size` bytes, as words.
    pub(super) fn value_words(&self, slot: u32, size: usize) -> Option<&[AtomicU64]> {
        let Layout { value, stride, .. } = self.layout;
        let words = size.div_ceil(WORD);
        let fits = value + words * WORD <= stride;
        let place = self.place(slot, stride).filter(|_| fits)?;
        let first = place.wrapping_add(value).cast::<AtomicU64>();
        // SAFETY: a value begins at a multiple of 8, and `words` words of it are inside of its slot.
        Some(unsafe { std::slice::from_raw_parts(first, words) })
    }
}
