//! Data that is never torn: structures in blocks of persistent memory that are right after a crash at any
//! instruction (SPEC H32).
//!
//! [`Cell`] holds one value, [`Map`] values by key, [`Log`] and [`ByteLog`] the
//! newest records of a sequence; [`heap`] has any Rust values, which the rest of this page is not about. Each
//! structure is plain data ([`Plain`])
//! in blocks that a [`Blocks`] hands out; crate `refrain` has one that asks PMM. Each change is one store
//! that counts (the argument is in `order.rs`), and each block says what it holds ([`Schema`]).
//!
//! Called by actors, through crate `refrain`. Nothing here knows of a site or a controller.
//!

pub mod blocks;
mod cell;
mod cell_reader;
mod error;
pub mod header;
pub mod heap;
mod log;
mod map;
pub mod memory;
mod order;
pub mod region;
pub mod schema;
#[doc(hidden)]
pub mod seqlock;
mod versions;

pub use blocks::Blocks;
pub use cell::Cell;
pub use cell_reader::CellReader;
pub use error::{Damage, FollowError, OpenError, ReadError};
pub use log::{ByteLog, ByteLogReader, Log, LogReader, TooLong};
pub use map::{Map, MapError};
pub use region::{Memory, Plain, Region};
pub use schema::{Kind, Schema};
pub use versions::Versions;
