//! hr_ctrl: the process that holds the boot actors, from its start to the end of the site.
//!
//! Three threads: C_INIT with output and sessions on the first, HR_CTRL and PMM on an arbiter
//! each. A panic on any of them ends the process, and nucleus starts the next.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;

use actix::{Actor, Addr, Arbiter};
use hr_ctrl_core::HaltLevel;
use refrain_pmm::BankOptions;
use refrain_sys::{inherited, process};
use tokio::sync::mpsc;

use crate::boot::BootRecord;
use crate::c_init::{CInit, Desk, ReadIni};
use crate::containment::Containment;
use crate::engine::{BootOrder, Engine, Parts};
use crate::hr_ctrl::{self, HrCtrl};
use crate::interpreter::{IniMode, InterpreterFactory};
use crate::nucleus;
use crate::nucleus_link::{KeptImage, NucleusLink};
use crate::output::Output;
use crate::pmm::{self, OpenBank, Pmm};
use crate::pulse;
use crate::site::Site;

/// Runs hr_ctrl, a child of nucleus, to the end of the site. Answers the exit code.
#[must_use]
pub fn main(args: &[String], factory: InterpreterFactory) -> i32 {
    // The first life has the starter's ear.
    let mut status = inherited::take(nucleus::STATUS_FD).ok().map(File::from);
    let first_life = args.get(1).is_none_or(|life| life == "0");
    let result = prepare().and_then(|inherited| {
        let system = actix_rt::System::new();
        system.block_on(run(inherited, first_life, factory, &mut status))
    });
    match result {
        Ok(()) => 0,
        Err(why) => {
            tracing::error!(%why, "hr_ctrl ends");
            if let Some(status) = &mut status {
                let _ = writeln!(status, "{why}");
            }
            1
        }
    }
}

/// What hr_ctrl is started with.
struct Inherited {
    boot: BootRecord,
    listener: OwnedFd,
    nucleus: NucleusLink,
    kept: Vec<KeptImage>,
}

fn prepare() -> Result<Inherited, String> {
    let filter = std::env::var("REFRAIN_LOG").unwrap_or_else(|_| "warn".to_owned());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .init();
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        default(panic);
        // Half a controller is worse than none: nucleus starts a whole one.
        std::process::abort();
    }));
    let text = |error: io::Error| format!("hr_ctrl is started by nucleus: {error}");
    process::set_name("hr_ctrl").map_err(text)?;
    // Lives get their limits from the interpreter, so ours may be as high as allowed.
    let _ = process::raise_nofile_limit();
    let boot = inherited::take(nucleus::BOOT_FD).map_err(text)?;
    let boot = read_boot(boot).map_err(text)?;
    let listener = inherited::take(nucleus::LISTENER_FD).map_err(text)?;
    drop(inherited::take(nucleus::EXE_FD));
    let (nucleus, kept) = NucleusLink::open().map_err(text)?;
    Ok(Inherited {
        boot,
        listener,
        nucleus,
        kept,
    })
}

fn read_boot(boot: OwnedFd) -> io::Result<BootRecord> {
    // The offset is shared with every other life of hr_ctrl: read from the start all the same.
    let mut bytes = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        match rustix::io::pread(&boot, &mut chunk, bytes.len() as u64)? {
            0 => break,
            count => bytes.extend_from_slice(&chunk[..count]),
        }
    }
    serde_json::from_slice(&bytes).map_err(io::Error::from)
}

async fn run(
    inherited: Inherited,
    first_life: bool,
    factory: InterpreterFactory,
    status: &mut Option<File>,
) -> Result<(), String> {
    let Inherited {
        boot,
        listener,
        nucleus,
        kept,
    } = inherited;
    let boot = Arc::new(boot);
    let output = Output::start(boot.tunables.console.log_size);
    let options = BankOptions::new(boot.bank.clone(), &boot.tunables);
    let (bank, found) = OpenBank::open(options, boot.tunables.pmm.keep_on_halt, output.clone())?;
    // An arbiter runs until the process ends.
    let pmm = Pmm::start_in_arbiter(&Arbiter::new().handle(), |_| Pmm::new(bank));
    let (orders, incoming) = mpsc::unbounded_channel();
    let parts = PartsSeed {
        boot: Arc::clone(&boot),
        pmm: pmm.clone(),
        output: output.clone(),
        nucleus: nucleus.duplicate().map_err(|error| error.to_string())?,
        orders,
        first_aid: found.first_aid,
    };
    let hr_ctrl = start_hr_ctrl(parts);
    pmm.do_send(pmm::Connect(hr_ctrl.clone()));
    let site_output = output.clone();
    let site = Site::new(hr_ctrl.clone(), pmm.clone(), output, Arc::clone(&boot));
    let desk = Desk::new(site, factory);
    let c_init = CInit::new(Rc::clone(&desk), &listener)
        .map_err(|error| error.to_string())?
        .start();
    // What was started before is not started again by `sysadm.ini`: it is brought back, or it had
    // ended. That holds for the next life of hr_ctrl and for a bank whose site was killed.
    let recovered = !first_life || !found.registrations.is_empty();
    if !first_life {
        site_output.say("HR_CTRL: hr_ctrl had ended and was started again: site restart");
    }
    let limit = boot.tunables.hr_ctrl.answer_timeout_ms;
    actix_rt::spawn(pulse::beat(
        nucleus.clone(),
        hr_ctrl.clone(),
        pmm.clone(),
        limit,
    ));
    if let Some(mut status) = status.take() {
        pulse::ready();
        nucleus.served();
        let _ = writeln!(status, "ok");
        // The starter reads to the end, and connects only then.
        drop(status);
        if boot.wait_for_console {
            desk.console_there().await;
        }
    }
    let boot_actors = BootActors {
        boot,
        hr_ctrl,
        pmm,
        c_init,
        desk,
    };
    if recovered {
        let registrations = found.registrations;
        boot_actors.hr_ctrl.do_send(hr_ctrl::Restore {
            registrations,
            kept,
        });
    } else {
        boot_actors.first_start().await;
    }
    boot_actors.serve(incoming, &nucleus).await?;
    pulse::stopping();
    nucleus.ended();
    Ok(())
}

/// What crosses to HR_CTRL's thread; the engine itself is made there and never leaves it.
struct PartsSeed {
    boot: Arc<BootRecord>,
    pmm: Addr<Pmm>,
    output: Output,
    nucleus: OwnedFd,
    orders: mpsc::UnboundedSender<BootOrder>,
    first_aid: refrain_abi::Aid,
}

fn start_hr_ctrl(seed: PartsSeed) -> Addr<HrCtrl> {
    HrCtrl::start_in_arbiter(&Arbiter::new().handle(), move |_| {
        let containment = Containment::probe(&seed.boot.site);
        if let Containment::Sweep(why) = &containment {
            tracing::warn!(%why, "children of lives are found by a search of /proc");
        }
        let parts = Parts {
            tunables: seed.boot.tunables.clone(),
            bank: seed.boot.bank.clone(),
            pmm: seed.pmm,
            output: seed.output,
            nucleus: Some(NucleusLink::over(seed.nucleus)),
            containment,
            orders: seed.orders,
            first_aid: seed.first_aid,
            aids_reserved: seed.first_aid,
        };
        HrCtrl::new(Engine::new(parts).expect("/dev/null can be opened"))
    })
}

/// The boot actors, for what concerns all of them.
struct BootActors {
    boot: Arc<BootRecord>,
    hr_ctrl: Addr<HrCtrl>,
    pmm: Addr<Pmm>,
    c_init: Addr<CInit>,
    desk: Rc<Desk>,
}

impl BootActors {
    async fn first_start(&self) {
        let _ = self.c_init.send(ReadIni(IniMode::Start)).await;
        self.arm_once();
    }

    fn arm_once(&self) {
        if self.boot.once {
            self.hr_ctrl.do_send(hr_ctrl::ArmOnce);
        }
    }

    /// Carries out HR_CTRL's orders until the site has ended.
    async fn serve(
        &self,
        mut orders: mpsc::UnboundedReceiver<BootOrder>,
        nucleus: &NucleusLink,
    ) -> Result<(), String> {
        loop {
            let order = tokio::select! {
                order = orders.recv() => order,
                () = nucleus.halt_asked() => {
                    self.hr_ctrl.do_send(hr_ctrl::Shutdown(crate::site::ShutdownLevel::Halt));
                    continue;
                }
            };
            match order {
                Some(BootOrder::Reset) => {
                    self.reopen(false).await?;
                    let _ = self.c_init.send(ReadIni(IniMode::Restart)).await;
                    self.hr_ctrl.do_send(hr_ctrl::BootActorsReset);
                    self.arm_once();
                }
                Some(BootOrder::Halted(HaltLevel::Cold)) => {
                    self.reopen(true).await?;
                    let _ = self.hr_ctrl.send(hr_ctrl::StartCold).await;
                    self.first_start().await;
                }
                Some(BootOrder::Halted(_)) | None => return self.end().await,
            }
        }
    }

    async fn reopen(&self, discard: bool) -> Result<(), String> {
        self.pmm
            .send(pmm::Reopen { discard })
            .await
            .map_err(|error| error.to_string())?
    }

    async fn end(&self) -> Result<(), String> {
        let closed = self
            .pmm
            .send(pmm::Close)
            .await
            .map_err(|error| error.to_string())?;
        let _ = self.hr_ctrl.send(hr_ctrl::ClearUp).await;
        self.desk.halted();
        // The last lines are on their way to the consoles.
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        closed
    }
}
