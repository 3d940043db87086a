//! A bank's calls, kept as they are made on a real directory. Used by `world` for operations and by
//! `bench` for recoveries.
//!
//! It must never change a call. It may have a sync fail, which is then not made.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;

use super::medium::{Image, Kept};
use crate::calls::Call;
use crate::open::open_with;
use crate::repair::{Repair, plan_with};
use crate::store::{DirStore, Store};
use crate::{Bank, BankOptions, CheckError, Medium, OpenError, Opened};

struct Log {
    image: Image,
    calls: Vec<Kept>,
    /// How many syncs go well before one fails; one only.
    good_syncs: Option<u32>,
}

/// Keeps the calls of one bank after the other, on one directory.
#[derive(Clone)]
pub(super) struct Recorder {
    log: Arc<Mutex<Log>>,
    /// What the directory is taken for.
    pub medium: Medium,
}

impl Recorder {
    /// Of a directory that holds this.
    pub(super) fn new(image: Image, medium: Medium) -> Self {
        let log = Log {
            image,
            calls: Vec::new(),
            good_syncs: None,
        };
        Self {
            log: Arc::new(Mutex::new(log)),
            medium,
        }
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn watch(&self, mut store: DirStore) -> Box<dyn Store> {
        let keeper = self.clone();
        let witness = move |call: Call<'_>| keeper.keep(call);
        store.watch(self.medium, Box::new(witness));
        Box::new(store)
    }

    fn keep(&self, call: Call<'_>) -> io::Result<()> {
        let mut log = self.log();
        let mut kept = Kept::from(call);
        if let Kept::Sync(name) | Kept::SyncNames(name) = &kept
            && let Some(left) = log.good_syncs
        {
            log.good_syncs = left.checked_sub(1);
            if left == 0 {
                kept = Kept::SyncFails(name.clone());
            }
        }
        log.image.call(&kept);
        let failed = matches!(kept, Kept::SyncFails(_));
        log.calls.push(kept);
        if failed {
            return Err(Errno::IO.into());
        }
        Ok(())
    }

    pub(super) fn open(&self, options: &BankOptions) -> Result<(Bank, Opened), OpenError> {
        open_with(options, |store| self.watch(store))
    }

    pub(super) fn plan_repair(&self, dir: &Path) -> Result<Repair, CheckError> {
        plan_with(dir, |store| self.watch(store))
    }

    /// Notes what somebody else did to a file.
    pub(super) fn tell(&self, call: &Kept) {
        self.log().image.call(call);
    }

    /// Forgets the image: the directory holds this now.
    pub(super) fn set(&self, image: Image) {
        self.log().image = image;
    }

    pub(super) fn image(&self) -> Image {
        self.log().image.clone()
    }

    /// The calls since they were taken last.
    pub(super) fn take(&self) -> Vec<Kept> {
        std::mem::take(&mut self.log().calls)
    }

    /// Has the sync fail that comes after so many.
    pub(super) fn fail_sync(&self, after: u32) {
        self.log().good_syncs = Some(after);
    }
}
