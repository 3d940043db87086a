//! The limit: the standard library's hash map with a fast hasher, in the program's own memory. It keeps nothing.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use anyhow::{Context, Result};

use super::subject::{Subject, check, stamp, value};

/// A fast hash, of no use against hostile keys.
#[derive(Default)]
struct Fast(u64);

impl Hasher for Fast {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes
            .iter()
            .for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word)
            .wrapping_mul(0x517c_c1b7_2722_0a95)
            .rotate_left(32);
    }
}

/// The map.
pub struct Plain<const N: usize>(HashMap<u64, [u8; N], BuildHasherDefault<Fast>>);

impl<const N: usize> Plain<N> {
    /// With room for so many.
    pub fn new(capacity: usize) -> Self {
        Self(HashMap::with_capacity_and_hasher(
            capacity,
            BuildHasherDefault::default(),
        ))
    }
}

impl<const N: usize> Subject for Plain<N> {
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
            self.0.insert(key, value(key));
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
            stamp(self.0.get_mut(&key).context("a key is not there")?, key);
        }
        Ok(())
    }
}
