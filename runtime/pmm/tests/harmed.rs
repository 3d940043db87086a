//! Banks with any bytes changed: what the survey finds is held against what opening the bank says, and
//! what a repair leaves against what was whole before (SPEC H20).
#![allow(clippy::unwrap_used)] // in the helpers of tests, too

mod support;

use std::fs::{self, File};
use std::path::Path;

use proptest::prelude::*;
use refrain_pmm::{Bank, BankOptions, BlockInfo, CheckError, OpenError, Survey};
use tempfile::TempDir;

use support::{BLOCKS_AT, blocks, contents, furnished, options, repaired};

/// Where actor records begin, with eight blocks.
const ACTORS_AT: usize = BLOCKS_AT + 8 * 512;

#[derive(Clone, Debug)]
enum Harm {
    Bytes(usize, Vec<u8>),
    Cut(usize),
    Stretch(usize),
    Move(usize, usize),
    Remove(&'static str),
    Resize(&'static str, u64),
    Add(&'static str),
}

const FILES: [&str; 6] = [
    "block-1", "block-2", "block-3", "block-4", "spec-5", "spec-6",
];

fn harm() -> impl Strategy<Value = Harm> {
    let place = prop_oneof![
        0usize..128,
        4096usize..5120,
        BLOCKS_AT..BLOCKS_AT + 5 * 512,
        ACTORS_AT..ACTORS_AT + 3 * 512,
    ];
    let slot = (16usize..62).prop_map(|slot| slot * 256);
    prop_oneof![
        8 => (place, prop::collection::vec(any::<u8>(), 1..40)).prop_map(|(at, with)| Harm::Bytes(at, with)),
        1 => (0usize..14336).prop_map(Harm::Cut),
        1 => (1usize..5000).prop_map(Harm::Stretch),
        1 => (slot.clone(), slot).prop_map(|(from, to)| Harm::Move(from, to)),
        1 => prop::sample::select(&FILES[..]).prop_map(Harm::Remove),
        1 => (prop::sample::select(&FILES[..]), 0u64..20_000).prop_map(|(file, size)| Harm::Resize(file, size)),
        1 => prop::sample::select(&["block-9", "spec-1", "catalogue.new", "catalogue.gone"][..]).prop_map(Harm::Add),
    ]
}

fn apply(harm: &Harm, dir: &Path) {
    let path = dir.join("catalogue");
    let mut bytes = fs::read(&path).unwrap();
    match harm {
        Harm::Bytes(at, with) => {
            let end = (at + with.len()).min(bytes.len());
            if *at < end {
                bytes[*at..end].copy_from_slice(&with[..end - at]);
            }
        }
        Harm::Cut(at) => bytes.truncate(*at),
        Harm::Stretch(by) => bytes.extend(std::iter::repeat_n(7, *by)),
        Harm::Move(from, to) if (*from).max(*to) + 256 <= bytes.len() => {
            bytes.copy_within(*from..*from + 256, *to);
        }
        Harm::Move(..) => {}
        Harm::Remove(file) => drop(fs::remove_file(dir.join(file))),
        Harm::Resize(file, size) => {
            if let Ok(file) = File::options().write(true).open(dir.join(file)) {
                file.set_len(*size).unwrap();
            }
        }
        Harm::Add(file) => fs::write(dir.join(file), format!("added as {file}")).unwrap(),
    }
    fs::write(path, bytes).unwrap();
}

fn copy(from: &Path) -> (TempDir, BankOptions) {
    let root = tempfile::tempdir_in("/dev/shm").unwrap();
    let options = options(root.path());
    fs::create_dir(&options.dir).unwrap();
    for (file, bytes) in contents(from) {
        fs::write(options.dir.join(file), bytes).unwrap();
    }
    (root, options)
}

/// The blocks of `before` whose record and file are as they were.
fn still_whole(
    before: &[(BlockInfo, Vec<u8>)],
    old: &[u8],
    dir: &Path,
) -> Vec<(BlockInfo, Vec<u8>)> {
    let now = fs::read(dir.join("catalogue")).unwrap();
    let whole = before.iter().enumerate().filter(|(index, (_, content))| {
        let record = BLOCKS_AT + index * 512..BLOCKS_AT + (index + 1) * 512;
        let file = fs::read(dir.join(format!("block-{}", index + 1)));
        now.get(record.clone()) == Some(&old[record]) && file.is_ok_and(|file| file == *content)
    });
    whole.map(|(_, block)| block.clone()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..Default::default() })]

    #[test]
    fn any_bytes_are_told_repaired_and_whole_blocks_stay_as_they_are(
        harms in prop::collection::vec(harm(), 1..6),
    ) {
        let (_root, options) = furnished();
        let dir = options.dir.as_path();
        let old = fs::read(dir.join("catalogue")).unwrap();
        let before = blocks(dir);
        harms.iter().for_each(|harm| apply(harm, dir));
        let harmed = contents(dir);
        let survey = match Survey::of(dir) {
            Ok(survey) => survey,
            Err(CheckError::Open(OpenError::Version { .. })) => {
                prop_assert_ne!(&harmed["catalogue"][8..12], &old[8..12]);
                return Ok(());
            }
            Err(other) => panic!("{other}"),
        };
        prop_assert_eq!(contents(dir), harmed);
        let (_copy, copied) = copy(dir);
        let opens = Bank::open(&copied).map(drop);
        let stops = survey.damage.iter().any(|damage| damage.stops_start);
        prop_assert_eq!(opens.is_err(), stops, "{:?} but {:?}", opens, survey.damage);

        let whole = still_whole(&before, &old, dir);
        let steps = repaired(dir);
        prop_assert_eq!(steps.is_empty(), survey.damage.is_empty());
        let (bank, _) = Bank::open(&options).unwrap();
        drop(bank);
        let after = blocks(dir);
        for block in whole {
            prop_assert!(after.contains(&block), "{} is lost: {:#?}", block.0.name, steps);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..Default::default() })]

    #[test]
    fn a_catalogue_of_any_bytes_at_all_is_repaired(bytes in prop::collection::vec(any::<u8>(), 0..20_000)) {
        let (_root, options) = furnished();
        fs::write(options.dir.join("catalogue"), bytes).unwrap();
        repaired(&options.dir);
        Bank::open(&options).unwrap();
        prop_assert_eq!(contents(&options.dir.join("lost+found-1")).len(), 7);
    }
}
