//! What a life has left behind: whoever is in its actor's cgroup and belongs to nobody else is ended before
//! the next life begins (invariant 2).
//!
//! Called when a life has ended and somebody is left, which is seldom. Must never signal by a pid alone.

use std::collections::HashSet;
use std::rc::Rc;
use std::time::Duration;

use hr_ctrl_core::ActorKey;
use refrain_abi::LifeNo;
use refrain_sys::{PidFd, Signal};

use super::runtime::ActorRuntime;
use super::{Engine, SharedEngine};
use crate::containment::Contained;
use crate::watch;

/// How often a sweep may meet somebody new before the whole cgroup of the actor is killed, template included.
const MAX_ROUNDS: u32 = 3;
/// How long a sweep waits for those it killed before it looks again, in milliseconds.
const ROUND_MS: u64 = 50;

impl Engine {
    /// Ends everything of an actor at once, for what its life started multiplies faster than it is killed.
    /// Its template is built anew from the image. Answers the cgroup that it had, if it has another now: the
    /// life is gone when that is.
    ///
    /// The actor gets another cgroup, because the kernel kills whoever is born into one that was killed as
    /// a whole before, too (Linux 6.18: a child compares the cgroup's number of kills with its parent's).
    /// Nucleus hears of it first: an hr_ctrl that dies between the two leaves a cgroup of nobody, which the
    /// next one ends.
    fn move_out(&mut self, actor: ActorKey) -> Option<Contained> {
        let runtime = self.actors.get_mut(&actor)?;
        let name = runtime.name;
        let again = self.parts.containment.contain_again(&runtime.contained);
        let old = again.map(|again| std::mem::replace(&mut runtime.contained, again));
        if old.is_some() {
            runtime.limited.leave();
            self.keep_limits(actor);
            self.keep_dossier(actor);
        }
        let runtime = self.actors.get(&actor)?;
        let _ = old.as_ref().unwrap_or(&runtime.contained).kill_all();
        self.drop_template(actor);
        self.parts.output.say(format!(
            "HR_CTRL: {name}: what its life started multiplied faster than it was ended; all of it was ended \
             at once"
        ));
        old
    }
}

impl ActorRuntime {
    /// The pids of what the life that has ended left behind, into `left`.
    pub(super) fn left_behind(&self, left: &mut Vec<u32>) {
        let template = self.template.as_ref().map(|template| template.template.pid);
        let retired = self.retired.as_ref().map(|template| template.pid);
        self.contained.members_into(&[template, retired], left);
        let known = [
            template,
            retired,
            self.standby.as_ref().map(|standby| standby.pid),
            self.spare.as_ref().map(|standby| standby.pid),
            self.life.as_ref().map(|life| life.pid),
        ];
        // The template takes a keeper's word away when it has reaped it.
        left.retain(|pid| {
            !known.contains(&Some(*pid))
                && !self.control.is_keeper(*pid)
                && !self.dying.iter().any(|dying| dying.pid == *pid)
        });
    }
}

/// Ends what a life left behind. What is killed is first pinned by a pidfd and then looked up
/// again, so a pid that was given to somebody else meanwhile is never signalled.
pub(super) async fn sweep(engine: SharedEngine, actor: ActorKey, life: LifeNo) {
    // Those that were killed, and how often somebody was met who had not been.
    let (mut killed, mut rounds) = (HashSet::new(), 0_u32);
    loop {
        // A standby that is being forked would be taken for left behind, killed, and begun all the same.
        while engine.borrow_mut().is_somebody_coming(actor) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let pinned = {
            let borrowed = engine.borrow();
            let Some(runtime) = borrowed.actors.get(&actor) else {
                return;
            };
            let (mut left, mut still) = (Vec::new(), Vec::new());
            runtime.left_behind(&mut left);
            let pinned = left
                .iter()
                .filter_map(|pid| Some((*pid, PidFd::open(*pid).ok()?)))
                .collect::<Vec<_>>();
            runtime.left_behind(&mut still);
            pinned
                .into_iter()
                .filter(|(pid, _)| still.contains(pid))
                .collect::<Vec<_>>()
        };
        if rounds > MAX_ROUNDS {
            rounds = 0;
            let old = engine.borrow_mut().move_out(actor);
            // It can be removed when nobody is in it, nor in those that a life made below it.
            while old.as_ref().is_some_and(|old| !old.try_remove()) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        if pinned.is_empty() {
            let mut left = Vec::new();
            if let Some(runtime) = engine.borrow().actors.get(&actor) {
                runtime.left_behind(&mut left);
            }
            if left.is_empty() {
                break;
            }
            // Members that no pidfd can be had for are on their way out.
            tokio::time::sleep(Duration::from_millis(1)).await;
            continue;
        }
        // One that takes long to end is waited for, however long.
        let met = pinned.iter().filter(|(pid, _)| killed.insert(*pid)).count();
        rounds += u32::from(met > 0);
        for (_, pidfd) in &pinned {
            let _ = pidfd.send_signal(Signal::KILL);
        }
        let ends = pinned
            .into_iter()
            .map(|(_, pidfd)| watch::readable(Rc::new(pidfd)));
        let all = futures_util::future::join_all(ends);
        let _ = tokio::time::timeout(Duration::from_millis(ROUND_MS), all).await;
    }
    engine.borrow_mut().gone(actor, life);
}
