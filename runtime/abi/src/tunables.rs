//! The tunables of a site (SPEC H27), as the controller uses them: plain numbers with units.
//! How they are written in a configuration file is `c_init`'s business.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::PolicyParts;
use crate::limits::ActorTunables;

/// Every tunable of a site.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Tunables {
    /// Persistent memory.
    pub pmm: PmmTunables,
    /// The controller.
    pub hr_ctrl: HrCtrlTunables,
    /// The console and the log.
    pub console: ConsoleTunables,
    /// The restart policy of every group that says nothing else (SPEC H33).
    #[serde(default)]
    pub policy: PolicyParts,
    /// The restart policies of single groups, by gid.
    #[serde(default)]
    pub groups: BTreeMap<u32, PolicyParts>,
    /// Actors by name.
    #[serde(default)]
    pub actors: BTreeMap<String, ActorTunables>,
}

/// Tunables of the bank.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PmmTunables {
    /// The bank's size, in bytes.
    pub ram_bank_size: u64,
    /// How many blocks a bank holds.
    pub max_blocks: u32,
    /// Where blocks are mapped: the base of the window, an address.
    pub window_base: u64,
    /// The window's size, in bytes.
    pub window_size: u64,
    /// Whether the bank is kept when the site halts; `None`: kept on a disk, discarded on tmpfs.
    pub keep_on_halt: Option<bool>,
}

/// Tunables of the Hot Restart Controller.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HrCtrlTunables {
    /// How many actors a site runs.
    pub max_actors: u32,
    /// How many restart groups there are.
    pub max_groups: u32,
    /// How many group restarts within `interval_ms` are put up with; one more restarts the site.
    pub max_badness: u32,
    /// The interval that badness is counted over, in milliseconds.
    pub interval_ms: u64,
    /// How long an actor that was told to end tidily may take, in milliseconds.
    pub grace_ms: u64,
    /// How long hr_ctrl may leave nucleus without a sign of life before it is started again, in
    /// milliseconds; 0 in an embedding program: for ever.
    pub answer_timeout_ms: u64,
    /// How long a program may take to reach `main` in its template, in milliseconds.
    pub template_timeout_ms: u64,
}

/// Tunables of the console.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsoleTunables {
    /// How much of each actor's output `log` remembers, in bytes.
    pub log_size: u64,
}

impl Default for PmmTunables {
    fn default() -> Self {
        Self {
            ram_bank_size: 64 << 20,
            max_blocks: 4096,
            window_base: 0x1000_0000_0000,
            window_size: 1 << 40,
            keep_on_halt: None,
        }
    }
}

impl Default for HrCtrlTunables {
    fn default() -> Self {
        Self {
            max_actors: 1024,
            max_groups: 256,
            max_badness: 5,
            interval_ms: 10_000,
            grace_ms: 2_000,
            answer_timeout_ms: 30_000,
            template_timeout_ms: 10_000,
        }
    }
}

impl Default for ConsoleTunables {
    fn default() -> Self {
        Self { log_size: 64 << 10 }
    }
}
