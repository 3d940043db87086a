//! Where a console's lines come from: rustyline on a terminal, or stdin as it is.
//!
//! Reading blocks, so it has a thread of its own, which reads a line when it is asked for one and
//! not before: what is typed ahead of a running command stays with the terminal.

mod completion;
mod typed;

use std::collections::VecDeque;
use std::io::{self, BufRead, IsTerminal, Read};
use std::path::PathBuf;
use std::sync::mpsc as blocking;
use std::thread;
use std::{env, fs};

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use rustyline::error::ReadlineError;
use rustyline::history::DefaultHistory;
use rustyline::{CompletionType, Config, Editor};
use tokio::sync::mpsc;

use crate::client::screen::{self, Above};
use crate::interpreter::MAX_LINE;
use completion::Completion;
use typed::Typed;

/// How many lines the history remembers.
const HISTORY: usize = 1000;

/// What came from the user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Input {
    /// A line, without its end.
    Line(String),
    /// A line that cannot be taken, and why.
    Bad(String),
    /// Ctrl-C: the line was thrown away.
    Cleared,
    /// Ctrl-D, or the end of stdin.
    End,
}

/// The thread that reads.
pub(crate) struct Reader {
    asks: blocking::Sender<()>,
    inputs: mpsc::Receiver<Input>,
    terminal: Option<Termios>,
}

impl Reader {
    /// A reader of the terminal, with a prompt, or of stdin where there is none; with it what
    /// prints above the prompt.
    pub(crate) fn new(site: &str) -> (Self, Option<Above>) {
        let interactive = io::stdin().is_terminal() && io::stdout().is_terminal();
        let terminal = if interactive {
            tcgetattr(io::stdin()).ok()
        } else {
            None
        };
        let (asks, asked) = blocking::channel();
        let (send, inputs) = mpsc::channel(1);
        let above = if terminal.is_some() {
            let (printer, printers) = blocking::channel();
            let site = site.to_owned();
            thread::spawn(move || read_terminal(&site, &asked, &send, &printer));
            printers.recv().ok().flatten()
        } else {
            thread::spawn(move || read_stdin(&asked, &send));
            None
        };
        (
            Self {
                asks,
                inputs,
                terminal,
            },
            above,
        )
    }

    /// A reader from which nothing ever comes.
    pub(crate) fn none() -> (Self, Option<Above>) {
        let (asks, asked) = blocking::channel();
        let (send, inputs) = mpsc::channel(1);
        thread::spawn(move || {
            // Holds its end of the channel: a closed one would read as the end of stdin.
            while asked.recv().is_ok() {}
            drop(send);
        });
        (
            Self {
                asks,
                inputs,
                terminal: None,
            },
            None,
        )
    }

    /// Whether there is a prompt.
    pub(crate) fn is_terminal(&self) -> bool {
        self.terminal.is_some()
    }

    /// Asks for one line.
    pub(crate) fn ask(&self) {
        // A thread that is gone has said `End`.
        let _ = self.asks.send(());
    }

    /// What was read. May be dropped half way.
    pub(crate) async fn next(&mut self) -> Input {
        self.inputs.recv().await.unwrap_or(Input::End)
    }

    /// Gives the terminal back as it was found: the thread may still be waiting for a key, with
    /// the terminal in raw mode.
    pub(crate) fn restore(&self) {
        if let Some(before) = &self.terminal {
            let raw = tcgetattr(io::stdin()).is_ok_and(|now| now.local_modes != before.local_modes);
            if raw {
                let _ = tcsetattr(io::stdin(), OptionalActions::Drain, before);
                // Bracketed paste off, and off the prompt's line.
                screen::steer("\x1b[?2004l\r\n");
            }
        }
    }
}

/// Reads stdin as it is.
fn read_stdin(asked: &blocking::Receiver<()>, send: &mpsc::Sender<Input>) {
    let mut stdin = io::stdin().lock();
    while asked.recv().is_ok() {
        let mut line = Vec::new();
        let read = (&mut stdin)
            .take(MAX_LINE as u64 + 1)
            .read_until(b'\n', &mut line);
        let input = match read {
            Ok(0) => Input::End,
            Ok(_) if line.len() > MAX_LINE && line.last() != Some(&b'\n') => {
                let _ = stdin.skip_until(b'\n');
                Input::Bad(format!("a line is at most {MAX_LINE} bytes long"))
            }
            Ok(_) => String::from_utf8(line).map_or_else(
                |_| Input::Bad("the line is not UTF-8 text".to_owned()),
                Input::Line,
            ),
            Err(why) => {
                screen::err(&format!("c_init: stdin: {why}"));
                Input::End
            }
        };
        if send.blocking_send(input).is_err() {
            return;
        }
    }
}

/// Reads lines with rustyline; hands out what prints above the prompt, or nothing where the
/// terminal is too dumb for it.
fn read_terminal(
    site: &str,
    asked: &blocking::Receiver<()>,
    send: &mpsc::Sender<Input>,
    printer: &blocking::Sender<Option<Above>>,
) {
    let config = Config::builder()
        .completion_type(CompletionType::List)
        .auto_add_history(true)
        .history_ignore_space(true)
        .max_history_size(HISTORY);
    let config = config.map(rustyline::config::Builder::build);
    let editor = config.and_then(Editor::<Completion, DefaultHistory>::with_config);
    let Ok(mut editor) = editor else {
        let _ = printer.send(None);
        return read_stdin(asked, send);
    };
    let typed = Typed::default();
    let prompt = format!("{site}> ");
    editor.set_helper(Some(Completion::new(site, typed.clone())));
    let dumb = matches!(env::var("TERM").as_deref(), Ok("dumb" | "cons25" | "emacs"));
    let _ = printer.send((!dumb).then(|| typed.printer(prompt.clone())));
    let history = history_file();
    if let Some(file) = &history {
        // There is none the first time.
        let _ = editor.load_history(file);
    }
    let mut pasted = VecDeque::new();
    while asked.recv().is_ok() {
        let input = match pasted.pop_front() {
            Some(line) => Input::Line(line),
            None => match prompted(&mut editor, &prompt, &typed) {
                Ok(text) => {
                    if let Some(file) = &history {
                        // A history that cannot be kept is no reason to bother anybody.
                        let _ = editor.append_history(file);
                    }
                    // What was pasted comes as one text; its lines are commands all the same.
                    pasted.extend(text.split(['\n', '\r']).map(str::to_owned));
                    Input::Line(pasted.pop_front().unwrap_or_default())
                }
                Err(ReadlineError::Interrupted) => Input::Cleared,
                Err(_) => Input::End,
            },
        };
        if send.blocking_send(input).is_err() {
            return;
        }
    }
}

/// Reads a line at the prompt, which is shown for so long.
fn prompted(
    editor: &mut Editor<Completion, DefaultHistory>,
    prompt: &str,
    typed: &Typed,
) -> rustyline::Result<String> {
    typed.show(true);
    let line = editor.readline(prompt);
    typed.show(false);
    line
}

/// `$XDG_STATE_HOME/refrain/history`, or the same below `~/.local/state`.
fn history_file() -> Option<PathBuf> {
    let absolute = |name| {
        env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    let state = absolute("XDG_STATE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".local/state")))?;
    let directory = state.join("refrain");
    fs::create_dir_all(&directory).ok()?;
    Some(directory.join("history"))
}
