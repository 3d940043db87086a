//! What `HR_parent` and `HR_child` share: the song, and the transcript of it in persistent memory.
//!
//! Run: `target/debug/c_init --once samples/restart_spawn/sysadm.ini` in the top folder.
//!
//! # Why no line is lost or doubled
//!
//! The child is killed with its parent at any instruction, also between printing a line and
//! noting that it did. The two cannot be made one, so they are ordered: **print, then commit**.
//! A line may so appear twice on the console, with the same number and text, when a life ended
//! just between; none is ever missing. The other order would lose it.
//!
//! The transcript in the block is exact: a line's bytes are written behind what is committed,
//! where those of a life that is killed half way do not count, and then line count, length and
//! checksum are published together by *one* store of one 64-bit word.
#![forbid(unsafe_code)]

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use anyhow::ensure;
use refrain::{Block, HR_GROUP_KEY, PlaceError, pmm_allocate};

/// What the child says, a line at a time (Robert Burns, 1788).
pub const SONG: [&str; 8] = [
    "Should auld acquaintance be forgot,",
    "And never brought to mind?",
    "Should auld acquaintance be forgot,",
    "And auld lang syne!",
    "For auld lang syne, my dear,",
    "For auld lang syne,",
    "We'll tak a cup o' kindness yet,",
    "For auld lang syne.",
];

/// Offset of the committed word: lines in bits 48..64, bytes in 32..48, checksum in 0..32.
const COMMITTED: usize = 0;
/// Offset of the word that counts the parent's crashes.
const CRASHES: usize = 8;
/// Offset of the text.
const TEXT: usize = 64;

/// The transcript in its block of persistent memory. The child appends, the parent reads.
pub struct Transcript(Block);

impl Transcript {
    /// Maps the block: zero, so empty, in the group's first life; as it was left in every other.
    pub fn open() -> anyhow::Result<Self> {
        Ok(Self(pmm_allocate(
            "restart_spawn.transcript",
            4096,
            HR_GROUP_KEY,
        )?))
    }

    /// How often the parent has crashed: the parent's word.
    pub fn crashes(&self) -> Result<&AtomicU64, PlaceError> {
        self.0.atomic_u64(CRASHES)
    }

    /// How many lines are committed.
    pub fn lines(&self) -> Result<usize, PlaceError> {
        Ok(self.committed()?.0)
    }

    /// Lines, bytes of text, and their checksum.
    fn committed(&self) -> Result<(usize, usize, u32), PlaceError> {
        let word = self.0.atomic_u64(COMMITTED)?.load(SeqCst);
        Ok((
            (word >> 48) as usize,
            (word >> 32) as usize & 0xffff,
            word as u32,
        ))
    }

    /// Adds a line and commits it. Only the child does, and there is one life of it at a time.
    pub fn append(&self, line: &str) -> Result<(), PlaceError> {
        let (lines, bytes, sum) = self.committed()?;
        let text = format!("{line}\n");
        self.0.write(TEXT + bytes, text.as_bytes())?;
        let (lines, bytes) = (lines as u64 + 1, (bytes + text.len()) as u64);
        let sum = checksum(sum, text.as_bytes());
        self.0
            .atomic_u64(COMMITTED)?
            .store(lines << 48 | bytes << 32 | u64::from(sum), SeqCst);
        Ok(())
    }

    /// Checks that the transcript is the song: every line, once, in order.
    pub fn verify(&self) -> anyhow::Result<()> {
        let (_, bytes, sum) = self.committed()?;
        let mut text = vec![0; bytes];
        self.0.read(TEXT, &mut text)?;
        ensure!(
            checksum(0, &text) == sum,
            "the transcript's checksum is wrong"
        );
        let text = String::from_utf8(text)?;
        ensure!(
            text.lines().eq(SONG),
            "the transcript is not the song:\n{text}"
        );
        Ok(())
    }
}

/// FNV-1a over `bytes`, going on from `state`; shifted so that nothing at all has the sum 0.
fn checksum(state: u32, bytes: &[u8]) -> u32 {
    const BASIS: u32 = 0x811c_9dc5;
    let step = |hash: u32, byte: &u8| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
    bytes.iter().fold(state ^ BASIS, step) ^ BASIS
}

/// A line on stdout, which is a pipe to the console: flushed, or a crash would swallow it.
pub fn say(line: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{line}")?;
    stdout.flush()
}
