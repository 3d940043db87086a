//! Measures what persistent memory costs a life that begins: `pmm_allocate` of three blocks that
//! the life before left, or of new ones, and the bare mapping of files of the same sizes.
//!
//! usage: LANE INDEX TOUCH STORM keep|fresh. Record 0's words 3 on get the durations in nanoseconds:
//! attach, a block of each size; record 1's words 0 on those of the bare mapping of each size.

mod stamps;

use std::fs::OpenOptions;
use std::os::fd::AsFd;

use refrain::{HR_GROUP_KEY, attach, pmm_allocate, pmm_free};
use refrain_sys::mapping::map_block_fixed;
use stamps::{FAULT, Lane, now};

/// The sizes in bytes, known to `tests/bench/src/pmm.rs`, too.
const SIZES: [u64; 3] = [4 << 10, 1 << 20, 1 << 30];
/// Where the bare mappings go: a place that neither the kernel nor a bank chooses.
const PLACE: u64 = 0x3100_0000_0000;
/// Words in a record.
const RECORD: u64 = 8;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let main_ns = now();
    let mut lane = Lane::from_args()?;
    let fresh = std::env::args().nth(5).as_deref() == Some("fresh");
    let dir = std::env::args().nth(1).unwrap_or_default();

    let before = now();
    attach()?;
    lane.stamp(3, now() - before)?;
    for (word, size) in (0..).zip(SIZES) {
        let name = format!("bench.{size}");
        if fresh {
            // There is none in the first life.
            let _ = pmm_free(&name);
        }
        let before = now();
        let block = pmm_allocate(&name, size, HR_GROUP_KEY)?;
        block
            .atomic_u64(0)?
            .load(std::sync::atomic::Ordering::Relaxed);
        lane.stamp(4 + word, now() - before)?;

        let path = format!("{dir}/bare.{size}");
        let options = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .clone();
        options.open(&path)?.set_len(size)?;
        let before = now();
        let file = options.open(&path)?;
        let place = PLACE + word * (4 << 30);
        let mapping = map_block_fixed(file.as_fd(), place, usize::try_from(size)?)?;
        mapping.words()[0].load(std::sync::atomic::Ordering::Relaxed);
        lane.stamp(RECORD + word, now() - before)?;
    }
    lane.begin(main_ns)?;
    lane.how()?;
    lane.stamp(FAULT, now())?;
    std::process::exit(1)
}
