//! Hang detection (SPEC H34): lives that promise progress, and checks from outside.
//!
//! A life that is watched has a task for each kind of look, which ends with the life: an actor that is not
//! watched costs nothing, and the restart path does nothing for one that is. A life that hangs is killed;
//! from there on it is a failure like any other, but for the cause that is told.
//!
//! The progress counter is looked at [`LOOKS`] times in a period. The promise is missed when it has stood
//! still at all of them in a row: looks are counted, not time, so that a controller, or a machine, that
//! stood still itself blames nobody. A life that somebody has stopped, frozen or is debugging is excused,
//! and its period begins anew; so is one that is being stopped, or that has called the exit handler.
//! Must never act on anything but the life that it has looked at.

mod checking;

use std::rc::Rc;
use std::time::Duration;

use hr_ctrl_core::{ActorKey, ActorState};
use refrain_abi::{LifeNo, Serial};
use refrain_sys::{PidFd, Signal, WaitStatus, clock, process};
use tokio::task::JoinHandle;

use super::runtime::{ActorRuntime, Life};
use super::{Engine, SharedEngine};
use crate::checks::spoken;
use crate::pmm::Asker;
use crate::site::{StartSpec, WatchInfo};
use crate::watch;

/// How often the progress counter is looked at within one period.
const LOOKS: u32 = 4;
/// How long after SIGKILL a life may take to end before somebody is told that it does not.
const KILLED_LONG_AGO: Duration = Duration::from_secs(2);

/// What the engine holds of an actor's watch.
#[derive(Default)]
pub(crate) struct Hang {
    watch: Option<Watch>,
    /// The life that was found to hang, until its end is known, and the cause.
    verdict: Option<(u32, String)>,
}

/// How the life that runs is watched.
struct Watch {
    life: LifeNo,
    progress: Option<Progress>,
    check: Option<Checking>,
    /// When it was last seen well, in milliseconds of the monotonic clock.
    well_at: Option<u64>,
}

/// A promise, and how it is kept.
struct Progress {
    period_ms: u32,
    count: u64,
    /// At how many looks in a row the counter stood still.
    still: u32,
    /// Why that does not count.
    excuse: Option<&'static str>,
    _looks: Looks,
}

/// A check, and what came of it.
struct Checking {
    failed: u32,
    trouble: Option<String>,
    /// The console was told that it cannot be carried out.
    told: bool,
    _looks: Looks,
}

/// Somebody who looks, until this is dropped.
struct Looks(JoinHandle<()>);

impl Drop for Looks {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Engine {
    /// Adds what the configuration says of an actor of this name.
    pub(crate) fn configure(&self, spec: &mut StartSpec) {
        if let Some(actor) = self.parts.tunables.actors.get(spec.name.as_str()) {
            spec.hang = std::mem::take(&mut spec.hang).or(&actor.hang);
        }
    }

    /// Begins to watch the life that has just begun, or that was adopted: every period begins now.
    pub(super) fn watch_life(&mut self, actor: ActorKey) {
        let engine = self.shared();
        let Some(runtime) = self.actors.get_mut(&actor) else {
            return;
        };
        runtime.hang.watch = None;
        let Some(life) = runtime.life.as_ref().filter(|life| !life.ended) else {
            return;
        };
        let spec = &runtime.spec.hang;
        let check = spec.check.clone().map(|check| {
            let after = spec.after_ms.unwrap_or(check.every_ms);
            let looks =
                checking::check_again_and_again(engine, (actor, life.serial), check, ms(after));
            Checking {
                failed: 0,
                trouble: None,
                told: false,
                _looks: Looks(actix_rt::spawn(looks)),
            }
        });
        if check.is_some() {
            runtime.hang.watch = Some(Watch::of(life, check));
        }
        self.watch_progress(actor);
    }

    /// A life has made a promise, or changed it, or taken it back.
    pub(crate) fn promised(&mut self, by: &Asker) {
        let runtime = self.actors.get(&by.actor);
        let life = runtime.and_then(|runtime| runtime.life.as_ref());
        if life.is_some_and(|life| life.no == by.life && !life.ended) {
            self.watch_progress(by.actor);
        }
    }

    /// Begins to watch the progress of the life that runs, if any was promised.
    fn watch_progress(&mut self, actor: ActorKey) {
        let engine = self.shared();
        let Some(runtime) = self.actors.get_mut(&actor) else {
            return;
        };
        let Some(life) = &runtime.life else { return };
        let spec = &runtime.spec.hang;
        // Its own promise begins when it makes it; time to start up is not for that.
        let promised = match spec.progress_ms {
            Some(period_ms) => Some((period_ms, spec.after_ms.unwrap_or(0))),
            None => runtime.control.promise_of(life.serial).map(|own| (own, 0)),
        };
        let Some((period_ms, after_ms)) = promised else {
            if let Some(watch) = &mut runtime.hang.watch {
                watch.progress = None;
            }
            return;
        };
        let every = ms(period_ms.div_ceil(LOOKS).into());
        let looks = look_again_and_again(engine, (actor, life.serial), ms(after_ms), every);
        let progress = Progress {
            period_ms,
            count: runtime.progress(),
            still: 0,
            excuse: None,
            _looks: Looks(actix_rt::spawn(looks)),
        };
        let watch = &mut runtime.hang.watch;
        watch.get_or_insert_with(|| Watch::of(life, None)).progress = Some(progress);
    }

    /// A life has ended: nobody looks at it any more, and a command that checks it ends.
    pub(super) fn unwatch(&mut self, actor: ActorKey, life: LifeNo) {
        if let Some(runtime) = self.actors.get_mut(&actor) {
            runtime.hang.watch.take_if(|watch| watch.life == life);
        }
    }

    /// Looks at the progress counter; whether somebody is to look again.
    fn look_at_progress(&mut self, (actor, serial): Watched) -> bool {
        let excuse = match self.moves(actor, serial) {
            None => return false,
            Some(true) => return true,
            Some(false) => self.excuse(actor),
        };
        let Some(runtime) = self.actors.get_mut(&actor) else {
            return false;
        };
        let Some(progress) = runtime.hang.progress() else {
            return false;
        };
        progress.excuse = excuse;
        progress.still = if excuse.is_some() {
            0
        } else {
            progress.still + 1
        };
        if progress.still < LOOKS {
            return true;
        }
        let why = format!("no progress for {}", spoken(progress.period_ms.into()));
        self.hangs(actor, &why);
        false
    }

    /// Whether the counter of a life has moved since the last look; `None`: that life is not watched.
    fn moves(&mut self, actor: ActorKey, serial: Serial) -> Option<bool> {
        let runtime = self.actors.get_mut(&actor)?;
        runtime.watched_life(serial)?;
        let count = runtime.progress();
        let watch = runtime.hang.watch.as_mut()?;
        let progress = watch.progress.as_mut()?;
        if progress.count == count {
            return Some(false);
        }
        (progress.count, progress.still, progress.excuse) = (count, 0, None);
        watch.well_at = Some(clock::now_monotonic_ms());
        Some(true)
    }

    /// Why the life that runs is excused from being well, if it is.
    fn excuse(&self, actor: ActorKey) -> Option<&'static str> {
        let runtime = self.actors.get(&actor)?;
        let life = runtime.life.as_ref()?;
        let state = self.core.view(actor).map(|view| view.state);
        if state != Some(ActorState::Running) {
            return Some("it is being stopped");
        }
        if runtime.control.is_clean(life.serial) {
            return Some("it has called the exit handler");
        }
        match process::state(life.pid) {
            Some('T') => return Some("somebody has stopped it"),
            Some('t') => return Some("it is being debugged"),
            _ => {}
        }
        if runtime.contained.is_frozen() {
            return Some("somebody has frozen it");
        }
        process::is_dumping_core(life.pid).then_some("its core is being dumped")
    }

    /// The life that runs hangs: ends it.
    fn hangs(&mut self, actor: ActorKey, why: &str) {
        let engine = self.shared();
        let Some(runtime) = self.actors.get_mut(&actor) else {
            return;
        };
        let Some(life) = &runtime.life else { return };
        let (name, core) = (runtime.name, runtime.spec.hang.core);
        let signal = if core { "SIGABRT" } else { "SIGKILL" };
        let line = format!("HR_CTRL: {name} hangs ({why}): it is sent {signal}");
        self.parts.output.say(line);
        runtime.hang.verdict = Some((life.pid, format!("hang: {why}")));
        runtime.hang.watch = None;
        let pidfd = Rc::clone(&life.pidfd);
        let grace = ms(self.parts.tunables.hr_ctrl.grace_ms);
        let pid = life.pid;
        actix_rt::spawn(async move {
            if core {
                abort(pid, &pidfd, grace).await;
            }
            kill(&engine, actor, &pidfd).await;
        });
    }

    /// How the present life is watched, for `aps`; `None`: it is not.
    pub(super) fn watch_info(&self, actor: ActorKey) -> Option<WatchInfo> {
        let runtime = self.actors.get(&actor)?;
        let watch = runtime.hang.watch.as_ref()?;
        let spec = runtime.spec.hang.check.as_ref();
        let checking = watch.check.as_ref();
        let failing = checking
            .zip(spec)
            .filter(|(checking, _)| checking.failed > 0);
        let failing = failing.map(|(checking, spec)| (checking.failed, spec.failures));
        let trouble = checking.and_then(|checking| checking.trouble.clone());
        let excuse = watch.progress.as_ref().and_then(|progress| progress.excuse);
        let now = clock::now_monotonic_ms();
        // Whoever asks sees it, too, without waiting for the next look.
        let progress = watch.progress.as_ref();
        let has_moved = progress.is_some_and(|progress| progress.count != runtime.progress());
        Some(WatchInfo {
            progress_ms: watch.progress.as_ref().map(|progress| progress.period_ms),
            check: checking.and(spec).map(|check| check.probe.to_string()),
            well_ms: if has_moved {
                Some(0)
            } else {
                watch.well_at.map(|at| now.saturating_sub(at))
            },
            failed: failing.map(|(failed, _)| failed),
            failures: checking.and(spec).map(|check| check.failures),
            trouble: trouble.or_else(|| excuse.map(str::to_owned)),
        })
    }
}

/// A life that is watched.
type Watched = (ActorKey, Serial);

impl Watch {
    fn of(life: &Life, check: Option<Checking>) -> Self {
        Self {
            life: life.no,
            progress: None,
            check,
            well_at: None,
        }
    }
}

impl Hang {
    fn progress(&mut self) -> Option<&mut Progress> {
        self.watch.as_mut()?.progress.as_mut()
    }

    /// The cause of the end of `pid`, if that is a life that hung, and was killed for it.
    pub(super) fn cause(&mut self, pid: u32, status: WaitStatus) -> Option<String> {
        let (_, cause) = self.verdict.take_if(|(hung, _)| *hung == pid)?;
        let by_us = [Signal::KILL, Signal::ABORT].map(|signal| Some(signal.as_raw()));
        by_us.contains(&status.signal()).then_some(cause)
    }
}

impl ActorRuntime {
    fn progress(&self) -> u64 {
        self.control
            .progress
            .load(std::sync::atomic::Ordering::Acquire)
    }

    /// The life with this serial, if it runs.
    fn watched_life(&self, serial: Serial) -> Option<&Life> {
        let life = self.life.as_ref()?;
        (life.serial == serial && !life.told && !life.ended).then_some(life)
    }
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

async fn look_again_and_again(engine: SharedEngine, of: Watched, after: Duration, every: Duration) {
    tokio::time::sleep(after).await;
    loop {
        tokio::time::sleep(every).await;
        if !engine.borrow_mut().look_at_progress(of) {
            return;
        }
    }
}

/// Sends SIGABRT, and waits until the life has ended, or until it shows that it does not mean to.
async fn abort(pid: u32, pidfd: &Rc<PidFd>, grace: Duration) {
    let _ = pidfd.send_signal(Signal::ABORT);
    loop {
        let ended = tokio::time::timeout(grace, watch::readable(Rc::clone(pidfd))).await;
        if ended.is_ok() || !process::is_dumping_core(pid) {
            return;
        }
    }
}

/// Sends SIGKILL, and says so where the life does not end even then.
async fn kill(engine: &SharedEngine, actor: ActorKey, pidfd: &Rc<PidFd>) {
    let _ = pidfd.send_signal(Signal::KILL);
    let ended = tokio::time::timeout(KILLED_LONG_AGO, watch::readable(Rc::clone(pidfd))).await;
    let engine = engine.borrow();
    if let (Err(_), Some(runtime)) = (ended, engine.actors.get(&actor)) {
        engine.parts.output.say(format!(
            "HR_CTRL: {} does not end: it waits in the kernel, where no signal reaches it; the next life \
             begins when it has ended",
            runtime.name
        ));
    }
}
