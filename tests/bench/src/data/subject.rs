//! What is measured, as the part sees it: something with numbers as keys and values of one size. Implemented by the
//! plain hash map, by our types and by every peer; driven by `turns.rs` and by `crash.rs`. An implementation must
//! never gather operations: each key is one of its own, as a user would see it.

use anyhow::{Result, ensure};

/// Where in a value an update writes; what is before is the key.
const STAMP: usize = 8;

/// What is timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// A value for a key that is not there.
    Put,
    /// The value of a key that is there: its first word is read, and has to be right.
    Get,
    /// A word of a value that is there is changed.
    Update,
}

impl Op {
    /// All of them, in the order in which they take place.
    pub const ALL: [Self; 3] = [Self::Get, Self::Update, Self::Put];

    /// As a word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Put => "put",
            Self::Get => "get",
            Self::Update => "update",
        }
    }
}

/// Something that keeps values by key.
pub trait Subject {
    /// Whether it has this operation.
    fn can(&self, _op: Op) -> bool {
        true
    }

    /// Puts many at once, however it is quickest. Not timed.
    ///
    /// # Errors
    /// Its own.
    fn load(&mut self, keys: &[u64]) -> Result<()>;

    /// Takes out what was put, however it is quickest. Not timed.
    ///
    /// # Errors
    /// Its own.
    fn unload(&mut self, keys: &[u64]) -> Result<()>;

    /// Sees to it that a crash of the process loses nothing of what was loaded, and that nothing goes on behind
    /// the scenes. Not timed.
    ///
    /// # Errors
    /// Its own.
    fn settle(&mut self) -> Result<()> {
        Ok(())
    }

    /// [`Op::Put`] for each key.
    ///
    /// # Errors
    /// Its own.
    fn put(&mut self, keys: &[u64]) -> Result<()>;

    /// [`Op::Get`] for each key.
    ///
    /// # Errors
    /// Its own; a value that is not there or is another key's.
    fn get(&mut self, keys: &[u64]) -> Result<()>;

    /// [`Op::Update`] for each key.
    ///
    /// # Errors
    /// Its own; a value that is not there.
    fn update(&mut self, keys: &[u64]) -> Result<()>;
}

/// The value that a key gets.
#[inline]
pub fn value<const N: usize>(key: u64) -> [u8; N] {
    let mut value = [7; N];
    value[..STAMP].copy_from_slice(&key.to_le_bytes());
    value
}

/// What an update does to a value.
#[inline]
pub fn stamp(value: &mut [u8], key: u64) {
    value[STAMP..2 * STAMP].copy_from_slice(&(!key).to_le_bytes());
}

/// The same for one who writes the place only.
pub fn stamped(key: u64) -> (usize, [u8; 8]) {
    (STAMP, (!key).to_le_bytes())
}

/// Whether it is the value of this key.
///
/// # Errors
/// When it is not.
#[inline]
pub fn check(key: u64, value: Option<&[u8]>) -> Result<()> {
    let found = value.and_then(|value| value.first_chunk());
    ensure!(
        found == Some(&key.to_le_bytes()),
        "the value of key {key} is not right"
    );
    Ok(())
}

/// Key `number` of those that are loaded.
pub fn loaded(number: u64) -> u64 {
    2 * number
}

/// Key `number` of those that are not: each lies between two that are.
pub fn fresh(number: u64) -> u64 {
    2 * number + 1
}
