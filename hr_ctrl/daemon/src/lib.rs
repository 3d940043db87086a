//! nucleus and hr_ctrl: the processes that keep a site, and the boot actors HR_CTRL, PMM and
//! C_INIT inside the second (DESIGN sections 1, 4, 5).
//!
//! `hr_ctrl_core` decides, this crate carries out. It knows no command: the interpreter is given
//! to it as a factory (see [`interpreter`]), so that an embedding program can bring its own or
//! none.
#![forbid(unsafe_code)]

pub mod boot;
pub mod controller;
pub mod embed;
pub mod events;
pub mod failure;
#[doc(hidden)]
pub mod fuzzing;
pub mod interpreter;
pub mod launch;
pub mod limits;
pub mod nucleus;
pub mod output;
pub mod paths;
pub mod site;
pub mod supervise;

pub use refrain_abi::tunables::Tunables;
pub use refrain_abi::{ActorName, Aid, Capability, Gid, LifeNo};

/// Restart policy, as a program or a configuration says it (SPEC H33).
pub mod policy {
    pub use refrain_abi::{PastLimit, PolicyParts};
}

mod boot_actors;
mod c_init;
mod checks;
mod containment;
mod engine;
mod hr_ctrl;
mod keeper;
mod ledger;
mod nucleus_link;
mod pmm;
mod pulse;
mod rights;
mod room;
mod session;
mod watch;
