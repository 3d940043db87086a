//! Restarts in place: a group of supervisor actors on one arbiter begins again before HR_CTRL hears of it.
//!
//! From HR_CTRL's thread to the arbiter and back is several times as long as such a restart takes. So, like the
//! relay of user actors ([decision 0012](../../../../docs/adr/0012-a-failing-life-wakes-its-successor.md)),
//! HR_CTRL says beforehand how many restarts it would decide whatever else happened ([`Together::allow`]); the
//! arbiter uses that up ([`Together::claim`]) and restarts; HR_CTRL books it afterwards through the core, or before
//! any event that could change the answer ([`Together::take_back`]). While it books, what is left of the leave
//! holds: the answer was counted for all of them in a row ([`Together::take_done`]).
//!
//! # Why no life is begun twice, or against the core's will
//! Who decides is settled under one lock. Before the claim HR_CTRL may take its leave back, and decides alone.
//! After it the restart is as good as done: its arbiter carries it out in the same turn of its event loop,
//! before it hears any command. HR_CTRL finds the claim under the lock and books it before it decides anything
//! else about the group; whatever it then tells a slot reaches it when the restart is over. A claim needs every
//! member of the group running on that arbiter; one that has just ended, cleanly say, leaves the decision to
//! HR_CTRL.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hr_ctrl_core::ActorKey;
use refrain_abi::LifeNo;
use refrain_sys::clock;

use super::life::LifeShared;
use super::slot::End;

/// How many restarts are allowed beforehand at most: a group that fails faster than HR_CTRL books is slowed
/// down to that.
pub(crate) const AHEAD: u32 = 32;

/// A group of supervisor actors, shared by HR_CTRL and the arbiter.
#[derive(Default)]
pub(crate) struct Together(Mutex<State>);

#[derive(Default)]
struct State {
    /// How many restarts are allowed.
    left: u32,
    /// Of a group with so many members.
    members: usize,
    done: Vec<Done>,
}

/// A restart in place.
pub(crate) struct Done {
    /// Who failed.
    pub failed: ActorKey,
    end: End,
    /// When, on the clock of [`hr_ctrl_core::Event::Ended`].
    pub at_ms: u64,
    /// The life of each member that has begun.
    pub begun: Vec<(ActorKey, Arc<LifeShared>)>,
    took: Arc<AtomicU64>,
}

impl Done {
    /// How it failed, in words.
    pub fn how(&self) -> String {
        self.end.words().into_owned()
    }

    /// From the end of the failed life to when the last member had begun; `None`: it has not yet.
    pub fn took(&self) -> Option<Duration> {
        let nanos = self.took.load(Ordering::Acquire);
        (nanos > 0).then(|| Duration::from_nanos(nanos))
    }
}

impl Together {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Allows so many restarts of a group with so many members; not while one waits to be booked.
    pub fn allow(&self, left: u32, members: usize) {
        let mut state = self.lock();
        if state.done.is_empty() {
            (state.left, state.members) = (left, members);
        }
    }

    pub fn is_allowed(&self) -> bool {
        self.lock().left > 0
    }

    /// What is to be booked. The leave stays: a group that fails while HR_CTRL books does not wait for it.
    pub fn take_done(&self) -> Vec<Done> {
        std::mem::take(&mut self.lock().done)
    }

    /// From now on HR_CTRL decides alone, when it has booked these.
    pub fn take_back(&self) -> Vec<Done> {
        let mut state = self.lock();
        state.left = 0;
        std::mem::take(&mut state.done)
    }

    /// Whether a restart waits to be booked.
    pub fn is_to_be_booked(&self) -> bool {
        !self.lock().done.is_empty()
    }

    /// Uses one restart up, if one is allowed; else gives it back.
    fn claim(&self, done: Done) -> Result<(), Done> {
        let mut state = self.lock();
        if state.left == 0 || state.members != done.begun.len() {
            return Err(done);
        }
        state.left -= 1;
        state.done.push(done);
        Ok(())
    }
}

/// A slot, whatever its actor's type.
pub(super) trait Member {
    /// The actor, and the number of the life that runs; `None`: none does.
    fn running(&self) -> Option<(ActorKey, LifeNo)>;
    /// A life to be.
    fn life(&self, no: LifeNo) -> Arc<LifeShared>;
    /// Drops the life that runs, without a report.
    fn drop_life(&self);
    /// Makes this life.
    fn begin(&self, life: Arc<LifeShared>);
    /// Has the arbiter give it a turn.
    fn wake(&self);
}

type Members = Vec<Rc<dyn Member>>;

thread_local! {
    /// The slots on this arbiter, by the group that they are in.
    static MEMBERS: RefCell<HashMap<usize, Members>> = RefCell::default();
}

fn key(group: &Arc<Together>) -> usize {
    Arc::as_ptr(group).addr()
}

/// A slot is on this arbiter.
pub(super) fn join(group: &Arc<Together>, slot: Rc<dyn Member>) {
    MEMBERS.with_borrow_mut(|members| members.entry(key(group)).or_default().push(slot));
}

/// A slot is not any more. May be called while the arbiter ends.
pub(super) fn leave(group: &Arc<Together>, slot: &Rc<dyn Member>) {
    let left = MEMBERS.try_with(|members| {
        let mut members = members.borrow_mut();
        let Some(slots) = members.get_mut(&key(group)) else {
            return Vec::new();
        };
        let is_it = |one: &Rc<dyn Member>| Rc::ptr_eq(one, slot);
        let left = slots.extract_if(.., |one| is_it(one)).collect();
        if slots.is_empty() {
            members.remove(&key(group));
        }
        left
    });
    drop(left);
}

/// Restarts the group in place.
///
/// All lives have ended before the first begins (SPEC H9, invariant 1).
///
/// # Errors
/// That is not allowed, or not every member runs: how the life ended, which is to be reported.
pub(super) fn restart(group: &Arc<Together>, failed: ActorKey, end: End) -> Result<(), End> {
    let since = Instant::now();
    // Code of actors runs below: nothing is borrowed meanwhile.
    let members = MEMBERS.with_borrow(|members| members.get(&key(group)).cloned());
    let members = members.unwrap_or_default();
    let mut begun = Vec::with_capacity(members.len());
    for member in &members {
        let Some((actor, no)) = member.running() else {
            return Err(end);
        };
        begun.push((actor, member.life(no.next())));
    }
    let lives: Vec<_> = begun.iter().map(|(_, life)| Arc::clone(life)).collect();
    let took = Arc::new(AtomicU64::new(0));
    let done = Done {
        failed,
        end,
        at_ms: clock::now_monotonic_ms(),
        begun,
        took: Arc::clone(&took),
    };
    group.claim(done).map_err(|done| done.end)?;
    for member in &members {
        member.drop_life();
    }
    for (member, life) in members.iter().zip(lives) {
        member.begin(life);
        member.wake();
    }
    let nanos = u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX);
    took.store(nanos.max(1), Ordering::Release);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn done() -> Done {
        Done {
            failed: ActorKey(1),
            end: End::Stopped,
            at_ms: 0,
            begun: Vec::new(),
            took: Arc::default(),
        }
    }

    #[test]
    fn a_claim_needs_leave_and_every_member() {
        let group = Together::default();
        assert!(group.claim(done()).is_err(), "nothing is allowed at first");
        group.allow(2, 1);
        assert!(group.claim(done()).is_err(), "a member is missing");
        group.allow(2, 0);
        assert!(group.claim(done()).is_ok() && group.claim(done()).is_ok());
        assert!(group.claim(done()).is_err(), "both are used up");
        group.allow(2, 0);
        assert!(!group.is_allowed(), "two wait to be booked");
        assert_eq!(group.take_back().len(), 2);
        group.allow(2, 0);
        assert!(group.claim(done()).is_ok());
        assert_eq!(group.take_done().len(), 1);
        let claimed = group.claim(done());
        assert!(claimed.is_ok(), "the leave stays while they are booked");
        assert_eq!(group.take_back().len(), 1);
        assert!(group.claim(done()).is_err(), "taken back");
    }
}
