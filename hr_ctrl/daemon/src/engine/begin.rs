//! The beginning of a life: the last step of the restart path.
//!
//! With a standby asleep it is one store and one futex wake; the start frame of a direct actor is
//! queued on the life's socket long before. Everything else that a beginning brings with it is put
//! off to [`Engine::after_begin`].
//!
//! Invariant 1, one life at a time: the core decides `Begin` only after `Gone` of the life before,
//! a standby runs only when the wake word has reached its serial, and only this module advances
//! that word, by exactly the serial of the one standby there is.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use hr_ctrl_core::{ActorKey, Event, Kind, Ticket};
use refrain_abi::template::{MAX_FRAME, StartFrame};
use refrain_abi::{Aid, LifeNo};
use refrain_image::StartKind;
use refrain_sys::{clock, futex, seqpacket};

use super::runtime::{ActorRuntime, Begin, Life, Standby};
use super::{Engine, Pending};
use crate::ledger::Numbered;
use crate::pmm;

impl Engine {
    /// Carries out `Begin`: wakes the standby, or sees to it that there will be one.
    pub(super) fn begin(
        &mut self,
        actor: ActorKey,
        life: LifeNo,
        aid: Aid,
        ticket: Option<Ticket>,
    ) {
        if self.supervised.contains_key(&actor) {
            return self.begin_supervised(actor, life, aid, ticket);
        }
        self.forbid(actor);
        let Some(runtime) = self.actors.get_mut(&actor) else {
            return;
        };
        let mut begin = Begin {
            life,
            aid,
            stopped: false,
        };
        let mut rebuild = false;
        if let Some(ticket) = ticket
            && let Some(Pending::Run(request)) = self.tickets.get_mut(&ticket)
        {
            begin.stopped = request.spec.stopped;
            runtime.stdio = request.stdio.take();
            rebuild = runtime.program.is_none() || !same_start(&runtime.spec, &request.spec);
            if rebuild {
                let kept = runtime.spec.program.clone();
                runtime.spec = request.spec.clone();
                runtime.spec.program = kept;
            }
        }
        if rebuild {
            // Other arguments or another environment: constructors have seen the old ones, so the
            // template is built anew, from the image in memory.
            runtime.begin = Some(begin);
            self.register(actor, life);
            self.keep_dossier(actor);
            self.drop_template(actor);
            if let Err(why) = self.set_limits(actor) {
                return self.cannot_begin(actor, &why);
            }
            self.build_template(actor);
            return;
        }
        // A frame that is queued cannot be taken back; a standby with the wrong one is not used.
        let fits = |standby: &Standby| match standby.start_queued {
            None => true,
            Some(queued) => queued == begin.life && !begin.stopped,
        };
        // The next one moves up. Its frame is queued once the life before it is known to have begun.
        let next = runtime.spare.take();
        let standby = std::mem::replace(&mut runtime.standby, next);
        let standby = match standby {
            Some(unfit) if !fits(&unfit) => {
                runtime.discard(unfit);
                runtime.standby.take()
            }
            // The oldest one there is begins: the wake word would call it together with a younger one.
            standby => standby.or_else(|| runtime.standby.take()),
        };
        match standby {
            Some(standby) => {
                runtime.start = Some(match runtime.template.as_ref().map(|t| t.kind) {
                    Some(StartKind::Exec) => "exec",
                    _ => "standby",
                });
                self.wake(actor, standby, begin);
            }
            None => {
                runtime.begin = Some(begin);
                self.want_standby(actor);
            }
        }
    }

    /// A life that is to begin cannot.
    pub(super) fn cannot_begin(&mut self, actor: ActorKey, why: &str) {
        let Some(runtime) = self.actors.get_mut(&actor) else {
            return;
        };
        if let Some(begin) = runtime.begin.take() {
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

    /// Wakes `standby` as the life that `begin` describes.
    pub(super) fn wake(&mut self, actor: ActorKey, standby: Standby, begin: Begin) {
        let Some(runtime) = self.actors.get_mut(&actor) else {
            return;
        };
        if standby.start_queued.is_none() {
            let frame = StartFrame {
                life: begin.life,
                serial: standby.serial,
                stopped: begin.stopped,
            };
            let own = self.ledger.own(actor);
            own.inspect(|own| own.will_queue(begin.life, standby.serial));
            if !queue_start(runtime, &standby, &frame, self.null.as_fd()) {
                // It would wait for its frame for ever; another one is forked, for another try.
                runtime.discard(standby);
                runtime.begin = Some(begin);
                self.fork_failed(actor, "its standby does not take its start");
                return;
            }
        }
        let own = self.ledger.own(actor);
        own.inspect(|own| own.has_queued(begin.life, standby.serial));
        let began_ms = clock::now_monotonic_ms();
        let woken = Numbered {
            life: begin.life,
            serial: standby.serial,
        };
        own.inspect(|own| own.set_life(woken, standby.pid, began_ms, standby.capability));
        let page = &runtime.control;
        page.set_aid(standby.serial, begin.aid);
        // `go` first: whoever is awake finds that the controller has begun it.
        page.go.store(standby.serial.0, Ordering::Release);
        page.wake.store(standby.serial.0, Ordering::Release);
        let _ = futex::wake(&page.wake, i32::MAX as u32);
        if page.declined.load(Ordering::Acquire) == standby.serial.0 {
            let _ = futex::wake(&page.go, i32::MAX as u32);
        }
        runtime.life = Some(Life {
            no: begin.life,
            aid: begin.aid,
            serial: standby.serial,
            pid: standby.pid,
            pidfd: standby.pidfd,
            capability: standby.capability,
            generation: runtime.generation,
            socket: Arc::clone(&standby.socket),
            began_ms,
            reaped: false,
            exit: super::policy::Exit::default(),
            asked: false,
            told: false,
            clean: false,
            ended: false,
            over: false,
            waits: false,
            sweeping: false,
        });
        if let Some(status) = standby.reaped {
            runtime.reaped(standby.pid, status);
        }
        self.life_began(actor, begin.life, begin.aid);
        let engine = self.shared();
        let socket = standby.socket;
        actix_rt::spawn(async move {
            // Everything that is ready on this thread goes first: other members' wake-ups above all.
            tokio::task::yield_now().await;
            engine
                .borrow_mut()
                .after_begin(actor, begin.life, begin.aid, socket);
        });
    }

    /// Off the path: serve the life's requests, write the catalogue, make the next standby.
    fn after_begin(
        &mut self,
        actor: ActorKey,
        life: LifeNo,
        aid: Aid,
        socket: Arc<std::os::fd::OwnedFd>,
    ) {
        self.reserve_aids(aid);
        let restarts = self.core.view(actor).map_or(0, |view| view.restarts);
        let Some(runtime) = self.actors.get_mut(&actor) else {
            return;
        };
        runtime.last_aid = Some(aid);
        let Some(running) = &runtime.life else {
            return;
        };
        if running.no != life {
            return;
        }
        self.parts.pmm.do_send(pmm::ServeLife {
            asker: pmm::Asker {
                actor,
                gid: runtime.gid,
                life,
            },
            aid,
            serial: running.serial,
            capability: running.capability,
            socket,
            page: Arc::clone(&runtime.page),
            control: Arc::clone(&runtime.control),
        });
        if runtime.gid.is_some() {
            let name = runtime.name;
            self.parts.pmm.do_send(pmm::RecordLife {
                name,
                note: refrain_pmm::LifeRecord {
                    life,
                    restarts,
                    clean: false,
                    running: runtime.running(),
                },
            });
        }
        self.watch_life(actor);
        let Some(runtime) = self.actors.get(&actor) else {
            return;
        };
        if runtime.kind == Kind::Ordinary {
            return;
        }
        if runtime.spec.fresh_layout {
            self.drop_template(actor);
            self.build_template(actor);
            return;
        }
        self.queue_ahead(actor);
        let gid = self.core.view(actor).and_then(|view| view.gid);
        let alone = gid.is_none_or(|gid| self.core.members(gid).nth(1).is_none());
        if alone {
            self.want_standby(actor);
            // Not a moment later, where it might meet the next end of a life that is short.
            self.after_ends(|ended| ended == actor);
        } else {
            self.want_standby_soon(actor);
        }
    }

    /// Queues the start frame of the next life, where what it will say is known beforehand.
    pub(super) fn queue_ahead(&mut self, actor: ActorKey) {
        let Some(runtime) = self.actors.get_mut(&actor) else {
            return;
        };
        let Some(running) = runtime
            .life
            .as_ref()
            .filter(|_| runtime.kind == Kind::Direct)
        else {
            return;
        };
        let next = running.no.next();
        let Some(mut standby) = runtime
            .standby
            .take_if(|standby| standby.start_queued.is_none())
        else {
            return;
        };
        let serial = standby.serial;
        let frame = StartFrame {
            life: next,
            serial,
            stopped: false,
        };
        // A frame that the next hr_ctrl does not know of would be sent twice.
        let own = self.ledger.own(actor);
        own.inspect(|own| own.will_queue(next, serial));
        if queue_start(runtime, &standby, &frame, self.null.as_fd()) {
            standby.start_queued = Some(next);
            own.inspect(|own| own.has_queued(next, serial));
        }
        runtime.standby = Some(standby);
        self.tell_standby(actor);
        self.arm_relay(actor);
    }
}

/// Sends the start frame with stdin, stdout and stderr to a sleeping standby.
fn queue_start(
    runtime: &mut ActorRuntime,
    standby: &Standby,
    frame: &StartFrame,
    null: BorrowedFd<'_>,
) -> bool {
    let mut buffer = [0; MAX_FRAME];
    let len = frame.encode(&mut buffer);
    let output = match &runtime.output {
        Some(output) if runtime.stdio.is_none() => match output.writer() {
            Ok(writer) => Some(writer),
            Err(_) => return false,
        },
        _ => None,
    };
    let fds = match &runtime.stdio {
        Some(fds) => fds.each_ref().map(AsFd::as_fd),
        None => {
            let output = output.as_ref().map_or(null, AsFd::as_fd);
            [null, output, output]
        }
    };
    let queued = seqpacket::send_dontwait(&standby.socket, &buffer[..len], &fds).is_ok();
    if queued {
        runtime.stdio = None;
    }
    queued
}

/// Whether a template built for `old` may serve `new`.
fn same_start(old: &crate::site::StartSpec, new: &crate::site::StartSpec) -> bool {
    let other = crate::site::StartSpec {
        program: old.program.clone(),
        stopped: old.stopped,
        in_place: old.in_place,
        policy: old.policy.clone(),
        ..new.clone()
    };
    *old == other
}
