//! fjall: each write goes to its journal and is handed to the kernel, but not synced. An update is a get and an
//! insert without a transaction: there is one writer.

use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};

use super::super::subject::{Subject, check, stamp, value};
use crate::interrupt;

/// Before its compactions are given up.
const WATCHDOG: Duration = Duration::from_secs(120);

/// A database with one keyspace.
pub struct Fjall<const N: usize> {
    database: Database,
    data: Keyspace,
}

impl<const N: usize> Fjall<N> {
    /// That in `dir`, made if it is not there.
    ///
    /// # Errors
    /// fjall's.
    pub fn open(dir: &Path) -> Result<Self> {
        let database = Database::builder(dir.join("fjall")).open()?;
        let data = database.keyspace("data", KeyspaceCreateOptions::default)?;
        Ok(Self { database, data })
    }
}

impl<const N: usize> Subject for Fjall<N> {
    fn load(&mut self, keys: &[u64]) -> Result<()> {
        let mut batch = self.database.batch();
        for &key in keys {
            batch.insert(&self.data, key.to_be_bytes(), value::<N>(key).as_slice());
        }
        Ok(batch.commit()?)
    }

    fn unload(&mut self, keys: &[u64]) -> Result<()> {
        let mut batch = self.database.batch();
        for key in keys {
            batch.remove(&self.data, key.to_be_bytes());
        }
        Ok(batch.commit()?)
    }

    /// Until nothing is being written out or compacted.
    fn settle(&mut self) -> Result<()> {
        self.database.persist(PersistMode::SyncAll)?;
        let begun = Instant::now();
        while self.database.outstanding_flushes() + self.database.active_compactions() > 0 {
            interrupt::check()?;
            ensure!(begun.elapsed() < WATCHDOG, "fjall compacts without an end");
            sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    fn put(&mut self, keys: &[u64]) -> Result<()> {
        for &key in keys {
            let value = value::<N>(key);
            self.data.insert(key.to_be_bytes(), value.as_slice())?;
        }
        Ok(())
    }

    fn get(&mut self, keys: &[u64]) -> Result<()> {
        for &key in keys {
            check(key, self.data.get(key.to_be_bytes())?.as_deref())?;
        }
        Ok(())
    }

    fn update(&mut self, keys: &[u64]) -> Result<()> {
        for &key in keys {
            let found = self.data.get(key.to_be_bytes())?;
            let mut new = [0; N];
            new.copy_from_slice(&found.context("a key is not there")?);
            stamp(&mut new, key);
            self.data.insert(key.to_be_bytes(), new.as_slice())?;
        }
        Ok(())
    }
}
