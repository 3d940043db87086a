//! Limits and rights of actors: where the engine applies, inherits and tells them (SPEC H34).
//!
//! Nothing here is on the restart path. What enforces a limit is [`crate::limits`]; what another user may
//! read is [`crate::rights`].

use std::sync::Arc;
use std::time::Duration;

use hr_ctrl_core::ActorKey;
use refrain_abi::Serial;
use refrain_image::Program;
use refrain_sys::WaitStatus;

use super::runtime::ActorRuntime;
use super::{Engine, SharedEngine};
use crate::containment::Containment;
use crate::limits::Place;
use crate::pmm::Asker;
use crate::rights;
use crate::site::StartSpec;

/// How often the memory of an actor is looked at that has a limit of it.
const LOOK_EVERY: Duration = Duration::from_secs(1);

impl Engine {
    /// What an indirect actor has from its spawner, as a child has from its parent: umask, resource
    /// limits and rights. What the configuration says of its name can only make its limits stricter,
    /// since the spawner chooses the name.
    pub(crate) fn inherit(&self, spec: &mut StartSpec, spawner: ActorKey) {
        if let Some(runtime) = self.actors.get(&spawner) {
            let from = &runtime.spec;
            spec.umask = from.umask;
            spec.rlimits.clone_from(&from.rlimits);
            let of_name = self.parts.tunables.actors.get(spec.name.as_str());
            let of_name = of_name.cloned().unwrap_or_default();
            spec.limits = from.limits.stricter(of_name.limits);
            spec.user.clone_from(&from.user);
            spec.no_new_privs = from.no_new_privs || of_name.no_new_privs;
        }
    }

    /// Whether a life is another user's than the site's, who then does not command the site.
    pub(crate) fn is_foreign(&self, asker: &Asker) -> bool {
        let runtime = self.actors.get(&asker.actor);
        runtime.is_none_or(|runtime| runtime.spec.user.is_some())
    }

    /// Sets limits and rights of an actor as its specification says, for the templates spawned from now
    /// on.
    pub(super) fn set_limits(&mut self, actor: ActorKey) -> Result<(), String> {
        let Some(runtime) = self.actors.get_mut(&actor) else {
            return Ok(());
        };
        if let Some(output) = &runtime.output {
            let given = output.give_to(runtime.spec.user.as_ref());
            given.map_err(|error| format!("output pipe: {error}"))?;
        }
        let place = Place {
            site: &self.parts.containment.site_name(),
            actor: &Containment::name_of(runtime.name, actor.0),
        };
        let set = runtime
            .limited
            .set(&runtime.spec.limits, &runtime.contained, place);
        set.map_err(|error| error.to_string())?;
        let is_limited = runtime.limited.untold_kills().is_some();
        if is_limited && !std::mem::replace(&mut runtime.memory_watched, true) {
            actix_rt::spawn(watch_memory(self.shared(), actor));
        }
        Ok(())
    }

    /// As [`Engine::set_limits`], of an actor that was there before this controller: it goes on or comes back
    /// all the same, for what it holds is worth more than a limit.
    pub(super) fn keep_limits(&mut self, actor: ActorKey) {
        if let Err(why) = self.set_limits(actor)
            && let Some(runtime) = self.actors.get(&actor)
        {
            let name = runtime.name;
            self.parts.output.say(format!("HR_CTRL: {name}: {why}"));
        }
        let Some(runtime) = self.actors.get_mut(&actor) else {
            return;
        };
        if let Some(program) = runtime.program.take() {
            runtime.program = Some(runtime.with_limits(program));
        }
    }

    /// Looks whether something that a life started was killed for want of memory, while that life goes
    /// on; answers what to compare the next look with, `None` when the actor is gone. Two looks, because
    /// the end of a life itself may be heard of between its death and now.
    fn look_at_memory(&mut self, actor: ActorKey, last: Look) -> Option<Look> {
        let runtime = self.actors.get_mut(&actor)?;
        let kills = runtime.limited.untold_kills().unwrap_or(0);
        let life = runtime.life.as_ref().filter(|life| !life.ended);
        let now = life.map(|life| (life.serial, kills)).filter(|_| kills > 0);
        if now.is_none() || now != last {
            return Some(now);
        }
        runtime.limited.forget_passed();
        let name = runtime.name;
        self.parts.output.say(format!(
            "HR_CTRL: {name}: out of memory: {kills} of the processes that it started or that stand by for \
             it killed"
        ));
        Some(None)
    }
}

/// A life, and how many kills for want of memory nobody was told of.
type Look = Option<(Serial, u64)>;

/// Until the actor is gone. An unexplained kill would be taken for the cause of a later end.
async fn watch_memory(engine: SharedEngine, actor: ActorKey) {
    let mut last = None;
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        match engine.borrow_mut().look_at_memory(actor, last) {
            Some(look) => last = look,
            None => return,
        }
    }
}

impl ActorRuntime {
    /// The program with the limits and the rights of this actor.
    pub(super) fn with_limits(&self, program: Arc<Program>) -> Arc<Program> {
        Arc::new(Program {
            rlimits: self.limited.rlimits(&self.spec.rlimits),
            nice: self.limited.nice(),
            credentials: self.spec.user.as_ref().map(rights::credentials),
            no_new_privs: self.spec.user.is_some() || self.spec.no_new_privs,
            ..Arc::unwrap_or_clone(program)
        })
    }

    /// How `pid`, a life that has ended, did so.
    pub(super) fn cause(&mut self, pid: u32, status: WaitStatus, clean: bool) -> String {
        let later = self.life.as_ref().filter(|life| life.pid != pid);
        let over = later.is_some_and(|life| life.ended || life.pidfd.has_ended());
        self.limited.cause(status, clean, over)
    }
}
