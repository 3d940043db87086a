//! What the engine holds of one registered actor.

use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;

use hr_ctrl_core::{Kind, Ticket};
use refrain_abi::{ActorName, Aid, Capability, Gid, LifeNo, Serial};
use refrain_image::{Program, StartKind, Template};
use refrain_sys::PidFd;
use refrain_sys::mapping::ControlPageMapping;

use crate::containment::Contained;
use crate::site::StartSpec;

/// One registered actor.
pub(crate) struct ActorRuntime {
    pub name: ActorName,
    pub gid: Option<Gid>,
    pub kind: Kind,
    pub spec: StartSpec,
    /// Its executing image's description; `None` until it was loaded.
    pub program: Option<Arc<Program>>,
    pub page: OwnedFd,
    pub control: ControlPageMapping,
    pub contained: Contained,
    /// The write end of its output pipe; the read end is with [`crate::output`].
    pub output: Option<OwnedFd>,
    pub template: Option<TemplateRuntime>,
    /// The template of the life that runs, where another has taken its place: it stays the parent of
    /// what that life starts, and reports how it ends.
    pub retired: Option<Rc<Template>>,
    /// How often a template was built; tells a late message of an old one from the present one's.
    pub generation: u32,
    /// A template is being built.
    pub building: bool,
    /// Why lives start by exec although the program is linked dynamically.
    pub exec_reason: Option<String>,
    /// The fork that was asked for.
    pub forking: Option<Forking>,
    pub standby: Option<Standby>,
    pub life: Option<Life>,
    /// A life that is to begin as soon as there is a standby.
    pub begin: Option<Begin>,
    /// stdio for the next life, from `hrfexec`.
    pub stdio: Option<[OwnedFd; 3]>,
    pub last_serial: Serial,
    /// pid of the life before, whose end may still be reported, and how it ended.
    pub last_pid: Option<u32>,
    pub last_end: Option<String>,
    /// A group restart that its end provoked and that the console is still to be told of: the
    /// group and its badness.
    pub restart_to_tell: Option<(Gid, u32)>,
    pub last_aid: Option<Aid>,
    /// How the present or last life was started.
    pub start: Option<&'static str>,
    /// It is entered in the bank.
    pub registered: bool,
    /// The ticket of the load that goes on, if one does.
    pub loading: Option<Ticket>,
    /// Consecutive templates that died on us.
    pub template_deaths: u32,
}

/// A template that stands.
pub(crate) struct TemplateRuntime {
    pub template: Rc<Template>,
    pub kind: StartKind,
    pub ready: bool,
}

/// A fork that was asked for and not yet reported.
pub(crate) struct Forking {
    pub serial: Serial,
    pub socket: OwnedFd,
}

/// The next life, forked and asleep.
pub(crate) struct Standby {
    pub serial: Serial,
    pub pid: u32,
    pub pidfd: Rc<PidFd>,
    /// The controller's end of its socket.
    pub socket: OwnedFd,
    /// The capability it will have.
    pub capability: Capability,
    /// The life its start frame is queued for.
    pub start_queued: Option<LifeNo>,
}

/// The life that runs.
pub(crate) struct Life {
    pub no: LifeNo,
    pub aid: Aid,
    pub serial: Serial,
    pub pid: u32,
    pub pidfd: Rc<PidFd>,
    pub capability: Capability,
    pub began_ms: u64,
    /// The generation of the template that forked it.
    pub generation: u32,
    /// Its template has reaped it.
    pub reaped: bool,
    /// Its end was noticed.
    pub ended: bool,
    /// Its end waits for a fork, and somebody watches how long.
    pub waits: bool,
    /// What it left behind is being ended.
    pub sweeping: bool,
}

/// A life that is to begin.
pub(crate) struct Begin {
    pub life: LifeNo,
    pub aid: Aid,
    /// Stop before `main` (`arun -d`).
    pub stopped: bool,
}
