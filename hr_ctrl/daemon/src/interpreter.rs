//! The seam between C_INIT, the boot actor that holds sessions, and the command interpreter that
//! it is given. `c_init` implements [`Interpreter`]; a site restart makes a fresh one.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use futures_util::future::LocalBoxFuture;
use refrain_abi::session::FromSite;

use crate::site::Site;

/// One command, from any source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// As it was typed.
    Line(String),
    /// Already split into words.
    Words(Vec<String>),
}

/// Which lines of `sysadm.ini` are carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IniMode {
    /// All of them: the site starts.
    Start,
    /// All but the starts of restartable actors: the site restarts (SPEC H25).
    Restart,
}

/// Where a command comes from, where its relative paths start, and where its output goes.
#[derive(Clone)]
pub struct Session {
    cwd: PathBuf,
    sink: Rc<dyn Fn(FromSite)>,
    attach: Rc<dyn Fn()>,
}

impl Session {
    /// A session whose output goes to `sink`; `attach` makes it the site's console.
    pub fn new(cwd: PathBuf, sink: Rc<dyn Fn(FromSite)>, attach: Rc<dyn Fn()>) -> Self {
        Self { cwd, sink, attach }
    }

    /// Where relative paths start.
    #[must_use]
    pub fn cwd(&self) -> &Path {
        &self.cwd
    }

    /// Text for stdout, line ends included.
    pub fn out(&self, text: impl Into<String>) {
        (self.sink)(FromSite::Out(text.into()));
    }

    /// One line for stderr, without its line end.
    pub fn err(&self, line: impl Into<String>) {
        (self.sink)(FromSite::Err(line.into()));
    }

    /// From now on the output of actors and the messages of boot actors come to this session
    /// (the command `console`).
    pub fn attach_console(&self) {
        (self.attach)();
    }
}

/// A command interpreter. It lives on one thread and may be asked by many sessions at a time; a
/// command that waits must not hold up another session's.
pub trait Interpreter {
    /// Carries out one command and answers its exit code (DESIGN section 7). Errors are one line
    /// each, `c_init: ...`. Dropping the future gives the command up.
    fn execute<'a>(&'a self, session: &'a Session, input: Input) -> LocalBoxFuture<'a, i32>;

    /// Reads `sysadm.ini`; errors are one line each, `FILE:LINE: ...`. Answers how many of its
    /// commands failed; a file that cannot be read counts as one.
    fn read_ini<'a>(
        &'a self,
        session: &'a Session,
        file: &'a Path,
        mode: IniMode,
    ) -> LocalBoxFuture<'a, u32>;
}

/// Makes the interpreter of a site, anew at each site restart.
pub type InterpreterFactory = Box<dyn Fn(Site) -> Rc<dyn Interpreter>>;
