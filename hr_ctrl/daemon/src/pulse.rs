//! The pulse of hr_ctrl: proof, once in a while, that each of its threads still answers.
//!
//! C_INIT's thread asks HR_CTRL and PMM; only when both have answered does the pulse go to nucleus,
//! which ends an hr_ctrl without one and starts the next, and to systemd's watchdog where the site
//! was started with one. A site that serves also says so to systemd, with nucleus as main pid.
//!
//! Must never beat for a thread that it has not asked.

use std::time::Duration;

use actix::{Addr, Context, Handler, Message};
use sd_notify::NotifyState;

use crate::hr_ctrl::HrCtrl;
use crate::nucleus_link::NucleusLink;
use crate::pmm::Pmm;

/// How many pulses fit into the time after which the lack of one is taken for a hang.
const PULSES: u32 = 4;
/// The variables that systemd speaks through; hr_ctrl gets them, actors do not.
pub const SYSTEMD_VARS: [&str; 3] = ["NOTIFY_SOCKET", "WATCHDOG_USEC", WATCHDOG_PID];
/// Names whom systemd has started, which is not who beats: nobody gets it.
pub const WATCHDOG_PID: &str = "WATCHDOG_PID";

/// Do you answer?
#[derive(Message)]
#[rtype(result = "()")]
struct Beat;

impl Handler<Beat> for HrCtrl {
    type Result = ();
    fn handle(&mut self, _: Beat, _: &mut Context<Self>) {}
}

impl Handler<Beat> for Pmm {
    type Result = ();
    fn handle(&mut self, _: Beat, _: &mut Context<Self>) {}
}

/// Tells systemd, if it listens, that the site serves.
pub fn ready() {
    let nucleus = std::os::unix::process::parent_id();
    tell(&[NotifyState::Ready, NotifyState::MainPid(nucleus)]);
}

/// Tells systemd, if it listens, that the site is ending.
pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "systemd does not listen");
    }
}

/// Beats for as long as the process lives. `limit_ms`: after how long nucleus takes silence for a
/// hang, 0 for never.
pub async fn beat(nucleus: NucleusLink, hr_ctrl: Addr<HrCtrl>, pmm: Addr<Pmm>, limit_ms: u64) {
    let watchdog = sd_notify::watchdog_enabled();
    let hang = (limit_ms > 0).then(|| Duration::from_millis(limit_ms));
    let Some(limit) = watchdog.into_iter().chain(hang).min() else {
        return;
    };
    loop {
        if hr_ctrl.send(Beat).await.is_err() || pmm.send(Beat).await.is_err() {
            return;
        }
        nucleus.pulse();
        if watchdog.is_some() {
            tell(&[NotifyState::Watchdog]);
        }
        tokio::time::sleep(limit / PULSES).await;
    }
}
