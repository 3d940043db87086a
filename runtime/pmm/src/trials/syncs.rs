//! A medium that fails to take what was written, at every sync of every operation: the bank tells it,
//! takes no change from then on, hands out what it has; and whatever the next opening says is there
//! is on the medium then, though the kernel says so only once that something was not
//! (`medium`; fsync(2)).

use std::fs;
use std::os::unix::fs::DirBuilderExt;

use refrain_abi::Aid;

use super::bench::{Bench, May, Place, TEARS};
use super::chance::Chance;
use super::medium::{Image, Kept};
use super::record::Recorder;
use super::tally::Cut;
use super::world::{AGE, Change, ON_OPEN_BANK, OPERATIONS, World};
use super::{PAGE, memory, name, registration};
use crate::{Bank, BankOptions, Medium, PmmError};

fn syncs(change: &Change) -> u32 {
    let all = change.calls.iter();
    all.filter(|call| matches!(call, Kept::Sync(_) | Kept::SyncNames(_)))
        .count() as u32
}

/// The bank is read-only and says so; its blocks are handed out.
fn check_read_only(bank: &mut Bank) {
    let refusals = [
        bank.reserve_aids(Aid(1 << 30)),
        bank.register(&registration("q", 1, b"")),
        bank.clear_registrations(),
    ];
    for refused in refusals {
        let error = refused.unwrap_err();
        assert!(matches!(error, PmmError::Poisoned), "{error}");
        assert!(error.to_string().contains("restart"), "names the cure");
    }
    for block in bank.blocks() {
        let same = bank.allocate(block.name, block.size, block.key, block.owner);
        assert!(same.unwrap().existed);
    }
    let new = bank.allocate(
        name("new"),
        PAGE,
        refrain_abi::DeletionKey::Opaque([1; 32]),
        crate::Owner::Ordinary,
    );
    assert!(matches!(new, Err(PmmError::Poisoned)));
}

/// The operation again, on the same bank as before, with one sync that fails; what the controller
/// leaves to the next one.
fn fail(change: &Change, sync: u32) -> Image {
    if OPERATIONS[..ON_OPEN_BANK].contains(&change.what) {
        let mut chance = Chance::new(change.seed);
        let mut world = World::aged(Medium::Disk, AGE, &mut chance);
        world.recorder.fail_sync(sync);
        let failed = world.request(change.what, &mut chance);
        assert!(matches!(failed, Err(PmmError::Io { .. })), "{failed:?}");
        check_read_only(world.bank());
        return world.recorder.image();
    }
    let root = memory();
    let options = BankOptions {
        dir: root.path().join("bank"),
        ..change.options.clone()
    };
    let make = || fs::DirBuilder::new().mode(0o700).create(&options.dir);
    make().unwrap();
    change.base.write_to(&options.dir);
    let recorder = Recorder::new(change.base.clone(), Medium::Disk);
    let done = match change.what {
        "open" | "other sizes" => {
            recorder.fail_sync(sync);
            recorder.open(&options).map(drop).is_ok()
        }
        "make" | "discard" => {
            let bank = recorder.open(&options).unwrap().0;
            recorder.fail_sync(sync);
            bank.discard().is_ok() && {
                let _ = make();
                recorder.open(&options).map(drop).is_ok()
            }
        }
        _ => {
            let plan = recorder.plan_repair(&options.dir).unwrap();
            recorder.fail_sync(sync);
            plan.carry_out().is_ok()
        }
    };
    assert!(!done, "a failure is told");
    recorder.image()
}

#[test]
fn h31_a_sync_that_fails_is_told_once_and_never_forgotten() {
    let mut bench = Bench::new();
    let mut chance = Chance::new(1);
    for what in OPERATIONS {
        let (change, _) = World::first(Medium::Disk, what, 1);
        let mut place = Place::new(change.seed, &change);
        assert!(syncs(&change) > 0);
        for sync in 0..syncs(&change) {
            place.at = format!("sync {sync} fails");
            let image = fail(&change, sync);
            for _ in 0..8 {
                let left = image.after_power_failure(chance.of(&TEARS), &mut chance);
                bench.judge(&left, &change, Cut::Whole, May::Both);
            }
            let opened = bench.judge(&image, &change, Cut::Whole, May::Both);
            if change.damage.is_some() {
                continue;
            }
            let mut secured = image.clone();
            opened.calls.iter().for_each(|call| secured.call(call));
            for _ in 0..8 {
                let left = secured.after_power_failure(chance.of(&TEARS), &mut chance);
                bench.judge(&left, &change, Cut::Recovery, opened.may);
            }
            let (calls, seen) = bench.go_on(&image, &change);
            let mut changed = image;
            calls.iter().for_each(|call| changed.call(call));
            for _ in 0..8 {
                let left = changed.after_power_failure(chance.of(&TEARS), &mut chance);
                bench.expect(&left, &change, Cut::Again, &seen);
            }
        }
    }
    println!("{}", bench.tally);
}
