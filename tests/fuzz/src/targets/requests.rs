//! Requests of lives of several groups, one after another, as PMM gives them to the bank: it never holds
//! more than it was made for, and what it holds at the end is there when it is opened again.

use std::fs;
use std::path::Path;

use refrain_abi::Gid;
use refrain_abi::request::Request;
use refrain_pmm::{Bank, BankOptions, Opened, Owner, PmmError, Survey};

use super::{number, take};
use crate::Target;

pub const TARGET: Target = Target {
    name: "requests",
    longest: 2048,
    words: &["counter", "\x03\0\0\0", "\0\x10\0\0\0\0\0\0"],
    put,
};

/// Pages are of 4 KiB, and the bank is small: to be full is one of the cases.
const SIZE: u64 = 16 << 12;

fn options(scratch: &Path) -> BankOptions {
    BankOptions {
        dir: scratch.join("bank"),
        size: SIZE,
        max_blocks: 6,
        max_actors: 2,
        max_groups: 2,
        window_base: 1 << 44,
        window_size: 1 << 30,
    }
}

fn put(mut bytes: &[u8], scratch: &Path) {
    let options = options(scratch);
    // What an input that was given up has left.
    let _ = fs::remove_dir_all(&options.dir);
    let (mut bank, opened) = Bank::open(&options).expect("an empty bank can be made");
    assert_eq!(opened, Opened::Created);
    while !bytes.is_empty() {
        let who = number(&mut bytes, 1);
        let length = number(&mut bytes, 1) as usize;
        let frame = take(&mut bytes, length);
        let owner = match who % 5 {
            0 => Owner::Ordinary,
            gid => Owner::Group(Gid(gid as u32)),
        };
        if who == 0xff {
            let ended = bank.terminate_group(Gid(1));
            ended.expect("a group can always be terminated");
        }
        let Ok((_, request)) = Request::decode(frame) else {
            continue;
        };
        if let Err(why) = carry_out(&mut bank, request, owner) {
            let line = why.to_string();
            assert!(super::is_plain_line(&line), "{line:?}");
        }
        assert!(bank.usage().used <= SIZE);
    }
    let before = bank.blocks();
    drop(bank);
    let survey = Survey::of(&options.dir).expect("the bank can be surveyed");
    assert!(survey.damage.is_empty(), "{:?}", survey.damage);
    let (bank, opened) = Bank::open(&options).expect("the bank opens again");
    assert_eq!(opened, Opened::Recovered);
    assert_eq!(bank.blocks(), before);
    bank.discard().expect("the bank can be discarded");
}

fn carry_out(bank: &mut Bank, request: Request, owner: Owner) -> Result<(), PmmError> {
    match request {
        Request::PmmAllocate { name, size, key } => {
            let block = bank.allocate(name, size, key, owner)?;
            let length = rustix::fs::fstat(&block.fd).map(|stat| stat.st_size.unsigned_abs());
            assert!(block.size >= size && length.is_ok_and(|length| length == block.size));
        }
        Request::PmmFree { name } => bank.free(name, owner)?,
        Request::PmmFreeAll { key } => drop(bank.free_all(key, owner)?),
        Request::PmmGrant { name, gid } => bank.grant(name, gid, owner)?,
        _ => {}
    }
    Ok(())
}
