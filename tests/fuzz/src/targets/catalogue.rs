//! A bank that somebody has been at: the input is a list of changes to one that was whole, its checksums
//! made right again where the input says so. A survey changes nothing; opening fails exactly where
//! the survey says that it does; and a repair leaves a bank that opens.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::Path;
use std::sync::OnceLock;

use refrain_abi::{Aid, BlockName, Capability, DeletionKey, Gid, LifeNo};
use refrain_pmm::{
    Bank, BankOptions, CheckError, LifeRecord, OpenError, Owner, Registration, Repair, Running,
    Survey,
};

use super::{number, take};
use crate::Target;

pub const TARGET: Target = Target {
    name: "catalogue",
    longest: 512,
    words: &["RFRNBANK", "RFSL", "\0\0\x03\0\0\0", "\u{7}\0\0"],
    put,
};

/// A page, in bytes.
const PAGE: u64 = 4096;
/// A slot, in bytes, and where the first one is.
const SLOT: usize = 256;
const SLOTS_AT: usize = 4096;
/// The upper half of the commit word of a slot that holds something.
const COMMITTED: [u8; 4] = *b"RFSL";
/// The files that there are, or could be.
const FILES: [&str; 11] = [
    "block-1",
    "block-2",
    "block-3",
    "block-4",
    "spec-5",
    "spec-6",
    "block-9",
    "spec-1",
    "catalogue.new",
    "catalogue.gone",
    "lost+found-1",
];

fn options(scratch: &Path) -> BankOptions {
    BankOptions {
        dir: scratch.join("bank"),
        size: 32 * PAGE,
        max_blocks: 8,
        max_actors: 4,
        max_groups: 4,
        window_base: 1 << 44,
        window_size: 1 << 30,
    }
}

type Files = Vec<(String, Vec<u8>)>;

/// Every file of a bank with four blocks, one of them granted, and two registrations.
fn whole(options: &BankOptions) -> &'static Files {
    static FILES: OnceLock<Files> = OnceLock::new();
    FILES.get_or_init(|| furnish(options).expect("a bank can be made"))
}

fn furnish(options: &BankOptions) -> anyhow::Result<Files> {
    let one = Owner::Group(Gid(1));
    let (mut bank, _) = Bank::open(options)?;
    for (text, key) in [
        ("a", DeletionKey::Opaque([1; 32])),
        ("b", DeletionKey::Group),
        ("c", DeletionKey::Opaque([2; 32])),
        ("d", DeletionKey::Group),
    ] {
        bank.allocate(BlockName::new(text)?, PAGE, key, one)?;
    }
    bank.grant(BlockName::new("c")?, Gid(7), one)?;
    for text in ["x", "y"] {
        bank.register(&Registration {
            name: BlockName::new(text)?,
            gid: Gid(1),
            direct: true,
            life: LifeNo(2),
            restarts: 2,
            clean: false,
            running: Some(Running {
                aid: Aid(7),
                pid: 77,
                start_time: 777,
                capability: Capability([7; 16]),
            }),
            spec: format!("how to start {text}").into_bytes(),
        })?;
    }
    let ended = LifeRecord {
        life: LifeNo(3),
        restarts: 3,
        clean: true,
        running: None,
    };
    bank.record_life(BlockName::new("y")?, ended)?;
    drop(bank);
    contents(&options.dir)
}

fn contents(dir: &Path) -> anyhow::Result<Files> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            let name = entry.file_name().to_string_lossy().into_owned();
            files.push((name, fs::read(entry.path())?));
        }
    }
    files.sort();
    Ok(files)
}

/// Writes a directory anew.
fn lay_out(dir: &Path, files: &Files) -> anyhow::Result<()> {
    let _ = fs::remove_dir_all(dir);
    fs::create_dir_all(dir)?;
    for (name, bytes) in files {
        fs::write(dir.join(name), bytes)?;
    }
    Ok(())
}

/// Carries out one change.
fn change(input: &mut &[u8], catalogue: &mut Vec<u8>, dir: &Path) -> anyhow::Result<()> {
    let what = number(input, 1);
    let at = number(input, 2) as usize;
    match what % 10 {
        // Most of the bytes are zero, and changing those is of little interest.
        0..=4 => {
            let count = number(input, 1) as usize % 40;
            let with = take(input, count);
            if let Some(place) = catalogue.get_mut(at..at.saturating_add(with.len())) {
                place.copy_from_slice(with);
            }
        }
        5 => catalogue.resize(at % 16_000, 7),
        6 => {
            let slots = catalogue.len() / SLOT;
            let (from, to) = (at & 0xff, at >> 8);
            if from < slots && to < slots {
                catalogue.copy_within(from * SLOT..(from + 1) * SLOT, to * SLOT);
            }
        }
        7 => {
            let _ = fs::remove_file(dir.join(FILES[at % FILES.len()]));
        }
        8 => {
            let size = number(input, 2);
            let file = File::create(dir.join(FILES[at % FILES.len()]))?;
            file.set_len(size)?;
        }
        _ => seal(catalogue),
    }
    Ok(())
}

/// Makes every checksum right.
fn seal(catalogue: &mut [u8]) {
    if let Some(header) = catalogue.first_chunk_mut::<128>() {
        let sum = crc32c::crc32c(&header[..124]);
        header[124..].copy_from_slice(&sum.to_le_bytes());
    }
    for slot in catalogue.chunks_exact_mut(SLOT).skip(SLOTS_AT / SLOT) {
        if slot[..8] != [0; 8] {
            let sum = crc32c::crc32c(&slot[8..]);
            slot[..4].copy_from_slice(&sum.to_le_bytes());
            slot[4..8].copy_from_slice(&COMMITTED);
        }
    }
}

fn put(mut bytes: &[u8], scratch: &Path) {
    let options = options(scratch);
    let dir = &*options.dir.clone();
    if !dir.exists() {
        fs::create_dir_all(scratch).expect("the directory can be made");
    }
    let whole = whole(&options);
    lay_out(dir, whole).expect("the bank can be laid out");
    let path = dir.join("catalogue");
    let mut catalogue = fs::read(&path).expect("there is a catalogue");
    while !bytes.is_empty() {
        change(&mut bytes, &mut catalogue, dir).expect("files can be changed");
    }
    fs::write(&path, &catalogue).expect("the catalogue can be written");
    let harmed = contents(dir).expect("the bank can be read");
    let survey = match Survey::of(dir) {
        Ok(survey) => survey,
        Err(CheckError::Open(OpenError::Version { .. })) => return,
        Err(other) => panic!("not surveyed: {other}"),
    };
    assert_eq!(
        contents(dir).ok().as_ref(),
        Some(&harmed),
        "a survey changes nothing"
    );
    let stops = survey.damage.iter().any(|damage| damage.stops_start) || survey.refusal.is_some();
    let opens = Bank::open(&options).map(drop);
    assert_eq!(opens.is_err(), stops, "{opens:?} but {:?}", survey.damage);
    lay_out(dir, &harmed).expect("the bank can be laid out");
    if survey.refusal.is_some() {
        assert!(
            Repair::plan(dir).is_err(),
            "only its own machine knows its pages"
        );
        return;
    }
    let plan = Repair::plan(dir).expect("a repair can be planned");
    match plan.carry_out() {
        // A sound record of a block that this machine has no room for, beside a header that is not.
        Err(CheckError::Repair { source, .. }) if source.kind() == ErrorKind::StorageFull => return,
        carried_out => drop(carried_out.expect("a repair can be carried out")),
    }
    let survey = Survey::of(dir).expect("a mended bank can be surveyed");
    assert!(survey.damage.is_empty(), "{:?}", survey.damage);
    // Sound records may say that blocks are larger, or the window smaller, than the configuration has them: that
    // is not damage.
    let options = BankOptions {
        size: options.size.max(survey.used).min(survey.sizes.window_size),
        window_base: survey.sizes.window_base,
        window_size: survey.sizes.window_size,
        ..options
    };
    if let Err(why) = Bank::open(&options) {
        panic!("does not open after a repair: {why}");
    }
    let _ = fs::remove_dir_all(dir);
}
