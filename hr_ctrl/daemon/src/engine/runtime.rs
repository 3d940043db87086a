//! What the engine holds of one registered actor.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hr_ctrl_core::{Kind, Ticket};
use refrain_abi::{ActorName, Aid, Capability, Gid, LifeNo, Serial};
use refrain_image::{Program, StartKind, Template};
use refrain_pmm::Running;
use refrain_sys::mapping::ControlPageMapping;
use refrain_sys::{PidFd, WaitStatus, process};

use crate::containment::Contained;
use crate::failure;
use crate::limits::Limited;
use crate::output::ActorOutput;
use crate::site::{Notice, StartSpec};

/// One registered actor.
pub(crate) struct ActorRuntime {
    pub name: ActorName,
    pub gid: Option<Gid>,
    pub kind: Kind,
    pub spec: StartSpec,
    /// Its executing image's description; `None` until it was loaded.
    pub program: Option<Arc<Program>>,
    pub page: Arc<OwnedFd>,
    pub control: Arc<ControlPageMapping>,
    pub contained: Contained,
    pub limited: Limited,
    /// Somebody looks whether its memory was enough.
    pub memory_watched: bool,
    /// How its lives are watched.
    pub hang: super::hang::Hang,
    /// Where its lives print.
    pub output: Option<ActorOutput>,
    pub template: Option<TemplateRuntime>,
    /// The template of the life that runs, where another has taken its place: it stays the parent of
    /// what that life starts, and reports how it ends.
    pub retired: Option<Rc<Template>>,
    /// The life that nucleus keeps, because its template has ended.
    pub orphan: Option<Serial>,
    /// How often a template was built; tells a late message of an old one from the present one's.
    pub generation: u32,
    /// A template is being built.
    pub building: bool,
    /// What a life was offered that makes its state the image.
    pub offer: Option<super::warm::Offer>,
    /// Why lives start by exec although the program is linked dynamically.
    pub exec_reason: Option<String>,
    /// The fork that was asked for.
    pub forking: Option<Forking>,
    pub standby: Option<Standby>,
    /// The standby behind the standby, where forks take long.
    pub spare: Option<Standby>,
    /// How long its forks take.
    pub forks: ForkTimes,
    pub life: Option<Life>,
    /// Lives and standbys that run nothing any more and that the kernel has not ended yet.
    pub dying: Vec<Dying>,
    /// Somebody looks whether any of them lingers.
    pub lingering: bool,
    /// Which life may wake which standby: what we wrote into the control page.
    pub relay: Option<(Serial, Serial)>,
    /// Somebody sees a relay that was claimed to its end.
    pub following: bool,
    /// A life that is to begin as soon as there is a standby.
    pub begin: Option<Begin>,
    /// stdio for the next life, from `hrfexec`.
    pub stdio: Option<[OwnedFd; 3]>,
    pub last_serial: Serial,
    /// pid of the life before, whose end may still be reported, and how it ended.
    pub last_pid: Option<u32>,
    /// Its pidfd: the kernel is asked if nobody reports it.
    pub last_pidfd: Option<Rc<PidFd>>,
    pub last_end: Option<String>,
    /// What the kernel said of it, where it was the program that ended.
    pub last_status: Option<WaitStatus>,
    /// How the last end was noticed.
    pub last_notice: Option<Notice>,
    /// The life whose fault handler has left a record that was not taken yet.
    pub failing: Option<Serial>,
    /// A record that waits to be put into words.
    pub record: Option<failure::Record>,
    /// Somebody does that.
    pub explaining: bool,
    /// The last failure in words.
    pub failure: Option<Arc<failure::Report>>,
    /// Group restarts that its ends provoked and that the console is still to be told of.
    pub untold: VecDeque<Restart>,
    /// Ends whose causes a program that embeds the site is still to be told.
    pub unsaid: VecDeque<super::happened::Unsaid>,
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
    /// Its lives begin where an earlier one made its state the image, not in `main`.
    pub warm: bool,
}

/// How long the last forks of an actor took. A slow one among fast ones is the machine's doing; when all
/// are slow it is the program's, which has much memory to copy page tables of.
#[derive(Default)]
pub(crate) struct ForkTimes {
    last: [Duration; 3],
    next: usize,
}

impl ForkTimes {
    /// A template that takes longer than this for a fork has a second standby ready.
    const SLOW: Duration = Duration::from_micros(500);

    pub fn note(&mut self, took: Duration) {
        self.last[self.next] = took;
        self.next = (self.next + 1) % self.last.len();
    }

    /// Whether every one of the last forks was slow.
    pub fn are_slow(&self) -> bool {
        self.last.iter().all(|took| *took > Self::SLOW)
    }
}

/// A fork that was asked for and not yet reported.
pub(crate) struct Forking {
    pub serial: Serial,
    pub socket: OwnedFd,
    pub asked: Instant,
}

/// The next life, forked and asleep.
pub(crate) struct Standby {
    pub serial: Serial,
    pub pid: u32,
    pub pidfd: Rc<PidFd>,
    /// The controller's end of its socket. PMM takes it over when the life begins; before, it only looks.
    pub socket: Arc<OwnedFd>,
    /// The capability it will have.
    pub capability: Capability,
    /// The life its start frame is queued for.
    pub start_queued: Option<LifeNo>,
    /// Its template has reaped it.
    pub reaped: Option<WaitStatus>,
}

/// The life that runs.
pub(crate) struct Life {
    pub no: LifeNo,
    pub aid: Aid,
    pub serial: Serial,
    pub pid: u32,
    pub pidfd: Rc<PidFd>,
    pub capability: Capability,
    /// The controller's end of its socket.
    pub socket: Arc<OwnedFd>,
    pub began_ms: u64,
    /// The generation of the template that forked it.
    pub generation: u32,
    /// Its template has reaped it.
    pub reaped: bool,
    /// How it ended, for the policy of its group.
    pub exit: super::policy::Exit,
    /// It was asked to stop by itself.
    pub asked: bool,
    /// The core knows of its end.
    pub told: bool,
    /// As a clean one.
    pub clean: bool,
    /// It runs nothing any more: the kernel says so, or its own handler has before it slept for good.
    pub ended: bool,
    /// The kernel has ended it.
    pub over: bool,
    /// Its end waits for a fork, and somebody watches how long.
    pub waits: bool,
    /// What it left behind is being ended.
    pub sweeping: bool,
}

/// What runs nothing any more and is still in the actor's cgroup.
pub(crate) struct Dying {
    pub serial: Serial,
    pub pid: u32,
    pub pidfd: Rc<PidFd>,
    /// Of which generation it was, if it was a life: where that template has ended, nobody reports how it did.
    pub life_of: Option<u32>,
}

impl Dying {
    /// A life that will run nothing any more.
    pub fn of_life(life: Life) -> Self {
        Self {
            serial: life.serial,
            pid: life.pid,
            life_of: Some(life.generation),
            pidfd: life.pidfd,
        }
    }

    /// A standby that was killed.
    pub fn of_standby(standby: Standby) -> Self {
        Self {
            serial: standby.serial,
            pid: standby.pid,
            life_of: None,
            pidfd: standby.pidfd,
        }
    }
}

/// A group restart, to be told.
pub(crate) struct Restart {
    /// The life that failed.
    pub pid: Option<u32>,
    pub gid: Gid,
    pub badness: u32,
    /// It comes after a delay.
    pub waits: bool,
    /// How it ended, once that is known.
    pub how: Option<String>,
}

impl ActorRuntime {
    /// What the bank notes of the life that runs.
    pub fn running(&self) -> Option<Running> {
        let life = self.life.as_ref().filter(|life| !life.ended)?;
        Some(Running {
            aid: life.aid,
            pid: life.pid,
            // Where there is a cgroup it says better who a life left behind is.
            start_time: match self.contained {
                Contained::Cgroup(_) => 0,
                Contained::Sweep => process::start_time(life.pid).unwrap_or(0),
            },
            capability: life.capability,
        })
    }
}

/// A life that is to begin.
pub(crate) struct Begin {
    pub life: LifeNo,
    pub aid: Aid,
    /// Stop before `main` (`arun -d`).
    pub stopped: bool,
}
