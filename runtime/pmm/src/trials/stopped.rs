//! Every operation, stopped behind each of its steps and in the middle of each that is not atomic:
//! the bank opens to the state before or after, with nothing leaked (DESIGN section 8, invariant 4).
//!
//! A fuse stands between the bank and its medium; what it has let pass stays done on the real
//! medium, and the bank is then opened again by the same code that every start of a site runs.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use refrain_abi::{Aid, DeletionKey, Gid};
use tempfile::TempDir;

use super::fuse::{CUTS, Cut, Fuse, Fused};
use super::{ONE, PAGE, Seen, furnish, life_record, look, memory, name, options, registration};
use crate::open::open_with;
use crate::{Bank, BankOptions, Medium, Opened, PmmError};

fn fused(options: &BankOptions, fuse: &Fuse, cut: Cut) -> Result<(Bank, Opened), crate::OpenError> {
    open_with(options, |inner| Box::new(Fused::new(inner, fuse, cut)))
}

type Operation = (&'static str, fn(&mut Bank) -> Result<(), PmmError>);

const OPERATIONS: [Operation; 12] = [
    ("allocate", |bank| {
        bank.allocate(name("new"), 5000, DeletionKey::Group, ONE)
            .map(|_| ())
    }),
    ("free", |bank| bank.free(name("a"), ONE)),
    ("free_all", |bank| {
        bank.free_all(DeletionKey::opaque(b"key").unwrap(), ONE)
            .map(|_| ())
    }),
    ("terminate_group", |bank| {
        bank.terminate_group(Gid(1)).map(|_| ())
    }),
    ("grant", |bank| bank.grant(name("a"), Gid(2), ONE)),
    ("register", |bank| {
        bank.register(&registration("z", 2, b"argv of z"))
    }),
    ("register again", |bank| {
        bank.register(&registration("x", 2, b"other argv"))
    }),
    ("register the same", |bank| {
        bank.register(&registration("x", 2, b"argv of x"))
    }),
    ("deregister", |bank| bank.deregister(name("x"))),
    ("clear_registrations", |bank| bank.clear_registrations()),
    ("record_life", |bank| {
        bank.record_life(name("x"), life_record(4))
    }),
    ("reserve_aids", |bank| bank.reserve_aids(Aid(200))),
];

fn disk() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let (bank, _) = Bank::open(&options(dir.path())).unwrap();
    if bank.medium() == Medium::Ram {
        eprintln!(
            "note: {} is in memory, so the disk's steps are not run here",
            dir.path().display()
        );
    }
    bank.discard().unwrap();
    dir
}

/// A furnished bank in a new directory below `root`.
fn furnished(root: &Path, serial: &mut u32) -> BankOptions {
    *serial += 1;
    let options = options(&root.join(serial.to_string()));
    let (mut bank, _) = Bank::open(&options).unwrap();
    furnish(&mut bank);
    options
}

fn reopened(options: &BankOptions) -> Seen {
    let (mut bank, opened) = Bank::open(options).unwrap();
    assert_eq!(opened, Opened::Recovered);
    look(&mut bank)
}

/// Runs an operation with a fuse of each length; `then` checks what is left.
fn burn(
    root: &Path,
    cut: Cut,
    operation: &Operation,
    mut then: impl FnMut(&BankOptions, &Seen, &Seen),
) {
    let mut serial = 0;
    let options = furnished(root, &mut serial);
    let before = reopened(&options);
    let (mut bank, _) = Bank::open(&options).unwrap();
    operation.1(&mut bank).unwrap();
    let after = look(&mut bank);
    assert_ne!(before, after, "{} changes something", operation.0);
    drop(bank);
    assert_eq!(reopened(&options), after);
    for steps in 1.. {
        let options = furnished(root, &mut serial);
        reopened(&options);
        let fuse = Fuse::new(Fuse::NEVER);
        let (mut bank, _) = fused(&options, &fuse, cut).unwrap();
        fuse.set(steps);
        let result = operation.1(&mut bank);
        drop(bank);
        if !fuse.burnt() {
            result.unwrap();
            assert!(steps > 3, "an operation has at least three steps");
            break;
        }
        assert!(
            result.is_err(),
            "{} hides the failure of step {steps}",
            operation.0
        );
        then(&options, &before, &after);
    }
}

fn old_or_new(options: &BankOptions, before: &Seen, after: &Seen) {
    let now = reopened(options);
    assert!(
        now == *before || now == *after,
        "neither old nor new:\n{now:#?}"
    );
}

#[test]
fn a_crash_at_any_step_leaves_the_old_or_the_new_state_in_memory() {
    for operation in &OPERATIONS {
        for cut in CUTS {
            burn(memory().path(), cut, operation, old_or_new);
        }
    }
}

#[test]
fn a_crash_at_any_step_leaves_the_old_or_the_new_state_on_a_disk() {
    for operation in &OPERATIONS {
        burn(disk().path(), Cut::Half, operation, old_or_new);
    }
}

#[test]
fn a_crash_while_recovering_from_a_crash_is_recovered_from() {
    for operation in &OPERATIONS {
        let root = memory();
        burn(
            root.path(),
            Cut::Half,
            operation,
            |options, before, after| {
                for steps in 1.. {
                    let fuse = Fuse::new(steps);
                    let opened = fused(options, &fuse, Cut::AllButOneByte);
                    if !fuse.burnt() {
                        opened.unwrap();
                        break;
                    }
                    assert!(opened.is_err());
                }
                old_or_new(options, before, after);
            },
        );
    }
}

#[test]
fn a_crash_while_a_bank_is_made_leaves_room_for_a_whole_one() {
    for cut in CUTS {
        for steps in 1.. {
            let root = memory();
            let options = options(root.path());
            let fuse = Fuse::new(steps);
            let opened = fused(&options, &fuse, cut);
            if !fuse.burnt() {
                assert_eq!(opened.unwrap().1, Opened::Created);
                break;
            }
            assert!(opened.is_err());
            let (mut bank, opened) = Bank::open(&options).unwrap();
            assert_eq!(opened, Opened::Created);
            assert!(look(&mut bank).blocks.is_empty());
        }
    }
}

#[test]
fn a_crash_while_a_bank_changes_size_loses_nothing() {
    for cut in CUTS {
        let root = memory();
        let mut serial = 0;
        for steps in 1.. {
            let small = furnished(root.path(), &mut serial);
            let before = reopened(&small);
            let large = BankOptions {
                size: 64 * PAGE,
                max_blocks: 100,
                max_actors: 40,
                ..small.clone()
            };
            let fuse = Fuse::new(steps);
            let opened = fused(&large, &fuse, cut);
            if !fuse.burnt() {
                let (mut bank, _) = opened.unwrap();
                assert_eq!(look(&mut bank), before);
                assert_eq!(
                    (bank.usage().size, bank.usage().max_blocks),
                    (64 * PAGE, 100)
                );
                break;
            }
            assert!(opened.is_err());
            assert_eq!(
                reopened(if steps % 2 == 0 { &small } else { &large }),
                before
            );
        }
    }
}

#[test]
fn a_crash_while_a_bank_is_discarded_leaves_it_whole_or_empty() {
    let root = memory();
    let mut serial = 0;
    for steps in 1.. {
        let options = furnished(root.path(), &mut serial);
        let before = reopened(&options);
        let fuse = Fuse::new(Fuse::NEVER);
        let (bank, _) = fused(&options, &fuse, Cut::Nothing).unwrap();
        fuse.set(steps);
        let result = bank.discard();
        if !fuse.burnt() {
            result.unwrap();
            assert!(!options.dir.exists());
            break;
        }
        let (mut bank, opened) = Bank::open(&options).unwrap();
        match opened {
            Opened::Recovered => assert_eq!(look(&mut bank), before),
            Opened::Created => assert!(look(&mut bank).blocks.is_empty()),
        }
        bank.discard().unwrap();
        assert!(!options.dir.exists(), "the directory was the bank's own");
    }
}

#[test]
fn after_a_failed_write_nothing_more_is_written() {
    let root = memory();
    let options = furnished(root.path(), &mut 0);
    let fuse = Fuse::new(Fuse::NEVER);
    let (mut bank, _) = fused(&options, &fuse, Cut::Half).unwrap();
    fuse.set(2);
    assert!(matches!(
        bank.free(name("a"), ONE),
        Err(PmmError::Io { .. })
    ));
    // The medium works again; what it holds is not known.
    fuse.set(Fuse::NEVER);
    assert!(matches!(bank.free(name("c"), ONE), Err(PmmError::Poisoned)));
    assert!(matches!(
        bank.reserve_aids(Aid(900)),
        Err(PmmError::Poisoned)
    ));
    assert!(matches!(
        bank.register(&registration("q", 1, b"")),
        Err(PmmError::Poisoned)
    ));
    assert!(
        bank.allocate(name("c"), PAGE, DeletionKey::Group, ONE)
            .unwrap()
            .existed
    );
    drop(bank);
    let (mut bank, _) = Bank::open(&options).unwrap();
    bank.free(name("c"), ONE).unwrap();
}

#[test]
fn a_change_that_was_not_finished_is_told_from_a_damaged_one() {
    let root = memory();
    let options = furnished(root.path(), &mut 0);
    let (bank, _) = Bank::open(&options).unwrap();
    let index = bank.names[&name("a")];
    let at = bank
        .catalogue
        .geometry()
        .at(crate::layout::Kind::Block, index);
    drop(bank);
    let catalogue = File::options()
        .read(true)
        .write(true)
        .open(options.dir.join("catalogue"))
        .unwrap();
    let mut byte = [0];
    catalogue.read_exact_at(&mut byte, at + 200).unwrap();
    catalogue.write_all_at(&[!byte[0]], at + 200).unwrap();
    let error = Bank::open(&options).unwrap_err();
    assert!(
        matches!(&error, crate::OpenError::Damaged { offset, .. } if *offset == at),
        "{error}"
    );
    assert!(
        options.dir.join("block-1").exists(),
        "nothing is removed from a damaged bank"
    );
    catalogue.write_all_at(&byte, at + 200).unwrap();
    assert_eq!(reopened(&options).blocks.len(), 4);
}
