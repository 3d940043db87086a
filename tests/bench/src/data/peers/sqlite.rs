//! SQLite, mapped into memory: a write-ahead log that is not synced, each statement a transaction. Statements are
//! prepared once for many keys. An update is a select and an update of the whole value: there is one writer.

use std::path::Path;

use anyhow::{Result, ensure};
use rusqlite::{Connection, Row, Statement};

use super::super::subject::{Subject, check, stamp, value};

const PRAGMAS: &str =
    "PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF; PRAGMA mmap_size = 0x7fff0000;
    CREATE TABLE IF NOT EXISTS data (key INTEGER PRIMARY KEY, value BLOB NOT NULL)";
const PUT: &str = "INSERT OR REPLACE INTO data VALUES (?1, ?2)";
const GET: &str = "SELECT value FROM data WHERE key = ?1";
const UPDATE: &str = "UPDATE data SET value = ?2 WHERE key = ?1";
const REMOVE: &str = "DELETE FROM data WHERE key = ?1";

/// A connection.
pub struct Sqlite<const N: usize>(Connection);

/// Numbers there have a sign.
fn number(key: u64) -> Result<i64> {
    Ok(i64::try_from(key)?)
}

/// Gives the value of a key to `reader`.
fn find<T>(statement: &mut Statement<'_>, key: u64, reader: impl Fn(&[u8]) -> T) -> Result<T> {
    let blob = |row: &Row<'_>| Ok(reader(row.get_ref(0)?.as_blob()?));
    Ok(statement.query_row([number(key)?], blob)?)
}

impl<const N: usize> Sqlite<N> {
    /// That in `dir`, made if it is not there.
    ///
    /// # Errors
    /// SQLite's.
    pub fn open(dir: &Path) -> Result<Self> {
        let connection = Connection::open(dir.join("sqlite"))?;
        connection.execute_batch(PRAGMAS)?;
        Ok(Self(connection))
    }
}

impl<const N: usize> Subject for Sqlite<N> {
    fn load(&mut self, keys: &[u64]) -> Result<()> {
        let transaction = self.0.transaction()?;
        let mut put = transaction.prepare(PUT)?;
        for &key in keys {
            put.execute((number(key)?, value::<N>(key).as_slice()))?;
        }
        drop(put);
        Ok(transaction.commit()?)
    }

    fn unload(&mut self, keys: &[u64]) -> Result<()> {
        let transaction = self.0.transaction()?;
        let mut remove = transaction.prepare(REMOVE)?;
        for &key in keys {
            remove.execute([number(key)?])?;
        }
        drop(remove);
        Ok(transaction.commit()?)
    }

    fn put(&mut self, keys: &[u64]) -> Result<()> {
        let mut put = self.0.prepare(PUT)?;
        for &key in keys {
            put.execute((number(key)?, value::<N>(key).as_slice()))?;
        }
        Ok(())
    }

    fn get(&mut self, keys: &[u64]) -> Result<()> {
        let mut get = self.0.prepare(GET)?;
        for &key in keys {
            find(&mut get, key, |value| check(key, Some(value)))??;
        }
        Ok(())
    }

    fn update(&mut self, keys: &[u64]) -> Result<()> {
        let mut get = self.0.prepare(GET)?;
        let mut update = self.0.prepare(UPDATE)?;
        for &key in keys {
            let mut new = find(&mut get, key, |value| {
                let mut new = [0; N];
                new.copy_from_slice(value);
                new
            })?;
            stamp(&mut new, key);
            let rows = update.execute((number(key)?, new.as_slice()))?;
            ensure!(rows == 1, "a key is not there");
        }
        Ok(())
    }
}
