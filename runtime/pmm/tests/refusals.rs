//! What a bank refuses, and the line that it refuses with (SPEC H15 to H20).
#![allow(clippy::unwrap_used)]

use std::fs::File;
use std::path::Path;

use refrain_abi::request::ErrorCode;
use refrain_abi::{Aid, BlockName, Capability, DeletionKey, Gid, LifeNo};
use refrain_pmm::{
    Bank, BankOptions, FullError, LifeRecord, MAX_SPEC, Owner, PmmError, Registration, Running,
};

const PAGE: u64 = 4096;
const ONE: Owner = Owner::Group(Gid(1));
const TWO: Owner = Owner::Group(Gid(2));

fn name(text: &str) -> BlockName {
    BlockName::new(text).unwrap()
}

fn options(root: &Path) -> BankOptions {
    BankOptions {
        dir: root.join("bank"),
        size: 4 * PAGE,
        max_blocks: 3,
        max_actors: 2,
        max_groups: 1,
        window_base: 1 << 44,
        window_size: 16 * PAGE,
    }
}

fn with_bank(test: impl FnOnce(&mut Bank)) {
    let root = tempfile::tempdir_in("/dev/shm").unwrap();
    let (mut bank, _) = Bank::open(&options(root.path())).unwrap();
    test(&mut bank);
}

fn allocate(
    bank: &mut Bank,
    text: &str,
    size: u64,
    by: Owner,
) -> Result<refrain_pmm::Block, PmmError> {
    bank.allocate(name(text), size, DeletionKey::opaque(b"key").unwrap(), by)
}

#[test]
fn h15_a_block_of_another_size_is_refused() {
    with_bank(|bank| {
        allocate(bank, "counter", 1, ONE).unwrap();
        assert!(
            allocate(bank, "counter", PAGE, ONE).unwrap().existed,
            "sizes are compared in whole pages"
        );
        let error = allocate(bank, "counter", PAGE + 1, ONE).unwrap_err();
        assert_eq!(
            error.to_string(),
            "block counter has 4096 bytes, 8192 were asked for; ask for 4096 or free it first"
        );
        assert_eq!(error.code(), ErrorCode::SizeMismatch);
    });
}

#[test]
fn h15_a_block_of_no_bytes_is_refused() {
    with_bank(|bank| {
        assert!(matches!(
            allocate(bank, "x", 0, ONE),
            Err(PmmError::ZeroSize { .. })
        ))
    });
}

#[test]
fn h19_another_groups_block_is_named_and_refused_until_it_is_granted() {
    with_bank(|bank| {
        allocate(bank, "mine", 1, ONE).unwrap();
        let error = allocate(bank, "mine", 1, TWO).unwrap_err();
        assert_eq!(
            error.to_string(),
            "block mine belongs to group 1; use another name, or have group 1 grant it"
        );
        assert_eq!(
            bank.free(name("mine"), TWO).unwrap_err().code(),
            ErrorCode::Denied
        );
        assert_eq!(
            bank.grant(name("mine"), Gid(2), TWO).unwrap_err().code(),
            ErrorCode::Denied
        );
        bank.grant(name("mine"), Gid(2), ONE).unwrap();
        assert!(allocate(bank, "mine", 1, TWO).unwrap().existed);
        assert_eq!(
            bank.grant(name("mine"), Gid(3), TWO).unwrap_err().code(),
            ErrorCode::Denied
        );
        bank.free(name("mine"), TWO).unwrap();
        assert_eq!(
            bank.free(name("mine"), ONE).unwrap_err().code(),
            ErrorCode::NotFound
        );
    });
}

#[test]
fn h19_actors_cannot_touch_or_free_the_controllers_blocks() {
    with_bank(|bank| {
        allocate(bank, "image", 1, Owner::Site).unwrap();
        for by in [ONE, Owner::Ordinary] {
            assert_eq!(
                allocate(bank, "image", 1, by).unwrap_err().code(),
                ErrorCode::Denied
            );
            assert_eq!(
                bank.free(name("image"), by).unwrap_err().code(),
                ErrorCode::Denied
            );
            assert_eq!(
                bank.free_all(DeletionKey::opaque(b"key").unwrap(), by)
                    .unwrap(),
                0
            );
        }
    });
}

#[test]
fn h17_freeing_by_the_group_key_is_refused_and_needs_a_group_to_allocate() {
    with_bank(|bank| {
        assert!(matches!(
            bank.free_all(DeletionKey::Group, ONE),
            Err(PmmError::GroupKey)
        ));
        for by in [Owner::Ordinary, Owner::Site] {
            let error = bank
                .allocate(name("x"), 1, DeletionKey::Group, by)
                .unwrap_err();
            assert!(matches!(error, PmmError::NoGroup { .. }), "{error}");
        }
    });
}

#[test]
fn h17_a_key_frees_only_what_its_caller_may_use() {
    with_bank(|bank| {
        allocate(bank, "a", 1, ONE).unwrap();
        allocate(bank, "b", 1, TWO).unwrap();
        allocate(bank, "c", 1, TWO).unwrap();
        bank.grant(name("c"), Gid(1), TWO).unwrap();
        assert_eq!(
            bank.free_all(DeletionKey::opaque(b"key").unwrap(), ONE)
                .unwrap(),
            2
        );
        assert_eq!(
            bank.blocks()
                .iter()
                .map(|block| block.name)
                .collect::<Vec<_>>(),
            [name("b")]
        );
    });
}

#[test]
fn h18_group_key_blocks_go_with_their_group_and_others_stay() {
    with_bank(|bank| {
        bank.allocate(name("a"), 1, DeletionKey::Group, ONE)
            .unwrap();
        bank.allocate(name("b"), 1, DeletionKey::Group, TWO)
            .unwrap();
        allocate(bank, "c", 1, ONE).unwrap();
        assert_eq!(bank.terminate_group(Gid(1)).unwrap(), 1);
        assert_eq!(
            bank.blocks()
                .iter()
                .map(|block| block.name)
                .collect::<Vec<_>>(),
            [name("b"), name("c")]
        );
    });
}

#[test]
fn h20_a_full_bank_says_so_with_its_numbers() {
    with_bank(|bank| {
        allocate(bank, "a", 3 * PAGE, ONE).unwrap();
        let error = allocate(bank, "b", 2 * PAGE, ONE).unwrap_err();
        assert_eq!(
            error.to_string(),
            "bank full: block b needs 8192 bytes, 4096 of 16384 are free; free a block or raise pmm.ram_bank_size"
        );
        assert_eq!(error.code(), ErrorCode::Full);
        assert!(allocate(bank, "b", u64::MAX, ONE).is_err());
        allocate(bank, "b", PAGE, ONE).unwrap();
        assert_eq!(bank.usage().used, 4 * PAGE);
    });
}

#[test]
fn h20_one_block_too_many_is_refused() {
    with_bank(|bank| {
        for text in ["a", "b", "c"] {
            allocate(bank, text, 1, ONE).unwrap();
        }
        let error = allocate(bank, "d", 1, ONE).unwrap_err();
        assert!(
            matches!(error, PmmError::Full(FullError::Blocks { max: 3, .. })),
            "{error}"
        );
        bank.free(name("b"), ONE).unwrap();
        allocate(bank, "d", 1, ONE).unwrap();
    });
}

#[test]
fn h20_a_window_without_a_gap_is_full() {
    let root = tempfile::tempdir_in("/dev/shm").unwrap();
    let options = BankOptions {
        window_size: 4 * PAGE,
        ..options(root.path())
    };
    let (mut bank, _) = Bank::open(&options).unwrap();
    allocate(&mut bank, "a", PAGE, ONE).unwrap();
    allocate(&mut bank, "b", PAGE, ONE).unwrap();
    let error = allocate(&mut bank, "c", PAGE, ONE).unwrap_err();
    assert!(
        matches!(error, PmmError::Full(FullError::Window { .. })),
        "{error}"
    );
}

#[test]
fn h19_a_block_is_granted_to_eight_groups_at_most() {
    with_bank(|bank| {
        allocate(bank, "a", 1, ONE).unwrap();
        for gid in 2..10 {
            bank.grant(name("a"), Gid(gid), ONE).unwrap();
            bank.grant(name("a"), Gid(gid), ONE).unwrap();
        }
        let error = bank.grant(name("a"), Gid(10), ONE).unwrap_err();
        assert!(
            matches!(error, PmmError::Full(FullError::Grants { max: 8, .. })),
            "{error}"
        );
        let error = bank
            .grant(name("a"), Gid(Gid::NONE_ON_WIRE), ONE)
            .unwrap_err();
        assert_eq!(error.code(), ErrorCode::Invalid);
    });
}

#[test]
fn a_block_that_an_actor_cut_short_is_refused_and_can_be_freed_and_the_bank_opens() {
    let root = tempfile::tempdir_in("/dev/shm").unwrap();
    let options = options(root.path());
    let (mut bank, _) = Bank::open(&options).unwrap();
    let block = allocate(&mut bank, "a", 2 * PAGE, ONE).unwrap();
    File::from(block.fd).set_len(PAGE).unwrap();
    drop(bank);
    let (mut bank, _) = Bank::open(&options).unwrap();
    let error = allocate(&mut bank, "a", 2 * PAGE, ONE).unwrap_err();
    assert_eq!(
        error.to_string(),
        "block a is damaged: its file has 4096 bytes instead of 8192; free it by name"
    );
    bank.free(name("a"), ONE).unwrap();
    assert!(!allocate(&mut bank, "a", 2 * PAGE, ONE).unwrap().existed);
}

fn registration(text: &str, gid: u32, spec: Vec<u8>) -> Registration {
    let life = LifeNo(0);
    Registration {
        name: name(text),
        gid: Gid(gid),
        direct: true,
        life,
        restarts: 0,
        clean: false,
        running: None,
        spec,
    }
}

#[test]
fn h27_actors_and_groups_past_their_number_are_refused() {
    with_bank(|bank| {
        bank.register(&registration("a", 1, vec![])).unwrap();
        let error = bank.register(&registration("b", 2, vec![])).unwrap_err();
        assert!(
            matches!(error, PmmError::Full(FullError::Groups { max: 1, .. })),
            "{error}"
        );
        bank.register(&registration("b", 1, vec![])).unwrap();
        let error = bank.register(&registration("c", 1, vec![])).unwrap_err();
        assert!(
            matches!(error, PmmError::Full(FullError::Actors { max: 2, .. })),
            "{error}"
        );
        bank.deregister(name("a")).unwrap();
        bank.register(&registration("b", 2, vec![])).unwrap();
        assert_eq!(
            bank.deregister(name("a")).unwrap_err().code(),
            ErrorCode::NotFound
        );
        let ended = LifeRecord {
            life: LifeNo(1),
            restarts: 1,
            clean: true,
            running: None,
        };
        assert_eq!(
            bank.record_life(name("a"), ended).unwrap_err().code(),
            ErrorCode::NotFound
        );
        for pid in [0, 1 << 31, u32::MAX] {
            let running = Some(Running {
                aid: Aid(1),
                pid,
                start_time: 1,
                capability: Capability([1; 16]),
            });
            let refused = bank.record_life(name("b"), LifeRecord { running, ..ended });
            assert!(matches!(refused, Err(PmmError::BadPid { .. })));
        }
    });
}

#[test]
fn h3_start_data_of_every_permitted_length_come_back() {
    let root = tempfile::tempdir_in("/dev/shm").unwrap();
    let options = options(root.path());
    let (mut bank, _) = Bank::open(&options).unwrap();
    let whole = registration("whole", 1, (0..MAX_SPEC).map(|at| at as u8).collect());
    bank.register(&whole).unwrap();
    bank.register(&registration("empty", 1, vec![])).unwrap();
    let error = bank
        .register(&registration("whole", 1, vec![0; MAX_SPEC + 1]))
        .unwrap_err();
    assert!(matches!(error, PmmError::SpecTooLong { .. }), "{error}");
    drop(bank);
    let (bank, _) = Bank::open(&options).unwrap();
    assert_eq!(
        bank.registrations(),
        [registration("empty", 1, vec![]), whole]
    );
}

#[test]
fn h6_reserved_aids_only_rise() {
    with_bank(|bank| {
        assert_eq!(bank.aid_floor(), Aid(1));
        bank.reserve_aids(Aid(64)).unwrap();
        bank.reserve_aids(Aid(2)).unwrap();
        assert_eq!(bank.aid_floor(), Aid(64));
    });
}
