//! The bank against a naive model of it: random requests, with the bank closed and opened again at
//! random points. Every answer, every listing and every byte that was written has to agree.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;

use proptest::prelude::*;
use refrain_abi::request::ErrorCode;
use refrain_abi::{Aid, BlockName, Capability, DeletionKey, Gid, LifeNo};
use refrain_pmm::{Bank, BankOptions, LifeRecord, Opened, Owner, Registration, Running};

const PAGE: u64 = 4096;
const PAGES: u64 = 12;
const MAX_BLOCKS: usize = 5;
const MAX_ACTORS: usize = 4;
const MAX_GROUPS: usize = 2;
const MAX_GRANTS: usize = 8;

#[derive(Clone, Debug)]
enum Step {
    Allocate {
        name: u8,
        size: u64,
        key: DeletionKey,
        by: Owner,
        mark: u8,
    },
    Free {
        name: u8,
        by: Owner,
    },
    FreeAll {
        key: DeletionKey,
        by: Owner,
    },
    Grant {
        name: u8,
        to: Gid,
        by: Owner,
    },
    EndGroup {
        gid: Gid,
    },
    Register {
        name: u8,
        gid: Gid,
        spec: Vec<u8>,
    },
    Deregister {
        name: u8,
    },
    RecordLife {
        name: u8,
        life: u32,
        clean: bool,
        pid: u32,
    },
    Clear,
    Reserve {
        upto: u32,
    },
    Reopen,
}

fn owner() -> impl Strategy<Value = Owner> {
    prop_oneof![
        4 => (1u32..4).prop_map(|gid| Owner::Group(Gid(gid))),
        1 => Just(Owner::Ordinary),
        1 => Just(Owner::Site),
    ]
}

fn key() -> impl Strategy<Value = DeletionKey> {
    prop_oneof![
        Just(DeletionKey::Group),
        (0u8..3).prop_map(|key| DeletionKey::Opaque([key; 32]))
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let name = 0u8..8;
    let gid = (1u32..4).prop_map(Gid);
    let size = prop_oneof![
        Just(0),
        1..5 * PAGE,
        Just(PAGE),
        Just(u64::MAX),
        Just((PAGES + 1) * PAGE)
    ];
    prop_oneof![
        8 => (name.clone(), size, key(), owner(), 1u8..)
            .prop_map(|(name, size, key, by, mark)| Step::Allocate { name, size, key, by, mark }),
        3 => (name.clone(), owner()).prop_map(|(name, by)| Step::Free { name, by }),
        1 => (key(), owner()).prop_map(|(key, by)| Step::FreeAll { key, by }),
        3 => (name.clone(), (1u32..14).prop_map(Gid), owner())
            .prop_map(|(name, to, by)| Step::Grant { name, to, by }),
        1 => gid.clone().prop_map(|gid| Step::EndGroup { gid }),
        4 => (name.clone(), gid, prop::collection::vec(any::<u8>(), 0..40))
            .prop_map(|(name, gid, spec)| Step::Register { name, gid, spec }),
        2 => name.clone().prop_map(|name| Step::Deregister { name }),
        2 => (name, any::<u32>(), any::<bool>(), 0u32..1 << 31)
            .prop_map(|(name, life, clean, pid)| Step::RecordLife { name, life, clean, pid }),
        1 => Just(Step::Clear),
        1 => (0u32..500).prop_map(|upto| Step::Reserve { upto }),
        2 => Just(Step::Reopen),
    ]
}

#[derive(Clone, Debug)]
struct ModelBlock {
    size: u64,
    addr: u64,
    owner: Owner,
    key: DeletionKey,
    granted: Vec<Gid>,
    mark: u8,
}

impl ModelBlock {
    fn usable(&self, by: Owner) -> bool {
        by == Owner::Site
            || by == self.owner
            || self.granted.iter().any(|gid| by == Owner::Group(*gid))
    }
}

#[derive(Default)]
struct Model {
    blocks: BTreeMap<BlockName, ModelBlock>,
    actors: BTreeMap<BlockName, Registration>,
    aids: u32,
}

fn name(number: u8) -> BlockName {
    BlockName::new(&format!("name-{number}")).unwrap()
}

impl Model {
    fn used(&self) -> u64 {
        self.blocks.values().map(|block| block.size).sum()
    }

    /// What allocating has to answer: an error, or whether the block existed.
    fn allocate(
        &self,
        name: &BlockName,
        size: u64,
        key: DeletionKey,
        by: Owner,
    ) -> Result<bool, ErrorCode> {
        if size == 0 {
            return Err(ErrorCode::Invalid);
        }
        if key == DeletionKey::Group && !matches!(by, Owner::Group(_)) {
            return Err(ErrorCode::Denied);
        }
        let size = size.div_ceil(PAGE).saturating_mul(PAGE);
        match self.blocks.get(name) {
            Some(block) if !block.usable(by) => Err(ErrorCode::Denied),
            Some(block) if block.size != size => Err(ErrorCode::SizeMismatch),
            Some(_) => Ok(true),
            None if self.blocks.len() == MAX_BLOCKS => Err(ErrorCode::Full),
            None if size > PAGES * PAGE - self.used() => Err(ErrorCode::Full),
            None => Ok(false),
        }
    }

    fn free(&mut self, name: &BlockName, by: Owner) -> Result<(), ErrorCode> {
        let block = self.blocks.get(name).ok_or(ErrorCode::NotFound)?;
        if !block.usable(by) {
            return Err(ErrorCode::Denied);
        }
        self.blocks.remove(name);
        Ok(())
    }

    fn sweep(&mut self, doomed: impl Fn(&ModelBlock) -> bool) -> u32 {
        let before = self.blocks.len();
        self.blocks.retain(|_, block| !doomed(block));
        (before - self.blocks.len()) as u32
    }

    fn grant(&mut self, name: &BlockName, to: Gid, by: Owner) -> Result<(), ErrorCode> {
        let block = self.blocks.get_mut(name).ok_or(ErrorCode::NotFound)?;
        if by != Owner::Site && by != block.owner {
            return Err(ErrorCode::Denied);
        }
        if block.owner == Owner::Group(to) || block.granted.contains(&to) {
            return Ok(());
        }
        if block.granted.len() == MAX_GRANTS {
            return Err(ErrorCode::Full);
        }
        block.granted.push(to);
        Ok(())
    }

    fn register(&mut self, reg: &Registration) -> Result<(), ErrorCode> {
        let mut gids: Vec<_> = self
            .actors
            .values()
            .filter(|a| a.name != reg.name)
            .map(|a| a.gid)
            .collect();
        gids.push(reg.gid);
        gids.sort_unstable();
        gids.dedup();
        let full = !self.actors.contains_key(&reg.name) && self.actors.len() == MAX_ACTORS;
        if full || gids.len() > MAX_GROUPS {
            return Err(ErrorCode::Full);
        }
        self.actors.insert(reg.name, reg.clone());
        Ok(())
    }
}

fn options(dir: &std::path::Path) -> BankOptions {
    BankOptions {
        dir: dir.join("bank"),
        size: PAGES * PAGE,
        max_blocks: MAX_BLOCKS as u32,
        max_actors: MAX_ACTORS as u32,
        max_groups: MAX_GROUPS as u32,
        window_base: 1 << 44,
        window_size: 1 << 20,
    }
}

/// Whether a block's first and last byte are `mark` and what lies between is zero.
fn holds(file: &File, size: u64, mark: u8) -> bool {
    let mut bytes = vec![0; size as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    let last = bytes.len() - 1;
    bytes[0] == mark && bytes[last] == mark && bytes[1..last].iter().all(|byte| *byte == 0)
}

fn allocate(
    bank: &mut Bank,
    model: &mut Model,
    name: BlockName,
    step: (u64, DeletionKey, Owner, u8),
) {
    let (size, key, by, mark) = step;
    let expected = model.allocate(&name, size, key, by);
    let got = bank.allocate(name, size, key, by);
    assert_eq!(
        got.as_ref()
            .map(|block| block.existed)
            .map_err(|error| error.code()),
        expected
    );
    let Ok(block) = got else { return };
    let file = File::from(block.fd);
    if block.existed {
        let known = &model.blocks[&name];
        assert_eq!((block.addr, block.size), (known.addr, known.size));
        assert!(
            holds(&file, block.size, known.mark),
            "h15: the block is as it was left"
        );
        return;
    }
    assert!(holds(&file, block.size, 0), "h15: a new block is zero");
    for other in model.blocks.values() {
        assert!(block.addr + block.size <= other.addr || other.addr + other.size <= block.addr);
    }
    file.write_all_at(&[mark], 0).unwrap();
    file.write_all_at(&[mark], block.size - 1).unwrap();
    let (size, addr) = (block.size, block.addr);
    model.blocks.insert(
        name,
        ModelBlock {
            size,
            addr,
            owner: by,
            key,
            granted: Vec::new(),
            mark,
        },
    );
}

fn carry_out(bank: &mut Bank, model: &mut Model, step: Step) {
    match step {
        Step::Allocate {
            name: n,
            size,
            key,
            by,
            mark,
        } => {
            allocate(bank, model, name(n), (size, key, by, mark));
        }
        Step::Free { name: n, by } => {
            assert_eq!(
                bank.free(name(n), by).map_err(|e| e.code()),
                model.free(&name(n), by)
            );
        }
        Step::FreeAll { key, by } => {
            let expected = match key {
                DeletionKey::Group => Err(ErrorCode::Denied),
                _ => Ok(model.sweep(|block| block.key == key && block.usable(by))),
            };
            assert_eq!(bank.free_all(key, by).map_err(|e| e.code()), expected);
        }
        Step::Grant { name: n, to, by } => {
            assert_eq!(
                bank.grant(name(n), to, by).map_err(|e| e.code()),
                model.grant(&name(n), to, by)
            );
        }
        Step::EndGroup { gid } => {
            let count = model
                .sweep(|block| block.key == DeletionKey::Group && block.owner == Owner::Group(gid));
            assert_eq!(bank.terminate_group(gid).unwrap(), count);
        }
        Step::Register { name: n, gid, spec } => {
            let reg = Registration {
                name: name(n),
                gid,
                direct: n % 2 == 0,
                life: LifeNo(0),
                restarts: 0,
                clean: false,
                running: None,
                spec,
            };
            assert_eq!(
                bank.register(&reg).map_err(|e| e.code()),
                model.register(&reg)
            );
        }
        Step::Deregister { name: n } => {
            let expected = model
                .actors
                .remove(&name(n))
                .map(|_| ())
                .ok_or(ErrorCode::NotFound);
            assert_eq!(bank.deregister(name(n)).map_err(|e| e.code()), expected);
        }
        Step::RecordLife {
            name: n,
            life,
            clean,
            pid,
        } => {
            let note = LifeRecord {
                life: LifeNo(life),
                restarts: life / 2,
                clean,
                running: (pid != 0).then_some(Running {
                    aid: Aid(life),
                    pid,
                    start_time: u64::from(pid) * 3,
                    capability: Capability([n; 16]),
                }),
            };
            let expected = model
                .actors
                .get_mut(&name(n))
                .ok_or(ErrorCode::NotFound)
                .map(|reg| {
                    (reg.life, reg.restarts, reg.clean) = (note.life, note.restarts, clean);
                    reg.running = note.running;
                });
            let got = bank.record_life(name(n), note);
            assert_eq!(got.map_err(|e| e.code()), expected);
        }
        Step::Clear => {
            model.actors.clear();
            bank.clear_registrations().unwrap();
        }
        Step::Reserve { upto } => {
            model.aids = model.aids.max(upto);
            bank.reserve_aids(Aid(upto)).unwrap();
        }
        Step::Reopen => {}
    }
}

fn agree(bank: &Bank, model: &Model) {
    let mut expected: Vec<_> = model.blocks.iter().collect();
    expected.sort_by_key(|(_, block)| block.addr);
    let listed = bank.blocks();
    assert_eq!(listed.len(), expected.len());
    for (info, (name, block)) in listed.iter().zip(expected) {
        assert_eq!(
            (info.name, info.size, info.addr),
            (*name, block.size, block.addr)
        );
        assert_eq!(
            (info.owner, info.key, &info.granted),
            (block.owner, block.key, &block.granted)
        );
    }
    let usage = bank.usage();
    assert_eq!(
        (usage.used, usage.blocks as usize),
        (model.used(), model.blocks.len())
    );
    assert_eq!(
        bank.registrations(),
        model.actors.values().cloned().collect::<Vec<_>>()
    );
    assert_eq!(bank.aid_floor(), Aid(model.aids.max(1)));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..Default::default() })]

    #[test]
    fn h15_to_h20_the_bank_answers_and_remembers_as_its_model(
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let root = tempfile::tempdir_in("/dev/shm").unwrap();
        let options = options(root.path());
        let mut model = Model::default();
        let (mut bank, _) = Bank::open(&options).unwrap();
        for step in steps {
            if matches!(step, Step::Reopen) {
                drop(bank);
                let (again, opened) = Bank::open(&options).unwrap();
                prop_assert_eq!(opened, Opened::Recovered);
                bank = again;
            }
            carry_out(&mut bank, &mut model, step);
            agree(&bank, &model);
        }
        bank.discard().unwrap();
        prop_assert!(!options.dir.exists());
    }
}
