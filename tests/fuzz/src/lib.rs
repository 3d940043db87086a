//! Fuzz targets: whatever in Refrain reads bytes that somebody else wrote.
//!
//! A target takes any bytes and either returns or panics, and what it returns after was right. Three call
//! them: libFuzzer (`engine.rs`), the tests, which replay the corpora and every input that was once a
//! finding, and `refrain-fuzz --replay FILE`. They must never touch anything outside of the
//! directory that they are given, start a program, or depend on a clock.
//!
//! | target | who writes such bytes | what reads them |
//! | --- | --- | --- |
//! | `frames` | lives, templates | every frame's decoder |
//! | `requests` | lives | the bank, request by request |
//! | `exec_blob` | lives | what `hrfexec` passes |
//! | `control_page` | lives | the control page's words, the failure record, the program it names |
//! | `catalogue` | a crash, a disk, a hand | opening, surveying and repairing a bank |
//! | `elf` | whoever brings a program | images: ELF files and `#!` lines |
//! | `command_line` | whoever types | words and flags of every command |
//! | `sysadm_ini` | the administrator | a whole file of commands, with `source` |
//! | `config` | the administrator | the configuration in RON |
//! | `session` | clients of the site's socket | the JSON lines of a session |

pub mod targets;

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// Names the target that the engine runs.
pub const TARGET_VAR: &str = "REFRAIN_FUZZ_TARGET";
/// Names the directory that targets may write into.
pub const SCRATCH_VAR: &str = "REFRAIN_FUZZ_SCRATCH";

/// A target with the place where it works.
pub struct Bench {
    target: &'static Target,
    scratch: PathBuf,
}

/// Takes bytes; panics at a finding. The directory is its own.
pub type Put = fn(&[u8], &Path);

/// A fuzz target.
#[derive(Debug)]
pub struct Target {
    /// Its name, which is that of its corpus.
    pub name: &'static str,
    /// The longest input that makes sense, in bytes.
    pub longest: usize,
    /// Words that inputs are made of; libFuzzer puts them together.
    pub words: &'static [&'static str],
    /// The target.
    pub put: Put,
}

impl Bench {
    /// A target in a directory of its own.
    #[must_use]
    pub fn new(target: &'static Target, scratch: PathBuf) -> Self {
        Self { target, scratch }
    }

    /// The one that the environment names.
    ///
    /// # Panics
    /// When it names none.
    pub fn from_environment() -> &'static Self {
        static BENCH: OnceLock<Bench> = OnceLock::new();
        BENCH.get_or_init(|| {
            let name = std::env::var(TARGET_VAR).unwrap_or_default();
            let target = targets::find(&name).expect("refrain-fuzz names a target");
            let scratch = std::env::var_os(SCRATCH_VAR).expect("refrain-fuzz names a directory");
            Self::new(target, PathBuf::from(scratch))
        })
    }

    /// Gives the target an input.
    pub fn put(&self, bytes: &[u8]) {
        (self.target.put)(bytes, &self.scratch);
    }
}

/// What the engine does before its first input: a relative path leads nowhere but into the directory.
///
/// # Panics
/// When there is no such directory.
pub fn prepare() {
    let bench = Bench::from_environment();
    std::env::set_current_dir(&bench.scratch).expect("the directory is there");
}

/// Where the corpora, findings and crates of this package are.
#[must_use]
pub fn home() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The corpus of a target.
#[must_use]
pub fn corpus(target: &Target) -> PathBuf {
    home().join("corpus").join(target.name)
}
