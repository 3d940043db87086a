//! Changes that span records: written down as an intent, carried out record by record, crossed off.
//! Called by `bank` and `registry` for a live request, and by `recover` for one that an earlier
//! controller did not finish, so that both do the same.
//!
//! It must never create anything: an intent only frees, and freeing what is free already is
//! nothing, which is what makes it safe to carry out again.

use std::io;

use refrain_abi::DeletionKey;

use crate::access::{Owner, may_use};
use crate::bank::Bank;
use crate::error::PmmError;
use crate::record::{BlockRecord, Intent};
use crate::store::{CATALOGUE, CATALOGUE_GONE, CATALOGUE_NEW, Numbered, Store};

impl Bank {
    /// Removes the bank, and its directory if the bank made it. A crash half way leaves a
    /// directory in which the next opening goes on removing.
    ///
    /// # Errors
    /// The first file that could not be removed.
    pub fn discard(mut self) -> io::Result<()> {
        self.store.rename(CATALOGUE, CATALOGUE_GONE)?;
        remove_files(self.store.as_mut())?;
        if !self.catalogue.geometry().made_directory {
            return Ok(());
        }
        match std::fs::remove_dir(&self.dir) {
            // Somebody put a file of his own there: it is not the bank's to remove.
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(()),
            result => result,
        }
    }

    /// Writes an intent down, carries it out and crosses it off.
    pub(crate) fn intend(&mut self, intent: Intent) -> Result<u32, PmmError> {
        self.check_writable()?;
        if !self.concerns_any(&intent) {
            return Ok(0);
        }
        self.write("record an intent".into(), |catalogue, store| {
            catalogue.set_intent(store, Some(intent))
        })?;
        self.carry_out(intent)
    }

    /// Carries out an intent that is written down, as often as need be, and crosses it off.
    pub(crate) fn carry_out(&mut self, intent: Intent) -> Result<u32, PmmError> {
        let doomed: Vec<u32> = self.doomed(&intent).collect();
        for index in &doomed {
            self.release(*index)?;
        }
        if intent == Intent::ClearRegistrations {
            self.drop_registrations()?;
        }
        self.write("cross off an intent".into(), |catalogue, store| {
            catalogue.set_intent(store, None)
        })?;
        Ok(doomed.len() as u32)
    }

    fn concerns_any(&self, intent: &Intent) -> bool {
        match intent {
            Intent::ClearRegistrations => !self.actors.is_empty(),
            _ => self.doomed(intent).next().is_some(),
        }
    }

    fn doomed(&self, intent: &Intent) -> impl Iterator<Item = u32> {
        let intent = *intent;
        self.catalogue
            .blocks()
            .iter()
            .filter(move |(_, block)| frees(&intent, block))
            .map(|(index, _)| index)
    }
}

/// Whether carrying out an intent frees this block.
pub(crate) fn frees(intent: &Intent, block: &BlockRecord) -> bool {
    match *intent {
        Intent::FreeKey { key, by } => {
            block.key == DeletionKey::Opaque(key) && may_use(by, block.owner, &block.granted)
        }
        Intent::EndGroup { gid } => {
            block.key == DeletionKey::Group && block.owner == Owner::Group(gid)
        }
        Intent::ClearRegistrations => false,
    }
}

/// Removes every file of a bank whose catalogue was put aside, the catalogue last.
pub(crate) fn remove_files(store: &mut dyn Store) -> io::Result<()> {
    let names = store.list()?;
    for name in names
        .iter()
        .filter(|name| *name == CATALOGUE_NEW || Numbered::parse(name).is_some())
    {
        store.remove(name)?;
    }
    // The last name tells that the others are to go, so it must not go before them.
    store.settle()?;
    store.remove(CATALOGUE_GONE)
}
