//! What nucleus keeps of each actor for the next hr_ctrl (SPEC H31): the fds that its template, its lives and
//! their clients hang on, and a *dossier* with what the ledger has no words for.
//!
//! | part | is sent | before |
//! | --- | --- | --- |
//! | image | when it is in memory | the template is built |
//! | page, with the output pipe | when the actor is registered | the template is built |
//! | dossier | when the actor is registered, with each template, and with other arguments | the first life |
//! | template | when it stands | a fork is asked for |
//! | orphan | when the template of a life that runs has ended | |
//!
//! nucleus takes frames in order, and hears what was sent by an hr_ctrl that has died since. So whatever a
//! life begins from is kept before the life begins. What belongs to a *life* is kept by its template, and
//! by nucleus only where that has ended: a restart costs nucleus nothing.
//!
//! Must never be on the restart path.

use std::os::fd::{AsFd, OwnedFd};

use hr_ctrl_core::ActorKey;
use refrain_abi::{ActorName, Serial};
use refrain_image::StartKind;
use refrain_image::kept::Record;
use refrain_sys::memfd;
use serde::{Deserialize, Serialize};

use super::Engine;
use super::runtime::ActorRuntime;
use crate::containment::Contained;
use crate::keeper::Part;
use crate::site::StartSpec;

/// How an actor is started: what the bank keeps of it for a site to come, and the dossier, too.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Registered {
    pub start: StartSpec,
    /// Its image without the fds, which nucleus keeps.
    pub image: Option<Record>,
    /// It is a supervisor actor: its program has to register it again.
    #[serde(default)]
    pub supervised: bool,
}

impl Registered {
    pub fn of(runtime: &ActorRuntime) -> Self {
        let program = runtime.program.as_ref();
        Self {
            start: runtime.spec.clone(),
            image: program.map(|program| program.image.record()),
            supervised: false,
        }
    }
}

/// What the next hr_ctrl finds of an actor besides fds and ledger.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Dossier {
    pub name: ActorName,
    pub registered: Registered,
    /// It is entered in the bank.
    pub in_bank: bool,
    /// The name of its cgroup below the site's.
    pub cgroup: Option<String>,
    pub exec_reason: Option<String>,
    pub templates: Vec<TemplateNote>,
}

/// A template that stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct TemplateNote {
    pub generation: u32,
    /// To compare with what its pidfd says.
    pub pid: u32,
    /// Its lives start by exec.
    pub exec: bool,
    pub warm: bool,
}

impl Engine {
    /// Has nucleus keep the ledger.
    pub(crate) fn keep_ledger(&self) {
        if let Some(nucleus) = &self.parts.nucleus {
            nucleus.keep(0, Part::Ledger, &[self.ledger.fd()]);
        }
    }

    /// Has nucleus keep what an actor has from its registration on.
    pub(super) fn keep_page(&self, actor: ActorKey) {
        let (Some(nucleus), Some(runtime)) = (&self.parts.nucleus, self.actors.get(&actor)) else {
            return;
        };
        let output = runtime.output.as_ref().map(|output| output.pipe());
        let fds: Vec<_> = [Some(runtime.page.as_fd()), output]
            .into_iter()
            .flatten()
            .collect();
        nucleus.keep(actor.0, Part::Page, &fds);
    }

    /// Has nucleus keep an actor's image.
    pub(super) fn keep_image(&self, actor: ActorKey) {
        let (Some(nucleus), Some(runtime)) = (&self.parts.nucleus, self.actors.get(&actor)) else {
            return;
        };
        if let Some(program) = &runtime.program {
            nucleus.keep(actor.0, Part::Image, &program.image.fds());
        }
    }

    /// Has nucleus keep the dossier as it is now.
    pub(super) fn keep_dossier(&self, actor: ActorKey) {
        if let (true, Some(runtime)) = (self.parts.nucleus.is_some(), self.actors.get(&actor)) {
            self.keep_as_dossier(actor, &Dossier::of(runtime));
        }
    }

    pub(super) fn keep_as_dossier(&self, actor: ActorKey, dossier: &Dossier) {
        let Some(nucleus) = &self.parts.nucleus else {
            return;
        };
        let bytes = serde_json::to_vec(dossier).unwrap_or_default();
        match memfd::from_bytes("refrain-dossier", &bytes, false) {
            Ok(dossier) => nucleus.keep(actor.0, Part::Dossier, &[dossier.as_fd()]),
            Err(error) => tracing::error!(name = %dossier.name, %error, "no dossier"),
        }
    }

    /// Has nucleus keep the template that the actor has now.
    pub(super) fn keep_template(&mut self, actor: ActorKey) {
        self.note_counters(actor);
        self.keep_dossier(actor);
        let (Some(nucleus), Some(runtime)) = (&self.parts.nucleus, self.actors.get(&actor)) else {
            return;
        };
        if let Some(standing) = &runtime.template {
            let (socket, pidfd) = (standing.template.as_fd(), standing.template.pidfd.as_fd());
            nucleus.keep(
                actor.0,
                Part::Template(runtime.generation),
                &[socket, pidfd],
            );
        }
    }

    /// A template has ended: it need not be kept, but what it kept is worth keeping.
    pub(super) fn let_template_go(&mut self, actor: ActorKey, generation: u32) {
        let Some(nucleus) = &self.parts.nucleus else {
            return;
        };
        if let Some(runtime) = self.actors.get_mut(&actor)
            && let Some(life) = &runtime.life
            && life.generation == generation
            && !life.over
        {
            runtime.orphan = Some(life.serial);
            nucleus.keep(
                actor.0,
                Part::Orphan,
                &[life.pidfd.as_fd(), life.socket.as_fd()],
            );
        }
        nucleus.let_go(actor.0, Part::Template(generation));
    }

    /// A life, or a standby, has ended: if that was kept without its template, it need not be any more.
    pub(super) fn let_orphan_go(&mut self, actor: ActorKey, serial: Serial) {
        if let (Some(nucleus), Some(runtime)) = (&self.parts.nucleus, self.actors.get_mut(&actor))
            && runtime.orphan.take_if(|orphan| *orphan == serial).is_some()
        {
            nucleus.let_go(actor.0, Part::Orphan);
        }
    }

    /// Notes the generation and the last serial in the ledger.
    pub(super) fn note_counters(&self, actor: ActorKey) {
        if let (Some(own), Some(runtime)) = (self.ledger.own(actor), self.actors.get(&actor)) {
            own.set_counters(runtime.generation, runtime.last_serial);
        }
    }
}

impl Dossier {
    /// The dossier that a memfd holds.
    pub fn read(fd: &OwnedFd) -> Option<Self> {
        let size = usize::try_from(rustix::fs::fstat(fd).ok()?.st_size).ok()?;
        let mut bytes = vec![0; size];
        let read = rustix::io::pread(fd, &mut bytes, 0).ok()?;
        serde_json::from_slice(bytes.get(..read)?).ok()
    }

    fn of(runtime: &ActorRuntime) -> Self {
        let cgroup = match &runtime.contained {
            Contained::Cgroup(cgroup) => cgroup.path().file_name(),
            Contained::Sweep => None,
        };
        let standing = runtime.template.as_ref().map(|standing| TemplateNote {
            generation: runtime.generation,
            pid: standing.template.pid,
            exec: standing.kind == StartKind::Exec,
            warm: standing.warm,
        });
        let life = runtime.life.as_ref();
        let retired = runtime
            .retired
            .as_ref()
            .zip(life)
            .map(|(retired, life)| TemplateNote {
                generation: life.generation,
                pid: retired.pid,
                exec: retired.start == StartKind::Exec,
                warm: false,
            });
        Self {
            name: runtime.name,
            registered: Registered::of(runtime),
            in_bank: runtime.registered,
            cgroup: cgroup.map(|name| name.to_string_lossy().into_owned()),
            exec_reason: runtime.exec_reason.clone(),
            templates: standing.into_iter().chain(retired).collect(),
        }
    }
}
