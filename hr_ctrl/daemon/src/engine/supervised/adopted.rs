//! Supervisor actors of a program below nucleus that has ended: what nucleus keeps of them, and what its next life
//! makes of that.
//!
//! Called when one is registered, and by the adoption. Nothing of their lives is there any more; must never take
//! one for alive.

use hr_ctrl_core::{ActorKey, ActorState, Event};
use refrain_pmm::Registration;
use refrain_sys::clock;

use super::super::Engine;
use super::super::kept::Dossier;
use super::{REPORTED, Supervised};

/// How a life ended that nobody has seen the end of.
const WITH_PROGRAM: &str = "its program has ended";

impl Engine {
    /// The program has ended, and its next life adopts: whatever life the actor had has ended with it.
    pub(in crate::engine) fn adopt_supervised(&mut self, actor: ActorKey) {
        let Some(view) = self.core.view(actor) else {
            return;
        };
        let (state, life, aid) = (view.state, view.life, view.aid);
        if state == ActorState::Loading {
            return self.step(Event::Loaded { actor });
        }
        let (Some(life), Some(aid)) = (life.filter(|_| state.is_alive()), aid) else {
            return;
        };
        let begun = self.ledger.own(actor).and_then(|own| own.life());
        let has_begun = begun.is_some_and(|begun| begun.life == life);
        let Some(supervised) = self.supervised.get_mut(&actor) else {
            return;
        };
        if state == ActorState::Ending {
            self.step(Event::Gone { actor, life });
        } else if has_begun {
            supervised.last_end = Some(WITH_PROGRAM.to_owned());
            supervised.last_notice = Some(REPORTED);
            let named = (supervised.name(), Some(supervised.gid));
            let how = supervised.last_end.clone();
            self.life_is_over(named, (life, aid), false, how);
            self.step(Event::Ended {
                actor,
                life,
                clean: false,
                exit_code: None,
                at_ms: clock::now_monotonic_ms(),
            });
            self.step(Event::Gone { actor, life });
            self.tell_supervised_restarts(actor);
        } else {
            // It waits for its program to register it again; a stop takes it back.
            supervised.begin = Some((life, aid));
        }
    }

    /// Has nucleus keep what the next life of the program is to know of an actor.
    pub(super) fn keep_supervised(&self, actor: ActorKey, supervised: &Supervised) {
        self.keep_as_dossier(
            actor,
            &Dossier {
                name: supervised.name(),
                registered: supervised.registration(),
                in_bank: supervised.registered,
                cgroup: None,
                exec_reason: None,
                templates: Vec::new(),
            },
        );
    }

    /// Which of them the bank knows.
    pub(in crate::engine) fn compare_supervised(&mut self, registrations: &[Registration]) {
        for supervised in self.supervised.values_mut() {
            let name = supervised.spec.name;
            supervised.registered = registrations.iter().any(|known| known.name == name);
        }
    }
}
