//! The controller: its tables, the one door that events come in by, and what can be asked of it.
//!
//! The daemon's HR_CTRL owns the only [`Controller`] of a site. Each event is taken to the file
//! that is named for its concept; here nothing is decided, and nowhere in this crate is anything
//! waited for: what takes time is an effect now and an event later.

use std::collections::{BTreeMap, HashMap};

use refrain_abi::{ActorName, Aid, Gid};

use crate::actor::Actor;
use crate::changes::Changes;
use crate::group::{Group, GroupPhase};
use crate::site::Site;
use crate::{ActorKey, ActorState, ActorView, Effect, Event, GroupView, Limits, Refusal, Ticket};

/// The state of a site and the decisions about it. Source: SPEC part I.
#[derive(Clone, Debug)]
pub struct Controller {
    pub(crate) limits: Limits,
    /// Ordered by key, that is by registration.
    pub(crate) actors: BTreeMap<ActorKey, Actor>,
    pub(crate) names: HashMap<ActorName, ActorKey>,
    /// The lives that are not gone.
    pub(crate) aids: HashMap<Aid, ActorKey>,
    pub(crate) groups: BTreeMap<Gid, Group>,
    pub(crate) site: Site,
    pub(crate) next_aid: Aid,
    pub(crate) next_key: ActorKey,
    pub(crate) changes: Changes,
}

impl Controller {
    /// A site without actors. Aids are given out from `first_aid` upward (0 counts as 1); it is
    /// above every aid that an earlier controller of the same bank gave out (SPEC H6).
    #[must_use]
    pub fn new(limits: Limits, first_aid: Aid) -> Self {
        Self {
            limits,
            actors: BTreeMap::new(),
            names: HashMap::new(),
            aids: HashMap::new(),
            groups: BTreeMap::new(),
            site: Site::default(),
            next_aid: first_aid.max(Aid(1)),
            next_key: ActorKey(1),
            changes: Changes::default(),
        }
    }

    /// Other limits from now on. What is registered already stays, even above them.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// The limits of now.
    #[must_use]
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// Decides on one event. Takes any event in any state: what is stale, unknown or out of
    /// place is ignored, and a request always gets its answer.
    #[must_use = "effects are to be carried out"]
    pub fn step(&mut self, event: Event) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.step_into(event, &mut effects);
        effects
    }

    /// [`Controller::step`] into a buffer of the caller's: effects are appended to `out`.
    pub fn step_into(&mut self, event: Event, out: &mut Vec<Effect>) {
        match event {
            Event::Run {
                ticket,
                name,
                gid,
                by,
                policy,
            } => self.run(ticket, name, gid, (by, policy), out),
            Event::Loaded { actor } => self.loaded(actor, out),
            Event::LoadFailed { actor } => self.load_failed(actor, out),
            Event::BeginFailed { actor, life } => self.begin_failed(actor, life, out),
            Event::Ended {
                actor,
                life,
                clean,
                exit_code,
                at_ms,
            } => {
                self.ended(actor, life, clean, (at_ms, exit_code), out);
            }
            Event::Gone { actor, life } => self.gone(actor, life, out),
            Event::DelayOver { gid, until_ms } => self.delay_over(gid, until_ms, out),
            Event::Kill {
                ticket,
                target,
                tidy,
                by,
            } => self.kill(ticket, target, tidy, by, out),
            Event::SiteRestart { ticket } => self.site_restart(ticket, out),
            Event::BootActorsReset => self.boot_actors_reset(out),
            Event::Halt { level } => self.halt(level, out),
            Event::Adopted => self.adopted(out),
            Event::Restore {
                name,
                gid,
                kind,
                last_life,
                restarts,
                clean,
                policy,
            } => {
                self.restore(name, gid, (kind, policy), last_life, restarts, clean);
            }
        }
    }

    /// One actor.
    #[must_use]
    pub fn view(&self, key: ActorKey) -> Option<ActorView<'_>> {
        self.actors.get(&key).map(|actor| self.show(key, actor))
    }

    /// Every registered actor, in the order of registration.
    pub fn actors(&self) -> impl Iterator<Item = ActorView<'_>> {
        self.actors
            .iter()
            .map(|(&key, actor)| self.show(key, actor))
    }

    fn show<'a>(&'a self, key: ActorKey, actor: &'a Actor) -> ActorView<'a> {
        let mut view = actor.view(key);
        let group = actor.gid.and_then(|gid| self.groups.get(&gid));
        let waits = matches!(view.state, ActorState::Waiting | ActorState::Failed);
        if waits && group.is_some_and(|group| matches!(group.phase, GroupPhase::Stopped(_))) {
            view.state = ActorState::Stopped;
        }
        view
    }

    /// The actor that has a name.
    #[must_use]
    pub fn find_name(&self, name: &ActorName) -> Option<ActorKey> {
        self.names.get(name).copied()
    }

    /// The actor whose life has an aid, until that life is gone.
    #[must_use]
    pub fn find_aid(&self, aid: Aid) -> Option<ActorKey> {
        self.aids.get(&aid).copied()
    }

    /// The group of a life; `None` for an ordinary actor. Source: SPEC H14.
    ///
    /// # Errors
    /// [`Refusal::NoSuchAid`] when no life has the aid now.
    pub fn group_of(&self, aid: Aid) -> Result<Option<Gid>, Refusal> {
        let key = self.find_aid(aid).ok_or_else(|| self.no_such_aid(aid))?;
        Ok(self.actors.get(&key).and_then(|actor| actor.gid))
    }

    /// The members of a group, in the order of registration; none when there is no such group.
    pub fn members(&self, gid: Gid) -> impl Iterator<Item = ActorView<'_>> {
        let keys = self.groups.get(&gid).map(|group| group.members.as_slice());
        keys.unwrap_or_default()
            .iter()
            .filter_map(|&key| self.view(key))
    }

    /// Every group, by gid.
    pub fn groups(&self) -> impl Iterator<Item = GroupView> {
        self.groups.iter().map(|(&gid, group)| group.view(gid))
    }

    /// One group.
    #[must_use]
    pub fn group(&self, gid: Gid) -> Option<GroupView> {
        self.groups.get(&gid).map(|group| group.view(gid))
    }

    /// The aid that the next life gets; whatever is below was given out (SPEC H6).
    #[must_use]
    pub fn next_aid(&self) -> Aid {
        self.next_aid
    }

    /// Whether no group and no ordinary actor is left, and no site restart goes on that might
    /// bring some (`c_init --once`).
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.actors.is_empty() && self.groups.is_empty() && !self.is_restarting()
    }

    /// Whether a site restart is going on (SPEC H25).
    #[must_use]
    pub fn is_restarting(&self) -> bool {
        self.site.is_restarting()
    }

    /// Puts an actor into the tables, behind everything that was registered before it.
    pub(crate) fn register(&mut self, mut actor: Actor) -> ActorKey {
        let key = self.next_key;
        self.next_key = ActorKey(key.0 + 1);
        self.changes.site();
        self.changes.actor(key, &mut actor);
        self.names.insert(actor.name, key);
        if let Some(gid) = actor.gid {
            let group = self.groups.entry(gid).or_default();
            group.members.push(key);
            self.changes.group(gid, group);
        }
        self.actors.insert(key, actor);
        key
    }

    /// Takes an actor without a life out of the tables; its group stays, even when empty.
    /// Whoever still waits for it to start is refused, whoever killed it is answered.
    pub(crate) fn deregister(&mut self, key: ActorKey, out: &mut Vec<Effect>) {
        let Some(mut actor) = self.actors.remove(&key) else {
            return;
        };
        self.changes.actor(key, &mut actor);
        debug_assert!(
            !actor.is_alive() && !actor.is_loading(),
            "{key:?} is still in use"
        );
        self.names.remove(&actor.name);
        if let Some(group) = actor.gid.and_then(|gid| self.groups.get_mut(&gid)) {
            group.members.retain(|&member| member != key);
        }
        for ticket in [actor.ticket, actor.rider].into_iter().flatten() {
            refuse(ticket, Refusal::Cancelled, out);
        }
        out.extend(
            actor
                .kill_tickets
                .into_iter()
                .map(|ticket| Effect::Done { ticket }),
        );
    }

    /// Deregisters an actor and tells the daemon to drop what it holds of it.
    pub(crate) fn forget(&mut self, key: ActorKey, out: &mut Vec<Effect>) {
        out.push(Effect::Forget { actor: key });
        self.deregister(key, out);
    }

    /// The refusal for an aid that no life has.
    pub(crate) fn no_such_aid(&self, aid: Aid) -> Refusal {
        Refusal::NoSuchAid {
            aid,
            stale: aid.0 != 0 && aid < self.next_aid,
        }
    }
}

/// Answers a request with a refusal.
pub(crate) fn refuse(ticket: Ticket, why: Refusal, out: &mut Vec<Effect>) {
    out.push(Effect::Refused { ticket, why });
}
