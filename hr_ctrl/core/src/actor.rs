//! One registered actor, as the controller's tables hold it.
//!
//! Its [`Phase`] is what the rest of the crate decides by. Only `run.rs` (loads), `life.rs`
//! (lives) and the restarts of `group.rs` change it, so that the counters of group and site,
//! which are kept beside it, cannot drift.

use refrain_abi::{ActorName, Aid, Gid, LifeNo};

use crate::{ActorKey, ActorState, ActorView, Kind, StopHow, Ticket};

/// How a life ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It had called the exit handler.
    Clean,
    /// It had not: this provokes a restart.
    Failed,
    /// It was told to stop, so however it ended says nothing about it.
    Stopped,
}

/// Where an actor is. A life exists from `Running` to the end of `Ended`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The daemon loads its image. `orphaned`: whoever asked for it is gone with a restart.
    Loading { orphaned: bool },
    /// A life runs.
    Running,
    /// A life was told to stop, in this way at last.
    Stopping(StopHow),
    /// A life has ended and is not gone.
    Ended(Verdict),
    /// No life; stands ready in its image.
    Waiting,
    /// No life; the last one terminated cleanly.
    Clean,
    /// No life; the last one failed or could not begin.
    Failed,
}

impl Phase {
    pub fn state(self) -> ActorState {
        match self {
            Self::Loading { .. } => ActorState::Loading,
            Self::Running => ActorState::Running,
            Self::Stopping(_) => ActorState::Stopping,
            Self::Ended(_) => ActorState::Ending,
            Self::Waiting => ActorState::Waiting,
            Self::Clean => ActorState::Clean,
            Self::Failed => ActorState::Failed,
        }
    }
}

/// One registered actor.
#[derive(Clone, Debug)]
pub(crate) struct Actor {
    pub name: ActorName,
    pub gid: Option<Gid>,
    pub kind: Kind,
    pub phase: Phase,
    pub life: Option<LifeNo>,
    pub aid: Option<Aid>,
    pub restarts: u32,
    /// The request whose load or first life is outstanding.
    pub ticket: Option<Ticket>,
    /// A second request for an orphaned load: it takes the image that the first one asked for.
    pub rider: Option<Ticket>,
    /// Whoever killed this ordinary actor; a group keeps those who killed it itself.
    pub kill_tickets: Vec<Ticket>,
    /// See [`crate::changes`].
    pub noted_in: u64,
}

impl Actor {
    pub fn new(name: ActorName, gid: Option<Gid>, kind: Kind, phase: Phase) -> Self {
        Self {
            name,
            gid,
            kind,
            phase,
            life: None,
            aid: None,
            restarts: 0,
            ticket: None,
            rider: None,
            kill_tickets: Vec::new(),
            noted_in: 0,
        }
    }

    pub fn is_loading(&self) -> bool {
        matches!(self.phase, Phase::Loading { .. })
    }

    pub fn is_alive(&self) -> bool {
        self.state().is_alive()
    }

    /// Whether this is its life, and one that may still ask for something.
    pub fn may_ask(&self, life: LifeNo) -> bool {
        self.life == Some(life) && self.phase == Phase::Running
    }

    pub fn state(&self) -> ActorState {
        self.phase.state()
    }

    pub fn view(&self, key: ActorKey) -> ActorView<'_> {
        ActorView {
            key,
            name: &self.name,
            gid: self.gid,
            kind: self.kind,
            state: self.state(),
            life: self.life,
            aid: self.aid,
            restarts: self.restarts,
            terminated_clean: matches!(self.phase, Phase::Clean | Phase::Ended(Verdict::Clean)),
        }
    }
}
