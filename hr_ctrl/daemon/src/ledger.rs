//! The ledger: what the next hr_ctrl has to know of this one's decisions (SPEC H31).
//!
//! One memfd for the whole site, mapped here and kept by nucleus. The engine writes the core's memos of
//! all that a step has changed *before* it carries out the effects of that step, and beside them a few words
//! of its own of each actor: which serial the present life has, what was queued for the standby, which
//! capabilities were given out. It is memory, so a write costs stores, no system call, and is there
//! after a crash at any instruction: the death of a process loses no store that it has executed.
//!
//! # Layout, in words of 64 bits
//! | from | what |
//! | --- | --- |
//! | 0 | header, [`HEADER`] words: magic, version, how many groups, how many actors, then [`Site`]'s words |
//! | then | the record of the site |
//! | then | the records of groups |
//! | then | the records of actors, each followed by [`OWN`] words of the engine |
//!
//! A record is one word that counts its changes and two slots; the slot that counts is that of the count's
//! lowest bit. A change fills the other slot, then advances the count, which is its one commit. A record of
//! zeros is that of nobody.
//!
//! No actor ever has this memory, but what is read from it is checked all the same: a controller that
//! crashed may have written anywhere. Must never be taken for the truth about who lives: that is asked of
//! templates and pidfds.

mod own;

use std::collections::HashMap;
use std::hash::Hash;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};

use hr_ctrl_core::{ActorKey, ActorMemo, Changed, Controller, GroupMemo, SiteMemo};
use refrain_abi::Gid;
use refrain_sys::mapping::{self, SharedWords};

pub use own::{Numbered, Own, Queued, Site};

const MAGIC: u64 = u64::from_le_bytes(*b"RFRNLEDG");
const VERSION: u64 = 1;
/// The header's words.
const HEADER: usize = 16;
/// The engine's own words of an actor.
const OWN: usize = 24;
/// How many serials back capabilities are remembered.
const SERIALS: usize = 4;
/// How many more actors and groups there is room for than may be registered: a bank may bring more.
const SPARE: usize = 64;

const fn record(words: usize) -> usize {
    1 + 2 * words
}

const SITE_AT: usize = HEADER;
const GROUPS_AT: usize = SITE_AT + record(SiteMemo::WORDS);
const GROUP: usize = record(GroupMemo::WORDS);
const ACTOR: usize = record(ActorMemo::WORDS) + OWN;

/// The ledger of this site.
#[derive(Debug)]
pub struct Ledger {
    fd: OwnedFd,
    words: SharedWords,
    groups: Table<Gid>,
    actors: Table<ActorKey>,
}

/// What a ledger holds.
#[derive(Debug)]
pub struct Memory {
    /// Of the site.
    pub site: SiteMemo,
    /// Of every group.
    pub groups: Vec<GroupMemo>,
    /// Of every actor.
    pub actors: Vec<ActorMemo>,
}

/// Whose record is where.
#[derive(Debug)]
struct Table<K> {
    at: HashMap<K, usize>,
    free: Vec<usize>,
}

impl<K: Copy + Eq + Hash> Table<K> {
    fn new(count: usize) -> Self {
        Self {
            at: HashMap::with_capacity(count),
            free: (0..count).rev().collect(),
        }
    }

    fn take(&mut self, key: K) -> Option<usize> {
        if let Some(index) = self.at.get(&key) {
            return Some(*index);
        }
        let index = self.free.pop()?;
        self.at.insert(key, index);
        Some(index)
    }

    fn give_back(&mut self, key: K) -> Option<usize> {
        let index = self.at.remove(&key)?;
        self.free.push(index);
        Some(index)
    }
}

impl Ledger {
    /// An empty ledger with room for so many.
    ///
    /// # Errors
    /// The kernel's (no fds, no memory).
    pub fn create(max_actors: u32, max_groups: u32) -> io::Result<Self> {
        let [actors, groups] = [max_actors, max_groups].map(|max| max as usize + SPARE);
        let count = GROUPS_AT + groups * GROUP + actors * ACTOR;
        let (fd, words) = mapping::create_words("refrain-ledger", count)?;
        let header = [MAGIC, VERSION, groups as u64, actors as u64];
        for (place, word) in words.iter().zip(header) {
            place.store(word, Ordering::Release);
        }
        let (groups, actors) = (Table::new(groups), Table::new(actors));
        Ok(Self {
            fd,
            words,
            groups,
            actors,
        })
    }

    /// The ledger of the hr_ctrl before, and what it says.
    ///
    /// # Errors
    /// `InvalidData` when it is no ledger of this version; else the kernel's.
    pub fn open(fd: OwnedFd) -> io::Result<(Self, Memory)> {
        let invalid = |why| io::Error::new(io::ErrorKind::InvalidData, why);
        let words = mapping::map_words(fd.as_fd())?;
        let head: Vec<u64> = words.iter().take(HEADER).map(load).collect();
        let [MAGIC, VERSION, groups, actors, ..] = head[..] else {
            return Err(invalid("no ledger of this version"));
        };
        let size = |count: u64, each: usize| usize::try_from(count).ok()?.checked_mul(each);
        let expected = size(groups, GROUP)
            .zip(size(actors, ACTOR))
            .and_then(|(groups, actors)| groups.checked_add(actors)?.checked_add(GROUPS_AT));
        if expected != Some(words.len()) {
            return Err(invalid("a ledger of another size than it says"));
        }
        let (groups, actors) = (Table::new(groups as usize), Table::new(actors as usize));
        let mut ledger = Self {
            fd,
            words,
            groups,
            actors,
        };
        let memory = ledger
            .read()
            .ok_or_else(|| invalid("a ledger without a site"))?;
        Ok((ledger, memory))
    }

    fn read(&mut self) -> Option<Memory> {
        let site = SiteMemo::from_words(&read_record(&self.words[SITE_AT..])?)?;
        let (mut groups, mut actors) = (Vec::new(), Vec::new());
        for index in std::mem::take(&mut self.groups.free) {
            let words = read_record(&self.words[self.group_at(index)..]);
            match words.and_then(|words| GroupMemo::from_words(&words)) {
                Some(memo) if !self.groups.at.contains_key(&memo.gid) => {
                    self.groups.at.insert(memo.gid, index);
                    groups.push(memo);
                }
                _ => self.groups.free.push(index),
            }
        }
        for index in std::mem::take(&mut self.actors.free) {
            let words = read_record(&self.words[self.actor_at(index)..]);
            match words.and_then(|words| ActorMemo::from_words(&words)) {
                Some(memo) if !self.actors.at.contains_key(&memo.key) => {
                    self.actors.at.insert(memo.key, index);
                    actors.push(memo);
                }
                _ => self.actors.free.push(index),
            }
        }
        Some(Memory {
            site,
            groups,
            actors,
        })
    }

    /// The memfd, for nucleus to keep.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Writes down what a step of the core has changed.
    pub fn write(&mut self, core: &Controller, changed: &[Changed]) {
        for changed in changed {
            match changed {
                Changed::Site => {
                    write_record(&self.words[SITE_AT..], &core.site_memo().to_words());
                }
                Changed::Group(gid) => match core.group_memo(*gid) {
                    Some(memo) => match self.groups.take(*gid) {
                        Some(index) => {
                            write_record(&self.words[self.group_at(index)..], &memo.to_words());
                        }
                        None => tracing::error!(%gid, "no room for the group in the ledger"),
                    },
                    None => {
                        if let Some(index) = self.groups.give_back(*gid) {
                            let none = [0; GroupMemo::WORDS];
                            write_record(&self.words[self.group_at(index)..], &none);
                        }
                    }
                },
                Changed::Actor(key) => self.write_actor(*key, core.actor_memo(*key)),
            }
        }
    }

    fn write_actor(&mut self, key: ActorKey, memo: Option<ActorMemo>) {
        let Some(memo) = memo else {
            if let Some(index) = self.actors.give_back(key) {
                let none = [0; ActorMemo::WORDS];
                write_record(&self.words[self.actor_at(index)..], &none);
            }
            return;
        };
        let is_new = !self.actors.at.contains_key(&key);
        let Some(index) = self.actors.take(key) else {
            return tracing::error!(?key, "no room for the actor in the ledger");
        };
        if is_new {
            for word in self.own_words(index) {
                word.store(0, Ordering::Relaxed);
            }
        }
        write_record(&self.words[self.actor_at(index)..], &memo.to_words());
    }

    /// The engine's words of an actor; `None` where the ledger has no room for it.
    #[must_use]
    pub fn own(&self, key: ActorKey) -> Option<Own<'_>> {
        let index = self.actors.at.get(&key)?;
        Some(Own(self.own_words(*index)))
    }

    /// The site's own words.
    #[must_use]
    pub fn site(&self) -> Site<'_> {
        Site(&self.words[4..HEADER])
    }

    fn own_words(&self, index: usize) -> &[AtomicU64] {
        let at = self.actor_at(index) + ACTOR - OWN;
        &self.words[at..at + OWN]
    }

    fn group_at(&self, index: usize) -> usize {
        GROUPS_AT + index * GROUP
    }

    fn actor_at(&self, index: usize) -> usize {
        let groups = self.groups.at.len() + self.groups.free.len();
        GROUPS_AT + groups * GROUP + index * ACTOR
    }
}

fn load(word: &AtomicU64) -> u64 {
    word.load(Ordering::Acquire)
}

/// The slot that counts; `None` where nothing was ever written.
fn read_record<const N: usize>(words: &[AtomicU64]) -> Option<[u64; N]> {
    let count = load(words.first()?);
    let at = 1 + (count as usize & 1) * N;
    let slot = words.get(at..at + N)?;
    (count != 0).then(|| std::array::from_fn(|n| load(&slot[n])))
}

fn write_record<const N: usize>(words: &[AtomicU64], slot: &[u64; N]) {
    let count = load(&words[0]).wrapping_add(1).max(1);
    let at = 1 + (count as usize & 1) * N;
    for (place, word) in words[at..at + N].iter().zip(slot) {
        place.store(*word, Ordering::Relaxed);
    }
    words[0].store(count, Ordering::Release);
}
