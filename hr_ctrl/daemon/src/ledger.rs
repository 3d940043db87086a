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
//! | 0 | header, [`HEADER`] words: magic, version, count of groups, of actors, [`Site`]'s words, the step that counts |
//! | then | the record of the site |
//! | then | the records of groups |
//! | then | the records of actors, each followed by [`OWN`] words of the engine |
//!
//! A record is two slots, each with the number of the step that filled it. The slot that counts is the younger
//! of those whose step counts. Writing a step down fills the other slot of every record that it has changed, and
//! then stores its number in the header: that store is its one commit, for all of its records. A step that
//! stops the members of a group is known whole or not at all, though it changes the group and each of them.
//! What a crash left half written is of a step that never counted; the next hr_ctrl wipes it before it writes.
//! A record of zeros is that of nobody.
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
const VERSION: u64 = 2;
/// The header's words.
const HEADER: usize = 16;
/// The word of the header that holds the number of the last step that counts.
const STEP: usize = HEADER - 1;
/// The engine's own words of an actor.
const OWN: usize = 24;
/// How many serials back capabilities are remembered.
const SERIALS: usize = 4;
/// How many more actors and groups there is room for than may be registered: a bank may bring more.
const SPARE: usize = 64;

/// The words of a record: two slots, each with the number of its step first.
const fn record(words: usize) -> usize {
    2 * (1 + words)
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
        ledger.wipe();
        let memory = ledger
            .read()
            .ok_or_else(|| invalid("a ledger without a site"))?;
        Ok((ledger, memory))
    }

    /// Wipes what belongs to a step that was never committed: the next one has its number.
    fn wipe(&self) {
        let step = self.step();
        let groups = self.groups.free.iter().map(|index| self.group_at(*index));
        let actors = self.actors.free.iter().map(|index| self.actor_at(*index));
        let slots = [(SITE_AT, SiteMemo::WORDS)]
            .into_iter()
            .chain(groups.map(|at| (at, GroupMemo::WORDS)))
            .chain(actors.map(|at| (at, ActorMemo::WORDS)))
            .flat_map(|(at, words)| [at, at + 1 + words]);
        for word in slots
            .map(|at| &self.words[at])
            .filter(|word| load(word) > step)
        {
            word.store(0, Ordering::Release);
        }
    }

    /// The number of the last step that counts.
    fn step(&self) -> u64 {
        load(&self.words[STEP])
    }

    fn read(&mut self) -> Option<Memory> {
        let step = self.step();
        let site = SiteMemo::from_words(&read_record(&self.words[SITE_AT..], step)?)?;
        let (mut groups, mut actors) = (Vec::new(), Vec::new());
        for index in std::mem::take(&mut self.groups.free) {
            let words = read_record(&self.words[self.group_at(index)..], step);
            match words.and_then(|words| GroupMemo::from_words(&words)) {
                Some(memo) if !self.groups.at.contains_key(&memo.gid) => {
                    self.groups.at.insert(memo.gid, index);
                    groups.push(memo);
                }
                _ => self.groups.free.push(index),
            }
        }
        for index in std::mem::take(&mut self.actors.free) {
            let words = read_record(&self.words[self.actor_at(index)..], step);
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

    /// Writes down what a step of the core has changed: all of it or, should we die meanwhile, nothing.
    pub fn write(&mut self, core: &Controller, changed: &[Changed]) {
        self.fill(core, changed);
        self.words[STEP].store(self.step() + 1, Ordering::Release);
    }

    /// Fills the slots that count once the step does.
    fn fill(&mut self, core: &Controller, changed: &[Changed]) {
        let step = self.step();
        for changed in changed {
            match changed {
                Changed::Site => {
                    write_record(&self.words[SITE_AT..], step, &core.site_memo().to_words());
                }
                Changed::Group(gid) => match core.group_memo(*gid) {
                    Some(memo) => match self.groups.take(*gid) {
                        Some(index) => {
                            write_record(
                                &self.words[self.group_at(index)..],
                                step,
                                &memo.to_words(),
                            );
                        }
                        None => tracing::error!(%gid, "no room for the group in the ledger"),
                    },
                    None => {
                        if let Some(index) = self.groups.give_back(*gid) {
                            let none = [0; GroupMemo::WORDS];
                            write_record(&self.words[self.group_at(index)..], step, &none);
                        }
                    }
                },
                Changed::Actor(key) => self.write_actor(*key, core.actor_memo(*key)),
            }
        }
    }

    fn write_actor(&mut self, key: ActorKey, memo: Option<ActorMemo>) {
        let step = self.step();
        let Some(memo) = memo else {
            if let Some(index) = self.actors.give_back(key) {
                let none = [0; ActorMemo::WORDS];
                write_record(&self.words[self.actor_at(index)..], step, &none);
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
        write_record(&self.words[self.actor_at(index)..], step, &memo.to_words());
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
        Site(&self.words[4..STEP])
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

/// Where the slot of a record is that counts when `step` does; `None` where nothing was written by then.
fn counting<const N: usize>(words: &[AtomicU64], step: u64) -> Option<usize> {
    let number = |at: usize| words.get(at).map_or(0, load);
    let slots = [0, 1 + N].map(|at| (number(at), at));
    let mut counting = slots
        .into_iter()
        .filter(|(number, _)| (1..=step).contains(number));
    let first = counting.next()?;
    Some(counting.fold(first, Ord::max).1)
}

/// What counts of a record when `step` does.
fn read_record<const N: usize>(words: &[AtomicU64], step: u64) -> Option<[u64; N]> {
    let at = counting::<N>(words, step)? + 1;
    let slot = words.get(at..at + N)?;
    Some(std::array::from_fn(|n| load(&slot[n])))
}

/// Fills the slot that counts from the step after `step` on; the one that counts till then stays.
fn write_record<const N: usize>(words: &[AtomicU64], step: u64, slot: &[u64; N]) {
    let at = match counting::<N>(words, step) {
        Some(0) => 1 + N,
        _ => 0,
    };
    for (place, word) in words[at + 1..at + 1 + N].iter().zip(slot) {
        place.store(*word, Ordering::Relaxed);
    }
    words[at].store(step + 1, Ordering::Release);
}

#[cfg(test)]
mod tests {
    use super::*;
    use hr_ctrl_core::{Event, Limits, Requester, Ticket};
    use refrain_abi::{ActorName, Aid, LifeNo};

    const MEMBERS: u64 = 5;
    const LIMITS: Limits = Limits {
        max_actors: 10,
        max_groups: 10,
        max_badness: 10,
        interval_ms: 1000,
    };

    /// A group of [`MEMBERS`] that run, written down.
    fn running() -> (Controller, Ledger) {
        let mut core = Controller::new(LIMITS, Aid(1));
        for n in 1..=MEMBERS {
            let _ = core.step(Event::Run {
                ticket: Ticket(n),
                name: ActorName::new(&format!("m{n}")).unwrap(),
                gid: Some(Gid(1)),
                by: Requester::Owner,
                policy: None,
            });
            let actor = ActorKey(n);
            let _ = core.step(Event::Loaded { actor });
        }
        let mut ledger = Ledger::create(LIMITS.max_actors, LIMITS.max_groups).unwrap();
        let _ = write_down(&mut core, &mut ledger);
        (core, ledger)
    }

    fn write_down(core: &mut Controller, ledger: &mut Ledger) -> Vec<Changed> {
        let mut changed = Vec::new();
        core.take_changed(&mut changed);
        ledger.write(core, &changed);
        changed
    }

    /// A member fails: all members are to stop.
    fn fail(core: &mut Controller) -> Vec<Changed> {
        let _ = core.step(Event::Ended {
            actor: ActorKey(2),
            life: LifeNo(0),
            clean: false,
            exit_code: None,
            at_ms: 1,
        });
        let mut changed = Vec::new();
        core.take_changed(&mut changed);
        changed
    }

    /// What the next hr_ctrl finds, in order.
    fn found(ledger: &Ledger) -> (SiteMemo, Vec<GroupMemo>, Vec<ActorMemo>) {
        let (_, mut memory) = Ledger::open(ledger.fd().try_clone_to_owned().unwrap()).unwrap();
        memory.actors.sort_by_key(|memo| memo.key);
        (memory.site, memory.groups, memory.actors)
    }

    fn known(core: &Controller) -> (SiteMemo, Vec<GroupMemo>, Vec<ActorMemo>) {
        let actors = (1..=MEMBERS).map(|n| core.actor_memo(ActorKey(n)).unwrap());
        let group = core.group_memo(Gid(1)).unwrap();
        (core.site_memo(), vec![group], actors.collect())
    }

    #[test]
    fn h31_a_step_that_stops_a_group_is_known_whole_or_not_at_all() {
        let (mut core, mut ledger) = running();
        let before = known(&core);
        let changed = fail(&mut core);
        assert!(changed.len() > MEMBERS as usize, "{changed:?}");
        for written in 0..=changed.len() {
            // A crash after so many records.
            ledger.fill(&core, &changed[..written]);
            assert_eq!(found(&ledger), before, "{written} records were written");
        }
        ledger.write(&core, &changed);
        assert_eq!(found(&ledger), known(&core));
    }

    #[test]
    fn h31_what_a_step_that_never_counted_left_does_not_count_with_the_next_one() {
        let (mut core, mut ledger) = running();
        let (site, groups, actors) = known(&core);
        let changed = fail(&mut core);
        ledger.fill(&core, &changed);
        // The next hr_ctrl knows the group as it was, and writes something else down.
        let names = (1..=MEMBERS).map(|n| ActorName::new(&format!("m{n}")).unwrap());
        let core = Controller::recall(
            LIMITS,
            site,
            groups.iter().copied(),
            names.zip(actors.iter().copied()),
        );
        let (mut ledger, _) = Ledger::open(ledger.fd().try_clone_to_owned().unwrap()).unwrap();
        ledger.write(&core, &[Changed::Site]);
        assert_eq!(found(&ledger), (core.site_memo(), groups, actors));
    }
}
