//! `restart`, `reboot` and `shutdown`: the site as a whole (SPEC C2, H25, H26).

use clap::Args;
use hr_ctrl::site::ShutdownLevel;

use super::{CommandError, Flow, Outcome};
use crate::interpreter::Context;

/// `restart`: restarts the site hot.
#[derive(Clone, Debug, Args)]
#[command(override_usage = "restart")]
pub struct Restart {}

impl Restart {
    pub(crate) async fn run(&self, cx: &Context<'_>) -> Outcome {
        shut_down(cx, ShutdownLevel::HotRestart).await
    }
}

/// `reboot`: restarts the site cold.
#[derive(Clone, Debug, Args)]
#[command(override_usage = "reboot")]
pub struct Reboot {}

impl Reboot {
    pub(crate) async fn run(&self, cx: &Context<'_>) -> Outcome {
        shut_down(cx, ShutdownLevel::ColdRestart).await
    }
}

/// `shutdown`: halts or restarts the site.
#[derive(Clone, Debug, Args)]
#[command(override_usage = "shutdown -i 0|1|2|3")]
pub struct Shutdown {
    /// 0: halt; 1: hot restart; 2: cold restart, without persistent memory; 3: stop at once
    #[arg(short = 'i', value_name = "LEVEL", value_parser = clap::value_parser!(u8).range(0..=3))]
    pub level: u8,
}

impl Shutdown {
    /// The level as the site knows it.
    #[must_use]
    pub fn level(&self) -> ShutdownLevel {
        match self.level {
            0 => ShutdownLevel::Halt,
            1 => ShutdownLevel::HotRestart,
            2 => ShutdownLevel::ColdRestart,
            _ => ShutdownLevel::Immediate,
        }
    }

    pub(crate) async fn run(&self, cx: &Context<'_>) -> Outcome {
        shut_down(cx, self.level()).await
    }
}

/// Whatever follows in a file is left undone: the site that it was meant for is no more.
async fn shut_down(cx: &Context<'_>, level: ShutdownLevel) -> Outcome {
    let site = cx.site()?;
    let restarts = matches!(
        level,
        ShutdownLevel::HotRestart | ShutdownLevel::ColdRestart
    );
    if restarts && cx.ini().is_some() {
        return Err(CommandError::failed(
            "not while sysadm.ini is read: a restart reads it again, and so without end",
        ));
    }
    if restarts {
        // The next interpreter may want the same port before this one is dropped.
        cx.close_rshd();
    }
    match level {
        ShutdownLevel::HotRestart => site.restart().await,
        level => site.shutdown(level).await,
    }
    .map_err(CommandError::failed)?;
    Ok(Flow::End)
}
