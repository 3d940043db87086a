//! A site inside another program: no nucleus, no console, no `sysadm.ini`.
//!
//! [`Site::builder`] starts it on a thread of its own, so it does not matter what the program runs on: the
//! handle is `Send`, and its futures may be awaited on actix, on tokio, or anywhere else.
//!
//! The embedding program stands for the controller. When it ends, its supervisor actors end with it, and so do
//! templates and standbys; lives of user actors go on until they end by themselves, or until the program is
//! started again. A bank that it leaves behind, because it crashed, is found by the next [`Builder::start`],
//! which ends what is left of such lives, and brings every registered actor back with all its blocks.
//!
//! ```no_run
//! use hr_ctrl::site::Site;
//! use hr_ctrl::supervise::Supervise;
//! # struct Counter;
//! # impl actix::Actor for Counter { type Context = actix::Context<Self>; }
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let site = Site::builder("mine").start().await?;
//! let counter = site.supervise(Supervise::new("counter", hr_ctrl::Gid(1)), |_| Counter).await?;
//! println!("{} actors run", site.actors().await?.len());
//! # drop(counter);
//! site.halt().await?;
//! # Ok(())
//! # }
//! ```

use std::ops::Deref;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use hr_ctrl_core::HaltLevel;
use refrain_abi::tunables::Tunables;
use refrain_abi::{Gid, PolicyParts};
use tokio::sync::oneshot;

use crate::boot::BootRecord;
use crate::boot_actors::BootActors;
use crate::engine::BootOrder;
use crate::events::Events;
use crate::hr_ctrl;
use crate::output::Output;
use crate::paths;
use crate::site::{ShutdownLevel, Site, SiteError, StartSpec};

/// What a site is to be, before it is started ([`Site::builder`]).
#[derive(Clone, Debug)]
#[must_use = "a site is started by `start`"]
pub struct Builder {
    record: BootRecord,
    actors: Vec<StartSpec>,
}

impl Site {
    /// A site inside this program. The name is its own on this machine; the bank lies where that of any site
    /// of this name would.
    pub fn builder(name: &str) -> Builder {
        Builder {
            record: BootRecord::embedded(name, paths::default_bank(name)),
            actors: Vec::new(),
        }
    }
}

impl Builder {
    /// The bank's directory.
    pub fn bank(mut self, dir: impl Into<PathBuf>) -> Self {
        self.record.bank = dir.into();
        self
    }

    /// Whether the bank is kept when the site halts; where nothing is said, it is on a disk and not on tmpfs.
    pub fn keep_on_halt(mut self, keep: bool) -> Self {
        self.record.tunables.pmm.keep_on_halt = Some(keep);
        self
    }

    /// The tunables, all of them (SPEC H27).
    pub fn tunables(mut self, tunables: Tunables) -> Self {
        self.record.tunables = tunables;
        self
    }

    /// The restart policy of a group (SPEC H33).
    pub fn group(mut self, gid: Gid, policy: PolicyParts) -> Self {
        self.record.tunables.groups.insert(gid.0, policy);
        self
    }

    /// A user actor to run at the start; as in `sysadm.ini`, a restartable one that the bank brings back is
    /// not run a second time.
    pub fn actor(mut self, spec: StartSpec) -> Self {
        self.actors.push(spec);
        self
    }

    /// Starts the site, on a thread of its own, and returns when it runs: what a bank brings back has begun.
    ///
    /// # Errors
    /// [`SiteError::NotStarted`]: why the bank cannot be opened (another site has it, it is damaged ...), and the
    /// cure; or why an actor cannot be run.
    ///
    /// Source: DESIGN section 1.
    pub async fn start(self) -> Result<EmbeddedSite, SiteError> {
        let (started, waiting) = oneshot::channel();
        let (ended, end) = oneshot::channel();
        let boot = Arc::new(self.record);
        thread::Builder::new()
            .name("refrain-site".to_owned())
            .spawn(move || {
                // Nobody may wait for it any more.
                let _ = ended.send(run(&boot, started));
            })
            .map_err(|error| SiteError::NotStarted(format!("no thread for the site: {error}")))?;
        let died = |_| SiteError::NotStarted("the site's thread has panicked".to_owned());
        let started = waiting.await.map_err(died)?;
        let Started { site, found, first } = started.map_err(SiteError::NotStarted)?;
        let first = Mutex::new(Some(first));
        let site = EmbeddedSite { site, end, first };
        for spec in self.actors {
            if !(found && spec.gid.is_some()) {
                site.run(spec).await?;
            }
        }
        Ok(site)
    }
}

/// A site of the embedding program's own, used like any [`Site`]. Dropping it lets the site go on, without
/// anybody to halt it, until the program ends.
#[derive(Debug)]
pub struct EmbeddedSite {
    site: Site,
    end: oneshot::Receiver<Result<(), String>>,
    /// From before the first life on, until it is asked for.
    first: Mutex<Option<Events>>,
}

impl Deref for EmbeddedSite {
    type Target = Site;

    fn deref(&self) -> &Site {
        &self.site
    }
}

impl EmbeddedSite {
    /// What happens on the site: at the first call from its very beginning on, else from now on.
    #[must_use]
    pub fn events(&self) -> Events {
        let first = self
            .first
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        first.unwrap_or_else(|| self.site.events())
    }

    /// Halts the site tidily and returns when nothing of it is left: actors are told to end, and are killed
    /// after `hr_ctrl.grace`.
    ///
    /// # Errors
    /// [`SiteError::NotHalted`]: what could not be kept or discarded of the bank.
    pub async fn halt(self) -> Result<(), SiteError> {
        self.site.shutdown(ShutdownLevel::Halt).await?;
        let ended = self.end.await.map_err(|_| SiteError::Halted)?;
        ended.map_err(SiteError::NotHalted)
    }
}

/// What `start` waits for.
struct Started {
    site: Site,
    /// The bank held registrations.
    found: bool,
    first: Events,
}

/// The life of the site's thread.
fn run(
    boot: &Arc<BootRecord>,
    started: oneshot::Sender<Result<Started, String>>,
) -> Result<(), String> {
    let system = actix_rt::System::new();
    let ended = system.block_on(async {
        match start(boot).await {
            Ok((boot_actors, site)) => {
                let served = actix_rt::spawn(serve(boot_actors.0));
                let (hr_ctrl, found, first) = boot_actors.1;
                // Carried out by the future above: it must be there first.
                let _ = hr_ctrl.send(hr_ctrl::Settled).await;
                let _ = started.send(Ok(Started { site, found, first }));
                served.await.map_err(|error| error.to_string())?
            }
            Err(why) => {
                let _ = started.send(Err(why.clone()));
                Err(why)
            }
        }
    });
    // Ends the arbiters of HR_CTRL and PMM.
    actix_rt::System::current().stop();
    let _ = system.run();
    ended
}

type Parts = (BootActors, (actix::Addr<hr_ctrl::HrCtrl>, bool, Events));

async fn start(boot: &Arc<BootRecord>) -> Result<(Parts, Site), String> {
    let output = Output::start(boot.tunables.console.log_size);
    let mut boot_actors = BootActors::start(boot, &output, None, false)?;
    let site = boot_actors.site(boot, &output);
    let found = !boot_actors.registrations.is_empty();
    let first = site.events();
    boot_actors.recover(Vec::new()).await?;
    let hr_ctrl = boot_actors.hr_ctrl.clone();
    Ok(((boot_actors, (hr_ctrl, found, first)), site))
}

/// Carries out HR_CTRL's orders until the site has ended.
async fn serve(mut boot_actors: BootActors) -> Result<(), String> {
    loop {
        match boot_actors.order().await {
            BootOrder::Reset => {
                boot_actors.reopen(false).await?;
                boot_actors.hr_ctrl.do_send(hr_ctrl::BootActorsReset);
            }
            BootOrder::Halted(HaltLevel::Cold) => {
                boot_actors.reopen(true).await?;
                let _ = boot_actors.hr_ctrl.send(hr_ctrl::StartCold).await;
            }
            BootOrder::Halted(_) => return boot_actors.end().await,
        }
    }
}
