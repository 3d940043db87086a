//! The hash of a heap's maps: keyed, and the same in every life.
//!
//! Used by [`HeapMap`](super::HeapMap) and [`HeapSet`](super::HeapSet). The key is made at random with the map and
//! kept in it. It must never change: maps in banks were built with it.
#![forbid(unsafe_code)]

use std::hash::{BuildHasher, Hasher, RandomState};

/// Hashes keys with a number that was drawn when the map was made, so that whoever chooses the keys cannot
/// choose their places.
#[derive(Clone, Copy, Debug)]
pub struct HeapHash {
    pub(crate) key: [u64; 2],
}

impl Default for HeapHash {
    /// With a new key.
    fn default() -> Self {
        let random = RandomState::new();
        Self {
            key: [random.hash_one(0), random.hash_one(1)],
        }
    }
}

impl BuildHasher for HeapHash {
    type Hasher = HeapHasher;

    fn build_hasher(&self) -> HeapHasher {
        HeapHasher {
            state: self.key[0],
            key: self.key[1],
        }
    }
}

/// The hash of one key: a multiplication of 64 by 64 bits for each word, its halves folded.
#[derive(Clone, Copy, Debug)]
pub struct HeapHasher {
    state: u64,
    key: u64,
}

/// An odd number with as many ones as zeros: the golden ratio.
const ODD: u64 = 0x9e37_79b9_7f4a_7c15;

fn fold(one: u64, other: u64) -> u64 {
    let product = u128::from(one) * u128::from(other);
    (product as u64) ^ ((product >> 64) as u64)
}

impl HeapHasher {
    fn word(&mut self, word: u64) {
        self.state = fold(self.state ^ word, self.key ^ ODD).wrapping_add(ODD);
    }
}

impl Hasher for HeapHasher {
    fn write(&mut self, bytes: &[u8]) {
        // The length first: so that no two texts are padded to the same words.
        self.word(bytes.len() as u64);
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.word(u64::from_le_bytes(*word));
        }
        if !rest.is_empty() {
            let mut last = [0; 8];
            last[..rest.len()].copy_from_slice(rest);
            self.word(u64::from_le_bytes(last));
        }
    }

    fn write_u8(&mut self, number: u8) {
        self.word(number.into());
    }

    fn write_u32(&mut self, number: u32) {
        self.word(number.into());
    }

    fn write_u64(&mut self, number: u64) {
        self.word(number);
    }

    fn write_usize(&mut self, number: usize) {
        self.word(number as u64);
    }

    fn finish(&self) -> u64 {
        fold(self.state, self.key | 1) ^ self.state.rotate_right(29)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h11_a_map_that_an_earlier_build_made_is_still_a_map() {
        let hash = HeapHash { key: [1, 2] };
        let all = [
            hash.hash_one(7u64),
            hash.hash_one("refrain"),
            hash.hash_one([1u8; 9]),
        ];
        assert_eq!(all, KNOWN, "maps in banks were built with this hash");
    }

    const KNOWN: [u64; 3] = [
        2_506_210_062_255_426_889,
        16_727_675_856_290_874_736,
        1_964_426_140_081_231_235,
    ];

    #[test]
    fn keys_that_follow_each_other_spread_over_all_places() {
        let hash = HeapHash::default();
        let mut low = vec![0u32; 256];
        let mut high = vec![0u32; 128];
        for key in 0..25_600u64 {
            let hash = hash.hash_one(key << 12);
            low[hash as usize % 256] += 1;
            high[(hash >> 57) as usize] += 1;
        }
        // 100 and 200 on average; a place with three times as many is out of the question for a good one.
        assert!(low.iter().all(|count| (20..300).contains(count)), "{low:?}");
        assert!(
            high.iter().all(|count| (60..600).contains(count)),
            "{high:?}"
        );
    }
}
