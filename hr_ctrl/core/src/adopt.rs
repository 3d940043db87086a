//! Adoption: a controller that goes on from the memos of one that has ended (SPEC H31).
//!
//! The memos are those of the state after a whole step; of the effects of that step, any number
//! from the last one backwards may be lost. First the daemon recalls the controller, then it
//! reports, in any order, what has happened to lives and loads meanwhile, with ordinary events.
//! Then [`crate::Event::Adopted`] makes good what may be lost. What is asked for twice thereby does
//! no harm: a life that is told to stop again stops once.
//!
//! Answers are not made good: whoever waited for one has lost the connection it would have come by.

use std::collections::BTreeMap;

use refrain_abi::{ActorName, Gid};

use crate::actor::{Actor, Phase};
use crate::controller::Controller;
use crate::group::{Group, GroupPhase};
use crate::memo::{ActorMemo, GroupMemo, PhaseMemo, SiteMemo};
use crate::{ActorKey, Effect, Kind, Limits};

impl Actor {
    fn recalled(name: ActorName, memo: &ActorMemo) -> Self {
        let phase = match memo.phase {
            // An indirect actor was asked for by a life, which asks again; a direct one by the
            // owner, who is not there to do so and gets what he asked for.
            Phase::Loading { .. } if memo.kind == Kind::Indirect => {
                Phase::Loading { orphaned: true }
            }
            phase => phase,
        };
        let mut actor = Self::new(name, memo.gid, memo.kind, phase);
        (actor.life, actor.aid, actor.restarts) = (memo.life, memo.aid, memo.restarts);
        actor
    }
}

impl Group {
    fn recalled(memo: &GroupMemo) -> Self {
        let phase = match memo.phase {
            PhaseMemo::Steady => GroupPhase::Steady,
            PhaseMemo::Restarting => GroupPhase::Restarting,
            PhaseMemo::Delayed => GroupPhase::Delayed,
            PhaseMemo::GivingUp(give_up) => GroupPhase::GivingUp(give_up),
            PhaseMemo::Stopped(give_up) => GroupPhase::Stopped(give_up),
            PhaseMemo::Killing => GroupPhase::Killing(Vec::new()),
        };
        Self {
            phase,
            blocked: memo.blocked,
            policy: memo.policy,
            attempts: memo.attempts,
            failures: memo.failures.iter().take(memo.noted).copied().collect(),
            ..Self::default()
        }
    }
}

impl Controller {
    /// The controller that goes on from these memos. Actors keep their keys. An actor whose group
    /// has no memo is in a steady one; a group that nobody is in is dropped, unless it was being
    /// killed: it is then terminated with [`crate::Event::Adopted`]. What contradicts itself or a
    /// memo before it (a name or a key for the second time) is left out. All counts as changed.
    ///
    /// The caller reports what has happened meanwhile, then `Adopted`. Whatever was being loaded
    /// is reported as well, sooner or later: `Loaded` or `LoadFailed`.
    #[must_use]
    pub fn recall(
        limits: Limits,
        site: SiteMemo,
        groups: impl IntoIterator<Item = GroupMemo>,
        actors: impl IntoIterator<Item = (ActorName, ActorMemo)>,
    ) -> Self {
        let mut this = Self::new(limits, site.next_aid);
        this.next_key = site.next_key.max(ActorKey(1));
        this.site.recall(site.phase);
        this.groups = groups
            .into_iter()
            .map(|memo| (memo.gid, Group::recalled(&memo)))
            .collect();
        let in_order: BTreeMap<_, _> = actors
            .into_iter()
            .map(|(name, memo)| (memo.key, (name, memo)))
            .collect();
        for (name, memo) in in_order.into_values() {
            if memo.is_sound() && !this.names.contains_key(&name) {
                this.recall_actor(name, &memo);
            }
        }
        for (&gid, group) in &mut this.groups {
            this.changes.group(gid, group);
        }
        this.changes.site();
        this.groups
            .retain(|_, group| !group.members.is_empty() || group.is_killing());
        this
    }

    fn recall_actor(&mut self, name: ActorName, memo: &ActorMemo) {
        let key = memo.key;
        let mut actor = Actor::recalled(name, memo);
        self.changes.actor(key, &mut actor);
        let (is_alive, is_loading) = (actor.is_alive(), actor.is_loading());
        if is_loading {
            self.site.load_starts(memo.gid);
        }
        if is_alive {
            self.site.live += 1;
        }
        if let Some(gid) = memo.gid {
            let group = self.groups.entry(gid).or_default();
            group.members.push(key);
            group.live += usize::from(is_alive);
            group.loads += usize::from(is_loading);
        }
        if let Some(aid) = memo.aid {
            self.aids.insert(aid, key);
            self.next_aid = self.next_aid.max(refrain_abi::Aid(aid.0.saturating_add(1)));
        }
        self.next_key = self.next_key.max(ActorKey(key.0 + 1));
        self.names.insert(name, key);
        self.actors.insert(key, actor);
    }

    /// The daemon has adopted what there is and reported what has ended: makes good what effects
    /// may be lost. Only after a recall, and once; at any other time it does nothing.
    pub(crate) fn adopted(&mut self, out: &mut Vec<Effect>) {
        let Some(phase) = self.site.take_recalled() else {
            return;
        };
        for (&key, actor) in &self.actors {
            if let (Phase::Stopping(how), Some(life)) = (actor.phase, actor.life) {
                let actor = key;
                out.push(Effect::Stop { actor, life, how });
            }
        }
        let gids: Vec<Gid> = self.groups.keys().copied().collect();
        for gid in gids {
            let group = &self.groups[&gid];
            match group.phase {
                GroupPhase::Steady if group.blocked => self.say_blocked(gid, out),
                GroupPhase::Delayed => self.say_delay(gid, out),
                GroupPhase::GivingUp(give_up) | GroupPhase::Stopped(give_up) => {
                    self.say_gave_up(gid, give_up, out);
                }
                _ => {}
            }
            self.settle_group(gid, out);
        }
        self.site_phase_again(phase, out);
        self.settle_site(out);
    }
}
