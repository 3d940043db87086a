//! `heap`: what a transaction costs on a heap of some size that changes so many of its pages, beside bare ways
//! to keep what was there (`tests/bench/c/heap_ways.c`), and what opening a heap costs.

use std::num::NonZeroU64;
use std::os::fd::{AsFd, OwnedFd};
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result};
use refrain_data::blocks::{BlocksError, ROOT};
use refrain_data::heap::{Heap, HeapMap, HeapVec};
use refrain_data::memory::Scratch;
use refrain_data::{Blocks, Region};
use refrain_sys::mapping::{BlockMapping, create_words, map_block_fixed};

use crate::heat::Stage;
use crate::interrupt;
use crate::progress::Progress;
use crate::report::{Kind, Report};

/// The part's name.
pub const PART: &str = "heap";
/// Name and size of the values in MiB.
const SIZES: [(&str, usize); 3] = [("1 MiB", 1), ("64 MiB", 64), ("1 GiB", 1024)];
/// How many pages are changed.
const PAGES: [usize; 3] = [1, 10, 1000];
/// The bare ways and what they are.
const WAYS: [(&str, &str); 3] = [
    ("undo", "saved in the handler"),
    ("noted", "noted in the handler, private copies"),
    ("scan", "PAGEMAP_SCAN, private copies"),
];
/// Words in a page.
const WORDS: usize = 512;
/// Where the memory is mapped, as a block is: far from whatever the kernel chooses by itself.
const ADDRESS: u64 = 0x2000_0000_0000;

/// Memory that outlives its mapping, as the bank's does.
struct Memory {
    fd: OwnedFd,
    len: usize,
}

/// One mapping of it: the first page is the root, the rest the heap.
struct Mapped(Arc<BlockMapping>);

impl Memory {
    fn new(body: usize) -> Result<Self> {
        let len = ROOT + body;
        let fd = create_words("refrain-bench", len / 8)?.0;
        Ok(Self { fd, len })
    }

    fn map(&self) -> Result<Mapped> {
        let mapping = map_block_fixed(self.fd.as_fd(), ADDRESS, self.len)?;
        Ok(Mapped(Arc::new(mapping)))
    }
}

impl Blocks for Mapped {
    fn block(&mut self, number: u32, bytes: usize) -> Result<Region, BlocksError> {
        let offset = if number == 0 { 0 } else { ROOT };
        let all = Region::new(Arc::clone(&self.0)).ok_or("a mapping begins at a page")?;
        Ok(all.part(offset, bytes).ok_or("the heap has one block")?)
    }

    fn free(&mut self, _number: u32) -> Result<(), BlocksError> {
        Ok(())
    }

    fn writer(&self) -> Result<NonZeroU64, BlocksError> {
        Ok(NonZeroU64::MIN)
    }

    fn is_alive(&self, _writer: NonZeroU64) -> Result<bool, BlocksError> {
        Ok(false)
    }
}

/// The part.
///
/// # Errors
/// When a way does not run, or the memory does not suffice.
pub fn run(stage: &Stage, report: &mut Report) -> Result<()> {
    for (size, mib) in SIZES {
        let memory = Memory::new(bytes(mib))?;
        let mut heap = Heap::<HeapVec<u64>>::open(memory.map()?, bytes(mib))?;
        heap.update(|root| root.resize((mib << 20) / 8, 1))?;
        // Half of the smallest one, so that neighbours do not come together.
        for pages in PAGES.map(|pages| pages.min((mib << 20) / 4096 / 2)) {
            let many = if pages > 100 { 10 } else { 1 };
            let rounds = stage.pick(400, 40) as usize / many;
            let progress = Progress::new(&format!("{PART}, {size}, {pages} pages"), 4);
            let ours = format!("ours: {pages} pages of {size}");
            for (way, what) in WAYS {
                let name = format!("limit: {pages} pages of {size}, {what}");
                let samples = bare(stage, way, mib, pages, rounds);
                interrupt::check()?;
                match samples {
                    Ok(samples) => report.row(PART, &name, None, samples),
                    Err(error) => report.fact(PART, &name, format!("failed: {error:#}")),
                }
                progress.step();
            }
            let limit = format!("limit: {pages} pages of {size}, {}", WAYS[0].1);
            report.row(
                PART,
                &ours,
                Some(&limit),
                transactions(&mut heap, pages, rounds)?,
            );
            let scan = format!("limit: {pages} pages of {size}, {}", WAYS[2].1);
            let what = format!("{pages} pages of {size}, ours against a scan");
            report.compare(PART, &what, (&ours, &scan), Kind::Ratio);
        }
        drop(heap);
        let opened = opened(&memory, bytes(mib), stage.pick(200, 20) as usize)?;
        report.row(PART, &format!("ours: open a heap of {size}"), None, opened);
    }
    let rounds = stage.pick(20_000, 2_000) as usize;
    report.row(
        PART,
        "ours: insert 64 bytes into a map",
        None,
        inserts(rounds)?,
    );
    Ok(())
}

/// The size of a block whose heap has room for `mib` MiB in one piece.
fn bytes(mib: usize) -> usize {
    (2 * mib + mib / 32 + 2) << 20
}

fn micros(begun: Instant) -> f64 {
    begun.elapsed().as_secs_f64() * 1e6
}

fn bare(stage: &Stage, way: &str, mib: usize, pages: usize, rounds: usize) -> Result<Vec<f64>> {
    let mut command = Command::new(&stage.programs.heap_ways);
    command.arg(way);
    command.args([mib, pages, rounds].map(|number| number.to_string()));
    let output = command.output().context("cannot run heap_ways")?;
    anyhow::ensure!(output.status.success(), "{}", output.status);
    let text = String::from_utf8(output.stdout)?;
    Ok(text.lines().map(str::parse).collect::<Result<_, _>>()?)
}

fn transactions(heap: &mut Heap<HeapVec<u64>>, pages: usize, rounds: usize) -> Result<Vec<f64>> {
    let step = heap.root().len() / WORDS / pages;
    let mut samples = Vec::with_capacity(rounds);
    for _ in 0..rounds {
        let begun = Instant::now();
        heap.update(|root| {
            for page in 0..pages {
                root[page * step * WORDS] += 1;
            }
        })?;
        samples.push(micros(begun));
    }
    Ok(samples)
}

/// In memory that was mapped just now, as in a new life.
fn opened(memory: &Memory, bytes: usize, rounds: usize) -> Result<Vec<f64>> {
    let mut samples = Vec::with_capacity(rounds);
    for _ in 0..rounds {
        let mapped = memory.map()?;
        let begun = Instant::now();
        let heap = Heap::<HeapVec<u64>>::open(mapped, bytes)?;
        samples.push(micros(begun));
        drop(heap);
    }
    Ok(samples)
}

/// Each in a transaction of its own, into a map that has room.
fn inserts(rounds: usize) -> Result<Vec<f64>> {
    let size = 64 << 20;
    let mut heap = Heap::<HeapMap<u64, [u8; 64]>>::open(Scratch::with_blocks(1, size)?, size)?;
    heap.update(|root| root.reserve(rounds))?;
    let mut samples = Vec::with_capacity(rounds);
    for key in 0..rounds as u64 {
        let begun = Instant::now();
        heap.update(|root| root.insert(key, [7; 64]))?;
        samples.push(micros(begun));
    }
    Ok(samples)
}
