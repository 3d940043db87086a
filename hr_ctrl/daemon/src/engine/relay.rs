//! The relay: a life that fails wakes its successor itself, where that is what would happen anyhow; and
//! where it could not, because it was killed, the controller does so in its place before it decides
//! anything ([`Engine::relay_for`]).
//!
//! The fault handler of a life (`runtime/shim`) is tens of microseconds ahead of the kernel's notice,
//! and ahead of the memory of the old life being torn down. This module gives it leave beforehand
//! ([`Engine::arm_relay`]), takes the leave back when anything happens that could change the
//! decision ([`Engine::take_back`]), and books afterwards what a life has done with it
//! ([`Engine::follow_relay`]): through the core, as the end and the beginning that they are.
//!
//! Who begins the next life is one compare-and-swap on the word `relay`. Before the life's, the
//! controller may take its leave back, and then decides alone. After it, the standby begins: it looks
//! itself whether anybody was left behind in the cgroup, and either begins or declines, and its
//! word for that is final. So there is no moment at which both could begin a life, and none at
//! which nobody would: a life that is killed between its claim and the wake-up has ended, the kernel
//! says so, and the standby, which nobody woke, is then begun in the ordinary way.

use std::sync::atomic::Ordering;
use std::time::Duration;

use hr_ctrl_core::{ActorKey, Event, Requester, Target};
use refrain_abi::control::Relay;
use refrain_abi::{LifeNo, Serial};
use refrain_sys::{Signal, futex};

use super::{Engine, SharedEngine};
use crate::site::Notice;

/// How many turns of the event loop a relay that was claimed is looked at before it is looked at every
/// millisecond only.
const TURNS: u32 = 200;
/// How often a relay that was claimed is looked at when an event cannot wait for it.
const LOOKS: u32 = 2000;

/// What has become of a relay that a life has claimed.
pub(super) enum Outcome {
    /// The standby has begun.
    Began,
    /// The standby waits for the controller, or nobody has woken it.
    Left,
    /// Neither yet.
    Open,
}

impl Engine {
    /// Lets the life that runs wake its successor, if the core would begin that one at once.
    pub(super) fn arm_relay(&mut self, actor: ActorKey) {
        if !self.core.restarts_at_once(actor) {
            return;
        }
        let Some(runtime) = self.actors.get_mut(&actor) else {
            return;
        };
        let cooperates = runtime.cooperates() && runtime.retired.is_none();
        let (Some(life), Some(standby)) = (&runtime.life, &runtime.standby) else {
            return;
        };
        let is_next = standby.start_queued == Some(life.no.next());
        if runtime.relay.is_some() || life.told || life.ended || !(is_next && cooperates) {
            return;
        }
        let (from, to) = (life.serial, standby.serial);
        let page = &runtime.control;
        let spare = runtime.spare.as_ref().map_or(0, |spare| spare.pid);
        for (place, pid) in page.vouched.iter().zip([life.pid, spare]) {
            place.store(pid, Ordering::Relaxed);
        }
        page.relay
            .store(Relay::Armed { from, to }.word(), Ordering::Release);
        runtime.relay = Some((from, to));
    }

    /// Takes the leave back, and books the restart if the life was quicker. Returns with nobody but
    /// the controller deciding.
    pub(super) fn take_back(&mut self, actor: ActorKey) {
        if !self.withdraw(actor) {
            return;
        }
        // Rare: between the claim and the first line of the next life lie microseconds. An event
        // that changes the decision comes just then, and waits for it.
        for _ in 0..LOOKS {
            match self.outcome(actor) {
                Outcome::Open => std::thread::yield_now(),
                Outcome::Began => return self.book(actor),
                Outcome::Left => return self.forbid_and_go_on(actor),
            }
        }
        // The standby is stopped, or gets no time. It ends; whether it began meanwhile shows now.
        let Some(runtime) = self.actors.get_mut(&actor) else {
            return;
        };
        if let Some(standby) = &runtime.standby {
            let _ = standby.pidfd.send_signal(Signal::KILL);
        }
        match self.outcome(actor) {
            Outcome::Began => self.book(actor),
            _ => {
                if let Some(runtime) = self.actors.get_mut(&actor)
                    && let Some(standby) = runtime.standby.take()
                {
                    runtime.discard(standby);
                    runtime.move_up();
                }
                self.forbid_and_go_on(actor);
            }
        }
    }

    /// Takes back the leave of every actor that `event` could concern.
    pub(super) fn take_back_for(&mut self, event: &Event) {
        if matches!(
            event,
            Event::Kill { .. } | Event::SiteRestart { .. } | Event::Halt { .. }
        ) {
            // What is complete is told as such.
            self.pass_on();
        }
        let gid = match event {
            Event::Run { gid, by, .. } => match by {
                Requester::Owner => *gid,
                Requester::Life { actor, .. } => self.core.view(*actor).and_then(|view| view.gid),
            },
            Event::Kill { target, .. } => match target {
                Target::Group(gid) => Some(*gid),
                Target::Aid(aid) => self.core.group_of(*aid).ok().flatten(),
            },
            Event::SiteRestart { .. } | Event::Halt { .. } => {
                self.take_back_all_together();
                for actor in self.armed_actors() {
                    self.take_back(actor);
                }
                return;
            }
            _ => return,
        };
        if let Some(gid) = gid {
            self.take_back_together(gid);
        }
        // A group with a relay has one member.
        let member = gid.and_then(|gid| Some(self.core.members(gid).next()?.key));
        if let Some(actor) = member {
            self.take_back(actor);
        }
    }

    fn armed_actors(&self) -> Vec<ActorKey> {
        let armed = |(key, runtime): (&ActorKey, &super::runtime::ActorRuntime)| {
            runtime.relay.is_some().then_some(*key)
        };
        self.actors.iter().filter_map(armed).collect()
    }

    /// The kernel has ended the life: wakes its successor in its place, before anything is decided or
    /// booked, where the life itself might have done so. Whether the relay is claimed now, by whom ever.
    pub(super) fn relay_for(&mut self, actor: ActorKey) -> bool {
        let Some(runtime) = self.actors.get(&actor) else {
            return false;
        };
        let (Some((from, to)), Some(life)) = (runtime.relay, &runtime.life) else {
            return false;
        };
        let page = &runtime.control;
        if page.is_clean(life.serial) || life.told || from != life.serial {
            return self.is_relay_claimed(actor);
        }
        let claimed = Relay::Claimed { to };
        match page.exchange_relay(Relay::Armed { from, to }, claimed) {
            Ok(()) => {
                page.wake.store(to.0, Ordering::Release);
                let _ = futex::wake(&page.wake, i32::MAX as u32);
                true
            }
            Err(relay) => relay == claimed,
        }
    }

    /// Takes the leave back; whether the life had claimed it.
    fn withdraw(&mut self, actor: ActorKey) -> bool {
        let Some(runtime) = self.actors.get_mut(&actor) else {
            return false;
        };
        let Some((from, to)) = runtime.relay else {
            return false;
        };
        let armed = Relay::Armed { from, to };
        let withdrawn = runtime.control.exchange_relay(armed, Relay::Forbidden);
        if withdrawn == Err(Relay::Claimed { to }) {
            return true;
        }
        // Withdrawn; or the actor has written nonsense over the word, which is a leave to nobody.
        self.forbid(actor);
        false
    }

    /// Whether the life has claimed its relay.
    pub(super) fn is_relay_claimed(&self, actor: ActorKey) -> bool {
        self.actors.get(&actor).is_some_and(|runtime| {
            runtime.relay.is_some_and(|(_, to)| {
                let word = runtime.control.relay.load(Ordering::Acquire);
                Relay::of(word) == (Relay::Claimed { to })
            })
        })
    }

    /// From now on the controller alone begins lives.
    pub(super) fn forbid(&mut self, actor: ActorKey) {
        if let Some(runtime) = self.actors.get_mut(&actor) {
            runtime.relay = None;
            runtime
                .control
                .relay
                .store(Relay::Forbidden.word(), Ordering::Release);
        }
    }

    pub(super) fn outcome(&self, actor: ActorKey) -> Outcome {
        let Some(runtime) = self.actors.get(&actor) else {
            return Outcome::Left;
        };
        let Some((_, to)) = runtime.relay else {
            return Outcome::Left;
        };
        let page = &runtime.control;
        // `began` and `declined` come after the standby's own look; each is its last word.
        if page.began.load(Ordering::Acquire) == to.0 {
            return Outcome::Began;
        }
        let standby = runtime.standby.as_ref().filter(|s| s.serial == to);
        let declined = page.declined.load(Ordering::Acquire) == to.0;
        if declined || standby.is_none() {
            return Outcome::Left;
        }
        let life_ended = runtime
            .life
            .as_ref()
            .is_none_or(|life| life.pidfd.has_ended());
        if life_ended && !to.is_called(page.wake.load(Ordering::Acquire)) {
            return Outcome::Left;
        }
        Outcome::Open
    }

    /// Sees a relay that was claimed to its end: books it, or goes on in the ordinary way.
    pub(super) fn follow_relay(&mut self, actor: ActorKey) {
        match self.outcome(actor) {
            Outcome::Began => self.book(actor),
            Outcome::Left => self.forbid_and_go_on(actor),
            Outcome::Open => {
                let Some(runtime) = self.actors.get_mut(&actor) else {
                    return;
                };
                if !std::mem::replace(&mut runtime.following, true) {
                    actix_rt::spawn(follow(self.shared(), actor));
                }
            }
        }
    }

    fn forbid_and_go_on(&mut self, actor: ActorKey) {
        self.forbid(actor);
        let ended = self.actors.get(&actor).and_then(|runtime| {
            let life = runtime.life.as_ref()?;
            life.pidfd.has_ended().then_some(life.serial)
        });
        if let Some(serial) = ended {
            self.child_ended(actor, serial);
        }
    }

    /// Books a relay whose standby `to` has begun, if there is one: what is heard of that process from now
    /// on is heard of a life.
    pub(super) fn book_if_begun(&mut self, actor: ActorKey, to: Serial) {
        let relay = self.actors.get(&actor).and_then(|runtime| runtime.relay);
        let is_it = relay.is_some_and(|(_, standby)| standby == to);
        if is_it && self.is_relay_claimed(actor) && matches!(self.outcome(actor), Outcome::Began) {
            self.book(actor);
        }
    }

    /// The standby runs already: tells the core that one life is gone, and carries its answer out,
    /// which is to begin the life that runs.
    fn book(&mut self, actor: ActorKey) {
        self.forbid(actor);
        let Some(runtime) = self.actors.get_mut(&actor) else {
            return;
        };
        let Some(life) = runtime.life.as_mut() else {
            return;
        };
        life.ended = true;
        let (no, serial) = (life.no, life.serial);
        let notice = if runtime.expect_record(serial) {
            Notice::Fault
        } else {
            Notice::Kernel
        };
        runtime.last_notice = Some(notice);
        self.happened.booking = true;
        self.tell_end(actor);
        self.gone(actor, no);
        self.happened.booking = false;
        self.after_end_soon(actor, no);
    }

    /// A life says that it fails.
    pub(crate) fn failing(&mut self, actor: ActorKey, no: LifeNo) {
        if self.is_relay_claimed(actor) {
            return self.follow_relay(actor);
        }
        let Some(runtime) = self.actors.get_mut(&actor) else {
            return;
        };
        let Some(life) = runtime.life.as_ref().filter(|life| life.no == no) else {
            return;
        };
        let serial = life.serial;
        let stopped = runtime.control.has_stopped(serial);
        if !runtime.expect_record(serial) {
            return; // It says so, but no handler of ours has run.
        }
        runtime.last_notice = Some(Notice::Fault);
        if stopped {
            self.life_stopped(actor, serial);
        } else {
            self.tell_end(actor);
        }
        self.end_lingering(actor);
    }
}

async fn follow(engine: SharedEngine, actor: ActorKey) {
    for turn in 0.. {
        if turn < TURNS {
            tokio::task::yield_now().await;
        } else {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let mut engine = engine.borrow_mut();
        if !engine.is_relay_claimed(actor) || !matches!(engine.outcome(actor), Outcome::Open) {
            if let Some(runtime) = engine.actors.get_mut(&actor) {
                runtime.following = false;
            }
            if engine.is_relay_claimed(actor) {
                engine.follow_relay(actor);
            }
            return;
        }
    }
}
