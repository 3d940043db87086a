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

use zerocopy::{FromBytes, IntoBytes};

use crate::layout::{
    ADDRESS_LIMIT, Geometry, HEADER, Header, Kind, MAGIC, MAX_RECORDS, RECORD, SLOT, Slot, VERSION,
};
use crate::record::{ActorRecord, BlockRecord, Intent, Record, State};
use crate::space::Window;
use crate::store::Store;

/// Why the bytes of a catalogue are none of this version.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// Another version.
    Version(u32),
    /// Damage, seen in the structure at this offset.
    Damaged { what: String, offset: u64 },
}

impl Flaw {
    pub(crate) fn damaged(what: impl Into<String>, offset: u64) -> Self {
        Self::Damaged {
            what: what.into(),
            offset,
        }
    }
}

/// Which slot of a record counts.
#[derive(Clone, Copy, Debug, Default)]
struct Cell {
    /// Its sequence number; 0: neither slot counts.
    seq: u64,
    /// 0 or 1.
    slot: u8,
}

/// The records of one kind.
#[derive(Debug)]
pub(crate) struct Table<T> {
    cells: Vec<Cell>,
    values: Vec<Option<T>>,
    /// Every record below this one is used.
    used_below: usize,
}

impl<T: Record> Table<T> {
    fn fresh(geometry: &Geometry, values: impl IntoIterator<Item = T>) -> Self {
        let count = geometry.count(T::KIND) as usize;
        let mut values: Vec<_> = values.into_iter().map(Some).collect();
        let used = Cell { seq: 1, slot: 0 };
        let mut cells = vec![used; values.len()];
        values.resize_with(count, || None);
        cells.resize(count, Cell::default());
        Self {
            cells,
            values,
            used_below: 0,
        }
    }

    fn load(geometry: &Geometry, bytes: &[u8]) -> Result<Self, Flaw> {
        let count = geometry.count(T::KIND);
        let mut table = Self {
            cells: Vec::with_capacity(count as usize),
            values: Vec::new(),
            used_below: 0,
        };
        for index in 0..count {
            let (cell, value) = load_record(geometry.at(T::KIND, index), index, bytes)?;
            table.cells.push(cell);
            table.values.push(value);
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
        let payload = value.as_ref().map_or([0; _], T::encode);
        let slot = Slot::new(T::KIND, index, next.seq, payload);
        let at = geometry.at(T::KIND, index) + u64::from(next.slot) * SLOT as u64;
        store.commit(at, 0)?;
        store.put(at + 8, &slot.as_bytes()[8..])?;
        store.commit(at, slot.commit.get())?;
        *cell = next;
        if value.is_none() {
            self.used_below = self.used_below.min(index as usize);
        }
        self.values[index as usize] = value;
        let above = self.values.get(self.used_below..).unwrap_or_default();
        self.used_below += above.iter().take_while(|value| value.is_some()).count();
        Ok(())
    }

    fn parts(&self, geometry: &Geometry, parts: &mut Vec<(u64, Vec<u8>)>) {
        for (index, value) in self.iter() {
            let slot = Slot::new(T::KIND, index, 1, value.encode());
            parts.push((geometry.at(T::KIND, index), slot.as_bytes().to_vec()));
        }
    }
}

fn load_record<T: Record>(at: u64, index: u32, bytes: &[u8]) -> Result<(Cell, Option<T>), Flaw> {
    let mut best = Cell::default();
    let mut payload = None;
    for number in 0..2u8 {
        let offset = at + u64::from(number) * SLOT as u64;
        let Some(slot) = read_slot(offset, T::KIND, index, bytes)? else {
            continue;
        };
        if slot.seq.get() == best.seq {
            return Err(Flaw::damaged("two slots of the same age", offset));
        }
        if slot.seq.get() > best.seq {
            best = Cell {
                seq: slot.seq.get(),
                slot: number,
            };
            payload = Some(slot.payload);
        }
    }
    let Some(payload) = payload else {
        return Ok((best, None));
    };
    let offset = at + u64::from(best.slot) * SLOT as u64;
    let value = T::decode(&payload).map_err(|what| Flaw::damaged(what, offset))?;
    Ok((best, value))
}

/// What a record says.
///
/// # Errors
/// The [`Flaw`] that a bank with this record is refused for.
pub(crate) fn record_at<T: Record>(at: u64, index: u32, bytes: &[u8]) -> Result<Option<T>, Flaw> {
    load_record(at, index, bytes).map(|(_, value)| value)
}

/// A slot of the record `index` of this kind; `None`: it holds nothing.
///
/// # Errors
/// The [`Flaw`] of a slot that neither holds nothing nor counts.
pub(crate) fn read_slot(
    offset: u64,
    kind: Kind,
    index: u32,
    bytes: &[u8],
) -> Result<Option<Slot>, Flaw> {
    let slot = slot_at(bytes, offset)?;
    if slot.commit.get() == 0 {
        return Ok(None);
    }
    if slot.commit.get() != slot.expected_commit() {
        return Err(Flaw::damaged("the checksum of a record is wrong", offset));
    }
    if slot.kind.get() != kind as u32 || slot.index.get() != index {
        return Err(Flaw::damaged("a record of another place", offset));
    }
    Ok(Some(slot))
}

fn slot_at(bytes: &[u8], offset: u64) -> Result<Slot, Flaw> {
    let start = offset as usize;
    bytes
        .get(start..start + SLOT)
        .and_then(|bytes| Slot::read_from_bytes(bytes).ok())
        .ok_or_else(|| Flaw::damaged("the catalogue ends early", bytes.len() as u64))
}

/// Reads a header: what a catalogue was made with.
///
/// # Errors
/// [`Flaw`], when the bytes are no header of this version.
pub(crate) fn read_header(bytes: &[u8]) -> Result<Geometry, Flaw> {
    let Some(header) = bytes
        .get(..HEADER)
        .and_then(|bytes| Header::read_from_bytes(bytes).ok())
    else {
        return Err(Flaw::damaged(
            "the catalogue is shorter than its header",
            bytes.len() as u64,
        ));
    };
    if header.magic != MAGIC {
        return Err(Flaw::damaged(
            "the catalogue does not begin with RFRNBANK",
            0,
        ));
    }
    if header.version.get() != VERSION {
        return Err(Flaw::Version(header.version.get()));
    }
    if header.crc.get() != header.checksum() {
        return Err(Flaw::damaged("the checksum of the header is wrong", 0));
    }
    let geometry = header.geometry();
    let sound = u64::from(header.record_size.get()) == RECORD
        && header.file_size.get() == geometry.file_size()
        && is_sound(&geometry);
    if !sound {
        return Err(Flaw::damaged("the sizes in the header do not agree", 0));
    }
    Ok(geometry)
}

/// Whether there can be a catalogue of this geometry.
pub(crate) fn is_sound(geometry: &Geometry) -> bool {
    let Window { base, size } = geometry.window;
    geometry.max_blocks.max(geometry.max_actors) <= MAX_RECORDS
        && geometry.page_size.is_power_of_two()
        && base
            .checked_add(size)
            .is_some_and(|end| end <= ADDRESS_LIMIT)
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
            state: Table::fresh(&geometry, [state]),
            intent: Table::fresh(&geometry, []),
            blocks: Table::fresh(&geometry, []),
            actors: Table::fresh(&geometry, []),
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
            state: Table::fresh(&geometry, [state]),
            intent: Table::fresh(&geometry, intent),
            blocks: Table::fresh(&geometry, blocks),
            actors: Table::fresh(&geometry, actors),
            poisoned: false,
        }
    }

    /// The same content for another geometry, which has room for it.
    pub(crate) fn rebuilt(&self, geometry: Geometry) -> Self {
        Self {
            geometry,
            state: Table::fresh(&geometry, [*self.state()]),
            intent: Table::fresh(&geometry, []),
            blocks: Table::fresh(
                &geometry,
                self.blocks.iter().map(|(_, block)| block.clone()),
            ),
            actors: Table::fresh(&geometry, self.actors.iter().map(|(_, actor)| *actor)),
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

    /// The bytes of a new file that holds all this; what lies between them is zero.
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
