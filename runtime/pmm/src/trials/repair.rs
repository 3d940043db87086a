//! A repair, stopped behind each of its steps and in the middle of each that is not atomic: the bank
//! is the damaged one or the repaired one, what was whole is whole, and repairing it again ends where
//! an undisturbed repair ends (DESIGN section 8, invariant 4).

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

use refrain_abi::{BlockName, DeletionKey, Gid, LifeNo};
use tempfile::TempDir;

use super::fuse::{CUTS, Cut, Fuse, Fused};
use super::{PAGE, options};
use crate::repair::{Repair, plan_with};
use crate::{Bank, BankOptions, Owner, Registration, Survey, SurveyedBlock};

/// A bank with every kind of damage: a damaged record, a lost file, a file that was cut and one that
/// was stretched, a nameless file, half a catalogue.
fn damaged(place: &Path) -> (TempDir, BankOptions) {
    let root = tempfile::tempdir_in(place).unwrap();
    let options = options(root.path());
    let (mut bank, _) = Bank::open(&options).unwrap();
    for text in ["a", "b", "c", "d", "e"] {
        let name = BlockName::new(text).unwrap();
        let key = DeletionKey::opaque(b"key").unwrap();
        let block = bank.allocate(name, PAGE, key, Owner::Ordinary).unwrap();
        File::from(block.fd)
            .write_all_at(text.repeat(PAGE as usize).as_bytes(), 0)
            .unwrap();
    }
    bank.register(&Registration {
        name: BlockName::new("actor").unwrap(),
        gid: Gid(1),
        direct: true,
        life: LifeNo(0),
        restarts: 0,
        clean: false,
        running: None,
        spec: b"how to start it".to_vec(),
    })
    .unwrap();
    drop(bank);
    let open = |file: &str| {
        let file = File::options().write(true).open(options.dir.join(file));
        file.unwrap()
    };
    open("catalogue").write_all_at(b"XX", 8192 + 60).unwrap();
    fs::remove_file(options.dir.join("block-2")).unwrap();
    open("block-3").set_len(100).unwrap();
    open("block-4").write_all_at(b"behind", 2 * PAGE).unwrap();
    fs::write(options.dir.join("block-99"), "nameless").unwrap();
    fs::write(options.dir.join("catalogue.new"), "half").unwrap();
    (root, options)
}

/// What a bank holds: its blocks, and how the first page of each begins and ends.
fn held(dir: &Path) -> Vec<(SurveyedBlock, u8, u8)> {
    let survey = Survey::of(dir).unwrap();
    let blocks = survey.blocks.into_iter().map(|block| {
        let bytes = fs::read(dir.join(&block.file)).unwrap();
        let last = bytes.get(PAGE as usize - 1).copied().unwrap_or_default();
        (block, bytes[0], last)
    });
    blocks.collect()
}

/// Whether some file below the directory begins with these bytes.
fn is_kept(dir: &Path, bytes: &[u8]) -> bool {
    fs::read_dir(dir).unwrap().any(|entry| {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => is_kept(&path, bytes),
            false => fs::read(path).unwrap().starts_with(bytes),
        }
    })
}

/// Where and how a repair is cut off.
#[derive(Clone, Copy)]
struct Trial<'a> {
    place: &'a Path,
    has_links: bool,
    cut: Cut,
    goal: &'a [(SurveyedBlock, u8, u8)],
}

/// Cuts a repair off at a step; `true`: it was done before.
fn check_crash(steps: u32, trial: Trial<'_>) -> bool {
    let Trial {
        place,
        has_links,
        cut,
        goal,
    } = trial;
    let (_root, options) = damaged(place);
    let dir = options.dir.as_path();
    let was = Survey::of(dir).unwrap().damage;
    let fuse = Fuse::new(Fuse::NEVER);
    let plan = plan_with(dir, |inner| {
        let fused = Fused::new(inner, &fuse, cut);
        Box::new(match has_links {
            true => fused,
            false => fused.without_links(),
        })
    });
    let plan = plan.unwrap();
    fuse.set(steps);
    let done = plan.carry_out();
    if done.is_ok() {
        assert!(!fuse.burnt());
        assert_eq!(held(dir), goal);
        return true;
    }
    let now = Survey::of(dir).unwrap().damage;
    let stops = |damage: &[crate::Damage]| damage.iter().filter(|it| it.stops_start).count();
    assert!(
        stops(&now) == 0 || stops(&now) == stops(&was),
        "neither old nor new behind step {steps}: {now:?}"
    );
    if stops(&now) == 0 {
        // A site that starts now removes files without a name; they have one elsewhere by then.
        Bank::open(&options).unwrap();
    }
    let again = Repair::plan(dir).unwrap();
    again.carry_out().unwrap();
    assert_eq!(held(dir), goal, "behind step {steps}");
    for bytes in [&b"aaaa"[..], b"nameless", b"half", b"RFRNBANK"] {
        assert!(is_kept(dir, bytes), "{bytes:?} behind step {steps}");
    }
    assert!(Survey::of(dir).unwrap().damage.is_empty());
    Bank::open(&options).unwrap();
    false
}

/// Cuts a repair off at each of its steps, in each way of `cuts`.
fn check_crashes(place: &Path, has_links: bool, cuts: &[Cut]) {
    let (_root, options) = damaged(place);
    Repair::plan(&options.dir).unwrap().carry_out().unwrap();
    let goal = &held(&options.dir);
    let names: Vec<_> = goal.iter().map(|it| it.0.info.name.to_string()).collect();
    assert_eq!(names, ["c", "d", "e"]);
    assert_eq!(
        (goal[0].1, goal[0].2),
        (b'c', 0),
        "what was cut off is zero"
    );
    assert_eq!((goal[2].1, goal[2].2), (b'e', b'e'));
    for &cut in cuts {
        let trial = Trial {
            place,
            has_links,
            cut,
            goal,
        };
        let all = (1..).find(|steps| check_crash(*steps, trial)).unwrap();
        assert!(all > 8, "{all} steps only");
    }
}

#[test]
fn a_repair_that_is_cut_off_anywhere_leaves_old_or_new_and_can_be_made_again() {
    check_crashes(Path::new("/dev/shm"), true, &CUTS);
}

#[test]
fn a_repair_that_is_cut_off_leaves_old_or_new_on_a_disk() {
    check_crashes(&std::env::temp_dir(), true, &CUTS[..1]);
}

#[test]
fn a_repair_that_is_cut_off_leaves_old_or_new_where_files_have_one_name_only() {
    check_crashes(Path::new("/dev/shm"), false, &CUTS);
}
