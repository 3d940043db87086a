//! LMDB through heed: a writable map that is not synced, each operation a transaction.
#![allow(unsafe_code)]

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use heed::byteorder::BigEndian;
use heed::types::{Bytes, U64};
use heed::{CommitOrAbort, Database, Env, EnvFlags, EnvOpenOptions};

use super::super::subject::{Subject, check, stamp, value};

/// How far the map may grow, in bytes; the file has holes.
const MAP: usize = 8 << 30;

/// An environment with one database.
pub struct Lmdb<const N: usize> {
    env: Env,
    data: Database<'static, U64<BigEndian>, Bytes>,
}

impl<const N: usize> Lmdb<N> {
    /// That in `dir`, made if it is not there.
    ///
    /// # Errors
    /// LMDB's.
    pub fn open(dir: &Path) -> Result<Self> {
        let dir = dir.join("lmdb");
        fs::create_dir_all(&dir)?;
        let mut options = EnvOpenOptions::new();
        options.map_size(MAP);
        // SAFETY: a crash of the machine may tear the file then; it is on tmpfs and does not outlive one.
        unsafe { options.flags(EnvFlags::NO_SYNC | EnvFlags::WRITE_MAP) };
        // SAFETY: nobody else writes to the file, and it is opened once in a process.
        let env = unsafe { options.open(&dir)? };
        let transaction = env.write_txn()?;
        let created = env.create_databases_and_commit(transaction, |opener, transaction| {
            let data = opener.create_database(transaction, None)?;
            heed::Result::Ok(CommitOrAbort::<_, ()>::Commit(data))
        })?;
        let data = created.unwrap_commit();
        Ok(Self { env, data })
    }
}

impl<const N: usize> Subject for Lmdb<N> {
    fn load(&mut self, keys: &[u64]) -> Result<()> {
        let mut transaction = self.env.write_txn()?;
        for &key in keys {
            self.data.put(&mut transaction, &key, &value::<N>(key))?;
        }
        Ok(transaction.commit()?)
    }

    fn unload(&mut self, keys: &[u64]) -> Result<()> {
        let mut transaction = self.env.write_txn()?;
        for key in keys {
            self.data.delete(&mut transaction, key)?;
        }
        Ok(transaction.commit()?)
    }

    fn put(&mut self, keys: &[u64]) -> Result<()> {
        for &key in keys {
            let mut transaction = self.env.write_txn()?;
            self.data.put(&mut transaction, &key, &value::<N>(key))?;
            transaction.commit()?;
        }
        Ok(())
    }

    fn get(&mut self, keys: &[u64]) -> Result<()> {
        for &key in keys {
            let transaction = self.env.read_txn()?;
            check(key, self.data.get(&transaction, &key)?)?;
        }
        Ok(())
    }

    fn update(&mut self, keys: &[u64]) -> Result<()> {
        for &key in keys {
            let mut transaction = self.env.write_txn()?;
            let found = self.data.get(&transaction, &key)?;
            let mut new = [0; N];
            new.copy_from_slice(found.context("a key is not there")?);
            stamp(&mut new, key);
            self.data.put(&mut transaction, &key, &new)?;
            transaction.commit()?;
        }
        Ok(())
    }
}
