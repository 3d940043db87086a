//! Lives: how one begins, is told to stop, ends and is gone.
//!
//! This is the restart path: it touches the actor and its group, never the other actors of the
//! site. A life begins only from a phase without a life, so there is one life of an actor at a
//! time; the check is in [`Controller::begin`], and its callers cannot get round it.

use refrain_abi::{Aid, LifeNo};

use crate::actor::{Phase, Verdict};
use crate::{ActorKey, Controller, Effect, StopHow, Ticket};

/// Why a life begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// Somebody asked for it, and is told.
    Run(Ticket),
    /// Its group or the site restarts.
    Restart,
}

impl Controller {
    /// Begins the next life of an actor that has none.
    pub(crate) fn begin(&mut self, key: ActorKey, cause: Cause, out: &mut Vec<Effect>) {
        let Some(actor) = self.actors.get_mut(&key) else {
            return;
        };
        if actor.is_alive() || actor.is_loading() {
            return;
        }
        let life = actor.life.map_or(LifeNo(0), LifeNo::next);
        // A direct actor whose load came to its end during a restart begins with the others, and
        // that is the life that was asked for.
        let ticket = match cause {
            Cause::Run(ticket) => Some(ticket),
            Cause::Restart => actor.ticket.take(),
        };
        if ticket.is_none() && actor.life.is_some() {
            actor.restarts = actor.restarts.saturating_add(1);
        }
        // 2^32 lives of a site are not reached in practice; saturating keeps that from a panic.
        let aid = self.next_aid;
        self.next_aid = Aid(aid.0.saturating_add(1));
        actor.life = Some(life);
        actor.aid = Some(aid);
        actor.phase = Phase::Running;
        self.changes.actor(key, actor);
        self.changes.site();
        self.aids.insert(aid, key);
        self.site.live += 1;
        if let Some(gid) = actor.gid
            && let Some(group) = self.groups.get_mut(&gid)
        {
            group.live += 1;
            if std::mem::take(&mut group.blocked) {
                self.changes.group(gid, group);
            }
        }
        out.push(Effect::Begin {
            actor: key,
            life,
            aid,
            ticket,
        });
        if let Some(ticket) = ticket {
            out.push(Effect::Started { ticket, aid });
        }
    }

    /// Tells an actor's life to stop, unless it was told as strongly before or has ended.
    pub(crate) fn stop(&mut self, key: ActorKey, how: StopHow, out: &mut Vec<Effect>) {
        let Some(actor) = self.actors.get_mut(&key) else {
            return;
        };
        let weaker = match actor.phase {
            Phase::Running => true,
            Phase::Stopping(before) => before == StopHow::Tidy && how == StopHow::Kill,
            _ => false,
        };
        if let (true, Some(life)) = (weaker, actor.life) {
            actor.phase = Phase::Stopping(how);
            self.changes.actor(key, actor);
            out.push(Effect::Stop {
                actor: key,
                life,
                how,
            });
        }
    }

    /// A life has ended. What is left of it may still be there: nothing begins now.
    pub(crate) fn ended(
        &mut self,
        key: ActorKey,
        life: LifeNo,
        clean: bool,
        when_and_code: (u64, Option<u8>),
        out: &mut Vec<Effect>,
    ) {
        let Some(actor) = self.actors.get_mut(&key).filter(|a| a.life == Some(life)) else {
            return;
        };
        let verdict = match actor.phase {
            Phase::Stopping(_) => Verdict::Stopped,
            Phase::Running if clean => Verdict::Clean,
            Phase::Running => Verdict::Failed,
            _ => return,
        };
        actor.phase = Phase::Ended(verdict);
        self.changes.actor(key, actor);
        if let (Verdict::Failed, Some(gid)) = (verdict, actor.gid) {
            self.member_failed(gid, key, when_and_code, out);
        }
    }

    /// Nothing of a life is left: whatever waited for that can go on.
    pub(crate) fn gone(&mut self, key: ActorKey, life: LifeNo, out: &mut Vec<Effect>) {
        let Some(actor) = self.actors.get(&key).filter(|a| a.life == Some(life)) else {
            return;
        };
        let next = match actor.phase {
            Phase::Ended(Verdict::Clean) => Phase::Clean,
            Phase::Ended(Verdict::Failed) => Phase::Failed,
            Phase::Ended(Verdict::Stopped) => Phase::Waiting,
            _ => return,
        };
        self.life_is_over(key, next, out);
    }

    /// A life could not begin for good. It counts as a life that is gone and failed, but it
    /// provokes no restart: that would fail in the same way and never come to an end.
    pub(crate) fn begin_failed(&mut self, key: ActorKey, life: LifeNo, out: &mut Vec<Effect>) {
        let Some(actor) = self.actors.get(&key).filter(|a| a.life == Some(life)) else {
            return;
        };
        if matches!(actor.phase, Phase::Running | Phase::Stopping(_)) {
            self.life_is_over(key, Phase::Failed, out);
        }
    }

    fn life_is_over(&mut self, key: ActorKey, next: Phase, out: &mut Vec<Effect>) {
        let Some(actor) = self.actors.get_mut(&key) else {
            return;
        };
        actor.phase = next;
        self.changes.actor(key, actor);
        if let Some(aid) = actor.aid.take() {
            self.aids.remove(&aid);
        }
        self.site.live -= 1;
        let gid = actor.gid;
        match gid.and_then(|gid| self.groups.get_mut(&gid)) {
            Some(group) => group.live -= 1,
            // An ordinary actor is registered for one life only.
            None => self.forget(key, out),
        }
        self.settle(gid, out);
    }
}
