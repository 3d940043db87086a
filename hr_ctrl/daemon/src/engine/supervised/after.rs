//! Supervisor actors: what is done off the path, after a life has begun or ended: the bank, and the console.
//!
//! Called by its parent, a turn of the event loop later or after the core has heard of an end. Must never decide
//! anything, nor keep a life waiting.

use hr_ctrl_core::ActorKey;
use refrain_abi::{ActorName, LifeNo};
use refrain_pmm::{LifeRecord, Registration};

use super::super::Engine;
use super::Restart;
use crate::pmm;

impl Engine {
    /// Off the path, once for all that have begun together: the bank, and the console.
    pub(super) fn after_supervised_begins(&mut self) {
        let mut begun = std::mem::take(&mut self.begun);
        let mut gids = Vec::new();
        let mut notes = Vec::with_capacity(begun.len());
        for (actor, life) in begun.drain(..) {
            self.after_supervised_begin(actor, life, &mut notes);
            let gid = self.supervised.get(&actor).map(|supervised| supervised.gid);
            gids.extend(gid.filter(|gid| gids.last() != Some(gid)));
        }
        self.begun = begun;
        if !notes.is_empty() {
            self.parts.pmm.do_send(pmm::RecordLives(notes));
        }
        gids.sort_unstable();
        gids.dedup();
        for gid in gids {
            self.arm_together(gid);
        }
    }

    fn after_supervised_begin(
        &mut self,
        actor: ActorKey,
        life: LifeNo,
        notes: &mut Vec<(ActorName, LifeRecord)>,
    ) {
        self.tell_supervised_restarts(actor);
        let restarts = self.core.view(actor).map_or(0, |view| view.restarts);
        let Some(supervised) = self.supervised.get_mut(&actor).filter(|s| s.is_in(life)) else {
            return;
        };
        let Some(aid) = supervised.life.as_ref().map(|own| own.credentials.aid) else {
            return;
        };
        supervised.last_aid = Some(aid);
        let name = supervised.name();
        if std::mem::replace(&mut supervised.registered, true) {
            let note = LifeRecord {
                life,
                restarts,
                clean: false,
                running: None,
            };
            notes.push((name, note));
        } else {
            let registered = supervised.registration();
            self.parts.pmm.do_send(pmm::Register(Registration {
                name,
                gid: supervised.gid,
                direct: true,
                life,
                restarts,
                clean: false,
                running: None,
                spec: serde_json::to_vec(&registered).unwrap_or_default(),
            }));
        }
        self.reserve_aids(aid);
    }

    pub(super) fn note_clean_end(&self, actor: ActorKey, life: LifeNo) {
        let view = self.core.view(actor).filter(|view| view.life == Some(life));
        let Some(view) = view else { return };
        let note = LifeRecord {
            life,
            restarts: view.restarts,
            clean: true,
            running: None,
        };
        let name = *view.name;
        self.parts.pmm.do_send(pmm::RecordLife { name, note });
    }

    /// Tells the console of group restarts that the ends of an actor provoked.
    pub(super) fn tell_supervised_restarts(&mut self, actor: ActorKey) {
        let Some(supervised) = self.supervised.get_mut(&actor) else {
            return;
        };
        let (name, gid) = (supervised.name(), supervised.gid);
        for Restart {
            badness,
            how,
            waits,
        } in supervised.untold.drain(..)
        {
            let restarted = if waits {
                "restarts after a delay"
            } else {
                "restarted"
            };
            self.parts.output.say(format!(
                "HR_CTRL: {name} failed ({how}), group {gid} {restarted} (badness {badness})"
            ));
        }
    }
}
