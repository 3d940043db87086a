//! Every step that the bank takes on its medium, one method each, so that a test can stop it
//! behind any of them (`trials`). Called by `open`, `recover`, `catalogue` and `bank`.
//!
//! What a method has done is durable when it returns: on a disk that means fdatasync(2) or
//! fsync(2), on tmpfs there is nothing to wait for, as its memory outlives every process and no
//! reboot. The one exception is [`Store::remove`]: a file that comes back after a power failure is
//! without a record, and recovery removes it.
//!
//! It must never follow a symbolic link, leave the directory, or overwrite a file.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;

use rustix::fs::{AtFlags, Dir, FileType, FlockOperation, OFlags, SeekFrom, flock, seek, statat};
use rustix::io::Errno;

use crate::calls::Calls;
use crate::mapping::Mapping;

/// The catalogue's file.
pub(crate) const CATALOGUE: &str = "catalogue";
/// A catalogue that is being made, before it takes its name.
pub(crate) const CATALOGUE_NEW: &str = "catalogue.new";
/// The catalogue of a bank that is being removed.
pub(crate) const CATALOGUE_GONE: &str = "catalogue.gone";

/// What the directories begin with that `repair` puts things into, and file systems of their own
/// accord; they are no part of a bank and no obstacle to one.
pub(crate) const LOST_AND_FOUND: &str = "lost+found";

const TMPFS_MAGIC: u64 = 0x0102_1994;
const RAMFS_MAGIC: u64 = 0x8584_58f6;
/// What a disk's catalogue is written anew in, in bytes.
const PAGE: usize = 4096;

/// What a bank's directory lies on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Medium {
    /// tmpfs: outlives every process, not a reboot.
    Ram,
    /// Any other file system: outlives a reboot.
    Disk,
}

/// A file as [`Store::examine`] finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileInfo {
    /// Whether it is a regular file: no directory, link or pipe.
    pub regular: bool,
    /// Its size in bytes.
    pub size: u64,
    /// What is provided of it, in bytes.
    pub provided: u64,
}

/// The steps.
pub(crate) trait Store: Send {
    fn medium(&self) -> Medium;
    /// Whether a sync has failed, so that nobody can say what the medium holds.
    fn failed(&self) -> bool;
    /// The names in the directory.
    fn list(&self) -> io::Result<Vec<String>>;
    /// What kind of file a name has, not following a link; `None`: there is no such name.
    fn examine(&self, name: &str) -> io::Result<Option<FileInfo>>;
    /// A file's content, of which at most `limit` bytes are read.
    fn read(&self, name: &str, limit: u64) -> io::Result<Vec<u8>>;
    /// A file, open for reading and writing, and its size in bytes.
    fn open(&self, name: &str) -> io::Result<(OwnedFd, u64)>;
    /// A new file of `size` bytes, all of them provided and zero but for `parts`. On failure there
    /// is no such file.
    fn create(&mut self, name: &str, size: u64, parts: &[(u64, &[u8])]) -> io::Result<OwnedFd>;
    /// Removes a file. Atomic.
    fn remove(&mut self, name: &str) -> io::Result<()>;
    /// Sees to it that the names which were removed stay so.
    fn settle(&mut self) -> io::Result<()>;
    /// Makes durable what an opening has read: the catalogue's bytes, and the names in the directory.
    fn secure(&mut self, catalogue: &[u8]) -> io::Result<()>;
    /// Gives a file another name, in place of the file that had it. Atomic.
    fn rename(&mut self, from: &str, to: &str) -> io::Result<()>;
    /// Makes a directory. Atomic.
    fn make_directory(&mut self, name: &str) -> io::Result<()>;
    /// Gives a file a second name, in a directory below it may be; `false` where the file or the
    /// file system has no second names. Atomic.
    fn link(&mut self, name: &str, to: &str) -> io::Result<bool>;
    /// Writes what a file has behind its first `size` bytes into a new file, holes left out.
    fn keep_tail(&mut self, name: &str, size: u64, to: &str) -> io::Result<()>;
    /// Gives a file this size, all of it provided; what is new is zero.
    fn set_size(&mut self, name: &str, size: u64) -> io::Result<()>;
    /// Makes the file [`CATALOGUE`], of `size` bytes, the one that `put` and `commit` change.
    fn attach(&mut self, size: u64) -> io::Result<()>;
    /// Changes bytes of the catalogue; a crash may leave any part of them changed.
    fn put(&mut self, at: u64, bytes: &[u8]) -> io::Result<()>;
    /// Changes an aligned word of the catalogue. Atomic, and behind everything put before.
    fn commit(&mut self, at: u64, word: u64) -> io::Result<()>;
}

enum Attached {
    None,
    Mapped(Mapping),
    File(File),
}

/// The real medium: a directory, which this value keeps open (and, by `open`, locked).
pub(crate) struct DirStore {
    calls: Calls,
    catalogue: Attached,
}

impl DirStore {
    /// Takes an open directory.
    ///
    /// # Errors
    /// What fstatfs(2) reports.
    pub(crate) fn new(dir: OwnedFd) -> io::Result<Self> {
        let kind = rustix::fs::fstatfs(&dir)?.f_type as u64 & 0xffff_ffff;
        let medium = if matches!(kind, TMPFS_MAGIC | RAMFS_MAGIC) {
            Medium::Ram
        } else {
            Medium::Disk
        };
        Ok(Self {
            calls: Calls::new(dir, medium),
            catalogue: Attached::None,
        })
    }

    /// Goes on under the eyes of a witness, on what the test takes the directory for.
    #[cfg(test)]
    pub(crate) fn watch(&mut self, medium: Medium, witness: crate::calls::Witness) {
        self.calls.watch(medium, witness);
    }

    fn fill(
        &mut self,
        file: &File,
        name: &str,
        size: u64,
        parts: &[(u64, &[u8])],
    ) -> io::Result<()> {
        self.calls.provide(file, name, 0, size)?;
        for (at, bytes) in parts {
            self.calls.write(file, name, *at, bytes)?;
        }
        self.calls.sync(file, name)?;
        self.calls.sync_names(folder_of(name))
    }
}

impl Drop for DirStore {
    fn drop(&mut self) {
        // Closing would leave the lock to a child that was forked and has not come to its exec yet.
        let _ = flock(self.calls.dir(), FlockOperation::Unlock);
    }
}

/// The directory that a name lies in, seen from the bank's.
fn folder_of(name: &str) -> &str {
    name.rsplit_once('/').map_or(".", |(folder, _)| folder)
}

/// Copies the data of a file from an offset on to the beginning of another, and no hole.
fn copy_data(
    calls: &mut Calls,
    from: &File,
    start: u64,
    (into, name): (&File, &str),
) -> io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    let mut at = start;
    loop {
        at = match seek(from, SeekFrom::Data(at)) {
            Ok(data) => data,
            // Nothing but a hole up to the end.
            Err(Errno::NXIO) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let end = seek(from, SeekFrom::Hole(at))?;
        while at < end {
            let count = (end - at).min(buffer.len() as u64) as usize;
            let read = from.read_at(&mut buffer[..count], at)?;
            if read == 0 {
                return Ok(());
            }
            calls.write(into, name, at - start, &buffer[..read])?;
            at += read as u64;
        }
    }
}

impl Store for DirStore {
    fn medium(&self) -> Medium {
        self.calls.medium()
    }

    fn failed(&self) -> bool {
        self.calls.failed()
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in Dir::read_from(self.calls.dir())? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if name != "." && name != ".." {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn examine(&self, name: &str) -> io::Result<Option<FileInfo>> {
        let stat = match statat(self.calls.dir(), name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(None),
            stat => stat?,
        };
        Ok(Some(FileInfo {
            regular: FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile,
            size: stat.st_size.unsigned_abs(),
            provided: stat.st_blocks.unsigned_abs().saturating_mul(512),
        }))
    }

    fn read(&self, name: &str, limit: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        // NONBLOCK: opening a pipe that somebody put there must not wait for its writer.
        self.calls
            .open(name, OFlags::RDONLY | OFlags::NONBLOCK)?
            .take(limit)
            .read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn open(&self, name: &str) -> io::Result<(OwnedFd, u64)> {
        let file = self.calls.open(name, OFlags::RDWR | OFlags::NONBLOCK)?;
        let size = file.metadata()?.len();
        Ok((file.into(), size))
    }

    fn create(&mut self, name: &str, size: u64, parts: &[(u64, &[u8])]) -> io::Result<OwnedFd> {
        let file = self.calls.create(name)?;
        if let Err(error) = self.fill(&file, name, size, parts) {
            // The file would only take room; should this fail too, recovery finds it.
            let _ = self.calls.remove(name);
            return Err(error);
        }
        Ok(file.into())
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        self.calls.remove(name)
    }

    fn settle(&mut self) -> io::Result<()> {
        self.calls.sync_names(".")
    }

    fn secure(&mut self, catalogue: &[u8]) -> io::Result<()> {
        if let Attached::File(file) = &self.catalogue {
            for (page, bytes) in (0u64..).zip(catalogue.chunks(PAGE)) {
                // What was never written is zero, and safe since the catalogue was made.
                if bytes.iter().any(|byte| *byte != 0) {
                    self.calls
                        .write(file, CATALOGUE, page * PAGE as u64, bytes)?;
                }
            }
            self.calls.sync_bytes(file, CATALOGUE)?;
        }
        self.settle()
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        self.calls.rename(from, to)?;
        if folder_of(to) != "." {
            self.calls.sync_names(folder_of(to))?;
        }
        self.calls.sync_names(".")
    }

    fn make_directory(&mut self, name: &str) -> io::Result<()> {
        self.calls.make_directory(name)?;
        self.calls.sync_names(".")
    }

    fn link(&mut self, name: &str, to: &str) -> io::Result<bool> {
        match self.calls.link(name, to) {
            Ok(()) => self.calls.sync_names(folder_of(to)).map(|()| true),
            Err(error) => match Errno::from_io_error(&error) {
                Some(Errno::PERM | Errno::OPNOTSUPP | Errno::NOSYS | Errno::MLINK) => Ok(false),
                _ => Err(error),
            },
        }
    }

    fn keep_tail(&mut self, name: &str, size: u64, to: &str) -> io::Result<()> {
        let from = self.calls.open(name, OFlags::RDONLY | OFlags::NONBLOCK)?;
        let into = self.calls.create(to)?;
        let tail = from.metadata()?.len().saturating_sub(size);
        self.calls.cut(&into, to, tail)?;
        copy_data(&mut self.calls, &from, size, (&into, to))?;
        self.calls.sync(&into, to)?;
        self.calls.sync_names(folder_of(to))
    }

    fn set_size(&mut self, name: &str, size: u64) -> io::Result<()> {
        let file = self.calls.open(name, OFlags::RDWR | OFlags::NONBLOCK)?;
        let has = file.metadata()?.len();
        if has > size {
            self.calls.cut(&file, name, size)?;
        } else {
            // Not from 0 where zeros would be written: what is there stays.
            self.calls.provide(&file, name, has, size)?;
        }
        self.calls.sync(&file, name)
    }

    fn attach(&mut self, size: u64) -> io::Result<()> {
        let file = self.calls.open(CATALOGUE, OFlags::RDWR)?;
        self.catalogue = match self.calls.medium() {
            Medium::Ram => {
                let len = usize::try_from(size).map_err(|_| io::ErrorKind::InvalidInput)?;
                Attached::Mapped(Mapping::new(file.as_fd(), len)?)
            }
            Medium::Disk => Attached::File(file),
        };
        Ok(())
    }

    fn put(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        match &mut self.catalogue {
            Attached::Mapped(mapping) => self.calls.store(mapping, CATALOGUE, at, bytes),
            Attached::File(file) => {
                self.calls.write(file, CATALOGUE, at, bytes)?;
                self.calls.sync_bytes(file, CATALOGUE)
            }
            Attached::None => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    fn commit(&mut self, at: u64, word: u64) -> io::Result<()> {
        match &mut self.catalogue {
            Attached::Mapped(mapping) => self.calls.store_word(mapping, CATALOGUE, at, word),
            _ => self.put(at, &word.to_le_bytes()),
        }
    }
}

/// The files of blocks and start data: which is which, by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Numbered {
    /// `block-N`: a block's pages.
    Block(u64),
    /// `spec-N`: the start data of a registration.
    Spec(u64),
}

impl Numbered {
    /// The file's name.
    pub(crate) fn name(self) -> String {
        match self {
            Self::Block(id) => format!("block-{id}"),
            Self::Spec(id) => format!("spec-{id}"),
        }
    }

    /// Reads a name; only the very names that [`Numbered::name`] makes are taken.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        let (kind, digits) = name.split_once('-')?;
        let id = digits.parse().ok()?;
        let file = match kind {
            "block" => Self::Block(id),
            "spec" => Self::Spec(id),
            _ => return None,
        };
        (file.name() == name).then_some(file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{Mode, openat};

    #[test]
    fn only_the_banks_own_names_are_taken_for_its_files() {
        assert_eq!(Numbered::parse("block-0"), Some(Numbered::Block(0)));
        assert_eq!(
            Numbered::parse("spec-18446744073709551615"),
            Some(Numbered::Spec(u64::MAX))
        );
        for name in [
            "block-",
            "block-01",
            "block-+1",
            "block-1.bak",
            "blocks-1",
            "spec",
            "spec-x",
            "notes",
        ] {
            assert_eq!(Numbered::parse(name), None, "{name}");
        }
    }

    #[test]
    fn h20_a_files_pages_are_there_when_it_is_made() {
        use std::os::unix::fs::MetadataExt;
        let dir = tempfile::tempdir().unwrap();
        let open = OFlags::DIRECTORY | OFlags::RDONLY;
        let fd = openat(rustix::fs::CWD, dir.path(), open, Mode::empty()).unwrap();
        let mut store = DirStore::new(fd).unwrap();
        let file = File::from(store.create("block-1", 1 << 20, &[(8, b"here")]).unwrap());
        let metadata = file.metadata().unwrap();
        assert_eq!(metadata.len(), 1 << 20);
        assert!(metadata.blocks() * 512 >= 1 << 20);
        assert_eq!(metadata.mode() & 0o7777, 0o600);
        assert_eq!(store.read("block-1", 12).unwrap(), b"\0\0\0\0\0\0\0\0here");
        assert_eq!(
            store.create("block-1", 1, &[]).unwrap_err().kind(),
            io::ErrorKind::AlreadyExists
        );
    }
}
