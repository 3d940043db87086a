//! Everybody's operations in turn, so that what else the machine does meets all of them. Called by the part for
//! those who are loaded at the same time. It must never count the first operations of a turn: they find the caches as
//! the one before has left them.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::subject::{Op, Subject, fresh, loaded};
use crate::interrupt;
use crate::progress::Progress;

/// Operations that are timed together; a sample is their mean.
pub const BATCH: u64 = 100;
/// Batches of a turn that do not count, and those that do.
const WARM: u64 = 5;
const COUNTED: u64 = 5;
/// From a key to the next one that is used: far away, and without a factor in common with a power of ten, so that
/// all have their turn.
const STRIDE: u64 = 618_033;
/// One that has taken this long has no more turns, unless it has had too few.
const PATIENCE: Duration = Duration::from_secs(6);
const FEWEST: u64 = 4;
/// Keys that are loaded at once.
const AT_ONCE: u64 = 10_000;

/// One of them, with what was measured.
pub struct Contender<Who> {
    /// Which.
    pub who: Who,
    /// It itself.
    pub subject: Box<dyn Subject>,
    /// For each of [`Op::ALL`], microseconds for one operation.
    pub samples: [Vec<f64>; Op::ALL.len()],
    /// How many keys were used so far.
    used: u64,
    /// How long all of its turns took.
    spent: Duration,
}

impl<Who> Contender<Who> {
    /// One that has not run yet.
    pub fn new(who: Who, subject: Box<dyn Subject>) -> Self {
        Self {
            who,
            subject,
            samples: Default::default(),
            used: 0,
            spent: Duration::ZERO,
        }
    }

    /// The next keys out of `count`, each another.
    fn keys(&mut self, count: u64, key: fn(u64) -> u64) -> Vec<u64> {
        let numbers = self.used..self.used + BATCH;
        self.used += BATCH;
        numbers.map(|number| key(number * STRIDE % count)).collect()
    }

    /// One turn.
    fn turn(&mut self, count: u64) -> Result<()> {
        for (at, op) in Op::ALL.into_iter().enumerate() {
            for batch in 0..WARM + COUNTED {
                if !self.subject.can(op) {
                    continue;
                }
                let keys = self.keys(count, if op == Op::Put { fresh } else { loaded });
                let begun = Instant::now();
                match op {
                    Op::Put => self.subject.put(&keys)?,
                    Op::Get => self.subject.get(&keys)?,
                    Op::Update => self.subject.update(&keys)?,
                }
                let each = begun.elapsed().as_secs_f64() * 1e6 / BATCH as f64;
                if op == Op::Put {
                    self.subject.unload(&keys)?;
                }
                if batch >= WARM {
                    self.samples[at].push(each);
                }
            }
        }
        Ok(())
    }
}

/// Puts in the keys `0..count` of those that are loaded.
///
/// # Errors
/// The subject's own, or an interrupt.
pub fn fill(subject: &mut dyn Subject, count: u64) -> Result<()> {
    for first in (0..count).step_by(AT_ONCE as usize) {
        interrupt::check()?;
        let last = count.min(first + AT_ONCE);
        subject.load(&(first..last).map(loaded).collect::<Vec<_>>())?;
    }
    subject.settle()
}

/// Measures all of them, which are filled.
///
/// # Errors
/// A subject's own, or an interrupt.
pub fn measure<Who>(
    all: &mut [Contender<Who>],
    count: u64,
    rounds: u64,
    label: &str,
) -> Result<()> {
    let progress = Progress::new(label, rounds);
    for round in 0..rounds {
        for contender in &mut *all {
            interrupt::check()?;
            if round < FEWEST || contender.spent < PATIENCE {
                let begun = Instant::now();
                contender.turn(count)?;
                contender.spent += begun.elapsed();
            }
        }
        progress.step();
    }
    Ok(())
}
