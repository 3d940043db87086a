//! What the daemon must do: the effects of a decision, carried out in their order.

use core::fmt;

use refrain_abi::{ActorName, Aid, Gid, LifeNo};

use crate::{ActorKey, HaltLevel, Kind, Reason, Ticket};

/// How a life is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopHow {
    /// SIGKILL.
    Kill,
    /// SIGTERM, then SIGKILL after the grace (`hr_ctrl.grace`).
    Tidy,
}

/// Why a request is refused. Displayed as one line that names the thing and the cure.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// The name belongs to an actor of another group, or to an ordinary one.
    NameTaken {
        /// The name.
        name: ActorName,
        /// The group it is registered in; `None`: an ordinary actor.
        gid: Option<Gid>,
    },
    /// An actor of that name is alive, being loaded or about to begin.
    Alive {
        /// The name.
        name: ActorName,
        /// Its aid, when it has one.
        aid: Option<Aid>,
    },
    /// `hr_ctrl.max_actors` are registered.
    TooManyActors {
        /// The limit.
        limit: u32,
    },
    /// There are `hr_ctrl.max_groups` groups.
    TooManyGroups {
        /// The limit.
        limit: u32,
    },
    /// No life has this aid now: there never was one, or it has ended.
    NoSuchAid {
        /// The aid.
        aid: Aid,
        /// Whether a life once had it.
        stale: bool,
    },
    /// No such group.
    NoSuchGroup {
        /// The gid.
        gid: Gid,
    },
    /// A life asks for something outside its own group.
    NotYourGroup {
        /// The group it asked for.
        gid: Gid,
    },
    /// The asking life has ended or is being stopped.
    StaleLife,
    /// An ordinary actor uses the hot-restart API (SPEC H2).
    NotRestartable,
    /// The group is being stopped or killed; ask again when it is done.
    GroupStopping {
        /// The gid.
        gid: Gid,
    },
    /// The site is being restarted or halted.
    SiteStopping,
    /// The group was killed, restarted away or the site halted before the life began.
    Cancelled,
}

/// Something for the daemon to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// A new actor is registered under this key: load its image, build its template, then report
    /// `Loaded` or `LoadFailed`. The program to load is what the daemon kept for the ticket.
    Load {
        /// The actor.
        actor: ActorKey,
        /// The request it comes from.
        ticket: Ticket,
        /// Its name.
        name: ActorName,
        /// Its group, `None` for an ordinary actor.
        gid: Option<Gid>,
        /// Direct, indirect or ordinary.
        kind: Kind,
    },
    /// Begin a life from the executing image. On the restart path these come first.
    Begin {
        /// The actor.
        actor: ActorKey,
        /// The number of the life.
        life: LifeNo,
        /// Its aid.
        aid: Aid,
        /// The request it answers; `None` in a restart. The arguments of this life are those of
        /// that request, else those of the life before.
        ticket: Option<Ticket>,
    },
    /// Stop a life; its end is reported as `Ended` and `Gone` like any other.
    Stop {
        /// The actor.
        actor: ActorKey,
        /// The life.
        life: LifeNo,
        /// How.
        how: StopHow,
    },
    /// Deregister: drop image, template and standby; the name is free.
    Forget {
        /// The actor.
        actor: ActorKey,
    },
    /// The group has terminated (SPEC H22): free its `HR_GROUP_KEY` blocks. Its members'
    /// `Forget`s come before.
    GroupTerminated {
        /// The gid.
        gid: Gid,
    },
    /// A request is answered: the life has begun.
    Started {
        /// The request.
        ticket: Ticket,
        /// The life's aid.
        aid: Aid,
    },
    /// A request is answered: it was carried out.
    Done {
        /// The request.
        ticket: Ticket,
    },
    /// A request is answered: it is refused.
    Refused {
        /// The request.
        ticket: Ticket,
        /// Why.
        why: Refusal,
    },
    /// A member failed and its group is being restarted (for the log; after the effects above).
    GroupRestarts {
        /// The gid.
        gid: Gid,
        /// The member that failed.
        failed: ActorKey,
        /// The group's badness, this restart included.
        badness: u32,
    },
    /// No life of the group is left and its restart waits: report `DelayOver` at this time (SPEC H33).
    Delay {
        /// The gid.
        gid: Gid,
        /// The end of the delay, on the clock of [`crate::Event::Ended`], in milliseconds; it may be past.
        until_ms: u64,
        /// How long the delay is, counted from the failure, in milliseconds.
        delay_ms: u64,
        /// Which attempt since the last healthy run the restart will be, from 1.
        attempt: u32,
    },
    /// The group is stopped and not restarted (SPEC H33): print [`crate::gave_up_message`].
    GaveUp {
        /// The gid.
        gid: Gid,
        /// The member that failed.
        failed: ActorKey,
        /// The group's badness, this failure included.
        badness: u32,
        /// Why.
        reason: Reason,
    },
    /// Print [`blocked_message`] (SPEC H23).
    Blocked {
        /// The gid.
        gid: Gid,
        /// The members that have not terminated, by name.
        names: Vec<ActorName>,
    },
    /// The badness of a group has passed its limit: a site restart follows (SPEC H26).
    BadnessPassed {
        /// The gid.
        gid: Gid,
        /// Its badness.
        badness: u32,
    },
    /// Every life is gone: bring the boot actors to their initial state and read `sysadm.ini`
    /// again, ignoring its starts of restartable actors, then report `BootActorsReset`.
    ResetBootActors,
    /// Every life is gone and the site is to end.
    Halted {
        /// How.
        level: HaltLevel,
    },
}

/// The exact text that SPEC H23 asks for.
#[must_use]
pub fn blocked_message(gid: Gid, names: &[ActorName]) -> String {
    let names: Vec<_> = names.iter().map(ActorName::as_str).collect();
    format!(
        "HR_CTRL: group {gid} blocked, some members have not terminated: {}",
        names.join(" ")
    )
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NameTaken {
                name,
                gid: Some(gid),
            } => write!(
                f,
                "{name}: the name is registered in group {gid}; choose another with -n NAME"
            ),
            Self::NameTaken { name, gid: None } => write!(
                f,
                "{name}: the name is in use by an ordinary actor; choose another with -n NAME"
            ),
            Self::Alive {
                name,
                aid: Some(aid),
            } => {
                write!(
                    f,
                    "{name}: already alive (aid {aid}); kill it first or choose another name with -n NAME"
                )
            }
            Self::Alive { name, aid: None } => {
                write!(
                    f,
                    "{name}: already being started; wait, or choose another name with -n NAME"
                )
            }
            Self::TooManyActors { limit } => {
                write!(
                    f,
                    "{limit} actors are registered already; raise hr_ctrl.max_actors"
                )
            }
            Self::TooManyGroups { limit } => {
                write!(f, "{limit} groups exist already; raise hr_ctrl.max_groups")
            }
            Self::NoSuchAid { aid, stale: true } => {
                write!(
                    f,
                    "aid {aid}: that life has ended; aps shows the lives of now"
                )
            }
            Self::NoSuchAid { aid, stale: false } => {
                write!(f, "aid {aid}: no such actor; aps shows the lives of now")
            }
            Self::NoSuchGroup { gid } => write!(f, "group {gid}: no such group; aps shows them"),
            Self::NotYourGroup { gid } => {
                write!(
                    f,
                    "group {gid}: an actor commands only within its own group"
                )
            }
            Self::StaleLife => f.write_str("the life that asks has ended"),
            Self::NotRestartable => f.write_str(
                "an ordinary actor may not use the hot-restart API; run it with arun -g GID",
            ),
            Self::GroupStopping { gid } => {
                write!(f, "group {gid} is being stopped; try again when it has")
            }
            Self::SiteStopping => {
                f.write_str("the site is being restarted or halted; try again when it has")
            }
            Self::Cancelled => f.write_str("the group was stopped before the life began"),
        }
    }
}

impl std::error::Error for Refusal {}
