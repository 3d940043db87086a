//! Taking over one actor: which of its template's children is the life, which the standby, and what has
//! become of the life that the core knows.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use hr_ctrl_core::{ActorKey, ActorState, Event};
use refrain_abi::control::Relay;
use refrain_abi::{LifeNo, Serial};
use refrain_image::StartKind;
use refrain_sys::{Signal, clock, futex};

use super::super::policy::{Exit, exit_code_of};
use super::super::relay::Outcome;
use super::super::runtime::{Begin, Life, Standby, TemplateRuntime};
use super::super::{Engine, sweep, template};
use super::report::{Child, Reported};
use crate::ledger::{Numbered, Queued};
use crate::pmm;

/// How often a relay that was claimed is looked at.
const LOOKS: u32 = 2000;

impl Engine {
    /// Takes over what the templates of an actor have reported. Nobody begins and nobody ends by this, but
    /// children that are of no use.
    pub(super) fn take_over(&mut self, reported: Reported) {
        let Reported {
            actor,
            templates,
            mut children,
            ended,
            orphan,
        } = reported;
        let engine = self.shared();
        let Some(runtime) = self.actors.get_mut(&actor) else {
            return;
        };
        let known = self.ledger.own(actor);
        let life = known.and_then(|own| own.life());
        let [pid, pid_before] = known.map_or([0; 2], |own| [own.pid(), own.pid_before()]);
        let serial = life.map(|life| life.serial);
        let there: Vec<_> = children
            .iter()
            .map(|child| (child.serial, child.pid))
            .collect();
        tracing::debug!(name = %runtime.name, ?life, pid, ?there, ?ended, "adopting");
        runtime.orphan = orphan.as_ref().and(serial);
        if let Some((orphan, serial)) = orphan.zip(serial)
            && orphan.pidfd.pid() == Some(pid)
        {
            children.push(Child {
                serial,
                pid,
                pidfd: orphan.pidfd,
                socket: orphan.socket,
                generation: 0,
            });
        }
        for (note, standing) in templates {
            let has_life =
                |child: &Child| child.generation == note.generation && Some(child.serial) == serial;
            if note.generation == runtime.generation {
                runtime.template = Some(TemplateRuntime {
                    template: Rc::clone(&standing),
                    kind: standing.start,
                    ready: true,
                    warm: note.warm,
                });
            } else if children.iter().any(has_life) {
                runtime.retired = Some(Rc::clone(&standing));
            } else {
                let _ = standing.pidfd.send_signal(Signal::KILL);
            }
            self.clearing += 1;
            let listening = template::listen(Rc::clone(&engine), actor, note.generation, standing);
            actix_rt::spawn(listening);
        }
        // How the last one ended is known, or its template has said so, or will.
        let is_there = |pid| children.iter().any(|child: &Child| child.pid == pid);
        let dead = if is_there(pid) { pid_before } else { pid };
        if let Some((status, clean)) = known.and_then(|own| own.end_of(dead)) {
            let clean = if clean { "clean, " } else { "" };
            runtime.last_end = Some(format!("{clean}{status}"));
            runtime.last_status = Some(status);
        } else {
            runtime.last_pid = (dead != 0).then_some(dead);
            let status = ended.into_iter().find(|(ended, _)| *ended == dead);
            if let Some((dead, status)) = status {
                runtime.reaped(dead, status);
            } else if dead == pid_before && !is_there(dead) {
                // It was said to the hr_ctrl before.
                runtime.last_pid = None;
            }
        }
        self.sort_children(actor, life, children);
    }

    fn sort_children(&mut self, actor: ActorKey, life: Option<Numbered>, children: Vec<Child>) {
        let mut children = children;
        children.sort_by_key(|child| child.serial.0.wrapping_sub(life.map_or(0, |l| l.serial.0)));
        let expected = self.core.view(actor).and_then(|view| {
            let is_there = view.state.is_alive();
            let no = view.life.filter(|_| is_there)?;
            life.filter(|life| life.life == no)
        });
        for child in children {
            let Some(runtime) = self.actors.get_mut(&actor) else {
                return;
            };
            // 0 is the serial of nobody, and serials go up.
            let behind = |serial: Serial| serial.is_called(runtime.last_serial.0);
            if !behind(child.serial) {
                runtime.last_serial = child.serial;
            }
            if expected.is_some_and(|life| life.serial == child.serial) {
                self.adopt_life(actor, expected, child);
                continue;
            }
            let is_next = life.is_none_or(|life| !child.serial.is_called(life.serial.0));
            let is_present = child.generation == runtime.generation && runtime.template.is_some();
            let queued = self
                .ledger
                .own(actor)
                .map_or(Queued::Unknown, |own| own.queued(child.serial));
            let is_good =
                is_next && is_present && queued != Queued::Unknown && !child.pidfd.has_ended();
            let standby = Standby {
                serial: child.serial,
                pid: child.pid,
                pidfd: Rc::new(child.pidfd),
                socket: Arc::new(child.socket),
                capability: self
                    .ledger
                    .own(actor)
                    .map_or(refrain_abi::Capability([0; 16]), |own| {
                        own.capability(child.serial)
                    }),
                start_queued: match queued {
                    Queued::For(life) => Some(life),
                    Queued::No | Queued::Unknown => None,
                },
                reaped: None,
            };
            let (serial, pidfd) = (standby.serial, Rc::clone(&standby.pidfd));
            if is_good && runtime.standby.is_none() {
                runtime.standby = Some(standby);
            } else if is_good && runtime.spare.is_none() {
                runtime.spare = Some(standby);
            } else {
                runtime.discard(standby);
            }
            self.watch_child(actor, serial, pidfd);
        }
        self.note_counters(actor);
    }

    /// The life that the core knows, as a child that was not reaped: it runs, or its end is still to be told.
    fn adopt_life(&mut self, actor: ActorKey, life: Option<Numbered>, child: Child) {
        let (Some(view), Some(own), Some(life)) =
            (self.core.view(actor), self.ledger.own(actor), life)
        else {
            return;
        };
        let Some(runtime) = self.actors.get_mut(&actor) else {
            return;
        };
        let Some(aid) = view.aid else { return };
        let (serial, page) = (child.serial, &runtime.control);
        // As at first: whoever was woken already does not notice.
        if !serial.is_called(page.wake.load(Ordering::Acquire)) {
            page.set_aid(serial, aid);
            page.go.store(serial.0, Ordering::Release);
            page.wake.store(serial.0, Ordering::Release);
            let _ = futex::wake(&page.wake, i32::MAX as u32);
        } else if !serial.is_called(page.go.load(Ordering::Acquire)) {
            page.set_aid(serial, aid);
            page.go.store(serial.0, Ordering::Release);
            let _ = futex::wake(&page.go, i32::MAX as u32);
        }
        let adopted = Life {
            no: life.life,
            aid,
            serial,
            pid: child.pid,
            pidfd: Rc::new(child.pidfd),
            capability: own.lifes_capability(),
            socket: Arc::new(child.socket),
            began_ms: own.began_ms(),
            generation: child.generation,
            reaped: false,
            exit: Exit::default(),
            asked: false,
            told: view.state == ActorState::Ending,
            clean: view.terminated_clean,
            ended: false,
            over: false,
            waits: false,
            sweeping: false,
        };
        runtime.last_aid = Some(aid);
        let is_exec = runtime
            .template
            .as_ref()
            .is_some_and(|t| t.kind == StartKind::Exec);
        runtime.start = Some(if is_exec { "exec" } else { "standby" });
        self.parts.pmm.do_send(pmm::ServeLife {
            asker: pmm::Asker {
                actor,
                gid: runtime.gid,
                life: adopted.no,
            },
            aid,
            serial,
            capability: adopted.capability,
            socket: Arc::clone(&adopted.socket),
            page: Arc::clone(&runtime.page),
            control: Arc::clone(&runtime.control),
        });
        let pidfd = Rc::clone(&adopted.pidfd);
        runtime.life = Some(adopted);
        self.watch_child(actor, serial, pidfd);
    }

    /// Settles the relay of an actor, and reports to the core what has ended of it and was reaped.
    pub(super) fn tell_what_ended(&mut self, actor: ActorKey) {
        let (Some(view), Some(runtime)) = (self.core.view(actor), self.actors.get_mut(&actor))
        else {
            return;
        };
        let standby = runtime
            .standby
            .as_ref()
            .map_or(Serial(0), |standby| standby.serial);
        self.parts.pmm.do_send(pmm::AdoptActor {
            actor,
            standby,
            control: Arc::clone(&runtime.control),
        });
        let (state, no, aid) = (view.state, view.life, view.aid);
        let woken = self.ledger.own(actor).and_then(|own| own.life());
        let woken = woken.filter(|woken| Some(woken.life) == no);
        let serial = woken.map_or(Serial(0), |woken| woken.serial);
        self.adopt_relay(actor, serial);
        let Some(runtime) = self.actors.get_mut(&actor) else {
            return;
        };
        let (Some(no), Some(aid)) = (no.filter(|_| state.is_alive()), aid) else {
            return;
        };
        if runtime.life.is_some() {
            return;
        }
        match (woken, state) {
            (Some(_), _) => self.adopt_end(actor, no, serial),
            (None, ActorState::Stopping) => {
                runtime.begin = Some(Begin {
                    life: no,
                    aid,
                    stopped: false,
                });
            }
            (None, ActorState::Ending) => self.step(Event::Gone { actor, life: no }),
            // It begins when everything is told.
            (None, _) => {}
        }
    }

    /// A relay that was armed is taken back; one that was claimed is followed.
    fn adopt_relay(&mut self, actor: ActorKey, from: Serial) {
        let Some(runtime) = self.actors.get_mut(&actor) else {
            return;
        };
        let page = &runtime.control;
        let to = runtime
            .standby
            .as_ref()
            .map_or(Serial(0), |standby| standby.serial);
        let mut relay = Relay::of(page.relay.load(Ordering::Acquire));
        if let Relay::Armed { .. } = relay {
            match page.exchange_relay(relay, Relay::Forbidden) {
                Ok(()) => relay = Relay::Forbidden,
                Err(other) => relay = other,
            }
        }
        if to.0 != 0 && relay == (Relay::Claimed { to }) {
            runtime.relay = Some((from, to));
        } else {
            self.forbid(actor);
        }
    }

    /// The life has ended and was reaped: nothing of it is there to be watched.
    fn adopt_end(&mut self, actor: ActorKey, no: LifeNo, serial: Serial) {
        let has_begun = self.has_relayed(actor);
        self.forbid(actor);
        let Some(runtime) = self.actors.get_mut(&actor) else {
            return;
        };
        runtime.expect_record(serial);
        let clean = runtime.control.is_clean(serial);
        let pid = runtime.last_pid;
        let how = runtime.last_end.clone().filter(|_| pid.is_none());
        let exit_code = how.is_some().then_some(runtime.last_status).flatten();
        let exit_code = exit_code.and_then(exit_code_of);
        let at_ms = clock::now_monotonic_ms();
        let life = no;
        self.step(Event::Ended {
            actor,
            life,
            clean,
            exit_code,
            at_ms,
        });
        if let Some(runtime) = self.actors.get_mut(&actor)
            && let Some(restart) = runtime.untold.back_mut()
        {
            (restart.pid, restart.how) = (pid, how);
        }
        if has_begun {
            // The standby has looked itself that nobody was left.
            self.gone(actor, life);
        } else {
            actix_rt::spawn(sweep::sweep(self.shared(), actor, life));
        }
        self.after_end_soon(actor, life);
    }

    /// Whether the life that has ended woke its successor, which has begun or will.
    fn has_relayed(&mut self, actor: ActorKey) -> bool {
        if !self.is_relay_claimed(actor) {
            return false;
        }
        for _ in 0..LOOKS {
            match self.outcome(actor) {
                Outcome::Open => std::thread::yield_now(),
                Outcome::Began => return true,
                Outcome::Left => return false,
            }
        }
        // It is stopped, or gets no time: it ends, and the next one begins in the ordinary way.
        let Some(runtime) = self.actors.get_mut(&actor) else {
            return false;
        };
        if let Some(standby) = &runtime.standby {
            let _ = standby.pidfd.send_signal(Signal::KILL);
        }
        if matches!(self.outcome(actor), Outcome::Began) {
            return true;
        }
        if let Some(runtime) = self.actors.get_mut(&actor)
            && let Some(standby) = runtime.standby.take()
        {
            runtime.discard(standby);
        }
        false
    }
}
