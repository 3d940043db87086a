//! Who takes part, in the order of the table. Used by the part and by `crash.rs`; it knows names and how each is
//! opened, and nothing of what is measured.

use std::path::Path;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::ours::{Cells, Heaps, Logs, Maps};
use super::peers::redis::{self, Redis};
#[cfg(feature = "peers")]
use super::peers::{fjalls::Fjall, lmdb::Lmdb, redbs::Redb, sqlite::Sqlite};
use super::plain::Plain;
use super::subject::Subject;
use super::turns::BATCH;

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Who {
    /// The standard library's map: the limit.
    HashMap,
    /// Ours.
    Map,
    /// A map in our heap.
    Heap,
    /// Ours, one value.
    Cell,
    /// Ours, records.
    Log,
    /// A copy-on-write B-tree.
    Redb,
    /// The same, mapped.
    Lmdb,
    /// A log-structured tree.
    Fjall,
    /// SQL.
    Sqlite,
    /// A server.
    Redis,
}

impl Who {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::HashMap,
        Self::Map,
        Self::Heap,
        Self::Cell,
        Self::Log,
        Self::Redb,
        Self::Lmdb,
        Self::Fjall,
        Self::Sqlite,
        Self::Redis,
    ];

    /// Its name in the table.
    pub fn name(self) -> &'static str {
        match self {
            Self::HashMap => "limit: HashMap",
            Self::Map => "ours: Map",
            Self::Heap => "ours: Heap with a map",
            Self::Cell => "ours: Cell",
            Self::Log => "ours: Log (append)",
            Self::Redb => "redb",
            Self::Lmdb => "LMDB",
            Self::Fjall => "fjall",
            Self::Sqlite => "SQLite",
            Self::Redis => "Redis",
        }
    }

    /// Whether it is a peer that keeps data.
    pub fn is_peer(self) -> bool {
        self.is_library() || self == Self::Redis
    }

    fn is_library(self) -> bool {
        matches!(self, Self::Redb | Self::Lmdb | Self::Fjall | Self::Sqlite)
    }

    /// Whose row its own is compared with.
    pub fn limit(self) -> Option<Self> {
        match self {
            Self::HashMap => None,
            peer if peer.is_peer() => Some(Self::Map),
            _ => Some(Self::HashMap),
        }
    }

    /// Why it can't take part, if it can't.
    pub fn missing(self) -> Option<&'static str> {
        if self == Self::Redis && redis::program().is_none() {
            return Some("skipped: redis-server is not installed");
        }
        let built = cfg!(feature = "peers") || !self.is_library();
        (!built).then_some("not built: cargo run -p refrain-bench --features peers -- data")
    }

    /// That in `dir`, made if it is not there, with values of `N` bytes for so many keys and a batch more.
    ///
    /// # Errors
    /// Its own.
    pub fn open<const N: usize>(self, dir: &Path, entries: u64) -> Result<Box<dyn Subject>> {
        let capacity = usize::try_from(entries + BATCH)?;
        Ok(match self {
            Self::HashMap => Box::new(Plain::<N>::new(capacity)),
            Self::Map => Box::new(Maps::<N>::open(dir, capacity)?),
            Self::Heap => Box::new(Heaps::<N>::open(dir, capacity)?),
            Self::Cell => Box::new(Cells::<N>::open(dir)?),
            Self::Log => Box::new(Logs::<N>::open(dir, capacity)?),
            #[cfg(feature = "peers")]
            Self::Redb => Box::new(Redb::<N>::open(dir)?),
            #[cfg(feature = "peers")]
            Self::Lmdb => Box::new(Lmdb::<N>::open(dir)?),
            #[cfg(feature = "peers")]
            Self::Fjall => Box::new(Fjall::<N>::open(dir)?),
            #[cfg(feature = "peers")]
            Self::Sqlite => Box::new(Sqlite::<N>::open(dir)?),
            Self::Redis => Box::new(Redis::<N>::start(dir, false)?),
            #[cfg(not(feature = "peers"))]
            _ => anyhow::bail!("{self:?} is not built"),
        })
    }
}
