//! `refrain`: what an actor links to use more of Refrain than being restarted.
//!
//! Any program can be run as a restartable actor as it is (SPEC H1). One that links this crate
//! can also keep blocks of persistent memory across its lives, run further members of its
//! restart group, and end cleanly:
//!
//! ```no_run
//! use std::sync::atomic::Ordering::SeqCst;
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let block = refrain::pmm_allocate("visits", 4096, refrain::HR_GROUP_KEY)?;
//!     let visits = block.atomic_u64(0)?;
//!     if visits.fetch_add(1, SeqCst) < 3 {
//!         panic!("an abnormal end: the next life finds the block as it is now");
//!     }
//!     println!("this was life {}", refrain::life()?);
//!     refrain::exit_clean(0)
//! }
//! ```
//!
//! What is more than a word goes into a structure that a crash leaves old or new, never in between: see
//! [`named`].
//!
//! The first call of anything here attaches to the site that runs the actor; [`attach`] does it
//! by itself. A program that was started by hand gets [`AttachError::NotAnActor`]. Requests of
//! a life are carried out one at a time, in turn; all calls may be made from any thread, and only
//! [`Actor::hr_exit_hdl`] from a signal handler. A child that the life forks is no actor.
//!
//! Called by actors only. This crate decides nothing and holds no `unsafe`.
#![forbid(unsafe_code)]

mod attach;
mod block;
pub mod data;
mod exec;
mod group;
mod image;
mod link;
mod pmm;
mod progress;
mod run;

#[cfg(test)]
mod tests;

pub use attach::{Actor, AttachError, attach};
pub use block::{Block, PlaceError};
pub use data::{
    ByteLog, ByteLogReader, Cell, CellReader, Log, LogReader, Map, Plain, Versions, named,
};
pub use exec::{Exec, ExecError, StdioFd, hrfexec};
pub use group::{
    HrError, capability_of, exit_clean, hr_exit_hdl, hr_get_actor_group, hr_kill_group, life,
    sys_shutdown,
};
pub use image::{Image, ImageError, image_here};
pub use link::RequestError;
pub use pmm::{HR_GROUP_KEY, PmmError, pmm_allocate, pmm_free, pmm_free_all, pmm_grant};

pub use progress::{progress, promise_progress};
pub use run::run;

pub use refrain_abi::request::ErrorCode;
pub use refrain_abi::{Aid, Capability, DeletionKey, Gid, LifeNo, NameError};
