//! The decisions of HR_CTRL (SPEC part I): a pure function from state and event to effects.
//!
//! Nothing here knows a clock, an fd or a thread. The daemon feeds [`Event`]s one at a time to
//! [`Controller::step`] and carries out the [`Effect`]s in their order. The state machine is told
//! in words in `docs/restart-states.md`; the code says the same.
//!
//! ```
//! use hr_ctrl_core::{Controller, Effect, Event, Limits, Requester, Ticket};
//! use refrain_abi::{ActorName, Aid, Gid, LifeNo};
//!
//! let limits = Limits { max_actors: 8, max_groups: 2, max_badness: 5, interval_ms: 10_000 };
//! let mut controller = Controller::new(limits, Aid(1));
//! let name = ActorName::new("redis-server")?;
//! let (ticket, by) = (Ticket(1), Requester::Owner);
//! let effects = controller.step(Event::Run { ticket, name, gid: Some(Gid(1)), by, policy: None });
//! let [Effect::Load { actor, .. }] = effects[..] else { panic!("a new name is loaded") };
//! let effects = controller.step(Event::Loaded { actor });
//! let life = LifeNo(0);
//! let begin = Effect::Begin { actor, life, aid: Aid(1), ticket: Some(ticket) };
//! assert_eq!(effects, [begin, Effect::Started { ticket, aid: Aid(1) }]);
//!
//! // It faults; when nothing of the life is left, the next one begins.
//! let (clean, exit_code, at_ms) = (false, None, 0);
//! let effects = controller.step(Event::Ended { actor, life, clean, exit_code, at_ms });
//! let restarts = Effect::GroupRestarts { gid: Gid(1), failed: actor, badness: 1 };
//! assert_eq!(effects, [restarts]);
//! let effects = controller.step(Event::Gone { actor, life });
//! let begin = Effect::Begin { actor, life: life.next(), aid: Aid(2), ticket: None };
//! assert_eq!(effects, [begin]);
//! # Ok::<(), refrain_abi::NameError>(())
//! ```
#![forbid(unsafe_code)]

mod actor;
mod adopt;
mod changes;
mod controller;
mod effect;
mod event;
mod group;
mod kill;
mod life;
mod memo;
mod policy;
mod run;
mod site;
mod state;

pub use changes::Changed;
pub use controller::Controller;
pub use effect::{Effect, Refusal, StopHow, blocked_message};
pub use event::{ActorKey, Event, HaltLevel, Kind, Limits, Requester, Target, Ticket};
pub use memo::{ActorMemo, GroupMemo, SiteMemo};
pub use policy::{ExitCodes, GiveUp, Policy, Reason, gave_up_message};
pub use state::{ActorState, ActorView, GroupState, GroupView};
