//! Supervisor actors: restartable actors in the controller's own process, with real panics.
//!
//! The sites are embedded in the test: that is how a program gets supervisor actors. Every wait is for a
//! condition.
#![allow(clippy::unwrap_used)] // in the helpers of tests, too

#[path = "supervise/cast.rs"]
mod cast;
#[path = "supervise/ends.rs"]
mod ends;
#[path = "supervise/groups.rs"]
mod groups;
#[path = "supervise/mail.rs"]
mod mail;
#[path = "supervise/memory.rs"]
mod memory;
#[path = "supervise/trio.rs"]
mod trio;
