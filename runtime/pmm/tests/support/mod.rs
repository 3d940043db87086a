//! A bank for the tests of looking at banks and repairing them, and what each repair has to keep.
//! Used by `checking.rs` and `harmed.rs`.
#![allow(dead_code)] // each of them uses a part

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

use refrain_abi::{BlockName, DeletionKey, Gid, LifeNo};
use refrain_pmm::{Bank, BankOptions, BlockInfo, LifeRecord, Owner, Registration, Repair, Survey};
use tempfile::TempDir;

/// A page, in bytes.
pub const PAGE: u64 = 4096;
/// The first group.
pub const ONE: Owner = Owner::Group(Gid(1));
/// A deletion key.
pub const KEY: DeletionKey = DeletionKey::Opaque([1; 32]);
/// Where block records begin.
pub const BLOCKS_AT: usize = 8192;

/// A name.
pub fn name(text: &str) -> BlockName {
    BlockName::new(text).unwrap()
}

/// A small bank below `dir`.
pub fn options(dir: &Path) -> BankOptions {
    BankOptions {
        dir: dir.join("bank"),
        size: 32 * PAGE,
        max_blocks: 8,
        max_actors: 4,
        max_groups: 4,
        window_base: 1 << 44,
        window_size: 1 << 30,
    }
}

/// An actor of group 1.
pub fn registration(text: &str) -> Registration {
    Registration {
        name: name(text),
        gid: Gid(1),
        direct: true,
        life: LifeNo(2),
        restarts: 2,
        clean: false,
        running: None,
        spec: format!("how to start {text}").into_bytes(),
    }
}

/// A bank with four blocks, one of them granted (so that both its slots were in use), and two
/// registrations; closed.
pub fn furnished() -> (TempDir, BankOptions) {
    let root = tempfile::tempdir_in("/dev/shm").unwrap();
    let options = options(root.path());
    let (mut bank, _) = Bank::open(&options).unwrap();
    for (text, key) in [
        ("a", KEY),
        ("b", DeletionKey::Group),
        ("c", KEY),
        ("d", KEY),
    ] {
        let block = bank.allocate(name(text), 2 * PAGE, key, ONE).unwrap();
        let content = text.repeat(2 * PAGE as usize);
        File::from(block.fd)
            .write_all_at(content.as_bytes(), 0)
            .unwrap();
    }
    bank.grant(name("c"), Gid(7), ONE).unwrap();
    bank.register(&registration("x")).unwrap();
    bank.register(&registration("y")).unwrap();
    let note = LifeRecord {
        life: LifeNo(3),
        restarts: 3,
        clean: true,
        running: None,
    };
    bank.record_life(name("y"), note).unwrap();
    drop(bank);
    (root, options)
}

/// Every file below a directory with its content.
pub fn contents(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let file = path.file_name().unwrap().to_str().unwrap().to_owned();
        if path.is_dir() {
            let below = contents(&path).into_iter();
            all.extend(below.map(|(name, bytes)| (format!("{file}/{name}"), bytes)));
        } else {
            all.insert(file, fs::read(path).unwrap());
        }
    }
    all
}

/// The blocks of a bank that is whole, with their content.
pub fn blocks(dir: &Path) -> Vec<(BlockInfo, Vec<u8>)> {
    let survey = Survey::of(dir).unwrap();
    let blocks = survey.blocks.into_iter();
    blocks
        .map(|block| (block.info, fs::read(dir.join(block.file)).unwrap()))
        .collect()
}

/// Repairs a bank and checks that nothing sound was touched and nothing is gone.
pub fn repaired(dir: &Path) -> Vec<String> {
    let before = contents(dir);
    let plan = Repair::plan(dir).unwrap();
    let steps = plan.steps().to_vec();
    assert_eq!(contents(dir), before, "a plan changes nothing");
    plan.carry_out().unwrap();
    let after = contents(dir);
    let survey = Survey::of(dir).unwrap();
    assert!(survey.damage.is_empty(), "{:?}\n{steps:#?}", survey.damage);
    let left = survey.recovery.iter();
    assert!(steps.is_empty() || left.clone().all(|step| step.starts_with("finish")));
    for (file, bytes) in before.iter().filter(|(file, _)| *file != "catalogue") {
        let kept = |bytes: &[u8]| after.values().any(|it| it == bytes);
        let same_block = after.get(file).is_some_and(|now| {
            let common = now.len().min(bytes.len());
            now[..common] == bytes[..common] && (now.len() >= bytes.len() || kept(&bytes[common..]))
        });
        assert!(same_block || kept(bytes), "{file} is gone: {steps:#?}");
    }
    steps
}
