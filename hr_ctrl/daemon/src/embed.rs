//! A site inside another program: no console, no `sysadm.ini`, and a nucleus only where the program wants one.
//!
//! [`Site::builder`] starts it on a thread of its own, so it does not matter what the program runs on: the
//! handle is `Send`, and its futures may be awaited on actix, on tokio, or anywhere else.
//!
//! The embedding program stands for the controller. Below a nucleus ([`under_nucleus`]) it is one in every respect:
//! it is started again, and adopts what runs. Without one, when it ends, its supervisor actors end with it, and so do
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

pub(crate) mod kept;

pub use kept::{Nucleus, under_nucleus};

use std::collections::HashSet;
use std::ops::Deref;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use hr_ctrl_core::HaltLevel;
use refrain_abi::tunables::Tunables;
use refrain_abi::{Gid, PolicyParts};
use tokio::sync::oneshot;

use kept::Link;

use crate::boot::BootRecord;
use crate::boot_actors::BootActors;
use crate::engine::BootOrder;
use crate::events::{self, Events};
use crate::hr_ctrl;
use crate::keeper::Part;
use crate::nucleus_link::NucleusLink;
use crate::output::Output;
use crate::site::{ShutdownLevel, Site, SiteError, StartSpec};
use crate::{paths, pulse};

/// What a site is to be, before it is started ([`Site::builder`]).
#[derive(Clone, Debug)]
#[must_use = "a site is started by `start`"]
pub struct Builder {
    record: BootRecord,
    actors: Vec<StartSpec>,
    nucleus: Option<Arc<Nucleus>>,
}

impl Site {
    /// A site inside this program. The name is its own on this machine; the bank lies where that of any site
    /// of this name would.
    pub fn builder(name: &str) -> Builder {
        Builder {
            record: BootRecord::embedded(name, paths::default_bank(name)),
            actors: Vec::new(),
            nucleus: None,
        }
    }
}

impl Builder {
    /// The nucleus that this program is below, from [`under_nucleus`]: it keeps this site.
    pub fn nucleus(mut self, nucleus: Nucleus) -> Self {
        self.nucleus = Some(Arc::new(nucleus));
        self
    }

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

    /// Starts the site, on a thread of its own, and returns when it runs: what a bank brings back has begun; what
    /// a nucleus has kept from the life of the program before is adopted.
    ///
    /// # Errors
    /// [`SiteError::NotStarted`]: why the bank cannot be opened (another site has it, it is damaged ...), and the
    /// cure; or why an actor cannot be run.
    ///
    /// Source: DESIGN section 1.
    pub async fn start(self) -> Result<EmbeddedSite, SiteError> {
        let (started, waiting) = oneshot::channel();
        let (ended, end) = oneshot::channel();
        let link = self.take_link()?;
        let boot = Arc::new(self.record);
        thread::Builder::new()
            .name("refrain-site".to_owned())
            .spawn(move || {
                // Nobody may wait for it any more.
                let _ = ended.send(run(&boot, link, started));
            })
            .map_err(|error| SiteError::NotStarted(format!("no thread for the site: {error}")))?;
        let died = |_| SiteError::NotStarted("the site's thread has panicked".to_owned());
        let started = waiting.await.map_err(died)?;
        let Started { site, found, first } = started.map_err(SiteError::NotStarted)?;
        let first = Mutex::new(Some(first));
        let site = EmbeddedSite { site, end, first };
        site.run_all(self.actors, found).await?;
        Ok(site)
    }

    fn take_link(&self) -> Result<Option<Link>, SiteError> {
        let Some(nucleus) = &self.nucleus else {
            return Ok(None);
        };
        let (site, kept) = (&self.record.site, nucleus.site());
        if site != kept {
            let why = format!("site \"{site}\": the nucleus keeps \"{kept}\"; give both one name");
            return Err(SiteError::NotStarted(why));
        }
        let why = || format!("site \"{site}\": its nucleus keeps it already");
        let link = nucleus.take();
        link.ok_or_else(|| SiteError::NotStarted(why())).map(Some)
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
    /// Runs the actors that the builder was given, as far as they are not there.
    async fn run_all(&self, actors: Vec<StartSpec>, found: Found) -> Result<(), SiteError> {
        let (hr_ctrl, _) = self.site.boot_actors();
        let there = match found {
            Found::Alive(_) => self.site.actors().await?,
            Found::Nothing | Found::Bank => Vec::new(),
        };
        let there: HashSet<_> = there.into_iter().map(|actor| actor.name).collect();
        for (number, spec) in (1..).zip(actors) {
            let is_done = match found {
                Found::Nothing => false,
                Found::Bank => spec.gid.is_some(),
                Found::Alive(next) => next.is_none_or(|next| number < next),
            };
            if !is_done && !there.contains(spec.name.as_str()) {
                hr_ctrl.do_send(hr_ctrl::IniLine(Some(number)));
                self.site.run(spec).await?;
            }
        }
        hr_ctrl.do_send(hr_ctrl::IniLine(None));
        Ok(())
    }

    /// Returns when the site has ended: halted by an actor, or because nucleus was told to end.
    ///
    /// # Errors
    /// As [`EmbeddedSite::halt`].
    pub async fn ended(self) -> Result<(), SiteError> {
        let ended = self.end.await.map_err(|_| SiteError::Halted)?;
        ended.map_err(SiteError::NotHalted)
    }

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
        self.ended().await
    }
}

/// What `start` waits for.
struct Started {
    site: Site,
    found: Found,
    first: Events,
}

/// What there was when the site was started.
#[derive(Clone, Copy)]
enum Found {
    /// A new site.
    Nothing,
    /// A bank with registrations.
    Bank,
    /// All of it, and the number of the builder's actor that was being run, from 1; `None`: all were.
    Alive(Option<u32>),
}

/// The life of the site's thread.
fn run(
    boot: &Arc<BootRecord>,
    link: Option<Link>,
    started: oneshot::Sender<Result<Started, String>>,
) -> Result<(), String> {
    let system = actix_rt::System::new();
    let ended = system.block_on(async {
        match Parts::start(boot, link).await {
            Ok(parts) => {
                let Parts {
                    boot_actors,
                    nucleus,
                    started: here,
                } = parts;
                let hr_ctrl = boot_actors.hr_ctrl.clone();
                let served = {
                    let boot = Arc::clone(boot);
                    actix_rt::spawn(async move { serve(boot_actors, &boot.site, nucleus).await })
                };
                // Carried out by the future above: it must be there first.
                let _ = hr_ctrl.send(hr_ctrl::Settled).await;
                let _ = started.send(Ok(here));
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

/// A site that has come up.
struct Parts {
    boot_actors: BootActors,
    nucleus: Option<(NucleusLink, OwnedFd)>,
    started: Started,
}

impl Parts {
    async fn start(boot: &Arc<BootRecord>, link: Option<Link>) -> Result<Self, String> {
        let output = Output::start(boot.tunables.console.log_size);
        let (nucleus, kept) = match link {
            Some(Link { socket, kept, lock }) => (Some((socket, lock)), kept),
            None => (None, Vec::new()),
        };
        let adopts = kept.iter().any(|(label, _)| label.part == Part::Ledger);
        let socket = nucleus.as_ref().map(|(socket, _)| socket.try_clone());
        let socket = socket.transpose().map_err(|error| error.to_string())?;
        let nucleus = nucleus.map(|(socket, lock)| (NucleusLink::over(socket), lock));
        let mut boot_actors = BootActors::start(boot, &output, (socket, adopts), events::DEPTH)?;
        let site = boot_actors.site(boot, &output);
        let first = site.events();
        let has_bank = !boot_actors.registrations.is_empty();
        let (hr_ctrl, pmm) = (boot_actors.hr_ctrl.clone(), boot_actors.pmm.clone());
        let found = match boot_actors.recover(kept).await? {
            Some(adopted) => Found::Alive(adopted.ini_line),
            None if has_bank => Found::Bank,
            None => Found::Nothing,
        };
        if !adopts {
            // Before it serves: from then on the next life of the program asks.
            let _ = hr_ctrl.send(hr_ctrl::IniLine(Some(1))).await;
        }
        if let Some((nucleus, _)) = &nucleus {
            let limit = boot.tunables.hr_ctrl.answer_timeout_ms;
            actix_rt::spawn(pulse::beat(nucleus.clone(), hr_ctrl, pmm, limit));
            nucleus.served(limit);
        }
        Ok(Self {
            boot_actors,
            nucleus,
            started: Started { site, found, first },
        })
    }
}

/// Carries out HR_CTRL's orders until the site has ended.
async fn serve(
    mut boot_actors: BootActors,
    site: &str,
    nucleus: Option<(NucleusLink, OwnedFd)>,
) -> Result<(), String> {
    loop {
        let asked = async {
            match &nucleus {
                Some((nucleus, _)) => nucleus.halt_asked().await,
                None => std::future::pending().await,
            }
        };
        let order = tokio::select! {
            order = boot_actors.order() => order,
            () = asked => {
                let halt = hr_ctrl::Shutdown(ShutdownLevel::Halt);
                boot_actors.hr_ctrl.do_send(halt);
                continue;
            }
        };
        match order {
            BootOrder::Reset => {
                boot_actors.reopen(false).await?;
                boot_actors.hr_ctrl.do_send(hr_ctrl::BootActorsReset);
            }
            BootOrder::Halted(HaltLevel::Cold) => {
                boot_actors.reopen(true).await?;
                let _ = boot_actors.hr_ctrl.send(hr_ctrl::StartCold).await;
            }
            BootOrder::Halted(_) => {
                let ended = boot_actors.end().await;
                if let Some((nucleus, _lock)) = &nucleus
                    && !nucleus.ended()
                {
                    // nucleus was killed; what it would have removed last is ours to remove.
                    let _ = std::fs::remove_file(paths::lock(site));
                    let _ = std::fs::remove_dir(paths::site_root());
                }
                return ended;
            }
        }
    }
}
