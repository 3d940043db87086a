//! Torture: one program that attacks a real site at random and checks it against a model. See
//! `docs/reliability.md`.
//!
//! Called by the programs `refrain-torture` and `victim` only. What the site is asked, it is asked as
//! any client does (the protocol of its socket, signals, `/proc`); nothing here may reach into the
//! controller.

pub mod act;
pub mod cast;
pub mod census;
pub mod commands;
pub mod coup;
pub mod dice;
pub mod fault;
pub mod interrupt;
pub mod link;
pub mod model;
pub mod plan;
pub mod record;
pub mod run;
pub mod settle;
pub mod stage;
pub mod tally;
