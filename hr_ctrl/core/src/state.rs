//! What the controller shows of its actors and groups: for `aps`, the catalogue and the log.
//!
//! Built on demand from the tables of [`crate::Controller`]. Nothing is decided by these values.

use refrain_abi::{ActorName, Aid, Gid, LifeNo};

use crate::{ActorKey, GiveUp, Kind};

/// Where an actor is in its states (`docs/restart-states.md`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ActorState {
    /// Its image is being loaded; it has never lived.
    Loading,
    /// A life runs.
    Running,
    /// A life was told to stop and has not ended yet.
    Stopping,
    /// A life has ended, but something that it started has not.
    Ending,
    /// No life. It waits for its spawner (indirect), or for its group's or the site's restart.
    Waiting,
    /// No life. The last one terminated cleanly (SPEC H21).
    Clean,
    /// No life. The last one failed and waits for the group's restart, or it could not begin.
    Failed,
    /// No life. Its group is not restarted any more (SPEC H33).
    Stopped,
}

impl ActorState {
    /// Every state, in the order in which an actor usually meets them.
    pub const ALL: [Self; 8] = [
        Self::Loading,
        Self::Running,
        Self::Stopping,
        Self::Ending,
        Self::Waiting,
        Self::Clean,
        Self::Failed,
        Self::Stopped,
    ];

    /// The word that `aps` shows.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Loading => "loading",
            Self::Running => "running",
            Self::Stopping => "stopping",
            Self::Ending => "ending",
            Self::Waiting => "waiting",
            Self::Clean => "clean",
            Self::Failed => "failed",
            Self::Stopped => "stopped",
        }
    }

    /// Whether a life has begun whose last remains are not gone yet.
    #[must_use]
    pub fn is_alive(self) -> bool {
        matches!(self, Self::Running | Self::Stopping | Self::Ending)
    }
}

/// One registered actor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ActorView<'a> {
    /// Its key.
    pub key: ActorKey,
    /// Its name.
    pub name: &'a ActorName,
    /// Its group, `None` for an ordinary actor.
    pub gid: Option<Gid>,
    /// Direct, indirect or ordinary.
    pub kind: Kind,
    /// Its state.
    pub state: ActorState,
    /// The number of the life it has or last had; `None` when it never lived.
    pub life: Option<LifeNo>,
    /// The id of the life it has, until that life is gone.
    pub aid: Option<Aid>,
    /// How many of its lives were begun by a restart of its group or of the site.
    pub restarts: u32,
    /// Whether its last life terminated cleanly; false while one runs.
    pub terminated_clean: bool,
}

/// Where a group is in its states (`docs/restart-states.md`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum GroupState {
    /// Nothing is being done to the group as a whole.
    Steady,
    /// A member failed: the others are stopping, then the direct ones begin again.
    Restarting,
    /// A member failed, nobody is alive, and the direct ones begin when a delay is over (SPEC H33).
    Delayed,
    /// A member failed, the others are stopping, and nothing begins again.
    GivingUp,
    /// It is not restarted any more; a member begins when it is run by hand (SPEC H33).
    Stopped,
    /// It was killed and is forgotten once everything is gone.
    Killing,
    /// No member is alive and some have not terminated (SPEC H23).
    Blocked,
}

impl GroupState {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Steady => "steady",
            Self::Restarting => "restarting",
            Self::Delayed => "delayed",
            Self::GivingUp => "giving up",
            Self::Stopped => "stopped",
            Self::Killing => "killing",
            Self::Blocked => "blocked",
        }
    }
}

/// One restart group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupView {
    /// The gid.
    pub gid: Gid,
    /// Its state.
    pub state: GroupState,
    /// How many actors are registered in it.
    pub members: usize,
    /// How many of them are alive ([`ActorState::is_alive`]).
    pub alive: usize,
    /// Its badness, as counted at its last failure.
    pub badness: u32,
    /// Failures since its last healthy run (SPEC H33), as counted at the last one.
    pub attempts: u32,
    /// How long the restart that goes on waits, or the last one did, in milliseconds.
    pub delay_ms: u64,
    /// When its delay is over, on the clock of [`crate::Event::Ended`], in milliseconds.
    pub delayed_until_ms: Option<u64>,
    /// Why it was given up.
    pub gave_up: Option<GiveUp>,
}
