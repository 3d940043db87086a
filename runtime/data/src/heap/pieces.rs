//! Pieces of memory of any size, out of runs of pages: the heap's allocator.
//!
//! Called by `memory`, in a transaction. Small pieces come from classes of sizes, each with a list of free
//! pieces that is linked through the pieces themselves, last in, first out: taking one and giving one
//! back touches the front page and that piece, hardly ever a third page. Pieces of one class lie together in
//! pages of their own, which stay that class's. Larger pieces are runs of whole pages.
//!
//! It must never keep anything outside of the heap: what it knows is rolled back with the rest.
#![forbid(unsafe_code)]

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::heap::layout::Layout;
use crate::heap::runs::{Bins, Run, Runs};

/// The largest small piece in bytes.
const LARGEST: usize = 2048;
/// How many classes: eight up to 128 bytes, then four for each power of two.
const CLASSES: usize = 8 + 4 * 4;
/// What every piece is a multiple of, in bytes, and aligned to.
const GRAIN: usize = 16;

/// Pieces of one size.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Class {
    /// The first free piece, which holds where the next one is; 0 for none. Offsets from the heap's start.
    free: u64,
    /// Pieces from here to `end` have never been taken.
    next: u64,
    end: u64,
}

/// What the allocator knows: on the heap's front page.
#[derive(Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct State {
    classes: [Class; CLASSES],
    pub(crate) bins: Bins,
    /// How many bytes are in use, as they were rounded up.
    pub(crate) used: u64,
    /// Where the root is, from the heap's start.
    pub(crate) root: u64,
}

impl State {
    pub(crate) fn new(layout: &Layout) -> Self {
        Self {
            classes: [Class::default(); CLASSES],
            bins: Bins::new(layout.first, layout.pages),
            used: 0,
            root: 0,
        }
    }
}

/// Words of the heap, by their offset from its start.
pub(crate) trait Words {
    /// The word there.
    fn get(&self, offset: u64) -> u64;
    /// Stores a word there. It belongs to nobody: the piece is free.
    fn set(&mut self, offset: u64, value: u64);
}

/// The allocator, borrowed for one operation.
pub(crate) struct Pieces<'a, W> {
    pub(crate) state: &'a mut State,
    pub(crate) map: &'a mut [Run],
    pub(crate) words: W,
    pub(crate) page: usize,
}

/// What a request is served from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    /// A class, and the size of its pieces.
    Class(usize, usize),
    /// So many pages.
    Run(u32),
}

/// The class for `size` bytes, 1 to [`LARGEST`], and the size of its pieces.
fn class(size: usize) -> (usize, usize) {
    if size <= 8 * GRAIN {
        let class = size.div_ceil(GRAIN).max(1) - 1;
        return (class, (class + 1) * GRAIN);
    }
    let octave = (size - 1).ilog2() as usize;
    let (base, step) = (1 << octave, 1 << (octave - 2));
    let quarter = (size - 1 - base) / step;
    (8 + (octave - 7) * 4 + quarter, base + (quarter + 1) * step)
}

/// How many pages a class takes at once, so that little is left over at their end.
const PAGES_FOR_LARGER: u32 = 4;
const LARGER: usize = 512;

impl<W: Words> Pieces<'_, W> {
    /// `None` for an alignment that no piece has, or a size that no heap has.
    fn source(&self, size: usize, align: usize) -> Option<Source> {
        if align > self.page {
            return None;
        }
        // A class that is a power of two is aligned to it, because its pages are.
        let size = if align > GRAIN {
            size.max(align).checked_next_power_of_two()?
        } else {
            size
        };
        if size <= LARGEST {
            let (class, size) = class(size);
            return Some(Source::Class(class, size));
        }
        u32::try_from(size.div_ceil(self.page))
            .ok()
            .map(Source::Run)
    }

    fn runs(&mut self) -> Runs<'_> {
        Runs {
            bins: &mut self.state.bins,
            map: self.map,
        }
    }

    fn bytes(&self, source: Source) -> usize {
        match source {
            Source::Class(_, size) => size,
            Source::Run(len) => len as usize * self.page,
        }
    }

    /// Takes a piece of `size` bytes; answers where it begins and how many bytes it has. `None` when the heap
    /// is full.
    pub(crate) fn take(&mut self, size: usize, align: usize) -> Option<(u64, usize)> {
        let source = self.source(size, align)?;
        let offset = match source {
            Source::Class(class, size) => self.take_small(class, size)?,
            Source::Run(len) => u64::from(self.runs().take(len)?) * self.page as u64,
        };
        let bytes = self.bytes(source);
        self.state.used += bytes as u64;
        Some((offset, bytes))
    }

    fn take_small(&mut self, class: usize, size: usize) -> Option<u64> {
        let Class { free, next, end } = self.state.classes[class];
        if free != 0 {
            self.state.classes[class].free = self.words.get(free);
            return Some(free);
        }
        let size = size as u64;
        if next + size <= end {
            self.state.classes[class].next = next + size;
            return Some(next);
        }
        let pages = if size as usize > LARGER {
            PAGES_FOR_LARGER
        } else {
            1
        };
        let page = self.page as u64;
        let (first, pages) = match self.runs().take(pages) {
            Some(first) => (first, pages),
            None => (self.runs().take(1)?, 1),
        };
        let first = u64::from(first) * page;
        let end = first + u64::from(pages) * page;
        self.state.classes[class] = Class {
            free: 0,
            next: first + size,
            end,
        };
        Some(first)
    }

    /// Gives back the piece at `offset` that was taken for `size` and `align`.
    pub(crate) fn give(&mut self, offset: u64, size: usize, align: usize) {
        let Some(source) = self.source(size, align) else {
            return;
        };
        match source {
            Source::Class(class, _) => {
                self.words.set(offset, self.state.classes[class].free);
                self.state.classes[class].free = offset;
            }
            Source::Run(_) => {
                let page = (offset / self.page as u64) as u32;
                self.runs().give(page);
            }
        }
        self.state.used -= self.bytes(source) as u64;
    }

    /// Makes the piece at `offset` fit another size, where it is; answers how many bytes it has then.
    pub(crate) fn resize(
        &mut self,
        offset: u64,
        old: (usize, usize),
        new: (usize, usize),
    ) -> Option<usize> {
        let (had, wanted) = (self.source(old.0, old.1)?, self.source(new.0, new.1)?);
        match (had, wanted) {
            (had, wanted) if had == wanted => {}
            (Source::Run(_), Source::Run(len)) => {
                let page = (offset / self.page as u64) as u32;
                if !self.runs().resize(page, len) {
                    return None;
                }
            }
            _ => return None,
        }
        self.state.used += self.bytes(wanted) as u64;
        self.state.used -= self.bytes(had) as u64;
        Some(self.bytes(wanted))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PAGE: usize = 4096;

    struct Plain<'a>(&'a mut [u64]);

    impl Words for Plain<'_> {
        fn get(&self, offset: u64) -> u64 {
            self.0[offset as usize / 8]
        }

        fn set(&mut self, offset: u64, value: u64) {
            self.0[offset as usize / 8] = value;
        }
    }

    #[test]
    fn each_size_has_the_smallest_class_that_holds_it() {
        let mut last = (0, 16);
        for size in 1..=LARGEST {
            let (class, holds) = class(size);
            assert!(
                holds >= size && holds - size < (size / 4).max(GRAIN),
                "{size}: {holds}"
            );
            assert!(class < CLASSES && holds % GRAIN == 0, "{size}");
            assert!(
                (class, holds) == last || class == last.0 + 1 && size == last.1 + 1,
                "{size}"
            );
            last = (class, holds);
        }
        assert_eq!(last, (CLASSES - 1, LARGEST));
    }

    proptest! {
        #[test]
        fn pieces_are_aligned_never_overlap_and_are_used_again(
            steps in prop::collection::vec((any::<bool>(), 1usize..9000, 0u32..13, any::<usize>()), 1..400)
        ) {
            let layout = Layout::of(1 << 20, PAGE).unwrap();
            let mut state = State::new(&layout);
            let mut map = vec![Run::default(); layout.pages];
            let mut words = vec![0; layout.pages * PAGE / 8];
            let mut pieces = Pieces { state: &mut state, map: &mut map, words: Plain(&mut words), page: PAGE };
            let mut taken: Vec<(u64, usize, usize, usize)> = Vec::new();
            for (take, size, align, at) in steps {
                let align = 1usize << align;
                if take || taken.is_empty() {
                    if let Some((offset, holds)) = pieces.take(size, align) {
                        prop_assert!(holds >= size && offset % align.min(PAGE) as u64 == 0);
                        taken.push((offset, size, align, holds));
                    }
                } else {
                    let at = at % taken.len();
                    let (offset, had, align, _) = taken[at];
                    if let Some(holds) = pieces.resize(offset, (had, align), (size, align)) {
                        taken[at] = (offset, size, align, holds);
                    } else {
                        taken.swap_remove(at);
                        pieces.give(offset, had, align);
                    }
                }
                let mut sorted = taken.clone();
                sorted.sort_unstable();
                prop_assert!(sorted.windows(2).all(|two| two[0].0 + two[0].3 as u64 <= two[1].0));
                let used: usize = taken.iter().map(|piece| piece.3).sum();
                prop_assert_eq!(pieces.state.used, used as u64);
                prop_assert!(sorted.iter().all(|piece| piece.0 as usize >= layout.first * PAGE
                    && piece.0 as usize + piece.3 <= layout.pages * PAGE));
            }
        }
    }
}
