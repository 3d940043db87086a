//! A fuse between a bank and its real medium, for `stopped` and `repair`: it lets a number of steps pass,
//! does a part of the next one, and nothing from then on. What it let pass stays done.
//!
//! It must never pretend: every step that it lets pass is the real one (but see `without_links`).

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::Medium;
use crate::store::{DirStore, FileInfo, Store};

/// How much of the step that burns the fuse is still done.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Cut {
    Nothing,
    Half,
    AllButOneByte,
}

/// Every way to be cut.
pub(crate) const CUTS: [Cut; 3] = [Cut::Nothing, Cut::Half, Cut::AllButOneByte];

impl Cut {
    fn of(self, len: usize) -> usize {
        match self {
            Self::Nothing => 0,
            Self::Half => len / 2,
            Self::AllButOneByte => len.saturating_sub(1),
        }
    }
}

/// How many steps are left; 0 once it has burnt.
#[derive(Clone)]
pub(crate) struct Fuse(Arc<AtomicU32>);

impl Fuse {
    /// More steps than anything takes.
    pub(crate) const NEVER: u32 = u32::MAX;

    pub(crate) fn new(steps: u32) -> Self {
        Self(Arc::new(AtomicU32::new(steps)))
    }

    pub(crate) fn set(&self, steps: u32) {
        self.0.store(steps, Ordering::SeqCst);
    }

    pub(crate) fn burnt(&self) -> bool {
        self.0.load(Ordering::SeqCst) == 0
    }
}

/// A medium behind a fuse.
pub(crate) struct Fused {
    inner: DirStore,
    fuse: Fuse,
    cut: Cut,
    has_links: bool,
}

enum Step {
    Whole,
    Cut,
    Dead,
}

impl Fused {
    pub(crate) fn new(inner: DirStore, fuse: &Fuse, cut: Cut) -> Self {
        Self {
            inner,
            fuse: fuse.clone(),
            cut,
            has_links: true,
        }
    }

    /// The same on a file system without second names, which is the one thing not real here: none of
    /// those can be mounted everywhere.
    pub(crate) fn without_links(self) -> Self {
        Self {
            has_links: false,
            ..self
        }
    }

    fn step(&mut self) -> Step {
        match self.fuse.0.load(Ordering::SeqCst) {
            Fuse::NEVER => Step::Whole,
            0 => Step::Dead,
            left => {
                self.fuse.0.store(left - 1, Ordering::SeqCst);
                if left == 1 { Step::Cut } else { Step::Whole }
            }
        }
    }

    fn atomic<T>(&mut self, step: impl FnOnce(&mut DirStore) -> io::Result<T>) -> io::Result<T> {
        match self.step() {
            Step::Whole => step(&mut self.inner),
            Step::Cut | Step::Dead => Err(io::Error::other("the fuse has burnt")),
        }
    }
}

impl Store for Fused {
    fn medium(&self) -> Medium {
        self.inner.medium()
    }

    fn failed(&self) -> bool {
        self.inner.failed()
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.inner.list()
    }

    fn examine(&self, name: &str) -> io::Result<Option<FileInfo>> {
        self.inner.examine(name)
    }

    fn read(&self, name: &str, limit: u64) -> io::Result<Vec<u8>> {
        self.inner.read(name, limit)
    }

    fn open(&self, name: &str) -> io::Result<(OwnedFd, u64)> {
        self.inner.open(name)
    }

    fn create(&mut self, name: &str, size: u64, parts: &[(u64, &[u8])]) -> io::Result<OwnedFd> {
        match self.step() {
            Step::Whole => return self.inner.create(name, size, parts),
            Step::Cut if !matches!(self.cut, Cut::Nothing) => {
                let size = self.cut.of(size as usize) as u64;
                let file = File::from(self.inner.create(name, size, &[])?);
                for (at, bytes) in parts {
                    let end = (*at + self.cut.of(bytes.len()) as u64).min(size);
                    file.write_all_at(&bytes[..end.saturating_sub(*at) as usize], *at)?;
                }
            }
            Step::Cut | Step::Dead => {}
        }
        Err(io::Error::other("the fuse has burnt"))
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        self.atomic(|inner| inner.remove(name))
    }

    fn settle(&mut self) -> io::Result<()> {
        self.atomic(DirStore::settle)
    }

    fn secure(&mut self, catalogue: &[u8]) -> io::Result<()> {
        self.atomic(|inner| inner.secure(catalogue))
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        self.atomic(|inner| inner.rename(from, to))
    }

    fn make_directory(&mut self, name: &str) -> io::Result<()> {
        self.atomic(|inner| inner.make_directory(name))
    }

    fn link(&mut self, name: &str, to: &str) -> io::Result<bool> {
        if !self.has_links {
            return Ok(false);
        }
        self.atomic(|inner| inner.link(name, to))
    }

    fn keep_tail(&mut self, name: &str, size: u64, to: &str) -> io::Result<()> {
        match self.step() {
            Step::Whole => return self.inner.keep_tail(name, size, to),
            Step::Cut => drop(self.inner.create(to, 0, &[])?),
            Step::Dead => {}
        }
        Err(io::Error::other("the fuse has burnt"))
    }

    fn set_size(&mut self, name: &str, size: u64) -> io::Result<()> {
        self.atomic(|inner| inner.set_size(name, size))
    }

    fn attach(&mut self, size: u64) -> io::Result<()> {
        self.inner.attach(size)
    }

    fn put(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        match self.step() {
            Step::Whole => return self.inner.put(at, bytes),
            Step::Cut => self.inner.put(at, &bytes[..self.cut.of(bytes.len())])?,
            Step::Dead => {}
        }
        Err(io::Error::other("the fuse has burnt"))
    }

    fn commit(&mut self, at: u64, word: u64) -> io::Result<()> {
        self.atomic(|inner| inner.commit(at, word))
    }
}
