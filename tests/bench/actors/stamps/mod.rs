//! A lane as the Rust actors of the benchmark use it: stamps into its file, its two FIFOs.
//!
//! The layout is that of `tests/bench/c/stamp.h`. Written by plain writes to the file on tmpfs, which
//! whoever maps it sees at once. The same command line, too: LANE INDEX TOUCH STORM.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use rustix::time::{ClockId, clock_gettime};

/// Where record 0 begins, in bytes.
const FIRST: u64 = 64;
/// How many records there are, and words in each.
const RECORDS: u64 = 1024;
const WORDS: u64 = 8;
/// The words of a record.
pub const MAIN: u64 = 0;
/// When the life ended by its own doing.
pub const FAULT: u64 = 1;
/// The life's pid.
pub const PID: u64 = 2;

/// CLOCK_MONOTONIC, in nanoseconds.
pub fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
}

/// An open lane.
pub struct Lane {
    dir: PathBuf,
    stamps: File,
    /// How each life of a storm ends.
    storm: Option<u8>,
    /// The record that is written: a storm uses one a life.
    record: u64,
    /// Whether this life ends without being told.
    at_once: bool,
}

impl Lane {
    /// The lane that the command line names.
    pub fn from_args() -> io::Result<Self> {
        let dir = std::env::args_os().nth(1).map(PathBuf::from);
        let dir = dir.ok_or_else(|| io::Error::other("usage: LANE INDEX TOUCH STORM"))?;
        let stamps = both_ways(dir.join("stamps"))?;
        let storm = std::env::args().nth(4);
        let storm = storm.and_then(|word| word.bytes().next());
        Ok(Self {
            dir,
            stamps,
            storm: storm.filter(|how| *how != b'0'),
            record: 0,
            at_once: false,
        })
    }

    /// Writes word number `word` of this life's record.
    pub fn stamp(&self, word: u64, value: u64) -> io::Result<()> {
        let at = FIRST + 8 * (WORDS * self.record + word);
        self.stamps.write_all_at(&value.to_ne_bytes(), at)
    }

    /// Counts this life, and says so where it is the one that is waited for.
    pub fn begin(&mut self, main_ns: u64) -> io::Result<()> {
        if self.storm.is_some() {
            self.record = self.word(0)? % RECORDS;
        }
        self.stamp(MAIN, main_ns)?;
        self.stamp(PID, u64::from(std::process::id()))?;
        let began = self.word(0)? + 1;
        self.stamps.write_all_at(&began.to_ne_bytes(), 0)?;
        self.at_once = self.storm.is_some() && began < self.word(8)?;
        if began == self.word(8)? {
            both_ways(self.dir.join("began"))?.write_all(b"b")?;
        }
        Ok(())
    }

    /// Waits to be told how to end, but in a storm.
    pub fn how(&self) -> io::Result<u8> {
        if let Some(how) = self.storm.filter(|_| self.at_once) {
            return Ok(how);
        }
        let mut how = [0];
        both_ways(self.dir.join("go"))?.read_exact(&mut how)?;
        Ok(how[0])
    }

    fn word(&self, offset: u64) -> io::Result<u64> {
        let mut bytes = [0; 8];
        self.stamps.read_exact_at(&mut bytes, offset)?;
        Ok(u64::from_ne_bytes(bytes))
    }
}

/// A FIFO that is opened both ways does not wait for another end.
fn both_ways(path: PathBuf) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open(path)
}
