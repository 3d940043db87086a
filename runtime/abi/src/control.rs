//! The control page: 4 KiB that an actor, its template and the controller share.
//!
//! | word | writer | meaning |
//! | --- | --- | --- |
//! | `wake` | controller | the highest serial that may run; the futex that standbys sleep on |
//! | `clean` | life | its own serial, stored by `HR_EXIT_HDL` (SPEC H21): one atomic store |
//! | `began` | life | its own serial, stored on waking, before `main` |
//! | `exec_errno` | life | why `execveat` of the image failed, for lives that start by exec |
//! | `end_*` | template | the last life that the template reaped |
//! | `progress` | life | a counter that an actor may advance |
//! | `relay` | controller arms, life claims | whether a failing life may wake its successor itself |
//! | `stopped` | life | its own serial, once it has closed its files and runs no line of the program again |
//! | `go` | controller | the highest serial that the controller itself has begun |
//! | `declined` | standby | its own serial: woken by a failing life, it found somebody left behind |
//! | `keepers` | standby and kernel | the keeper of each of the last four serials; pid 0 while it is being made |
//! | `vouched` | controller | further pids that belong in the actor's cgroup |
//! | `block_epoch` | controller | which blocks that were sent ahead are stale |
//! | `aid` | controller | serial and aid of the life that began last |
//! | `failure` | life | what the fault handler saw |
//! | `taken` | controller | the request that is being carried out |
//! | `promise` | life | its own serial, and within which time it has promised to advance `progress` |
//!
//! The actor can write every word, so the controller takes none of them for an index or a length,
//! and for a pid only to leave somebody alone, never to signal. A life that writes nonsense here harms
//! nobody but its own group.
//!
//! Why `clean` holds a serial and not a flag: nothing has to reset it between two lives, so a
//! store that comes late from a dying life cannot make its successor's end look clean. So it is
//! with `taken`.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::Serial;

/// The size of the page and of the memfd behind it, in bytes.
pub const PAGE_SIZE: usize = 4096;

/// The first word of every control page: "RFRN".
pub const MAGIC: u32 = u32::from_le_bytes(*b"RFRN");

/// The version of this layout.
pub const VERSION: u32 = 2;

/// The signal that asks a life to stop by itself, as far as it can (glibc's SIGCANCEL, musl's timers):
/// neither library lets a program handle or block it, and glibc uses it itself only once a thread was
/// cancelled. (33 it takes as soon as there is a second thread.)
pub const STOP_SIGNAL: i32 = 32;

/// The value that goes with [`STOP_SIGNAL`]; with any other one it is ignored.
pub const STOP_VALUE: u64 = MAGIC as u64;

/// How many serials back a keeper is remembered, and how many pids the controller vouches for.
pub const SLOTS: usize = 4;

/// The shortest and the longest period that progress is promised for, in milliseconds. Others are taken
/// for the nearest of these two.
pub const PROMISES_MS: core::ops::RangeInclusive<u32> = 10..=86_400_000;

/// How much of the stack above the stack pointer a failure keeps, in bytes.
pub const STACK_BYTES: usize = 2560;

/// The layout of the control page, from its first byte. Rest of the page: zero, reserved.
#[repr(C)]
#[derive(Debug, Default)]
pub struct ControlPage {
    /// Offset 0: [`MAGIC`].
    pub magic: AtomicU32,
    /// Offset 4: [`VERSION`].
    pub version: AtomicU32,
    /// Offset 8: the highest serial that may run (futex).
    pub wake: AtomicU32,
    /// Offset 12: the serial of the life that began last.
    pub began: AtomicU32,
    /// Offset 16: the serial of the life that called the exit handler last.
    pub clean: AtomicU32,
    /// Offset 20: the errno of the last failed `execveat`, 0 for none.
    pub exec_errno: AtomicU32,
    /// Offset 24: progress counter; whoever looks at it compares it with what it was, no more.
    pub progress: AtomicU64,
    /// Offset 32: pid of the life that the template reaped last.
    pub end_pid: AtomicU32,
    /// Offset 36: its wait status, as `waitpid` gives it.
    pub end_status: AtomicU32,
    /// Offset 40: how many lives the template has reaped; advanced after the two words above.
    pub end_count: AtomicU32,
    /// Offset 44: the serial of the life that has stopped for good.
    pub stopped: AtomicU32,
    /// Offset 48: a [`Relay`] as a word.
    pub relay: AtomicU64,
    /// Offset 56: the highest serial that the controller itself has begun (futex). A standby that is
    /// awake and finds this below its serial was woken by a failing life.
    pub go: AtomicU32,
    /// Offset 60: the serial of the standby that was woken by a failing life and waits for `go`.
    pub declined: AtomicU32,
    /// Offset 64: serial << 32 | pid, at index serial % [`SLOTS`]. The kernel stores the pid
    /// (CLONE_PARENT_SETTID) just after the keeper has become a member of the actor's cgroup: a word
    /// without a pid says that it may be there.
    pub keepers: [AtomicU64; SLOTS],
    /// Offset 96: pids that the controller knows beside template, life, standby and their keepers; 0
    /// is none.
    pub vouched: [AtomicU32; SLOTS],
    /// Offset 112: advanced whenever a block that the actor may be sent ahead is freed: what was sent
    /// ahead before that is stale ([`crate::request::Reply::BlockAhead`]).
    pub block_epoch: AtomicU32,
    /// Offset 116: reserved.
    pub reserved: AtomicU32,
    /// Offset 120: serial << 32 | aid of the life that began last. A life's library reads it in place of
    /// asking for its aid.
    pub aid: AtomicU64,
    /// Offset 128: the failure that was recorded last.
    pub failure: Failure,
    /// Offset 2752: serial << 32 | sequence number of the request that the controller carries out, 0 for
    /// none. A controller that finds a request marked so has not done it: the one before it ended meanwhile.
    pub taken: AtomicU64,
    /// Offset 2760: serial << 32 | period in milliseconds, 0 for none: this life has promised to advance
    /// `progress` within each such period.
    pub promise: AtomicU64,
}

/// What the fault handler of a life saw, at offset 128 of the control page.
#[repr(C)]
#[derive(Debug)]
pub struct Failure {
    /// Offset 128: the serial of the life that failed; stored last. Whoever reads the record looks
    /// at it before and after.
    pub serial: AtomicU32,
    /// Offset 132: the signal.
    pub signal: AtomicU32,
    /// Offset 136: `si_code`, as an i32.
    pub code: AtomicU32,
    /// Offset 140: how many bytes of `stack` are filled.
    pub stack_len: AtomicU32,
    /// Offset 144: `si_addr`, where the signal has one.
    pub address: AtomicU64,
    /// Offset 152: the address of the instruction.
    pub instruction: AtomicU64,
    /// Offset 160: the stack pointer.
    pub stack_pointer: AtomicU64,
    /// Offset 168: the frame pointer (rbp, x29).
    pub frame_pointer: AtomicU64,
    /// Offset 176: the link register (x30); 0 where there is none.
    pub link: AtomicU64,
    /// Offset 184: the thread's id.
    pub thread: AtomicU32,
    /// Offset 188: reserved.
    pub reserved: AtomicU32,
    /// Offset 192: the stack from `stack_pointer` upwards.
    pub stack: [AtomicU64; STACK_BYTES / 8],
}

impl Default for Failure {
    fn default() -> Self {
        Self {
            serial: AtomicU32::new(0),
            signal: AtomicU32::new(0),
            code: AtomicU32::new(0),
            stack_len: AtomicU32::new(0),
            address: AtomicU64::new(0),
            instruction: AtomicU64::new(0),
            stack_pointer: AtomicU64::new(0),
            frame_pointer: AtomicU64::new(0),
            link: AtomicU64::new(0),
            thread: AtomicU32::new(0),
            reserved: AtomicU32::new(0),
            stack: [const { AtomicU64::new(0) }; STACK_BYTES / 8],
        }
    }
}

/// Whether a failing life may wake its successor itself: the word `relay`.
///
/// The controller arms it for one pair of serials, where it would restart that life at once anyhow:
/// alone in its group, the group's badness below its limit, the start frame taken. The life's fault
/// handler claims it by one compare-and-swap, and from then on the successor will begin; the
/// controller takes its permission back by another, and where that fails the life was quicker. So both
/// always agree on who begins the next life, whatever happens to either of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relay {
    /// The controller alone begins lives.
    Forbidden,
    /// The life `from` may wake the standby `to`.
    Armed {
        /// The life.
        from: Serial,
        /// The standby.
        to: Serial,
    },
    /// A life has claimed it: the standby `to` begins.
    Claimed {
        /// The standby.
        to: Serial,
    },
}

impl Relay {
    /// The word. Two serials of one actor at the same time are never equal, so `to` twice can stand for
    /// a claim.
    #[must_use]
    pub const fn word(self) -> u64 {
        let (from, to) = match self {
            Self::Forbidden => (0, 0),
            Self::Armed { from, to } => (from.0, to.0),
            Self::Claimed { to } => (to.0, to.0),
        };
        (from as u64) << 32 | to as u64
    }

    /// What a word says.
    #[must_use]
    pub const fn of(word: u64) -> Self {
        let (from, to) = (Serial((word >> 32) as u32), Serial(word as u32));
        if word == 0 {
            Self::Forbidden
        } else if from.0 == to.0 {
            Self::Claimed { to }
        } else {
            Self::Armed { from, to }
        }
    }
}

/// The word of `keepers` for a serial and a pid.
#[must_use]
pub const fn keeper_word(serial: Serial, pid: u32) -> u64 {
    (serial.0 as u64) << 32 | pid as u64
}

/// The index of a serial's word in `keepers`.
#[must_use]
pub const fn keeper_slot(serial: Serial) -> usize {
    serial.0 as usize % SLOTS
}

impl ControlPage {
    /// The aid of the life with this serial, once the controller has stored it.
    #[must_use]
    pub fn aid_of(&self, serial: Serial) -> Option<crate::Aid> {
        let word = self.aid.load(Ordering::Acquire);
        let aid = word as u32;
        (word >> 32 == u64::from(serial.0) && aid != 0).then_some(crate::Aid(aid))
    }

    /// Stores the aid of a life, for [`ControlPage::aid_of`].
    pub fn set_aid(&self, serial: Serial, aid: crate::Aid) {
        let word = u64::from(serial.0) << 32 | u64::from(aid.0);
        self.aid.store(word, Ordering::Release);
    }

    /// Marks request `seq` of the life with this serial as being carried out, until
    /// [`ControlPage::let_go`]. No request has number 0.
    pub fn take(&self, serial: Serial, seq: u32) {
        let word = u64::from(serial.0) << 32 | u64::from(seq);
        self.taken.store(word, Ordering::SeqCst);
    }

    /// Nothing is being carried out.
    pub fn let_go(&self) {
        self.taken.store(0, Ordering::SeqCst);
    }

    /// Whether request `seq` of the life with this serial was being carried out.
    #[must_use]
    pub fn is_taken(&self, serial: Serial, seq: u32) -> bool {
        let word = u64::from(serial.0) << 32 | u64::from(seq);
        self.taken.load(Ordering::SeqCst) == word
    }

    /// Replaces the relay `now` by `next`, in one step.
    ///
    /// # Errors
    /// The relay that there is, where that is not `now`.
    pub fn exchange_relay(&self, now: Relay, next: Relay) -> Result<(), Relay> {
        let (success, failure) = (Ordering::AcqRel, Ordering::Acquire);
        self.relay
            .compare_exchange(now.word(), next.word(), success, failure)
            .map(drop)
            .map_err(Relay::of)
    }

    /// Within how many milliseconds the life with this serial has promised to advance `progress`; within
    /// [`PROMISES_MS`], whatever the word says.
    #[must_use]
    pub fn promise_of(&self, serial: Serial) -> Option<u32> {
        let word = self.promise.load(Ordering::Acquire);
        let period = word as u32;
        let period = period.clamp(*PROMISES_MS.start(), *PROMISES_MS.end());
        (word >> 32 == u64::from(serial.0) && word as u32 != 0).then_some(period)
    }

    /// Stores the promise of a life, for [`ControlPage::promise_of`]; 0 takes it back.
    pub fn set_promise(&self, serial: Serial, period_ms: u32) {
        let word = u64::from(serial.0) << 32 | u64::from(period_ms);
        self.promise.store(word, Ordering::Release);
    }

    /// Whether the life with this serial has called the exit handler.
    #[must_use]
    pub fn is_clean(&self, serial: Serial) -> bool {
        self.clean.load(Ordering::Acquire) == serial.0
    }

    /// Whether the life with this serial has stopped for good.
    #[must_use]
    pub fn has_stopped(&self, serial: Serial) -> bool {
        self.stopped.load(Ordering::Acquire) == serial.0
    }

    /// Whether the failure that was recorded last is that of the life with this serial.
    #[must_use]
    pub fn has_failure_of(&self, serial: Serial) -> bool {
        self.failure.serial.load(Ordering::Acquire) == serial.0
    }

    /// Whether `pid` is the keeper of one of the last serials.
    #[must_use]
    pub fn is_keeper(&self, pid: u32) -> bool {
        let mut words = self.keepers.iter();
        pid != 0 && words.any(|word| word.load(Ordering::Acquire) as u32 == pid)
    }

    /// The pid of the keeper of a serial, if it has one.
    #[must_use]
    pub fn keeper(&self, serial: Serial) -> Option<u32> {
        let word = self.keepers[keeper_slot(serial)].load(Ordering::Acquire);
        let pid = word as u32;
        (word >> 32 == u64::from(serial.0) && pid != 0).then_some(pid)
    }
}

const _: () = {
    assert!(core::mem::offset_of!(ControlPage, relay) == 48);
    assert!(core::mem::offset_of!(ControlPage, keepers) == 64);
    assert!(core::mem::offset_of!(ControlPage, failure) == 128);
    assert!(core::mem::offset_of!(ControlPage, failure.stack) == 192);
    assert!(core::mem::offset_of!(ControlPage, taken) == 2752);
    assert!(core::mem::offset_of!(ControlPage, promise) == 2760);
    assert!(core::mem::size_of::<ControlPage>() <= PAGE_SIZE);
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relay_reads_back_as_it_was_written() {
        let (from, to) = (Serial(7), Serial(8));
        for relay in [
            Relay::Forbidden,
            Relay::Armed { from, to },
            Relay::Claimed { to },
        ] {
            assert_eq!(Relay::of(relay.word()), relay);
        }
    }

    #[test]
    fn a_keeper_is_that_of_its_own_serial_only() {
        let page = ControlPage::default();
        let serial = Serial(6);
        page.keepers[keeper_slot(serial)].store(keeper_word(serial, 77), Ordering::Relaxed);
        assert_eq!(page.keeper(serial), Some(77));
        assert_eq!(page.keeper(Serial(2)), None);
        assert_eq!(page.keeper(Serial(7)), None);
        assert!(page.is_keeper(77) && !page.is_keeper(78) && !page.is_keeper(0));
    }

    #[test]
    fn h31_a_request_that_was_taken_is_that_of_its_own_life_only() {
        let page = ControlPage::default();
        assert!(!page.is_taken(Serial(1), 1));
        page.take(Serial(6), 3);
        assert!(page.is_taken(Serial(6), 3));
        assert!(!page.is_taken(Serial(6), 4) && !page.is_taken(Serial(7), 3));
        page.let_go();
        assert!(!page.is_taken(Serial(6), 3));
    }

    #[test]
    fn a_promise_is_that_of_its_own_serial_only_and_bounded() {
        let page = ControlPage::default();
        let serial = Serial(6);
        assert_eq!(page.promise_of(Serial(0)), None);
        page.set_promise(serial, 5000);
        assert_eq!(page.promise_of(serial), Some(5000));
        assert_eq!(
            page.promise_of(Serial(7)),
            None,
            "the next life has promised nothing"
        );
        page.set_promise(serial, 1);
        assert_eq!(page.promise_of(serial), Some(10));
        page.set_promise(serial, u32::MAX);
        assert_eq!(page.promise_of(serial), Some(86_400_000));
        page.set_promise(serial, 0);
        assert_eq!(page.promise_of(serial), None);
    }

    #[test]
    fn a_relay_is_exchanged_for_the_one_that_was_expected_only() {
        let page = ControlPage::default();
        let (from, to) = (Serial(7), Serial(8));
        let (armed, claimed) = (Relay::Armed { from, to }, Relay::Claimed { to });
        assert_eq!(page.exchange_relay(armed, claimed), Err(Relay::Forbidden));
        assert_eq!(page.exchange_relay(Relay::Forbidden, armed), Ok(()));
        assert_eq!(page.exchange_relay(armed, claimed), Ok(()));
        assert_eq!(page.exchange_relay(armed, Relay::Forbidden), Err(claimed));
    }
}
