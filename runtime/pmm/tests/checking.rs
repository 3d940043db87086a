//! Looking at a bank and repairing it (SPEC H20; DESIGN section 3: damage is a clear error, never a
//! panic).
#![allow(clippy::unwrap_used)] // in the helpers of tests, too

mod support;

use std::fs::{self, File};
use std::os::unix::fs::FileExt;

use refrain_abi::{DeletionKey, Gid, LifeNo};
use refrain_pmm::{Bank, CheckError, LifeRecord, OpenError, Owner, Repair, Survey};
use tempfile::TempDir;

use support::{BLOCKS_AT, ONE, PAGE, blocks, contents, furnished, name, registration, repaired};

#[test]
fn a_whole_bank_is_told_as_it_is_and_no_byte_of_it_changes() {
    let (_root, options) = furnished();
    let before = contents(&options.dir);
    let survey = Survey::of(&options.dir).unwrap();
    assert!(survey.damage.is_empty() && survey.recovery.is_empty() && survey.steady);
    assert_eq!((survey.version, survey.used), (1, 8 * PAGE));
    assert_eq!((survey.sizes.max_blocks, survey.sizes.size), (8, 32 * PAGE));
    assert_eq!(survey.last.pid, std::process::id());
    assert!(survey.last.this_boot && survey.held_by.is_none());
    let told: Vec<_> = survey
        .blocks
        .iter()
        .map(|it| it.info.name.as_str())
        .collect();
    assert_eq!(told, ["a", "b", "c", "d"]);
    let c = &survey.blocks[2];
    assert_eq!(
        (c.info.granted.as_slice(), c.file.as_str()),
        (&[Gid(7)][..], "block-3")
    );
    assert_eq!((c.file_size, c.provided), (2 * PAGE, 2 * PAGE));
    let y = &survey.actors[1];
    assert_eq!((y.name, y.life, y.clean), (name("y"), LifeNo(3), true));
    assert!(Repair::plan(&options.dir).unwrap().steps().is_empty());
    assert_eq!(contents(&options.dir), before);
}

#[test]
fn a_bank_that_a_site_holds_is_looked_at_but_not_repaired() {
    let (_root, options) = furnished();
    let (mut bank, _) = Bank::open(&options).unwrap();
    bank.free(name("d"), ONE).unwrap();
    let survey = Survey::of(&options.dir).unwrap();
    assert_eq!(survey.held_by, Some(Some(std::process::id())));
    assert_eq!(survey.blocks.len(), 3);
    let refused = Repair::plan(&options.dir).unwrap_err();
    assert!(
        matches!(refused, CheckError::Open(OpenError::Locked { .. })),
        "{refused}"
    );
}

#[test]
fn what_the_next_start_will_do_is_told_and_not_done() {
    let (_root, options) = furnished();
    fs::write(options.dir.join("block-77"), "left by a crash").unwrap();
    fs::write(options.dir.join("catalogue.new"), "half").unwrap();
    fs::write(options.dir.join("notes"), "mine").unwrap();
    let before = contents(&options.dir);
    let survey = Survey::of(&options.dir).unwrap();
    assert!(survey.damage.is_empty());
    assert_eq!(survey.recovery.len(), 2, "{:?}", survey.recovery);
    assert_eq!(survey.foreign, ["notes"]);
    assert!(Repair::plan(&options.dir).unwrap().steps().is_empty());
    assert_eq!(contents(&options.dir), before);
}

#[test]
fn where_no_bank_is_none_is_found_and_none_is_made() {
    let root = tempfile::tempdir_in("/dev/shm").unwrap();
    fs::write(root.path().join("letter"), "dear").unwrap();
    for dir in [
        root.path().to_owned(),
        root.path().join("missing"),
        root.path().join("letter"),
    ] {
        let told = Survey::of(&dir).unwrap_err();
        assert!(matches!(told, CheckError::NoBank { .. }), "{told}");
        let told = Repair::plan(&dir).unwrap_err();
        assert!(matches!(told, CheckError::NoBank { .. }), "{told}");
    }
    assert!(!root.path().join("missing").exists());
}

#[test]
fn a_file_that_an_actor_cut_or_stretched_is_mended_and_the_rest_of_it_kept() {
    let (_root, options) = furnished();
    let open = |file: &str| {
        File::options()
            .write(true)
            .open(options.dir.join(file))
            .unwrap()
    };
    open("block-1").set_len(100).unwrap();
    open("block-2")
        .write_all_at(b"behind the end", 9 * PAGE)
        .unwrap();
    let survey = Survey::of(&options.dir).unwrap();
    assert_eq!(survey.damage.len(), 2, "{:?}", survey.damage);
    assert!(survey.damage.iter().all(|damage| !damage.stops_start));
    repaired(&options.dir);
    let after = blocks(&options.dir);
    assert_eq!(after[0].1[..100], [b'a'; 100]);
    assert_eq!(after[0].1[100..], [0; 2 * PAGE as usize - 100]);
    assert_eq!(after[1].1, [b'b'; 2 * PAGE as usize]);
    let tail = fs::read(options.dir.join("lost+found-1/block-2.tail")).unwrap();
    assert!(tail.ends_with(b"behind the end"));
    assert!(!options.dir.join("lost+found-1/catalogue").exists());
}

#[test]
fn a_lost_file_frees_its_record_and_a_lost_record_keeps_its_file() {
    let (_root, options) = furnished();
    fs::remove_file(options.dir.join("block-1")).unwrap();
    fs::write(options.dir.join("spec-5"), "other words").unwrap();
    let catalogue = File::options()
        .write(true)
        .open(options.dir.join("catalogue"))
        .unwrap();
    catalogue
        .write_all_at(b"XXXX", BLOCKS_AT as u64 + 512 + 100)
        .unwrap();
    let old = fs::read(options.dir.join("catalogue")).unwrap();
    let steps = repaired(&options.dir);
    assert!(
        steps.iter().any(|step| step.ends_with("free block a")),
        "{steps:#?}"
    );
    let survey = Survey::of(&options.dir).unwrap();
    let left: Vec<_> = survey
        .blocks
        .iter()
        .map(|it| it.info.name.as_str())
        .collect();
    assert_eq!(left, ["c", "d"]);
    assert_eq!(survey.actors.len(), 1);
    let kept = contents(&options.dir.join("lost+found-1"));
    assert_eq!(kept["block-2"], [b'b'; 2 * PAGE as usize]);
    assert_eq!(kept["spec-5"], b"other words");
    assert_eq!(kept["catalogue"], old);
    // A bank whose repair is done is a bank like any other, and goes as such.
    let (bank, _) = Bank::open(&options).unwrap();
    bank.discard().unwrap();
    assert!(Bank::open(&options).is_ok(), "lost+found-1 is no obstacle");
}

#[test]
fn h6_aids_are_not_given_out_again_when_the_state_was_damaged() {
    let (_root, options) = furnished();
    let (mut bank, _) = Bank::open(&options).unwrap();
    bank.reserve_aids(refrain_abi::Aid(5000)).unwrap();
    drop(bank);
    let catalogue = File::options()
        .write(true)
        .open(options.dir.join("catalogue"))
        .unwrap();
    for slot in [4096, 4352] {
        catalogue.write_all_at(b"X", slot + 40).unwrap();
    }
    repaired(&options.dir);
    let (bank, _) = Bank::open(&options).unwrap();
    assert!(bank.aid_floor().0 >= 5000 && bank.rebooted());
}

#[test]
fn h18_a_damaged_intent_frees_nothing_and_a_whole_one_is_finished() {
    for is_damaged in [false, true] {
        let (_root, options) = furnished();
        let catalogue = File::options()
            .read(true)
            .write(true)
            .open(options.dir.join("catalogue"))
            .unwrap();
        // Group 1 was about to end: what `terminate_group` writes down first.
        let (_other, ending) = ended_group_image();
        catalogue.write_all_at(&ending, 4608).unwrap();
        if is_damaged {
            catalogue.write_all_at(b"X", 4608 + 30).unwrap();
        }
        // Something else that has to be repaired.
        catalogue
            .write_all_at(b"X", BLOCKS_AT as u64 + 100)
            .unwrap();
        repaired(&options.dir);
        let (bank, _) = Bank::open(&options).unwrap();
        let names: Vec<_> = bank.blocks().iter().map(|it| it.name.to_string()).collect();
        let expected: &[&str] = if is_damaged {
            &["b", "c", "d"]
        } else {
            &["c", "d"]
        };
        assert_eq!(names, expected);
    }
}

/// The intent record of a bank in which the end of group 1 is written down: its first slot, as the
/// second one crosses it off.
fn ended_group_image() -> (TempDir, Vec<u8>) {
    let (root, options) = furnished();
    let (mut bank, _) = Bank::open(&options).unwrap();
    assert_eq!(bank.terminate_group(Gid(1)).unwrap(), 1);
    drop(bank);
    let bytes = fs::read(options.dir.join("catalogue")).unwrap();
    (root, bytes[4608..4608 + 256].to_vec())
}

#[test]
fn a_bank_without_its_catalogue_is_damaged_and_its_files_are_kept() {
    let (_root, options) = furnished();
    fs::remove_file(options.dir.join("catalogue")).unwrap();
    assert!(Survey::of(&options.dir).unwrap().damage[0].stops_start);
    repaired(&options.dir);
    assert_eq!(contents(&options.dir.join("lost+found-1")).len(), 6);
    let (bank, _) = Bank::open(&options).unwrap();
    assert_eq!(bank.blocks(), []);
}

#[test]
fn a_bank_under_constant_change_is_never_called_damaged() {
    let (_root, options) = furnished();
    let (mut bank, _) = Bank::open(&options).unwrap();
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut round = 0;
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                round += 1;
                let note = LifeRecord {
                    life: LifeNo(round),
                    restarts: round,
                    clean: false,
                    running: None,
                };
                bank.record_life(name("x"), note).unwrap();
                bank.allocate(name("more"), PAGE, DeletionKey::Group, Owner::Group(Gid(2)))
                    .unwrap();
                bank.register(&registration(if round % 2 == 0 { "p" } else { "q" }))
                    .unwrap();
                bank.terminate_group(Gid(2)).unwrap();
                bank.deregister(name(if round % 2 == 0 { "p" } else { "q" }))
                    .unwrap();
            }
        });
        for _ in 0..20 {
            let survey = Survey::of(&options.dir);
            if !survey.as_ref().is_ok_and(|survey| survey.damage.is_empty()) {
                done.store(true, std::sync::atomic::Ordering::Relaxed);
            }
            let survey = survey.unwrap();
            assert!(survey.damage.is_empty(), "{:?}", survey.damage);
            assert!(survey.blocks.len() >= 4);
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}
