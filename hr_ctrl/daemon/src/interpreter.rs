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
    /// hr_ctrl was started again, and what ran goes on (SPEC H31): of the lines before `from`, counted from
    /// 1, those that set something in the interpreter; from there on all of them. `None`: there is no line
    /// that was not carried out.
    Adopt {
        /// The line that was being carried out when hr_ctrl ended: it may have been.
        from: Option<u32>,
    },
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
    /// commands failed; a file that cannot be read counts as one. `reached` is told the number of each line
    /// of the file before it is carried out, but of none that an hr_ctrl before has carried out.
    fn read_ini<'a>(
        &'a self,
        session: &'a Session,
        file: &'a Path,
        mode: IniMode,
        reached: &'a dyn Fn(u32),
    ) -> LocalBoxFuture<'a, u32>;
}

/// Makes the interpreter of a site, anew at each site restart.
pub type InterpreterFactory = Box<dyn Fn(Site) -> Rc<dyn Interpreter>>;
