//! Templates and standbys: the executing image of each actor, kept ready.
//!
//! A template is built when an actor is first run, when its arguments change, when its layout is to
//! be fresh, and when it has died. It is built on a thread of its own (spawning waits for an
//! exec); everything after that is messages on its socket. A template of an older generation is
//! never listened to.

use std::os::fd::AsFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hr_ctrl_core::{ActorKey, Event};
use refrain_abi::template::FromTemplate;
use refrain_abi::{Capability, LifeNo, Serial};
use refrain_image::{Heard, StartKind, Template};
use refrain_sys::{PidFd, Signal, WaitStatus, clock, seqpacket};

use super::runtime::{Forking, Standby, TemplateRuntime};
use super::{Engine, SharedEngine, claims};
use crate::watch;

/// How often the end of a life is looked for that the event loop cannot watch.
const POLL: Duration = Duration::from_millis(20);
/// How many templates in a row may die before the actor is given up.
const MAX_DEATHS: u32 = 3;

impl Engine {
    /// Sees to it that there will be a standby: asks the template, or builds one first.
    pub(super) fn want_standby(&mut self, actor: ActorKey) {
        let Some(runtime) = self.actors.get_mut(&actor) else {
            return;
        };
        let enough =
            runtime.standby.is_some() && (runtime.spare.is_some() || !runtime.forks.are_slow());
        if enough || runtime.forking.is_some() || runtime.building {
            return;
        }
        let Some(template) = &runtime.template else {
            self.build_template(actor);
            return;
        };
        if !template.ready {
            return;
        }
        // 0 is the serial of nobody.
        let serial = Serial(runtime.last_serial.0.checked_add(1).unwrap_or(1));
        let (generation, own) = (runtime.generation, self.ledger.own(actor));
        own.inspect(|own| own.set_counters(generation, serial));
        let asked = seqpacket::pair_nonblocking_first().and_then(|(ours, theirs)| {
            template
                .template
                .request_fork(serial, true, theirs, ours.as_fd())
                .map(|()| ours)
        });
        match asked {
            Ok(socket) => {
                runtime.last_serial = serial;
                runtime.forking = Some(Forking {
                    serial,
                    socket,
                    asked: Instant::now(),
                });
            }
            Err(error) => self.fork_failed(actor, &error.to_string()),
        }
    }

    /// Lets go of template and standby. Lives go on.
    pub(super) fn drop_template(&mut self, actor: ActorKey) {
        self.take_back(actor);
        let Some(runtime) = self.actors.get_mut(&actor) else {
            return;
        };
        runtime.generation += 1;
        runtime.building = false;
        runtime.forking = None;
        for standby in [runtime.standby.take(), runtime.spare.take()]
            .into_iter()
            .flatten()
        {
            runtime.discard(standby);
        }
        let Some(template) = runtime.template.take() else {
            return;
        };
        match runtime.life {
            Some(_) if runtime.retired.is_none() && !template.template.pidfd.has_ended() => {
                runtime.retired = Some(template.template);
            }
            _ => kill(&template.template),
        }
    }

    /// Lets go of the template of a life that is gone.
    pub(super) fn drop_retired(&mut self, actor: ActorKey) {
        let retired = self
            .actors
            .get_mut(&actor)
            .and_then(|runtime| runtime.retired.take());
        if let Some(template) = retired {
            kill(&template);
        }
    }

    pub(super) fn fork_failed(&mut self, actor: ActorKey, why: &str) {
        let Some(runtime) = self.actors.get_mut(&actor) else {
            return;
        };
        runtime.forking = None;
        let name = runtime.name;
        tracing::warn!(%name, why, "the template could not fork");
        self.settle(actor);
        // A shortage (EAGAIN, ENOMEM) passes: try again, but never in a tight loop.
        let engine = self.shared();
        actix_rt::spawn(async move {
            tokio::time::sleep(Duration::from_millis(100)).await;
            engine.borrow_mut().want_standby(actor);
        });
    }

    /// Takes what the template has said already, without waiting for the event loop.
    pub(super) fn hear_template(&mut self, actor: ActorKey) {
        let Some(runtime) = self.actors.get(&actor) else {
            return;
        };
        let generation = runtime.generation;
        let Some(template) = runtime.template.as_ref().map(|t| Rc::clone(&t.template)) else {
            return;
        };
        while let Ok(Some(heard)) = template.receive() {
            self.on_template(actor, generation, &template, heard);
        }
    }

    fn on_template(&mut self, actor: ActorKey, generation: u32, template: &Template, heard: Heard) {
        let Heard { message, fds } = heard;
        let Some(runtime) = self.actors.get_mut(&actor) else {
            return;
        };
        if let FromTemplate::Ended { pid, status } = message {
            return self.reaped(actor, pid, WaitStatus(status));
        }
        let wanted = runtime.generation == generation;
        if let (FromTemplate::Forked { serial, pid }, Some(fd)) = (message, fds.into_iter().next())
        {
            let forking = wanted.then_some(&mut runtime.forking);
            let fork = forking.and_then(|forking| forking.take_if(|fork| fork.serial == serial));
            let pidfd = PidFd::from(fd);
            return match (claims::check(template, pid, &pidfd), fork) {
                (Ok(()), Some(fork)) => self.standby_ready(actor, fork, pid, pidfd),
                // The template keeps its socket, so it would wait for its start for ever.
                (Ok(()), None) => drop(pidfd.send_signal(Signal::KILL)),
                // What it has said before is worth nothing either.
                (Err(why), _) => {
                    let name = runtime.name;
                    tracing::warn!(%name, %why, "its template is ended");
                    kill(template);
                }
            };
        }
        if !wanted {
            return;
        }
        match message {
            FromTemplate::ForkFailed { serial, errno } => {
                let is_it = |fork: &Forking| fork.serial == serial;
                if runtime.forking.as_ref().is_some_and(is_it) {
                    let why = std::io::Error::from_raw_os_error(errno as i32).to_string();
                    self.fork_failed(actor, &why);
                }
            }
            FromTemplate::Forked { .. }
            | FromTemplate::Ready
            | FromTemplate::Threaded { .. }
            | FromTemplate::Ended { .. }
            | FromTemplate::Child { .. }
            | FromTemplate::Reported { .. } => {}
        }
    }

    fn standby_ready(&mut self, actor: ActorKey, fork: Forking, pid: u32, pidfd: PidFd) {
        let mut capability = [0; 16];
        if clock::random_bytes(&mut capability).is_err() {
            let _ = pidfd.send_signal(Signal::KILL);
            return self.fork_failed(actor, "no random bytes");
        }
        let Some(runtime) = self.actors.get_mut(&actor) else {
            let _ = pidfd.send_signal(Signal::KILL);
            return;
        };
        let standby = Standby {
            serial: fork.serial,
            pid,
            pidfd: Rc::new(pidfd),
            socket: Arc::new(fork.socket),
            capability: Capability(capability),
            start_queued: None,
            reaped: None,
        };
        runtime.template_deaths = 0;
        runtime.forks.note(fork.asked.elapsed());
        let (serial, pidfd) = (standby.serial, Rc::clone(&standby.pidfd));
        if let Some(own) = self.ledger.own(actor) {
            own.set_capability(serial, standby.capability);
        }
        self.watch_child(actor, serial, pidfd);
        let Some(runtime) = self.actors.get_mut(&actor) else {
            return;
        };
        if let Some(begin) = runtime.begin.take() {
            let exec = runtime
                .template
                .as_ref()
                .is_some_and(|t| t.kind == StartKind::Exec);
            runtime.start = Some(if exec { "exec" } else { "template" });
            self.wake(actor, standby, begin);
            return;
        }
        let place = if runtime.standby.is_none() {
            &mut runtime.standby
        } else {
            // A relay may be armed already: its standby must not take this one for left behind.
            runtime.control.vouched[1].store(pid, std::sync::atomic::Ordering::Release);
            &mut runtime.spare
        };
        *place = Some(standby);
        self.queue_ahead(actor);
        self.settle(actor);
        self.want_standby(actor);
        let loading = self
            .actors
            .get_mut(&actor)
            .and_then(|runtime| runtime.loading.take());
        if loading.is_some() {
            self.register(actor, LifeNo(0));
            self.step(Event::Loaded { actor });
        }
    }

    /// Sees to it that the end of a standby or life is noticed.
    pub(super) fn watch_child(&self, actor: ActorKey, serial: Serial, pidfd: Rc<PidFd>) {
        let engine = self.shared();
        actix_rt::spawn(async move {
            // Registered until the next life has been woken: what it takes to let go of the fd is off
            // the restart path.
            let registered = watch::register(Rc::clone(&pidfd));
            match &registered {
                Ok(fd) => drop(fd.readable().await),
                // The event loop takes no more fds: slower, but no end goes unnoticed.
                Err(_) => {
                    while !pidfd.has_ended() {
                        tokio::time::sleep(POLL).await;
                    }
                }
            }
            engine.borrow_mut().child_ended(actor, serial);
        });
    }

    fn template_ended(&mut self, actor: ActorKey, generation: u32) {
        let Some(runtime) = self.actors.get_mut(&actor) else {
            return;
        };
        if runtime.generation != generation {
            return;
        }
        runtime.template_deaths += 1;
        runtime.limited.forget_passed();
        let (deaths, name) = (runtime.template_deaths, runtime.name);
        tracing::warn!(%name, deaths, "template ended");
        self.drop_template(actor);
        if deaths <= MAX_DEATHS {
            self.build_template(actor);
        } else {
            self.give_up(actor, &format!("its template ended {deaths} times"));
        }
        self.settle(actor);
    }
}

/// From now on this is the actor's template; `warm` where a life has forked it.
pub(super) fn serve(
    engine: &SharedEngine,
    actor: ActorKey,
    generation: u32,
    template: Rc<Template>,
    kind: StartKind,
    warm: bool,
) {
    let mut borrowed = engine.borrow_mut();
    let wanted = borrowed
        .actors
        .get_mut(&actor)
        .filter(|runtime| runtime.generation == generation);
    match wanted {
        Some(runtime) => {
            runtime.building = false;
            runtime.template = Some(TemplateRuntime {
                template: Rc::clone(&template),
                kind,
                ready: true,
                warm,
            });
            borrowed.keep_template(actor);
            borrowed.clearing += 1;
            actix_rt::spawn(listen(Rc::clone(engine), actor, generation, template));
            borrowed.want_standby(actor);
        }
        None => {
            kill(&template);
            actix_rt::spawn(reap(template));
        }
    }
}

/// Hands on what the template says until it ends, then reaps it.
pub(super) async fn listen(
    engine: SharedEngine,
    actor: ActorKey,
    generation: u32,
    template: Rc<Template>,
) {
    'alive: while watch::readable(Rc::clone(&template)).await.is_ok() {
        loop {
            match template.receive() {
                Ok(Some(heard)) => {
                    engine
                        .borrow_mut()
                        .on_template(actor, generation, &template, heard);
                }
                Ok(None) => break,
                Err(_) => break 'alive,
            }
        }
    }
    kill(&template);
    reap(template).await;
    let mut engine = engine.borrow_mut();
    engine.clearing -= 1;
    // A life that a standby of this template has begun by a relay is booked by the first; the second has it
    // kept.
    engine.template_ended(actor, generation);
    engine.let_template_go(actor, generation);
    engine.learn_last_end(actor);
    engine.halt_if_done();
}

/// Templates are our children, so nobody else reaps them; but for those that a life has forked, whose
/// parent does.
pub(super) async fn reap(template: Rc<Template>) {
    let Ok(pidfd) = template.pidfd.try_clone() else {
        return;
    };
    if watch::readable(Rc::new(pidfd)).await.is_ok() {
        let _ = template.pidfd.reap();
    }
}

pub(super) fn kill(template: &Template) {
    // It may have ended by itself.
    let _ = template.pidfd.send_signal(Signal::KILL);
}
