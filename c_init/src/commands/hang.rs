//! What `arun` says of how an actor that hangs is noticed (SPEC H34).

use clap::Args;
use refrain_abi::hang::{Check, HangWatch, Probe, Target};

use crate::config::hang::{A_PERIOD, period};
use crate::config::units;

/// The options of `arun` that have an actor watched.
#[derive(Clone, Debug, Default, Args)]
pub struct Hang {
    /// it hangs when its progress counter stands still for so long, like 5s
    #[arg(long, value_name = "PERIOD", value_parser = parse_period)]
    pub progress: Option<u32>,
    /// a command for /bin/sh that exits with 0 as long as the actor works
    #[arg(long, value_name = "COMMAND", group = "probe")]
    pub check: Option<String>,
    /// it works as long as this takes TCP connections
    #[arg(long, value_name = "HOST:PORT", group = "probe", value_parser = Target::parse)]
    pub check_tcp: Option<Target>,
    /// it works as long as a GET of this is answered with 2xx or 3xx
    #[arg(long, value_name = "URL", group = "probe", value_parser = Probe::parse_url)]
    pub check_http: Option<Probe>,
    /// how often it is checked: 5s
    #[arg(long, value_name = "TIME", requires = "probe", value_parser = units::parse_time)]
    pub check_every: Option<u64>,
    /// how long a check may take: 2s
    #[arg(long, value_name = "TIME", requires = "probe", value_parser = units::parse_time)]
    pub check_timeout: Option<u64>,
    /// how many checks in a row must fail: 3
    #[arg(
        long,
        value_name = "N",
        requires = "probe",
        value_parser = clap::value_parser!(u32).range(1..)
    )]
    pub check_failures: Option<u32>,
    /// how long a life may take to start before it is watched
    #[arg(long, value_name = "TIME", value_parser = units::parse_time)]
    pub check_after: Option<u64>,
    /// end it with SIGABRT when it hangs, for a backtrace and a core dump, and only then with SIGKILL
    #[arg(long)]
    pub hang_core: bool,
}

fn parse_period(text: &str) -> Result<u32, String> {
    let ms = units::parse_time(text)?;
    period(ms).ok_or_else(|| format!("not {A_PERIOD}"))
}

impl Hang {
    /// What the site is told.
    pub(super) fn watch(&self) -> HangWatch {
        let command = self.check.clone().map(Probe::Command);
        let tcp = self.check_tcp.clone().map(Probe::Tcp);
        let probe = command.or(tcp).or_else(|| self.check_http.clone());
        HangWatch {
            progress_ms: self.progress,
            check: probe.map(|probe| {
                let mut check = Check::new(probe);
                check.every_ms = self.check_every.unwrap_or(check.every_ms);
                check.timeout_ms = self.check_timeout.unwrap_or(check.timeout_ms);
                check.failures = self.check_failures.unwrap_or(check.failures);
                check
            }),
            after_ms: self.check_after,
            core: self.hang_core,
        }
    }
}
