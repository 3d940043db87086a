//! What a site is started with: written by `c_init`, handed through nucleus unread, read by
//! every life of hr_ctrl.

use std::path::PathBuf;

use refrain_abi::tunables::Tunables;
use serde::{Deserialize, Serialize};

use crate::embed::kept;

/// Everything hr_ctrl needs to know at its start.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BootRecord {
    /// The site's name.
    pub site: String,
    /// The bank's directory.
    pub bank: PathBuf,
    /// The tunables.
    pub tunables: Tunables,
    /// `sysadm.ini` as it was named, relative to `cwd`; `None`: there is none.
    pub ini: Option<PathBuf>,
    /// The directory the site was started in: where paths in `sysadm.ini` start.
    pub cwd: PathBuf,
    /// The environment that the site was started with; the interpreter's initial one.
    pub env: Vec<(String, String)>,
    /// Halt when `sysadm.ini` is done and no group or ordinary actor is left (`--once`).
    pub once: bool,
    /// Read `sysadm.ini` only when the first console is there, so that nothing it prints is lost.
    pub wait_for_console: bool,
}

impl BootRecord {
    /// The record of a site inside another program ([`crate::embed`]): default tunables, this
    /// process's environment and directory.
    #[must_use]
    pub fn embedded(site: &str, bank: PathBuf) -> Self {
        let variables = std::env::vars_os();
        Self {
            site: site.to_owned(),
            bank,
            tunables: Tunables::default(),
            ini: None,
            cwd: std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/")),
            env: variables
                .filter_map(|(name, value)| {
                    Some((name.into_string().ok()?, value.into_string().ok()?))
                })
                .filter(|(name, _)| !kept::is_private(name))
                .collect(),
            once: false,
            wait_for_console: false,
        }
    }
}
