//! A lane: what one measured actor, or group of them, shares with the benchmark. A directory on tmpfs
//! with the file of stamps and two FIFOs; `tests/bench/c/stamp.h` tells the layout.
//!
//! Called by every part. The benchmark sleeps on the FIFO while a restart is under way, so that
//! it has no part in what is measured. It must never take a stamp for anything but a number.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use refrain_sys::mapping::{BlockMapping, map_block_fixed};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::process::{Pid, Signal, kill_process};
use rustix::time::{ClockId, Timespec, clock_gettime};

use crate::interrupt;

/// How many records a lane has.
pub const RECORDS: u64 = 1024;
const WORDS_BEFORE: usize = 8;
const WORDS_EACH: usize = 8;
const SIZE: usize = 17 * 4096;
/// Where lanes are mapped: a place that the kernel does not choose by itself.
const PLACE: u64 = 0x3000_0000_0000;
/// Longer than any restart takes; only a restart that does not come is that late.
const WATCHDOG: Duration = Duration::from_secs(60);

/// How a life is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// A load from null (Python through ctypes, Rust by the signal).
    Segv,
    /// `_exit(1)`, or a panic.
    Exit,
    /// SIGKILL: from the benchmark, in a storm from the life itself.
    Kill,
}

/// The benchmark's side of a lane.
pub struct Lane {
    dir: PathBuf,
    stamps: BlockMapping,
    began: File,
    go: File,
    members: u64,
    wanted: u64,
    watchdog: Duration,
}

/// CLOCK_MONOTONIC in nanoseconds, as the actors stamp it.
pub fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
}

fn both_ways(path: &Path) -> Result<File> {
    let opened = OpenOptions::new().read(true).write(true).open(path);
    opened.with_context(|| format!("cannot open {}", path.display()))
}

impl Lane {
    /// A lane `name` below `parent` for `members` lives at a time.
    ///
    /// # Errors
    /// When the files cannot be made.
    pub fn new(parent: &Path, name: &str, members: u64) -> Result<Self> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        ensure!(members <= RECORDS, "a lane has {RECORDS} records");
        let dir = parent.join(format!("{name}-{number}"));
        fs::create_dir(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let file = File::create_new(dir.join("stamps"))?;
        file.set_len(SIZE as u64)?;
        for fifo in ["began", "go"] {
            mknodat(CWD, dir.join(fifo), FileType::Fifo, Mode::RWXU, 0)?;
        }
        let file = both_ways(&dir.join("stamps"))?;
        let place = PLACE + number * (1 << 20);
        Ok(Self {
            stamps: map_block_fixed(file.as_fd(), place, SIZE)?,
            began: both_ways(&dir.join("began"))?,
            go: both_ways(&dir.join("go"))?,
            dir,
            members,
            wanted: 0,
            watchdog: WATCHDOG,
        })
    }

    /// The lane's directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The words LANE INDEX TOUCH STORM for an actor's command line; in a storm each life ends by
    /// itself as soon as it began.
    pub fn words(&self, index: u64, touch: u64, storm: Option<End>) -> Vec<String> {
        let dir = self.dir.display().to_string();
        let storm = match storm {
            None => "0",
            Some(End::Segv) => "s",
            Some(End::Exit) => "e",
            Some(End::Kill) => "k",
        };
        let storm = storm.to_owned();
        vec![dir, index.to_string(), touch.to_string(), storm]
    }

    /// Waits for longer than any restart of ours takes.
    pub fn patient(&mut self, watchdog: Duration) {
        self.watchdog = watchdog;
    }

    /// Word `word` of record `record`.
    pub fn word(&self, record: u64, word: usize) -> u64 {
        let at = WORDS_BEFORE + usize::try_from(record).unwrap_or(0) * WORDS_EACH + word;
        self.stamps.words()[at].load(Ordering::SeqCst)
    }

    /// Announces that `lives` more are to be waited for: before they are started or ended.
    pub fn expect(&mut self, lives: u64) {
        self.wanted += lives;
        self.stamps.words()[1].store(self.wanted, Ordering::SeqCst);
    }

    /// How many lives were announced so far.
    pub fn wanted(&self) -> u64 {
        self.wanted
    }

    /// Sleeps until all lives that were announced have begun.
    ///
    /// # Errors
    /// When they do not.
    pub fn wait(&self) -> Result<()> {
        let begun = Instant::now();
        let slice = Timespec {
            tv_sec: 0,
            tv_nsec: i64::from(interrupt::SLICE.subsec_nanos()),
        };
        loop {
            interrupt::check()?;
            let mut fds = [PollFd::new(&self.began, PollFlags::IN)];
            match poll(&mut fds, Some(&slice)) {
                Ok(1..) => break,
                Ok(0) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            if begun.elapsed() > self.watchdog {
                let began = self.stamps.words()[0].load(Ordering::SeqCst);
                let (dir, wanted) = (self.dir.display(), self.wanted);
                bail!("{dir}: {began} lives of {wanted} have begun, the others do not come");
            }
        }
        (&self.began).read_exact(&mut [0])?;
        Ok(())
    }

    /// Starts the first lives with `start` and waits for them.
    ///
    /// # Errors
    /// What `start` says, or when they do not come.
    pub fn start<T>(&mut self, start: impl FnOnce(&Self) -> Result<T>) -> Result<T> {
        self.expect(self.members);
        let started = start(self)?;
        self.wait()?;
        Ok(started)
    }

    /// When the last of the first `members` lives began, as CLOCK_MONOTONIC in nanoseconds.
    pub fn last_main(&self) -> u64 {
        let mains = (0..self.members).map(|member| self.word(member, 0));
        mains.max().unwrap_or(0)
    }

    /// Ends life 0 as `how` says; answers the moment of a kill.
    ///
    /// # Errors
    /// When it cannot be told or killed.
    pub fn end(&self, how: End) -> Result<Option<u64>> {
        match how {
            End::Segv => (&self.go).write_all(b"s")?,
            End::Exit => (&self.go).write_all(b"e")?,
            End::Kill => {
                let pid = i32::try_from(self.word(0, 2)).ok().and_then(Pid::from_raw);
                let pid = pid.context("the life has stamped no pid")?;
                let moment = now();
                kill_process(pid, Signal::KILL)?;
                return Ok(Some(moment));
            }
        }
        Ok(None)
    }

    /// One restart: from the end of life 0 to the first line of the last member's next `main`, in
    /// microseconds.
    ///
    /// # Errors
    /// When it does not come.
    pub fn restart(&mut self, how: End) -> Result<f64> {
        self.expect(self.members);
        let killed = self.end(how)?;
        self.wait()?;
        let ended = killed.unwrap_or_else(|| self.word(0, 1));
        Ok(micros(ended, self.last_main()))
    }
}

/// From one stamp to a later one, in microseconds.
#[allow(clippy::cast_precision_loss)] // far less than 2^52 nanoseconds
pub fn micros(from: u64, to: u64) -> f64 {
    to.saturating_sub(from) as f64 / 1000.0
}
