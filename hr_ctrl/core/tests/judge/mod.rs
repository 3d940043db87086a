//! A judge that watches events and effects from outside and knows only what must always hold
//! (`docs/restart-states.md`, "What holds always"). It panics at the first breach.

use std::collections::{BTreeMap, BTreeSet};

use hr_ctrl_core::{
    ActorKey, ActorState, Controller, Effect, Event, GroupState, Kind, Target, Ticket,
};
use refrain_abi::{ActorName, Aid, Gid, LifeNo};

/// What the judge has seen of one actor.
#[derive(Clone, Debug)]
struct Seen {
    name: ActorName,
    gid: Option<Gid>,
    kind: Kind,
    loading: Option<Ticket>,
    life: Option<LifeNo>,
    aid: Option<Aid>,
    /// From `Begin` to `Gone`.
    alive: bool,
    /// `Stop` was ordered, or the life has ended.
    stopped: bool,
    ended: bool,
    /// The last life terminated cleanly and nothing began since.
    clean: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Judge {
    actors: BTreeMap<ActorKey, Seen>,
    open: BTreeSet<Ticket>,
    /// Those whose asker has lost the controller; they are never answered.
    lost: BTreeSet<Ticket>,
    asked: BTreeSet<Ticket>,
    last_aid: Aid0,
    last_key: Option<ActorKey>,
    killed: BTreeSet<Gid>,
    /// Direct members of groups that failed: at rest, each has had a life after this one.
    must_live: BTreeMap<ActorKey, Option<LifeNo>>,
    /// Registrations were restored and the site restart that follows has not come yet.
    restoring: bool,
    halting: bool,
    /// The boot actors are being reset.
    resetting: bool,
    /// Groups that wait for a delay, and those that were given up: nothing of them begins.
    delayed: BTreeMap<Gid, u64>,
    given_up: BTreeSet<Gid>,
    /// Groups whose lives are stopping for a restart.
    restarting: BTreeSet<Gid>,
}

/// The largest aid so far; 0 is none.
type Aid0 = u32;

impl Judge {
    /// A judge of a controller that was made with this first aid.
    pub fn new(first_aid: Aid) -> Self {
        Self {
            last_aid: first_aid.0.saturating_sub(1),
            ..Self::default()
        }
    }

    /// Takes note of one step: the event, its effects, and the controller after it.
    pub fn observe(&mut self, event: &Event, effects: &[Effect], controller: &Controller) {
        let scope = self.scope(event);
        self.note_event(event, effects);
        self.check_scope(event, effects, scope);
        for effect in effects {
            self.note_effect(effect);
        }
        self.note_outcome(event, effects);
        self.check_views(controller);
    }

    /// The group that an event is about; `None`: it is about no group, or about the site.
    fn scope(&self, event: &Event) -> Option<Gid> {
        let of = |key: &ActorKey| self.actors.get(key).and_then(|seen| seen.gid);
        match event {
            Event::Run { gid, by, .. } => match by {
                hr_ctrl_core::Requester::Life { actor, .. } => of(actor),
                hr_ctrl_core::Requester::Owner => *gid,
            },
            Event::Loaded { actor }
            | Event::LoadFailed { actor }
            | Event::BeginFailed { actor, .. }
            | Event::Ended { actor, .. }
            | Event::Gone { actor, .. } => of(actor),
            Event::DelayOver { gid, .. }
            | Event::Kill {
                target: Target::Group(gid),
                ..
            } => Some(*gid),
            Event::Kill {
                target: Target::Aid(aid),
                ..
            } => self
                .actors
                .values()
                .find(|seen| seen.aid == Some(*aid))
                .and_then(|s| s.gid),
            _ => None,
        }
    }

    fn note_event(&mut self, event: &Event, effects: &[Effect]) {
        match event {
            Event::Run { ticket, .. }
            | Event::Kill { ticket, .. }
            | Event::SiteRestart {
                ticket: Some(ticket),
            } => {
                assert!(self.asked.insert(*ticket), "the test uses {ticket:?} twice");
                self.open.insert(*ticket);
            }
            _ => {}
        }
        match event {
            Event::Loaded { actor } => {
                if let Some(seen) = self.actors.get_mut(actor) {
                    seen.loading = None;
                }
            }
            Event::LoadFailed { actor } => {
                let failed = self
                    .actors
                    .get_mut(actor)
                    .and_then(|seen| seen.loading.take());
                if let Some(ticket) = failed {
                    self.actors.remove(actor);
                    self.must_live.remove(actor);
                    // The daemon answers it; the core must not have.
                    let waits = self.open.remove(&ticket) || self.lost.contains(&ticket);
                    assert!(waits, "{ticket:?} was answered before");
                }
            }
            Event::Ended {
                actor, life, clean, ..
            } => self.note_end(*actor, *life, *clean),
            Event::Gone { actor, life } => {
                if let Some(seen) = self.current(*actor, *life).filter(|seen| seen.ended) {
                    (seen.alive, seen.ended, seen.aid) = (false, false, None);
                }
            }
            Event::BeginFailed { actor, life } => {
                if let Some(seen) = self.current(*actor, *life).filter(|seen| !seen.ended) {
                    (seen.alive, seen.clean, seen.aid) = (false, false, None);
                }
            }
            Event::SiteRestart { .. } => {
                (self.restoring, self.restarting) = Default::default();
                (self.delayed, self.given_up) = Default::default();
            }
            Event::BootActorsReset if std::mem::take(&mut self.resetting) => {
                self.members_wait(|seen| seen.gid.is_some());
            }
            Event::Halt { .. } => self.halting = true,
            Event::DelayOver { gid, until_ms } if self.delayed.get(gid) == Some(until_ms) => {
                self.delayed.remove(gid);
            }
            Event::Run { gid: Some(gid), .. } => {
                let taken = !effects.iter().any(|e| matches!(e, Effect::Refused { .. }));
                if taken {
                    self.delayed.remove(gid);
                    self.given_up.remove(gid);
                }
            }
            Event::Restore { .. } => assert!(effects.is_empty()),
            _ => {}
        }
        for gid in self.restarting.clone() {
            let is_left = |seen: &&Seen| seen.gid == Some(gid) && seen.alive;
            if !self.actors.values().any(|seen| is_left(&seen)) {
                self.restarting.remove(&gid);
                self.members_wait(|seen| seen.gid == Some(gid));
            }
        }
    }

    /// A restart: from now on it does not count how the last lives of these had ended.
    fn members_wait(&mut self, which: impl Fn(&Seen) -> bool) {
        for seen in self.actors.values_mut().filter(|seen| which(seen)) {
            seen.clean = false;
        }
    }

    fn current(&mut self, key: ActorKey, life: LifeNo) -> Option<&mut Seen> {
        self.actors
            .get_mut(&key)
            .filter(|seen| seen.alive && seen.life == Some(life))
    }

    fn note_end(&mut self, key: ActorKey, life: LifeNo, clean: bool) {
        let Some(seen) = self.current(key, life).filter(|seen| !seen.ended) else {
            return;
        };
        seen.ended = true;
        seen.clean = clean && !seen.stopped;
        let failed = !clean && !seen.stopped;
        seen.stopped = true;
        if let (true, Some(gid)) = (failed, seen.gid) {
            self.expect_new_lives(|seen| seen.gid == Some(gid));
        }
    }

    /// From now on, at rest, each direct actor of these must have lived again.
    fn expect_new_lives(&mut self, of: impl Fn(&Seen) -> bool) {
        let direct = self
            .actors
            .iter()
            .filter(|(_, s)| s.kind == Kind::Direct && of(s));
        self.must_live
            .extend(direct.map(|(&key, seen)| (key, seen.life)));
    }

    /// Whatever concerns one group leaves the others alone, unless the whole site is concerned.
    fn check_scope(&self, event: &Event, effects: &[Effect], scope: Option<Gid>) {
        let is_site_wide = |effect: &Effect| {
            let e = effect;
            matches!(e, Effect::BadnessPassed { .. } | Effect::Halted { .. })
        };
        let about_site = matches!(
            event,
            Event::SiteRestart { .. }
                | Event::BootActorsReset
                | Event::Halt { .. }
                | Event::Adopted
        );
        if about_site || effects.iter().any(is_site_wide) {
            return;
        }
        for effect in effects {
            let (Effect::Begin { actor, .. }
            | Effect::Stop { actor, .. }
            | Effect::Forget { actor }) = effect
            else {
                continue;
            };
            let seen = &self.actors[actor];
            assert_eq!(
                seen.gid, scope,
                "{event:?} reached {} of another group",
                seen.name
            );
        }
    }

    fn note_effect(&mut self, effect: &Effect) {
        match effect {
            Effect::Load {
                actor,
                ticket,
                name,
                gid,
                kind,
            } => {
                assert!(Some(*actor) > self.last_key, "{actor:?} is not new");
                self.last_key = Some(*actor);
                let taken = self.actors.values().any(|seen| seen.name == *name);
                assert!(!taken, "{name} is registered twice");
                let mut seen = Seen::registered(*name, *gid, *kind);
                seen.loading = Some(*ticket);
                self.actors.insert(*actor, seen);
            }
            Effect::Begin {
                actor, life, aid, ..
            } => self.note_begin(*actor, *life, *aid),
            Effect::Stop { actor, life, .. } => {
                let seen = self
                    .current(*actor, *life)
                    .expect("a life is stopped that is alive");
                assert!(!seen.ended, "{} is stopped after its end", seen.name);
                seen.stopped = true;
            }
            Effect::Forget { actor } => {
                let seen = self.actors.remove(actor).expect("forgotten once");
                assert!(
                    !seen.alive && seen.loading.is_none(),
                    "{} is still in use",
                    seen.name
                );
                self.must_live.remove(actor);
            }
            Effect::GroupTerminated { gid } => {
                let left = self.actors.values().find(|seen| seen.gid == Some(*gid));
                assert!(
                    left.is_none(),
                    "group {gid} has terminated but has {left:?}"
                );
                self.killed.remove(gid);
                self.delayed.remove(gid);
                self.given_up.remove(gid);
            }
            Effect::Delay { gid, until_ms, .. } => {
                let left = self.actors.values().any(|s| s.gid == Some(*gid) && s.alive);
                assert!(!left, "group {gid} waits with a life");
                self.delayed.insert(*gid, *until_ms);
            }
            Effect::GaveUp { gid, .. } => {
                self.given_up.insert(*gid);
                let actors = &self.actors;
                self.must_live
                    .retain(|key, _| actors.get(key).is_none_or(|s| s.gid != Some(*gid)));
            }
            Effect::Started { ticket, .. }
            | Effect::Done { ticket }
            | Effect::Refused { ticket, .. } => {
                assert!(
                    self.open.remove(ticket),
                    "{ticket:?} is answered twice or was not asked"
                );
            }
            Effect::Blocked { gid, names } => {
                let members = || self.actors.values().filter(|seen| seen.gid == Some(*gid));
                assert!(members().all(|seen| !seen.alive && seen.loading.is_none()));
                let left: Vec<_> = members().filter(|s| !s.clean).map(|s| s.name).collect();
                assert_eq!((names, left.is_empty()), (&left, false));
            }
            Effect::GroupRestarts { gid, .. } => {
                assert!(!self.killed.contains(gid));
                self.restarting.insert(*gid);
            }
            Effect::BadnessPassed { .. } => {
                self.restarting.clear();
                self.delayed.clear();
                self.given_up.clear();
                self.expect_new_lives(|seen| seen.gid.is_some());
            }
            Effect::ResetBootActors | Effect::Halted { .. } => {
                assert!(
                    self.actors.values().all(|seen| !seen.alive),
                    "a life is left"
                );
                self.resetting = *effect == Effect::ResetBootActors;
            }
        }
    }

    fn note_begin(&mut self, key: ActorKey, life: LifeNo, aid: Aid) {
        assert!(aid.0 > self.last_aid, "aid {aid} was given out before");
        self.last_aid = aid.0;
        let seen = self
            .actors
            .get_mut(&key)
            .expect("a life of a registered actor");
        assert!(!seen.alive, "{}: two lives at a time", seen.name);
        assert!(
            seen.loading.is_none(),
            "{} begins without an image",
            seen.name
        );
        let next = seen.life.map_or(LifeNo(0), LifeNo::next);
        assert_eq!(life, next, "{}: lives are counted", seen.name);
        let killed = seen.gid.is_some_and(|gid| self.killed.contains(&gid));
        assert!(!killed, "{} was killed and begins again", seen.name);
        let waits = |gid: Gid| self.delayed.contains_key(&gid) || self.given_up.contains(&gid);
        assert!(
            !seen.gid.is_some_and(waits),
            "{} waits and begins",
            seen.name
        );
        (seen.life, seen.aid, seen.alive) = (Some(life), Some(aid), true);
        (seen.ended, seen.stopped, seen.clean) = (false, false, false);
    }

    /// After the effects: a kill that was taken, a site restart that was.
    fn note_outcome(&mut self, event: &Event, effects: &[Effect]) {
        let refused = effects
            .iter()
            .any(|effect| matches!(effect, Effect::Refused { .. }));
        match event {
            Event::Kill {
                target: Target::Group(gid),
                ticket,
                ..
            } => {
                let is_this =
                    |e: &Effect| matches!(e, Effect::Refused { ticket: t, .. } if t == ticket);
                let over = effects.contains(&Effect::GroupTerminated { gid: *gid });
                if !over && !effects.iter().any(is_this) {
                    self.restarting.remove(gid);
                    self.killed.insert(*gid);
                }
            }
            Event::SiteRestart { .. } if !refused => {
                self.expect_new_lives(|seen| seen.gid.is_some());
            }
            _ => {}
        }
    }

    fn check_views(&self, controller: &Controller) {
        assert_eq!(controller.actors().count(), self.actors.len());
        let mut groups: BTreeMap<Gid, Vec<&Seen>> = BTreeMap::new();
        for (&key, seen) in &self.actors {
            let view = controller.view(key).expect("registered");
            assert_eq!(view.state.is_alive(), seen.alive, "{}", seen.name);
            assert_eq!(view.state == ActorState::Loading, seen.loading.is_some());
            assert_eq!(
                (view.life, view.aid),
                (seen.life, seen.aid),
                "{}",
                seen.name
            );
            assert_eq!(controller.find_name(&seen.name), Some(key));
            if let Some(aid) = seen.aid {
                assert_eq!(controller.find_aid(aid), Some(key));
                assert_eq!(controller.group_of(aid), Ok(seen.gid));
            }
            if let Some(gid) = seen.gid {
                groups.entry(gid).or_default().push(seen);
            }
        }
        for (gid, members) in groups {
            let rests = |s: &&Seen| s.clean && !s.alive && s.loading.is_none();
            let over = members.iter().all(rests);
            assert!(
                self.restoring || self.halting || !over,
                "group {gid} has terminated and is still there"
            );
        }
    }

    /// Nothing is under way any more: everything that was promised has come about.
    pub fn at_rest(&self, controller: &Controller) {
        assert!(self.open.is_empty(), "never answered: {:?}", self.open);
        assert!(!controller.is_restarting());
        for group in controller.groups() {
            use GroupState::{Blocked, Steady, Stopped};
            let rests = matches!(group.state, Steady | Blocked | Stopped);
            assert!(rests, "{group:?}");
            assert_eq!(group.alive == 0, group.state != Steady, "{group:?}");
        }
        for actor in controller.actors() {
            use ActorState::{Ending, Loading, Stopping};
            assert!(
                !matches!(actor.state, Ending | Loading | Stopping),
                "{actor:?}"
            );
        }
        for (key, before) in &self.must_live {
            let view = controller
                .view(*key)
                .expect("only what is registered must live");
            assert!(
                view.life > *before,
                "{} was not restarted: {view:?}",
                view.name
            );
        }
    }

    /// The controller has ended and the next one goes on from its memos: nobody is answered who
    /// has asked before.
    pub fn requests_are_lost(&mut self) {
        self.lost.append(&mut self.open);
    }

    /// A registration was restored into a fresh controller.
    pub fn restored(&mut self, event: &Event, controller: &Controller) {
        let Event::Restore {
            name,
            gid,
            kind,
            last_life,
            clean,
            ..
        } = event
        else {
            return;
        };
        let key = controller.find_name(name).expect("restored");
        let mut seen = Seen::registered(*name, Some(*gid), *kind);
        (seen.life, seen.clean) = (*last_life, *clean && last_life.is_some());
        self.actors.insert(key, seen);
        self.last_key = Some(key);
        self.restoring = true;
    }
}

impl Seen {
    fn registered(name: ActorName, gid: Option<Gid>, kind: Kind) -> Self {
        let (loading, life, aid) = (None, None, None);
        let (alive, stopped, ended, clean) = (false, false, false, false);
        Self {
            name,
            gid,
            kind,
            loading,
            life,
            aid,
            alive,
            stopped,
            ended,
            clean,
        }
    }
}
