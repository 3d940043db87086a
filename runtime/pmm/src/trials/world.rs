//! A bank that lives: operations by chance, each recorded call by call, with what was to be seen
//! before and after. Used by `images`, `power` and `syncs`.

use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::Path;

use refrain_abi::{Aid, BlockName, DeletionKey, Gid};
use tempfile::TempDir;

use super::chance::Chance;
use super::medium::{Image, Kept};
use super::record::Recorder;
use super::{ONE, PAGE, Seen, life_record, look, memory, name, options, registration};
use crate::{Bank, BankOptions, Medium, Owner, PmmError, Survey};

/// Every operation there is.
pub(super) const OPERATIONS: [&str; 17] = [
    "allocate",
    "free",
    "free_all",
    "grant",
    "end of a group",
    "register",
    "register again",
    "deregister",
    "record a life",
    "reserve aids",
    "clear registrations",
    "open",
    "other sizes",
    "discard",
    "make",
    "repair",
    "repair a record",
];

/// How many of them are requests to an open bank.
pub(super) const ON_OPEN_BANK: usize = 11;
/// How many operations the bank of `World::first` has seen.
pub(super) const AGE: u32 = 30;

/// One operation, recorded.
pub(super) struct Change {
    pub what: &'static str,
    /// What the next site would open the bank with.
    pub options: BankOptions,
    pub medium: Medium,
    /// The directory as it was.
    pub base: Image,
    pub calls: Vec<Kept>,
    pub before: Seen,
    pub after: Seen,
    /// What `World::first` made the world by.
    pub seed: u64,
    /// Of a repair: how much damage there was that kept a site from starting.
    pub damage: Option<usize>,
}

/// A bank with its directory, under the eyes of a witness.
pub(super) struct World {
    _root: TempDir,
    pub options: BankOptions,
    pub recorder: Recorder,
    pub bank: Option<Bank>,
    /// A block that was made, for its actor to use once that is recorded.
    made: Option<(String, OwnedFd, u64)>,
}

fn empty() -> Seen {
    Seen {
        blocks: Vec::new(),
        registrations: Vec::new(),
        aid_floor: Aid(1),
        used: 0,
    }
}

fn key(chance: &mut Chance) -> DeletionKey {
    match chance.below(3) {
        0 => DeletionKey::Group,
        n => DeletionKey::Opaque([n as u8; 32]),
    }
}

fn owner(chance: &mut Chance) -> Owner {
    chance.of(&[ONE, ONE, Owner::Group(Gid(2)), Owner::Ordinary, Owner::Site])
}

/// A block and who asks for it: mostly one that is there, and its owner.
fn block_and_owner(bank: &Bank, chance: &mut Chance) -> (BlockName, Owner) {
    let blocks = bank.blocks();
    if blocks.is_empty() || chance.one_in(8) {
        let name = name(chance.of(&["a", "b", "c", "d", "e", "f", "g", "h"]));
        return (name, owner(chance));
    }
    let block = &blocks[chance.below(blocks.len() as u64) as usize];
    (block.name, block.owner)
}

fn actor_name(chance: &mut Chance) -> BlockName {
    name(chance.of(&["w", "x", "y", "z"]))
}

impl World {
    /// An empty directory, in which there is a bank after the first operation.
    pub(super) fn new(medium: Medium) -> Self {
        let root = memory();
        Self {
            options: options(root.path()),
            _root: root,
            recorder: Recorder::new(Image::default(), medium),
            bank: None,
            made: None,
        }
    }

    /// One with a bank in it that has seen so many operations.
    pub(super) fn aged(medium: Medium, operations: u32, chance: &mut Chance) -> Self {
        let mut world = Self::new(medium);
        world.change("make", chance);
        for _ in 0..operations {
            let what = chance.of(&OPERATIONS[..ON_OPEN_BANK]);
            world.change(what, chance);
        }
        world
    }

    /// The first operation of this name that changes something, of a bank of some age.
    pub(super) fn first(medium: Medium, what: &'static str, seed: u64) -> (Change, Chance) {
        let change = (seed..).find_map(|seed| {
            let mut chance = Chance::new(seed);
            let mut change = Self::aged(medium, AGE, &mut chance).change(what, &mut chance)?;
            change.seed = seed;
            Some((change, chance))
        });
        change.expect("no operation is refused for ever")
    }

    /// An operation by chance: mostly one on the open bank.
    pub(super) fn any(&mut self, chance: &mut Chance) -> Option<Change> {
        // What empties the bank comes seldom, so that there is something in it.
        let what = if chance.one_in(2) {
            chance.of(&["allocate", "allocate", "register", "register again"])
        } else if chance.one_in(8) {
            chance.of(&OPERATIONS[ON_OPEN_BANK..])
        } else {
            chance.of(&OPERATIONS[..ON_OPEN_BANK])
        };
        self.change(what, chance)
    }

    /// The bank.
    pub(super) fn bank(&mut self) -> &mut Bank {
        self.bank.as_mut().expect("a world has a bank after `make`")
    }

    fn seen(&mut self) -> Seen {
        self.bank.as_mut().map_or_else(empty, look)
    }

    /// Carries an operation out; `None`: it was refused, or there was nothing to do.
    pub(super) fn change(&mut self, what: &'static str, chance: &mut Chance) -> Option<Change> {
        let before = self.seen();
        if what.starts_with("repair") {
            return self.repair(what, chance);
        }
        let base = self.recorder.image();
        self.recorder.take();
        match what {
            "open" => self.open(),
            "other sizes" => {
                let Self { options, .. } = self;
                options.size += PAGE * chance.below(4);
                options.max_blocks += chance.below(3) as u32;
                options.max_actors += 1;
                options.max_groups += chance.below(2) as u32;
                self.open();
            }
            "make" => {
                self.discard();
                self.open();
            }
            "discard" => self.discard(),
            _ => {
                let done = self.request(what, chance);
                if done.is_err() {
                    assert!(self.recorder.take().is_empty(), "a refusal changes nothing");
                }
            }
        }
        let calls = self.recorder.take();
        if self.bank.is_none() {
            self.open();
            self.recorder.take();
        }
        let after = self.seen();
        self.agrees();
        self.use_block(chance);
        (!calls.is_empty()).then(|| Change {
            what,
            options: self.options.clone(),
            medium: self.recorder.medium,
            base,
            calls,
            before,
            after,
            seed: 0,
            damage: None,
        })
    }

    /// What was recorded is what there is.
    fn agrees(&self) {
        let (image, there) = (self.recorder.image(), Image::of(&self.options.dir));
        assert_eq!(image.contents(), there.contents(), "a call was not told of");
    }

    /// Closes the bank if need be, and opens it.
    pub(super) fn open(&mut self) {
        drop(self.bank.take());
        self.bank = Some(self.recorder.open(&self.options).unwrap().0);
    }

    fn discard(&mut self) {
        if let Some(bank) = self.bank.take() {
            bank.discard().unwrap();
        }
    }

    /// An operation on the open bank, by its name.
    pub(super) fn request(&mut self, what: &str, chance: &mut Chance) -> Result<(), PmmError> {
        let bank = self.bank.as_mut().expect("a world has a bank after `make`");
        match what {
            "allocate" => {
                let name = name(chance.of(&["a", "b", "c", "d", "e", "f", "g", "h"]));
                let by = owner(chance);
                let size = PAGE * (1 + chance.below(3));
                let block = bank.allocate(name, size, key(chance), by)?;
                if !block.existed {
                    let file = format!("block-{}", bank.block_id(name).unwrap());
                    self.made = Some((file, block.fd, block.size));
                }
            }
            "free" => {
                let (name, by) = block_and_owner(bank, chance);
                bank.free(name, by)?;
            }
            "free_all" => drop(bank.free_all(key(chance), owner(chance))?),
            "grant" => {
                let to = Gid(1 + chance.below(12) as u32);
                let (name, by) = block_and_owner(bank, chance);
                bank.grant(name, to, by)?;
            }
            "end of a group" => drop(bank.terminate_group(Gid(1 + chance.below(2) as u32))?),
            "register" | "register again" => {
                let gid = 1 + chance.below(3) as u32;
                // Now and then more than a page of start data, or none.
                let len = chance.of(&[0, 20, 600, 5000, 5000]);
                let mut new = registration("w", gid, &vec![chance.below(255) as u8 + 1; len]);
                new.name = actor_name(chance);
                let again = bank.registrations().iter().any(|it| it.name == new.name);
                if again == (what == "register again") {
                    bank.register(&new)?;
                }
            }
            "deregister" => bank.deregister(actor_name(chance))?,
            "record a life" => {
                let life = life_record(chance.below(99) as u32);
                bank.record_life(actor_name(chance), life)?;
            }
            "reserve aids" => bank.reserve_aids(Aid(chance.below(1 << 20) as u32))?,
            "clear registrations" => bank.clear_registrations()?,
            other => panic!("{other} is no operation on an open bank"),
        }
        Ok(())
    }

    /// What an actor does with its new block: three in four write the first page, and see to it that
    /// it reaches the medium; what they write behind it does not matter to them.
    fn use_block(&mut self, chance: &mut Chance) {
        let Some((name, fd, size)) = self.made.take() else {
            return;
        };
        let file = File::from(fd);
        let mut write = |at: u64| {
            let bytes = [chance.below(256) as u8; PAGE as usize];
            file.write_all_at(&bytes, at).unwrap();
            self.recorder
                .tell(&Kept::Write(name.clone(), at, bytes.into()));
        };
        if size == 2 * PAGE {
            return;
        }
        write(0);
        self.recorder.tell(&Kept::Sync(name.clone()));
        (1..size / PAGE).for_each(|page| write(page * PAGE));
    }

    /// Damages the closed bank and has it repaired.
    fn repair(&mut self, what: &'static str, chance: &mut Chance) -> Option<Change> {
        let files: Vec<_> = self.bank().blocks().into_iter().collect();
        let (block, at) = {
            let info = files.first()?;
            let bank = self.bank();
            let index = bank.names[&info.name];
            let geometry = bank.catalogue.geometry();
            let at = geometry.at(crate::layout::Kind::Block, index);
            (bank.block_id(info.name).unwrap(), at)
        };
        drop(self.bank.take());
        let dir = self.options.dir.clone();
        damage(&dir, what, block, at, chance);
        self.recorder.set(Image::of(&dir));
        let base = self.recorder.image();
        let damage = stops(&dir);
        self.recorder.take();
        let plan = self.recorder.plan_repair(&dir).unwrap();
        plan.carry_out().unwrap();
        let calls = self.recorder.take();
        self.agrees();
        self.open();
        let after = self.seen();
        (!calls.is_empty()).then(|| Change {
            what,
            options: self.options.clone(),
            medium: self.recorder.medium,
            base,
            calls,
            before: after.clone(),
            after,
            seed: 0,
            damage: Some(damage),
        })
    }
}

/// How much damage there is that keeps a site from starting.
pub(super) fn stops(dir: &Path) -> usize {
    let damage = Survey::of(dir).unwrap().damage;
    damage.iter().filter(|it| it.stops_start).count()
}

fn damage(dir: &Path, what: &str, block: u64, at: u64, chance: &mut Chance) {
    let open = |name: &str| {
        let file = File::options().read(true).write(true).open(dir.join(name));
        file.unwrap()
    };
    let file = open(&format!("block-{block}"));
    if what == "repair a record" {
        let catalogue = open("catalogue");
        let mut slots = [0; 512];
        catalogue.read_exact_at(&mut slots, at).unwrap();
        // Both slots, so that the block is lost and its file is kept.
        for slot in [0, 256] {
            catalogue
                .write_all_at(&[slots[slot as usize + 70] ^ 1], at + slot + 70)
                .unwrap();
        }
        fs::write(dir.join("spec-99"), "nameless").unwrap();
        return;
    }
    match chance.below(3) {
        0 => file.set_len(PAGE / 2).unwrap(),
        1 => file.write_all_at(b"behind", 5 * PAGE).unwrap(),
        _ => open("catalogue").write_all_at(b"XX", 30).unwrap(),
    }
}
