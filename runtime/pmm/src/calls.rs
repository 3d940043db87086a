//! Every call that changes what is on a bank's medium, one function each. Called by `store` alone,
//! which makes steps of them.
//!
//! On a disk a change is durable when its file, or for names the directory, was synced. A sync that
//! failed is never made good by a later one: the kernel may have dropped what it could not write, and
//! reports the failure once. So a failure is kept in mind (`failed`), and the bank takes no change
//! any more.
//!
//! It must never change the medium in any other place, so that the tests, which are told of each call
//! before it is made and may have it fail, see all that a crash could leave (`trials`).

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;

use rustix::fs::{
    AtFlags, FallocateFlags, Mode, OFlags, fallocate, fsync, linkat, mkdirat, openat, renameat,
    unlinkat,
};
use rustix::io::Errno;

use crate::mapping::Mapping;
use crate::store::Medium;

static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// A call that is about to be made. Names are seen from the bank's directory.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(not(test), expect(dead_code, reason = "the tests read it"))]
pub(crate) enum Call<'a> {
    /// A new file of no bytes.
    Create(&'a str),
    /// A new directory.
    MakeDirectory(&'a str),
    /// A file is provided up to a size in bytes, which is more than it has.
    Provide(&'a str, u64),
    /// A file is cut to a size in bytes.
    Cut(&'a str, u64),
    /// Bytes of a file change.
    Write(&'a str, u64, &'a [u8]),
    /// What was written to a file reaches the medium.
    Sync(&'a str),
    /// The names in a directory reach the medium.
    SyncNames(&'a str),
    /// A name goes.
    Remove(&'a str),
    /// A name changes.
    Rename(&'a str, &'a str),
    /// A file gets a second name.
    Link(&'a str, &'a str),
}

/// Who is told of each call before it is made, and may have it fail.
#[cfg(test)]
pub(crate) type Witness = Box<dyn FnMut(Call<'_>) -> io::Result<()> + Send>;

/// A bank's directory, as something to make calls in.
pub(crate) struct Calls {
    dir: OwnedFd,
    medium: Medium,
    failed: bool,
    #[cfg(test)]
    witness: Option<Witness>,
}

impl Calls {
    pub(crate) fn new(dir: OwnedFd, medium: Medium) -> Self {
        Self {
            dir,
            medium,
            failed: false,
            #[cfg(test)]
            witness: None,
        }
    }

    /// Goes on under the eyes of a witness, on what the test takes the directory for.
    #[cfg(test)]
    pub(crate) fn watch(&mut self, medium: Medium, witness: Witness) {
        (self.medium, self.witness) = (medium, Some(witness));
    }

    pub(crate) fn dir(&self) -> &OwnedFd {
        &self.dir
    }

    pub(crate) fn medium(&self) -> Medium {
        self.medium
    }

    /// Whether a sync has failed, so that nobody can say what the medium holds.
    pub(crate) fn failed(&self) -> bool {
        self.failed
    }

    #[cfg_attr(not(test), expect(clippy::unused_self, clippy::unnecessary_wraps))]
    fn tell(&mut self, call: Call<'_>) -> io::Result<()> {
        #[cfg(test)]
        if let Some(witness) = &mut self.witness {
            return witness(call);
        }
        let _ = call;
        Ok(())
    }

    /// Opens a file that is there, and no link.
    pub(crate) fn open(&self, name: &str, flags: OFlags) -> io::Result<File> {
        let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let mode = Mode::RUSR | Mode::WUSR;
        Ok(File::from(openat(&self.dir, name, flags, mode)?))
    }

    /// Makes an empty file, which must not be there.
    pub(crate) fn create(&mut self, name: &str) -> io::Result<File> {
        self.tell(Call::Create(name))?;
        self.open(name, OFlags::RDWR | OFlags::CREATE | OFlags::EXCL)
    }

    pub(crate) fn make_directory(&mut self, name: &str) -> io::Result<()> {
        self.tell(Call::MakeDirectory(name))?;
        Ok(mkdirat(&self.dir, name, Mode::RWXU)?)
    }

    /// Provides every page of a file from the size that it has to this one, so that none is missing at
    /// first touch (SPEC H20). File systems without fallocate(2) get zeros written.
    pub(crate) fn provide(
        &mut self,
        file: &File,
        name: &str,
        from: u64,
        to: u64,
    ) -> io::Result<()> {
        if to == from {
            return Ok(());
        }
        self.tell(Call::Provide(name, to))?;
        match fallocate(file, FallocateFlags::empty(), from, to - from) {
            Ok(()) => return Ok(()),
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => {}
            Err(error) => return Err(error.into()),
        }
        let mut at = from;
        while at < to {
            let count = (to - at).min(ZEROS.len() as u64);
            file.write_all_at(&ZEROS[..count as usize], at)?;
            at += count;
        }
        Ok(())
    }

    /// Takes what a file has behind its first `size` bytes.
    pub(crate) fn cut(&mut self, file: &File, name: &str, size: u64) -> io::Result<()> {
        self.tell(Call::Cut(name, size))?;
        file.set_len(size)
    }

    pub(crate) fn write(
        &mut self,
        file: &File,
        name: &str,
        at: u64,
        bytes: &[u8],
    ) -> io::Result<()> {
        self.tell(Call::Write(name, at, bytes))?;
        file.write_all_at(bytes, at)
    }

    /// Stores bytes into a file that is mapped.
    pub(crate) fn store(
        &mut self,
        mapping: &mut Mapping,
        name: &str,
        at: u64,
        bytes: &[u8],
    ) -> io::Result<()> {
        self.tell(Call::Write(name, at, bytes))?;
        mapping.put(at, bytes)
    }

    /// Stores an aligned word into a file that is mapped, in one instruction.
    pub(crate) fn store_word(
        &mut self,
        mapping: &mut Mapping,
        name: &str,
        at: u64,
        word: u64,
    ) -> io::Result<()> {
        self.tell(Call::Write(name, at, &word.to_le_bytes()))?;
        mapping.commit(at, word)
    }

    /// Makes a file durable: its bytes, its size, and that there is one. In memory there is nothing to
    /// do. Source: fsync(2).
    pub(crate) fn sync(&mut self, file: &File, name: &str) -> io::Result<()> {
        if self.medium == Medium::Ram {
            return Ok(());
        }
        let synced = self.tell(Call::Sync(name)).and_then(|()| file.sync_all());
        self.note(synced)
    }

    /// The same for a file that was made durable before and kept its size. Source: fdatasync(2).
    pub(crate) fn sync_bytes(&mut self, file: &File, name: &str) -> io::Result<()> {
        if self.medium == Medium::Ram {
            return Ok(());
        }
        let synced = self.tell(Call::Sync(name)).and_then(|()| file.sync_data());
        self.note(synced)
    }

    /// Makes the names in a directory durable.
    pub(crate) fn sync_names(&mut self, folder: &str) -> io::Result<()> {
        if self.medium == Medium::Ram {
            return Ok(());
        }
        let below = match folder {
            // No new fd: there may be none left.
            "." => None,
            _ => Some(self.open(folder, OFlags::RDONLY | OFlags::DIRECTORY)?),
        };
        let told = self.tell(Call::SyncNames(folder));
        let synced = told.and_then(|()| match below {
            Some(folder) => folder.sync_all(),
            None => Ok(fsync(&self.dir)?),
        });
        self.note(synced)
    }

    fn note(&mut self, synced: io::Result<()>) -> io::Result<()> {
        // A full file system says so here where it provides pages late; nothing that was there is lost then.
        let full = |error: &io::Error| {
            matches!(
                Errno::from_io_error(error),
                Some(Errno::NOSPC | Errno::DQUOT)
            )
        };
        self.failed |= synced.as_ref().is_err_and(|error| !full(error));
        synced
    }

    pub(crate) fn remove(&mut self, name: &str) -> io::Result<()> {
        self.tell(Call::Remove(name))?;
        Ok(unlinkat(&self.dir, name, AtFlags::empty())?)
    }

    pub(crate) fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        self.tell(Call::Rename(from, to))?;
        Ok(renameat(&self.dir, from, &self.dir, to)?)
    }

    pub(crate) fn link(&mut self, name: &str, to: &str) -> io::Result<()> {
        self.tell(Call::Link(name, to))?;
        Ok(linkat(&self.dir, name, &self.dir, to, AtFlags::empty())?)
    }
}
