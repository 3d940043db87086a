//! The controller against SPEC part I, one decision at a time, and against the tables of
//! `docs/restart-states.md`.

mod kill;
mod restart;
mod rig;
mod running;
mod site;
mod table;
