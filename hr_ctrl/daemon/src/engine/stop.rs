//! Telling lives to stop (SPEC H9, H24), and the stop of a group that has a next life before it.
//!
//! A group that restarts waits for all of its members. The kernel takes some forty microseconds to
//! end each of them, most of it for memory that nobody waits for. So a member is *asked* first:
//! the shim's handler of the stop signal closes the life's files, publishes that it has stopped, and
//! sleeps for good, which is all that the next lives have to wait for (invariants 1 and 2: it runs no
//! line of the program again, and holds no file). Its memory is given back later, when the lives that
//! follow have begun. A life that cannot do that (threads, children, a program that starts by
//! exec) gets SIGKILL, at once or when it has not answered within [`GRACE`].

use std::rc::Rc;
use std::time::{Duration, Instant};

use hr_ctrl_core::{ActorKey, Event, StopHow};
use refrain_abi::control::{STOP_SIGNAL, STOP_VALUE};
use refrain_abi::{LifeNo, Serial};
use refrain_sys::{PidFd, Signal, clock, process};

use super::{Engine, SharedEngine};
use crate::site::Notice;

/// How long a member has to stop by itself.
const GRACE: Duration = Duration::from_millis(10);
/// How long those that have stopped by themselves are left alone, for the lives that begin.
const QUIET: Duration = Duration::from_millis(3);
/// How many of them are ended together, a millisecond apart.
const TOGETHER: usize = 8;
/// How long a life that says it fails may take to end before it is ended: once or twice this.
const LINGER: Duration = Duration::from_secs(5);

impl Engine {
    /// Carries out `Stop`.
    pub(super) fn stop(&mut self, actor: ActorKey, life: LifeNo, how: StopHow) {
        if self.supervised.contains_key(&actor) {
            return self.stop_supervised(actor, life, how);
        }
        let grace = self.parts.tunables.hr_ctrl.grace_ms;
        let Some(runtime) = self.actors.get_mut(&actor) else {
            return;
        };
        let cooperates = runtime.cooperates();
        let Some(running) = runtime.life.as_mut().filter(|running| running.no == life) else {
            // It has not been woken yet: it need not be.
            if runtime
                .begin
                .as_ref()
                .is_some_and(|begin| begin.life == life)
            {
                runtime.begin = None;
                let clean = false;
                self.deferred.push_back(Event::Ended {
                    actor,
                    life,
                    clean,
                    exit_code: None,
                    at_ms: clock::now_monotonic_ms(),
                });
                self.deferred.push_back(Event::Gone { actor, life });
            }
            return;
        };
        if how == StopHow::Tidy {
            let _ = running.pidfd.send_signal(Signal::TERM);
            let pidfd = Rc::clone(&running.pidfd);
            actix_rt::spawn(async move {
                tokio::time::sleep(Duration::from_millis(grace)).await;
                let _ = pidfd.send_signal(Signal::KILL);
            });
            return;
        }
        let restarts = runtime
            .gid
            .is_some_and(|gid| self.core.is_group_restarting(gid));
        let askable = restarts && cooperates && runtime.spec.notice == Notice::Fault;
        if askable && running.pidfd.queue_signal(STOP_SIGNAL, STOP_VALUE).is_ok() {
            running.asked = true;
            self.ask(actor);
        } else {
            // It may have ended already; then its pidfd says so on its own.
            let _ = running.pidfd.send_signal(Signal::KILL);
        }
    }

    /// Notes that a member was asked to stop, and sees to it that the answers are looked for.
    fn ask(&mut self, actor: ActorKey) {
        self.asked.push(actor);
        if self.asked.len() == 1 {
            actix_rt::spawn(wait_for_asked(self.shared()));
        }
    }

    /// Takes the answers of members that were asked to stop; whether any is still to come.
    fn look_at_asked(&mut self) -> bool {
        let mut asked = std::mem::take(&mut self.asked);
        asked.retain(|actor| {
            let Some(runtime) = self.actors.get(actor) else {
                return false;
            };
            let Some(life) = runtime.life.as_ref().filter(|l| l.asked && !l.ended) else {
                return false;
            };
            let serial = life.serial;
            let stopped = runtime.control.has_stopped(serial);
            if stopped {
                self.life_stopped(*actor, serial);
            }
            !stopped
        });
        // A life that began and was asked meanwhile comes behind.
        asked.append(&mut self.asked);
        self.asked = asked;
        !self.asked.is_empty()
    }

    /// Those that have not answered are ended.
    fn end_asked(&mut self) {
        for actor in std::mem::take(&mut self.asked) {
            let life = self.actors.get(&actor).and_then(|r| r.life.as_ref());
            if let Some(life) = life.filter(|life| life.asked && !life.ended) {
                let _ = life.pidfd.send_signal(Signal::KILL);
            }
        }
    }

    /// A life that has stopped for good keeps its memory until the lives after it have begun.
    pub(super) fn end_later(&mut self, pidfd: Rc<PidFd>) {
        self.stopped.push(pidfd);
        if self.stopped.len() == 1 {
            actix_rt::spawn(end_stopped(self.shared()));
        }
    }

    /// What runs nothing any more ends at once, but for a core dump. What does not is ended.
    pub(super) fn end_lingering(&mut self, actor: ActorKey) {
        let Some(runtime) = self.actors.get_mut(&actor) else {
            return;
        };
        if !std::mem::replace(&mut runtime.lingering, true) {
            actix_rt::spawn(end_lingering(self.shared(), actor));
        }
    }

    /// Ends what has lingered for a whole round; whether there is anything left to look at.
    fn look_at_lingering(&mut self, actor: ActorKey, last_round: &mut Vec<Serial>) -> bool {
        let Some(runtime) = self.actors.get_mut(&actor) else {
            return false;
        };
        let life = runtime.life.iter().filter(|life| life.told && !life.over);
        let life = life.map(|life| (life.serial, life.pid, &life.pidfd));
        let dying = runtime.dying.iter().map(|d| (d.serial, d.pid, &d.pidfd));
        let lingering: Vec<_> = life.chain(dying).collect();
        for (serial, pid, pidfd) in &lingering {
            if last_round.contains(serial) && !process::is_dumping_core(*pid) {
                let _ = pidfd.send_signal(Signal::KILL);
            }
        }
        *last_round = lingering.iter().map(|(serial, ..)| *serial).collect();
        let is_any = !last_round.is_empty();
        runtime.lingering = is_any;
        is_any
    }
}

async fn end_lingering(engine: SharedEngine, actor: ActorKey) {
    let mut last_round = Vec::new();
    loop {
        tokio::time::sleep(LINGER).await;
        if !engine
            .borrow_mut()
            .look_at_lingering(actor, &mut last_round)
        {
            return;
        }
    }
}

/// Looks for answers between the turns of the event loop: other groups' ends are not kept waiting.
async fn wait_for_asked(engine: SharedEngine) {
    let asked_at = Instant::now();
    loop {
        tokio::task::yield_now().await;
        if !engine.borrow_mut().look_at_asked() {
            return;
        }
        if asked_at.elapsed() > GRACE {
            return engine.borrow_mut().end_asked();
        }
        // Those that are to answer need the CPU that this thread is on.
        std::thread::yield_now();
    }
}

/// Ends those that have stopped by themselves, a few at a time.
async fn end_stopped(engine: SharedEngine) {
    tokio::time::sleep(QUIET).await;
    loop {
        let few = {
            let mut engine = engine.borrow_mut();
            let from = engine.stopped.len().saturating_sub(TOGETHER);
            engine.stopped.split_off(from)
        };
        if few.is_empty() {
            return;
        }
        for pidfd in few {
            let _ = pidfd.send_signal(Signal::KILL);
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
