//! The end of a life: the first step of the restart path.
//!
//! The kernel's notice is the life's pidfd, readable once all its threads are gone: from then on
//! nothing of the old life can write to a block (invariant 2). A life of one thread may say so itself
//! before that, when it has closed its files and will never run a line of its program again
//! (`stopped` in the control page): that is as good, and does not wait for its memory. Then one read
//! of the actor's cgroup (no file is opened) tells whether a child is left that the life started.
//! Usually none is, and `Ended` and `Gone` go to the core back to back. Otherwise the children are ended
//! first.

use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hr_ctrl_core::{ActorKey, Event};
use refrain_abi::{LifeNo, Serial};
use refrain_image::StartKind;
use refrain_sys::{PidFd, Signal, WaitStatus, clock};

use super::runtime::{ActorRuntime, Dying, Life, Standby};
use super::{Engine, SharedEngine, sweep};
use crate::containment::Contained;
use crate::pmm;
use crate::site::Notice;

/// How often the kernel is asked how an orphaned life ended: a millisecond apart at first, then twenty.
const LEARN_TRIES: u32 = 500;
const QUICK_TRIES: u32 = 100;

/// How a life ended.
pub(super) struct Reaped {
    clean: bool,
    /// As `aps` shows it.
    cause: String,
}

impl Engine {
    /// A pidfd that we watch has become readable: a life's, or a standby's.
    pub(super) fn child_ended(&mut self, actor: ActorKey, serial: Serial) {
        self.book_if_begun(actor, serial);
        self.let_orphan_go(actor, serial);
        let Some(runtime) = self.actors.get_mut(&actor) else {
            return;
        };
        if let Some(at) = runtime
            .dying
            .iter()
            .position(|dying| dying.serial == serial)
        {
            let dead = runtime.dying.swap_remove(at);
            let is_orphan = dead.life_of.is_some_and(|of| of != runtime.generation);
            if is_orphan && runtime.last_pid == Some(dead.pid) {
                actix_rt::spawn(learn_end(self.shared(), actor, dead.pid, dead.pidfd));
            }
            return;
        }
        let Some(life) = runtime.life.as_mut().filter(|life| life.serial == serial) else {
            return self.standby_ended(actor, serial);
        };
        life.over = true;
        if self.relay_for(actor) {
            return self.follow_relay(actor);
        }
        self.life_ended(actor, Notice::Kernel);
    }

    /// A standby was killed from outside, or by the kernel for want of memory.
    fn standby_ended(&mut self, actor: ActorKey, serial: Serial) {
        let Some(runtime) = self.actors.get_mut(&actor) else {
            return;
        };
        runtime.limited.forget_passed();
        let is_it = |standby: &mut Standby| standby.serial == serial;
        if runtime.spare.take_if(is_it).is_some() {
            return self.want_standby(actor);
        }
        if runtime.standby.take_if(is_it).is_none() {
            return;
        }
        runtime.standby = runtime.spare.take();
        // A relay to it is void. If a life has claimed it, the next one begins in the ordinary way.
        if self.is_relay_claimed(actor) {
            self.follow_relay(actor);
        } else {
            self.forbid(actor);
        }
        self.queue_ahead(actor);
        self.want_standby(actor);
    }

    /// A life has closed its files and sleeps for good: all that the next one waits for is done.
    pub(super) fn life_stopped(&mut self, actor: ActorKey, serial: Serial) {
        let life = self.actors.get(&actor).and_then(|r| r.life.as_ref());
        if life.is_some_and(|life| life.serial == serial && !life.ended) {
            self.life_ended(actor, Notice::Fault);
        }
    }

    /// The life that runs has ended: restart path.
    pub(super) fn life_ended(&mut self, actor: ActorKey, notice: Notice) {
        if self.awaits_exit_code(actor, notice) {
            return;
        }
        self.forbid(actor);
        let Some(runtime) = self.actors.get_mut(&actor) else {
            return;
        };
        let Some(life) = runtime.life.as_mut().filter(|life| !life.ended) else {
            return;
        };
        life.ended = true;
        let (no, pid, told) = (life.no, life.pid, life.told);
        let orphaned = life.generation != runtime.generation;
        let orphan = (life.over && orphaned).then(|| Rc::clone(&life.pidfd));
        let serial = life.serial;
        // The kernel may be quicker than what the handler has sent, or nobody serves the life yet.
        runtime.expect_record(serial);
        if !told {
            runtime.last_notice = Some(notice);
        }
        let clean = self.tell_end(actor);
        self.settle(actor);
        if clean {
            self.after_end(actor, no, true);
        } else {
            self.after_end_soon(actor, no);
        }
        if let Some(pidfd) = orphan {
            actix_rt::spawn(learn_end(self.shared(), actor, pid, pidfd));
        }
    }

    /// Tells the core that the life has ended, once. Answers whether that was a clean end.
    pub(super) fn tell_end(&mut self, actor: ActorKey) -> bool {
        let Some(runtime) = self.actors.get_mut(&actor) else {
            return false;
        };
        let Some(life) = runtime.life.as_mut() else {
            return false;
        };
        if life.told {
            return life.clean;
        }
        let clean = runtime.control.is_clean(life.serial);
        (life.told, life.clean) = (true, clean);
        let exit_code = life.exit.code();
        // Which of the two notices of an end comes first is the kernel's choice.
        runtime.last_pid = (!life.reaped).then_some(life.pid);
        runtime.last_pidfd = runtime.last_pid.map(|_| Rc::clone(&life.pidfd));
        let at_ms = clock::now_monotonic_ms();
        let ended = Event::Ended {
            actor,
            life: life.no,
            clean,
            exit_code,
            at_ms,
        };
        self.note_end(actor);
        self.step(ended);
        clean
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
        if runtime.life.as_ref().is_none_or(|life| !life.ended) || self.is_somebody_coming(actor) {
            return;
        }
        let Some(runtime) = self.actors.get_mut(&actor) else {
            return;
        };
        let is_open = |life: &Life| life.ended && !life.sweeping;
        if !runtime.life.as_ref().is_some_and(is_open) {
            return;
        }
        runtime.left_behind(&mut self.members);
        let Some(life) = runtime.life.as_mut() else {
            return;
        };
        let no = life.no;
        if self.members.is_empty() {
            self.gone(actor, no);
        } else {
            life.sweeping = true;
            actix_rt::spawn(sweep::sweep(self.shared(), actor, no));
        }
    }

    /// Whether a fork or a template is under way: somebody may be in the cgroup of whom we have not
    /// heard. What the template has said already is taken first.
    pub(super) fn is_somebody_coming(&mut self, actor: ActorKey) -> bool {
        let is_forking = |engine: &Self| {
            let runtime = engine.actors.get(&actor);
            runtime.is_some_and(|runtime| runtime.forking.is_some())
        };
        if is_forking(self) {
            self.hear_template(actor);
        }
        let engine = self.shared();
        let Some(runtime) = self.actors.get_mut(&actor) else {
            return false;
        };
        let Some(fork) = &runtime.forking else {
            return runtime.building;
        };
        let serial = fork.serial;
        if let Some(life) = runtime.life.as_mut().filter(|l| l.ended && !l.waits) {
            life.waits = true;
            actix_rt::spawn(end_if_stuck(engine, actor, serial));
        }
        true
    }

    /// Somebody has reaped `pid`: how a life ended is known.
    pub(super) fn reaped(&mut self, actor: ActorKey, pid: u32, status: WaitStatus) {
        let Some(runtime) = self.actors.get_mut(&actor) else {
            return;
        };
        if let Some(reaped) = runtime.reaped(pid, status) {
            if let Some(own) = self.ledger.own(actor) {
                own.set_end(pid, status, reaped.clean);
            }
            self.say_ends(actor, Some(pid), Some(reaped.cause));
        }
        self.tell_restarts(actor, false);
    }

    /// A template has ended: if it was to report how the last life ended, the kernel is asked instead.
    pub(super) fn learn_last_end(&mut self, actor: ActorKey) {
        let engine = self.shared();
        let Some(runtime) = self.actors.get_mut(&actor) else {
            return;
        };
        if let Some((pid, pidfd)) = runtime.last_pid.zip(runtime.last_pidfd.take()) {
            actix_rt::spawn(learn_end(engine, actor, pid, pidfd));
        }
    }

    pub(super) fn gone(&mut self, actor: ActorKey, no: LifeNo) {
        let Some(runtime) = self.actors.get_mut(&actor) else {
            return;
        };
        if let Some(life) = runtime.life.take_if(|life| !life.over) {
            let asked = life.asked.then(|| Rc::clone(&life.pidfd));
            runtime.dying.push(Dying::of_life(life));
            if let Some(pidfd) = asked {
                self.end_later(pidfd);
            }
            self.end_lingering(actor);
        } else {
            runtime.life = None;
        }
        self.drop_retired(actor);
        self.step(Event::Gone { actor, life: no });
    }

    /// As [`Engine::after_end`] of a life that failed, but when the lives that follow have begun: whoever is
    /// told of an end would run on the CPUs that they, and the rest of the group, need.
    pub(super) fn after_end_soon(&mut self, actor: ActorKey, life: LifeNo) {
        self.put_off.push((actor, life));
        if self.put_off.len() == 1 {
            actix_rt::spawn(after_ends(self.shared()));
        }
    }

    /// Does what was put off, for these actors.
    pub(super) fn after_ends(&mut self, of: impl Fn(ActorKey) -> bool) {
        let put_off = std::mem::take(&mut self.put_off);
        let now: Vec<_>;
        (now, self.put_off) = put_off.into_iter().partition(|(actor, _)| of(*actor));
        for (actor, life) in now {
            self.after_end(actor, life, false);
        }
    }

    /// Off the path: what the end means for the requests, the catalogue and `aps`.
    pub(super) fn after_end(&mut self, actor: ActorKey, life: LifeNo, clean: bool) {
        self.unwatch(actor, life);
        self.tell_restarts(actor, false);
        self.note_failure(actor);
        self.parts.pmm.do_send(pmm::LifeEnded { actor, life });
        let restarts = self.core.view(actor).map_or(0, |view| view.restarts);
        let Some(runtime) = self.actors.get_mut(&actor) else {
            return;
        };
        if clean && runtime.gid.is_some() {
            let name = runtime.name;
            self.parts.pmm.do_send(pmm::RecordLife {
                name,
                note: refrain_pmm::LifeRecord {
                    life,
                    restarts,
                    clean: true,
                    running: None,
                },
            });
        }
    }
}

impl ActorRuntime {
    /// Ends a standby that will not be used.
    pub(super) fn discard(&mut self, standby: Standby) {
        let _ = standby.pidfd.send_signal(Signal::KILL);
        self.dying.push(Dying::of_standby(standby));
    }

    /// The second standby takes the place of the first, where that is gone. Whoever is asleep must be
    /// older than whoever is forked later: the wake word calls every serial up to its own.
    pub(super) fn move_up(&mut self) {
        if self.standby.is_none() {
            self.standby = self.spare.take();
        }
    }

    /// Whether its life can stop by itself, or wake its successor: this template forked it, and who is
    /// in its cgroup can be seen.
    pub(super) fn cooperates(&self) -> bool {
        let template = self.template.as_ref();
        let life = self.life.as_ref();
        template.is_some_and(|template| template.kind == StartKind::Template)
            && life.is_some_and(|life| life.generation == self.generation)
            && matches!(self.contained, Contained::Cgroup(_))
    }

    /// Whether the fault handler of the life with this serial has left a record, which is then taken
    /// when its end is told to others.
    pub(super) fn expect_record(&mut self, serial: Serial) -> bool {
        let is_there = self.control.has_failure_of(serial);
        if is_there {
            self.failing = Some(serial);
        }
        is_there
    }

    /// Somebody has reaped `pid`. Answers how it ended, where it was a life.
    pub(super) fn reaped(&mut self, pid: u32, status: WaitStatus) -> Option<Reaped> {
        let current = self.life.as_mut().filter(|life| life.pid == pid);
        // Woken by the life before it, it has begun and ended before that was booked.
        if let Some(standby) = self.standby.as_mut().filter(|standby| standby.pid == pid) {
            standby.reaped = Some(status);
        }
        let waited_for = self.untold.iter().any(|restart| restart.pid == Some(pid))
            || self.unsaid.iter().any(|end| end.is_of(pid));
        if current.is_none() && self.last_pid != Some(pid) && !waited_for {
            return None;
        }
        // An end that is heard of late is told, and is not how the last life ended.
        let is_last = current.is_some() || self.last_pid == Some(pid);
        let serial = current.map(|life| {
            life.reaped = true;
            life.serial
        });
        let clean = self.control.clean.load(Ordering::Acquire);
        let was_clean = serial.is_some_and(|serial| serial.0 == clean);
        let errno = self.control.exec_errno.swap(0, Ordering::Relaxed);
        let status_of_program = (errno == 0).then_some(status);
        if is_last {
            self.last_status = status_of_program;
        }
        if let Some(life) = self.life.as_mut().filter(|life| life.pid == pid) {
            life.exit.status = status_of_program;
        }
        let how = if errno != 0 {
            format!(
                "exec failed: {}",
                std::io::Error::from_raw_os_error(errno as i32)
            )
        } else {
            let hung = self.hang.cause(pid, status);
            hung.unwrap_or_else(|| self.cause(pid, status, was_clean))
        };
        self.explain_restart(pid, &how);
        let cause = if was_clean {
            format!("clean, {how}")
        } else {
            how
        };
        if is_last {
            self.last_end = Some(cause.clone());
        }
        if self.last_pid == Some(pid) {
            (self.last_pid, self.last_pidfd) = (None, None);
        }
        Some(Reaped {
            clean: was_clean,
            cause,
        })
    }
}

async fn after_ends(engine: SharedEngine) {
    tokio::time::sleep(Duration::from_millis(1)).await;
    engine.borrow_mut().after_ends(|_| true);
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
    for turn in 0..LEARN_TRIES {
        if let Some(status) = pidfd.exit_info() {
            return engine.borrow_mut().reaped(actor, pid, status);
        }
        let pause = if turn < QUICK_TRIES { 1 } else { 20 };
        tokio::time::sleep(Duration::from_millis(pause)).await;
    }
    let mut engine = engine.borrow_mut();
    // What is known is how the life before that one ended.
    if let Some(runtime) = engine.actors.get_mut(&actor)
        && runtime.last_pid.take_if(|last| *last == pid).is_some()
    {
        (runtime.last_end, runtime.last_status) = (None, None);
    }
    engine.tell_restarts(actor, true);
}
