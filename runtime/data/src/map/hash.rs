//! The hash of a key: keyed, the same in every life and every build.
//!
//! Used by the table. It is part of the format of a bank, so it is written here and not taken from a library whose
//! next version may hash otherwise. It must never be used without its two secret numbers: who chooses the
//! keys, but does not know the numbers, cannot choose keys that collide.
//!
//! Each step multiplies to 128 bits and folds the halves, as wyhash and foldhash do.

use std::hash::{BuildHasher, RandomState};

/// The secret numbers of one map, drawn when it is made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seed(pub(super) [u64; 2]);

impl Seed {
    /// From the system's randomness, by way of the standard library.
    pub(super) fn draw() -> Self {
        let random = RandomState::new();
        Self([random.hash_one(0_u64), random.hash_one(1_u64)])
    }

    /// 32 bits that are good in every place.
    #[inline]
    pub(super) fn hash(self, key: &[u8]) -> u32 {
        let Self([first, second]) = self;
        let mut state = first ^ key.len() as u64;
        let mut rest = key;
        while let Some((piece, behind)) = rest.split_first_chunk::<8>().filter(|_| rest.len() > 8) {
            state = fold(state ^ u64::from_le_bytes(*piece), second ^ ODD);
            rest = behind;
        }
        let mut word = [0; 8];
        word[..rest.len()].copy_from_slice(rest);
        // What is folded once still shows keys in a row as numbers in a row; a product's upper half does not.
        (fold(state ^ u64::from_le_bytes(word), second | 1).wrapping_mul(SPREAD) >> 32) as u32
    }
}

/// Digits of pi: many bits set, no pattern.
const ODD: u64 = 0x243f_6a88_85a3_08d3;

/// 2 to the 64th over the golden ratio, odd.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

#[inline]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product as u64) ^ ((product >> 64) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h32_the_hash_of_a_key_is_the_same_in_every_build() {
        let seed = Seed([0x1319_8a2e_0370_7344, 0xa409_3822_299f_31d0]);
        let hashes = [&b""[..], b"a", b"12345678", b"123456789abcdef"].map(|key| seed.hash(key));
        assert_eq!(
            hashes,
            [1_786_486_115, 2_119_105_298, 1_808_418_336, 847_501_868],
            "it is kept in banks"
        );
    }

    #[test]
    fn h32_keys_in_a_row_spread_over_all_buckets() {
        let seeds = (0..64).map(|_| Seed::draw());
        // Numbers, and those at multiples of a page, of 2 to the 32nd and of 2 to the 48th.
        for (seed, shift) in seeds.flat_map(|seed| [0, 12, 32, 48].map(|shift| (seed, shift))) {
            let mut counts = [0_u32; 256];
            for key in 0..65_536_u64 {
                counts[(seed.hash(&(key << shift).to_le_bytes()) >> 24) as usize] += 1;
            }
            // 256 in each; eight deviations of 16 away is no chance.
            let (least, most) = (counts.iter().min(), counts.iter().max());
            assert!(
                least > Some(&128) && most < Some(&384),
                "{least:?} to {most:?}"
            );
        }
    }
}
