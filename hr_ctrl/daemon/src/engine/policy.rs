//! Restart policy, as far as it takes time or asks the kernel (SPEC H33): delays, exit codes, and what
//! the console is told. What a policy means is decided in `hr_ctrl_core`.
//!
//! Nothing here is on the restart path of a group that has no delay and no codes of permanent
//! failure.

use std::time::Duration;

use hr_ctrl_core::{ActorKey, Event, Policy, Reason, gave_up_message};
use refrain_abi::{Gid, PolicyParts, Serial};
use refrain_sys::{WaitStatus, clock};

use super::{Engine, SharedEngine};
use crate::events::SiteEvent;
use crate::site::Notice;

/// How many turns of the event loop an exit code is looked for before it is looked for every
/// millisecond only.
const TURNS: u32 = 50;
/// How often it is looked for at most. A template that does not reap its lives leaves it unknown.
const TRIES: u32 = 1000;

/// How a life ended, as far as a policy wants to know.
#[derive(Clone, Copy, Default)]
pub(crate) struct Exit {
    /// What the kernel said to whoever reaped it.
    pub status: Option<WaitStatus>,
    /// Somebody waits for that.
    asked: bool,
    /// Nobody does any more.
    settled: bool,
}

impl Exit {
    /// The exit code, if it called exit and that is known.
    pub fn code(&self) -> Option<u8> {
        self.status.and_then(exit_code_of)
    }
}

/// The code that a life ended with, if it called exit.
pub(super) fn exit_code_of(status: WaitStatus) -> Option<u8> {
    u8::try_from(status.exited()?).ok()
}

/// The policy that these parts make, the built-in parts where they say nothing.
fn policy_of(parts: PolicyParts) -> Policy {
    let built_in = Policy::default();
    Policy {
        max_restarts: parts.max_restarts,
        interval_ms: parts.interval_ms,
        first_ms: parts.first_ms.unwrap_or(built_in.first_ms),
        factor_percent: parts.factor_percent.unwrap_or(built_in.factor_percent),
        cap_ms: parts.cap_ms.unwrap_or(built_in.cap_ms),
        healthy_ms: parts.healthy_ms.unwrap_or(built_in.healthy_ms),
        past_limit: parts.past_limit.unwrap_or_default(),
        permanent: parts.permanent_exit.into_iter().flatten().collect(),
    }
}

impl Engine {
    /// The policy that a run names for its group: what it says itself over what the configuration says.
    /// `None`: the group has one already and keeps it.
    pub(crate) fn policy_named(
        &self,
        gid: Option<Gid>,
        said: Option<&PolicyParts>,
    ) -> Option<Policy> {
        let gid = gid?;
        if said.is_none() && self.core.policy(gid).is_some() {
            return None;
        }
        let tunables = &self.parts.tunables;
        let of_group = tunables.groups.get(&gid.0).cloned().unwrap_or_default();
        let said = said.cloned().unwrap_or_default();
        Some(policy_of(said.over(&of_group).over(&tunables.policy)))
    }

    /// Carries out `Delay`.
    pub(super) fn delay(&mut self, gid: Gid, until_ms: u64, delay_ms: u64, attempt: u32) {
        let delay = Duration::from_millis(delay_ms);
        self.happens(|| SiteEvent::GroupDelayed {
            gid,
            delay,
            attempt,
        });
        self.parts.output.say(format!(
            "HR_CTRL: group {gid} waits {delay_ms} ms before it is restarted (attempt {attempt})"
        ));
        let left = until_ms.saturating_sub(clock::now_monotonic_ms());
        let engine = self.shared();
        actix_rt::spawn(async move {
            tokio::time::sleep(Duration::from_millis(left)).await;
            engine.borrow_mut().step(Event::DelayOver { gid, until_ms });
        });
    }

    /// Carries out `GaveUp`.
    pub(super) fn say_gave_up(&mut self, gid: Gid, failed: ActorKey, badness: u32, reason: Reason) {
        if let Some(failed) = self.core.view(failed).map(|view| *view.name) {
            let message = gave_up_message(gid, &failed, badness, reason);
            self.parts.output.say(message);
            self.happens(|| SiteEvent::GroupStopped {
                gid,
                failed,
                badness,
                reason: reason.to_string(),
            });
        }
    }

    /// Whether the end of a life is told to the core only when its exit code is known: its group has
    /// codes that are permanent failures, and the kernel, which noticed the end, has not said the
    /// code yet. Then this calls `life_ended` again, soon.
    pub(super) fn awaits_exit_code(&mut self, actor: ActorKey, notice: Notice) -> bool {
        let engine = self.shared();
        let Some(runtime) = self.actors.get_mut(&actor) else {
            return false;
        };
        let policy = runtime.gid.and_then(|gid| self.core.policy(gid));
        let asks = policy.is_some_and(|policy| !policy.permanent.is_empty());
        let Some(life) = runtime
            .life
            .as_mut()
            .filter(|life| !life.ended && !life.told)
        else {
            return false;
        };
        let is_known = life.reaped || life.exit.settled || runtime.control.is_clean(life.serial);
        if !asks || is_known || notice != Notice::Kernel {
            return false;
        }
        if !std::mem::replace(&mut life.exit.asked, true) {
            actix_rt::spawn(learn_exit_code(engine, actor, life.serial));
        }
        true
    }

    /// Takes what the template, or the kernel, has said of the end of a life meanwhile. Whether there is
    /// nothing more to wait for.
    fn look_for_exit_code(&mut self, actor: ActorKey, serial: Serial) -> bool {
        self.hear_template(actor);
        let runtime = self.actors.get_mut(&actor);
        let Some(life) = runtime.and_then(|runtime| runtime.life.as_mut()) else {
            return true;
        };
        if life.serial == serial && life.exit.status.is_none() {
            life.exit.status = life.pidfd.exit_info();
        }
        life.serial != serial || life.reaped || life.exit.status.is_some()
    }
}

async fn learn_exit_code(engine: SharedEngine, actor: ActorKey, serial: Serial) {
    for turn in 0..TRIES {
        if engine.borrow_mut().look_for_exit_code(actor, serial) {
            break;
        }
        if turn < TURNS {
            tokio::task::yield_now().await;
        } else {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    let mut engine = engine.borrow_mut();
    let runtime = engine.actors.get_mut(&actor);
    let life = runtime.and_then(|runtime| runtime.life.as_mut());
    if let Some(life) = life.filter(|life| life.serial == serial) {
        life.exit.settled = true;
        engine.life_ended(actor, Notice::Kernel);
    }
}
