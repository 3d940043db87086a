//! The records of a bank, in memory and in their slots, and how one of them changes. Called by
//! `bank`, `registry`, `open` and `recover`.
//!
//! A record has two slots; the valid one with the higher sequence number counts. A change goes
//! into the other one, in three steps, each durable before the next:
//!
//! 1. its commit word becomes 0: the slot holds nothing;
//! 2. sequence number, kind, index and payload are written behind it;
//! 3. its commit word becomes the checksum of what stands behind it: the change is made.
//!
//! After a crash between any two instructions the slot either holds nothing or counts. So a slot
//! whose commit word is neither 0 nor right was not left behind by a crash: it is damage, and
//! never mistaken for a change that was not finished.
//!
//! It must never read the catalogue again once it is loaded, nor write on after a write failed
//! (what the medium then holds is not known; opening it again finds out).

use std::io;

use zerocopy::IntoBytes;

use crate::layout::{Geometry, Kind, SLOT, Slot};
use crate::record::{ActorRecord, BlockRecord, Intent, Record, Remains, State};
use crate::slot::{Cell, Flaw, load_record, read_header};
use crate::store::Store;

/// Nothing was given a number yet.
const NONE: Remains = Remains {
    id: 0,
    addr: 0,
    size: 0,
};

/// The records of one kind.
#[derive(Debug)]
pub(crate) struct Table<T> {
    cells: Vec<Cell>,
    values: Vec<Option<T>>,
    /// Every record below this one is used.
    used_below: usize,
    /// What was given a number last, be it there or not.
    last: Remains,
}

impl<T: Record> Table<T> {
    /// With these values, and where there is room a free record that keeps `last`.
    fn fresh(geometry: &Geometry, values: impl IntoIterator<Item = T>, last: Remains) -> Self {
        let count = geometry.count(T::KIND) as usize;
        let mut values: Vec<_> = values.into_iter().map(Some).collect();
        let used = Cell { seq: 1, slot: 0 };
        let mut cells = vec![used; values.len()];
        values.resize_with(count, || None);
        cells.resize(count, Cell::default());
        let mut table = Self {
            cells,
            values,
            used_below: 0,
            last,
        };
        if last != Remains::default()
            && let Some(grave) = table.first_free()
        {
            table.cells[grave as usize] = used;
        }
        table
    }

    fn load(geometry: &Geometry, bytes: &[u8]) -> Result<Self, Flaw> {
        let count = geometry.count(T::KIND);
        let mut table = Self {
            cells: Vec::with_capacity(count as usize),
            values: Vec::new(),
            used_below: 0,
            last: Remains::default(),
        };
        for index in 0..count {
            let found = load_record(geometry.at(T::KIND, index), index, bytes)?;
            table.cells.push(found.cell);
            table.values.push(found.value);
            table.last = table.last.max(found.remains);
        }
        Ok(table)
    }

    /// The value of a record.
    pub(crate) fn get(&self, index: u32) -> Option<&T> {
        self.values.get(index as usize)?.as_ref()
    }

    /// Every used record with its index.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        (0u32..)
            .zip(&self.values)
            .filter_map(|(index, value)| Some((index, value.as_ref()?)))
    }

    /// What was given a file number last, be it there or not.
    pub(crate) fn last(&self) -> Remains {
        self.last
    }

    /// The first free record.
    pub(crate) fn first_free(&self) -> Option<u32> {
        let above = self.values.get(self.used_below..)?;
        let free = above.iter().position(Option::is_none)?;
        Some((self.used_below + free) as u32)
    }

    fn set(
        &mut self,
        geometry: &Geometry,
        store: &mut dyn Store,
        index: u32,
        value: Option<T>,
    ) -> io::Result<()> {
        let cell = &mut self.cells[index as usize];
        let next = Cell {
            seq: cell.seq.saturating_add(1),
            slot: if cell.seq == 0 { 0 } else { 1 - cell.slot },
        };
        let payload = match (&value, &self.values[index as usize]) {
            (Some(value), _) => value.encode(),
            (None, Some(old)) => T::grave(T::remains(&old.encode())),
            (None, None) => T::grave(Remains::default()),
        };
        let slot = Slot::new(T::KIND, index, next.seq, payload);
        let at = geometry.at(T::KIND, index) + u64::from(next.slot) * SLOT as u64;
        store.commit(at, 0)?;
        store.put(at + 8, &slot.as_bytes()[8..])?;
        store.commit(at, slot.commit.get())?;
        *cell = next;
        self.last = self.last.max(T::remains(&payload));
        if value.is_none() {
            self.used_below = self.used_below.min(index as usize);
        }
        self.values[index as usize] = value;
        let above = self.values.get(self.used_below..).unwrap_or_default();
        self.used_below += above.iter().take_while(|value| value.is_some()).count();
        Ok(())
    }

    fn parts(&self, geometry: &Geometry, parts: &mut Vec<(u64, Vec<u8>)>) {
        for ((index, value), cell) in (0u32..).zip(&self.values).zip(&self.cells) {
            if cell.seq == 0 {
                continue;
            }
            let grave = || T::grave(self.last);
            let payload = value.as_ref().map_or_else(grave, T::encode);
            let slot = Slot::new(T::KIND, index, 1, payload);
            parts.push((geometry.at(T::KIND, index), slot.as_bytes().to_vec()));
        }
    }
}

/// Everything that a catalogue says.
#[derive(Debug)]
pub(crate) struct Catalogue {
    geometry: Geometry,
    state: Table<State>,
    intent: Table<Intent>,
    blocks: Table<BlockRecord>,
    actors: Table<ActorRecord>,
    poisoned: bool,
}

impl Catalogue {
    /// One that holds nothing but `state`.
    pub(crate) fn fresh(geometry: Geometry, state: State) -> Self {
        Self {
            geometry,
            state: Table::fresh(&geometry, [state], NONE),
            intent: Table::fresh(&geometry, [], NONE),
            blocks: Table::fresh(&geometry, [], NONE),
            actors: Table::fresh(&geometry, [], NONE),
            poisoned: false,
        }
    }

    /// One that holds this, for which the geometry has room; for `repair`.
    pub(crate) fn assembled(
        geometry: Geometry,
        state: State,
        intent: Option<Intent>,
        blocks: Vec<BlockRecord>,
        actors: Vec<ActorRecord>,
    ) -> Self {
        Self {
            geometry,
            state: Table::fresh(&geometry, [state], NONE),
            intent: Table::fresh(&geometry, intent, NONE),
            blocks: Table::fresh(&geometry, blocks, NONE),
            actors: Table::fresh(&geometry, actors, NONE),
            poisoned: false,
        }
    }

    /// The same content for another geometry, which has room for it.
    pub(crate) fn rebuilt(&self, geometry: Geometry) -> Self {
        Self {
            geometry,
            state: Table::fresh(&geometry, [*self.state()], NONE),
            intent: Table::fresh(&geometry, [], NONE),
            blocks: Table::fresh(
                &geometry,
                self.blocks.iter().map(|(_, block)| block.clone()),
                self.blocks.last,
            ),
            actors: Table::fresh(
                &geometry,
                self.actors.iter().map(|(_, actor)| *actor),
                self.actors.last,
            ),
            poisoned: false,
        }
    }

    /// Reads a whole catalogue.
    ///
    /// # Errors
    /// [`Flaw`], naming the first thing that is wrong and where.
    pub(crate) fn load(bytes: &[u8]) -> Result<Self, Flaw> {
        let geometry = read_header(bytes)?;
        if bytes.len() as u64 != geometry.file_size() {
            let what = format!(
                "the catalogue has {} bytes instead of {}",
                bytes.len(),
                geometry.file_size()
            );
            return Err(Flaw::damaged(what, bytes.len() as u64));
        }
        let catalogue = Self {
            geometry,
            state: Table::load(&geometry, bytes)?,
            intent: Table::load(&geometry, bytes)?,
            blocks: Table::load(&geometry, bytes)?,
            actors: Table::load(&geometry, bytes)?,
            poisoned: false,
        };
        if catalogue.state.get(0).is_none() {
            return Err(Flaw::damaged(
                "the state record is missing",
                geometry.at(Kind::State, 0),
            ));
        }
        Ok(catalogue)
    }

    /// The bytes of a new file that holds all this, as long as nothing has changed in it; else it is zero.
    pub(crate) fn parts(&self) -> Vec<(u64, Vec<u8>)> {
        let mut parts = vec![(0, self.geometry.header().as_bytes().to_vec())];
        self.state.parts(&self.geometry, &mut parts);
        self.intent.parts(&self.geometry, &mut parts);
        self.blocks.parts(&self.geometry, &mut parts);
        self.actors.parts(&self.geometry, &mut parts);
        parts
    }

    pub(crate) fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    pub(crate) fn state(&self) -> &State {
        self.state
            .get(0)
            .expect("a catalogue has its state from the time it is made")
    }

    pub(crate) fn intent(&self) -> Option<Intent> {
        self.intent.get(0).copied()
    }

    pub(crate) fn blocks(&self) -> &Table<BlockRecord> {
        &self.blocks
    }

    pub(crate) fn actors(&self) -> &Table<ActorRecord> {
        &self.actors
    }

    pub(crate) fn set_state(&mut self, store: &mut dyn Store, state: State) -> io::Result<()> {
        let result = self.state.set(&self.geometry, store, 0, Some(state));
        self.note(result)
    }

    pub(crate) fn set_intent(
        &mut self,
        store: &mut dyn Store,
        intent: Option<Intent>,
    ) -> io::Result<()> {
        let result = self.intent.set(&self.geometry, store, 0, intent);
        self.note(result)
    }

    pub(crate) fn set_block(
        &mut self,
        store: &mut dyn Store,
        index: u32,
        block: Option<BlockRecord>,
    ) -> io::Result<()> {
        let result = self.blocks.set(&self.geometry, store, index, block);
        self.note(result)
    }

    pub(crate) fn set_actor(
        &mut self,
        store: &mut dyn Store,
        index: u32,
        actor: Option<ActorRecord>,
    ) -> io::Result<()> {
        let result = self.actors.set(&self.geometry, store, index, actor);
        self.note(result)
    }

    /// Whether a step failed half way, so that nothing more may be written.
    pub(crate) fn poisoned(&self) -> bool {
        self.poisoned
    }

    /// Takes note of how a step ended that must not fail.
    pub(crate) fn note(&mut self, result: io::Result<()>) -> io::Result<()> {
        self.poisoned |= result.is_err();
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use refrain_abi::Aid;

    use crate::space::Window;

    fn image() -> Vec<u8> {
        let geometry = Geometry {
            size: 1 << 20,
            window: Window {
                base: 1 << 44,
                size: 1 << 30,
            },
            max_blocks: 4,
            max_actors: 4,
            max_groups: 4,
            page_size: 4096,
            made_directory: true,
        };
        let state = State {
            aid_floor: Aid(1),
            pid: 1,
            openings: 1,
            boot_id: [b'0'; 36],
        };
        let catalogue = Catalogue::fresh(geometry, state);
        let mut bytes = vec![0; geometry.file_size() as usize];
        for (at, part) in catalogue.parts() {
            bytes[at as usize..][..part.len()].copy_from_slice(&part);
        }
        bytes
    }

    #[test]
    fn a_fresh_catalogue_reads_back() {
        let catalogue = Catalogue::load(&image()).unwrap();
        assert_eq!(catalogue.state().aid_floor, Aid(1));
        assert_eq!(catalogue.blocks().iter().count(), 0);
    }

    #[test]
    fn another_version_is_told_from_damage() {
        let mut bytes = image();
        bytes[8] = 9;
        assert_eq!(Catalogue::load(&bytes).unwrap_err(), Flaw::Version(9));
    }

    proptest! {
        #[test]
        fn a_changed_bit_is_found_or_changes_nothing(at in 0usize..5120, bit in 0u8..8) {
            let mut bytes = image();
            bytes[at] ^= 1 << bit;
            match Catalogue::load(&bytes) {
                Err(Flaw::Version(_)) => prop_assert!((8..12).contains(&at)),
                Err(Flaw::Damaged { .. }) => {}
                // Bytes that no structure uses, or the empty slots' bodies.
                Ok(catalogue) => prop_assert_eq!(catalogue.state().aid_floor, Aid(1)),
            }
        }

        #[test]
        fn no_bytes_make_loading_panic(cut in 0usize..12288, junk in prop::collection::vec(any::<u8>(), 0..64)) {
            let mut bytes = image();
            let end = (cut + junk.len()).min(bytes.len());
            bytes[cut..end].copy_from_slice(&junk[..end - cut]);
            let _ = Catalogue::load(&bytes);
            let _ = Catalogue::load(&bytes[..cut]);
        }
    }
}
