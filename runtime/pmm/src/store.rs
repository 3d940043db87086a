//! Every step that the bank takes on its medium, one method each, so that a test can stop it
//! behind any of them (`crash_tests`). Called by `open`, `recover`, `catalogue` and `bank`.
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

use rustix::fs::{
    AtFlags, Dir, FallocateFlags, FileType, FlockOperation, Mode, OFlags, SeekFrom, fallocate,
    flock, fsync, linkat, mkdirat, openat, renameat, seek, statat, unlinkat,
};
use rustix::io::Errno;

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
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

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
    dir: OwnedFd,
    medium: Medium,
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
            dir,
            medium,
            catalogue: Attached::None,
        })
    }

    fn open_at(&self, name: &str, flags: OFlags) -> io::Result<File> {
        let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        Ok(File::from(openat(
            &self.dir,
            name,
            flags,
            Mode::RUSR | Mode::WUSR,
        )?))
    }

    /// Makes what was done in a directory durable.
    fn sync_directory(&self, name: &str) -> io::Result<()> {
        if self.medium == Medium::Disk {
            fsync(self.open_at(name, OFlags::RDONLY | OFlags::DIRECTORY)?)?;
        }
        Ok(())
    }

    fn fill(&self, file: &File, size: u64, parts: &[(u64, &[u8])]) -> io::Result<()> {
        provide(file, size)?;
        for (at, bytes) in parts {
            file.write_all_at(bytes, *at)?;
        }
        if self.medium == Medium::Disk {
            file.sync_all()?;
        }
        Ok(())
    }
}

impl Drop for DirStore {
    fn drop(&mut self) {
        // Closing would leave the lock to a child that was forked and has not come to its exec yet.
        let _ = flock(&self.dir, FlockOperation::Unlock);
    }
}

/// The directory that a name lies in, seen from the bank's.
fn folder_of(name: &str) -> &str {
    name.rsplit_once('/').map_or(".", |(folder, _)| folder)
}

/// Provides every page of a file's first `size` bytes, so that none is missing at first touch
/// (SPEC H20). File systems without fallocate(2) get zeros written.
fn provide(file: &File, size: u64) -> io::Result<()> {
    provide_from(file, 0, size)
}

/// The same for the bytes from `from` to `size`, which the file has not got yet.
fn provide_from(file: &File, from: u64, size: u64) -> io::Result<()> {
    if size == from {
        return Ok(());
    }
    match fallocate(file, FallocateFlags::empty(), from, size - from) {
        Ok(()) => return Ok(()),
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => {}
        Err(error) => return Err(error.into()),
    }
    let mut at = from;
    while at < size {
        let count = (size - at).min(ZEROS.len() as u64);
        file.write_all_at(&ZEROS[..count as usize], at)?;
        at += count;
    }
    Ok(())
}

/// Copies the data of a file from an offset on to the beginning of another, and no hole.
fn copy_data(from: &File, start: u64, into: &File) -> io::Result<()> {
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
            into.write_all_at(&buffer[..read], at - start)?;
            at += read as u64;
        }
    }
}

impl Store for DirStore {
    fn medium(&self) -> Medium {
        self.medium
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in Dir::read_from(&self.dir)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if name != "." && name != ".." {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn examine(&self, name: &str) -> io::Result<Option<FileInfo>> {
        let stat = match statat(&self.dir, name, AtFlags::SYMLINK_NOFOLLOW) {
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
        self.open_at(name, OFlags::RDONLY | OFlags::NONBLOCK)?
            .take(limit)
            .read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn open(&self, name: &str) -> io::Result<(OwnedFd, u64)> {
        let file = self.open_at(name, OFlags::RDWR | OFlags::NONBLOCK)?;
        let size = file.metadata()?.len();
        Ok((file.into(), size))
    }

    fn create(&mut self, name: &str, size: u64, parts: &[(u64, &[u8])]) -> io::Result<OwnedFd> {
        let file = self.open_at(name, OFlags::RDWR | OFlags::CREATE | OFlags::EXCL)?;
        let folder = folder_of(name);
        let filled = self.fill(&file, size, parts);
        if let Err(error) = filled.and_then(|()| self.sync_directory(folder)) {
            // The file would only take room; should this fail too, recovery finds it.
            let _ = unlinkat(&self.dir, name, AtFlags::empty());
            return Err(error);
        }
        Ok(file.into())
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        Ok(unlinkat(&self.dir, name, AtFlags::empty())?)
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        renameat(&self.dir, from, &self.dir, to)?;
        if folder_of(to) != "." {
            self.sync_directory(folder_of(to))?;
        }
        self.sync_directory(".")
    }

    fn make_directory(&mut self, name: &str) -> io::Result<()> {
        mkdirat(&self.dir, name, Mode::RWXU)?;
        self.sync_directory(".")
    }

    fn link(&mut self, name: &str, to: &str) -> io::Result<bool> {
        match linkat(&self.dir, name, &self.dir, to, AtFlags::empty()) {
            Ok(()) => self.sync_directory(folder_of(to)).map(|()| true),
            Err(Errno::PERM | Errno::OPNOTSUPP | Errno::NOSYS | Errno::MLINK) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn keep_tail(&mut self, name: &str, size: u64, to: &str) -> io::Result<()> {
        let from = self.open_at(name, OFlags::RDONLY | OFlags::NONBLOCK)?;
        let into = self.open_at(to, OFlags::RDWR | OFlags::CREATE | OFlags::EXCL)?;
        into.set_len(from.metadata()?.len().saturating_sub(size))?;
        copy_data(&from, size, &into)?;
        if self.medium == Medium::Disk {
            into.sync_all()?;
        }
        self.sync_directory(folder_of(to))
    }

    fn set_size(&mut self, name: &str, size: u64) -> io::Result<()> {
        let file = self.open_at(name, OFlags::RDWR | OFlags::NONBLOCK)?;
        let has = file.metadata()?.len();
        if has > size {
            file.set_len(size)?;
        } else {
            // Not from 0 where zeros would be written: what is there stays.
            provide_from(&file, has, size)?;
        }
        if self.medium == Medium::Disk {
            file.sync_all()?;
        }
        Ok(())
    }

    fn attach(&mut self, size: u64) -> io::Result<()> {
        let file = self.open_at(CATALOGUE, OFlags::RDWR)?;
        self.catalogue = match self.medium {
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
            Attached::Mapped(mapping) => mapping.put(at, bytes),
            Attached::File(file) => {
                file.write_all_at(bytes, at)?;
                file.sync_data()
            }
            Attached::None => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    fn commit(&mut self, at: u64, word: u64) -> io::Result<()> {
        match &mut self.catalogue {
            Attached::Mapped(mapping) => mapping.commit(at, word),
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
