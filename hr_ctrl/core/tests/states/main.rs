//! The controller against SPEC part I, one decision at a time, and against the tables of
//! `docs/restart-states.md`.

mod adopt;
mod kill;
mod policy;
mod restart;
mod rig;
mod running;
mod site;
mod table;
