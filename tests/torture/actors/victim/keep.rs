//! What a life keeps in persistent memory: a block of its own whose state is changed by a commit, and a
//! word of its group's block. Checked when a life begins, against what the lives before have put into
//! the record *after* each commit.
//!
//! The block: word 0 is the number of the present state; state N lies at [`place`] of N, as its number,
//! its content (a function of number and position), and their sum. A change writes the next state where
//! the present one is not, then stores its number. So whatever a life is killed at, word 0 names a whole
//! state.

use std::io::Write;
use std::path::Path;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use refrain::{
    AttachError, Block, DeletionKey, ErrorCode, Exec, ExecError, HR_GROUP_KEY, HrError, PmmError,
    RequestError, pmm_allocate, pmm_free_all,
};
use refrain_torture::record::{Slot, Word, Wrong};
use rustix::process::{Signal, getpid, kill_process};

/// The size of a block, in bytes.
const SIZE: u64 = 4096;
/// Words of a state: its number, the content, the sum.
const STATE: usize = 200;
/// Between two tries of a request that was answered "again".
const PAUSE: Duration = Duration::from_millis(3);
/// How many tries: a minute of them.
const TRIES: u32 = 20_000;
/// Between two questions of a life that asks all the time.
const ASKING: Duration = Duration::from_millis(20);
/// Longer than a life that is being stopped runs on.
const STOPPING: Duration = Duration::from_secs(5);
/// How much is taken at a time to fill the bank, in bytes.
const FILL: u64 = 1 << 20;

/// The first word of state `number`.
fn place(number: u64) -> usize {
    8 + usize::from(!number.is_multiple_of(2)) * STATE
}

/// The content of state `number` at position `at`.
fn content(number: u64, at: usize) -> u64 {
    (number ^ 0x5bd1_e995)
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .rotate_left(at as u32)
        ^ at as u64
}

/// The blocks of a life.
pub struct Keep {
    own: Block,
    turn: Mutex<()>,
}

impl Keep {
    /// Finds the blocks as they were left, or makes them.
    pub fn open(name: &str, group: &str, slot: Slot<'_>) -> Self {
        let own = allocate(slot, &format!("own.{name}"));
        let keep = Self {
            own,
            turn: Mutex::new(()),
        };
        keep.check(slot);
        let (index, group) = group.split_once(':').expect("INDEX:GROUP");
        let index: usize = index.parse().expect("an index");
        let shared = allocate(slot, &format!("group.{group}"));
        let now = shared.words()[index].fetch_add(1, SeqCst) + 1;
        if now <= slot.get(Word::Shared) {
            slot.wrong(Wrong::SharedGoneBack, now);
        }
        slot.set(Word::Shared, now);
        keep.change(slot);
        keep
    }

    fn check(&self, slot: Slot<'_>) {
        let words = self.own.words();
        let (now, committed) = (words[0].load(SeqCst), slot.get(Word::Committed));
        // A life may have been killed between the two.
        if now != committed && now != committed + 1 {
            slot.wrong(Wrong::GoneBack, now);
        }
        if !self.own.existed() && committed > 0 {
            slot.wrong(Wrong::GoneBack, u64::MAX);
        }
        if now > 0 && !is_whole(&self.own, now) {
            slot.wrong(Wrong::Torn, now);
        }
        let (address, before) = (
            self.own.as_ptr().as_ptr().addr() as u64,
            slot.get(Word::Address),
        );
        if before != 0 && before != address {
            slot.wrong(Wrong::Moved, address);
        }
        slot.set(Word::Address, address);
        slot.set(Word::Committed, now);
    }

    /// Commits the next state.
    pub fn change(&self, slot: Slot<'_>) {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let next = self.own.words()[0].load(SeqCst) + 1;
        self.write(next, STATE);
        self.own.words()[0].store(next, SeqCst);
        slot.set(Word::Committed, next);
    }

    /// Is killed in the middle of a change.
    pub fn half_a_change(&self, slot: Slot<'_>) {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        slot.count(Word::Taken);
        self.write(self.own.words()[0].load(SeqCst) + 1, STATE / 2);
        let _ = kill_process(getpid(), Signal::KILL);
    }

    /// The first `words` words of state `number`.
    fn write(&self, number: u64, words: usize) {
        let state = &self.own.words()[place(number)..][..STATE];
        let mut sum = number;
        state[0].store(number, SeqCst);
        for (at, word) in state.iter().enumerate().take(words.min(STATE - 1)).skip(1) {
            let value = content(number, at);
            sum = sum.wrapping_add(value);
            word.store(value, SeqCst);
        }
        if words == STATE {
            state[STATE - 1].store(sum, SeqCst);
        }
    }

    /// Takes blocks until the bank is full, looks that it says so, and gives them back; where `dies`, it
    /// ends between the two, and the next life gives them back.
    pub fn fill(&self, slot: Slot<'_>, number: u64, dies: bool) {
        let key = DeletionKey::opaque(b"fill").expect("the key is short enough");
        let mut room = 0;
        let refusal = loop {
            let name = format!("fill.{number}.{room}");
            match until_served(slot, || pmm_allocate(&name, FILL, key)) {
                Ok(_) => room += 1,
                Err(error) => break error,
            }
        };
        if refusal.code() != Some(ErrorCode::Full) {
            slot.wrong(Wrong::Bank, room);
        }
        slot.set(Word::Room, room);
        slot.set(Word::Filled, number);
        if dies {
            slot.count(Word::Taken);
            std::process::abort();
        }
        self.empty(slot);
    }

    /// Gives back what [`Keep::fill`] took.
    pub fn empty(&self, slot: Slot<'_>) {
        let key = DeletionKey::opaque(b"fill").expect("the key is short enough");
        let freed = until_served(slot, || pmm_free_all(key));
        if freed.is_err() {
            slot.wrong(Wrong::Bank, u64::MAX);
        }
    }
}

fn is_whole(block: &Block, number: u64) -> bool {
    let state = &block.words()[place(number)..][..STATE];
    let mut sum = number;
    let content_is_right = (1..STATE - 1).all(|at| {
        let value = state[at].load(SeqCst);
        sum = sum.wrapping_add(value);
        value == content(number, at)
    });
    content_is_right && state[0].load(SeqCst) == number && state[STATE - 1].load(SeqCst) == sum
}

fn allocate(slot: Slot<'_>, name: &str) -> Block {
    match until_served(slot, || pmm_allocate(name, SIZE, HR_GROUP_KEY)) {
        Ok(block) => block,
        Err(error) => {
            eprintln!("{name}: {error}");
            slot.wrong(Wrong::Refused, error.code().map_or(0, |code| code as u64));
            loop {
                thread::park();
            }
        }
    }
}

/// Runs a member of this group.
pub fn run_member(slot: Slot<'_>, name: &str, program: &Path, args: &[String]) {
    let run = || Exec::new(program).name(name).args(args).spawn();
    if let Err(error) = until_served(slot, run) {
        // An earlier try may have been carried out by a controller that did not live to say so.
        if slot.get(Word::Agains) == 0 || error.code() != Some(ErrorCode::Exists) {
            eprintln!("{name}: {error}");
            slot.wrong(Wrong::NotRun, error.code().map_or(0, |code| code as u64));
        }
    }
}

/// Asks for its own group and says a line, again and again; the site may be away, but its answers are right,
/// and stdout never breaks.
pub fn ask_on(slot: Slot<'_>) {
    let own = until_served(slot, refrain::attach);
    let Some(gid) = own.ok().and_then(|own| own.gid()) else {
        return slot.wrong(Wrong::Answer, 0);
    };
    for turn in 0_u64.. {
        let is_right = || {
            let group = until_served(slot, || match refrain::attach() {
                // 0: it was not told its aid yet, and nobody is there to ask.
                Ok(own) if own.aid().0 != 0 => refrain::hr_get_actor_group(own.aid()),
                Ok(_) => Ok(Some(gid)),
                Err(error) => Err(error.into()),
            });
            matches!(group, Ok(Some(group)) if group == gid)
        };
        if !is_right() {
            // A life that is being stopped has no group any more; but then it does not get far.
            thread::sleep(STOPPING);
            if !is_right() {
                slot.wrong(Wrong::Answer, turn);
            }
        }
        if writeln!(std::io::stdout(), "turn {turn}").is_err() {
            slot.wrong(Wrong::Stdout, turn);
        }
        thread::sleep(ASKING);
    }
}

/// An error that may pass.
trait Passing {
    /// Whether it is worth another try.
    fn passes(&self) -> bool;
}

fn request_passes(error: &RequestError) -> bool {
    // A life that is being stopped is told that it has ended. If it is not, it asks for a minute in vain.
    let is_stale = error.to_string() == "the life that asks has ended";
    is_stale || error.code() == Some(ErrorCode::Again) || matches!(error, RequestError::NoAnswer)
}

impl Passing for AttachError {
    fn passes(&self) -> bool {
        matches!(self, Self::Request(error) if request_passes(error))
    }
}

impl Passing for PmmError {
    fn passes(&self) -> bool {
        match self {
            Self::Request(error) => request_passes(error),
            Self::Attach(error) => error.passes(),
            _ => false,
        }
    }
}

impl Passing for HrError {
    fn passes(&self) -> bool {
        match self {
            Self::Request(error) => request_passes(error),
            Self::Attach(error) => error.passes(),
            _ => false,
        }
    }
}

impl Passing for ExecError {
    fn passes(&self) -> bool {
        match self {
            Self::Request(error) => request_passes(error),
            Self::Attach(error) => error.passes(),
            _ => false,
        }
    }
}

/// Asks until the answer is not "again".
fn until_served<T, E: Passing>(
    slot: Slot<'_>,
    mut ask: impl FnMut() -> Result<T, E>,
) -> Result<T, E> {
    for _ in 0..TRIES {
        match ask() {
            Err(error) if error.passes() => slot.count(Word::Agains),
            answer => return answer,
        }
        thread::sleep(PAUSE);
    }
    ask()
}
