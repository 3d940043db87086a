//! Where a client's text goes: stdout and stderr, and above the prompt while one is shown.
//!
//! A closed pipe at the other end never brings the client down by itself; whoever cares looks at
//! what the functions answer.
//!
//! What actors print may hold anything. A terminal must never be told by it to move its cursor, change its
//! title or answer with keys of its own, so there control characters are shown and not sent. A
//! file or a pipe gets every byte as it came.

use std::borrow::Cow;
use std::io::{self, IsTerminal, Write};

use crate::words;

/// Text to stdout; false when nobody reads it any more.
pub(crate) fn out(text: &str) -> bool {
    let mut stdout = io::stdout().lock();
    let text = shown(text, stdout.is_terminal());
    let written = stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush());
    written.is_ok()
}

/// What is to steer the terminal, and is our own.
pub(crate) fn steer(text: &'static str) {
    let mut stdout = io::stdout().lock();
    // A terminal that is gone needs no steering.
    let _ = stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush());
}

/// A line to stderr.
pub(crate) fn err(line: &str) {
    let mut stderr = io::stderr().lock();
    let line = shown(line, stderr.is_terminal());
    // There is nowhere left to tell of a failure.
    let _ = writeln!(stderr, "{line}");
}

/// A text as it is shown: on a terminal without what would steer it. Lines and tabs stay.
fn shown(text: &str, terminal: bool) -> Cow<'_, str> {
    let steers = |c: char| words::steers(c) && !matches!(c, '\n' | '\t');
    if !terminal || !text.chars().any(steers) {
        return Cow::Borrowed(text);
    }
    let pieces = text.split_inclusive(['\n', '\t']);
    let pieces = pieces.map(|piece| {
        let end = piece.ends_with(['\n', '\t']);
        let (body, end) = piece.split_at(piece.len() - usize::from(end));
        words::printable(body).into_owned() + end
    });
    Cow::Owned(pieces.collect())
}

/// Prints above a prompt; it is safe to use at any time.
pub(crate) type Above = Box<dyn FnMut(String) + Send>;

/// The text side of a console.
pub(crate) struct Screen {
    above: Option<Above>,
    /// Whether a prompt is shown, or about to be.
    pub(crate) prompting: bool,
}

impl Screen {
    /// A screen; `above` prints above the prompt where there is one.
    pub(crate) fn new(above: Option<Above>) -> Self {
        Self {
            above,
            prompting: false,
        }
    }

    /// Text of the running command.
    pub(crate) fn out(&mut self, text: &str) {
        if !self.above_prompt(text) {
            out(text);
        }
    }

    /// A line about what went wrong.
    pub(crate) fn err(&mut self, line: &str) {
        if !self.above_prompt(line) {
            err(line);
        }
    }

    /// A line of the site's console.
    pub(crate) fn line(&mut self, line: &str) {
        if !self.above_prompt(line) {
            out(&format!("{line}\n"));
        }
    }

    fn above_prompt(&mut self, text: &str) -> bool {
        let Some(above) = self.above.as_mut().filter(|_| self.prompting) else {
            return false;
        };
        let end = if text.ends_with('\n') { "" } else { "\n" };
        // There is a prompt, so there is a terminal.
        above(format!("{}{end}", shown(text, true)));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_steers_a_terminal_and_a_pipe_gets_everything() {
        let text = "a\tb\x1b[2J\x07\u{9b}1m\nü\r\n";
        assert_eq!(shown(text, true), "a\tb\\u{1b}[2J\\u{7}\\u{9b}1m\nü\\r\n");
        assert_eq!(shown(text, false), text);
        assert_eq!(shown("plain\n", true), "plain\n");
    }
}
