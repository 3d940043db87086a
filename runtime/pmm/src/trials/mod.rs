//! What becomes of a bank when its controller or its machine fails in the midst of a change (DESIGN
//! section 8, invariant 4): the bank opens to the state before or after, nothing leaked and nothing
//! doubled.
//!
//! ```text
//! stopped    every operation stopped behind each of its steps, on real media · fuse: what stops it
//! repair     the same of a repair
//! images     every operation recorded call by call, and opened as a crash at any call would leave it
//! power      the same as a power failure would leave it · syncs: when the medium fails at last
//! record     operations under the eyes of a witness · medium: what a medium may hold after calls
//! bench      an image, opened and judged · tally: what was counted · chance: choices by a seed
//! ```
//!
//! It must never judge by other code than that which every start of a site runs.

mod bench;
mod chance;
mod fuse;
mod images;
mod medium;
mod power;
mod record;
mod repair;
mod stopped;
mod syncs;
mod tally;
mod world;

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use refrain_abi::{Aid, BlockName, Capability, DeletionKey, Gid, LifeNo};
use tempfile::TempDir;

use crate::{Bank, BankOptions, BlockInfo, LifeRecord, Owner, Registration, Running};

const PAGE: u64 = 4096;
const ONE: Owner = Owner::Group(Gid(1));

/// Everything that a controller or an actor can see of a bank.
#[derive(Clone, Debug, PartialEq)]
struct Seen {
    /// Each block with its number and what its first page holds.
    blocks: Vec<(BlockInfo, u64, u32)>,
    registrations: Vec<Registration>,
    aid_floor: Aid,
    used: u64,
}

fn name(text: &str) -> BlockName {
    BlockName::new(text).unwrap()
}

/// A small bank below a directory.
fn options(dir: &Path) -> BankOptions {
    BankOptions {
        dir: dir.join("bank"),
        size: 32 * PAGE,
        max_blocks: 6,
        max_actors: 3,
        max_groups: 3,
        window_base: 1 << 44,
        window_size: 1 << 30,
    }
}

fn memory() -> TempDir {
    tempfile::tempdir_in("/dev/shm").unwrap()
}

/// Looks at a bank, and checks that its directory holds what its catalogue names and no more, and
/// that what it says agrees with itself.
fn look(bank: &mut Bank) -> Seen {
    let blocks = bank.blocks();
    let mut registrations = bank.registrations();
    let mut files = bank.store.list().unwrap();
    files.retain(|name| !name.starts_with(crate::store::LOST_AND_FOUND));
    assert_eq!(
        files.len(),
        1 + blocks.len() + registrations.len(),
        "leaked: {files:?}"
    );
    assert!(bank.catalogue.intent().is_none());
    let used = bank.usage().used;
    assert_eq!(used, blocks.iter().map(|block| block.size).sum::<u64>());
    for pair in blocks.windows(2) {
        assert!(pair[0].addr + pair[0].size < pair[1].addr, "a guard page");
    }
    let mut seen = Vec::new();
    for info in blocks {
        let block = bank
            .allocate(info.name, info.size, info.key, info.owner)
            .unwrap();
        assert!(block.existed);
        let mut page = [0; PAGE as usize];
        File::from(block.fd).read_exact_at(&mut page, 0).unwrap();
        let id = bank.block_id(info.name).unwrap();
        seen.push((info, id, crc32c::crc32c(&page)));
    }
    for reg in &mut registrations {
        // Enough to tell one from the other, and short in a message.
        reg.spec = crc32c::crc32c(&reg.spec).to_le_bytes().into();
    }
    Seen {
        blocks: seen,
        registrations,
        aid_floor: bank.aid_floor(),
        used,
    }
}

fn registration(text: &str, gid: u32, spec: &[u8]) -> Registration {
    Registration {
        name: name(text),
        gid: Gid(gid),
        direct: true,
        life: LifeNo(3),
        restarts: 3,
        clean: false,
        running: None,
        spec: spec.to_vec(),
    }
}

/// How far an actor has come, with a life that runs.
fn life_record(life: u32) -> LifeRecord {
    LifeRecord {
        life: LifeNo(life),
        restarts: life,
        clean: life.is_multiple_of(2),
        running: Some(Running {
            aid: Aid(100 + life),
            pid: 4711 + life,
            start_time: 1 << 40,
            capability: Capability([life as u8; 16]),
        }),
    }
}

fn make(bank: &mut Bank, text: &str, key: DeletionKey) {
    let block = bank.allocate(name(text), PAGE, key, ONE).unwrap();
    File::from(block.fd)
        .write_all_at(text.as_bytes(), 0)
        .unwrap();
}

/// Fills a bank with something of everything.
fn furnish(bank: &mut Bank) {
    let key = DeletionKey::opaque(b"key").unwrap();
    make(bank, "a", key);
    make(bank, "b", DeletionKey::Group);
    make(bank, "c", key);
    make(bank, "d", DeletionKey::Group);
    bank.free(name("b"), ONE).unwrap();
    make(bank, "e", DeletionKey::Group);
    bank.register(&registration("x", 1, b"argv of x")).unwrap();
    bank.register(&registration("y", 2, b"")).unwrap();
    bank.record_life(name("y"), life_record(1)).unwrap();
    bank.reserve_aids(Aid(100)).unwrap();
}
