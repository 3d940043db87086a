//! The end of a registration: nothing of the actor is left, neither here nor in the bank.

use std::time::Duration;

use hr_ctrl_core::ActorKey;

use super::Engine;
use crate::containment::Contained;
use crate::limits::Limited;
use crate::{pmm, watch};

/// How long a cgroup whose last member may be ending still is left alone at first, and before the
/// last try; each time twice as long as before.
const FIRST_WAIT: Duration = Duration::from_millis(1);
const LAST_WAIT: Duration = Duration::from_secs(2);

impl Engine {
    /// Carries out `Forget`: drops template, standby, image and registration.
    pub(super) fn forget(&mut self, actor: ActorKey) {
        if self.supervised.contains_key(&actor) {
            return self.forget_supervised(actor);
        }
        self.take_back(actor);
        self.tell_restarts(actor, true);
        self.say_ends(actor, None, None);
        self.drop_template(actor);
        self.drop_retired(actor);
        let Some(mut runtime) = self.actors.remove(&actor) else {
            return;
        };
        if runtime.registered {
            self.parts.pmm.do_send(pmm::Deregister(runtime.name));
        }
        if let Some(nucleus) = &self.parts.nucleus {
            nucleus.let_actor_go(actor.0);
        }
        self.parts.pmm.do_send(pmm::ForgetActor(actor));
        self.clearing += 1;
        let engine = self.shared();
        let mut ending: Vec<_> = runtime.dying.drain(..).map(|d| d.pidfd).collect();
        ending.extend(runtime.life.take().map(|life| life.pidfd));
        let (contained, output) = (runtime.contained, runtime.output.take());
        let limited = runtime.limited;
        actix_rt::spawn(async move {
            for pidfd in ending {
                let _ = watch::readable(pidfd).await;
            }
            remove(contained, limited).await;
            // Nobody is left to print: the reader takes what is there, and ends.
            drop(output);
            let mut engine = engine.borrow_mut();
            engine.clearing -= 1;
            engine.halt_if_done();
        });
    }
}

/// Removes an actor's cgroups as soon as the last member has left them.
pub(super) async fn remove(contained: Contained, mut limited: Limited) {
    // Both are tried, whatever comes of the first.
    let mut try_remove = || contained.try_remove() & limited.try_remove();
    if try_remove() {
        return;
    }
    // Its template has been told to end and is ending. Reaches whatever else is in it, and cgroups that
    // a life made below its own, too.
    let _ = contained.kill_all();
    let mut wait = FIRST_WAIT;
    while wait < LAST_WAIT {
        tokio::time::sleep(wait).await;
        if try_remove() {
            return;
        }
        wait *= 2;
    }
    tracing::warn!(?contained, "cgroup not removed");
}
