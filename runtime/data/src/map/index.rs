//! The index of a map: where the entry of a key is.
//!
//! Open addressing with linear probing. A bucket is one word: 32 bits of the key's hash, and the number of
//! a slot, plus one; 0 is an empty bucket. The hash in the bucket is all that is needed to find a
//! bucket's home, so the index is shifted and rebuilt without a look at the entries.
//!
//! Used by the table, which is its one writer. It must never loop without end over an index that somebody else
//! has filled, and never hand out a slot as if it were checked.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::order::publish;
use crate::region::{Region, WORD};

/// The buckets of one generation: a power of two of them.
#[derive(Debug)]
pub(super) struct Index {
    /// As many words as buckets, exactly.
    words: Region,
    mask: usize,
    /// How far a hash is shifted to give its home.
    shift: u32,
}

/// What a probe has come to.
#[derive(Clone, Copy)]
pub(super) enum Probe {
    /// The bucket with the key, and its slot.
    Found(usize, u32),
    /// The empty bucket where the key belongs.
    Empty(usize),
    /// Neither, in all of the index: it is damaged.
    Nowhere,
}

/// What an empty bucket holds.
const EMPTY: u64 = 0;

/// The bucket's word for a slot.
pub(super) fn bucket_word(hash: u32, slot: u32) -> u64 {
    u64::from(hash) << 32 | (u64::from(slot) + 1)
}

fn slot_of(word: u64) -> u32 {
    (word as u32).wrapping_sub(1)
}

fn hash_of(word: u64) -> u32 {
    (word >> 32) as u32
}

impl Index {
    /// Over the first `1 << log2` words of a region; `None` when it is smaller.
    pub(super) fn over(region: &Region, log2: u32) -> Option<Self> {
        let words = region.part(0, Self::bytes(log2)?)?;
        let (mask, shift) = ((1 << log2) - 1, 32 - log2);
        Some(Self { words, mask, shift })
    }

    /// The size of an index in bytes.
    pub(super) fn bytes(log2: u32) -> Option<usize> {
        // A hash has 32 bits, which the home is taken from.
        (1..=32).contains(&log2).then(|| WORD << log2)
    }

    #[inline]
    fn mask(&self) -> usize {
        self.mask
    }

    #[inline]
    fn home(&self, hash: u32) -> usize {
        (u64::from(hash) >> self.shift) as usize
    }

    #[inline]
    fn word(&self, bucket: usize) -> &AtomicU64 {
        &self.words.all()[bucket & self.mask()]
    }

    #[inline]
    fn load(&self, bucket: usize) -> u64 {
        self.word(bucket).load(Ordering::Relaxed)
    }

    /// Looks for a slot with this hash that `is_it`.
    #[inline]
    pub(super) fn probe(&self, hash: u32, mut is_it: impl FnMut(u32) -> bool) -> Probe {
        let mut bucket = self.home(hash);
        let mut left = self.mask();
        loop {
            let word = self.load(bucket);
            if hash_of(word) == hash && word != EMPTY && is_it(slot_of(word)) {
                return Probe::Found(bucket, slot_of(word));
            }
            if word == EMPTY {
                return Probe::Empty(bucket);
            }
            if left == 0 {
                return Probe::Nowhere;
            }
            left -= 1;
            bucket = (bucket + 1) & self.mask();
        }
    }

    /// Points a bucket at a slot: the publication of an insertion or of an update.
    #[inline]
    pub(super) fn point(&self, bucket: usize, hash: u32, slot: u32) {
        publish(self.word(bucket), bucket_word(hash, slot));
    }

    /// Empties `bucket` and closes the gap, so that no probe ends too soon. `at` is told the bucket that is
    /// the gap before each step: who crashed goes on there, and may do so again and again.
    ///
    /// Each step copies a bucket into the gap and takes its old place for the next gap. In between both
    /// hold it, which no probe minds: it finds the first.
    pub(super) fn close(&self, bucket: usize, at: impl Fn(usize)) {
        let mut gap = bucket & self.mask();
        at(gap);
        for step in 1..=self.mask() {
            let next = (bucket + step) & self.mask();
            let word = self.load(next);
            if word == EMPTY {
                break;
            }
            // It may move unless its home lies behind the gap, cyclically.
            let from_home = next.wrapping_sub(self.home(hash_of(word))) & self.mask();
            let from_gap = next.wrapping_sub(gap) & self.mask();
            if from_home >= from_gap {
                publish(self.word(gap), word);
                gap = next;
                at(gap);
            }
        }
        publish(self.word(gap), EMPTY);
    }

    /// Empties every bucket.
    pub(super) fn clear(&self) {
        for bucket in 0..=self.mask() {
            self.word(bucket).store(EMPTY, Ordering::Relaxed);
        }
    }

    /// Fills this one, which is empty and has more buckets, with what the other one holds; `None` when it
    /// cannot hold that. Goes through both from front to back.
    pub(super) fn take_all(&self, other: &Self) -> Option<()> {
        for word in other.filled() {
            match self.probe(hash_of(word), |_| false) {
                Probe::Empty(bucket) => self.word(bucket).store(word, Ordering::Relaxed),
                Probe::Found(..) | Probe::Nowhere => return None,
            }
        }
        Some(())
    }

    fn filled(&self) -> impl Iterator<Item = u64> + '_ {
        (0..=self.mask())
            .map(|bucket| self.load(bucket))
            .filter(|word| *word != EMPTY)
    }

    /// The slots whose homes are the next `homes` buckets from that of the hash `from` on, not checked; and the hash
    /// that the stretch behind this one begins at, unless this was the last.
    ///
    /// A home is the upper bits of a hash, and neither a gap that is closed nor a larger index changes a hash: so
    /// stretches from one to the next meet every entry that is there all the while, once.
    pub(super) fn stretch(
        &self,
        from: u32,
        homes: usize,
    ) -> (impl Iterator<Item = u32> + '_, Option<u32>) {
        let first = self.home(from);
        let end = first.saturating_add(homes.max(1)).min(self.mask() + 1);
        // An entry is at its home, or behind it with no empty bucket in between.
        let words = (first..=first + self.mask()).map(|bucket| (bucket, self.load(bucket)));
        let found = words
            .take_while(move |(bucket, word)| *bucket < end || *word != EMPTY)
            .map(|(_, word)| word)
            .filter(move |word| {
                *word != EMPTY && (first..end).contains(&self.home(hash_of(*word)))
            });
        let next = (end <= self.mask()).then(|| (end << self.shift) as u32);
        (found.map(slot_of), next)
    }

    /// Every slot that is pointed at, in no order; not checked.
    pub(super) fn slots(&self) -> impl Iterator<Item = u32> + '_ {
        self.filled().map(slot_of)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use refrain_sys::mapping::{SharedWords, create_words};

    use super::*;

    const LOG2: u32 = 4;
    const ENTRIES: u32 = 10;
    /// Where the test keeps the gap, as the table does; in words.
    const CLOSING: usize = 64;

    fn memory() -> Arc<SharedWords> {
        Arc::new(create_words("index", 512).unwrap().1)
    }

    fn index(memory: &Arc<SharedWords>) -> Index {
        let region = Region::new(Arc::clone(memory)).unwrap();
        Index::over(&region, LOG2).unwrap()
    }

    fn close(memory: &Arc<SharedWords>, bucket: usize) {
        let closing = &memory[CLOSING];
        index(memory).close(bucket, |gap| publish(closing, gap as u64 + 1));
        publish(closing, 0);
    }

    /// Removes each entry of crowded indexes, where gaps are closed over many buckets and around the end.
    #[test]
    fn h32_a_gap_is_closed_after_a_crash_at_any_instruction() {
        let mut report = refrain_step::Report::default();
        for round in 0..40_u32 {
            let (work, copy) = (memory(), memory());
            // Homes in five buckets in a row, from another one on in each round.
            let hash = |entry: u32| {
                let home = round + entry.wrapping_mul(7919 + 31 * round) / 5 % 5;
                home << (32 - LOG2) | entry
            };
            for entry in 0..ENTRIES {
                let Probe::Empty(bucket) = index(&work).probe(hash(entry), |_| false) else {
                    panic!("there is room");
                };
                index(&work).point(bucket, hash(entry), entry);
            }
            let victim = round % ENTRIES;
            let found = index(&work).probe(hash(victim), |slot| slot == victim);
            let Probe::Found(bucket, _) = found else {
                panic!("it was put there");
            };
            let recover = || {
                if let Some(gap) = copy[CLOSING].load(Ordering::Relaxed).checked_sub(1) {
                    close(&copy, gap as usize);
                }
                refrain_step::done_stepping();
                let found = |entry: &u32| {
                    let probe = index(&copy).probe(hash(*entry), |slot| slot == *entry);
                    matches!(probe, Probe::Found(..))
                };
                let filled = index(&copy).slots().count();
                (filled, (0..ENTRIES).filter(found).collect::<Vec<_>>())
            };
            let operation = || close(&work, bucket);
            report.add(refrain_step::crash_everywhere(&work, &copy, operation, recover).unwrap());
            assert_eq!(report.torn, [""; 0], "round {round}");
            assert_eq!(index(&work).slots().count(), ENTRIES as usize - 1);
        }
        println!("closing gaps: {report}");
        assert!(report.points > 400, "{report}");
    }
}
