//! Hash maps and sets that live in a heap.
//!
//! Used by actors inside transactions. Inside is hashbrown's map, with a hash that is the same in every life. They
//! must never hand that map out to be changed: empty, it points at a constant in the program's image, which
//! lies elsewhere once the program is loaded anew. So one without memory is not kept: there is none then.
#![allow(unsafe_code)]

use std::borrow::Borrow;
use std::fmt;
use std::hash::Hash;

use hashbrown::hash_map::{self, Entry, Keys, Values};

use crate::heap::alloc::HeapAlloc;
use crate::heap::hash::HeapHash;
use crate::heap::safe::{HeapSafe, Shape};

type Inner<K, V> = hashbrown::HashMap<K, V, HeapHash, HeapAlloc>;

/// A hash map in a heap.
///
/// Iterators, entries and the way it grows are those of hashbrown's map.
#[derive(Clone)]
pub struct HeapMap<K, V>(Option<Inner<K, V>>);

/// A hash set in a heap.
#[derive(Clone)]
pub struct HeapSet<T>(HeapMap<T, ()>);

// SAFETY: values that may be kept, in memory of the heap that they are in; a map without memory, which points
// elsewhere, is none (see above).
unsafe impl<K: HeapSafe, V: HeapSafe> HeapSafe for HeapMap<K, V> {
    fn describe(shape: &mut Shape) {
        if shape.add::<Self>(&[]) {
            K::describe(shape);
            V::describe(shape);
        }
    }
}

// SAFETY: a map.
unsafe impl<T: HeapSafe> HeapSafe for HeapSet<T> {
    fn describe(shape: &mut Shape) {
        HeapMap::<T, ()>::describe(shape);
    }
}

impl<K, V> Default for HeapMap<K, V> {
    fn default() -> Self {
        Self(None)
    }
}

impl<K, V> HeapMap<K, V> {
    /// An empty one. Takes no memory yet.
    #[must_use]
    pub fn new() -> Self {
        Self(None)
    }

    /// How many entries it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.as_ref().map_or(0, Inner::len)
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Its entries, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.0.iter().flat_map(Inner::iter)
    }

    /// Its entries, their values to be changed.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (&K, &mut V)> {
        self.0.iter_mut().flat_map(Inner::iter_mut)
    }

    /// Its keys, in no order.
    pub fn keys(&self) -> impl Iterator<Item = &K> {
        self.0
            .iter()
            .flat_map(|map| -> Keys<'_, K, V> { map.keys() })
    }

    /// Its values, in no order.
    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.0
            .iter()
            .flat_map(|map| -> Values<'_, K, V> { map.values() })
    }

    /// Its values, to be changed.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.0.iter_mut().flat_map(Inner::values_mut)
    }

    /// Removes every entry and gives the memory back.
    pub fn clear(&mut self) {
        self.0 = None;
    }

    /// Keeps the entries that `keep` says so of.
    pub fn retain(&mut self, keep: impl FnMut(&K, &mut V) -> bool) {
        if let Some(map) = &mut self.0 {
            map.retain(keep);
        }
    }
}

impl<K: Eq + Hash, V> HeapMap<K, V> {
    /// An empty one with room for `capacity` entries.
    ///
    /// # Panics
    /// Outside of a transaction.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        let (hash, alloc) = (HeapHash::default(), HeapAlloc::default());
        Self(Some(Inner::with_capacity_and_hasher_in(
            capacity.max(1),
            hash,
            alloc,
        )))
    }

    /// The map, made now if there is none.
    fn there(&mut self) -> &mut Inner<K, V> {
        if self.0.is_none() {
            *self = Self::with_capacity(1);
        }
        self.0.as_mut().expect("made just now")
    }

    /// Makes room for `more` entries.
    pub fn reserve(&mut self, more: usize) {
        self.there().reserve(more);
    }

    /// The value of `key`.
    #[must_use]
    pub fn get<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.0.as_ref()?.get(key)
    }

    /// The value of `key`, to be changed.
    pub fn get_mut<Q: Eq + Hash + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        self.0.as_mut()?.get_mut(key)
    }

    /// Whether there is an entry of `key`.
    #[must_use]
    pub fn contains_key<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.get(key).is_some()
    }

    /// Sets the value of `key`; answers the one before.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        self.there().insert(key, value)
    }

    /// Removes the entry of `key`; answers its value.
    pub fn remove<Q: Eq + Hash + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        self.0.as_mut()?.remove(key)
    }

    /// The entry of `key`, there or not, to be looked at and changed at once.
    pub fn entry(&mut self, key: K) -> Entry<'_, K, V, HeapHash, HeapAlloc> {
        self.there().entry(key)
    }
}

impl<K: Eq + Hash, V> Extend<(K, V)> for HeapMap<K, V> {
    fn extend<I: IntoIterator<Item = (K, V)>>(&mut self, entries: I) {
        for (key, value) in entries {
            self.insert(key, value);
        }
    }
}

impl<K: Eq + Hash, V> FromIterator<(K, V)> for HeapMap<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        let mut map = Self::new();
        map.extend(entries);
        map
    }
}

impl<K, V> IntoIterator for HeapMap<K, V> {
    type Item = (K, V);
    type IntoIter = std::iter::Flatten<std::option::IntoIter<Inner<K, V>>>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter().flatten()
    }
}

impl<'a, K, V> IntoIterator for &'a HeapMap<K, V> {
    type Item = (&'a K, &'a V);
    type IntoIter = std::iter::FlatMap<
        std::option::Iter<'a, Inner<K, V>>,
        hash_map::Iter<'a, K, V>,
        fn(&'a Inner<K, V>) -> hash_map::Iter<'a, K, V>,
    >;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter().flat_map(Inner::iter)
    }
}

impl<K: Eq + Hash, V: PartialEq> PartialEq for HeapMap<K, V> {
    fn eq(&self, other: &Self) -> bool {
        let same = |(key, value)| other.get(key).is_some_and(|has: &V| has == value);
        self.len() == other.len() && self.iter().all(same)
    }
}

impl<K: fmt::Debug, V: fmt::Debug> fmt::Debug for HeapMap<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl<T> Default for HeapSet<T> {
    fn default() -> Self {
        Self(HeapMap::new())
    }
}

impl<T> HeapSet<T> {
    /// How many values it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Its values, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.keys()
    }

    /// Removes every value and gives the memory back.
    pub fn clear(&mut self) {
        self.0.clear();
    }
}

impl<T: Eq + Hash> HeapSet<T> {
    /// Whether `value` is in it.
    #[must_use]
    pub fn contains<Q: Eq + Hash + ?Sized>(&self, value: &Q) -> bool
    where
        T: Borrow<Q>,
    {
        self.0.contains_key(value)
    }

    /// Puts a value in; answers whether it is new there.
    pub fn insert(&mut self, value: T) -> bool {
        self.0.insert(value, ()).is_none()
    }

    /// Takes a value out; answers whether it was there.
    pub fn remove<Q: Eq + Hash + ?Sized>(&mut self, value: &Q) -> bool
    where
        T: Borrow<Q>,
    {
        self.0.remove(value).is_some()
    }
}

impl<T: fmt::Debug> fmt::Debug for HeapSet<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}
