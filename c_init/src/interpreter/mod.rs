//! The interpreter of commands (SPEC C1): every source of commands, the console, `sysadm.ini`,
//! programs like `arun`, remote sessions, goes through this one.
//!
//! hr_ctrl's boot actor C_INIT calls it, by the seam in `hr_ctrl::interpreter`; a site restart
//! drops it and makes a fresh one, which is how its environment, mask and limits are reset
//! (SPEC H25). It runs on one thread for many sessions and must never hold a borrow of its state
//! across an await.

pub(crate) mod script;
mod state;

use std::cell::{Cell, Ref, RefCell, RefMut};
use std::path::Path;
use std::rc::Rc;

use futures_util::future::LocalBoxFuture;
use hr_ctrl::interpreter::{IniMode, Input, Interpreter, InterpreterFactory, Session};
use hr_ctrl::site::Site;

use crate::commands::{self, CommandError, Flow, Outcome, Verb, rshd};
use crate::words;

pub use state::State;

/// The longest command line, in bytes.
pub const MAX_LINE: usize = 64 << 10;
/// How deep files may `source` each other; one that sources itself ends here.
const MAX_DEPTH: u32 = 16;
/// How many files one command may `source`, through others as well: without this bound, sixteen files that
/// name the next one ten times each would never end.
const MAX_FILES: u32 = 256;

/// The interpreter of a site.
pub struct CInit {
    shared: Rc<Shared>,
}

/// What the interpreter and its `rshd` connections share.
pub(crate) struct Shared {
    site: Option<Site>,
    state: RefCell<State>,
    pub(crate) rshd: rshd::Slot,
}

impl CInit {
    /// The interpreter of `site`, with the environment that the site was started with.
    #[must_use]
    pub fn new(site: Site) -> Self {
        let mut state = State::new(site.boot().env.clone());
        state
            .limits
            .extend(crate::commands::limits::inherited_nofile());
        Self::with(Some(site), state)
    }

    /// An interpreter without a site: it knows every command, and refuses those that need one.
    #[must_use]
    pub fn without_site(env: Vec<(String, String)>) -> Self {
        Self::with(None, State::new(env))
    }

    fn with(site: Option<Site>, state: State) -> Self {
        let state = RefCell::new(state);
        Self {
            shared: Rc::new(Shared {
                site,
                state,
                rshd: rshd::Slot::default(),
            }),
        }
    }
}

impl Drop for CInit {
    fn drop(&mut self) {
        self.shared.rshd.close();
    }
}

/// Makes the interpreter of a site, for `hr_ctrl::controller::main`.
#[must_use]
pub fn factory() -> InterpreterFactory {
    Box::new(|site| Rc::new(CInit::new(site)))
}

impl Interpreter for CInit {
    fn execute<'a>(&'a self, session: &'a Session, input: Input) -> LocalBoxFuture<'a, i32> {
        Box::pin(async move {
            match input {
                Input::Line(line) => self.shared.command_line(session, &line).await.0,
                Input::Words(words) => {
                    let cx = Context::new(&self.shared, session, None);
                    cx.report("c_init", run_words(&cx, &words).await).0
                }
            }
        })
    }

    fn read_ini<'a>(
        &'a self,
        session: &'a Session,
        file: &'a Path,
        mode: IniMode,
        reached: &'a dyn Fn(u32),
    ) -> LocalBoxFuture<'a, u32> {
        Box::pin(async move {
            let cx = Context::new(&self.shared, session, Some(mode));
            match script::run_ini(&cx, file, mode, reached).await {
                Ok(failed) => failed,
                Err(why) => {
                    cx.report(&file.display().to_string(), Err(CommandError::failed(why)));
                    1
                }
            }
        })
    }
}

impl Shared {
    /// Carries out one line of a session; answers its exit code and whether the session goes on.
    pub(crate) async fn command_line(
        self: &Rc<Self>,
        session: &Session,
        line: &str,
    ) -> (i32, Flow) {
        let cx = Context::new(self, session, None);
        let outcome = if line.len() > MAX_LINE {
            Err(CommandError::Usage(format!(
                "a line is at most {MAX_LINE} bytes long"
            )))
        } else {
            run_line(&cx, line).await
        };
        cx.report("c_init", outcome)
    }
}

/// Where a command is carried out: for whom, from which file, how deep.
#[derive(Clone)]
pub(crate) struct Context<'a> {
    shared: &'a Rc<Shared>,
    session: &'a Session,
    depth: u32,
    /// How many files were sourced, by the command that began this and by all below it.
    files: Rc<Cell<u32>>,
    ini: Option<IniMode>,
    /// The line of `sysadm.ini`, from 1; 0 when this is something else.
    line: u32,
}

impl<'a> Context<'a> {
    fn new(shared: &'a Rc<Shared>, session: &'a Session, ini: Option<IniMode>) -> Self {
        Self {
            shared,
            session,
            depth: 0,
            files: Rc::default(),
            ini,
            line: 0,
        }
    }

    /// The context of a file that this one sources.
    pub(crate) fn deeper(&self) -> Result<Self, CommandError> {
        if self.depth == MAX_DEPTH {
            self.files.set(MAX_FILES + 1);
            return Err(CommandError::Failed(format!(
                "files source each other more than {MAX_DEPTH} deep; does one source itself?"
            )));
        }
        if self.files.get() >= MAX_FILES {
            self.files.set(MAX_FILES + 1);
            return Err(CommandError::Failed(format!(
                "more than {MAX_FILES} files by one command; do they source each other?"
            )));
        }
        self.files.set(self.files.get() + 1);
        Ok(Self {
            depth: self.depth + 1,
            ..self.clone()
        })
    }

    /// The context of one line of a file. What the file sources belongs to the same line.
    fn of_line(&self, ini: Option<IniMode>, line: u32) -> Self {
        if self.depth > 0 {
            return Self {
                ini,
                ..self.clone()
            };
        }
        Self {
            ini,
            line,
            files: Rc::default(),
            ..self.clone()
        }
    }

    /// Whether a command is to be carried out where it stands.
    async fn takes(&self, verb: &Verb) -> bool {
        match self.ini {
            None | Some(IniMode::Start) => true,
            // The controller itself starts what is registered (SPEC H25).
            Some(IniMode::Restart) => !matches!(verb, Verb::Arun(arun) if arun.gid.is_some()),
            Some(IniMode::Adopt { from }) if from == Some(self.line) => match verb {
                // It runs, if that was done before the hr_ctrl before ended.
                Verb::Arun(arun) => !arun.is_known(self).await,
                _ => true,
            },
            Some(IniMode::Adopt { .. }) => verb.sets_something(),
        }
    }

    /// Whether too many files were sourced: then none of them goes on.
    pub(crate) fn is_given_up(&self) -> bool {
        self.depth > 0 && self.files.get() > MAX_FILES
    }

    pub(crate) fn site(&self) -> Result<&'a Site, CommandError> {
        let site = self.shared.site.as_ref();
        site.ok_or_else(|| CommandError::failed("there is no site here; start one with c_init"))
    }

    pub(crate) fn shared(&self) -> &'a Rc<Shared> {
        self.shared
    }

    pub(crate) fn session(&self) -> &'a Session {
        self.session
    }

    /// How `sysadm.ini` is read; `None` when this is something else.
    pub(crate) fn ini(&self) -> Option<IniMode> {
        self.ini
    }

    pub(crate) fn state(&self) -> Ref<'_, State> {
        self.shared.state.borrow()
    }

    pub(crate) fn state_mut(&self) -> RefMut<'_, State> {
        self.shared.state.borrow_mut()
    }

    pub(crate) fn close_rshd(&self) {
        self.shared.rshd.close();
    }

    pub(crate) fn out(&self, text: String) {
        if !text.is_empty() {
            self.session.out(text);
        }
    }

    /// Says on one line, with `origin` in front, what went wrong; answers the exit code.
    fn report(&self, origin: &str, outcome: Outcome) -> (i32, Flow) {
        match outcome {
            Ok(flow) => (crate::DONE, flow),
            Err(error) => {
                if let CommandError::Usage(what) | CommandError::Failed(what) = &error {
                    let line = format!("{origin}: {what}");
                    self.session.err(words::printable(&line));
                }
                (error.code(), Flow::Next)
            }
        }
    }
}

/// Splits and carries out a line.
async fn run_line(cx: &Context<'_>, line: &str) -> Outcome {
    match words::split(line) {
        Ok(words) => run_words(cx, &words).await,
        Err(why) => Err(CommandError::Usage(why.to_string())),
    }
}

/// Carries out a command; errors have its name in front. No words are no command.
async fn run_words(cx: &Context<'_>, words: &[String]) -> Outcome {
    let Some(name) = words.first() else {
        return Ok(Flow::Next);
    };
    let verb = match commands::parse(words) {
        Ok(verb) => verb,
        Err(CommandError::Help(name)) => {
            commands::find(&name)
                .iter()
                .for_each(|it| cx.out(commands::help::explain(it)));
            return Ok(Flow::Next);
        }
        Err(error) => return Err(error),
    };
    if !cx.takes(&verb).await {
        return Ok(Flow::Next);
    }
    verb.run(cx).await.map_err(|error| match error {
        CommandError::Usage(what) => CommandError::Usage(format!("{name}: {what}")),
        CommandError::Failed(what) => CommandError::Failed(format!("{name}: {what}")),
        other => other,
    })
}

#[cfg(test)]
mod tests;
