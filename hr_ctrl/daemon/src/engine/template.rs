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

use hr_ctrl_core::{ActorKey, Event, Kind};
use refrain_abi::template::FromTemplate;
use refrain_abi::{Capability, LifeNo, Serial};
use refrain_image::{Heard, StartKind, Template, TemplateError, choose_start};
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

    /// Builds the template of an actor whose image is in memory, in the background.
    pub(super) fn build_template(&mut self, actor: ActorKey) {
        let Some(runtime) = self.actors.get_mut(&actor) else {
            return;
        };
        if runtime.building {
            return;
        }
        runtime.building = true;
        runtime.generation += 1;
        let generation = runtime.generation;
        self.note_counters(actor);
        let engine = self.shared();
        actix_rt::spawn(async move {
            if let Err(why) = build(&engine, actor, generation).await {
                engine.borrow_mut().build_failed(actor, generation, &why);
            }
        });
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

    fn build_failed(&mut self, actor: ActorKey, generation: u32, why: &str) {
        let Some(runtime) = self.actors.get_mut(&actor) else {
            return;
        };
        if runtime.generation != generation {
            return;
        }
        runtime.building = false;
        runtime.template = None;
        self.give_up(actor, why);
        self.settle(actor);
    }

    /// Whoever waits for a standby is told that there will be none.
    fn give_up(&mut self, actor: ActorKey, why: &str) {
        let Some(runtime) = self.actors.get_mut(&actor) else {
            return;
        };
        if let Some(ticket) = runtime.loading.take() {
            self.load_failed(actor, ticket, why.to_owned());
        } else if let Some(begin) = runtime.begin.take() {
            let name = runtime.name;
            self.parts
                .output
                .say(format!("HR_CTRL: {name} cannot be started again: {why}"));
            self.step(Event::BeginFailed {
                actor,
                life: begin.life,
            });
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

/// Builds a template of `generation`, waits until it serves, and starts listening to it.
async fn build(engine: &SharedEngine, actor: ActorKey, generation: u32) -> Result<(), String> {
    super::load::image_in_memory(engine, actor).await?;
    let mut kind = {
        let borrowed = engine.borrow();
        let Some(runtime) = borrowed.actors.get(&actor) else {
            return Ok(());
        };
        let Some(program) = &runtime.program else {
            return Ok(());
        };
        if runtime.kind == Kind::Ordinary || runtime.exec_reason.is_some() {
            StartKind::Exec
        } else {
            choose_start(&program.image)
        }
    };
    loop {
        let Some(template) = spawn(engine, actor, generation, kind).await? else {
            return Ok(());
        };
        let limit =
            Duration::from_millis(engine.borrow().parts.tunables.hr_ctrl.template_timeout_ms);
        let why = match tokio::time::timeout(limit, first_word(&template)).await {
            Ok(Ok(FromTemplate::Ready)) => {
                serve(engine, actor, generation, template, kind, false);
                return Ok(());
            }
            Ok(Ok(FromTemplate::Threaded { threads })) => {
                format!("its constructors start threads ({threads} before main)")
            }
            Ok(_) => "it ends before main in its template".to_owned(),
            Err(_) => format!(
                "it does not reach main within {} s in its template",
                limit.as_secs()
            ),
        };
        kill(&template);
        actix_rt::spawn(reap(Rc::clone(&template)));
        if kind == StartKind::Exec {
            return Err("the template of its image did not come up".to_owned());
        }
        kind = StartKind::Exec;
        if let Some(runtime) = engine.borrow_mut().actors.get_mut(&actor) {
            runtime.exec_reason = Some(why);
        }
    }
}

/// Spawns a template on a thread of its own; `None` when nobody wants it any more.
async fn spawn(
    engine: &SharedEngine,
    actor: ActorKey,
    generation: u32,
    kind: StartKind,
) -> Result<Option<Rc<Template>>, String> {
    let prepared = {
        let borrowed = engine.borrow();
        borrowed
            .actors
            .get(&actor)
            .filter(|runtime| runtime.generation == generation)
            .and_then(|runtime| {
                let program = runtime.program.as_ref().map(Arc::clone)?;
                let output = runtime.output.as_ref()?.writer();
                Some((
                    program,
                    Arc::clone(&runtime.page),
                    output,
                    runtime.contained.directory(),
                    runtime.contained.procs(),
                ))
            })
    };
    let Some((program, page, output, cgroup, members)) = prepared else {
        return Ok(None);
    };
    let output = output.map_err(|error| error.to_string())?;
    let spawned = actix_rt::task::spawn_blocking(move || {
        let cgroup = cgroup.as_ref().map(AsFd::as_fd);
        let members = members.as_ref().map(AsFd::as_fd);
        Template::spawn_with_output(
            &program,
            kind,
            page.as_fd(),
            cgroup,
            members,
            output.as_fd(),
        )
    })
    .await;
    match spawned {
        Ok(Ok(template)) => Ok(Some(Rc::new(template))),
        Ok(Err(error)) => Err(format!("cannot start its template: {error}")),
        Err(error) => Err(format!("cannot start its template: {error}")),
    }
}

async fn first_word(template: &Rc<Template>) -> Result<FromTemplate, TemplateError> {
    loop {
        watch::readable(Rc::clone(template)).await?;
        if let Some(heard) = template.receive()? {
            return Ok(heard.message);
        }
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
    engine.let_template_go(actor, generation);
    engine.template_ended(actor, generation);
    engine.halt_if_done();
}

/// Templates are our children, so nobody else reaps them; but for those that a life has forked, whose
/// parent does.
async fn reap(template: Rc<Template>) {
    let Ok(pidfd) = template.pidfd.try_clone() else {
        return;
    };
    if watch::readable(Rc::new(pidfd)).await.is_ok() {
        let _ = template.pidfd.reap();
    }
}

fn kill(template: &Template) {
    // It may have ended by itself.
    let _ = template.pidfd.send_signal(Signal::KILL);
}
