//! Where everything of a heap lies in its block.
//!
//! Used when a heap is opened. It depends on the block's size and on nothing else, so that it need not be
//! stored; it must never depend on what the heap holds.
//!
//! | pages | what | written |
//! | --- | --- | --- |
//! | first few | control words, then the numbers of saved pages | at any time |
//! | then `pages` | the heap: front page, map of runs, memory for values | in a transaction, after saving |
//! | as many again | saved pages | at the first write of a page |
//!
//! Half of the block is for saved pages. So a transaction may change every page of the heap and there is
//! always room: the handler that saves a page has nobody to tell that there is none.
#![forbid(unsafe_code)]

use crate::heap::runs::Run;

/// The bytes of the control words.
pub(crate) const CONTROL: usize = 64;
/// The size of a number of a saved page in bytes.
const NUMBER: usize = size_of::<u32>();
/// How many pages the part of the heap that is not for values has at least: the front.
pub(crate) const FRONT: usize = 1;

/// Offsets and sizes, in bytes from the block's start unless they count pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    /// The size of a page.
    pub(crate) page: usize,
    /// Where the heap begins.
    pub(crate) heap: usize,
    /// How many pages it has.
    pub(crate) pages: usize,
    /// Its first page for values.
    pub(crate) first: usize,
    /// Where the saved pages begin.
    pub(crate) saved: usize,
}

impl Layout {
    /// The fewest pages of a block that hold a heap: control, front, map, one page of values, the three
    /// saved.
    pub(crate) const LEAST: usize = 7;

    /// Of a block of `len` bytes; `None` when it is too small.
    pub(crate) fn of(len: usize, page: usize) -> Option<Self> {
        let all = len / page;
        // The first guess leaves out the control pages, which shrink it a little.
        let mut pages = all / 2;
        let control = loop {
            let control = (CONTROL + pages * NUMBER).div_ceil(page);
            if control + 2 * pages <= all {
                break control;
            }
            pages = pages.checked_sub(1)?;
        };
        let map = (pages * size_of::<Run>()).div_ceil(page);
        let first = FRONT + map;
        (pages > first && u32::try_from(pages).is_ok()).then_some(Self {
            page,
            heap: control * page,
            pages,
            first,
            saved: (control + pages) * page,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_overlaps_and_at_most_three_pages_are_left_over() {
        for all in Layout::LEAST..5_000 {
            let layout = Layout::of(all * 4096 + 17, 4096).unwrap();
            assert!(CONTROL + layout.pages * NUMBER <= layout.heap, "{all}");
            assert_eq!(layout.heap + layout.pages * 4096, layout.saved, "{all}");
            let end = layout.saved / 4096 + layout.pages;
            assert!(end <= all && all - end <= 3, "{all}: {end}");
            let map = (layout.first - FRONT) * 4096;
            assert!(map >= layout.pages * size_of::<Run>(), "{all}");
        }
    }

    #[test]
    fn a_block_that_is_too_small_has_no_heap() {
        for all in 0..Layout::LEAST {
            assert_eq!(Layout::of(all * 4096, 4096), None, "{all}");
        }
    }
}
