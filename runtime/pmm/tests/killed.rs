//! A controller killed by SIGKILL at a moment of nobody's choosing, in the midst of changes: the
//! bank opens, every record is one that was written whole, and the directory holds nothing else.
//!
//! The test runs itself as the child, which is told so by an environment variable. When the kill
//! comes is left to chance; the test passes wherever it comes.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use refrain_abi::{Aid, BlockName, Capability, DeletionKey, Gid, LifeNo};
use refrain_pmm::{Bank, BankOptions, LifeRecord, Owner, Registration, Running};

const CHILD: &str = "REFRAIN_PMM_TEST_BANK";
const PAGE: u64 = 4096;
/// What the child says after each life.
const NOTED: &str = "is noted";
const ROUNDS: u64 = 60;

fn options(dir: &Path) -> BankOptions {
    BankOptions {
        dir: dir.to_path_buf(),
        size: 64 * PAGE,
        max_blocks: 8,
        max_actors: 4,
        max_groups: 4,
        window_base: 1 << 44,
        window_size: 1 << 30,
    }
}

fn name(number: u32) -> BlockName {
    BlockName::new(&format!("name-{number}")).unwrap()
}

/// Start data from which a mixture of two registrations can be told.
fn spec(life: u32) -> Vec<u8> {
    vec![life as u8; 100 + life as usize % 1000]
}

/// A life from which a mixture of two can be told.
fn running(life: u32) -> Option<Running> {
    Some(Running {
        aid: Aid(life),
        pid: 1 + life,
        start_time: u64::from(life) << 32,
        capability: Capability([life as u8; 16]),
    })
}

fn churn(dir: &Path) -> ! {
    let (mut bank, _) = Bank::open(&options(dir)).unwrap();
    let key = DeletionKey::Opaque([3; 32]);
    let group = Owner::Group(Gid(1));
    for life in bank.aid_floor().0.. {
        let number = life % 4;
        let pages = 1 + u64::from(number);
        let pair = [(name(number), key), (name(4 + number), DeletionKey::Group)];
        for (name, key) in pair {
            bank.allocate(name, pages * PAGE, key, group).unwrap();
        }
        bank.grant(name(number), Gid(life), group).ok();
        let (life, restarts) = (LifeNo(life), life);
        let reg = Registration {
            name: name(number),
            gid: Gid(1),
            direct: true,
            life,
            restarts,
            clean: false,
            running: None,
            spec: spec(restarts),
        };
        bank.register(&reg).unwrap();
        let note = LifeRecord {
            life,
            restarts,
            clean: true,
            running: running(restarts),
        };
        bank.record_life(name(number), note).unwrap();
        bank.reserve_aids(Aid(restarts + 1)).unwrap();
        match restarts % 7 {
            0 => drop(bank.free_all(key, group).unwrap()),
            3 => drop(bank.terminate_group(Gid(1)).unwrap()),
            5 => bank.clear_registrations().unwrap(),
            6 => drop(bank.deregister(name(number))),
            _ => {}
        }
        println!("life {restarts} {NOTED}");
    }
    unreachable!("the aids do not run out in a test");
}

fn start(dir: &Path) -> Child {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "h31_a_killed_controllers_bank_opens_whole",
            "--nocapture",
        ])
        .env(CHILD, dir)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap())
        .lines()
        .map_while(Result::ok);
    assert!(lines.any(|line| line.ends_with(NOTED)), "the child works");
    // From now on the lines are swallowed, so that the child never waits for a reader.
    std::thread::spawn(move || lines.for_each(drop));
    child
}

fn check(dir: &Path, floor: &mut Aid) {
    let (bank, _) = Bank::open(&options(dir)).unwrap();
    assert!(
        bank.aid_floor() > *floor,
        "h6: each child noted one life at least, and aids never go back"
    );
    *floor = bank.aid_floor();
    for reg in bank.registrations() {
        assert_eq!((reg.life.0, &reg.spec), (reg.restarts, &spec(reg.restarts)));
        assert!(reg.running.is_none() || reg.running == running(reg.restarts));
    }
    let blocks = bank.blocks();
    assert_eq!(
        bank.usage().used,
        blocks.iter().map(|block| block.size).sum::<u64>()
    );
    let files: BTreeSet<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(
        files.len(),
        1 + blocks.len() + bank.registrations().len(),
        "{files:?}"
    );
}

fn kill_again_and_again(dir: &Path, rounds: u64) {
    let mut floor = Aid(1);
    for round in 0..rounds {
        let mut child = start(dir);
        std::thread::sleep(Duration::from_micros(round * 97 % 5000));
        assert!(
            child.try_wait().unwrap().is_none(),
            "the child works until it is killed"
        );
        child.kill().unwrap();
        child.wait().unwrap();
        check(dir, &mut floor);
    }
}

#[test]
fn h31_a_killed_controllers_bank_opens_whole() {
    if let Some(dir) = std::env::var_os(CHILD) {
        churn(Path::new(&dir));
    }
    let memory = tempfile::tempdir_in("/dev/shm").unwrap();
    kill_again_and_again(memory.path(), ROUNDS);
    let disk = tempfile::tempdir().unwrap();
    kill_again_and_again(disk.path(), ROUNDS / 4);
}

#[test]
fn h11_what_was_freed_last_is_not_given_out_again_by_the_next_controller() {
    let memory = tempfile::tempdir_in("/dev/shm").unwrap();
    let (last, key) = (name(0), DeletionKey::Opaque([3; 32]));
    let mut known: Vec<(u64, u64)> = Vec::new();
    for pages in [64, 65, 65] {
        let (mut bank, _) = Bank::open(&BankOptions {
            size: pages * PAGE,
            ..options(memory.path())
        })
        .unwrap();
        let addr = bank
            .allocate(last, PAGE, key, Owner::Ordinary)
            .unwrap()
            .addr;
        let id = bank.block_id(last).unwrap();
        assert!(known.iter().all(|(other, at)| id > *other && addr > *at));
        known.push((id, addr));
        // An actor that runs on may have it mapped still.
        bank.free(last, Owner::Ordinary).unwrap();
    }
}
