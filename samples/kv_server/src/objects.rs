//! Objects: bytes of any length, in pieces that a map keeps by number.
//!
//! Used by `store.rs` for what is too long for an item, and by `batch.rs` for its record. An object that is being
//! written does not count yet, and one that is being freed does not count any more: whoever writes or frees sees
//! to that. Its pieces are put in order and taken in the opposite one, so that whatever a crash leaves of it has
//! no gap, and `free` finds all of it.

use std::ops::Range;

use refrain::data::{Blocks, Map, MapError, OpenError};

use crate::store::Digest;

/// A piece, in bytes: a value of 1 KiB with its key is one.
pub const PIECE: usize = 1088;

/// All objects.
pub struct Objects {
    pieces: Map<Digest, [u8; PIECE]>,
}

impl Objects {
    /// Opens them, with room for `pieces` pieces to begin with.
    pub fn open(blocks: impl Blocks + 'static, pieces: usize) -> Result<Self, OpenError> {
        let pieces = Map::open(blocks, pieces)?;
        Ok(Self { pieces })
    }

    /// Writes an object of which there is nothing yet.
    pub fn write(&mut self, object: u64, bytes: &[u8]) -> Result<(), MapError> {
        let mut piece = [0; PIECE];
        for (number, part) in bytes.chunks(PIECE).enumerate() {
            piece[..part.len()].copy_from_slice(part);
            self.pieces.insert(&[object, number as u64], &piece)?;
        }
        Ok(())
    }

    /// The begin of an object, up to a piece of it.
    pub fn first(&self, object: u64) -> Option<&[u8; PIECE]> {
        self.pieces.get(&[object, 0])
    }

    /// A range of an object's bytes; `None` when they are not all there.
    pub fn read(&self, object: u64, range: Range<usize>) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        let mut at = range.start;
        while at < range.end {
            let piece = self.pieces.get(&[object, (at / PIECE) as u64])?;
            let to = (range.end - at / PIECE * PIECE).min(PIECE);
            bytes.extend(piece.get(at % PIECE..to)?);
            at = (at / PIECE + 1) * PIECE;
        }
        Some(bytes)
    }

    /// Takes an object away, or what there is of it.
    pub fn free(&mut self, object: u64) {
        let mut pieces = 0;
        while self.pieces.contains_key(&[object, pieces]) {
            pieces += 1;
        }
        for number in (0..pieces).rev() {
            self.pieces.remove(&[object, number]);
        }
    }

    /// How many pieces there are.
    #[cfg(test)]
    pub fn pieces(&self) -> usize {
        self.pieces.len()
    }

    /// Takes every object away.
    pub fn clear(&mut self) {
        let all: Vec<Digest> = self.pieces.iter().map(|(key, _)| *key).collect();
        for key in all {
            self.pieces.remove(&key);
        }
    }
}
