//! The bytes of a catalogue, read: its header, and which of a record's two slots counts. Called by
//! `catalogue` and `recover`, which take no flaw, and by `examine` and `salvage`, which go on.
//!
//! It must never take a slot whose checksum, kind or index is wrong, nor panic on any bytes.

use std::ops::RangeInclusive;

use zerocopy::FromBytes;

use crate::layout::{
    ADDRESS_LIMIT, Geometry, HEADER, Header, Kind, MAGIC, MAX_RECORDS, PAYLOAD, RECORD, SLOT, Slot,
    VERSION,
};
use crate::record::{Record, Remains};
use crate::space::Window;

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
pub(crate) struct Cell {
    /// Its sequence number; 0: neither slot counts.
    pub seq: u64,
    /// 0 or 1.
    pub slot: u8,
}

/// A record as it was found.
#[derive(Debug)]
pub(crate) struct Found<T> {
    pub cell: Cell,
    pub value: Option<T>,
    /// What it held last, if it is free.
    pub remains: Remains,
}

/// Reads the record `index`.
///
/// # Errors
/// The [`Flaw`] that a bank with this record is refused for.
pub(crate) fn load_record<T: Record>(at: u64, index: u32, bytes: &[u8]) -> Result<Found<T>, Flaw> {
    let mut cell = Cell::default();
    let mut payload = None;
    for number in 0..2u8 {
        let offset = at + u64::from(number) * SLOT as u64;
        let Some(slot) = read_slot(offset, T::KIND, index, bytes)? else {
            continue;
        };
        if slot.seq.get() == cell.seq {
            return Err(Flaw::damaged("two slots of the same age", offset));
        }
        if slot.seq.get() > cell.seq {
            cell = Cell {
                seq: slot.seq.get(),
                slot: number,
            };
            payload = Some(slot.payload);
        }
    }
    let payload = payload.unwrap_or([0; PAYLOAD]);
    let offset = at + u64::from(cell.slot) * SLOT as u64;
    let damaged = |what| Flaw::damaged(what, offset);
    let value = if cell.seq == 0 {
        None
    } else {
        T::decode(&payload).map_err(damaged)?
    };
    Ok(Found {
        cell,
        value,
        remains: T::remains(&payload),
    })
}

/// What a record says.
///
/// # Errors
/// The [`Flaw`] that a bank with this record is refused for.
pub(crate) fn record_at<T: Record>(at: u64, index: u32, bytes: &[u8]) -> Result<Option<T>, Flaw> {
    load_record(at, index, bytes).map(|found| found.value)
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

/// What pages of Linux may have, in bytes.
const PAGE_SIZES: RangeInclusive<u32> = 1 << 12..=1 << 18;

/// Whether there can be a catalogue of this geometry: what [`BankOptions`](crate::BankOptions) may ask for.
pub(crate) fn is_sound(geometry: &Geometry) -> bool {
    let &Geometry {
        max_blocks,
        max_actors,
        max_groups,
        page_size,
        window: Window { base, size },
        ..
    } = geometry;
    let page = u64::from(page_size);
    let end = base.checked_add(size);
    [max_blocks, max_actors, max_groups]
        .iter()
        .all(|count| (1..=MAX_RECORDS).contains(count))
        && page_size.is_power_of_two()
        && PAGE_SIZES.contains(&page_size)
        && base != 0
        && base.is_multiple_of(page)
        && size.is_multiple_of(page)
        && (1..=size).contains(&geometry.size)
        && end.is_some_and(|end| end <= ADDRESS_LIMIT)
}
