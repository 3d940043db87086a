//! Crashes an operation everywhere, and judges what recovery makes of it.

use std::collections::HashSet;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::ptrace::{image, step};

/// What came of crashing an operation everywhere.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// How many crash points there were: instructions that changed the memory.
    pub points: u64,
    /// How many of them were in a recovery.
    pub in_recovery: u64,
    /// How many instructions were run one by one.
    pub instructions: u64,
    /// What recovery made of a crash, where that is neither the old nor the new state: a few of them.
    pub torn: Vec<String>,
}

impl Report {
    /// Adds another one to it.
    pub fn add(&mut self, other: Self) {
        self.points += other.points;
        self.in_recovery += other.in_recovery;
        self.instructions += other.instructions;
        self.torn.extend(other.torn);
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            points,
            in_recovery,
            instructions,
            torn,
        } = self;
        write!(
            f,
            "{points} crash points ({in_recovery} of them in recovery) in {instructions} instructions, {} torn",
            torn.len()
        )
    }
}

/// How many recoveries of one operation are stepped, evenly spread over those that write: each takes as long as the
/// operation itself.
const RECOVERIES: usize = 3;

/// How many torn states are told.
const TOLD: usize = 8;

/// Runs `operation` on `memory` one instruction at a time. After each that changed the memory, a copy of
/// it in `scratch` is opened by `recover`, and what that says is compared: only the state before the
/// operation and the one after it will do. Where recovery changed more of the copy than it does when nothing
/// has crashed, recovery itself is crashed everywhere, for a few of the images that it begins from.
///
/// Both memories are shared mappings of one size. `memory` is left as the operation leaves it.
///
/// # Errors
/// The kernel's, and an operation that did not end as it should.
///
/// ```
/// use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
/// let memory = refrain_sys::mapping::create_words("memory", 512)?.1;
/// let scratch = refrain_sys::mapping::create_words("scratch", 512)?.1;
/// let read = |words: &[AtomicU64]| [words[0].load(Relaxed), words[1].load(Relaxed)];
/// let one_word = || memory[0].store(1, Relaxed);
/// let report = refrain_step::crash_everywhere(&memory, &scratch, one_word, || read(&scratch))?;
/// assert_eq!((report.points, report.torn.len()), (1, 0));
/// let two_words = || for word in &memory[..2] { word.store(2, Relaxed) };
/// let report = refrain_step::crash_everywhere(&memory, &scratch, two_words, || read(&scratch))?;
/// assert_eq!((report.points, report.torn.len()), (2, 1));
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn crash_everywhere<S: PartialEq + fmt::Debug>(
    memory: &[AtomicU64],
    scratch: &[AtomicU64],
    operation: impl FnOnce(),
    recover: impl Fn() -> S,
) -> io::Result<Report> {
    assert_eq!(memory.len(), scratch.len(), "two memories of one size");
    let mut images = Vec::new();
    let before = image(memory);
    let stepped = step(memory, operation, |now| {
        images.push(now.to_vec());
        true
    })?;
    if stepped.panicked {
        return Err(io::Error::other("the operation panicked"));
    }
    let after = image(memory);
    let open = |image: &[u64]| {
        lay(scratch, image);
        recover()
    };
    // What recovery changes where there is nothing to recover, such as the word of the writer.
    let mut usual = HashSet::new();
    let accepted = [&before, &after].map(|image| {
        let state = open(image);
        usual.extend(differences(scratch, image));
        state
    });
    let mut report = Report {
        points: stepped.points,
        instructions: stepped.instructions,
        ..Report::default()
    };
    let mut met = HashSet::new();
    recover_everywhere(scratch, &after, &recover, &accepted, &mut met, &mut report)?;
    let mut recoveries = Vec::new();
    for (at, crash) in images.iter().enumerate() {
        if !met.insert(hash(crash)) {
            continue;
        }
        let state = open(crash);
        if !accepted.contains(&state) {
            report.tell(format!("after change {at} of {}: {state:?}", images.len()));
            continue;
        }
        if !differences(scratch, crash).all(|at| usual.contains(&at)) {
            recoveries.push(crash);
        }
    }
    let apart = recoveries.len().div_ceil(RECOVERIES).max(1);
    for crash in recoveries.into_iter().step_by(apart) {
        recover_everywhere(scratch, crash, &recover, &accepted, &mut met, &mut report)?;
    }
    Ok(report)
}

/// Crashes the recovery of one image everywhere. What recovery of *its* crashes writes is not stepped again.
fn recover_everywhere<S: PartialEq + fmt::Debug>(
    scratch: &[AtomicU64],
    crash: &[u64],
    recover: &impl Fn() -> S,
    accepted: &[S; 2],
    met: &mut HashSet<u64>,
    report: &mut Report,
) -> io::Result<()> {
    lay(scratch, crash);
    let mut images = Vec::new();
    let stepped = step(
        scratch,
        || drop(recover()),
        |now| {
            images.push(now.to_vec());
            true
        },
    )?;
    if stepped.panicked {
        report.tell("recovery panicked under single-step".into());
    }
    report.points += stepped.points;
    report.in_recovery += stepped.points;
    report.instructions += stepped.instructions;
    for image in images.iter().filter(|image| met.insert(hash(image))) {
        lay(scratch, image);
        let state = recover();
        if !accepted.contains(&state) {
            report.tell(format!("after a crash in recovery: {state:?}"));
        }
    }
    Ok(())
}

impl Report {
    fn tell(&mut self, what: String) {
        if self.torn.len() < TOLD {
            self.torn.push(what);
        }
    }
}

/// The indexes of the words that are not as in `image`.
fn differences<'a>(memory: &'a [AtomicU64], image: &'a [u64]) -> impl Iterator<Item = usize> + 'a {
    let pairs = memory.iter().zip(image).enumerate();
    pairs
        .filter(|(_, (word, value))| word.load(Ordering::Relaxed) != **value)
        .map(|(at, _)| at)
}

fn lay(memory: &[AtomicU64], image: &[u64]) {
    for (word, value) in memory.iter().zip(image) {
        word.store(*value, Ordering::Relaxed);
    }
}

fn hash(image: &[u64]) -> u64 {
    let mut hasher = DefaultHasher::new();
    image.hash(&mut hasher);
    hasher.finish()
}
