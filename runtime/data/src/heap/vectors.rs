//! Vectors and boxes that live in a heap.
//!
//! Used by actors inside transactions. Each is allocator-api2's with [`HeapAlloc`] for its allocator, under a name
//! that needs no parameter for that. They must never point out of the heap: empty, they point nowhere.
#![allow(unsafe_code)]

use std::fmt;
use std::ops::{Deref, DerefMut};

use allocator_api2::boxed::Box;
use allocator_api2::vec::Vec;

use crate::heap::alloc::HeapAlloc;
use crate::heap::safe::{HeapSafe, Shape};

/// A vector in a heap. It derefs to allocator-api2's, which has the methods of the standard library's.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HeapVec<T>(Vec<T, HeapAlloc>);

/// One value in a heap, for types that contain themselves.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HeapBox<T>(Box<T, HeapAlloc>);

// SAFETY: values that may be kept, in memory of the heap that they are in.
unsafe impl<T: HeapSafe> HeapSafe for HeapVec<T> {
    fn describe(shape: &mut Shape) {
        if shape.add::<Self>(&[]) {
            T::describe(shape);
        }
    }
}

// SAFETY: as for the vector.
unsafe impl<T: HeapSafe> HeapSafe for HeapBox<T> {
    fn describe(shape: &mut Shape) {
        if shape.add::<Self>(&[]) {
            T::describe(shape);
        }
    }
}

impl<T> HeapVec<T> {
    /// An empty one. Takes no memory yet.
    #[must_use]
    pub fn new() -> Self {
        Self(Vec::new_in(HeapAlloc::default()))
    }

    /// An empty one with room for `capacity` values.
    ///
    /// # Panics
    /// Outside of a transaction.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        Self(Vec::with_capacity_in(capacity, HeapAlloc::default()))
    }
}

impl<T> Default for HeapVec<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Deref for HeapVec<T> {
    type Target = Vec<T, HeapAlloc>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl<T> DerefMut for HeapVec<T> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}

impl<T: fmt::Debug> fmt::Debug for HeapVec<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<T> FromIterator<T> for HeapVec<T> {
    fn from_iter<I: IntoIterator<Item = T>>(values: I) -> Self {
        let mut all = Self::new();
        all.extend(values);
        all
    }
}

impl<T> Extend<T> for HeapVec<T> {
    fn extend<I: IntoIterator<Item = T>>(&mut self, values: I) {
        self.0.extend(values);
    }
}

impl<T: Clone> From<&[T]> for HeapVec<T> {
    fn from(values: &[T]) -> Self {
        let mut all = Self::with_capacity(values.len());
        all.extend_from_slice(values);
        all
    }
}

impl<T> IntoIterator for HeapVec<T> {
    type Item = T;
    type IntoIter = allocator_api2::vec::IntoIter<T, HeapAlloc>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a, T> IntoIterator for &'a HeapVec<T> {
    type Item = &'a T;
    type IntoIter = std::slice::Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

impl<'a, T> IntoIterator for &'a mut HeapVec<T> {
    type Item = &'a mut T;
    type IntoIter = std::slice::IterMut<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter_mut()
    }
}

impl<T> HeapBox<T> {
    /// Moves a value into the heap.
    ///
    /// # Panics
    /// Outside of a transaction.
    #[must_use]
    pub fn new(value: T) -> Self {
        Self(Box::new_in(value, HeapAlloc::default()))
    }

    /// Moves the value out.
    #[must_use]
    pub fn into_inner(self) -> T {
        Box::into_inner(self.0)
    }
}

impl<T> Deref for HeapBox<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> DerefMut for HeapBox<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

impl<T: fmt::Debug> fmt::Debug for HeapBox<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
