//! The words of a Refrain site: identities, the control page, the frames that cross a socket,
//! and the tunables.
//!
//! Every other crate speaks in these words. This one does no I/O, holds no `unsafe` and
//! allocates only behind the feature `std`; the preloaded shim is built without that feature.
#![cfg_attr(not(feature = "std"), no_std)]
#![forbid(unsafe_code)]

pub mod control;
pub mod error;
pub mod frame;
pub mod id;
mod reply;
pub mod request;
pub mod template;

#[cfg(feature = "std")]
pub mod hang;
#[cfg(feature = "std")]
pub mod limits;
#[cfg(feature = "std")]
pub mod policy;
#[cfg(feature = "std")]
pub mod session;
#[cfg(feature = "std")]
pub mod tunables;

#[cfg(feature = "std")]
pub use policy::{PastLimit, PolicyParts};

pub use id::{ActorName, Aid, BlockName, Capability, DeletionKey, Gid, LifeNo, NameError, Serial};
