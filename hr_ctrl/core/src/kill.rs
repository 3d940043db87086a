//! Killing: `akill` and `hrKillGroup` (SPEC H24). Nothing that was killed is restarted.
//!
//! A kill of a life of a restartable actor is a kill of its group. It overrides a restart of the
//! group and goes on beside one of the site; it is answered when nothing of its target is left.

use refrain_abi::Gid;

use crate::controller::refuse;
use crate::group::GroupPhase;
use crate::{ActorKey, Controller, Effect, Refusal, Requester, StopHow, Target, Ticket};

/// A target that was found.
enum Victim {
    Group(Gid),
    Ordinary(ActorKey),
}

impl Controller {
    pub(crate) fn kill(
        &mut self,
        ticket: Ticket,
        target: Target,
        tidy: bool,
        by: Requester,
        out: &mut Vec<Effect>,
    ) {
        let how = if tidy { StopHow::Tidy } else { StopHow::Kill };
        match self.find_victim(target, by) {
            Err(why) => refuse(ticket, why, out),
            Ok(Victim::Group(gid)) => self.kill_group(gid, how, ticket, out),
            Ok(Victim::Ordinary(key)) => {
                if let Some(actor) = self.actors.get_mut(&key) {
                    actor.kill_tickets.push(ticket);
                }
                self.stop(key, how, out);
            }
        }
    }

    fn find_victim(&self, target: Target, by: Requester) -> Result<Victim, Refusal> {
        let own = match by {
            Requester::Owner => None,
            Requester::Life { actor, life } => Some(self.asker_group(actor, life)?),
        };
        let victim = match target {
            Target::Group(gid) => Victim::Group(gid),
            Target::Aid(aid) => {
                let key = self.find_aid(aid).ok_or_else(|| self.no_such_aid(aid))?;
                self.actors[&key]
                    .gid
                    .map_or(Victim::Ordinary(key), Victim::Group)
            }
        };
        match (&victim, own, target) {
            (Victim::Group(gid), Some(own), _) if *gid != own => {
                return Err(Refusal::NotYourGroup { gid: *gid });
            }
            // To an actor, what is outside its group and has none does not exist.
            (Victim::Ordinary(_), Some(_), Target::Aid(aid)) => {
                return Err(Refusal::NoSuchAid { aid, stale: false });
            }
            _ => {}
        }
        match victim {
            Victim::Group(gid) if !self.groups.contains_key(&gid) => {
                Err(Refusal::NoSuchGroup { gid })
            }
            victim => Ok(victim),
        }
    }

    fn kill_group(&mut self, gid: Gid, how: StopHow, ticket: Ticket, out: &mut Vec<Effect>) {
        let Some(group) = self.groups.get_mut(&gid) else {
            return;
        };
        match &mut group.phase {
            GroupPhase::Killing(tickets) => tickets.push(ticket),
            phase => *phase = GroupPhase::Killing(vec![ticket]),
        }
        self.changes.group(gid, group);
        self.each_member(gid, |this, key| this.stop(key, how, out));
        self.settle(Some(gid), out);
    }
}
