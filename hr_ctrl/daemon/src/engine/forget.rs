//! The end of a registration: nothing of the actor is left, neither here nor in the bank.

use std::time::Duration;

use hr_ctrl_core::ActorKey;

use super::Engine;
use crate::containment::Contained;
use crate::{pmm, watch};

/// How often a cgroup is tried to be removed: its last member may be ending still.
const REMOVE_TRIES: u32 = 100;

impl Engine {
    /// Carries out `Forget`: drops template, standby, image and registration.
    pub(super) fn forget(&mut self, actor: ActorKey) {
        self.tell_restart(actor, true);
        self.drop_template_quietly(actor);
        self.drop_retired(actor);
        let Some(mut runtime) = self.actors.remove(&actor) else {
            return;
        };
        if runtime.registered {
            self.parts.pmm.do_send(pmm::Deregister(runtime.name));
        }
        if let Some(nucleus) = &self.parts.nucleus {
            nucleus.drop_image(runtime.name);
        }
        // The last writer: the reader sees the end once the lives are gone, too.
        drop(runtime.output.take());
        self.clearing += 1;
        let engine = self.shared();
        let (standby, life) = (runtime.standby.take(), runtime.life.take());
        let contained = runtime.contained;
        actix_rt::spawn(async move {
            for pidfd in [
                standby.map(|standby| standby.pidfd),
                life.map(|life| life.pidfd),
            ]
            .into_iter()
            .flatten()
            {
                let _ = watch::readable(pidfd).await;
            }
            remove(contained).await;
            let mut engine = engine.borrow_mut();
            engine.clearing -= 1;
            engine.halt_if_done();
        });
    }

    /// As [`Engine::drop_template`], but keeps the standby's pidfd: its end is waited for.
    fn drop_template_quietly(&mut self, actor: ActorKey) {
        let standby = self
            .actors
            .get_mut(&actor)
            .and_then(|runtime| runtime.standby.take());
        self.drop_template(actor);
        if let Some(standby) = &standby {
            let _ = standby.pidfd.send_signal(refrain_sys::Signal::KILL);
        }
        if let Some(runtime) = self.actors.get_mut(&actor) {
            runtime.standby = standby;
        }
    }
}

/// Removes a cgroup as soon as its last member has left it.
async fn remove(contained: Contained) {
    // Reaches cgroups that a life made below its own, too.
    let _ = contained.kill_all();
    for _ in 0..REMOVE_TRIES {
        if contained.members(&[]).is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    for _ in 0..REMOVE_TRIES {
        if contained.try_remove() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    tracing::warn!(?contained, "cgroup not removed");
}
