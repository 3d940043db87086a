//! Running actors: `arun`, `hrfexec`, and what the bank remembers at boot (SPEC H2 to H5).
//!
//! A name that is new is loaded once; a name that is registered and not alive begins again from
//! its image. A load that has been asked for is never taken back: `Loaded` or `LoadFailed` comes,
//! and only then is its request answered and its actor forgotten, if it is not wanted any more.

use refrain_abi::{ActorName, Gid, LifeNo};

use crate::actor::{Actor, Phase};
use crate::controller::refuse;
use crate::group::GroupPhase;
use crate::life::Cause;
use crate::{ActorKey, Controller, Effect, Kind, Policy, Refusal, Requester, Ticket};

/// What a request to run a name comes to.
enum Plan {
    Load {
        gid: Option<Gid>,
        kind: Kind,
    },
    BeginAgain(ActorKey),
    /// Take over a load whose own asker is gone.
    Ride(ActorKey),
}

impl Controller {
    pub(crate) fn run(
        &mut self,
        ticket: Ticket,
        name: ActorName,
        gid: Option<Gid>,
        (by, policy): (Requester, Option<Policy>),
        out: &mut Vec<Effect>,
    ) {
        let policy = policy.filter(|_| by == Requester::Owner);
        match self.plan_run(&name, gid, by) {
            Err(why) => refuse(ticket, why, out),
            Ok(Plan::BeginAgain(key)) => {
                let actor = self.actors.get_mut(&key);
                let gid = actor.and_then(|actor| {
                    actor.ticket = Some(ticket);
                    actor.gid
                });
                self.run_wakes_group(gid, policy, out);
                // Not begun with the others of a group that had waited.
                let left = self.actors.get_mut(&key).and_then(|a| a.ticket.take());
                if let Some(ticket) = left {
                    self.begin(key, Cause::Run(ticket), out);
                }
            }
            Ok(Plan::Ride(key)) => {
                if let Some(actor) = self.actors.get_mut(&key) {
                    actor.rider = Some(ticket);
                }
                self.run_wakes_group(gid, policy, out);
            }
            Ok(Plan::Load { gid, kind }) => {
                let mut new = Actor::new(name, gid, kind, Phase::Loading { orphaned: false });
                new.ticket = Some(ticket);
                let actor = self.register(new);
                self.site.load_starts(gid);
                if let Some(group) = gid.and_then(|gid| self.groups.get_mut(&gid)) {
                    group.loads += 1;
                    group.blocked = false; // noted: it has a member more
                }
                out.push(Effect::Load {
                    actor,
                    ticket,
                    name,
                    gid,
                    kind,
                });
                self.run_wakes_group(gid, policy, out);
            }
        }
    }

    fn plan_run(&self, name: &ActorName, gid: Option<Gid>, by: Requester) -> Result<Plan, Refusal> {
        let (gid, kind) = match by {
            Requester::Life { actor, life } => {
                (Some(self.asker_group(actor, life)?), Kind::Indirect)
            }
            Requester::Owner if gid.is_some() => (gid, Kind::Direct),
            Requester::Owner => (None, Kind::Ordinary),
        };
        if !self.site.takes(kind) {
            return Err(Refusal::SiteStopping);
        }
        if let Some(&key) = self.names.get(name) {
            return self.plan_registered(key, gid);
        }
        self.check_group_takes(gid)?;
        if self.actors.len() >= self.limits.max_actors as usize {
            return Err(Refusal::TooManyActors {
                limit: self.limits.max_actors,
            });
        }
        let is_new = gid.is_some_and(|gid| !self.groups.contains_key(&gid));
        if is_new && self.groups.len() >= self.limits.max_groups as usize {
            return Err(Refusal::TooManyGroups {
                limit: self.limits.max_groups,
            });
        }
        Ok(Plan::Load { gid, kind })
    }

    fn plan_registered(&self, key: ActorKey, gid: Option<Gid>) -> Result<Plan, Refusal> {
        let actor = &self.actors[&key];
        if actor.gid != gid {
            return Err(Refusal::NameTaken {
                name: actor.name,
                gid: actor.gid,
            });
        }
        self.check_group_takes(gid)?;
        match actor.phase {
            Phase::Loading { orphaned: true } if gid.is_some() && actor.rider.is_none() => {
                Ok(Plan::Ride(key))
            }
            Phase::Waiting | Phase::Clean | Phase::Failed if actor.ticket.is_none() => {
                Ok(Plan::BeginAgain(key))
            }
            _ => Err(Refusal::Alive {
                name: actor.name,
                aid: actor.aid,
            }),
        }
    }

    fn check_group_takes(&self, gid: Option<Gid>) -> Result<(), Refusal> {
        match gid.and_then(|gid| Some((gid, self.groups.get(&gid)?))) {
            Some((gid, group)) => match group.phase {
                GroupPhase::Steady | GroupPhase::Delayed | GroupPhase::Stopped(_) => Ok(()),
                _ => Err(Refusal::GroupStopping { gid }),
            },
            None => Ok(()),
        }
    }

    /// The group that a life commands in.
    pub(crate) fn asker_group(&self, actor: ActorKey, life: LifeNo) -> Result<Gid, Refusal> {
        let asker = self.actors.get(&actor).filter(|a| a.may_ask(life));
        asker
            .ok_or(Refusal::StaleLife)?
            .gid
            .ok_or(Refusal::NotRestartable)
    }

    /// The image is there. The life begins, unless the world has changed meanwhile.
    pub(crate) fn loaded(&mut self, key: ActorKey, out: &mut Vec<Effect>) {
        let Some((gid, orphaned)) = self.end_load(key) else {
            return;
        };
        let Some(actor) = self.actors.get_mut(&key) else {
            return;
        };
        actor.phase = Phase::Waiting;
        self.changes.actor(key, actor);
        let group = gid.and_then(|gid| self.groups.get(&gid));
        // Doomed: forgotten with its group or the site, where its request is answered. Calm: nothing
        // forbids a life now; else a direct actor keeps its request for the restart that goes on.
        let is_doomed = self.site.is_halting() || group.is_some_and(|group| group.is_killing());
        let is_given_up = group.is_some_and(|group| group.is_given_up());
        let is_calm =
            group.is_none_or(|g| g.phase == GroupPhase::Steady) && self.site.takes(actor.kind);
        if orphaned && gid.is_none() && !is_doomed {
            self.forget(key, out);
        } else if !is_doomed {
            if orphaned {
                if let Some(ticket) = actor.ticket.take() {
                    refuse(ticket, Refusal::Cancelled, out);
                }
                actor.ticket = actor.rider.take();
            }
            if is_given_up && let Some(ticket) = actor.ticket.take() {
                refuse(ticket, Refusal::Cancelled, out);
            }
            // Without a request and not orphaned: the controller was recalled during the load.
            if is_calm && (actor.ticket.is_some() || !orphaned) {
                let cause = actor.ticket.take().map_or(Cause::Restart, Cause::Run);
                self.begin(key, cause, out);
            }
        }
        self.settle(gid, out);
    }

    /// The image cannot be had: the actor never was. The daemon has answered the request.
    pub(crate) fn load_failed(&mut self, key: ActorKey, out: &mut Vec<Effect>) {
        let Some((gid, _)) = self.end_load(key) else {
            return;
        };
        if let Some(actor) = self.actors.get_mut(&key) {
            actor.phase = Phase::Failed;
            actor.ticket = None;
        }
        self.deregister(key, out);
        self.settle(gid, out);
    }

    /// Takes an outstanding load out of the counts; the actor's group, and whether it is orphaned.
    fn end_load(&mut self, key: ActorKey) -> Option<(Option<Gid>, bool)> {
        let actor = self.actors.get(&key)?;
        let Phase::Loading { orphaned } = actor.phase else {
            return None;
        };
        let gid = actor.gid;
        self.site.load_ends(gid);
        if let Some(group) = gid.and_then(|gid| self.groups.get_mut(&gid)) {
            group.loads -= 1;
        }
        Some((gid, orphaned))
    }

    /// A restart takes away whoever asked for this load, except for a direct actor's: that one
    /// begins with or after the restart.
    pub(crate) fn orphan_load(&mut self, key: ActorKey, out: &mut Vec<Effect>) {
        let Some(actor) = self.actors.get_mut(&key) else {
            return;
        };
        if let Phase::Loading { orphaned } = &mut actor.phase
            && actor.kind != Kind::Direct
        {
            *orphaned = true;
            self.changes.actor(key, actor);
            if let Some(rider) = actor.rider.take() {
                refuse(rider, Refusal::Cancelled, out);
            }
        }
    }

    /// A registration that the bank held. Limits do not apply: the bank had room for it.
    pub(crate) fn restore(
        &mut self,
        name: ActorName,
        gid: Gid,
        (kind, policy): (Kind, Option<Policy>),
        last_life: Option<LifeNo>,
        restarts: u32,
        clean: bool,
    ) {
        let is_ours = kind != Kind::Ordinary && !self.names.contains_key(&name);
        if !is_ours || self.site.is_halting() {
            return;
        }
        let phase = if clean && last_life.is_some() {
            Phase::Clean
        } else {
            Phase::Waiting
        };
        let mut actor = Actor::new(name, Some(gid), kind, phase);
        actor.life = last_life;
        actor.restarts = restarts;
        self.register(actor);
        if let Some(group) = self.groups.get_mut(&gid) {
            group.policy = policy.unwrap_or(group.policy);
        }
    }
}
