//! Supervisor actors: restartable actors inside the controller's own process. A life costs an object, not a
//! Linux process, and begins within microseconds; what it cannot be is isolated.
//!
//! [`crate::site::Site::supervise`] registers one: any actix actor, made afresh for each life by a *factory*.
//! From there on it is an actor like any other: HR_CTRL's core decides about it by the same events and effects
//! ([`crate::engine`]), and does not know which kind it is.
//!
//! | file | holds | lives on |
//! | --- | --- | --- |
//! | `slot.rs` | the life that runs: polls it, catches its panics, drops it | the actor's arbiter |
//! | `mailbox.rs`, `address.rs` | what waits for it, whoever runs | any thread |
//! | `life.rs` | who a life is, and its calls | any thread |
//! | `together.rs` | how a group restarts in place, and is booked afterwards | both |
//! | `panics.rs` | what a panic said | |
//! | `host.rs` | what HR_CTRL holds of a slot; arbiters | HR_CTRL's thread |
//!
//! A fault that no unwinding catches (SIGSEGV, an abort, a stack that overflows) ends the process, and with it
//! every supervisor actor: it is the failure of the controller, or of the program that embeds it. A handler
//! that does not come back keeps its arbiter for ever: nothing can end it. `docs/supervisor-actors.md`.

mod address;
mod host;
mod life;
mod mailbox;
mod panics;
mod register;
mod slot;
mod together;

pub use address::SupervisedAddr;
pub(crate) use host::{Arbiters, Host};
pub use life::Life;
pub(crate) use life::{Credentials, LifeShared};
pub(crate) use slot::Command;
pub(crate) use together::{AHEAD, Done, Together};

use actix_rt::ArbiterHandle;
use refrain_abi::{Gid, PolicyParts};

/// What becomes of messages to an actor between two of its lives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhileRestarting {
    /// They wait in the mailbox, and the next life handles them.
    #[default]
    Wait,
    /// Whoever sends one is told [`SendError::Restarting`]; what had been waiting is [`SendError::Lost`].
    Refuse,
}

/// Which thread an actor's lives run on.
#[derive(Clone, Debug, Default)]
pub enum On {
    /// One arbiter for all members of the group that say so, ended with them. Such a group restarts in place,
    /// without a word to HR_CTRL before.
    #[default]
    Group,
    /// An arbiter of its own, ended with it.
    Own,
    /// This one.
    Arbiter(ArbiterHandle),
}

/// Why a message to a supervisor actor was not delivered, or not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// Between two lives, where the actor was registered so.
    #[error(
        "the actor is being restarted; send it again, or register it with WhileRestarting::Wait"
    )]
    Restarting,
    /// The mailbox is full.
    #[error(
        "{limit} messages wait for the actor already; send fewer at a time, or raise its capacity"
    )]
    Full {
        /// How many messages it holds.
        limit: usize,
    },
    /// The life that took the message has ended before it answered.
    #[error("the life that took the message ended before it answered")]
    Lost,
    /// The actor is not registered any more.
    #[error("the actor is not registered any more; register it again with supervise")]
    Gone,
}

/// How a supervisor actor is registered.
///
/// ```
/// use hr_ctrl::supervise::{On, Supervise, WhileRestarting};
/// use refrain_abi::Gid;
///
/// let counter = Supervise::new("counter", Gid(7))
///     .on(On::Own)
///     .while_restarting(WhileRestarting::Refuse)
///     .capacity(64);
/// # drop(counter);
/// ```
#[derive(Clone, Debug)]
pub struct Supervise {
    pub(crate) name: String,
    pub(crate) gid: Gid,
    pub(crate) on: On,
    pub(crate) while_restarting: WhileRestarting,
    pub(crate) capacity: usize,
    pub(crate) policy: Option<PolicyParts>,
}

impl Supervise {
    /// How many messages wait at most, where nothing else is said.
    pub const CAPACITY: usize = 1024;

    /// An actor of this name in this group, with the group's arbiter, a mailbox of [`Supervise::CAPACITY`]
    /// messages that waits, and the policy that the group has.
    #[must_use]
    pub fn new(name: &str, gid: Gid) -> Self {
        Self {
            name: name.to_owned(),
            gid,
            on: On::default(),
            while_restarting: WhileRestarting::default(),
            capacity: Self::CAPACITY,
            policy: None,
        }
    }

    /// Which thread its lives run on.
    #[must_use]
    pub fn on(mut self, on: On) -> Self {
        self.on = on;
        self
    }

    /// What becomes of messages between two lives.
    #[must_use]
    pub fn while_restarting(mut self, choice: WhileRestarting) -> Self {
        self.while_restarting = choice;
        self
    }

    /// How many messages wait at most.
    #[must_use]
    pub fn capacity(mut self, messages: usize) -> Self {
        self.capacity = messages;
        self
    }

    /// The restart policy of the group from now on (SPEC H33).
    #[must_use]
    pub fn policy(mut self, policy: PolicyParts) -> Self {
        self.policy = Some(policy);
        self
    }
}
