//! The catalogue's bytes: header, slots and payloads, with their offsets. The document of the same
//! content is docs/bank-format.md. Used by `record`, `catalogue`, `open` and `recover`.
//!
//! It must never hold a pointer, a native-endian number or padding, and nothing here decides
//! whether a value makes sense: `record` does.
//!
//! ```text
//! 0       header
//! 4096    state record      two slots of 256 bytes
//! 4608    intent record     two slots of 256 bytes
//! 8192    block records     max_blocks × two slots
//! then    actor records     max_actors × two slots, to the end of a page
//! ```

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::space::Window;

/// The first eight bytes of a catalogue.
pub(crate) const MAGIC: [u8; 8] = *b"RFRNBANK";
/// The version of everything described here.
pub(crate) const VERSION: u32 = 1;
/// The size of a slot in bytes: it never straddles a disk's sector of 512.
pub(crate) const SLOT: usize = 256;
/// The size of a record in bytes: two slots.
pub(crate) const RECORD: u64 = 2 * SLOT as u64;
/// What a slot carries, in bytes.
pub(crate) const PAYLOAD: usize = 232;
/// The upper half of a commit word: "RFSL". A commit word of 0 is a slot that holds nothing.
pub(crate) const COMMITTED: u32 = u32::from_le_bytes(*b"RFSL");
/// How many groups a block can be granted to.
pub(crate) const MAX_GRANTS: usize = 8;
/// The most records of a kind that a catalogue is made for.
pub(crate) const MAX_RECORDS: u32 = 1 << 20;
/// The most bytes that a catalogue has.
pub(crate) const MAX_CATALOGUE: u64 = BLOCKS_AT + 2 * MAX_RECORDS as u64 * RECORD + CATALOGUE_PAGE;
/// Where a window of addresses ends at the latest: user space of every 64-bit Linux.
pub(crate) const ADDRESS_LIMIT: u64 = 1 << 47;

const STATE_AT: u64 = 4096;
const INTENT_AT: u64 = STATE_AT + RECORD;
/// Where block records begin, in every catalogue.
pub(crate) const BLOCKS_AT: u64 = 8192;
const CATALOGUE_PAGE: u64 = 4096;

/// The header, at offset 0. Magic and version keep their place in every version to come.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub(crate) struct Header {
    /// Offset 0.
    pub magic: [u8; 8],
    /// Offset 8.
    pub version: U32,
    /// Offset 12: the size of this header in bytes.
    pub header_size: U32,
    /// Offset 16: the page size of the machine, in bytes.
    pub page_size: U32,
    /// Offset 20: bit 0, the bank made its directory.
    pub flags: U32,
    /// Offset 24: the bank's size in bytes.
    pub size: U64,
    /// Offset 32: the address window's base.
    pub window_base: U64,
    /// Offset 40: the address window's size in bytes.
    pub window_size: U64,
    /// Offset 48: how many block records there are.
    pub max_blocks: U32,
    /// Offset 52: how many actor records there are.
    pub max_actors: U32,
    /// Offset 56: how many groups may be registered.
    pub max_groups: U32,
    /// Offset 60: the size of a record in bytes.
    pub record_size: U32,
    /// Offset 64: the catalogue's size in bytes.
    pub file_size: U64,
    /// Offset 72: zero.
    pub reserved: [u8; 52],
    /// Offset 124: crc32c of the 124 bytes before.
    pub crc: U32,
}

/// The size of a [`Header`] in bytes.
pub(crate) const HEADER: usize = size_of::<Header>();

/// One of the two slots of a record.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub(crate) struct Slot {
    /// Offset 0: 0, or crc32c of the 248 bytes behind it with [`COMMITTED`] in the upper half.
    pub commit: U64,
    /// Offset 8: counts the changes of this record; of two slots the higher one counts.
    pub seq: U64,
    /// Offset 16: the record's [`Kind`].
    pub kind: U32,
    /// Offset 20: the record's index among its kind.
    pub index: U32,
    /// Offset 24.
    pub payload: [u8; PAYLOAD],
}

/// The kinds of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Kind {
    State = 1,
    Intent = 2,
    Block = 3,
    Actor = 4,
}

/// Payload of the state record.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub(crate) struct StateBytes {
    /// Payload offset 0: aids below this one may have been given out.
    pub aid_floor: U32,
    /// Payload offset 4: the pid of the controller that opened the bank last.
    pub pid: U32,
    /// Payload offset 8: how often the bank was opened.
    pub openings: U64,
    /// Payload offset 16: the boot id of that opening, as text.
    pub boot_id: [u8; 36],
}

/// Payload of the intent record.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub(crate) struct IntentBytes {
    /// Payload offset 0: 0 none, 1 free by key, 2 end of a group, 3 clear the registrations.
    pub what: U32,
    /// Payload offset 4: the gid of 2.
    pub gid: U32,
    /// Payload offset 8: who asked for 1 (owner kind).
    pub by_kind: U32,
    /// Payload offset 12: and its gid.
    pub by_gid: U32,
    /// Payload offset 16: the opaque key of 1.
    pub key: [u8; 32],
}

/// Payload of a block record.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub(crate) struct BlockBytes {
    /// Payload offset 0: 0 free, 1 used. Everything behind it is zero in a free record.
    pub used: U32,
    /// Payload offset 4: the owner's kind: 0 the controller, 1 a group, 2 the ordinary actors.
    pub owner_kind: U32,
    /// Payload offset 8: the owner's gid, 0 where it has none.
    pub owner_gid: U32,
    /// Payload offset 12: 0 an opaque key, 1 HR_GROUP_KEY.
    pub key_kind: U32,
    /// Payload offset 16: the number in the name of the block's file.
    pub id: U64,
    /// Payload offset 24: the block's address.
    pub addr: U64,
    /// Payload offset 32: the block's size in bytes.
    pub size: U64,
    /// Payload offset 40: the opaque key.
    pub key: [u8; 32],
    /// Payload offset 72: how many of the gids that follow count.
    pub grants: U32,
    /// Payload offset 76: the groups that were let in.
    pub granted: [U32; MAX_GRANTS],
    /// Payload offset 108: the name's length in bytes.
    pub name_len: U32,
    /// Payload offset 112: the name.
    pub name: [u8; 64],
}

/// Payload of an actor record (a registration).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub(crate) struct ActorBytes {
    /// Payload offset 0: 0 free, 1 used.
    pub used: U32,
    /// Payload offset 4: the group.
    pub gid: U32,
    /// Payload offset 8: bit 0 direct, bit 1 ended clean.
    pub flags: U32,
    /// Payload offset 12: the number of the life that runs or ran last.
    pub life: U32,
    /// Payload offset 16: the number in the name of the start data's file.
    pub spec_id: U64,
    /// Payload offset 24: that file's size in bytes.
    pub spec_len: U64,
    /// Payload offset 32: that file's crc32c.
    pub spec_crc: U32,
    /// Payload offset 36: how often it was restarted.
    pub restarts: U32,
    /// Payload offset 40: the name's length in bytes.
    pub name_len: U32,
    /// Payload offset 44: the name.
    pub name: [u8; 64],
    /// Payload offset 108: the aid of the life that runs.
    pub aid: U32,
    /// Payload offset 112: when that life's process began, in clock ticks since the machine did.
    pub start_time: U64,
    /// Payload offset 120: its pid; 0: none runs, and the fields about it are zero.
    pub pid: U32,
    /// Payload offset 124: its capability.
    pub capability: [u8; 16],
}

const _: () = assert!(HEADER == 128 && size_of::<Slot>() == SLOT);
const _: () = assert!(size_of::<StateBytes>() == 52 && size_of::<IntentBytes>() == 48);
const _: () = assert!(size_of::<BlockBytes>() == 176 && size_of::<ActorBytes>() == 140);

/// What a bank is made with; everything in the header that can differ between two banks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Geometry {
    pub size: u64,
    pub window: Window,
    pub max_blocks: u32,
    pub max_actors: u32,
    pub max_groups: u32,
    pub page_size: u32,
    pub made_directory: bool,
}

impl Geometry {
    /// The catalogue's size in bytes.
    pub(crate) fn file_size(&self) -> u64 {
        self.at(Kind::Actor, self.max_actors)
            .next_multiple_of(CATALOGUE_PAGE)
    }

    /// How many records of a kind there are.
    pub(crate) fn count(&self, kind: Kind) -> u32 {
        match kind {
            Kind::State | Kind::Intent => 1,
            Kind::Block => self.max_blocks,
            Kind::Actor => self.max_actors,
        }
    }

    /// The offset of a record in the catalogue.
    pub(crate) fn at(&self, kind: Kind, index: u32) -> u64 {
        let first = match kind {
            Kind::State => STATE_AT,
            Kind::Intent => INTENT_AT,
            Kind::Block => BLOCKS_AT,
            Kind::Actor => BLOCKS_AT + u64::from(self.max_blocks) * RECORD,
        };
        first + u64::from(index) * RECORD
    }

    /// The header that says all this.
    pub(crate) fn header(&self) -> Header {
        let mut header = Header {
            magic: MAGIC,
            version: VERSION.into(),
            header_size: (HEADER as u32).into(),
            page_size: self.page_size.into(),
            flags: u32::from(self.made_directory).into(),
            size: self.size.into(),
            window_base: self.window.base.into(),
            window_size: self.window.size.into(),
            max_blocks: self.max_blocks.into(),
            max_actors: self.max_actors.into(),
            max_groups: self.max_groups.into(),
            record_size: (RECORD as u32).into(),
            file_size: self.file_size().into(),
            reserved: [0; 52],
            crc: 0.into(),
        };
        header.crc = header.checksum().into();
        header
    }
}

impl Header {
    /// What `crc` has to be.
    pub(crate) fn checksum(&self) -> u32 {
        crc32c::crc32c(&self.as_bytes()[..HEADER - 4])
    }

    /// What the header says; meaningful once magic, version and checksum are known to be right.
    pub(crate) fn geometry(&self) -> Geometry {
        Geometry {
            size: self.size.get(),
            window: Window {
                base: self.window_base.get(),
                size: self.window_size.get(),
            },
            max_blocks: self.max_blocks.get(),
            max_actors: self.max_actors.get(),
            max_groups: self.max_groups.get(),
            page_size: self.page_size.get(),
            made_directory: self.flags.get() & 1 != 0,
        }
    }
}

impl Slot {
    /// A whole slot, commit word included.
    pub(crate) fn new(kind: Kind, index: u32, seq: u64, payload: [u8; PAYLOAD]) -> Self {
        let mut slot = Self {
            commit: 0.into(),
            seq: seq.into(),
            kind: (kind as u32).into(),
            index: index.into(),
            payload,
        };
        slot.commit = slot.expected_commit().into();
        slot
    }

    /// What the commit word has to be when the slot counts.
    pub(crate) fn expected_commit(&self) -> u64 {
        u64::from(COMMITTED) << 32 | u64::from(crc32c::crc32c(&self.as_bytes()[8..]))
    }
}

/// A payload from its structure: the bytes behind it are zero.
pub(crate) fn payload_of<T: IntoBytes + Immutable>(bytes: &T) -> [u8; PAYLOAD] {
    let mut payload = [0; PAYLOAD];
    payload[..size_of::<T>()].copy_from_slice(bytes.as_bytes());
    payload
}

/// The structure at the front of a payload.
pub(crate) fn read_payload<T: FromBytes>(payload: &[u8; PAYLOAD]) -> T {
    T::read_from_bytes(&payload[..size_of::<T>()])
        .expect("every payload structure is smaller than a payload")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::mem::offset_of;

    #[test]
    fn the_offsets_are_those_of_the_document() {
        assert_eq!(offset_of!(Header, version), 8);
        assert_eq!(offset_of!(Header, size), 24);
        assert_eq!(offset_of!(Header, file_size), 64);
        assert_eq!(offset_of!(Header, crc), 124);
        assert_eq!(offset_of!(Slot, payload), 24);
        assert_eq!(offset_of!(StateBytes, boot_id), 16);
        assert_eq!(offset_of!(IntentBytes, key), 16);
        assert_eq!(offset_of!(BlockBytes, key), 40);
        assert_eq!(offset_of!(BlockBytes, name), 112);
        assert_eq!(offset_of!(ActorBytes, name), 44);
        assert_eq!(offset_of!(ActorBytes, aid), 108);
        assert_eq!(offset_of!(ActorBytes, capability), 124);
        let geometry = Geometry {
            size: 0,
            window: Window { base: 0, size: 0 },
            max_blocks: 4096,
            max_actors: 1024,
            max_groups: 256,
            page_size: 4096,
            made_directory: false,
        };
        assert_eq!(geometry.at(Kind::Intent, 0), 4608);
        assert_eq!(geometry.at(Kind::Block, 1), 8704);
        assert_eq!(geometry.at(Kind::Actor, 0), 8192 + 4096 * 512);
        assert_eq!(geometry.file_size(), 8192 + 5120 * 512);
        assert_eq!(geometry.header().geometry(), geometry);
    }

    #[test]
    fn a_slot_never_straddles_a_sector() {
        assert_eq!(512 % SLOT, 0);
        assert_eq!(STATE_AT % 512 + INTENT_AT % 512 + BLOCKS_AT % 512, 0);
    }
}
