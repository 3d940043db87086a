//! The end of a life: the first step of the restart path.
//!
//! The kernel's notice is the life's pidfd, readable once all its threads are gone: from then on
//! nothing of the old life can write to a block (invariant 2). Then one read of the actor's cgroup
//! (no file is opened) tells whether a child is left that the life started. Usually none is, and
//! `Ended` and `Gone` go to the core back to back. Otherwise the children are ended first.

use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hr_ctrl_core::{ActorKey, Event};
use refrain_abi::{LifeNo, Serial};
use refrain_sys::{PidFd, Signal, WaitStatus, clock};

use super::runtime::ActorRuntime;
use super::{Engine, SharedEngine};
use crate::{pmm, watch};

/// After how many rounds of a sweep the whole cgroup of the actor is killed, template included.
const MAX_ROUNDS: u32 = 20;
/// How often the kernel is asked, a millisecond apart, how an orphaned life ended.
const LEARN_TRIES: u32 = 100;
/// How long a sweep waits for those it killed before it looks again, in milliseconds.
const ROUND_MS: u64 = 50;

impl Engine {
    /// A pidfd that we watch has become readable: a life's, or a standby's.
    pub(super) fn child_ended(&mut self, actor: ActorKey, serial: Serial) {
        self.tell_restart(actor, true);
        let Some(runtime) = self.actors.get_mut(&actor) else {
            return;
        };
        if runtime
            .standby
            .take_if(|standby| standby.serial == serial)
            .is_some()
        {
            // Killed from outside, or by the kernel for want of memory.
            return self.want_standby(actor);
        }
        let Some(life) = runtime
            .life
            .as_mut()
            .filter(|life| life.serial == serial && !life.ended)
        else {
            return;
        };
        life.ended = true;
        let (no, pid) = (life.no, life.pid);
        let clean = runtime.control.clean.load(Ordering::Acquire) == serial.0;
        // Which of the two notices of an end comes first is the kernel's choice.
        runtime.last_pid = (!life.reaped).then_some(pid);
        let orphan = (life.generation != runtime.generation).then(|| Rc::clone(&life.pidfd));
        let at_ms = clock::now_monotonic_ms();
        self.step(Event::Ended {
            actor,
            life: no,
            clean,
            at_ms,
        });
        self.settle(actor);
        self.after_end(actor, no, clean);
        if let Some(pidfd) = orphan {
            actix_rt::spawn(learn_end(self.shared(), actor, pid, pidfd));
        }
    }

    /// Reports `Gone` of a life that has ended, or sees to what it left behind.
    ///
    /// While a fork or a template is under way, a member may be in the cgroup that we have not been
    /// told of; it would be taken for something left behind. The next life needs it anyway, so this
    /// waits: whoever reports it calls here again.
    pub(super) fn settle(&mut self, actor: ActorKey) {
        let Some(runtime) = self.actors.get_mut(&actor) else {
            return;
        };
        if runtime.forking.is_some() {
            self.hear_template(actor);
        }
        let Some(runtime) = self.actors.get_mut(&actor) else {
            return;
        };
        if let Some(fork) = &runtime.forking {
            let serial = fork.serial;
            if let Some(life) = runtime
                .life
                .as_mut()
                .filter(|life| life.ended && !life.waits)
            {
                life.waits = true;
                actix_rt::spawn(end_if_stuck(self.shared(), actor, serial));
            }
            return;
        }
        if runtime.building {
            return;
        }
        let nothing_left = runtime.left_behind().is_empty();
        let Some(life) = runtime
            .life
            .as_mut()
            .filter(|life| life.ended && !life.sweeping)
        else {
            return;
        };
        let no = life.no;
        if nothing_left {
            self.gone(actor, no);
        } else {
            life.sweeping = true;
            actix_rt::spawn(sweep(self.shared(), actor, no));
        }
    }

    fn gone(&mut self, actor: ActorKey, life: LifeNo) {
        if let Some(runtime) = self.actors.get_mut(&actor) {
            runtime.life = None;
        }
        self.drop_retired(actor);
        self.step(Event::Gone { actor, life });
    }

    /// Off the path: what the end means for the requests, the catalogue and `aps`.
    fn after_end(&mut self, actor: ActorKey, life: LifeNo, clean: bool) {
        self.parts.pmm.do_send(pmm::LifeEnded { actor, life });
        let restarts = self.core.view(actor).map_or(0, |view| view.restarts);
        let Some(runtime) = self.actors.get_mut(&actor) else {
            return;
        };
        if clean && runtime.gid.is_some() {
            let name = runtime.name;
            self.parts.pmm.do_send(pmm::RecordLife {
                name,
                life,
                restarts,
                clean: true,
            });
        }
    }
}

impl ActorRuntime {
    /// The pids of what the life that has ended left behind.
    pub(super) fn left_behind(&self) -> Vec<u32> {
        let template = self.template.as_ref().map(|template| template.template.pid);
        let retired = self.retired.as_ref().map(|template| template.pid);
        let mut left = self.contained.members(&[template, retired]);
        let known = [
            template,
            retired,
            self.standby.as_ref().map(|standby| standby.pid),
            self.life.as_ref().map(|life| life.pid),
        ];
        left.retain(|pid| !known.contains(&Some(*pid)));
        left
    }

    /// The template has reaped `pid`.
    pub(super) fn reaped(&mut self, pid: u32, status: WaitStatus) {
        let current = self.life.as_mut().filter(|life| life.pid == pid);
        if current.is_none() && self.last_pid != Some(pid) {
            return;
        }
        let serial = current.map(|life| {
            life.reaped = true;
            life.serial
        });
        let clean = self.control.clean.load(Ordering::Acquire);
        let errno = self.control.exec_errno.swap(0, Ordering::Relaxed);
        let how = if errno != 0 {
            format!(
                "exec failed: {}",
                std::io::Error::from_raw_os_error(errno as i32)
            )
        } else {
            status.to_string()
        };
        let was_clean = serial.is_some_and(|serial| serial.0 == clean);
        self.last_end = Some(if was_clean {
            format!("clean, {how}")
        } else {
            how
        });
        if self.last_pid == Some(pid) {
            self.last_pid = None;
        }
    }
}

/// A template that does not answer a fork, while a life's end waits for that, is ended: somebody has
/// stopped it. Its actor gets another one.
async fn end_if_stuck(engine: SharedEngine, actor: ActorKey, serial: Serial) {
    let limit = engine.borrow().parts.tunables.hr_ctrl.template_timeout_ms;
    tokio::time::sleep(Duration::from_millis(limit)).await;
    let engine = engine.borrow();
    let Some(runtime) = engine.actors.get(&actor) else {
        return;
    };
    if runtime
        .forking
        .as_ref()
        .is_some_and(|fork| fork.serial == serial)
        && let Some(template) = &runtime.template
    {
        let _ = template.template.pidfd.send_signal(Signal::KILL);
    }
}

/// Asks the kernel how a life ended whose template is gone: nucleus reaps it then, and the kernel
/// knows from that moment on (since Linux 6.15; before, the cause stays unknown).
async fn learn_end(engine: SharedEngine, actor: ActorKey, pid: u32, pidfd: Rc<PidFd>) {
    for _ in 0..LEARN_TRIES {
        if let Some(status) = pidfd.exit_info() {
            let mut engine = engine.borrow_mut();
            if let Some(runtime) = engine.actors.get_mut(&actor) {
                runtime.reaped(pid, status);
            }
            return engine.tell_restart(actor, false);
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Ends what a life left behind. What is killed is first pinned by a pidfd and then looked up
/// again, so a pid that was given to somebody else meanwhile is never signalled.
async fn sweep(engine: SharedEngine, actor: ActorKey, life: LifeNo) {
    for round in 0.. {
        let pinned = {
            let borrowed = engine.borrow();
            let Some(runtime) = borrowed.actors.get(&actor) else {
                return;
            };
            let left = runtime.left_behind();
            let pinned = left
                .iter()
                .filter_map(|pid| Some((*pid, PidFd::open(*pid).ok()?)))
                .collect::<Vec<_>>();
            let still = runtime.left_behind();
            pinned
                .into_iter()
                .filter(|(pid, _)| still.contains(pid))
                .collect::<Vec<_>>()
        };
        if round >= MAX_ROUNDS && round.is_multiple_of(MAX_ROUNDS) {
            // They multiply faster than they are killed: everything of the actor goes at once, and
            // its template is built anew from the image.
            let mut engine = engine.borrow_mut();
            if let Some(runtime) = engine.actors.get(&actor) {
                let _ = runtime.contained.kill_all();
            }
            engine.drop_template(actor);
        }
        if pinned.is_empty() {
            if engine
                .borrow()
                .actors
                .get(&actor)
                .is_some_and(|runtime| runtime.left_behind().is_empty())
            {
                break;
            }
            // Members that no pidfd can be had for are on their way out.
            tokio::time::sleep(Duration::from_millis(1)).await;
            continue;
        }
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
