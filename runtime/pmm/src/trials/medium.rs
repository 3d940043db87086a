//! What a medium holds, followed call by call: what a program sees of it, and what a power failure
//! may leave of it. Fed by `record`; asked for images by `images` and `power`.
//!
//! Linux promises this and the bank builds on no more: what was written is seen at once by whoever
//! reads, whatever becomes of the writer. Until the file is synced each page may have reached the
//! medium in any state that it had since, torn at any sector; its size likewise. Until a directory is
//! synced each change of its names may have reached the medium or not, whatever the others did; a
//! rename within a directory is one change. After a failed sync of a file its pages count as written,
//! and whether they were nobody knows; they are written again when they change again.
//! Source: fsync(2); "PostgreSQL's fsync() surprise" (LWN, 2018).

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use super::chance::Chance;
use crate::calls::Call;

const PAGE: usize = 4096;

/// A call, kept.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Kept {
    Create(String),
    MakeDirectory(String),
    Provide(String, u64),
    Cut(String, u64),
    Write(String, u64, Vec<u8>),
    Sync(String),
    SyncNames(String),
    Remove(String),
    Rename(String, String),
    Link(String, String),
    /// A sync that was made to fail.
    SyncFails(String),
}

impl From<Call<'_>> for Kept {
    fn from(call: Call<'_>) -> Self {
        match call {
            Call::Create(name) => Self::Create(name.into()),
            Call::MakeDirectory(name) => Self::MakeDirectory(name.into()),
            Call::Provide(name, size) => Self::Provide(name.into(), size),
            Call::Cut(name, size) => Self::Cut(name.into(), size),
            Call::Write(name, at, bytes) => Self::Write(name.into(), at, bytes.into()),
            Call::Sync(name) => Self::Sync(name.into()),
            Call::SyncNames(name) => Self::SyncNames(name.into()),
            Call::Remove(name) => Self::Remove(name.into()),
            Call::Rename(from, to) => Self::Rename(from.into(), to.into()),
            Call::Link(name, to) => Self::Link(name.into(), to.into()),
        }
    }
}

/// A file, apart from its names.
#[derive(Clone, Debug, Default)]
struct File {
    /// As a program sees it.
    seen: Vec<u8>,
    /// What has reached the medium for certain.
    safe: Vec<u8>,
    /// Each state that a page had since, in order.
    pages: Vec<(usize, Vec<u8>)>,
    /// Each size that it had since, in order.
    sizes: Vec<usize>,
}

impl File {
    fn resize(&mut self, size: usize) {
        self.seen.resize(size, 0);
        self.sizes.push(size);
    }

    fn write(&mut self, at: usize, bytes: &[u8]) {
        let end = at + bytes.len();
        if end > self.seen.len() {
            self.resize(end);
        }
        self.seen[at..end].copy_from_slice(bytes);
        for page in at / PAGE..end.div_ceil(PAGE) {
            let last = ((page + 1) * PAGE).min(self.seen.len());
            self.pages
                .push((page, self.seen[page * PAGE..last].to_vec()));
        }
    }

    fn sync(&mut self) {
        // Pages that count as written since a sync failed are not written again.
        for (page, _) in &self.pages {
            let at = page * PAGE;
            let end = (at + PAGE).min(self.seen.len());
            if self.safe.len() < end {
                self.safe.resize(end, 0);
            }
            if at < end {
                self.safe[at..end].copy_from_slice(&self.seen[at..end]);
            }
        }
        self.safe.resize(self.seen.len(), 0);
        self.forget();
    }

    fn forget(&mut self) {
        self.pages.clear();
        self.sizes.clear();
    }

    /// What may be there after a power failure, torn at every multiple of `tear` bytes.
    fn after_power_failure(&self, tear: usize, chance: &mut Chance) -> Vec<u8> {
        let size = match chance.below(self.sizes.len() as u64 + 1) as usize {
            0 => self.safe.len(),
            n => self.sizes[n - 1],
        };
        let mut left = self.safe.clone();
        left.resize(self.seen.len().max(size).max(left.len()), 0);
        let mut pages: Vec<usize> = self.pages.iter().map(|(page, _)| *page).collect();
        pages.sort_unstable();
        pages.dedup();
        for page in pages {
            let states: Vec<_> = self.pages.iter().filter(|(at, _)| *at == page).collect();
            for piece in (0..PAGE).step_by(tear) {
                let state = match chance.below(states.len() as u64 + 1) as usize {
                    0 => continue,
                    n => &states[n - 1].1,
                };
                let end = (piece + tear).min(state.len());
                if piece < end {
                    let at = page * PAGE;
                    left[at + piece..at + end].copy_from_slice(&state[piece..end]);
                }
            }
        }
        left.truncate(size);
        left
    }
}

/// What a name stands for: a file by its number, or a directory.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Node {
    File(usize),
    Directory,
}

/// A change of the names in a directory that was not synced.
#[derive(Clone, Debug)]
enum Change {
    Add(String, Node),
    Take(String, Node),
    Move(String, String, Node),
}

impl Change {
    fn folder(&self) -> &str {
        let (Self::Add(name, _) | Self::Take(name, _) | Self::Move(_, name, _)) = self;
        folder(name)
    }

    fn apply(&self, names: &mut BTreeMap<String, Node>) {
        match self {
            Self::Add(name, node) => {
                names.insert(name.clone(), *node);
            }
            Self::Take(name, node) => {
                if names.get(name) == Some(node) {
                    names.remove(name);
                }
            }
            Self::Move(from, to, node) => {
                if names.get(from) == Some(node) {
                    names.remove(from);
                }
                names.insert(to.clone(), *node);
            }
        }
    }
}

fn folder(name: &str) -> &str {
    name.rsplit_once('/').map_or(".", |(folder, _)| folder)
}

/// A directory with files.
#[derive(Clone, Debug, Default)]
pub(super) struct Image {
    files: Vec<Arc<File>>,
    seen: BTreeMap<String, Node>,
    safe: BTreeMap<String, Node>,
    changes: Vec<Change>,
}

impl Image {
    /// What is in a directory now, all of it on the medium.
    pub(super) fn of(dir: &Path) -> Self {
        let mut image = Self::default();
        image.take(dir, "");
        image.safe = image.seen.clone();
        image
    }

    fn take(&mut self, dir: &Path, before: &str) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let name = format!("{before}{}", path.file_name().unwrap().to_str().unwrap());
            let node = if path.is_dir() {
                self.take(&path, &format!("{name}/"));
                Node::Directory
            } else {
                let bytes = fs::read(&path).unwrap();
                self.files.push(Arc::new(File {
                    safe: bytes.clone(),
                    seen: bytes,
                    ..File::default()
                }));
                Node::File(self.files.len() - 1)
            };
            self.seen.insert(name, node);
        }
    }

    fn file(&mut self, name: &str) -> &mut File {
        match self.seen.get(name) {
            Some(Node::File(number)) => Arc::make_mut(&mut self.files[*number]),
            other => panic!("{name} is {other:?}"),
        }
    }

    /// Makes a call.
    pub(super) fn call(&mut self, call: &Kept) {
        match call {
            Kept::Create(name) => {
                self.files.push(Arc::default());
                self.change(Change::Add(name.clone(), Node::File(self.files.len() - 1)));
            }
            Kept::MakeDirectory(name) => self.change(Change::Add(name.clone(), Node::Directory)),
            Kept::Provide(name, size) | Kept::Cut(name, size) => {
                self.file(name).resize(*size as usize);
            }
            Kept::Write(name, at, bytes) => self.file(name).write(*at as usize, bytes),
            Kept::Sync(name) => self.file(name).sync(),
            // Which of its pages the medium has is up to chance; none of them is the worst.
            Kept::SyncFails(name) if matches!(self.seen.get(name), Some(Node::File(_))) => {
                self.file(name).forget();
            }
            Kept::SyncFails(_) => {}
            Kept::SyncNames(name) => {
                let (now, later) = std::mem::take(&mut self.changes)
                    .into_iter()
                    .partition(|change| change.folder() == name);
                self.changes = later;
                let now: Vec<Change> = now;
                now.iter().for_each(|change| change.apply(&mut self.safe));
            }
            Kept::Remove(name) => {
                // To remove what is not there is an error that changes nothing.
                if let Some(node) = self.seen.get(name).copied() {
                    self.change(Change::Take(name.clone(), node));
                }
            }
            Kept::Rename(from, to) => {
                let node = self.seen[from];
                if folder(from) == folder(to) {
                    self.change(Change::Move(from.clone(), to.clone(), node));
                } else {
                    self.change(Change::Add(to.clone(), node));
                    self.change(Change::Take(from.clone(), node));
                }
            }
            Kept::Link(name, to) => {
                let node = self.seen[name];
                self.change(Change::Add(to.clone(), node));
            }
        }
    }

    fn change(&mut self, change: Change) {
        change.apply(&mut self.seen);
        self.changes.push(change);
    }

    /// What a power failure leaves; files torn at every multiple of `tear` bytes.
    pub(super) fn after_power_failure(&self, tear: usize, chance: &mut Chance) -> Self {
        let mut names = self.safe.clone();
        for change in &self.changes {
            if chance.one_in(2) {
                change.apply(&mut names);
            }
        }
        let whole = |name: &String| folder(name) == "." || names.contains_key(folder(name));
        let seen: BTreeMap<_, _> = names.iter().filter(|(name, _)| whole(name)).collect();
        let mut image = Self::default();
        let mut numbers = BTreeMap::new();
        for (name, node) in seen {
            let node = match node {
                Node::Directory => Node::Directory,
                Node::File(number) => Node::File(*numbers.entry(*number).or_insert_with(|| {
                    let left = self.files[*number].after_power_failure(tear, chance);
                    image.files.push(Arc::new(File {
                        safe: left.clone(),
                        seen: left,
                        ..File::default()
                    }));
                    image.files.len() - 1
                })),
            };
            image.seen.insert(name.clone(), node);
        }
        image.safe = image.seen.clone();
        image
    }

    /// Writes it into an empty directory.
    pub(super) fn write_to(&self, dir: &Path) {
        for (name, node) in &self.seen {
            let path = dir.join(name);
            match node {
                Node::Directory => fs::DirBuilder::new().mode(0o700).create(path).unwrap(),
                Node::File(number) => {
                    let mut options = fs::OpenOptions::new();
                    let options = options.write(true).create_new(true).mode(0o600);
                    let file = options.open(path).unwrap();
                    std::io::Write::write_all(&mut &file, &self.files[*number].seen).unwrap();
                }
            }
        }
    }

    /// Every name with what a program reads there; a directory has nothing to read.
    pub(super) fn contents(&self) -> BTreeMap<&str, Option<&[u8]>> {
        let names = self.seen.iter().map(|(name, node)| match node {
            Node::Directory => (name.as_str(), None),
            Node::File(number) => (name.as_str(), Some(self.files[*number].seen.as_slice())),
        });
        names.collect()
    }
}
