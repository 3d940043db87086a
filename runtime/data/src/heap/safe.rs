//! What may be kept in a heap, and how a type's layout is told from another's.
//!
//! The trait is implemented here for plain values, in `types` for collections, and by
//! [`heap_type!`](crate::heap_type) for an actor's own types. It must never be implemented for anything that
//! means nothing to the next life.
#![allow(unsafe_code)]

use std::any::{TypeId, type_name};
use std::marker::PhantomData;
use std::time::Duration;

/// Types whose values can be kept in a [`Heap`](super::Heap).
///
/// Numbers, `bool`, `char`, arrays, tuples, `Option`, `Result`, [`HeapVec`](super::HeapVec) and its like, and what
/// [`heap_type!`](crate::heap_type) defines. Not: references, function pointers, trait objects, and
/// anything with memory of the program's own, such as `String`:
///
/// ```compile_fail
/// fn can_be_kept<T: refrain_data::heap::HeapSafe>() {}
/// can_be_kept::<String>();
/// ```
/// ```compile_fail
/// fn can_be_kept<T: refrain_data::heap::HeapSafe>() {}
/// can_be_kept::<fn()>();
/// ```
/// ```compile_fail
/// fn can_be_kept<T: refrain_data::heap::HeapSafe>() {}
/// can_be_kept::<&'static str>();
/// ```
/// ```compile_fail
/// fn can_be_kept<T: refrain_data::heap::HeapSafe>() {}
/// can_be_kept::<std::cell::Cell<u32>>();
/// ```
///
/// # Safety
/// A value holds no pointer but into the same heap, through a [`HeapAlloc`](super::HeapAlloc); it means the
/// same in every life (no address of code or of a `static`, no fd, no thread); nothing in it can be changed
/// through a shared reference; dropping it affects nothing outside of the heap; and `describe` tells
/// any two layouts of the type apart.
pub unsafe trait HeapSafe: 'static {
    /// Adds what the type is made of.
    fn describe(shape: &mut Shape)
    where
        Self: Sized,
    {
        let _ = shape.add::<Self>(&[]);
    }
}

/// What a type is made of, down to the last field, as a number.
#[derive(Debug)]
pub struct Shape {
    hash: u64,
    /// What was added, in this order: a type may contain itself.
    seen: Vec<TypeId>,
}

impl Shape {
    /// Of a type that is built by this compiler, with these collections: their layouts are theirs to choose.
    pub(crate) fn of<T: HeapSafe>() -> u64 {
        let mut shape = Self {
            hash: FNV_OFFSET,
            seen: Vec::new(),
        };
        shape.text(env!("REFRAIN_RUSTC"));
        shape.text("hashbrown 0.17, allocator-api2 0.2");
        T::describe(&mut shape);
        shape.hash
    }

    /// Adds a type and where its fields are, in bytes; answers whether it is new here, and its fields' types
    /// are to be added, too.
    #[must_use]
    pub fn add<T: 'static>(&mut self, fields: &[(&str, usize)]) -> bool {
        let id = TypeId::of::<T>();
        if let Some(at) = self.seen.iter().position(|seen| *seen == id) {
            self.number(at);
            return false;
        }
        self.seen.push(id);
        self.text(type_name::<T>());
        self.number(size_of::<T>());
        self.number(align_of::<T>());
        for (name, offset) in fields {
            self.text(name);
            self.number(*offset);
        }
        true
    }

    fn number(&mut self, number: usize) {
        self.bytes(&(number as u64).to_le_bytes());
    }

    fn text(&mut self, text: &str) {
        self.number(text.len());
        self.bytes(text.as_bytes());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.hash = (self.hash ^ u64::from(*byte)).wrapping_mul(FNV_PRIME);
        }
    }
}

/// FNV-1a's numbers. Source: RFC 9923.
const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;

macro_rules! plain {
    ($($type:ty),*) => {$(
        // SAFETY: a number, or something like one: no pointer, nothing to drop, no interior.
        unsafe impl HeapSafe for $type {}
    )*};
}

plain!(
    u8,
    u16,
    u32,
    u64,
    u128,
    usize,
    i8,
    i16,
    i32,
    i64,
    i128,
    isize,
    f32,
    f64,
    bool,
    char,
    (),
    Duration
);

/// For a type that holds values of others and nothing else: it may be kept where those may.
macro_rules! made_of {
    ($([$($of:ident),*] $type:ty;)*) => {$(
        // SAFETY: it holds values of these types and nothing else.
        unsafe impl<$($of: HeapSafe),*> HeapSafe for $type {
            fn describe(shape: &mut Shape) {
                if shape.add::<Self>(&[]) {
                    $($of::describe(shape);)*
                }
            }
        }
    )*};
}

made_of! {
    [T] Option<T>;
    [T, E] Result<T, E>;
    [T] PhantomData<T>;
    [A] (A,);
    [A, B] (A, B);
    [A, B, C] (A, B, C);
    [A, B, C, D] (A, B, C, D);
    [A, B, C, D, E] (A, B, C, D, E);
    [A, B, C, D, E, F] (A, B, C, D, E, F);
}

// SAFETY: it holds values of this type and nothing else.
unsafe impl<T: HeapSafe, const N: usize> HeapSafe for [T; N] {
    fn describe(shape: &mut Shape) {
        if shape.add::<Self>(&[]) {
            T::describe(shape);
        }
    }
}

/// Defines a struct or an enum that can be kept in a [`Heap`](crate::heap::Heap): each field must be.
///
/// The layout is C's (`repr(C)`), so that it does not depend on the compiler, and names and places of the
/// fields are part of the heap's schema. Structs have named fields, variants of an enum fields without
/// names or none; neither has type parameters.
///
/// ```
/// use refrain_data::heap::{HeapMap, HeapString, HeapVec};
/// refrain_data::heap_type! {
///     /// What the actor remembers.
///     #[derive(Default)]
///     pub struct Memory {
///         pub visits: u64,
///         pub users: HeapMap<u64, User>,
///     }
/// }
/// refrain_data::heap_type! {
///     pub struct User { name: HeapString, orders: HeapVec<Order> }
/// }
/// refrain_data::heap_type! {
///     pub enum Order { Open(u64, HeapString), Done(u64), None }
/// }
/// ```
///
/// A field that cannot be kept does not compile:
///
/// ```compile_fail
/// refrain_data::heap_type! { struct Bad { name: String } }
/// ```
#[macro_export]
macro_rules! heap_type {
    (
        $(#[$meta:meta])* $vis:vis struct $name:ident {
            $($(#[$field_meta:meta])* $field_vis:vis $field:ident : $type:ty),* $(,)?
        }
    ) => {
        $(#[$meta])* #[repr(C)]
        $vis struct $name { $($(#[$field_meta])* $field_vis $field: $type),* }

        // SAFETY: it holds its fields and nothing else, and each of them may be kept: `describe` asks for it.
        unsafe impl $crate::heap::HeapSafe for $name {
            fn describe(shape: &mut $crate::heap::Shape) {
                let fields: &[(&str, usize)] =
                    &[$((stringify!($field), ::core::mem::offset_of!($name, $field))),*];
                if shape.add::<Self>(fields) {
                    $(<$type as $crate::heap::HeapSafe>::describe(shape);)*
                }
            }
        }
    };
    (
        $(#[$meta:meta])* $vis:vis enum $name:ident {
            $($(#[$variant_meta:meta])* $variant:ident $(($($type:ty),* $(,)?))?),* $(,)?
        }
    ) => {
        $(#[$meta])* #[repr(C)]
        $vis enum $name { $($(#[$variant_meta])* $variant $(($($type),*))?),* }

        // SAFETY: it holds its fields and nothing else, and each of them may be kept: `describe` asks for it.
        unsafe impl $crate::heap::HeapSafe for $name {
            fn describe(shape: &mut $crate::heap::Shape) {
                let variants: &[(&str, usize)] = &[$((stringify!($variant $(($($type),*))?), 0)),*];
                if shape.add::<Self>(variants) {
                    $($(<($($type,)*) as $crate::heap::HeapSafe>::describe(shape);)?)*
                }
            }
        }
    };
}
