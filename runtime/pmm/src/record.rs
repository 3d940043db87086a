//! What records mean: values ↔ payload bytes. Called by `catalogue`.
//!
//! Reading takes nothing on trust: a payload whose checksum is right and whose content makes no
//! sense is reported as damage, never repaired and never a panic.

use refrain_abi::{ActorName, Aid, BlockName, Capability, DeletionKey, Gid, LifeNo};

use crate::access::Owner;
use crate::layout::{
    ActorBytes, BlockBytes, IntentBytes, Kind, MAX_GRANTS, PAYLOAD, StateBytes, payload_of,
    read_payload,
};
use crate::registry::{MAX_SPEC, Running};

/// What a record still says of what it held when it is free: a file number and an address. Those that
/// were given out last are not given out again at once, whoever opens the bank in between: an actor that
/// runs on may know them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Remains {
    /// The number of the file.
    pub id: u64,
    /// A block's address.
    pub addr: u64,
    /// Its size in bytes.
    pub size: u64,
}

/// A value that a record can hold, or nothing.
pub(crate) trait Record: Sized {
    /// Its kind of record.
    const KIND: Kind;

    /// The payload for it.
    fn encode(&self) -> [u8; PAYLOAD];

    /// What a payload says: `None` for a free record.
    ///
    /// # Errors
    /// What makes no sense.
    fn decode(payload: &[u8; PAYLOAD]) -> Result<Option<Self>, &'static str>;

    /// What a payload says of a file, be the record used or free.
    fn remains(_payload: &[u8; PAYLOAD]) -> Remains {
        Remains::default()
    }

    /// The payload of a free record that keeps this.
    fn grave(_remains: Remains) -> [u8; PAYLOAD] {
        [0; PAYLOAD]
    }
}

/// What the bank remembers of the controllers that opened it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct State {
    pub aid_floor: Aid,
    pub pid: u32,
    pub openings: u64,
    pub boot_id: [u8; 36],
}

/// A change that spans records, written down before its first step. Each can be carried out any
/// number of times with the same result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Intent {
    /// Free every block with a key that `by` may use.
    FreeKey {
        key: [u8; DeletionKey::MAX],
        by: Owner,
    },
    /// Free the HR_GROUP_KEY blocks of a group.
    EndGroup { gid: Gid },
    /// Drop every registration.
    ClearRegistrations,
}

/// A block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BlockRecord {
    pub name: BlockName,
    pub id: u64,
    pub addr: u64,
    pub size: u64,
    pub owner: Owner,
    pub key: DeletionKey,
    pub granted: Vec<Gid>,
}

/// A registration, without its start data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ActorRecord {
    pub name: ActorName,
    pub gid: Gid,
    pub direct: bool,
    pub clean: bool,
    pub life: LifeNo,
    pub restarts: u32,
    pub running: Option<Running>,
    pub spec_id: u64,
    pub spec_len: u64,
    pub spec_crc: u32,
}

fn owner_words(owner: Owner) -> (u32, u32) {
    match owner {
        Owner::Site => (0, 0),
        Owner::Group(gid) => (1, gid.0),
        Owner::Ordinary => (2, 0),
    }
}

fn owner_from(kind: u32, gid: u32) -> Result<Owner, &'static str> {
    match kind {
        0 => Ok(Owner::Site),
        1 => Ok(Owner::Group(Gid(gid))),
        2 => Ok(Owner::Ordinary),
        _ => Err("an owner of no known kind"),
    }
}

fn name_bytes(name: &BlockName) -> (u32, [u8; 64]) {
    let text = name.as_str().as_bytes();
    let mut bytes = [0; 64];
    bytes[..text.len()].copy_from_slice(text);
    (text.len() as u32, bytes)
}

fn name_from(len: u32, bytes: &[u8; 64]) -> Result<BlockName, &'static str> {
    BlockName::from_wire(bytes, len as usize).map_err(|_| "a name that is none")
}

impl Record for State {
    const KIND: Kind = Kind::State;

    fn encode(&self) -> [u8; PAYLOAD] {
        payload_of(&StateBytes {
            aid_floor: self.aid_floor.0.into(),
            pid: self.pid.into(),
            openings: self.openings.into(),
            boot_id: self.boot_id,
        })
    }

    fn decode(payload: &[u8; PAYLOAD]) -> Result<Option<Self>, &'static str> {
        let bytes: StateBytes = read_payload(payload);
        Ok(Some(Self {
            aid_floor: Aid(bytes.aid_floor.get()),
            pid: bytes.pid.get(),
            openings: bytes.openings.get(),
            boot_id: bytes.boot_id,
        }))
    }
}

impl Record for Intent {
    const KIND: Kind = Kind::Intent;

    fn encode(&self) -> [u8; PAYLOAD] {
        let (what, gid, by, key) = match *self {
            Self::FreeKey { key, by } => (1, Gid(0), by, key),
            Self::EndGroup { gid } => (2, gid, Owner::Site, [0; 32]),
            Self::ClearRegistrations => (3, Gid(0), Owner::Site, [0; 32]),
        };
        let (by_kind, by_gid) = owner_words(by);
        payload_of(&IntentBytes {
            what: what.into(),
            gid: gid.0.into(),
            by_kind: by_kind.into(),
            by_gid: by_gid.into(),
            key,
        })
    }

    fn decode(payload: &[u8; PAYLOAD]) -> Result<Option<Self>, &'static str> {
        let bytes: IntentBytes = read_payload(payload);
        let by = owner_from(bytes.by_kind.get(), bytes.by_gid.get())?;
        match bytes.what.get() {
            0 => Ok(None),
            1 => Ok(Some(Self::FreeKey { key: bytes.key, by })),
            2 => Ok(Some(Self::EndGroup {
                gid: Gid(bytes.gid.get()),
            })),
            3 => Ok(Some(Self::ClearRegistrations)),
            _ => Err("an intent of no known kind"),
        }
    }
}

impl Record for BlockRecord {
    const KIND: Kind = Kind::Block;

    fn encode(&self) -> [u8; PAYLOAD] {
        let (owner_kind, owner_gid) = owner_words(self.owner);
        let (name_len, name) = name_bytes(&self.name);
        let (key_kind, key) = match self.key {
            DeletionKey::Opaque(key) => (0, key),
            DeletionKey::Group => (1, [0; 32]),
        };
        let mut granted = [0.into(); MAX_GRANTS];
        for (word, gid) in granted.iter_mut().zip(&self.granted) {
            *word = gid.0.into();
        }
        payload_of(&BlockBytes {
            used: 1.into(),
            owner_kind: owner_kind.into(),
            owner_gid: owner_gid.into(),
            key_kind: u32::into(key_kind),
            id: self.id.into(),
            addr: self.addr.into(),
            size: self.size.into(),
            key,
            grants: (self.granted.len() as u32).into(),
            granted,
            name_len: name_len.into(),
            name,
        })
    }

    fn decode(payload: &[u8; PAYLOAD]) -> Result<Option<Self>, &'static str> {
        let bytes: BlockBytes = read_payload(payload);
        if !used(bytes.used.get())? {
            return Ok(None);
        }
        let key = match bytes.key_kind.get() {
            0 => DeletionKey::Opaque(bytes.key),
            1 => DeletionKey::Group,
            _ => return Err("a deletion key of no known kind"),
        };
        let granted = bytes
            .granted
            .get(..bytes.grants.get() as usize)
            .ok_or("too many grants")?;
        Ok(Some(Self {
            name: name_from(bytes.name_len.get(), &bytes.name)?,
            id: bytes.id.get(),
            addr: bytes.addr.get(),
            size: bytes.size.get(),
            owner: owner_from(bytes.owner_kind.get(), bytes.owner_gid.get())?,
            key,
            granted: granted.iter().map(|gid| Gid(gid.get())).collect(),
        }))
    }

    fn remains(payload: &[u8; PAYLOAD]) -> Remains {
        let bytes: BlockBytes = read_payload(payload);
        Remains {
            id: bytes.id.get(),
            addr: bytes.addr.get(),
            size: bytes.size.get(),
        }
    }

    fn grave(remains: Remains) -> [u8; PAYLOAD] {
        let mut bytes: BlockBytes = read_payload(&[0; PAYLOAD]);
        bytes.id = remains.id.into();
        bytes.addr = remains.addr.into();
        bytes.size = remains.size.into();
        payload_of(&bytes)
    }
}

impl Record for ActorRecord {
    const KIND: Kind = Kind::Actor;

    fn encode(&self) -> [u8; PAYLOAD] {
        let (name_len, name) = name_bytes(&self.name);
        let running = self.running.unwrap_or(Running {
            aid: Aid(0),
            pid: 0,
            start_time: 0,
            capability: Capability([0; 16]),
        });
        payload_of(&ActorBytes {
            used: 1.into(),
            gid: self.gid.0.into(),
            flags: (u32::from(self.direct) | u32::from(self.clean) << 1).into(),
            life: self.life.0.into(),
            spec_id: self.spec_id.into(),
            spec_len: self.spec_len.into(),
            spec_crc: self.spec_crc.into(),
            restarts: self.restarts.into(),
            name_len: name_len.into(),
            name,
            aid: running.aid.0.into(),
            start_time: running.start_time.into(),
            pid: running.pid.into(),
            capability: running.capability.0,
        })
    }

    fn decode(payload: &[u8; PAYLOAD]) -> Result<Option<Self>, &'static str> {
        let bytes: ActorBytes = read_payload(payload);
        if !used(bytes.used.get())? {
            return Ok(None);
        }
        if bytes.spec_len.get() > MAX_SPEC as u64 {
            return Err("start data that are too long");
        }
        if bytes.pid.get() > i32::MAX as u32 {
            return Err("a pid that is none");
        }
        Ok(Some(Self {
            name: name_from(bytes.name_len.get(), &bytes.name)?,
            gid: Gid(bytes.gid.get()),
            direct: bytes.flags.get() & 1 != 0,
            clean: bytes.flags.get() & 2 != 0,
            life: LifeNo(bytes.life.get()),
            restarts: bytes.restarts.get(),
            running: (bytes.pid.get() != 0).then(|| Running {
                aid: Aid(bytes.aid.get()),
                pid: bytes.pid.get(),
                start_time: bytes.start_time.get(),
                capability: Capability(bytes.capability),
            }),
            spec_id: bytes.spec_id.get(),
            spec_len: bytes.spec_len.get(),
            spec_crc: bytes.spec_crc.get(),
        }))
    }

    fn remains(payload: &[u8; PAYLOAD]) -> Remains {
        let bytes: ActorBytes = read_payload(payload);
        Remains {
            id: bytes.spec_id.get(),
            ..Remains::default()
        }
    }

    fn grave(remains: Remains) -> [u8; PAYLOAD] {
        let mut bytes: ActorBytes = read_payload(&[0; PAYLOAD]);
        bytes.spec_id = remains.id.into();
        payload_of(&bytes)
    }
}

fn used(word: u32) -> Result<bool, &'static str> {
    match word {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err("a record that is neither free nor used"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_payload_makes_reading_panic(payload in prop::array::uniform32(any::<u8>()), at in 0usize..200) {
            let mut bytes = [0; PAYLOAD];
            bytes[at..at + 32].copy_from_slice(&payload);
            bytes[0] = 1;
            let _ = State::decode(&bytes);
            let _ = Intent::decode(&bytes);
            let _ = BlockRecord::decode(&bytes);
            let _ = ActorRecord::decode(&bytes);
        }
    }

    #[test]
    fn records_read_back_as_they_were_written() {
        let name = BlockName::new(&"n".repeat(63)).unwrap();
        for owner in [Owner::Site, Owner::Ordinary, Owner::Group(Gid(7))] {
            let block = BlockRecord {
                name,
                id: 9,
                addr: 1 << 44,
                size: 8192,
                owner,
                key: DeletionKey::opaque(b"key").unwrap(),
                granted: (0..8).map(Gid).collect(),
            };
            assert_eq!(BlockRecord::decode(&block.encode()), Ok(Some(block)));
        }
        let actor = ActorRecord {
            name,
            gid: Gid(0),
            direct: true,
            clean: false,
            life: LifeNo(4),
            restarts: 5,
            running: None,
            spec_id: 6,
            spec_len: 7,
            spec_crc: 8,
        };
        assert_eq!(ActorRecord::decode(&actor.encode()), Ok(Some(actor)));
        let running = Running {
            aid: Aid(9),
            pid: i32::MAX as u32,
            start_time: u64::MAX,
            capability: Capability([7; 16]),
        };
        let actor = ActorRecord {
            running: Some(running),
            ..actor
        };
        assert_eq!(ActorRecord::decode(&actor.encode()), Ok(Some(actor)));
        let stranger = ActorRecord {
            running: Some(Running {
                pid: 1 << 31,
                ..running
            }),
            ..actor
        };
        assert!(ActorRecord::decode(&stranger.encode()).is_err());
        for intent in [
            Intent::ClearRegistrations,
            Intent::EndGroup { gid: Gid(3) },
            Intent::FreeKey {
                key: [7; 32],
                by: Owner::Ordinary,
            },
        ] {
            assert_eq!(Intent::decode(&intent.encode()), Ok(Some(intent)));
        }
        assert_eq!(BlockRecord::decode(&[0; PAYLOAD]), Ok(None));
    }
}
