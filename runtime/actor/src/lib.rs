//! `refrain`: what an actor links to use more of Refrain than being restarted.
//!
//! Any program can be run as a restartable actor as it is (SPEC H1). One that links this crate
//! can also keep blocks of persistent memory across its lives, run further members of its
//! restart group, and end cleanly.
//!
//! # A restartable program in ten lines
//!
//! [`run`] makes of a function a life: `Ok` is a clean end, `Err` or a panic a failure, after which the group
//! begins again. What is to survive that lies in a block.
//!
//! ```no_run
//! use std::sync::atomic::Ordering::SeqCst;
//!
//! fn main() -> std::process::ExitCode {
//!     refrain::run(|life| {
//!         let block = life.pmm_allocate("visits", 4096, refrain::HR_GROUP_KEY)?;
//!         let visits = block.atomic_u64(0)?.fetch_add(1, SeqCst) + 1;
//!         assert!(visits > 3, "visit {visits} fails: the next life finds the block as it is now");
//!         println!("visit {visits}, in life {}", life.life());
//!         Ok(())
//!     })
//! }
//! ```
//!
//! What is more than a word goes into a structure that a crash leaves old or new, never in between: see
//! [`named`].
//!
//! `c_init --once` with the line `arun -g 1 PROGRAM` runs it to its end: three failures, one clean end.
//!
//! # Step by step
//!
//! The same without [`run`]: everything is a function of this crate, too. Nothing has to be done first.
//!
//! ```no_run
//! # use std::sync::atomic::Ordering::SeqCst;
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // 1. Persistent memory: the first life gets it zeroed, every later one as it was left.
//! let block = refrain::pmm_allocate("jobs", 64 << 10, refrain::HR_GROUP_KEY)?;
//! let done = block.atomic_u64(0)?;
//! // 2. Whether this is a restart shows there only, or in the number of the life.
//! if refrain::life()?.0 > 0 {
//!     println!("{} jobs were done before", done.load(SeqCst));
//! }
//! // 3. Another member of the group, restarted when this life runs it again.
//! refrain::Exec::new("./child").arg("--fast").spawn()?;
//! done.fetch_add(1, SeqCst);
//! // 4. A clean end. Every other one, an `exit` too, is a failure.
//! refrain::exit_clean(0)
//! # }
//! ```
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
    ByteLog, ByteLogReader, Cell, CellReader, Log, LogReader, Map, Plain, Versions, heap::Heap,
    named,
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
