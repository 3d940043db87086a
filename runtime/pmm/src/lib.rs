//! The Persistent Memory Manager's bank (SPEC H15 to H20): named blocks that outlive every actor
//! and every controller, and the registrations that a controller starts again from.
//!
//! Called by the controller only (boot actor PMM). An actor never sees this crate: it is handed
//! the fd and the address of a block that it may use, and nothing else.
//!
//! It must never: map a block, trust what an actor wrote into one, destroy what it cannot read,
//! or leave the bank in a state that is neither the one before an operation nor the one after.
//!
//! ```text
//! open       finding or making a bank · directory: whose it is, and the lock
//! recover    reading it back and finishing what was begun: the same code after every crash
//! bank       blocks: allocate, free, grant · intent: changes that span records
//! registry   registrations and aids · inventory: what there is
//! catalogue  records in memory and in their slots: how a change is committed · slot: reading them
//! layout     the bytes (docs/bank-format.md) · record: values ↔ bytes
//! store      every step on the medium · calls: every call that changes it · mapping: the mapped
//!            catalogue (the only unsafe)
//! access     who may use a block · space: where a block gets its address
//! survey     a bank looked at · holder: who has it · repair: mending one that is damaged
//! examine    reading on where there is damage · consistency: records that are at odds
//! salvage    the sizes of a bank without its header
//! ```
//!
//! # Example
//! ```
//! use refrain_abi::{BlockName, DeletionKey, Gid, tunables::Tunables};
//! use refrain_pmm::{Bank, BankOptions, Opened, Owner};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let root = tempfile::tempdir()?;
//! let options = BankOptions::new(root.path().join("site"), &Tunables::default());
//! let (mut bank, opened) = Bank::open(&options)?;
//! assert_eq!(opened, Opened::Created);
//!
//! let owner = Owner::Group(Gid(1));
//! let block = bank.allocate(BlockName::new("counter")?, 8, DeletionKey::Group, owner)?;
//! assert!(!block.existed);
//! assert_eq!(bank.terminate_group(Gid(1))?, 1);
//! bank.discard()?;
//! # Ok(())
//! # }
//! ```

mod access;
mod bank;
mod calls;
mod catalogue;
mod consistency;
mod directory;
mod error;
mod examine;
mod holder;
mod intent;
mod inventory;
mod layout;
mod mapping;
mod open;
mod record;
mod recover;
mod registry;
mod repair;
mod salvage;
mod slot;
mod space;
mod store;
mod survey;

#[cfg(test)]
mod trials;

pub use access::Owner;
pub use bank::Bank;
pub use error::{CheckError, FullError, OpenError, PmmError};
pub use examine::Damage;
pub use inventory::{Block, BlockInfo, Usage};
pub use open::{BankOptions, Opened};
pub use registry::{LifeRecord, MAX_SPEC, Registration, Running};
pub use repair::Repair;
pub use store::Medium;
pub use survey::{LastOpening, Sizes, Survey, SurveyedActor, SurveyedBlock};
