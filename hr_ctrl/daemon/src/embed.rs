//! A site inside another actix program: no nucleus, no console, no `sysadm.ini`.
//!
//! The embedding program is the parent of templates and stands for the controller: when it ends,
//! templates and standbys end with it; lives go on until they end by themselves. A bank that it leaves
//! behind brings its registered actors back at the next [`start`].
//!
//! ```no_run
//! # async fn example() -> Result<(), String> {
//! use hr_ctrl::boot::BootRecord;
//!
//! let site = hr_ctrl::embed::start(BootRecord::embedded("mine", "/run/mine/bank".into())).await?;
//! let actors = site.site().actors().await.map_err(|error| error.to_string())?;
//! assert!(actors.is_empty());
//! site.halt().await
//! # }
//! ```

use std::sync::Arc;

use actix_rt::task::JoinHandle;
use hr_ctrl_core::HaltLevel;

use crate::boot::BootRecord;
use crate::boot_actors::BootActors;
use crate::engine::BootOrder;
use crate::hr_ctrl;
use crate::output::Output;
use crate::site::{ShutdownLevel, Site};

/// A site of the embedding program's own.
pub struct EmbeddedSite {
    site: Site,
    served: JoinHandle<Result<(), String>>,
}

/// Starts a site on this thread, which must run an actix system, and two arbiters. Of the record,
/// `ini`, `once` and `wait_for_console` mean nothing here.
///
/// # Errors
/// One line: why the bank cannot be opened (another site has it, it is damaged ...), and the cure.
///
/// Source: DESIGN section 1.
pub async fn start(record: BootRecord) -> Result<EmbeddedSite, String> {
    let boot = Arc::new(record);
    let output = Output::start(boot.tunables.console.log_size);
    let mut boot_actors = BootActors::start(&boot, &output, None, false)?;
    let site = boot_actors.site(&boot, &output);
    boot_actors.recover(Vec::new()).await?;
    let served = actix_rt::spawn(serve(boot_actors));
    Ok(EmbeddedSite { site, served })
}

impl EmbeddedSite {
    /// The handle: run, kill, list, restart.
    #[must_use]
    pub fn site(&self) -> &Site {
        &self.site
    }

    /// Halts the site tidily and returns when nothing of it is left.
    ///
    /// # Errors
    /// One line: what could not be kept or discarded of the bank.
    pub async fn halt(self) -> Result<(), String> {
        let asked = self.site.shutdown(ShutdownLevel::Halt).await;
        asked.map_err(|error| error.to_string())?;
        self.served.await.map_err(|error| error.to_string())?
    }
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
