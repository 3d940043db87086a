//! The sizes of a bank whose header is damaged. Called by `examine`.
//!
//! A slot says which record it belongs to, and block records begin at the same place in every
//! catalogue, so the records can be found without a header; where actor records begin then tells
//! how many block records there are. What the header says besides is believed where it agrees with
//! the records and the file; for the rest there are the defaults of the tunables, which an opening
//! replaces by the configured ones anyway. Only the address window stays with a bank: it is one
//! that holds every block.
//!
//! It must never answer a geometry that a whole record does not fit in.

use std::collections::HashMap;

use refrain_abi::tunables::Tunables;
use zerocopy::FromBytes;

use crate::layout::{
    ADDRESS_LIMIT, BLOCKS_AT, Geometry, HEADER, Header, Kind, MAX_RECORDS, RECORD, SLOT,
};
use crate::record::BlockRecord;
use crate::slot::{Flaw, is_sound, read_header, read_slot, record_at};
use crate::space::Window;

/// What a catalogue was made with, as far as it can be told, and what is wrong with its header.
///
/// # Errors
/// The version of a catalogue that is sound, but of another version than this crate's.
pub(crate) fn geometry_of(bytes: &[u8]) -> Result<(Geometry, Option<Flaw>), u32> {
    match read_header(bytes) {
        Ok(geometry) => Ok((geometry, None)),
        Err(Flaw::Version(version)) => {
            let header = header_in(bytes).filter(is_ours);
            let header = header.ok_or(version)?;
            let what = format!("the version in the header is {version}, and its checksum wrong");
            Ok((header.geometry(), Some(Flaw::damaged(what, 8))))
        }
        Err(flaw) => Ok((guess(bytes), Some(flaw))),
    }
}

fn header_in(bytes: &[u8]) -> Option<Header> {
    Header::read_from_bytes(bytes.get(..HEADER)?).ok()
}

/// Whether the checksum is right once what every header has in common is put right.
fn is_ours(header: &Header) -> bool {
    let geometry = header.geometry();
    geometry.header().crc.get() == header.crc.get() && is_sound(&geometry)
}

fn guess(bytes: &[u8]) -> Geometry {
    let header = header_in(bytes);
    if let Some(header) = header.filter(is_ours) {
        return header.geometry();
    }
    let records = Records::find(bytes);
    let said = header.map(|header| header.geometry());
    let defaults = Tunables::default();
    let max_blocks = records.max_blocks(said.map(|said| said.max_blocks));
    let rest = (bytes.len() as u64).saturating_sub(BLOCKS_AT + u64::from(max_blocks) * RECORD);
    let room = u32::try_from(rest / RECORD)
        .unwrap_or(MAX_RECORDS)
        .min(MAX_RECORDS);
    let window = records.window(said.map(|said| said.window), &defaults);
    let size = said
        .map(|said| said.size)
        .filter(|size| (1..=window.size).contains(size) && *size >= records.used)
        .unwrap_or(
            defaults
                .pmm
                .ram_bank_size
                .max(records.used)
                .min(window.size),
        );
    Geometry {
        size,
        window,
        max_blocks,
        max_actors: match room {
            0 => defaults.hr_ctrl.max_actors,
            room => room,
        },
        max_groups: said
            .map(|said| said.max_groups)
            .filter(|count| (1..=MAX_RECORDS).contains(count))
            .unwrap_or(defaults.hr_ctrl.max_groups),
        page_size: rustix::param::page_size() as u32,
        // Rather a directory too many than one that was not the bank's to remove.
        made_directory: false,
    }
}

/// What a search of the slots finds.
#[derive(Default)]
struct Records {
    /// How many block records there seem to be, by the slots of actors, and how many say so.
    votes: HashMap<u32, u32>,
    /// How many block records there are at least.
    least_blocks: u32,
    /// How many records there is room for in the file.
    room: u32,
    /// Bytes in blocks.
    used: u64,
    /// The lowest address of a block.
    from: Option<u64>,
    /// The highest address behind one.
    to: u64,
}

impl Records {
    fn find(bytes: &[u8]) -> Self {
        let mut found = Self {
            room: u32::try_from((bytes.len() as u64).saturating_sub(BLOCKS_AT) / RECORD)
                .unwrap_or(MAX_RECORDS)
                .min(MAX_RECORDS),
            ..Self::default()
        };
        for place in 0..found.room {
            let at = BLOCKS_AT + u64::from(place) * RECORD;
            if (0..2).any(|slot| counts(bytes, at + slot * SLOT as u64, Kind::Block, place)) {
                found.least_blocks = place + 1;
                found.note_block(at, place, bytes);
            }
            found.note_actor(at, place, bytes);
        }
        found
    }

    fn note_block(&mut self, at: u64, index: u32, bytes: &[u8]) {
        let Ok(Some(block)) = record_at::<BlockRecord>(at, index, bytes) else {
            return;
        };
        let end = block.addr.saturating_add(block.size);
        if end <= ADDRESS_LIMIT {
            self.used = self.used.saturating_add(block.size);
            self.from = Some(self.from.map_or(block.addr, |from| from.min(block.addr)));
            self.to = self.to.max(end);
        }
    }

    fn note_actor(&mut self, at: u64, place: u32, bytes: &[u8]) {
        let start = at as usize;
        let index = bytes
            .get(start + 20..start + 24)
            .and_then(|word| word.try_into().ok());
        let index = index.map_or(u32::MAX, u32::from_le_bytes);
        if index <= place && counts(bytes, at, Kind::Actor, index) {
            *self.votes.entry(place - index).or_default() += 1;
        }
    }

    fn max_blocks(&self, said: Option<u32>) -> u32 {
        let fits = |count: &u32| (self.least_blocks.max(1)..=self.room).contains(count);
        let voted = self
            .votes
            .iter()
            .filter(|(count, _)| fits(count))
            .max_by_key(|(_, votes)| **votes)
            .map(|(count, _)| *count);
        let default = Tunables::default().pmm.max_blocks;
        voted
            .or(said.filter(fits))
            .or(Some(default).filter(|_| self.room == 0 || fits(&default)))
            .unwrap_or(self.least_blocks.max(1))
    }

    fn window(&self, said: Option<Window>, defaults: &Tunables) -> Window {
        let page = rustix::param::page_size() as u64;
        let holds = |window: &Window| {
            let end = window.base.checked_add(window.size);
            window.base != 0
                && window.base.is_multiple_of(page)
                && window.size.is_multiple_of(page)
                && window.size >= self.used.max(page)
                && end.is_some_and(|end| end <= ADDRESS_LIMIT && end >= self.to)
                && self.from.is_none_or(|from| from >= window.base)
        };
        let default = Window {
            base: defaults.pmm.window_base,
            size: defaults.pmm.window_size,
        };
        // Nobody has a block at 0, whatever a record says.
        let from = self.from.unwrap_or(default.base).min(default.base) / page * page;
        let from = from.max(page);
        let to = self.to.max(default.base + default.size);
        said.into_iter()
            .chain([default])
            .find(holds)
            .unwrap_or(Window {
                base: from,
                size: (to - from).next_multiple_of(page).min(ADDRESS_LIMIT - from),
            })
    }
}

fn counts(bytes: &[u8], at: u64, kind: Kind, index: u32) -> bool {
    matches!(read_slot(at, kind, index, bytes), Ok(Some(_)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::Catalogue;
    use crate::record::{ActorRecord, State};
    use proptest::prelude::*;
    use refrain_abi::{ActorName, Aid, DeletionKey, Gid, LifeNo};
    use zerocopy::IntoBytes;

    const GEOMETRY: Geometry = Geometry {
        size: 1 << 20,
        window: Window {
            base: 1 << 44,
            size: 1 << 30,
        },
        max_blocks: 12,
        max_actors: 8,
        max_groups: 4,
        page_size: 4096,
        made_directory: true,
    };

    fn image(actors: u64) -> Vec<u8> {
        let state = State {
            aid_floor: Aid(1),
            pid: 1,
            openings: 1,
            boot_id: [b'0'; 36],
        };
        let actors = (0..actors).map(|n| ActorRecord {
            name: ActorName::new(&format!("actor{n}")).unwrap(),
            gid: Gid(1),
            direct: true,
            clean: false,
            life: LifeNo(0),
            restarts: 0,
            running: None,
            spec_id: n,
            spec_len: 0,
            spec_crc: 0,
        });
        let block = BlockRecord {
            name: ActorName::new("block").unwrap(),
            id: 9,
            addr: (1 << 44) + 8192,
            size: 4096,
            owner: crate::Owner::Ordinary,
            key: DeletionKey::Opaque([0; 32]),
            granted: Vec::new(),
        };
        let catalogue = Catalogue::assembled(GEOMETRY, state, None, vec![block], actors.collect());
        let mut bytes = vec![0; GEOMETRY.file_size() as usize];
        for (at, part) in catalogue.parts() {
            bytes[at as usize..][..part.len()].copy_from_slice(&part);
        }
        bytes
    }

    #[test]
    fn damage_to_what_all_headers_share_loses_nothing() {
        for at in [0, 7, 8, 12, 60, 64, 90] {
            let mut bytes = image(0);
            bytes[at] ^= 0x40;
            let (geometry, flaw) = geometry_of(&bytes).unwrap();
            assert_eq!(geometry, GEOMETRY, "byte {at}");
            assert!(flaw.is_some());
        }
    }

    #[test]
    fn another_version_is_no_damage() {
        let mut bytes = image(0);
        let mut header = GEOMETRY.header();
        header.version = 2.into();
        header.crc = header.checksum().into();
        bytes[..HEADER].copy_from_slice(header.as_bytes());
        assert_eq!(geometry_of(&bytes).unwrap_err(), 2);
    }

    #[test]
    fn without_any_header_the_records_tell_where_they_are() {
        let mut bytes = image(2);
        bytes[..HEADER].fill(0xa5);
        let (geometry, flaw) = geometry_of(&bytes).unwrap();
        assert_eq!((geometry.max_blocks, geometry.max_actors), (12, 12));
        assert!(geometry.window.base <= 1 << 44 && flaw.is_some());
    }

    proptest! {
        #[test]
        fn whatever_the_header_says_every_whole_record_fits(
            header in prop::collection::vec(any::<u8>(), HEADER),
            keep in prop::collection::vec(any::<bool>(), HEADER),
        ) {
            let mut bytes = image(3);
            for at in 0..HEADER {
                if !keep[at] {
                    bytes[at] = header[at];
                }
            }
            if let Ok((geometry, _)) = geometry_of(&bytes) {
                prop_assert_eq!(geometry.max_blocks, 12);
                prop_assert!(geometry.max_actors >= 3);
                prop_assert!(geometry.window.base <= 1 << 44);
                prop_assert!(geometry.window.end() >= (1 << 44) + 12288);
                prop_assert!((4096..=geometry.window.size).contains(&geometry.size));
            }
        }

        #[test]
        fn no_bytes_make_the_search_panic(bytes in prop::collection::vec(any::<u8>(), 0..20_000)) {
            let _ = geometry_of(&bytes);
        }
    }
}
