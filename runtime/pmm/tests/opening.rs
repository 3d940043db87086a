//! Opening a bank that cannot be opened: one clear line each, and nothing is destroyed (issue: locked,
//! another version, damaged, full, read-only). Opening one with other sizes.
#![allow(clippy::unwrap_used)]

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use refrain_abi::{BlockName, DeletionKey, Gid, LifeNo};
use refrain_pmm::{Bank, BankOptions, LifeRecord, Medium, OpenError, Opened, Owner, Registration};
use tempfile::TempDir;

const PAGE: u64 = 4096;
const ONE: Owner = Owner::Group(Gid(1));
const KEY: DeletionKey = DeletionKey::Opaque([1; 32]);

fn name(text: &str) -> BlockName {
    BlockName::new(text).unwrap()
}

fn memory() -> TempDir {
    tempfile::tempdir_in("/dev/shm").unwrap()
}

fn options(dir: &Path) -> BankOptions {
    BankOptions {
        dir: dir.to_path_buf(),
        size: 8 * PAGE,
        max_blocks: 8,
        max_actors: 4,
        max_groups: 4,
        window_base: 1 << 44,
        window_size: 1 << 30,
    }
}

/// A bank with one block and one registration, closed.
fn furnished(root: &TempDir) -> BankOptions {
    let options = options(&root.path().join("bank"));
    let (mut bank, _) = Bank::open(&options).unwrap();
    bank.allocate(name("kept"), PAGE, KEY, ONE).unwrap();
    bank.register(&registration()).unwrap();
    options
}

fn registration() -> Registration {
    Registration {
        name: name("actor"),
        gid: Gid(1),
        direct: true,
        life: LifeNo(2),
        restarts: 2,
        clean: false,
        running: None,
        spec: b"how to start it".to_vec(),
    }
}

fn catalogue(options: &BankOptions) -> File {
    File::options()
        .read(true)
        .write(true)
        .open(options.dir.join("catalogue"))
        .unwrap()
}

/// The error of an opening that has to fail, after checking that it is one line which names the
/// directory.
fn refused(options: &BankOptions) -> OpenError {
    let error = Bank::open(options).unwrap_err();
    let line = error.to_string();
    assert!(
        !line.contains('\n') && line.contains(&options.dir.display().to_string()),
        "{line}"
    );
    error
}

/// The directory's files with sizes and times of change.
fn listing(dir: &Path) -> Vec<(PathBuf, u64, i64, i64)> {
    let mut all: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.path(), entry.metadata().unwrap()))
        .map(|(path, data)| (path, data.len(), data.mtime(), data.mtime_nsec()))
        .collect();
    all.sort();
    all
}

#[test]
fn a_bank_is_its_users_alone_and_comes_back_as_it_was() {
    let root = memory();
    let options = options(&root.path().join("deep/er/bank"));
    let (bank, opened) = Bank::open(&options).unwrap();
    assert_eq!(
        (opened, bank.medium(), bank.rebooted()),
        (Opened::Created, Medium::Ram, false)
    );
    assert_eq!(fs::metadata(&options.dir).unwrap().mode() & 0o7777, 0o700);
    assert_eq!(
        fs::metadata(options.dir.join("catalogue")).unwrap().mode() & 0o7777,
        0o600
    );
    drop(bank);
    let (bank, opened) = Bank::open(&options).unwrap();
    assert_eq!((opened, bank.rebooted()), (Opened::Recovered, false));
    bank.discard().unwrap();
    assert!(!options.dir.exists());
}

#[test]
fn a_directory_that_was_there_before_stays_when_the_bank_is_discarded() {
    let root = memory();
    let (bank, _) = Bank::open(&options(root.path())).unwrap();
    drop(bank);
    let (bank, _) = Bank::open(&options(root.path())).unwrap();
    bank.discard().unwrap();
    assert_eq!(listing(root.path()), []);
}

#[test]
fn somebody_elses_file_beside_a_bank_is_left_alone() {
    let root = memory();
    let options = furnished(&root);
    fs::write(options.dir.join("notes"), "mine").unwrap();
    fs::write(options.dir.join("block-7.bak"), "mine").unwrap();
    fs::write(options.dir.join("block-7"), "an orphan").unwrap();
    let (bank, _) = Bank::open(&options).unwrap();
    assert!(!options.dir.join("block-7").exists());
    bank.discard().unwrap();
    let left: Vec<_> = listing(&options.dir)
        .into_iter()
        .map(|file| file.0)
        .collect();
    assert_eq!(
        left,
        [options.dir.join("block-7.bak"), options.dir.join("notes")]
    );
}

#[test]
fn a_bank_of_a_living_site_is_locked_and_names_its_pid() {
    let root = memory();
    let options = furnished(&root);
    let (bank, _) = Bank::open(&options).unwrap();
    let before = listing(&options.dir);
    let error = refused(&options);
    assert!(
        matches!(error, OpenError::Locked { by, .. } if by == Some(std::process::id())),
        "{error}"
    );
    assert_eq!(listing(&options.dir), before);
    drop(bank);
    Bank::open(&options).unwrap();
}

#[test]
fn a_bank_of_another_version_is_refused_by_number() {
    let root = memory();
    let options = furnished(&root);
    catalogue(&options)
        .write_all_at(&7u32.to_le_bytes(), 8)
        .unwrap();
    let before = listing(&options.dir);
    let error = refused(&options);
    assert!(
        matches!(
            error,
            OpenError::Version {
                found: 7,
                known: 1,
                ..
            }
        ),
        "{error}"
    );
    assert_eq!(listing(&options.dir), before);
}

type Damage = fn(&BankOptions);

#[test]
fn damage_anywhere_is_reported_with_its_offset_and_nothing_is_touched() {
    let damages: [(&str, u64, Damage); 8] = [
        ("RFRNBANK", 0, |o| {
            catalogue(o).write_all_at(b"X", 0).unwrap()
        }),
        ("header is wrong", 0, |o| {
            catalogue(o).write_all_at(b"X", 30).unwrap()
        }),
        ("ends", 3, |o| catalogue(o).set_len(3).unwrap()),
        ("instead of", 8192, |o| catalogue(o).set_len(8192).unwrap()),
        ("record is wrong", 8192, |o| {
            catalogue(o).write_all_at(b"X", 8192 + 60).unwrap()
        }),
        ("block-1 of block kept is missing", 8192, |o| {
            fs::remove_file(o.dir.join("block-1")).unwrap()
        }),
        ("spec-2 of actor actor is missing", 12288, |o| {
            fs::remove_file(o.dir.join("spec-2")).unwrap()
        }),
        ("spec-2 of actor actor is not as it was", 12288, |o| {
            fs::write(o.dir.join("spec-2"), "no").unwrap()
        }),
    ];
    for (text, at, damage) in damages {
        let root = memory();
        let options = furnished(&root);
        damage(&options);
        let before = listing(&options.dir);
        let error = refused(&options);
        let OpenError::Damaged { what, offset, .. } = &error else {
            panic!("{error}")
        };
        let expected = text.replace("ends", "shorter");
        assert!(what.contains(&expected), "{what} does not say {expected}");
        assert_eq!(*offset, at, "{what}");
        assert_eq!(listing(&options.dir), before, "{what}");
    }
}

#[test]
fn blocks_without_a_catalogue_are_damage_and_not_a_new_bank() {
    let root = memory();
    let options = furnished(&root);
    fs::remove_file(options.dir.join("catalogue")).unwrap();
    let error = refused(&options);
    assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
    assert!(options.dir.join("block-1").exists());
}

#[test]
fn a_directory_with_something_else_a_file_and_a_link_are_not_banks() {
    let root = memory();
    fs::write(root.path().join("letter"), "dear").unwrap();
    let error = refused(&options(root.path()));
    assert!(
        matches!(&error, OpenError::NotABank { what, .. } if what.contains("letter")),
        "{error}"
    );
    let error = refused(&options(&root.path().join("letter")));
    assert!(matches!(error, OpenError::NotABank { .. }), "{error}");
    let error = refused(&options(&root.path().join("letter/below")));
    assert!(matches!(error, OpenError::NotABank { .. }), "{error}");
    let real = memory();
    std::os::unix::fs::symlink(real.path(), root.path().join("link")).unwrap();
    let error = refused(&options(&root.path().join("link")));
    assert!(matches!(error, OpenError::NotABank { .. }), "{error}");
    assert_eq!(listing(real.path()), []);
    assert_eq!(fs::read(root.path().join("letter")).unwrap(), b"dear");
}

#[test]
fn a_directory_that_others_may_write_in_is_refused() {
    let root = memory();
    fs::set_permissions(root.path(), Permissions::from_mode(0o770)).unwrap();
    let error = refused(&options(root.path()));
    assert!(
        matches!(&error, OpenError::Permission { what, .. } if what.contains("chmod 700")),
        "{error}"
    );
    assert_eq!(listing(root.path()), []);
}

#[test]
fn a_bank_grows_and_shrinks_to_what_it_holds_and_no_further() {
    let root = memory();
    let small = furnished(&root);
    let large = BankOptions {
        size: 100 * PAGE,
        max_blocks: 100,
        max_actors: 100,
        ..small.clone()
    };
    let (mut bank, _) = Bank::open(&large).unwrap();
    bank.allocate(name("large"), 90 * PAGE, KEY, ONE).unwrap();
    bank.free(name("kept"), ONE).unwrap();
    let addr = bank.blocks()[0].addr;
    drop(bank);
    let error = refused(&small);
    assert!(
        matches!(&error, OpenError::Geometry { what, .. } if what.contains("368640 bytes in blocks")),
        "{error}"
    );
    let exact = BankOptions {
        size: 90 * PAGE,
        max_blocks: 1,
        max_actors: 1,
        max_groups: 1,
        ..large
    };
    let (mut bank, _) = Bank::open(&exact).unwrap();
    assert_eq!((bank.usage().max_blocks, bank.blocks()[0].addr), (1, addr));
    assert_eq!(bank.registrations(), [registration()]);
    let note = LifeRecord {
        life: LifeNo(9),
        restarts: 9,
        clean: true,
        running: None,
    };
    bank.record_life(name("actor"), note).unwrap();
    assert!(
        bank.allocate(name("large"), 90 * PAGE, KEY, ONE)
            .unwrap()
            .existed
    );
    drop(bank);
    let (bank, _) = Bank::open(&exact).unwrap();
    assert_eq!(bank.registrations()[0].life, LifeNo(9));
}

#[test]
fn h11_the_address_window_of_a_bank_stays_whatever_is_configured() {
    let root = memory();
    let options = furnished(&root);
    let other = BankOptions {
        window_base: 1 << 45,
        window_size: 1 << 31,
        ..options
    };
    let (bank, _) = Bank::open(&other).unwrap();
    assert_eq!(bank.window(), (1 << 44, 1 << 30));
    assert_eq!(bank.blocks()[0].addr, 1 << 44);
}

#[test]
fn tunables_that_make_no_bank_are_refused_and_nothing_is_made() {
    let root = memory();
    let good = options(&root.path().join("bank"));
    for bad in [
        BankOptions {
            size: 0,
            ..good.clone()
        },
        BankOptions {
            size: 1 << 40,
            ..good.clone()
        },
        BankOptions {
            max_blocks: 0,
            ..good.clone()
        },
        BankOptions {
            max_actors: u32::MAX,
            ..good.clone()
        },
        BankOptions {
            max_groups: 0,
            ..good.clone()
        },
        BankOptions {
            window_base: 0,
            ..good.clone()
        },
        BankOptions {
            window_base: 4097,
            ..good.clone()
        },
        BankOptions {
            window_base: !4095,
            ..good.clone()
        },
        BankOptions {
            window_size: 1 << 47,
            ..good.clone()
        },
    ] {
        let error = refused(&bad);
        assert!(matches!(error, OpenError::Geometry { .. }), "{error}");
    }
    assert!(!good.dir.exists());
}

/// A small tmpfs, taken away again when the value is dropped.
struct Mount(TempDir);

impl Mount {
    /// `None`, with a line that says so, where mounting is not permitted.
    fn new(data: &str) -> Option<Self> {
        let mount = Self(tempfile::tempdir().unwrap());
        if mount.run("mount", &["-t", "tmpfs", "-o", data, "tmpfs"]) {
            return Some(mount);
        }
        eprintln!("SKIPPED: mounting a tmpfs is not permitted here");
        None
    }

    fn run(&self, program: &str, arguments: &[&str]) -> bool {
        Command::new(program)
            .args(arguments)
            .arg(self.0.path())
            .status()
            .is_ok_and(|status| status.success())
    }

    fn read_only(&self) -> bool {
        self.run("mount", &["-o", "remount,ro"])
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        self.run("umount", &["-l"]);
    }
}

#[test]
fn a_full_file_system_is_named_and_nothing_is_left_on_it() {
    let Some(mount) = Mount::new("size=64k,mode=700") else {
        return;
    };
    let options = BankOptions {
        max_blocks: 4096,
        ..options(&mount.0.path().join("bank"))
    };
    let error = refused(&options);
    assert!(
        matches!(error, OpenError::NoSpace { needed, .. } if needed > 2 << 20),
        "{error}"
    );
    assert!(!options.dir.exists());
}

#[test]
fn h20_a_file_system_without_pages_for_a_block_is_full_at_allocation() {
    let Some(mount) = Mount::new("size=128k,mode=700") else {
        return;
    };
    let options = BankOptions {
        size: 1 << 20,
        ..options(&mount.0.path().join("bank"))
    };
    let (mut bank, _) = Bank::open(&options).unwrap();
    let error = bank
        .allocate(name("large"), 256 << 10, KEY, ONE)
        .unwrap_err();
    assert_eq!(
        error.code(),
        refrain_abi::request::ErrorCode::Full,
        "{error}"
    );
    let large = Registration {
        spec: vec![1; 256 << 10],
        ..registration()
    };
    let error = bank.register(&large).unwrap_err();
    assert_eq!(
        error.code(),
        refrain_abi::request::ErrorCode::Full,
        "{error}"
    );
    assert_eq!((bank.usage().used, bank.registrations().len()), (0, 0));
    assert_eq!(listing(&options.dir).len(), 1, "no half of a file is left");
    bank.allocate(name("small"), PAGE, KEY, ONE).unwrap();
    bank.register(&registration()).unwrap();
}

#[test]
fn a_read_only_file_system_is_named() {
    let Some(mount) = Mount::new("size=1m,mode=700") else {
        return;
    };
    let options = options(&mount.0.path().join("bank"));
    let (bank, _) = Bank::open(&options).unwrap();
    drop(bank);
    assert!(mount.read_only());
    let error = refused(&options);
    assert!(matches!(error, OpenError::ReadOnly { .. }), "{error}");
    let fresh = BankOptions {
        dir: mount.0.path().join("fresh"),
        ..options
    };
    let error = refused(&fresh);
    assert!(matches!(error, OpenError::ReadOnly { .. }), "{error}");
}
