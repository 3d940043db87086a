//! What happens to a site: the events that the controller decides on.

use refrain_abi::{ActorName, Aid, Gid, LifeNo};

use crate::Policy;

/// One registered actor, for as long as it is registered. Never used twice, so an event that
/// comes late can only miss, never hit another actor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ActorKey(pub u64);

/// Whoever waits for an answer; the daemon's own number, given back with the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// Who restarts an actor (SPEC vocabulary).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Run by the console, `sysadm.ini` or the embedding program; restarted by the controller.
    Direct,
    /// Spawned by a restartable actor; restarted when its spawner runs `hrfexec` again.
    Indirect,
    /// Run without a group; never restarted.
    Ordinary,
}

/// On whose behalf something is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Requester {
    /// The site's owner: console, `sysadm.ini`, the embedding program.
    Owner,
    /// A life of an actor; it commands only within its own group.
    Life {
        /// The actor.
        actor: ActorKey,
        /// Its life; a stale one is refused.
        life: LifeNo,
    },
}

/// What a kill is aimed at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The life with this aid; of a restartable actor, its whole group (SPEC H24).
    Aid(Aid),
    /// Every member of a group.
    Group(Gid),
}

/// How a site comes to its end (`shutdown -i`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HaltLevel {
    /// `-i 0`: actors are told (SIGTERM, then SIGKILL after the grace).
    Halt,
    /// `-i 2`: cold restart; persistent memory is discarded.
    Cold,
    /// `-i 3`: at once, nothing is told to the actors.
    Immediate,
}

/// The limits that the controller decides by (SPEC H27).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How many actors may be registered, ordinary ones included.
    pub max_actors: u32,
    /// How many groups there may be.
    pub max_groups: u32,
    /// How many restarts of one group within `interval_ms` are put up with.
    pub max_badness: u32,
    /// The interval, in milliseconds.
    pub interval_ms: u64,
}

/// Something that happened, or that somebody asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// `arun`, `arun -g` or `hrfexec` (SPEC H2 to H4).
    Run {
        /// Who is answered, with [`crate::Effect::Started`] or [`crate::Effect::Refused`].
        ticket: Ticket,
        /// The actor's name.
        name: ActorName,
        /// Its group; `None` runs it as an ordinary actor. Ignored for a requester that is a
        /// life: the group is the spawner's.
        gid: Option<Gid>,
        /// Who asks: the owner starts direct (or ordinary) actors, a life indirect ones.
        by: Requester,
        /// The policy of the group from now on, where the owner names one.
        policy: Option<Policy>,
    },
    /// The image is in memory and its template stands ([`crate::Effect::Load`] is carried out).
    Loaded {
        /// The actor.
        actor: ActorKey,
    },
    /// The image could not be loaded; nothing of it is left. The daemon has told the reason.
    LoadFailed {
        /// The actor.
        actor: ActorKey,
    },
    /// A life that was to begin could not be begun for good (its image is lost).
    BeginFailed {
        /// The actor.
        actor: ActorKey,
        /// The life.
        life: LifeNo,
    },
    /// A life has ended: its pidfd is readable, all its threads are gone.
    Ended {
        /// The actor.
        actor: ActorKey,
        /// The life; an event of an older one is ignored.
        life: LifeNo,
        /// Whether it had called the exit handler (SPEC H21).
        clean: bool,
        /// The code that it ended with, if it called exit and that is known. Only a group with codes of
        /// permanent failure asks for it ([`Policy::permanent`]).
        exit_code: Option<u8>,
        /// When, on any clock that does not go back, in milliseconds. A controller that is recalled goes
        /// on with the clock of the one before.
        at_ms: u64,
    },
    /// Nothing of a life is left: it has ended and every child it started has, too. Always comes
    /// after `Ended` of the same life, often at once. Only then may the next life begin.
    Gone {
        /// The actor.
        actor: ActorKey,
        /// The life.
        life: LifeNo,
    },
    /// The delay of a group is over ([`crate::Effect::Delay`]).
    DelayOver {
        /// The group.
        gid: Gid,
        /// The delay's end as it was asked for; that of another delay is ignored.
        until_ms: u64,
    },
    /// `akill` or `hrKillGroup` (SPEC H24). Answered with `Done` when everything is gone.
    Kill {
        /// Who is answered.
        ticket: Ticket,
        /// What to kill.
        target: Target,
        /// Tell the actors first (SIGTERM, SIGKILL after the grace) instead of SIGKILL at once.
        tidy: bool,
        /// Who asks; a life may only kill its own group.
        by: Requester,
    },
    /// `restart`, `shutdown -i 1`, `sysShutdown` (SPEC H26). Answered with `Done` when the site
    /// runs again.
    SiteRestart {
        /// Who is answered, if anybody waits.
        ticket: Option<Ticket>,
    },
    /// The boot actors are in their initial state and `sysadm.ini` was read again
    /// ([`crate::Effect::ResetBootActors`] is carried out).
    BootActorsReset,
    /// `shutdown -i 0`, `-i 2` or `-i 3`.
    Halt {
        /// How.
        level: HaltLevel,
    },
    /// After [`crate::Controller::recall`], when everything that has happened meanwhile is reported: makes
    /// good what effects of the last step were lost. A life that had begun for the controller and
    /// not in truth is begun by the daemon itself, or reported with `BeginFailed`.
    Adopted,
    /// At boot, before any other event: a registration found in the bank. It is not alive. A
    /// `SiteRestart` follows when all were given.
    Restore {
        /// The actor's name.
        name: ActorName,
        /// Its group.
        gid: Gid,
        /// `Direct` or `Indirect`.
        kind: Kind,
        /// The number of its last life; `None` when it never lived.
        last_life: Option<LifeNo>,
        /// How often it was restarted.
        restarts: u32,
        /// Whether its last life had terminated cleanly.
        clean: bool,
        /// The policy that its last run named for the group.
        policy: Option<Policy>,
    },
}
