//! Where a client's text goes: stdout and stderr, and above the prompt while one is shown.
//!
//! A closed pipe at the other end never brings the client down by itself; whoever cares looks at
//! what the functions answer.

use std::io::{self, Write};

/// Text to stdout; false when nobody reads it any more.
pub(crate) fn out(text: &str) -> bool {
    let mut stdout = io::stdout().lock();
    let written = stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush());
    written.is_ok()
}

/// A line to stderr.
pub(crate) fn err(line: &str) {
    // There is nowhere left to tell of a failure.
    let _ = writeln!(io::stderr().lock(), "{line}");
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
        above(format!("{text}{end}"));
        true
    }
}
