//! redb: each operation is a transaction with [`Durability::None`]. What follows a bulk load or a clean-up is
//! [`Durability::Immediate`], without which a file only grows and a crash loses everything.

use std::path::Path;

use anyhow::{Context, Result};
use redb::{Database, Durability, ReadableDatabase, ReadableTable, TableDefinition};

use super::super::subject::{Subject, check, stamp, value};

const TABLE: TableDefinition<u64, &[u8]> = TableDefinition::new("data");

/// A database.
pub struct Redb<const N: usize>(Database);

impl<const N: usize> Redb<N> {
    /// That in `dir`, made if it is not there.
    ///
    /// # Errors
    /// redb's.
    pub fn open(dir: &Path) -> Result<Self> {
        Ok(Self(Database::create(dir.join("redb"))?))
    }
}

impl<const N: usize> Subject for Redb<N> {
    fn load(&mut self, keys: &[u64]) -> Result<()> {
        let transaction = self.0.begin_write()?;
        let mut table = transaction.open_table(TABLE)?;
        for &key in keys {
            table.insert(key, value::<N>(key).as_slice())?;
        }
        drop(table);
        Ok(transaction.commit()?)
    }

    fn unload(&mut self, keys: &[u64]) -> Result<()> {
        let transaction = self.0.begin_write()?;
        let mut table = transaction.open_table(TABLE)?;
        for &key in keys {
            table.remove(key)?;
        }
        drop(table);
        Ok(transaction.commit()?)
    }

    fn put(&mut self, keys: &[u64]) -> Result<()> {
        for &key in keys {
            let mut transaction = self.0.begin_write()?;
            transaction.set_durability(Durability::None)?;
            let mut table = transaction.open_table(TABLE)?;
            table.insert(key, value::<N>(key).as_slice())?;
            drop(table);
            transaction.commit()?;
        }
        Ok(())
    }

    fn get(&mut self, keys: &[u64]) -> Result<()> {
        for &key in keys {
            let table = self.0.begin_read()?.open_table(TABLE)?;
            let found = table.get(key)?;
            check(key, found.as_ref().map(redb::AccessGuard::value))?;
        }
        Ok(())
    }

    fn update(&mut self, keys: &[u64]) -> Result<()> {
        for &key in keys {
            let mut transaction = self.0.begin_write()?;
            transaction.set_durability(Durability::None)?;
            let mut table = transaction.open_table(TABLE)?;
            let found = table.get(key)?.context("a key is not there")?;
            let mut new = [0; N];
            new.copy_from_slice(found.value());
            drop(found);
            stamp(&mut new, key);
            table.insert(key, new.as_slice())?;
            drop(table);
            transaction.commit()?;
        }
        Ok(())
    }
}
