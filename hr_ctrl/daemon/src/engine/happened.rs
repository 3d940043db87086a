//! What the engine tells a program that embeds the site ([`crate::events`]).
//!
//! Noted where it happens, which may be on the restart path, and passed on a turn of the event loop later. With
//! nobody listening, nothing is noted. How a life ended is often known after that it ended: then its
//! event waits for the cause, in the order of the ends of its actor.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use hr_ctrl_core::{ActorKey, ActorState, Event, GroupState, Kind};
use refrain_abi::{ActorName, Aid, Gid, LifeNo};
use tokio::sync::broadcast;

use super::Engine;
use crate::events::SiteEvent;

/// See the module.
pub(super) struct Happened {
    sender: broadcast::Sender<SiteEvent>,
    queue: Vec<SiteEvent>,
    restarts: HashMap<Gid, Restart>,
    /// What is being booked has happened already.
    pub booking: bool,
}

/// A group restart that goes on.
struct Restart {
    failed: ActorName,
    badness: u32,
    noticed: Instant,
    /// When the last life of the group has begun; `None`: none yet.
    begun: Option<Instant>,
    /// It had happened when it was noticed.
    booked: bool,
}

/// The end of a life of a user actor whose cause is not known yet.
pub(crate) struct Unsaid {
    life: LifeNo,
    aid: Aid,
    pid: u32,
    clean: bool,
}

impl Unsaid {
    /// Whether it is the end of this life.
    pub fn is_of(&self, pid: u32) -> bool {
        self.pid == pid
    }
}

impl Restart {
    fn event(self, gid: Gid) -> SiteEvent {
        let took = self.begun.map(|begun| begun - self.noticed);
        SiteEvent::GroupRestarted {
            gid,
            failed: self.failed,
            badness: self.badness,
            latency: took.filter(|_| !self.booked),
        }
    }
}

impl Happened {
    pub fn new(sender: broadcast::Sender<SiteEvent>) -> Self {
        Self {
            sender,
            queue: Vec::new(),
            restarts: HashMap::new(),
            booking: false,
        }
    }

    fn is_heard(&self) -> bool {
        self.sender.receiver_count() > 0
    }
}

impl Engine {
    /// Notes an event, to be passed on soon.
    pub(super) fn happens(&mut self, event: impl FnOnce() -> SiteEvent) {
        if !self.happened.is_heard() {
            return;
        }
        self.happened.queue.push(event());
        if self.happened.queue.len() == 1 {
            let engine = self.shared();
            actix_rt::spawn(async move {
                tokio::task::yield_now().await;
                engine.borrow_mut().pass_on();
            });
        }
    }

    /// Passes on what was noted, and restarts that are complete by now.
    pub(super) fn pass_on(&mut self) {
        for event in self.happened.queue.drain(..) {
            // It fails when nobody listens any more.
            let _ = self.happened.sender.send(event);
        }
        let done: Vec<Gid> = self
            .happened
            .restarts
            .keys()
            .copied()
            .filter(|gid| self.has_restarted(*gid))
            .collect();
        for gid in done {
            if let Some(restart) = self.happened.restarts.remove(&gid) {
                let _ = self.happened.sender.send(restart.event(gid));
            }
        }
    }

    /// Whether every direct member has a life again.
    fn has_restarted(&self, gid: Gid) -> bool {
        let is_steady = self
            .core
            .group(gid)
            .is_some_and(|group| group.state == GroupState::Steady);
        let has_life = |actor: &ActorKey| {
            let user = self.actors.get(actor);
            user.is_some_and(|runtime| runtime.life.is_some()) || self.is_hosted(*actor)
        };
        let mut members = self.core.members(gid).filter(|m| m.kind == Kind::Direct);
        is_steady && members.all(|m| m.state == ActorState::Running && has_life(&m.key))
    }

    /// A life has begun.
    pub(super) fn life_began(&mut self, actor: ActorKey, life: LifeNo, aid: Aid) {
        if !self.happened.is_heard() {
            return;
        }
        let Some((name, gid)) = self.core.view(actor).map(|view| (*view.name, view.gid)) else {
            return;
        };
        if let Some(restart) = gid.and_then(|gid| self.happened.restarts.get_mut(&gid)) {
            restart.begun = Some(Instant::now());
        }
        self.happens(|| SiteEvent::Started {
            actor: name,
            gid,
            life,
            aid,
        });
    }

    /// A life of a supervisor actor has ended; its cause is known.
    pub(super) fn life_is_over(
        &mut self,
        (actor, gid): (ActorName, Option<Gid>),
        (life, aid): (LifeNo, Aid),
        clean: bool,
        cause: Option<String>,
    ) {
        self.happens(|| SiteEvent::Ended {
            actor,
            gid,
            life,
            aid,
            clean,
            cause,
        });
    }

    /// A life of a user actor has ended: its cause may still come.
    pub(super) fn note_end(&mut self, actor: ActorKey) {
        if !self.happened.is_heard() {
            return;
        }
        let Some(runtime) = self.actors.get_mut(&actor) else {
            return;
        };
        let Some(life) = &runtime.life else { return };
        runtime.unsaid.push_back(Unsaid {
            life: life.no,
            aid: life.aid,
            pid: life.pid,
            clean: life.clean,
        });
        if life.reaped {
            let (pid, cause) = (life.pid, runtime.last_end.clone());
            self.say_ends(actor, Some(pid), cause);
        }
    }

    /// The cause of the end of `pid` is known: tells it, and those before it, whose causes do not come any
    /// more. Without a pid, all of them.
    pub(super) fn say_ends(
        &mut self,
        actor: ActorKey,
        pid: Option<u32>,
        mut cause: Option<String>,
    ) {
        let Some(runtime) = self.actors.get_mut(&actor) else {
            return;
        };
        let upto = match pid {
            Some(pid) => runtime.unsaid.iter().position(|end| end.pid == pid),
            None => runtime.unsaid.len().checked_sub(1),
        };
        let Some(upto) = upto else { return };
        let named = (runtime.name, runtime.gid);
        let ends: VecDeque<_> = runtime.unsaid.drain(..=upto).collect();
        for end in ends {
            let is_it = pid == Some(end.pid);
            let cause = cause.take_if(|_| is_it);
            self.life_is_over(named, (end.life, end.aid), end.clean, cause);
        }
    }

    /// A member has failed and its group restarts.
    pub(super) fn restart_begins(&mut self, gid: Gid, failed: ActorKey, badness: u32) {
        let name = self.core.view(failed).map(|view| *view.name);
        if let Some(failed) = name.filter(|_| self.happened.is_heard()) {
            let restart = Restart {
                failed,
                badness,
                noticed: Instant::now(),
                begun: None,
                booked: self.happened.booking,
            };
            let before = self.happened.restarts.insert(gid, restart);
            // It fails again before that was passed on.
            if let Some(before) = before {
                self.happens(|| before.event(gid));
            }
        }
    }

    /// The site restarts: what groups had still to begin begins with it.
    pub(super) fn site_restart_begins(&mut self) {
        let restarts = std::mem::take(&mut self.happened.restarts);
        // One that is complete and not passed on yet has been.
        let complete = restarts.into_iter().filter(|(_, r)| r.begun.is_some());
        for (gid, restart) in complete {
            self.happens(|| restart.event(gid));
        }
    }

    /// C_INIT and PMM are in their initial state.
    pub(crate) fn site_restarts(&mut self) {
        self.step(Event::BootActorsReset);
        self.happens(|| SiteEvent::SiteRestarted);
    }

    /// As it was measured where a group has restarted in place.
    pub(super) fn restart_took(&mut self, gid: Gid, latency: Duration) {
        if let Some(restart) = self.happened.restarts.get_mut(&gid) {
            restart.booked = false;
            restart.begun = Some(restart.noticed + latency);
        }
    }
}
