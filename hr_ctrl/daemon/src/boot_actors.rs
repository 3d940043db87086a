//! HR_CTRL and PMM, brought up together and kept in step: what a site with a nucleus
//! ([`crate::controller`]) and one inside another program ([`crate::embed`]) have in common.
//!
//! Each gets an arbiter, so neither waits for the other, nor for C_INIT and the output, which stay
//! on the thread of whoever calls here.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use actix::{Actor, Addr, Arbiter};
use hr_ctrl_core::HaltLevel;
use refrain_abi::Aid;
use refrain_pmm::{BankOptions, Registration};
use tokio::sync::{broadcast, mpsc};

use crate::boot::BootRecord;
use crate::containment::Containment;
use crate::engine::{Adopted, BootOrder, Engine, Parts};
use crate::events::SiteEvent;
use crate::hr_ctrl::{self, HrCtrl};
use crate::nucleus_link::{Kept, NucleusLink};
use crate::output::Output;
use crate::pmm::{self, OpenBank, Pmm};
use crate::site::Site;

/// HR_CTRL and PMM, running.
pub(crate) struct BootActors {
    pub(crate) hr_ctrl: Addr<HrCtrl>,
    pub(crate) pmm: Addr<Pmm>,
    /// What the bank holds of an earlier controller.
    pub(crate) registrations: Vec<Registration>,
    orders: mpsc::UnboundedReceiver<BootOrder>,
    events: broadcast::Sender<SiteEvent>,
}

/// What crosses to HR_CTRL's thread; the engine itself is made there and never leaves it.
struct Seed {
    boot: Arc<BootRecord>,
    pmm: Addr<Pmm>,
    output: Output,
    nucleus: Option<OwnedFd>,
    orders: mpsc::UnboundedSender<BootOrder>,
    first_aid: Aid,
    adopts: bool,
    events: broadcast::Sender<SiteEvent>,
}

impl BootActors {
    /// Opens the bank and starts both. `nucleus`: the socket to it, where there is one. `adopts`: what runs
    /// below the site's cgroup is to be adopted. `depth`: how many events are kept for readers.
    ///
    /// # Errors
    /// One line: why the bank cannot be opened, and the cure.
    pub(crate) fn start(
        boot: &Arc<BootRecord>,
        output: &Output,
        (nucleus, adopts): (Option<OwnedFd>, bool),
        depth: usize,
    ) -> Result<Self, String> {
        let options = BankOptions::new(boot.bank.clone(), &boot.tunables);
        let keep = boot.tunables.pmm.keep_on_halt;
        let (bank, found) = OpenBank::open(options, keep, output.clone())?;
        let pmm = Pmm::start_in_arbiter(&Arbiter::new().handle(), |_| Pmm::new(bank));
        let (sender, orders) = mpsc::unbounded_channel();
        let (events, _) = broadcast::channel(depth);
        let seed = Seed {
            boot: Arc::clone(boot),
            pmm: pmm.clone(),
            output: output.clone(),
            nucleus,
            orders: sender,
            first_aid: found.first_aid,
            adopts,
            events: events.clone(),
        };
        let hr_ctrl = HrCtrl::start_in_arbiter(&Arbiter::new().handle(), move |_| seed.grow());
        pmm.do_send(pmm::Connect(hr_ctrl.clone()));
        let registrations = found.registrations;
        Ok(Self {
            hr_ctrl,
            pmm,
            registrations,
            orders,
            events,
        })
    }

    /// The handle to the site that they are.
    pub(crate) fn site(&self, boot: &Arc<BootRecord>, output: &Output) -> Site {
        let (hr_ctrl, pmm) = (self.hr_ctrl.clone(), self.pmm.clone());
        Site::new(
            (hr_ctrl, pmm),
            output.clone(),
            Arc::clone(boot),
            &self.events,
        )
    }

    /// Adopts the actors of an earlier controller; or brings them back by a site
    /// restart. With nothing kept and an empty bank it does nothing.
    ///
    /// # Errors
    /// One line: what was kept is no good.
    pub(crate) async fn recover(&mut self, kept: Kept) -> Result<Option<Adopted>, String> {
        let registrations = std::mem::take(&mut self.registrations);
        let recover = hr_ctrl::Recover {
            registrations,
            kept,
        };
        let recovered = self.hr_ctrl.send(recover).await;
        recovered.map_err(|error| error.to_string())?
    }

    /// The next of HR_CTRL's orders. May be dropped half way.
    pub(crate) async fn order(&mut self) -> BootOrder {
        let ended = BootOrder::Halted(HaltLevel::Immediate);
        self.orders.recv().await.unwrap_or(ended)
    }

    /// Brings PMM to its initial state; `discard`: with an empty bank.
    ///
    /// # Errors
    /// One line, as for [`BootActors::start`].
    pub(crate) async fn reopen(&self, discard: bool) -> Result<(), String> {
        let reopened = self.pmm.send(pmm::Reopen { discard }).await;
        reopened.map_err(|error| error.to_string())?
    }

    /// Closes the bank and gives up the containment: the end of the site.
    ///
    /// # Errors
    /// One line: what could not be kept or discarded.
    pub(crate) async fn end(&self) -> Result<(), String> {
        let closed = self.pmm.send(pmm::Close).await;
        let _ = self.hr_ctrl.send(hr_ctrl::ClearUp).await;
        closed.map_err(|error| error.to_string())?
    }
}

impl Seed {
    fn grow(self) -> HrCtrl {
        let containment = if self.adopts {
            Containment::adopt(&self.boot.site)
        } else {
            Containment::probe(&self.boot.site)
        };
        if let Containment::Sweep { why, .. } = &containment {
            tracing::warn!(%why, "children of lives are found by a search of /proc");
        }
        let parts = Parts {
            tunables: self.boot.tunables.clone(),
            bank: self.boot.bank.clone(),
            pmm: self.pmm,
            output: self.output,
            nucleus: self.nucleus.map(NucleusLink::over),
            containment,
            events: self.events,
            orders: self.orders,
            first_aid: self.first_aid,
            aids_reserved: self.first_aid,
        };
        HrCtrl::new(Engine::new(parts).expect("/dev/null can be opened"))
    }
}
