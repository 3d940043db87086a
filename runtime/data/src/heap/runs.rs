//! Runs of pages: what large values and the pages for small ones are taken from.
//!
//! Called by `pieces`. A map has an entry for each page; only the first and the last entry of a run mean
//! anything, so a run of any length is taken, given back, split and merged in a few stores. Free runs hang in
//! lists by length, four to an octave. Neighbours are merged at once. All of it is plain data inside the
//! heap, so a transaction that is rolled back takes it along.
//!
//! It must never write to the pages themselves: each would have to be saved.
#![forbid(unsafe_code)]

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// How many lists there are: four for each power of two.
const BINS: usize = 128;
/// No page: page 0 is the heap's front, and never free.
const NONE: u32 = 0;
/// How many runs of the list that may hold shorter ones, too, are looked at before the heap is extended.
const LOOKS: usize = 8;

/// What a page is, where it is the first or the last of a run.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct Run {
    /// The length of the run in pages.
    len: u32,
    /// 0: in use, or within a run.
    is_free: u32,
    /// In the list of a free run's bin, at its first page.
    before: u32,
    after: u32,
}

/// The heads of the lists.
#[derive(Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct Bins {
    /// A bit for each list that is not empty.
    filled: [u64; BINS / 64],
    heads: [u32; BINS],
    /// The first page that was never taken, or that lies above all that are.
    top: u32,
    /// The page behind the last one.
    end: u32,
}

impl Bins {
    pub(crate) fn new(first: usize, end: usize) -> Self {
        Self {
            filled: [0; BINS / 64],
            heads: [NONE; BINS],
            top: first as u32,
            end: end as u32,
        }
    }

    /// The first page that holds nothing, nor does any above it.
    pub(crate) fn top(&self) -> usize {
        self.top as usize
    }
}

/// The list that a run of `len` pages is in: of the runs of one octave, a quarter.
fn bin(len: u32) -> usize {
    let octave = len.ilog2();
    let quarter = (u64::from(len) << 2 >> octave) & 3;
    octave as usize * 4 + quarter as usize
}

/// The shortest run of list `bin`; the inverse of [`bin`], rounded up for the shortest octaves.
fn shortest(bin: usize) -> u64 {
    let (octave, quarter) = (bin / 4, bin as u64 % 4);
    ((4 + quarter) << octave).div_ceil(4)
}

/// The bins and the map, borrowed for one operation.
pub(crate) struct Runs<'a> {
    pub(crate) bins: &'a mut Bins,
    pub(crate) map: &'a mut [Run],
}

impl Runs<'_> {
    fn run(&mut self, page: u32) -> &mut Run {
        &mut self.map[page as usize]
    }

    /// Takes `len` pages, at least 1; answers the first. `None` when there is no such run.
    pub(crate) fn take(&mut self, len: u32) -> Option<u32> {
        let page = match self.find(len, LOOKS) {
            Some(page) => page,
            None => match self.extend_top(len) {
                Some(page) => return Some(page),
                None => self.find(len, usize::MAX)?,
            },
        };
        self.unlink(page);
        let had = self.run(page).len;
        self.mark_used(page, len);
        if had > len {
            self.link(page + len, had - len);
        }
        Some(page)
    }

    /// Gives back a run that was taken.
    pub(crate) fn give(&mut self, page: u32) {
        let mut first = page;
        let mut len = self.run(page).len;
        let after = page + len;
        if after < self.bins.top && self.run(after).is_free != 0 {
            len += self.run(after).len;
            self.unlink(after);
        }
        if self.run(page - 1).is_free != 0 {
            let before = self.run(page - 1).len;
            first -= before;
            len += before;
            self.unlink(first);
        }
        if first + len == self.bins.top {
            self.bins.top = first;
        } else {
            self.link(first, len);
        }
    }

    /// Makes the run at `page` `len` pages long, where it is; answers whether that could be done.
    pub(crate) fn resize(&mut self, page: u32, len: u32) -> bool {
        let had = self.run(page).len;
        if len <= had {
            if len < had {
                self.mark_used(page, len);
                self.mark_used(page + len, had - len);
                self.give(page + len);
            }
            return true;
        }
        let (after, more) = (page + had, len - had);
        if after == self.bins.top {
            if self.bins.end - self.bins.top < more {
                return false;
            }
            self.bins.top += more;
        } else {
            let free = *self.run(after);
            if free.is_free == 0 || free.len < more {
                return false;
            }
            self.unlink(after);
            if free.len > more {
                self.link(after + more, free.len - more);
            }
        }
        self.mark_used(page, len);
        true
    }

    fn extend_top(&mut self, len: u32) -> Option<u32> {
        if self.bins.end - self.bins.top < len {
            return None;
        }
        let page = self.bins.top;
        self.bins.top += len;
        self.mark_used(page, len);
        Some(page)
    }

    /// A free run of at least `len` pages: from a list in which every run is that long, or among the first
    /// `looks` of the list that may have shorter ones.
    fn find(&mut self, len: u32, looks: usize) -> Option<u32> {
        let own = bin(len);
        let sure = if shortest(own) == u64::from(len) {
            own
        } else {
            own + 1
        };
        for word in sure / 64..BINS / 64 {
            let skipped = if word == sure / 64 { sure % 64 } else { 0 };
            let filled = self.bins.filled[word] & (u64::MAX << skipped);
            if filled != 0 {
                let first = word * 64 + filled.trailing_zeros() as usize;
                return Some(self.bins.heads[first]);
            }
        }
        let mut page = self.bins.heads[own];
        for _ in 0..looks {
            if page == NONE {
                return None;
            }
            let run = *self.run(page);
            if run.len >= len {
                return Some(page);
            }
            page = run.after;
        }
        None
    }

    fn mark_used(&mut self, page: u32, len: u32) {
        self.run(page + len - 1).is_free = 0;
        let run = self.run(page);
        run.is_free = 0;
        run.len = len;
    }

    fn link(&mut self, page: u32, len: u32) {
        let bin = bin(len);
        let after = self.bins.heads[bin];
        let last = self.run(page + len - 1);
        last.is_free = 1;
        last.len = len;
        *self.run(page) = Run {
            len,
            is_free: 1,
            before: NONE,
            after,
        };
        if after != NONE {
            self.run(after).before = page;
        }
        self.bins.heads[bin] = page;
        self.bins.filled[bin / 64] |= 1 << (bin % 64);
    }

    fn unlink(&mut self, page: u32) {
        let Run {
            len, before, after, ..
        } = *self.run(page);
        if after != NONE {
            self.run(after).before = before;
        }
        if before != NONE {
            self.run(before).after = after;
        } else {
            let bin = bin(len);
            self.bins.heads[bin] = after;
            if after == NONE {
                self.bins.filled[bin / 64] &= !(1 << (bin % 64));
            }
        }
        self.run(page + len - 1).is_free = 0;
        self.run(page).is_free = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn each_run_is_in_the_list_of_its_length() {
        for len in 1..100_000 {
            let bin = bin(len);
            assert!(shortest(bin) <= u64::from(len), "{len}");
            assert!(shortest(bin + 1) > u64::from(len) || len < 4, "{len}");
        }
        assert!(bin(u32::MAX) < BINS);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Take(u32),
        Give(usize),
        Resize(usize, u32),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => (1u32..40).prop_map(Step::Take),
            2 => any::<usize>().prop_map(Step::Give),
            1 => (any::<usize>(), 1u32..60).prop_map(|(at, len)| Step::Resize(at, len)),
        ]
    }

    proptest! {
        #[test]
        fn runs_never_overlap_and_all_can_be_had_again(steps in prop::collection::vec(step(), 1..300)) {
            const FIRST: u32 = 3;
            const END: u32 = 403;
            let mut bins = Bins::new(FIRST as usize, END as usize);
            let mut map = vec![Run::default(); END as usize];
            let mut runs = Runs { bins: &mut bins, map: &mut map };
            let mut taken: Vec<(u32, u32)> = Vec::new();
            for step in steps {
                match step {
                    Step::Take(len) => {
                        if let Some(page) = runs.take(len) {
                            taken.push((page, len));
                        }
                    }
                    Step::Give(at) if !taken.is_empty() => {
                        let (page, len) = taken.swap_remove(at % taken.len());
                        prop_assert_eq!(runs.run(page).len, len);
                        runs.give(page);
                    }
                    Step::Resize(at, len) if !taken.is_empty() => {
                        let at = at % taken.len();
                        if runs.resize(taken[at].0, len) {
                            taken[at].1 = len;
                        }
                    }
                    _ => {}
                }
                let mut sorted = taken.clone();
                sorted.sort_unstable();
                prop_assert!(sorted.iter().all(|(page, len)| *page >= FIRST && page + len <= END));
                prop_assert!(sorted.windows(2).all(|two| two[0].0 + two[0].1 <= two[1].0));
            }
            for (page, _) in taken {
                runs.give(page);
            }
            // Everything has merged into one run again, below the top.
            prop_assert_eq!(runs.bins.top, FIRST);
            prop_assert_eq!(runs.bins.filled, [0; 2]);
            prop_assert_eq!(runs.take(END - FIRST), Some(FIRST));
        }
    }
}
