//! C_INIT: the interpreter of a site's commands, and the programs that talk to it.
//!
//! The crate has two sides. *Inside* a site, hr_ctrl is given [`factory`] and so every source of
//! commands, the console, `sysadm.ini` and remote sessions, goes through one [`interpreter`]
//! (SPEC C1). *Outside*, [`program::main`] starts a site or gives commands to one that runs, and
//! [`applet::main`] is every command as a program of its own (SPEC C3). Both sides share one
//! definition of each command's flags, in [`commands`]. [`bank`] and [`doctor`] need no site at all.
//!
//! Nothing here decides what happens to an actor: that is asked of the site.
#![forbid(unsafe_code)]

pub mod applet;
pub mod bank;
mod client;
pub mod commands;
pub mod config;
mod console;
pub mod doctor;
pub mod interpreter;
mod lines;
mod multicall;
pub mod policy;
pub mod program;
mod table;
#[cfg(test)]
mod talk;
pub mod words;

pub use interpreter::factory;
pub use multicall::main;

/// Done.
pub const DONE: i32 = 0;
/// The command failed.
pub const FAILED: i32 = 1;
/// Wrong usage.
pub const USAGE: i32 = 2;
/// No such site.
pub const NO_SITE: i32 = 3;
/// The command was given up (Ctrl-C), as a shell counts it.
pub const INTERRUPTED: i32 = 130;
