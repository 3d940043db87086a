//! One row of `aps --json` (DESIGN section 7), as a test reads it. The fields that the contract
//! names must be there; others may be.

use serde::Deserialize;

/// An actor as `aps --json` shows it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Row {
    /// The name.
    pub name: String,
    /// The group; `None` for an ordinary actor.
    pub gid: Option<u32>,
    /// The aid of the life that runs or ran last.
    pub aid: Option<u32>,
    /// Its capability.
    pub capability: Option<String>,
    /// The pid of the life that runs.
    pub pid: Option<u32>,
    /// "direct", "indirect" or "ordinary".
    pub kind: String,
    /// "user" or "supervisor".
    pub mode: String,
    /// "running", "clean", "failed", "waiting" ...
    pub state: String,
    /// The number of the life.
    pub life: Option<u32>,
    /// How many lives began by a restart.
    pub restarts: u32,
    /// "standby", "template" or "exec".
    pub start: Option<String>,
    /// "cold" or "warm".
    #[serde(default)]
    pub image: String,
    /// How the last life ended.
    pub last_end: Option<String>,
    /// How that was noticed: "fault" or "kernel".
    #[serde(default)]
    pub notice: Option<String>,
    /// Whether the life has a keeper.
    #[serde(default)]
    pub keeper: bool,
}

impl Row {
    /// The pid of a life that runs.
    ///
    /// # Panics
    /// When none runs.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
            .unwrap_or_else(|| panic!("no life of {} runs: {self:?}", self.name))
    }

    /// The aid of the life that runs or ran last.
    ///
    /// # Panics
    /// When there was none.
    #[must_use]
    pub fn aid(&self) -> u32 {
        self.aid
            .unwrap_or_else(|| panic!("{} has no aid: {self:?}", self.name))
    }

    /// Whether life number `life` runs now.
    #[must_use]
    pub fn runs(&self, life: u32) -> bool {
        self.state == "running" && self.life == Some(life) && self.pid.is_some()
    }
}
