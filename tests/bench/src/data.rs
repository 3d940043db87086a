//! `data`: what it costs that a `Map` in persistent memory is never torn, against the standard library's hash map
//! with a fast hasher, and how long it takes to open one again. Both in this program, in turn, without a site.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::hint::black_box;
use std::time::Instant;

use anyhow::Result;
use refrain::data::memory::Scratch;
use refrain::{Map, Plain};

use crate::heat::Stage;
use crate::interrupt;
use crate::progress::Progress;
use crate::report::Report;

/// The part's name.
pub const PART: &str = "data";
/// Operations that are timed together; a sample is their mean.
const AT_ONCE: u64 = 1000;
/// Samples of an operation on a map that is filled.
const SAMPLES: u64 = 500;
/// Blocks that a map may have, beside its root, and what a slot takes beside its value at most, in bytes.
const BLOCKS: usize = 3;
const OVERHEAD: usize = 64;

/// A fast hash, of no use against hostile keys.
#[derive(Default)]
struct Fast(u64);

impl Hasher for Fast {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes
            .iter()
            .for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word)
            .wrapping_mul(0x517c_c1b7_2722_0a95)
            .rotate_left(32);
    }
}

type Plainest<V> = HashMap<u64, V, BuildHasherDefault<Fast>>;

/// Keys in an order that no cache can guess: each number below a power of two, once.
fn scattered(number: u64, count: u64) -> u64 {
    number.wrapping_mul(0x9e37_79b9_7f4a_7c15) % count.next_power_of_two()
}

/// Times `operation` for the numbers of each sample, in microseconds for one.
fn time(samples: u64, mut operation: impl FnMut(u64) -> Result<()>) -> Result<Vec<f64>> {
    let sample = |sample: u64| {
        let begun = Instant::now();
        for number in sample * AT_ONCE..(sample + 1) * AT_ONCE {
            operation(number)?;
        }
        Ok(begun.elapsed().as_secs_f64() * 1e6 / AT_ONCE as f64)
    };
    (0..samples).map(sample).collect()
}

/// The part.
///
/// # Errors
/// When there is no memory.
pub fn run(stage: &Stage, report: &mut Report) -> Result<()> {
    let many = stage.pick((1 << 20, "1 M"), (1 << 17, "131 k"));
    for (count, entries) in [(1 << 10, "1 k"), many] {
        let _progress = Progress::new(&format!("{PART}, {entries} entries"), 1);
        compare::<[u8; 64]>(report, count, &format!("64 bytes, {entries}"))?;
        compare::<[u8; 1024]>(report, count, &format!("1 KiB, {entries}"))?;
    }
    Ok(())
}

fn compare<V: Plain + Copy + AsMut<[u8]>>(
    report: &mut Report,
    count: u64,
    size: &str,
) -> Result<()> {
    interrupt::check()?;
    let value = V::new_zeroed();
    let slots = usize::try_from(2 * count)?;
    let blocks = Scratch::with_blocks(BLOCKS, slots * (size_of::<V>() + OVERHEAD))?;
    let mut ours = Map::<u64, V>::open(blocks.clone(), usize::try_from(count)? + 1)?;
    let mut plain = Plainest::<V>::with_capacity_and_hasher(slots, BuildHasherDefault::default());
    let mut both = |what: &str, limit: Vec<f64>, samples: Vec<f64>| {
        let limit_name = format!("limit: HashMap, {what}, {size}");
        report.row(PART, &limit_name, None, limit);
        report.row(
            PART,
            &format!("ours: Map, {what}, {size}"),
            Some(&limit_name),
            samples,
        );
    };
    let key = |number| scattered(number, count);

    let fills = count / AT_ONCE;
    let limit = time(fills, |number| {
        plain.insert(key(number), value);
        Ok(())
    })?;
    both(
        "put",
        limit,
        time(fills, |number| {
            ours.insert(&key(number), &value)
                .map(drop)
                .map_err(Into::into)
        })?,
    );

    let limit = time(SAMPLES, |number| {
        black_box(plain.get(&key(number)));
        Ok(())
    })?;
    let samples = time(SAMPLES, |number| {
        black_box(ours.get(&key(number)));
        Ok(())
    })?;
    both("get", limit, samples);

    let limit = time(SAMPLES, |number| {
        if let Some(value) = plain.get_mut(&key(number)) {
            value.as_mut()[0] = number as u8;
        }
        Ok(())
    })?;
    let samples = time(SAMPLES, |number| {
        ours.update(&key(number), |value| value.as_mut()[0] = number as u8)?;
        Ok(())
    })?;
    both("update", limit, samples);

    drop(ours);
    let mut opened = Vec::new();
    for _ in 0..SAMPLES / 10 {
        let blocks = blocks.next_life();
        let begun = Instant::now();
        let again = Map::<u64, V>::open(blocks, 0)?;
        black_box(again.get(&key(1)));
        opened.push(begun.elapsed().as_secs_f64() * 1e6);
    }
    report.row(
        PART,
        &format!("ours: Map, open and first get, {size}"),
        None,
        opened,
    );
    Ok(())
}
