//! The end of hr_ctrl, in each way, once and again while the next one recovers; with faults of lives just
//! before, and while there is no controller.
//!
//! Called by the step that says so. Nobody but the actors that were hit may notice (SPEC H31).

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use refrain_sys::PidFd;
use refrain_tests::proc;
use rustix::process::Signal;

use crate::interrupt;
use crate::plan::{Coup, Hit};
use crate::run::Torture;

/// nucleus gives up when hr_ctrl ends more often than this ...
const DEATHS: usize = 7;
/// ... within this time.
const STORM: Duration = Duration::from_secs(11);
/// Between two looks for the next hr_ctrl.
const PAUSE: Duration = Duration::from_micros(200);

impl Torture {
    /// Ends hr_ctrl.
    ///
    /// # Errors
    /// Whatever was disturbed.
    pub fn controller(
        &mut self,
        coup: Coup,
        [before, after]: [&[Hit]; 2],
        again: &[u64],
    ) -> Result<()> {
        for _ in 0..=again.len() {
            self.pace()?;
        }
        let mut dues = self.nothing();
        let mut pid = self.stat.hr_ctrl;
        let pidfd = PidFd::open(pid).context("hr_ctrl")?;
        self.hit_all("life, then hr_ctrl", before, &mut dues)?;
        end(&pidfd, coup)?;
        self.tally.inject("hr_ctrl", name(coup));
        self.hit_all("life without hr_ctrl", after, &mut dues)?;
        for delay in again {
            pid = self.next_controller(pid)?;
            thread::sleep(Duration::from_micros(*delay));
            if let Ok(pidfd) = PidFd::open(pid) {
                pidfd.send_signal(Signal::KILL)?;
                self.tally.inject("hr_ctrl", "kill -9 while it recovers");
            }
        }
        pid = self.next_controller(pid)?;
        // What aps says about ends that nobody could tell: the template has, or has not, been heard.
        dues.ends.fill(None);
        self.settle(&dues)?;
        let stat = self.stage.link.stat()?;
        ensure!(
            stat.nucleus == self.stat.nucleus,
            "there is another nucleus"
        );
        ensure!(
            stat.hr_ctrl == pid,
            "hr_ctrl has ended once more, without cause"
        );
        self.stat = stat;
        Ok(())
    }

    /// Waits until nucleus puts up with one more death.
    fn pace(&mut self) -> Result<()> {
        while self.deaths.len() >= DEATHS {
            interrupt::check()?;
            if self
                .deaths
                .front()
                .is_some_and(|death| death.elapsed() > STORM)
            {
                self.deaths.pop_front();
            } else {
                thread::sleep(Duration::from_millis(20));
            }
        }
        self.deaths.push_back(Instant::now());
        Ok(())
    }

    /// The hr_ctrl after the one with pid `old`, as soon as it has a name.
    fn next_controller(&mut self, old: u32) -> Result<u32> {
        let nucleus = self.stat.nucleus;
        let mut found = 0;
        self.until("the next hr_ctrl", |_| {
            let file = format!("/proc/{nucleus}/task/{nucleus}/children");
            let children = fs::read_to_string(file)?;
            let mut pids = children
                .split_whitespace()
                .filter_map(|pid| pid.parse().ok());
            let is_it = |pid: &u32| {
                *pid != old && proc::is_alive(*pid) && proc::text(*pid, "comm").trim() == "hr_ctrl"
            };
            found = pids.rfind(is_it).unwrap_or(0);
            Ok(found != 0)
        })?;
        Ok(found)
    }
}

fn end(pidfd: &PidFd, coup: Coup) -> Result<()> {
    match coup {
        Coup::Kill => pidfd.send_signal(Signal::KILL)?,
        Coup::Abort => pidfd.send_signal(Signal::ABORT)?,
        Coup::Stop => pidfd.send_signal(Signal::STOP)?,
        // Rust's own handler steps back at the first that is no fault.
        Coup::Segv => {
            while !pidfd.has_ended() {
                let _ = pidfd.send_signal(Signal::SEGV);
                thread::sleep(PAUSE);
            }
        }
    }
    Ok(())
}

fn name(coup: Coup) -> &'static str {
    match coup {
        Coup::Kill => "kill -9",
        Coup::Segv => "SIGSEGV",
        Coup::Abort => "SIGABRT",
        Coup::Stop => "SIGSTOP, until nucleus ends it",
    }
}
