//! The engine's own words in the ledger: of the site, and of each actor.
//!
//! Each is written by one store, so each is old or new by itself; which order they are written in, and why
//! that is enough, is said at each. Must never hold what a template or a pidfd can be asked for.

use std::sync::atomic::{AtomicU64, Ordering};

use refrain_abi::{Capability, LifeNo, Serial};
use refrain_sys::WaitStatus;

use super::{SERIALS, load};

/// A life or standby by its serial, and the number that the life has or will have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Numbered {
    /// The number of the life.
    pub life: LifeNo,
    /// Its serial; never 0.
    pub serial: Serial,
}

impl Numbered {
    fn word(self) -> u64 {
        u64::from(self.life.0) << 32 | u64::from(self.serial.0)
    }

    fn of(word: u64) -> Option<Self> {
        let serial = Serial(word as u32);
        let life = LifeNo((word >> 32) as u32);
        (serial.0 != 0).then_some(Self { life, serial })
    }
}

/// What is known of the start frame of a standby.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Queued {
    /// None was sent.
    No,
    /// One was sent, for this life.
    For(LifeNo),
    /// One was about to be sent when hr_ctrl died.
    Unknown,
}

/// The words of the site.
#[derive(Clone, Copy, Debug)]
pub struct Site<'a>(pub(super) &'a [AtomicU64]);

impl Site<'_> {
    /// When the site's first hr_ctrl began, in milliseconds on the monotonic clock.
    #[must_use]
    pub fn started_ms(&self) -> u64 {
        load(&self.0[0])
    }

    /// See [`Site::started_ms`].
    pub fn set_started_ms(&self, ms: u64) {
        self.0[0].store(ms, Ordering::Release);
    }

    /// How often the site was restarted.
    #[must_use]
    pub fn restarts(&self) -> u64 {
        load(&self.0[1])
    }

    /// Counts a restart of the site.
    pub fn count_restart(&self) {
        self.0[1].fetch_add(1, Ordering::Release);
    }

    /// How many hr_ctrl have adopted what ran.
    #[must_use]
    pub fn adoptions(&self) -> u64 {
        load(&self.0[2])
    }

    /// The line of `sysadm.ini`, from 1, that is being carried out; `None` when all were.
    #[must_use]
    pub fn ini_line(&self) -> Option<u32> {
        let line = load(&self.0[3]);
        (line != u64::MAX).then_some((line as u32).max(1))
    }

    /// See [`Site::ini_line`].
    pub fn set_ini_line(&self, line: Option<u32>) {
        self.0[3].store(line.map_or(u64::MAX, u64::from), Ordering::Release);
    }

    /// Counts an adoption.
    pub fn count_adoption(&self) {
        self.0[2].fetch_add(1, Ordering::Release);
    }
}

/// The words of one actor.
#[derive(Clone, Copy, Debug)]
pub struct Own<'a>(pub(super) &'a [AtomicU64]);

const LIFE: usize = 0;
const COUNTERS: usize = 1;
const INTENT: usize = 2;
const QUEUED: usize = 3;
const BEGAN: usize = 4;
const PID: usize = 5;
const START_TIME: usize = 6;
const LAST_END: usize = 7;
const CAPABILITIES: usize = 8;
/// The bits of a pid. Source: PID_MAX_LIMIT in linux/threads.h.
const MAX_PID: u32 = (1 << 22) - 1;
const PID_BEFORE: usize = CAPABILITIES + 2 * SERIALS;
const LIFES_CAPABILITY: usize = PID_BEFORE + 1;

impl Own<'_> {
    /// The life that was woken last. Written before the wake-up: so a standby that was woken is always
    /// found here, and one that is found here is woken, if it was not.
    #[must_use]
    pub fn life(&self) -> Option<Numbered> {
        Numbered::of(load(&self.0[LIFE]))
    }

    /// See [`Own::life`].
    pub fn set_life(&self, life: Numbered, pid: u32, began_ms: u64, capability: Capability) {
        self.put_capability(LIFES_CAPABILITY, capability);
        self.0[PID_BEFORE].store(load(&self.0[PID]), Ordering::Relaxed);
        self.0[PID].store(u64::from(pid), Ordering::Relaxed);
        self.0[BEGAN].store(began_ms, Ordering::Relaxed);
        self.0[START_TIME].store(0, Ordering::Relaxed);
        self.0[LIFE].store(life.word(), Ordering::Release);
    }

    /// Its pid, to compare with; never to signal.
    #[must_use]
    pub fn pid(&self) -> u32 {
        load(&self.0[PID]) as u32
    }

    /// The pid of the life before, likewise.
    #[must_use]
    pub fn pid_before(&self) -> u32 {
        load(&self.0[PID_BEFORE]) as u32
    }

    /// When it began, in milliseconds on the monotonic clock.
    #[must_use]
    pub fn began_ms(&self) -> u64 {
        load(&self.0[BEGAN])
    }

    /// The generation of the present template, and the last serial that a fork was asked for with.
    #[must_use]
    pub fn counters(&self) -> (u32, Serial) {
        let word = load(&self.0[COUNTERS]);
        ((word >> 32) as u32, Serial(word as u32))
    }

    /// See [`Own::counters`]. Before a template is kept, and before a fork is asked for.
    pub fn set_counters(&self, generation: u32, last: Serial) {
        let word = u64::from(generation) << 32 | u64::from(last.0);
        self.0[COUNTERS].store(word, Ordering::Release);
    }

    /// A start frame is about to be sent.
    pub fn will_queue(&self, life: LifeNo, serial: Serial) {
        self.0[INTENT].store(Numbered { life, serial }.word(), Ordering::Release);
    }

    /// It was sent.
    pub fn has_queued(&self, life: LifeNo, serial: Serial) {
        self.0[QUEUED].store(Numbered { life, serial }.word(), Ordering::Release);
    }

    /// What is known of the start frame of the standby with this serial.
    #[must_use]
    pub fn queued(&self, serial: Serial) -> Queued {
        let of = |at: usize| Numbered::of(load(&self.0[at])).filter(|to| to.serial == serial);
        match (of(QUEUED), of(INTENT)) {
            (Some(to), _) => Queued::For(to.life),
            (None, Some(_)) => Queued::Unknown,
            (None, None) => Queued::No,
        }
    }

    /// The capability of the life that was woken last.
    #[must_use]
    pub fn lifes_capability(&self) -> Capability {
        self.get_capability(LIFES_CAPABILITY)
    }

    /// The capability that the standby of this serial will have. Of the last few serials.
    #[must_use]
    pub fn capability(&self, serial: Serial) -> Capability {
        self.get_capability(CAPABILITIES + serial.0 as usize % SERIALS * 2)
    }

    /// See [`Own::capability`]. Before anybody is told.
    pub fn set_capability(&self, serial: Serial, capability: Capability) {
        self.put_capability(CAPABILITIES + serial.0 as usize % SERIALS * 2, capability);
    }

    fn get_capability(&self, at: usize) -> Capability {
        let halves = [load(&self.0[at]), load(&self.0[at + 1])];
        let mut bytes = [0; 16];
        for (place, half) in bytes.chunks_exact_mut(8).zip(halves) {
            place.copy_from_slice(&half.to_le_bytes());
        }
        Capability(bytes)
    }

    fn put_capability(&self, at: usize, capability: Capability) {
        for (half, place) in capability.0.chunks_exact(8).zip(&self.0[at..]) {
            let half = half.try_into().map_or(0, u64::from_le_bytes);
            place.store(half, Ordering::Release);
        }
    }

    /// How the life of this pid ended, and whether that was clean; `None` while that is not known.
    #[must_use]
    pub fn end_of(&self, pid: u32) -> Option<(WaitStatus, bool)> {
        let word = load(&self.0[LAST_END]);
        let is_it = word >> 63 != 0 && (word >> 32) as u32 & MAX_PID == pid & MAX_PID;
        is_it.then_some((WaitStatus(word as u32), word >> 62 & 1 != 0))
    }

    /// See [`Own::end_of`].
    pub fn set_end(&self, pid: u32, status: WaitStatus, clean: bool) {
        let who = u64::from(pid & MAX_PID) << 32;
        let word = 1 << 63 | u64::from(clean) << 62 | who | u64::from(status.0);
        self.0[LAST_END].store(word, Ordering::Release);
    }
}
