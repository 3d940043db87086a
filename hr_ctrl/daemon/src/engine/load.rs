//! The first start of an actor (SPEC H3): its image is read from stable storage, once.
//!
//! Reading and the exec of the template happen on threads of their own, so that a big program
//! delays nobody's restart.

use std::collections::{HashMap, VecDeque};
use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use hr_ctrl_core::{ActorKey, Event, Kind, Ticket};
use refrain_abi::{ActorName, Gid, LifeNo, Serial};
use refrain_image::{Image, Program, find_in_path, wrapper};
use refrain_sys::mapping::{self, ControlPageMapping};

use super::images::{Images, KeptImages};
use super::kept::{Dossier, Registered};
use super::runtime::{ActorRuntime, ForkTimes};
use super::{Engine, Pending, SharedEngine};
use crate::containment::{self, Contained};
use crate::keeper::Part;
use crate::limits::Limited;
use crate::nucleus_link::Kept;
use crate::output::ActorOutput;
use crate::site::{Notice, SiteError, StartSpec};
use crate::{pmm, rights};

impl Engine {
    /// Carries out `Load`: registers the actor, loads its image and builds its template.
    pub(super) fn load(
        &mut self,
        actor: ActorKey,
        ticket: Ticket,
        name: ActorName,
        gid: Option<Gid>,
        kind: Kind,
    ) {
        let Some(Pending::Run(request)) = self.tickets.get_mut(&ticket) else {
            return self.deferred.push_back(Event::LoadFailed { actor });
        };
        if let (Some(host), Some(gid)) = (request.host.take(), gid) {
            let spec = request.spec.clone();
            return self.load_supervised(actor, spec, (gid, host));
        }
        let spec = StartSpec {
            name,
            gid,
            ..request.spec.clone()
        };
        match self.new_runtime(actor, kind, spec) {
            Ok(mut runtime) => {
                runtime.loading = Some(ticket);
                self.actors.insert(actor, runtime);
                if let Err(why) = self.set_limits(actor) {
                    return self.load_failed(actor, ticket, format!("{name}: {why}"));
                }
                self.keep_page(actor);
                self.keep_dossier(actor);
                self.build_template(actor);
            }
            Err(why) => {
                self.answer_run(ticket, Err(SiteError::NotLoaded(format!("{name}: {why}"))));
                self.deferred.push_back(Event::LoadFailed { actor });
            }
        }
    }

    fn new_runtime(
        &self,
        actor: ActorKey,
        kind: Kind,
        spec: StartSpec,
    ) -> Result<ActorRuntime, String> {
        let contained = self.parts.containment.contain(spec.name, actor.0);
        Ok(self.new_parts(spec.name, contained)?.runtime(kind, spec))
    }

    /// Makes what an actor needs besides its image and its containment.
    pub(super) fn new_parts(
        &self,
        name: ActorName,
        contained: Contained,
    ) -> Result<NewRuntime, String> {
        let (page, control) =
            mapping::create_control_page().map_err(|e| format!("control page: {e}"))?;
        let output = self.parts.output.pipe_for(name);
        let output = output.map_err(|e| format!("output pipe: {e}"))?;
        Ok(NewRuntime {
            page,
            control,
            output,
            contained,
        })
    }

    pub(super) fn load_failed(&mut self, actor: ActorKey, ticket: Ticket, why: String) {
        self.answer_run(ticket, Err(SiteError::NotLoaded(why)));
        self.step(Event::LoadFailed { actor });
        // The core forgets the actor without an effect; what we hold of it goes here.
        self.forget(actor);
    }

    /// Enters an actor whose image is in memory into the bank, or enters it anew with other
    /// arguments.
    pub(super) fn register(&mut self, actor: ActorKey, life: LifeNo) {
        let restarts = self.core.view(actor).map_or(0, |view| view.restarts);
        let Some(runtime) = self.actors.get_mut(&actor) else {
            return;
        };
        let Some(gid) = runtime.gid else { return };
        let is_new = !std::mem::replace(&mut runtime.registered, true);
        let registration = refrain_pmm::Registration {
            name: runtime.name,
            gid,
            direct: runtime.kind == Kind::Direct,
            life,
            restarts,
            clean: false,
            running: None,
            spec: serde_json::to_vec(&Registered::of(runtime)).unwrap_or_default(),
        };
        self.parts.pmm.do_send(pmm::Register(registration));
        // The one that is kept says that it is not registered: the next hr_ctrl would deregister it.
        if is_new {
            self.keep_dossier(actor);
        }
    }

    /// At boot: takes over the registrations that a bank holds, with the images that were kept.
    pub fn restore(&mut self, registrations: Vec<refrain_pmm::Registration>, kept: Kept) {
        let mut kept = images_by_name(kept);
        if let Some(nucleus) = &self.parts.nucleus {
            // They are kept anew, under the keys that actors have from now on.
            kept.values()
                .for_each(|(actor, _)| nucleus.let_actor_go(*actor));
        }
        let mut images = KeptImages::default();
        for registration in registrations {
            let name = registration.name;
            if let Some(running) = registration.running {
                containment::end_life(running.pid, running.start_time);
            }
            let Ok(entry) = serde_json::from_slice::<Registered>(&registration.spec) else {
                self.parts.output.say(format!(
                    "HR_CTRL: {name}: its registration cannot be read; dropped"
                ));
                self.parts.pmm.do_send(pmm::Deregister(name));
                continue;
            };
            let kind = if registration.direct {
                Kind::Direct
            } else {
                Kind::Indirect
            };
            self.step(Event::Restore {
                name,
                gid: registration.gid,
                kind,
                last_life: Some(registration.life),
                restarts: registration.restarts,
                clean: registration.clean,
                policy: self.policy_named(Some(registration.gid), entry.start.policy.as_ref()),
            });
            let Some(actor) = self.core.find_name(&name) else {
                continue;
            };
            if entry.supervised {
                self.restore_supervised(actor, registration.gid, entry.start);
                continue;
            }
            match self.new_runtime(actor, kind, entry.start.clone()) {
                Ok(mut runtime) => {
                    runtime.registered = true;
                    let fds = kept.remove(&name).map(|(_, fds)| fds);
                    runtime.program = fds.and_then(|fds| kept_program(&entry, fds, &mut images));
                    self.actors.insert(actor, runtime);
                    self.keep_limits(actor);
                    self.keep_page(actor);
                    self.keep_image(actor);
                    self.keep_dossier(actor);
                }
                Err(why) => self.parts.output.say(format!("HR_CTRL: {name}: {why}")),
            }
        }
    }
}

/// The images that nucleus has kept: key and fds, by the name in the dossier.
fn images_by_name(kept: Kept) -> HashMap<ActorName, (u64, Vec<OwnedFd>)> {
    let (dossiers, others): (Vec<_>, Vec<_>) = kept
        .into_iter()
        .partition(|(label, _)| label.part == Part::Dossier);
    let names = dossiers.into_iter().filter_map(|(label, fds)| {
        let dossier = Dossier::read(fds.first()?)?;
        Some((label.actor, dossier.name))
    });
    let names: HashMap<_, _> = names.collect();
    let images = others
        .into_iter()
        .filter(|(label, _)| label.part == Part::Image);
    let named = images.filter_map(|(label, fds)| {
        let name = names.get(&label.actor)?;
        Some((*name, (label.actor, fds)))
    });
    named.collect()
}

/// What one actor needs besides its image.
pub(super) struct NewRuntime {
    pub page: OwnedFd,
    pub control: ControlPageMapping,
    pub output: ActorOutput,
    pub contained: Contained,
}

impl NewRuntime {
    /// An actor that has nothing else yet.
    pub fn runtime(self, kind: Kind, spec: StartSpec) -> ActorRuntime {
        ActorRuntime {
            name: spec.name,
            gid: spec.gid,
            kind,
            contained: self.contained,
            limited: Limited::default(),
            memory_watched: false,
            hang: super::hang::Hang::default(),
            spec,
            program: None,
            page: Arc::new(self.page),
            control: Arc::new(self.control),
            output: Some(self.output),
            template: None,
            retired: None,
            generation: 0,
            building: false,
            offer: None,
            exec_reason: None,
            forking: None,
            standby: None,
            spare: None,
            forks: ForkTimes::default(),
            life: None,
            dying: Vec::new(),
            lingering: false,
            relay: None,
            following: false,
            begin: None,
            stdio: None,
            last_serial: Serial(0),
            last_pid: None,
            last_pidfd: None,
            last_end: None,
            last_status: None,
            last_notice: None,
            failing: None,
            record: None,
            explaining: false,
            failure: None,
            untold: VecDeque::new(),
            unsaid: VecDeque::new(),
            last_aid: None,
            start: None,
            registered: false,
            loading: None,
            orphan: None,
            template_deaths: 0,
        }
    }
}

/// The program of an actor whose image was kept.
pub(super) fn kept_program(
    registered: &Registered,
    fds: Vec<OwnedFd>,
    images: &mut KeptImages,
) -> Option<Arc<Program>> {
    let image = Image::from_kept(registered.image.clone()?, fds).ok()?;
    describe(&registered.start, images.unite(image))
        .ok()
        .map(Arc::new)
}

/// Makes sure that the image of an actor is in memory: reads it from stable storage if this is
/// the first start (or if a bank outlived every keeper of its images).
pub(super) async fn image_in_memory(engine: &SharedEngine, actor: ActorKey) -> Result<(), String> {
    let (spec, program) = {
        let borrowed = engine.borrow();
        let Some(runtime) = borrowed.actors.get(&actor) else {
            return Ok(());
        };
        (runtime.spec.clone(), runtime.program.clone())
    };
    let program = match program {
        Some(program) => describe(&spec, Arc::clone(&program.image))?,
        None => {
            let loading = spec.clone();
            let (bank, images) = {
                let borrowed = engine.borrow();
                (borrowed.parts.bank.clone(), Arc::clone(&borrowed.images))
            };
            let image =
                actix_rt::task::spawn_blocking(move || load_image(&loading, &bank, &images))
                    .await
                    .map_err(|error| error.to_string())??;
            describe(&spec, image)?
        }
    };
    let mut borrowed = engine.borrow_mut();
    let engine = &mut *borrowed;
    if let Some(runtime) = engine.actors.get_mut(&actor) {
        let is_new = runtime.program.is_none();
        runtime.program = Some(runtime.with_limits(Arc::new(program)));
        if is_new {
            engine.keep_image(actor);
        }
    }
    Ok(())
}

/// `bank`: the directory for images where executable memfds are refused.
fn load_image(spec: &StartSpec, bank: &Path, images: &Images) -> Result<Arc<Image>, String> {
    let search = variable(spec, "PATH").unwrap_or("/usr/local/bin:/usr/bin:/bin");
    let path = find_in_path(spec.program.as_ref(), search.as_ref()).ok_or_else(|| {
        format!(
            "{}: not found along PATH; give its path, or set PATH with setenv",
            spec.program
        )
    })?;
    let path = spec.cwd.join(path);
    if let Some(user) = &spec.user {
        return images.get(&path, Some(user.uid), || {
            rights::load_image(user, &path, spec)
        });
    }
    let path = wrapper::behind(&path, &spec.cwd).unwrap_or(path);
    let image = if spec.in_place {
        Image::in_place(&path).map(Arc::new)
    } else {
        images.get(&path, None, || Image::load_in(&path, bank))
    };
    image.map_err(|error| error.to_string())
}

fn describe(spec: &StartSpec, image: Arc<Image>) -> Result<Program, String> {
    let text =
        |text: String| CString::new(text).map_err(|_| "an argument holds a NUL byte".to_owned());
    Ok(Program {
        name: spec.name,
        image,
        argv: spec
            .argv
            .iter()
            .cloned()
            .map(text)
            .collect::<Result<_, _>>()?,
        envp: spec
            .env
            .iter()
            .map(|(name, value)| text(format!("{name}={value}")))
            .collect::<Result<_, _>>()?,
        cwd: spec.cwd.clone(),
        umask: spec.umask,
        // These are the actor's, see `with_limits`.
        rlimits: Vec::new(),
        nice: None,
        credentials: None,
        no_new_privs: false,
        // A fixed layout helps attackers, too: only what is restarted gets one (SPEC H11).
        fresh_layout: spec.fresh_layout || spec.gid.is_none(),
        fault_handlers: spec.notice == Notice::Fault,
    })
}

fn variable<'a>(spec: &'a StartSpec, name: &str) -> Option<&'a str> {
    spec.env
        .iter()
        .find(|(key, _)| key == name)
        .map(|(_, value)| value.as_str())
}
