//! The handle to a running site, for the interpreter and for embedding programs: run, kill, list,
//! restart, shut down.

use std::path::PathBuf;
use std::sync::Arc;

use actix::Addr;
use refrain_abi::hang::HangWatch;
use refrain_abi::limits::{ActorLimits, RunAs};
use refrain_abi::{ActorName, Aid, Gid, PolicyParts};
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;

use crate::boot::BootRecord;
use crate::events::{Events, SiteEvent};
use crate::failure::Report;
use crate::hr_ctrl::{self, HrCtrl};
use crate::limits::LimitRows;
use crate::output::Output;
use crate::pmm::{self, Pmm};
use crate::supervise::Arbiters;

/// A running site.
#[derive(Clone)]
pub struct Site {
    hr_ctrl: Addr<HrCtrl>,
    pmm: Addr<Pmm>,
    output: Output,
    boot: Arc<BootRecord>,
    events: broadcast::WeakSender<SiteEvent>,
    arbiters: Arc<Arbiters>,
}

impl std::fmt::Debug for Site {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Site({})", self.boot.site)
    }
}

impl Site {
    /// The handle, made on the site's own thread.
    pub(crate) fn new(
        (hr_ctrl, pmm): (Addr<HrCtrl>, Addr<Pmm>),
        output: Output,
        boot: Arc<BootRecord>,
        events: &broadcast::Sender<SiteEvent>,
    ) -> Self {
        Self {
            hr_ctrl,
            pmm,
            output,
            boot,
            events: events.downgrade(),
            arbiters: Arbiters::new(actix_rt::System::current().arbiter().clone()),
        }
    }

    /// Runs an actor and answers the aid of its life (SPEC H2 to H4).
    ///
    /// # Errors
    /// [`SiteError`], with one line for a person.
    pub async fn run(&self, spec: StartSpec) -> Result<Aid, SiteError> {
        self.hr_ctrl
            .send(hr_ctrl::Run(spec))
            .await
            .map_err(|_| SiteError::Halted)?
    }

    /// Kills an ordinary actor or a whole group, and returns when nothing of it is left (SPEC
    /// H24). `tidy`: SIGTERM first, SIGKILL after the grace.
    ///
    /// # Errors
    /// [`SiteError::Refused`]: no such aid or group.
    pub async fn kill(&self, target: KillTarget, tidy: bool) -> Result<(), SiteError> {
        self.hr_ctrl
            .send(hr_ctrl::Kill { target, tidy })
            .await
            .map_err(|_| SiteError::Halted)?
    }

    /// Every registered actor.
    ///
    /// # Errors
    /// [`SiteError::Halted`].
    pub async fn actors(&self) -> Result<Vec<ActorInfo>, SiteError> {
        self.hr_ctrl
            .send(hr_ctrl::List)
            .await
            .map_err(|_| SiteError::Halted)
    }

    /// Restarts the site (SPEC H25); returns when it runs again.
    ///
    /// # Errors
    /// [`SiteError::Refused`] when it is being restarted already.
    pub async fn restart(&self) -> Result<(), SiteError> {
        self.hr_ctrl
            .send(hr_ctrl::Restart)
            .await
            .map_err(|_| SiteError::Halted)?
    }

    /// `shutdown -i`; returns when it has begun.
    ///
    /// # Errors
    /// [`SiteError::Halted`].
    pub async fn shutdown(&self, level: ShutdownLevel) -> Result<(), SiteError> {
        self.hr_ctrl
            .send(hr_ctrl::Shutdown(level))
            .await
            .map_err(|_| SiteError::Halted)
    }

    /// What `memstat` shows.
    ///
    /// # Errors
    /// [`SiteError::Halted`].
    pub async fn memory(&self) -> Result<MemoryInfo, SiteError> {
        let memory = self
            .pmm
            .send(pmm::Memory)
            .await
            .map_err(|_| SiteError::Halted)?;
        let mut memory = memory.ok_or(SiteError::Halted)?;
        memory.images = self
            .hr_ctrl
            .send(hr_ctrl::ImageBytes)
            .await
            .map_err(|_| SiteError::Halted)?;
        Ok(memory)
    }

    /// What `chorusStat` shows.
    ///
    /// # Errors
    /// [`SiteError::Halted`].
    pub async fn stat(&self) -> Result<SiteStat, SiteError> {
        let stat = hr_ctrl::Stat {
            site: self.boot.site.clone(),
        };
        self.hr_ctrl.send(stat).await.map_err(|_| SiteError::Halted)
    }

    /// What happens on the site from now on. Of an embedded site; in one with a nucleus nobody but its commands
    /// tells.
    #[must_use]
    pub fn events(&self) -> Events {
        match self.events.upgrade() {
            Some(sender) => Events::of(&sender),
            None => Events::of(&broadcast::channel(1).0),
        }
    }

    /// The end of what an actor printed; `None` when there is no log of that name.
    #[must_use]
    pub fn log(&self, name: &str) -> Option<Vec<u8>> {
        self.output.log(name)
    }

    /// What an actor prints from now on.
    #[must_use]
    pub fn follow(&self, name: &str) -> Option<tokio::sync::mpsc::Receiver<Vec<u8>>> {
        self.output.follow(name)
    }

    /// What the site was started with.
    #[must_use]
    pub fn boot(&self) -> &BootRecord {
        &self.boot
    }

    /// Says a line on the site's console.
    pub fn say(&self, line: &str) {
        self.output.say(line);
    }

    /// The arbiters of its supervisor actors.
    pub(crate) fn arbiters(&self) -> &Arbiters {
        &self.arbiters
    }

    pub(crate) fn boot_actors(&self) -> (Addr<HrCtrl>, Addr<Pmm>) {
        (self.hr_ctrl.clone(), self.pmm.clone())
    }

    pub(crate) fn output(&self) -> &Output {
        &self.output
    }
}

/// What `arun` asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartSpec {
    /// The actor's name.
    pub name: ActorName,
    /// The program as it was given: with a slash, a path (relative to `cwd`); without, a file
    /// name that is looked for along `PATH` of `env`. Not looked at when the name is registered.
    pub program: String,
    /// The arguments, `argv[0]` first.
    pub argv: Vec<String>,
    /// The environment.
    pub env: Vec<(String, String)>,
    /// The working directory.
    pub cwd: PathBuf,
    /// The file mode creation mask; `None`: the site's own.
    pub umask: Option<u32>,
    /// Resource limits: resource (as in setrlimit(2)), soft, hard; `u64::MAX` is no limit.
    pub rlimits: Vec<(u32, u64, u64)>,
    /// The restart group; `None` runs an ordinary actor.
    pub gid: Option<Gid>,
    /// `-xip`: the image is the executable file itself (SPEC H7).
    pub in_place: bool,
    /// `--layout fresh`: another address layout for each life (DESIGN section 1).
    pub fresh_layout: bool,
    /// `-d`: stop before `main` until SIGCONT.
    pub stopped: bool,
    /// `--notice`: how the end of a life is noticed.
    #[serde(default)]
    pub notice: Notice,
    /// The restart policy of the group from now on (SPEC H33); `None` leaves it as it is.
    #[serde(default)]
    pub policy: Option<PolicyParts>,
    /// Its limits (SPEC H34).
    #[serde(default)]
    pub limits: ActorLimits,
    /// `-u`: under whose uid it runs; `None`: the site's own.
    #[serde(default)]
    pub user: Option<RunAs>,
    /// `--no-new-privs`: nothing it executes gives it more rights. So it is for every other user.
    #[serde(default)]
    pub no_new_privs: bool,
    /// How its lives are watched for hangs.
    #[serde(default)]
    pub hang: HangWatch,
}

impl StartSpec {
    /// An ordinary actor without arguments, in the directory `/` with an empty environment. The fields say the
    /// rest.
    #[must_use]
    pub fn new(name: ActorName, program: &str) -> Self {
        Self {
            name,
            program: program.to_owned(),
            argv: vec![program.to_owned()],
            env: Vec::new(),
            cwd: PathBuf::from("/"),
            umask: None,
            rlimits: Vec::new(),
            gid: None,
            in_place: false,
            fresh_layout: false,
            stopped: false,
            notice: Notice::default(),
            policy: None,
            limits: ActorLimits::default(),
            user: None,
            no_new_privs: false,
            hang: HangWatch::default(),
        }
    }
}

/// How the end of a life is noticed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Notice {
    /// By the life's own fault handler where there is one, else by the kernel.
    #[default]
    Fault,
    /// By the kernel only: the program runs without Refrain's fault handler.
    Kernel,
}

impl Notice {
    /// The word for it, as `arun --notice` takes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fault => "fault",
            Self::Kernel => "kernel",
        }
    }
}

/// What a kill is aimed at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KillTarget {
    /// The actor with this aid; of a restartable actor, its group (SPEC H24).
    Aid(Aid),
    /// Every member of the group.
    Group(Gid),
}

/// `shutdown -i` (SPEC C2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShutdownLevel {
    /// 0: end tidily.
    Halt,
    /// 1: site restart.
    HotRestart,
    /// 2: start again with persistent memory discarded.
    ColdRestart,
    /// 3: end at once.
    Immediate,
}

/// One row of `aps`; the field names are those of `aps --json` (DESIGN section 7).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ActorInfo {
    /// The name.
    pub name: String,
    /// The group, `None` for an ordinary actor.
    pub gid: Option<u32>,
    /// The aid of the life that runs, or ran last.
    pub aid: Option<u32>,
    /// The capability of that life, 32 hexadecimal digits.
    pub capability: Option<String>,
    /// The pid of the life that runs.
    pub pid: Option<u32>,
    /// "direct", "indirect" or "ordinary".
    pub kind: &'static str,
    /// "user" or "supervisor".
    pub mode: &'static str,
    /// "loading", "running", "stopping", "failed", "clean", "waiting" or "stopped".
    pub state: &'static str,
    /// The number of the life, 0 first.
    pub life: Option<u32>,
    /// How many lives began by a group or site restart.
    pub restarts: u32,
    /// How lives start: "standby", "template" or "exec"; those of a supervisor actor: "factory".
    pub start: Option<&'static str>,
    /// What the next life starts from: "cold", the program before `main`, or "warm", the state that a
    /// life has made the image.
    pub image: &'static str,
    /// Why `start` is not "standby", for `aps -l`.
    pub start_reason: Option<String>,
    /// How the last life ended ("SIGSEGV", "exit 3", "clean" ...).
    pub last_end: Option<String>,
    /// How that end was noticed: "fault" or "kernel"; that of a supervisor actor: "in place" or "report".
    pub notice: Option<&'static str>,
    /// What the fault handler of the last life that failed saw.
    pub failure: Option<Report>,
    /// Its limits and what enforces each.
    pub limits: LimitRows,
    /// The user that it runs as, where that is not the site's own.
    pub user: Option<String>,
    /// Whether nothing it executes gives it more rights.
    pub no_new_privs: bool,
    /// Whether the life has a keeper, which lets its end be noticed before its memory is given back.
    pub keeper: bool,
    /// How the life is watched for hangs; `None`: it is not.
    pub watch: Option<WatchInfo>,
    /// The program's path.
    pub path: String,
    /// How long the life has run, in milliseconds.
    pub uptime_ms: Option<u64>,
}

/// How a life is watched for hangs (SPEC H34).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WatchInfo {
    /// Within how many milliseconds it must make progress; `None`: nothing was promised.
    pub progress_ms: Option<u32>,
    /// The check, as it was given to `arun`.
    pub check: Option<String>,
    /// How long ago it was last seen well, in milliseconds; `None`: not yet.
    pub well_ms: Option<u64>,
    /// How many checks in a row have failed; `None`: the last one has not.
    pub failed: Option<u32>,
    /// How many may not.
    pub failures: Option<u32>,
    /// What is the matter with the last check, or why a promise that is not kept does not count.
    pub trouble: Option<String>,
}

/// What `memstat` shows, in bytes where nothing else is said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MemoryInfo {
    /// The bank's directory.
    pub bank: String,
    /// "RAM" or "DISK".
    pub medium: &'static str,
    /// The bank's size.
    pub size: u64,
    /// How much of it blocks take.
    pub used: u64,
    /// How many blocks it may hold.
    pub max_blocks: u32,
    /// How much memory the actor images take.
    pub images: u64,
    /// Every block.
    pub blocks: Vec<BlockRow>,
}

/// One block in `memstat`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BlockRow {
    /// Its name.
    pub name: String,
    /// Its address in every actor.
    pub addr: u64,
    /// Its size in bytes.
    pub size: u64,
    /// Its group, `None` for one of ordinary actors.
    pub gid: Option<u32>,
    /// Whether it goes with its group (`HR_GROUP_KEY`).
    pub group_key: bool,
}

/// One group in `chorusStat`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GroupRow {
    /// The gid.
    pub gid: u32,
    /// How many members are registered.
    pub members: u32,
    /// How many of them are alive.
    pub alive: u32,
    /// Restarts within the policy's interval.
    pub badness: u32,
    /// Restarts in all.
    pub restarts: u64,
    /// "steady", "restarting", "delayed", "giving up", "stopped", "killing" or "blocked".
    pub state: &'static str,
    /// Failures since its last healthy run.
    pub attempts: u32,
    /// How long it still waits before it is restarted, in milliseconds.
    pub waits_ms: Option<u64>,
    /// Why it is not restarted any more.
    pub gave_up: Option<String>,
}

/// What `chorusStat` shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SiteStat {
    /// The site's name.
    pub site: String,
    /// Refrain's version.
    pub version: &'static str,
    /// The pids of nucleus and hr_ctrl.
    pub nucleus: u32,
    /// See `nucleus`.
    pub hr_ctrl: u32,
    /// How long the site has run, in milliseconds.
    pub uptime_ms: u64,
    /// Site restarts since then.
    pub site_restarts: u64,
    /// How often hr_ctrl was started again and has adopted what ran.
    pub hr_ctrl_restarts: u64,
    /// Group restarts since then.
    pub group_restarts: u64,
    /// Registered actors, and the limit.
    pub actors: u32,
    /// See `actors`.
    pub max_actors: u32,
    /// How children of a life are found and ended: "cgroup v2" or "sweep".
    pub containment: &'static str,
    /// The groups.
    pub groups: Vec<GroupRow>,
}

/// Why a site did not do what it was asked. Displayed as one line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SiteError {
    /// Refused by the controller's rules; the text names the thing and the cure.
    #[error("{0}")]
    Refused(hr_ctrl_core::Refusal),
    /// The program could not be loaded; the text names the path and the cure.
    #[error("{0}")]
    NotLoaded(String),
    /// The name is that of an actor of the other mode.
    #[error(
        "{name}: registered as a {mode} actor; choose another name, or end its group with akill"
    )]
    OtherMode {
        /// The name.
        name: ActorName,
        /// "user" or "supervisor".
        mode: &'static str,
    },
    /// A life's state cannot be made an image; the text says why.
    #[error("{0}")]
    NoImage(String),
    /// An actor of another user than the site's asked for what concerns others.
    #[error("an actor of another user does not command the site")]
    ForeignUser,
    /// An embedded site cannot be started; the text says why, and the cure.
    #[error("{0}")]
    NotStarted(String),
    /// An embedded site has halted and could not keep or discard its bank; the text says why.
    #[error("{0}")]
    NotHalted(String),
    /// The site has halted meanwhile.
    #[error("the site has halted")]
    Halted,
}
