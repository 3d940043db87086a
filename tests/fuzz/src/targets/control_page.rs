//! A control page with any words, and a program that a failure in it names: the input is the length of
//! the page's part, the page from its first byte, and the program's file. There is always a
//! backtrace; it is bounded, in code that is mapped, and one line that moves no cursor.

use std::fs::File;
use std::ops::Range;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::atomic::Ordering;

use hr_ctrl::failure;
use refrain_abi::Serial;
use refrain_abi::control::{MAGIC, PAGE_SIZE, Relay, VERSION};
use refrain_sys::{mapping, memfd};

use super::{number, take};
use crate::Target;

pub const TARGET: Target = Target {
    name: "control_page",
    longest: 12 << 10,
    words: &[
        "\x7fELF",
        ".eh_frame\0",
        ".eh_frame_hdr\0",
        ".symtab\0",
        "_ZN",
        "_RNv",
        "\0\0\x10\0\0\0\0\0",
    ],
    put,
};

/// Where the program is mapped.
const CODE: Range<u64> = 0x10_0000..0x20_0000;
/// The offset of the record's serial in the page.
const SERIAL_AT: usize = 128;

fn put(mut bytes: &[u8], _: &Path) {
    let length = number(&mut bytes, 2) as usize % (PAGE_SIZE + 1);
    let mut page = take(&mut bytes, length).to_vec();
    page.resize(PAGE_SIZE, 0);
    let serial = u32::from_le_bytes([
        page[SERIAL_AT],
        page[SERIAL_AT + 1],
        page[SERIAL_AT + 2],
        page[SERIAL_AT + 3],
    ]);
    // As of a life whose page has another version or none: refused.
    let fd = memfd::from_bytes("page", &page, false).expect("there is memory");
    let _ = mapping::map_control_page(fd.as_fd());
    page[..4].copy_from_slice(&MAGIC.to_le_bytes());
    page[4..8].copy_from_slice(&VERSION.to_le_bytes());
    let fd = memfd::from_bytes("page", &page, false).expect("there is memory");
    let Ok(page) = mapping::map_control_page(fd.as_fd()) else {
        return;
    };
    let relay = Relay::of(page.relay.load(Ordering::Relaxed));
    assert_eq!(Relay::of(relay.word()), relay);
    for serial in [serial, serial.wrapping_add(1), 0, u32::MAX] {
        let serial = Serial(serial);
        let keeper = page.keeper(serial);
        assert!(keeper.is_none_or(|pid| page.is_keeper(pid)));
        let _ = (
            page.aid_of(serial),
            page.is_clean(serial),
            page.has_stopped(serial),
        );
        assert_eq!(
            failure::copy(&page, serial).is_some(),
            page.has_failure_of(serial)
        );
    }
    if let Some(record) = failure::copy(&page, Serial(serial)) {
        explain(&record, bytes);
    }
}

fn explain(record: &failure::Record, program: &[u8]) {
    let file = memfd::from_bytes("crash", program, false).expect("there is memory");
    let objects = hr_ctrl::fuzzing::objects(File::from(file), CODE).expect("a memfd has a number");
    let report = failure::explain(record, &objects);
    assert!((1..=32).contains(&report.backtrace.len()));
    let called = report.backtrace.iter().skip(1);
    assert!(
        called
            .into_iter()
            .all(|frame| (CODE.start..=CODE.end).contains(&frame.address))
    );
    let line = report.to_string();
    assert!(super::is_plain_line(&line) && line.len() < 4096, "{line:?}");
}
