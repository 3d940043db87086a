//! Where a block gets its address: a window of the address space that is the same in every life
//! and every actor (DESIGN section 3). Pure; called by `bank` for each new block.
//!
//! It must never place two blocks over one another, nor move one that has an address.
//!
//! The search begins behind the block that was placed last and goes on from the window's base
//! when it comes to the end. Starting at the base each time would hand the address of a block
//! that was just freed to the next one at once, while another actor of the group may still have
//! the old block mapped there. A page is left free behind every block, so that a write past its
//! end faults and does not reach its neighbour.

/// The window of addresses, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    pub base: u64,
    pub size: u64,
}

impl Window {
    /// The first address behind the window.
    pub(crate) fn end(self) -> u64 {
        self.base + self.size
    }
}

/// An address for `size` bytes clear of `taken` (address and size of every block, in any order),
/// at or behind `from` if there is one, else anywhere in the window. `None`: no gap is large enough.
pub(crate) fn place(
    window: Window,
    taken: &mut [(u64, u64)],
    from: u64,
    size: u64,
    guard: u64,
) -> Option<u64> {
    taken.sort_unstable();
    let from = if (window.base..window.end()).contains(&from) {
        from
    } else {
        window.base
    };
    first_fit(window, taken, from, size, guard)
        .or_else(|| first_fit(window, taken, window.base, size, guard))
}

fn first_fit(
    window: Window,
    sorted: &[(u64, u64)],
    from: u64,
    size: u64,
    guard: u64,
) -> Option<u64> {
    let need = size.checked_add(guard)?;
    let mut candidate = from;
    for &(addr, len) in sorted {
        if addr >= candidate && addr - candidate >= need {
            break;
        }
        candidate = candidate.max(addr + len + guard);
    }
    let end = candidate.checked_add(need)?;
    (end <= window.end()).then_some(candidate)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PAGE: u64 = 4096;
    const WINDOW: Window = Window {
        base: 0x10_0000,
        size: 16 * PAGE,
    };

    #[test]
    fn a_freed_address_is_not_handed_out_again_at_once() {
        let first = place(WINDOW, &mut [], 0, PAGE, PAGE).unwrap();
        let second = place(WINDOW, &mut [], first + 2 * PAGE, PAGE, PAGE).unwrap();
        assert_ne!(first, second);
    }

    #[test]
    fn the_search_comes_round_to_the_windows_base() {
        let late = WINDOW.end() - PAGE;
        assert_eq!(place(WINDOW, &mut [], late, PAGE, PAGE), Some(WINDOW.base));
    }

    #[test]
    fn a_block_larger_than_every_gap_gets_no_address() {
        let mut taken = [(WINDOW.base + 8 * PAGE, PAGE)];
        assert_eq!(place(WINDOW, &mut taken, 0, 8 * PAGE, PAGE), None);
        assert_eq!(
            place(WINDOW, &mut taken, 0, 7 * PAGE, PAGE),
            Some(WINDOW.base)
        );
        assert_eq!(place(WINDOW, &mut [], 0, u64::MAX, PAGE), None);
    }

    proptest! {
        #[test]
        fn blocks_lie_in_the_window_and_never_overlap(
            sizes in prop::collection::vec((1u64..4, any::<bool>()), 1..60),
        ) {
            let mut taken: Vec<(u64, u64)> = Vec::new();
            let mut from = 0;
            for (pages, free_first) in sizes {
                if free_first && !taken.is_empty() {
                    taken.remove(0);
                }
                let size = pages * PAGE;
                let Some(addr) = place(WINDOW, &mut taken, from, size, PAGE) else { continue };
                prop_assert!(addr >= WINDOW.base && addr + size <= WINDOW.end());
                for &(other, len) in &taken {
                    prop_assert!(addr + size < other || other + len < addr);
                }
                from = addr + size + PAGE;
                taken.push((addr, size));
            }
        }
    }
}
