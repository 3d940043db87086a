//! Chance that can be repeated: the same seed, the same run. Or none: every choice there is, one run
//! after the other.

/// Who chooses.
#[derive(Clone, Debug)]
pub(super) enum Chance {
    /// A sequence of numbers from a seed. Source: SplitMix64 (Steele, Lea, Flood, OOPSLA 2014).
    Seed(u64),
    /// The choices of this run, each with the number of those there were, and how many are made.
    Every(Vec<(u64, u64)>, usize),
}

impl Chance {
    pub(super) fn new(seed: u64) -> Self {
        Self::Seed(seed)
    }

    /// The first of every run.
    pub(super) fn every() -> Self {
        Self::Every(Vec::new(), 0)
    }

    /// Goes on to the next run; `false`: there was every one.
    pub(super) fn again(&mut self) -> bool {
        let Self::Every(choices, made) = self else {
            return true;
        };
        *made = 0;
        while let Some((choice, end)) = choices.pop() {
            if choice + 1 < end {
                choices.push((choice + 1, end));
                return true;
            }
        }
        false
    }

    /// A number below this one, which is not 0.
    pub(super) fn below(&mut self, end: u64) -> u64 {
        match self {
            Self::Seed(state) => {
                *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
                let mut word = *state;
                word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
                (word ^ (word >> 31)) % end
            }
            Self::Every(choices, made) => {
                if *made == choices.len() {
                    choices.push((0, end));
                }
                *made += 1;
                choices[*made - 1].0
            }
        }
    }

    pub(super) fn one_in(&mut self, many: u64) -> bool {
        self.below(many) == 0
    }

    /// One of these.
    pub(super) fn of<T: Copy>(&mut self, these: &[T]) -> T {
        these[self.below(these.len() as u64) as usize]
    }
}
