//! What no single record shows: blocks and registrations that are at odds with one another or with
//! the header. Called by `recover`, which refuses a bank for it, and by `survey`, which goes on and
//! names every record that is at odds; so both decide alike.
//!
//! It must never move or mend anything. Records are shown one after the other; one that is refused
//! leaves no trace, so what was accepted is always consistent.

use std::collections::{BTreeMap, HashSet};

use refrain_abi::{ActorName, BlockName};

use crate::layout::Geometry;
use crate::record::{ActorRecord, BlockRecord};
use crate::store::Numbered;

/// The records that were accepted so far.
#[derive(Debug)]
pub(crate) struct Accepted {
    geometry: Geometry,
    blocks: HashSet<BlockName>,
    actors: HashSet<ActorName>,
    files: HashSet<Numbered>,
    /// Behind each address the first one behind that block, and its name.
    places: BTreeMap<u64, (u64, BlockName)>,
    used: u64,
}

impl Accepted {
    /// None yet, of a catalogue of this geometry.
    pub(crate) fn new(geometry: Geometry) -> Self {
        Self {
            geometry,
            blocks: HashSet::new(),
            actors: HashSet::new(),
            files: HashSet::new(),
            places: BTreeMap::new(),
            used: 0,
        }
    }

    /// Bytes in the blocks that were accepted.
    pub(crate) fn used(&self) -> u64 {
        self.used
    }

    /// Whether a record that was accepted names this file.
    pub(crate) fn names(&self, file: Numbered) -> bool {
        self.files.contains(&file)
    }

    /// Accepts a block.
    ///
    /// # Errors
    /// What it is at odds with.
    pub(crate) fn block(&mut self, block: &BlockRecord) -> Result<(), String> {
        let &BlockRecord {
            name,
            addr,
            size,
            id,
            ..
        } = block;
        let page = u64::from(self.geometry.page_size);
        let window = self.geometry.window;
        let end = addr.checked_add(size).filter(|end| *end <= window.end());
        let (Some(end), true, true, true, true) = (
            end,
            size != 0,
            size % page == 0,
            addr % page == 0,
            addr >= window.base,
        ) else {
            return Err(format!("block {name} lies outside the address window"));
        };
        if self.blocks.contains(&name) || self.names(Numbered::Block(id)) {
            return Err(format!("block {name} is there twice"));
        }
        let before = self.places.range(..=addr).next_back();
        let behind = self.places.range(addr..end).next();
        let other = before
            .filter(|(_, (other_end, _))| *other_end > addr)
            .or(behind);
        if let Some((_, (_, other))) = other {
            return Err(format!("blocks {other} and {name} overlap"));
        }
        let used = self.used.saturating_add(size);
        if used > self.geometry.size {
            return Err("the blocks are larger than the bank".into());
        }
        self.used = used;
        self.blocks.insert(name);
        self.files.insert(Numbered::Block(id));
        self.places.insert(addr, (end, name));
        Ok(())
    }

    /// Accepts a registration.
    ///
    /// # Errors
    /// What it is at odds with.
    pub(crate) fn actor(&mut self, actor: &ActorRecord) -> Result<(), String> {
        let file = Numbered::Spec(actor.spec_id);
        if self.actors.contains(&actor.name) || self.names(file) {
            return Err(format!("actor {} is registered twice", actor.name));
        }
        self.actors.insert(actor.name);
        self.files.insert(file);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use refrain_abi::DeletionKey;

    use crate::access::Owner;
    use crate::space::Window;

    const PAGE: u64 = 4096;
    const BASE: u64 = 1 << 44;

    fn accepted() -> Accepted {
        Accepted::new(Geometry {
            size: 8 * PAGE,
            window: Window {
                base: BASE,
                size: 16 * PAGE,
            },
            max_blocks: 8,
            max_actors: 8,
            max_groups: 8,
            page_size: PAGE as u32,
            made_directory: false,
        })
    }

    fn block(name: &str, id: u64, page: u64, pages: u64) -> BlockRecord {
        BlockRecord {
            name: BlockName::new(name).unwrap(),
            id,
            addr: BASE.wrapping_add(page.wrapping_mul(PAGE)),
            size: pages * PAGE,
            owner: Owner::Ordinary,
            key: DeletionKey::Group,
            granted: Vec::new(),
        }
    }

    #[test]
    fn h15_blocks_that_are_at_odds_are_refused_and_leave_no_trace() {
        let mut accepted = accepted();
        accepted.block(&block("a", 1, 4, 2)).unwrap();
        for (other, text) in [
            (block("b", 2, 5, 1), "blocks a and b overlap"),
            (block("b", 2, 3, 2), "blocks a and b overlap"),
            (block("b", 2, 3, 5), "blocks a and b overlap"),
            (block("b", 2, 15, 2), "outside"),
            (block("b", 2, u64::MAX, 1), "outside"),
            (block("b", 2, 0, 0), "outside"),
            (block("b", 1, 0, 1), "twice"),
            (block("a", 2, 0, 1), "twice"),
            (block("b", 2, 6, 7), "larger than the bank"),
        ] {
            let refused = accepted.block(&other).unwrap_err();
            assert!(refused.contains(text), "{refused}: not {text}");
        }
        accepted.block(&block("b", 2, 6, 1)).unwrap();
        accepted.block(&block("c", 3, 3, 1)).unwrap();
        assert_eq!(accepted.used(), 4 * PAGE);
    }

    proptest! {
        #[test]
        fn blocks_that_are_accepted_never_overlap(
            places in prop::collection::vec((0u64..20, 1u64..5), 1..30),
        ) {
            let mut accepted = accepted();
            let mut kept: Vec<BlockRecord> = Vec::new();
            for (id, (page, pages)) in (0u64..).zip(places) {
                let one = block(&format!("b{id}"), id, page, pages);
                let clear = kept.iter().all(|k| k.addr + k.size <= one.addr || one.addr + one.size <= k.addr);
                let fits = page + pages <= 16
                    && kept.iter().map(|k| k.size).sum::<u64>() + one.size <= 8 * PAGE;
                prop_assert_eq!(accepted.block(&one).is_ok(), clear && fits);
                if clear && fits {
                    kept.push(one);
                }
            }
        }
    }
}
