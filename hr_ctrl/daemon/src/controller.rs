//! hr_ctrl: the process that holds the boot actors, from its start to the end of the site.
//!
//! Three threads: C_INIT with output and sessions on the first, HR_CTRL and PMM on an arbiter
//! each. A panic on any of them ends the process, and nucleus starts the next.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, Addr};
use actix_rt::task::JoinHandle;
use futures_util::FutureExt;
use futures_util::future::{LocalBoxFuture, OptionFuture};
use hr_ctrl_core::HaltLevel;
use refrain_sys::{inherited, process};

use crate::boot::BootRecord;
use crate::boot_actors::BootActors;
use crate::c_init::{CInit, Desk};
use crate::engine::BootOrder;
use crate::hr_ctrl::{self, HrCtrl};
use crate::interpreter::{IniMode, InterpreterFactory};
use crate::keeper::Part;
use crate::nucleus_link::{Kept, NucleusLink};
use crate::output::Output;
use crate::site::ShutdownLevel;
use crate::{nucleus, paths, pulse, room};

/// How many events are kept for readers, of whom there are none outside of an embedding program.
const UNHEARD: usize = 1;

/// How long the last lines of a site have to reach its consoles.
const LAST_LINES: Duration = Duration::from_millis(20);

/// How many fds a site holds without actors, sessions included, with room to spare.
const SITE_FDS: u64 = 256;
/// How many an actor takes: control page, output, list of its cgroup's members; template, standby and
/// life, a socket and a pidfd each; and some more while it is started.
const ACTOR_FDS: u64 = 12;

/// Runs hr_ctrl, a child of nucleus, to the end of the site. Answers the exit code.
#[must_use]
pub fn main(args: &[String], factory: InterpreterFactory) -> i32 {
    // The first life has the starter's ear.
    let mut status = inherited::take(nucleus::STATUS_FD).ok().map(File::from);
    let result = prepare().and_then(|inherited| {
        // A thread that cannot be had later is a panic.
        room::try_out().map_err(|error| error.to_string())?;
        let system = actix_rt::System::new();
        system.block_on(run(inherited, Before::of(args), factory, &mut status))
    });
    match result {
        Ok(()) => 0,
        Err(why) => {
            tracing::error!(%why, "hr_ctrl ends");
            if let Some(status) = &mut status {
                let _ = writeln!(status, "{why}");
            }
            room::try_out().map_or(room::NO_ROOM, |()| 1)
        }
    }
}

/// What nucleus says of the life of hr_ctrl before.
struct Before {
    /// There was none.
    is_first: bool,
    /// How it ended.
    end: String,
}

impl Before {
    fn of(args: &[String]) -> Self {
        Self {
            is_first: args.get(1).is_none_or(|life| life == "0"),
            end: args.get(3).cloned().unwrap_or_default(),
        }
    }
}

/// What hr_ctrl is started with.
struct Inherited {
    boot: BootRecord,
    listener: OwnedFd,
    nucleus: NucleusLink,
    kept: Kept,
    /// Held to the end of the process: a site without nucleus is one, still.
    _lock: OwnedFd,
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
    process::hide_from_own_user().map_err(text)?;
    let boot = inherited::take(nucleus::BOOT_FD).map_err(text)?;
    let boot = read_boot(boot).map_err(text)?;
    // Lives get their limits from the interpreter, so ours may be as high as allowed.
    let actors = u64::from(boot.tunables.hr_ctrl.max_actors);
    let _ = process::raise_nofile_limit(SITE_FDS + actors * ACTOR_FDS);
    let listener = inherited::take(nucleus::LISTENER_FD).map_err(text)?;
    drop(inherited::take(nucleus::EXE_FD));
    let lock = inherited::take(nucleus::LOCK_FD).map_err(text)?;
    let (nucleus, kept) = NucleusLink::open().map_err(text)?;
    Ok(Inherited {
        boot,
        listener,
        nucleus,
        kept,
        _lock: lock,
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
    before: Before,
    factory: InterpreterFactory,
    status: &mut Option<File>,
) -> Result<(), String> {
    let Inherited {
        boot,
        listener,
        nucleus,
        kept,
        _lock,
    } = inherited;
    let first_life = before.is_first;
    let boot = Arc::new(boot);
    let output = Output::start(boot.tunables.console.log_size);
    let link = nucleus.duplicate().map_err(|error| error.to_string())?;
    let adopts = kept.iter().any(|(label, _)| label.part == Part::Ledger);
    let mut boot_actors = BootActors::start(&boot, &output, (Some(link), adopts), UNHEARD)?;
    // What was started before is not started again by `sysadm.ini`: it runs, or is brought back, or it had
    // ended. That holds for the next life of hr_ctrl and for a bank whose site was killed.
    let is_fresh = first_life && boot_actors.registrations.is_empty();
    let desk = Desk::new(boot_actors.site(&boot, &output), factory);
    let limit = boot.tunables.hr_ctrl.answer_timeout_ms;
    let (hr_ctrl, pmm) = (boot_actors.hr_ctrl.clone(), boot_actors.pmm.clone());
    actix_rt::spawn(pulse::beat(nucleus.clone(), hr_ctrl, pmm, limit));
    // Before the first session is served, so that no command meets half a site.
    let adopted = boot_actors.recover(kept).await?;
    CInit::new(Rc::clone(&desk), &listener)
        .map_err(|error| error.to_string())?
        .start();
    nucleus.served(limit);
    if let Some(mut status) = status.take() {
        pulse::ready();
        let _ = writeln!(status, "ok");
        // The starter reads to the end, and connects only then.
        drop(status);
        if boot.wait_for_console {
            desk.console_there().await;
        }
    }
    let (site, hr_ctrl) = (Rc::clone(&desk), boot_actors.hr_ctrl.clone());
    let mut start = match adopted {
        Some(adopted) => {
            let lives = adopted.lives;
            output.say(format!(
                "HR_CTRL: hr_ctrl had ended ({}) and was started again; {lives} lives go on",
                before.end
            ));
            let from = adopted.ini_line;
            Some(actix_rt::spawn(start(
                site,
                hr_ctrl,
                IniMode::Adopt { from },
            )))
        }
        None if is_fresh => Some(actix_rt::spawn(start(site, hr_ctrl, IniMode::Start))),
        None => {
            if !first_life {
                output.say(format!(
                    "HR_CTRL: hr_ctrl had ended ({}) and was started again: site restart",
                    before.end
                ));
            }
            None
        }
    };
    let served = serve(boot_actors, &desk, &nucleus, &mut start).await;
    if let Some(start) = start {
        // A site that was told to end does not read `sysadm.ini` to its end first.
        start.abort();
    }
    served?;
    desk.halted();
    // The last lines are on their way to the consoles.
    tokio::time::sleep(LAST_LINES).await;
    pulse::stopping();
    if !nucleus.ended() {
        // nucleus was killed; what it would have removed last is ours to remove.
        let _ = std::fs::remove_file(paths::socket(&boot.site));
        let _ = std::fs::remove_file(paths::lock(&boot.site));
        let _ = std::fs::remove_dir(paths::site_root());
    }
    Ok(())
}

/// Reads `sysadm.ini` for the first time, or as far as the hr_ctrl before has not. A future of its own:
/// orders and the wish to end the site are heard meanwhile.
async fn start(desk: Rc<Desk>, hr_ctrl: Addr<HrCtrl>, mode: IniMode) {
    desk.read_ini(mode, &|line| hr_ctrl.do_send(hr_ctrl::IniLine(Some(line))))
        .await;
    hr_ctrl.do_send(hr_ctrl::IniLine(None));
    arm_once(&desk, &hr_ctrl);
}

fn arm_once(desk: &Desk, hr_ctrl: &Addr<HrCtrl>) {
    if desk.boot().once {
        hr_ctrl.do_send(hr_ctrl::ArmOnce);
    }
}

/// Carries out HR_CTRL's orders until the site has ended.
async fn serve(
    mut boot_actors: BootActors,
    desk: &Rc<Desk>,
    nucleus: &NucleusLink,
    start: &mut Option<JoinHandle<()>>,
) -> Result<(), String> {
    let hr_ctrl = boot_actors.hr_ctrl.clone();
    // `sysadm.ini`, read again in a site restart.
    let mut again: Option<LocalBoxFuture<'_, ()>> = None;
    loop {
        let order = tokio::select! {
            order = boot_actors.order() => order,
            () = nucleus.halt_asked() => {
                hr_ctrl.do_send(hr_ctrl::Shutdown(ShutdownLevel::Halt));
                continue;
            }
            () = OptionFuture::from(again.as_mut()).map(drop), if again.is_some() => {
                again = None;
                hr_ctrl.do_send(hr_ctrl::BootActorsReset);
                if start.as_ref().is_none_or(JoinHandle::is_finished) {
                    arm_once(desk, &hr_ctrl);
                }
                continue;
            }
        };
        match order {
            BootOrder::Reset => {
                boot_actors.reopen(false).await?;
                again = Some(Box::pin(desk.read_ini(IniMode::Restart, &|_| {})));
            }
            BootOrder::Halted(HaltLevel::Cold) => {
                again = None;
                boot_actors.reopen(true).await?;
                let _ = hr_ctrl.send(hr_ctrl::StartCold).await;
                let first = self::start(Rc::clone(desk), hr_ctrl.clone(), IniMode::Start);
                if let Some(unfinished) = start.replace(actix_rt::spawn(first)) {
                    unfinished.abort();
                }
            }
            BootOrder::Halted(_) => return boot_actors.end().await,
        }
    }
}
