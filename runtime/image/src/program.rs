//! What an actor runs: an image, and everything that is the same in each of its lives (SPEC H9:
//! "with its initial arguments and environment").
//!
//! Made by the controller at `arun` and `hrfexec`, kept for as long as the actor is registered. Must
//! never change between two lives.

use std::ffi::CString;
use std::path::PathBuf;
use std::sync::Arc;

use refrain_abi::ActorName;
use refrain_sys::user::Credentials;

use crate::Image;

/// A program with its settings.
#[derive(Clone, Debug)]
pub struct Program {
    /// The actor's name.
    pub name: ActorName,
    /// What is executed.
    pub image: Arc<Image>,
    /// Its arguments, `argv[0]` included, as they were given: what a script's interpreter needs is
    /// added by the template.
    pub argv: Vec<CString>,
    /// Its environment, as `NAME=value`.
    pub envp: Vec<CString>,
    /// Its working directory.
    pub cwd: PathBuf,
    /// Its umask; `None` for the controller's.
    pub umask: Option<u32>,
    /// Its resource limits: RLIMIT number, soft, hard.
    pub rlimits: Vec<(u32, u64, u64)>,
    /// Its nice value; `None` for the controller's.
    pub nice: Option<i32>,
    /// Whose rights it has; `None` for the controller's.
    pub credentials: Option<Credentials>,
    /// Whether nothing it executes gives it more rights.
    pub no_new_privs: bool,
    /// Whether each template gets an address layout of its own (`layout = fresh`).
    pub fresh_layout: bool,
    /// Whether its lives have handlers of faults.
    pub fault_handlers: bool,
}
