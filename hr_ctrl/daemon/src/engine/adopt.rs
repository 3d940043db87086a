//! The beginning of an hr_ctrl that is not the site's first: it adopts what runs (SPEC H31, invariant 6).
//!
//! | step | what is known then |
//! | --- | --- |
//! | [`Engine::recall`] | from ledger and dossiers: what the hr_ctrl before had decided, after a whole step |
//! | [`report`](report::ask) | from the templates: which lives and standbys there are, with their pidfds and sockets |
//! | [`Engine::take_over`] | each life is watched again, or is known to have ended; each standby is one again |
//! | `Event::Adopted` | the core has decided again what may not have been carried out |
//! | [`Engine::go_on`] | what was decided to begin begins, relays are armed, standbys are asked for |
//!
//! Between the first step and the last no request is served and no other event comes in. What the kernel, a
//! template or a life does meanwhile is found when it is looked for: an end makes a pidfd readable, and a relay
//! is a word in the control page.
//!
//! # Why no life is doubled, lost or disturbed
//! The ledger is written before effects are carried out, and the serial of a life before it is woken. So a
//! life that the core has begun either has a serial there (then it is that child of its template: it is woken
//! again, which does nothing if it was, and is waited for if it has ended) or it has none (then nobody
//! was woken for it, and it begins now). A standby runs only when its serial is called, so one whose serial is
//! not the life's sleeps, or a life has woken it by a relay, and then its page says so. A life is signalled
//! only if it was to be stopped before.
//!
//! Must never take the word of a template for a process that is not its child, and never signal by a pid.

mod actor;
mod report;

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use hr_ctrl_core::{ActorKey, ActorState, Changed, Controller, Event, Ticket};
use refrain_abi::Gid;
use refrain_image::{StartKind, Template};
use refrain_pmm::{LifeRecord, Registration};
use refrain_sys::{PidFd, Signal, mapping};

use super::images::KeptImages;
use super::kept::{Dossier, TemplateNote};
use super::load::{NewRuntime, kept_program};
use super::runtime::ActorRuntime;
use super::{Engine, SharedEngine, forget, limits};
use crate::containment::Contained;
use crate::keeper::Part;
use crate::ledger::{Ledger, Memory};
use crate::limits::Limited;
use crate::nucleus_link::Kept;
use crate::pmm;

/// Stands for a request whose asker is gone.
const NOBODY: Ticket = Ticket(0);

/// What was kept of one actor.
#[derive(Default)]
struct Fds {
    image: Vec<OwnedFd>,
    page: Vec<OwnedFd>,
    dossier: Option<Dossier>,
    orphan: Vec<OwnedFd>,
    templates: Vec<(u32, Vec<OwnedFd>)>,
}

/// An actor that is to be adopted, and its templates.
struct Adoptee {
    actor: ActorKey,
    templates: Vec<(TemplateNote, Rc<Template>)>,
    orphan: Option<Orphan>,
}

/// A life whose template has ended.
struct Orphan {
    pidfd: PidFd,
    socket: OwnedFd,
}

/// What was adopted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Adopted {
    /// How many lives go on.
    pub lives: usize,
    /// The line of `sysadm.ini`, from 1, that was being carried out; `None` when there was none left.
    pub ini_line: Option<u32>,
}

/// Adopts what runs.
///
/// # Errors
/// One line: what was kept is no good. Then nothing was touched.
pub(crate) async fn adopt(
    engine: &SharedEngine,
    kept: Kept,
    registrations: Vec<Registration>,
) -> Result<Adopted, String> {
    let adoptees = engine.borrow_mut().recall(kept)?;
    let limit = engine.borrow().parts.tunables.hr_ctrl.template_timeout_ms;
    let reported = report::ask(adoptees, limit).await;
    let mut engine = engine.borrow_mut();
    let actors: Vec<_> = reported.iter().map(|adoptee| adoptee.actor).collect();
    for adoptee in reported {
        engine.take_over(adoptee);
    }
    for actor in &actors {
        engine.tell_what_ended(*actor);
    }
    let supervised: Vec<_> = engine.supervised.keys().copied().collect();
    for actor in supervised {
        engine.adopt_supervised(actor);
    }
    engine.step(Event::Adopted);
    for actor in &actors {
        engine.go_on(*actor);
    }
    engine.put_bank_right(&registrations);
    let site = engine.ledger.site();
    site.count_adoption();
    let lives = engine
        .actors
        .values()
        .filter(|runtime| runtime.life.is_some());
    Ok(Adopted {
        lives: lives.count(),
        ini_line: site.ini_line(),
    })
}

impl Engine {
    /// Takes the place of the hr_ctrl before: its ledger, its core, and of each actor what was kept.
    fn recall(&mut self, kept: Kept) -> Result<Vec<Adoptee>, String> {
        let (ledger, mut fds) = sort(kept);
        let ledger = ledger.ok_or("nucleus kept no ledger")?;
        let (ledger, memory) = Ledger::open(ledger).map_err(|error| error.to_string())?;
        let Memory {
            site,
            groups,
            actors,
        } = memory;
        let all: Vec<_> = actors
            .iter()
            .map(|memo| Changed::Actor(memo.key))
            .chain(groups.iter().map(|memo| Changed::Group(memo.gid)))
            .collect();
        // One without a dossier was never begun: it is sent before the image is even loaded.
        let named = actors.into_iter().filter_map(|memo| {
            let name = fds.get(&memo.key.0)?.dossier.as_ref()?.name;
            Some((name, memo))
        });
        let limits = limits(&self.parts.tunables.hr_ctrl);
        self.core = Controller::recall(limits, site, groups, named);
        self.ledger = ledger;
        self.ledger.write(&self.core, &all);
        let keys: Vec<_> = self.core.actors().map(|view| view.key).collect();
        let mut images = KeptImages::default();
        let mut adoptees = Vec::with_capacity(keys.len());
        for actor in keys {
            let fds = fds.remove(&actor.0).unwrap_or_default();
            adoptees.extend(self.recall_actor(actor, fds, &mut images));
        }
        for (actor, fds) in fds {
            self.drop_unknown(ActorKey(actor), fds);
        }
        self.drop_strangers();
        Ok(adoptees)
    }

    fn recall_actor(
        &mut self,
        actor: ActorKey,
        fds: Fds,
        images: &mut KeptImages,
    ) -> Option<Adoptee> {
        let dossier = fds.dossier?;
        let (kind, gid) = self.core.view(actor).map(|view| (view.kind, view.gid))?;
        let spec = dossier.registered.start.clone();
        if dossier.registered.supervised {
            self.restore_supervised(actor, gid?, spec);
            return None;
        }
        let cgroup = dossier.cgroup.as_deref();
        let contained = self
            .parts
            .containment
            .contained(cgroup, dossier.name, actor.0);
        let mut page = fds.page.into_iter();
        let pages = (page.next(), page.next());
        let kept = match pages {
            (Some(page), Some(pipe)) => {
                let control = mapping::map_control_page(std::os::fd::AsFd::as_fd(&page));
                control.ok().map(|control| (page, control, pipe))
            }
            _ => None,
        };
        let runtime = match kept {
            Some((page, control, pipe)) => Ok(NewRuntime {
                page,
                control,
                output: self.parts.output.adopt(dossier.name, pipe),
                contained,
            }),
            // Its lives cannot be told from strangers: whoever is in its cgroup is ended.
            None => self.new_parts(dossier.name, contained),
        };
        let mut runtime = match runtime {
            Ok(parts) => parts.runtime(kind, spec),
            Err(why) => {
                self.parts
                    .output
                    .say(format!("HR_CTRL: {}: {why}", dossier.name));
                return None;
            }
        };
        runtime.registered = dossier.in_bank;
        runtime.exec_reason.clone_from(&dossier.exec_reason);
        runtime.program = kept_program(&dossier.registered, fds.image, images);
        if let Some(own) = self.ledger.own(actor) {
            (runtime.generation, runtime.last_serial) = own.counters();
        }
        self.actors.insert(actor, runtime);
        self.keep_limits(actor);
        let mut templates = Vec::new();
        for (generation, fds) in fds.templates {
            match kept_template(&dossier.templates, generation, fds) {
                Some(template) => templates.push(template),
                None => self.let_template_go(actor, generation),
            }
        }
        let mut orphan = fds.orphan.into_iter();
        let orphan = orphan.next().zip(orphan.next());
        Some(Adoptee {
            actor,
            templates,
            orphan: orphan.map(|(pidfd, socket)| Orphan {
                pidfd: PidFd::from(pidfd),
                socket,
            }),
        })
    }

    /// Ends what was kept of an actor that the core has forgotten, or never knew.
    fn drop_unknown(&mut self, actor: ActorKey, fds: Fds) {
        for (_, fds) in fds.templates {
            if let Some(pidfd) = fds.into_iter().nth(1) {
                let _ = PidFd::from(pidfd).send_signal(Signal::KILL);
            }
        }
        if let Some(pidfd) = fds.orphan.into_iter().next() {
            let _ = PidFd::from(pidfd).send_signal(Signal::KILL);
        }
        if let Some(nucleus) = &self.parts.nucleus {
            nucleus.let_actor_go(actor.0);
        }
    }

    /// Ends what is in the site's cgroup and of no actor: its actor was being loaded or forgotten when
    /// hr_ctrl died.
    fn drop_strangers(&mut self) {
        let known: Vec<_> = self
            .actors
            .values()
            .map(|runtime| &runtime.contained)
            .collect();
        for stranger in self.parts.containment.strangers(&known) {
            self.clearing += 1;
            let engine = self.shared();
            actix_rt::spawn(async move {
                forget::remove(Contained::Cgroup(stranger), Limited::default()).await;
                let mut engine = engine.borrow_mut();
                engine.clearing -= 1;
                engine.halt_if_done();
            });
        }
    }

    /// The last step: nobody's word is needed any more.
    fn go_on(&mut self, actor: ActorKey) {
        if self.is_relay_claimed(actor) {
            self.follow_relay(actor);
        }
        let Some(view) = self.core.view(actor) else {
            return;
        };
        let (state, aid, is_restartable) = (view.state, view.aid, view.gid.is_some());
        let no = view.life;
        let Some(runtime) = self.actors.get_mut(&actor) else {
            return;
        };
        let life = runtime.life.as_ref();
        match (state, life.map(|life| (life.no, life.serial)), no, aid) {
            (ActorState::Loading, ..) => {
                runtime.loading = Some(NOBODY);
                return self.build_template(actor);
            }
            (ActorState::Running, Some((no, serial)), ..) => {
                self.watch_life(actor);
                self.failing(actor, no);
                self.life_stopped_if_so(actor, serial);
            }
            (ActorState::Ending, Some((_, serial)), ..) => self.life_stopped_if_so(actor, serial),
            (ActorState::Running, None, Some(no), Some(aid)) if runtime.begin.is_none() => {
                self.begin(actor, no, aid, None);
            }
            _ => {}
        }
        if is_restartable {
            self.queue_ahead(actor);
            self.want_standby_soon(actor);
        }
    }

    /// Notes in the bank how far an actor has come, where the bank does not know.
    fn note_life(&self, known: &Registration) {
        let Some(view) = self
            .core
            .find_name(&known.name)
            .and_then(|key| self.core.view(key))
        else {
            return;
        };
        let Some(no) = view.life else { return };
        let runtime = self.actors.get(&view.key);
        let running = runtime.and_then(ActorRuntime::running);
        let note = LifeRecord {
            life: no,
            restarts: view.restarts,
            clean: view.terminated_clean,
            running,
        };
        let is_known = (known.life, known.restarts, known.clean, known.running)
            == (note.life, note.restarts, note.clean, note.running);
        if !is_known {
            let name = known.name;
            self.parts.pmm.do_send(pmm::RecordLife { name, note });
        }
    }

    /// Notes which line of `sysadm.ini` is about to be carried out, for an hr_ctrl that has to go on with it.
    pub(crate) fn note_ini_line(&self, line: Option<u32>) {
        self.ledger.site().set_ini_line(line);
    }

    fn life_stopped_if_so(&mut self, actor: ActorKey, serial: refrain_abi::Serial) {
        let Some(runtime) = self.actors.get(&actor) else {
            return;
        };
        if runtime.control.has_stopped(serial) {
            self.life_stopped(actor, serial);
        }
    }

    /// What PMM was told of last may not have reached the bank.
    fn put_bank_right(&mut self, registrations: &[Registration]) {
        for registration in registrations {
            let name = registration.name;
            let actor = self.core.find_name(&name);
            let is_ours = |actor: ActorKey| {
                let user = self.actors.get(&actor);
                user.is_some_and(|r| r.registered) || self.supervised.contains_key(&actor)
            };
            if !actor.is_some_and(is_ours) {
                self.parts.pmm.do_send(pmm::Deregister(name));
            }
        }
        self.compare_supervised(registrations);
        let missing = self.actors.iter().filter(|(_, runtime)| {
            let has = |registration: &Registration| registration.name == runtime.name;
            runtime.registered && !registrations.iter().any(has)
        });
        let missing: Vec<ActorKey> = missing.map(|(actor, _)| *actor).collect();
        for actor in missing {
            let life = self.core.view(actor).and_then(|view| view.life);
            self.register(actor, life.unwrap_or_default());
        }
        for registration in registrations {
            self.note_life(registration);
        }
        let groups: Vec<Gid> = self.core.groups().map(|group| group.gid).collect();
        self.parts.pmm.do_send(pmm::KeepGroups(groups));
        let next = self.core.next_aid();
        self.reserve_aids(next);
    }
}

/// What was kept, by actor; the ledger is the site's.
fn sort(kept: Kept) -> (Option<OwnedFd>, HashMap<u64, Fds>) {
    let (mut ledger, mut actors) = (None, HashMap::<u64, Fds>::new());
    for (label, mut fds) in kept {
        let actor = actors.entry(label.actor).or_default();
        match label.part {
            Part::Ledger => ledger = fds.pop(),
            Part::Image => actor.image = fds,
            Part::Page => actor.page = fds,
            Part::Dossier => actor.dossier = fds.first().and_then(Dossier::read),
            Part::Orphan => actor.orphan = fds,
            Part::Template(generation) => actor.templates.push((generation, fds)),
        }
    }
    actors.remove(&0);
    (ledger, actors)
}

/// A template that still stands.
fn kept_template(
    notes: &[TemplateNote],
    generation: u32,
    fds: Vec<OwnedFd>,
) -> Option<(TemplateNote, Rc<Template>)> {
    let mut fds = fds.into_iter();
    let (socket, pidfd) = fds.next().zip(fds.next())?;
    let pidfd = PidFd::from(pidfd);
    if pidfd.has_ended() {
        return None;
    }
    let noted = notes.iter().find(|note| note.generation == generation);
    let Some(note) = noted.copied() else {
        // It was kept before the dossier that tells of it: the next one will.
        let _ = pidfd.send_signal(Signal::KILL);
        return None;
    };
    let start = if note.exec {
        StartKind::Exec
    } else {
        StartKind::Template
    };
    let template = Template::over(note.pid, pidfd, socket, start);
    Some((note, Rc::new(template)))
}
