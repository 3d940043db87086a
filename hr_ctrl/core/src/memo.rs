//! Memos: what the next controller needs to know of an actor, a group and the site, in a few words.
//!
//! The daemon writes the memo of whatever a step has changed ([`crate::Controller::take_changed`])
//! to memory that outlives it, before it carries out the effects of that step. After its end the
//! next controller reads them back ([`crate::Controller::recall`]). A memo never holds a request:
//! whoever waited for an answer has lost the controller that would have given it.
//!
//! Memos are words because words are written by plain stores: nothing is allocated or encoded as
//! text on the restart path. The last word is a check sum over the others, so words of two
//! writings, or of anything else, are not taken for a memo. All words zero is no memo.

mod group;

pub use group::GroupMemo;
pub(crate) use group::PhaseMemo;

use refrain_abi::{Aid, Gid, LifeNo};

use crate::actor::{Actor, Phase, Verdict};
use crate::site::SitePhase;
use crate::{ActorKey, ActorState, Controller, HaltLevel, Kind, StopHow};

/// What is remembered of one registered actor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ActorMemo {
    /// Its key, which it keeps.
    pub key: ActorKey,
    /// Its group, `None` for an ordinary actor.
    pub gid: Option<Gid>,
    /// Direct, indirect or ordinary.
    pub kind: Kind,
    pub(crate) phase: Phase,
    /// The number of the life it has or last had.
    pub life: Option<LifeNo>,
    /// The id of the life it has, until that life is gone.
    pub aid: Option<Aid>,
    /// How many of its lives were begun by a restart.
    pub restarts: u32,
}

/// What is remembered of the site itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SiteMemo {
    pub(crate) phase: SitePhase,
    /// The aid that the next life gets.
    pub next_aid: Aid,
    /// The key that the next actor gets.
    pub next_key: ActorKey,
}

/// Mixes words into one that differs when any of them does, or their order.
fn check(words: &[u64]) -> u64 {
    let mix = |sum: u64, &word: &u64| {
        let mixed = (sum ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed ^ (mixed >> 29)
    };
    words.iter().fold(0x5245_4652_4149_4e31, mix)
}

/// Puts the check sum of all words but the last into the last.
fn seal<const N: usize>(mut words: [u64; N]) -> [u64; N] {
    words[N - 1] = check(&words[..N - 1]);
    words
}

fn is_sealed<const N: usize>(words: &[u64; N]) -> bool {
    words[0] != 0 && words[N - 1] == check(&words[..N - 1])
}

/// Two halves of a word.
fn join(low: u32, high: u32) -> u64 {
    u64::from(low) | u64::from(high) << 32
}

#[expect(clippy::cast_possible_truncation, reason = "the two halves of a word")]
fn split(word: u64) -> (u32, u32) {
    (word as u32, (word >> 32) as u32)
}

const PHASES: [Phase; 11] = [
    Phase::Loading { orphaned: false },
    Phase::Loading { orphaned: true },
    Phase::Running,
    Phase::Stopping(StopHow::Kill),
    Phase::Stopping(StopHow::Tidy),
    Phase::Ended(Verdict::Clean),
    Phase::Ended(Verdict::Failed),
    Phase::Ended(Verdict::Stopped),
    Phase::Waiting,
    Phase::Clean,
    Phase::Failed,
];
const KINDS: [Kind; 3] = [Kind::Direct, Kind::Indirect, Kind::Ordinary];
const SITE_PHASES: [SitePhase; 9] = [
    SitePhase::Running,
    SitePhase::Stopping,
    SitePhase::Resetting,
    SitePhase::Halting(HaltLevel::Halt),
    SitePhase::Halting(HaltLevel::Cold),
    SitePhase::Halting(HaltLevel::Immediate),
    SitePhase::Halted(HaltLevel::Halt),
    SitePhase::Halted(HaltLevel::Cold),
    SitePhase::Halted(HaltLevel::Immediate),
];

/// The place of a value in its list, counted from 1, so that a word with one in it is never 0.
fn code<T: PartialEq>(list: &[T], value: &T) -> u64 {
    let place = list.iter().position(|one| one == value);
    place.map_or(0, |place| place as u64 + 1)
}

fn decode<T: Copy>(list: &[T], code: u64) -> Option<T> {
    let place = usize::try_from(code.checked_sub(1)?).ok()?;
    list.get(place).copied()
}

impl ActorMemo {
    /// How many words it takes.
    pub const WORDS: usize = 5;

    const HAS_GID: u64 = 1 << 16;
    const HAS_LIFE: u64 = 1 << 17;
    const HAS_AID: u64 = 1 << 18;

    pub(crate) fn of(key: ActorKey, actor: &Actor) -> Self {
        let (gid, kind, phase) = (actor.gid, actor.kind, actor.phase);
        let (life, aid, restarts) = (actor.life, actor.aid, actor.restarts);
        Self {
            key,
            gid,
            kind,
            phase,
            life,
            aid,
            restarts,
        }
    }

    /// Its state, as [`crate::ActorView`] shows it.
    #[must_use]
    pub fn state(&self) -> ActorState {
        self.phase.state()
    }

    /// The words to write.
    #[must_use]
    pub fn to_words(&self) -> [u64; Self::WORDS] {
        let flag = |is: bool, flag| if is { flag } else { 0 };
        let head = code(&KINDS, &self.kind)
            | code(&PHASES, &self.phase) << 8
            | flag(self.gid.is_some(), Self::HAS_GID)
            | flag(self.life.is_some(), Self::HAS_LIFE)
            | flag(self.aid.is_some(), Self::HAS_AID);
        let (gid, life) = (
            self.gid.map_or(0, |gid| gid.0),
            self.life.map_or(0, |life| life.0),
        );
        let aid = self.aid.map_or(0, |aid| aid.0);
        seal([
            head,
            self.key.0,
            join(gid, life),
            join(aid, self.restarts),
            0,
        ])
    }

    /// What these words say; `None` when they are no memo.
    #[must_use]
    pub fn from_words(words: &[u64; Self::WORDS]) -> Option<Self> {
        if !is_sealed(words) {
            return None;
        }
        let [head, key, group_and_life, aid_and_restarts, _] = *words;
        let ((gid, life), (aid, restarts)) = (split(group_and_life), split(aid_and_restarts));
        let memo = Self {
            key: ActorKey(key),
            gid: (head & Self::HAS_GID != 0).then_some(Gid(gid)),
            kind: decode(&KINDS, head & 0xff)?,
            phase: decode(&PHASES, head >> 8 & 0xff)?,
            life: (head & Self::HAS_LIFE != 0).then_some(LifeNo(life)),
            aid: (head & Self::HAS_AID != 0).then_some(Aid(aid)),
            restarts,
        };
        (memo.is_sound() && memo.to_words() == *words).then_some(memo)
    }

    /// Whether an actor can be like this.
    pub(crate) fn is_sound(&self) -> bool {
        let is_alive = self.state().is_alive();
        let lives = is_alive == self.aid.is_some() && (self.life.is_some() || !is_alive);
        let never_lived = self.state() != ActorState::Loading || self.life.is_none();
        let belongs = (self.kind == Kind::Ordinary) == self.gid.is_none();
        let known = self.key.0 != 0 && self.key.0 != u64::MAX && self.aid != Some(Aid(0));
        lives && never_lived && belongs && known
    }
}

impl SiteMemo {
    /// How many words it takes.
    pub const WORDS: usize = 4;

    /// The words to write.
    #[must_use]
    pub fn to_words(&self) -> [u64; Self::WORDS] {
        let phase = code(&SITE_PHASES, &self.phase);
        seal([phase, u64::from(self.next_aid.0), self.next_key.0, 0])
    }

    /// What these words say; `None` when they are no memo.
    #[must_use]
    pub fn from_words(words: &[u64; Self::WORDS]) -> Option<Self> {
        if !is_sealed(words) {
            return None;
        }
        let phase = decode(&SITE_PHASES, words[0])?;
        let next_aid = Aid(u32::try_from(words[1]).ok()?);
        Some(Self {
            phase,
            next_aid,
            next_key: ActorKey(words[2]),
        })
    }
}

impl Controller {
    /// The memo of an actor; `None` when it is not registered (any more).
    #[must_use]
    pub fn actor_memo(&self, key: ActorKey) -> Option<ActorMemo> {
        self.actors.get(&key).map(|actor| ActorMemo::of(key, actor))
    }

    /// The memo of a group; `None` when there is no such group (any more).
    #[must_use]
    pub fn group_memo(&self, gid: Gid) -> Option<GroupMemo> {
        self.groups.get(&gid).map(|group| GroupMemo::of(gid, group))
    }

    /// The memo of the site.
    #[must_use]
    pub fn site_memo(&self) -> SiteMemo {
        let (next_aid, next_key) = (self.next_aid, self.next_key);
        SiteMemo {
            phase: self.site.phase(),
            next_aid,
            next_key,
        }
    }
}

#[cfg(test)]
mod tests;
