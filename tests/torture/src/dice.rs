//! Numbers that are random enough, and the same for the same seed: SplitMix64.
//!
//! Called by the plan only: whatever is thrown here decides what happens, and nothing that happens may
//! decide how often is thrown, or a seed would not replay.

/// The generator. Source: Steele, Lea and Flood, "Fast splittable pseudorandom number generators".
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// The throws of `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next word.
    pub fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    /// A number below `sides`, which is not 0.
    pub fn below(&mut self, sides: usize) -> usize {
        let sides = sides as u64;
        usize::try_from(self.word() % sides).expect("below a usize")
    }

    /// Whether a chance of `percent` in a hundred comes true.
    pub fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    /// One of `all`, which is not empty.
    pub fn one_of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }

    /// One of `all` by its weight; the sum of the weights is not 0.
    pub fn weighted<T: Copy>(&mut self, all: &[(T, usize)]) -> T {
        let mut left = self.below(all.iter().map(|(_, weight)| weight).sum());
        for (one, weight) in all {
            if left < *weight {
                return *one;
            }
            left -= weight;
        }
        unreachable!("the throw is below the sum of the weights")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_are_those_of_the_published_generator() {
        let mut dice = Dice::new(1_234_567);
        let words = [(); 3].map(|()| dice.word());
        let published = [
            6_457_827_717_110_365_317,
            3_203_168_211_198_807_973,
            9_817_491_932_198_370_423,
        ];
        assert_eq!(words, published);
    }

    #[test]
    fn a_weight_of_nothing_is_never_chosen() {
        let mut dice = Dice::new(1);
        for _ in 0..1000 {
            assert_ne!(dice.weighted(&[('a', 1), ('b', 0), ('c', 3)]), 'b');
        }
    }
}
