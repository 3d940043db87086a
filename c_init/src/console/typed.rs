//! What is typed at the prompt at this moment, and printing above it.
//!
//! rustyline tells it of every change and every move of the cursor, in its own thread; the thread
//! that has something to print clears the prompt's rows, prints, and shows them again as they
//! were. rustyline's own external printer is not used: while it is there, keys that were typed
//! ahead stay in rustyline's buffer until another one is pressed.

use std::sync::{Arc, Mutex, PoisonError};

use rustix::termios::tcgetwinsize;

use crate::client::screen::{self, Above};

/// The line at the prompt; clones share it.
#[derive(Clone, Default)]
pub(crate) struct Typed(Arc<Mutex<Line>>);

#[derive(Default)]
struct Line {
    text: String,
    /// The cursor, as a byte offset into the text.
    cursor: usize,
    /// Whether the prompt is shown.
    shown: bool,
}

impl Typed {
    /// The prompt is shown with nothing typed, or is not shown any more.
    pub(crate) fn show(&self, shown: bool) {
        self.change(|line| {
            *line = Line {
                shown,
                ..Line::default()
            };
        });
    }

    /// The line is `text` now, the cursor before its byte `cursor`.
    pub(crate) fn note(&self, text: &str, cursor: usize) {
        self.change(|line| {
            text.clone_into(&mut line.text);
            line.cursor = cursor;
        });
    }

    fn change(&self, change: impl FnOnce(&mut Line)) {
        // A line half noted is a blemish on the screen, nothing worse.
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Prints above `prompt`; the text must end with a line end.
    pub(crate) fn printer(&self, prompt: String) -> Above {
        let typed = self.clone();
        Box::new(move |text| {
            let columns = tcgetwinsize(std::io::stdout()).map_or(80, |size| size.ws_col);
            // Held while printing: what is typed meanwhile is shown after it.
            typed.change(|line| {
                screen::out(&line.around(&text, &prompt, usize::from(columns)));
            });
        })
    }
}

impl Line {
    /// The bytes that bring `text` above the prompt.
    fn around(&self, text: &str, prompt: &str, columns: usize) -> String {
        if !self.shown {
            return text.to_owned();
        }
        let (before, behind) = self
            .text
            .split_at_checked(self.cursor)
            .unwrap_or((&self.text, ""));
        let row = |chars: usize| chars / columns.max(1);
        let width = prompt.chars().count() + before.chars().count();
        let up = match row(width) {
            0 => String::new(),
            rows => format!("\x1b[{rows}A"),
        };
        let mut back = String::new();
        if !behind.is_empty() {
            let end = width + behind.chars().count();
            let rows = row(end) - row(width);
            if rows > 0 {
                back = format!("\x1b[{rows}A");
            }
            back.push_str(&format!("\r\x1b[{}G", width % columns.max(1) + 1));
        }
        format!("\r{up}\x1b[J{text}{prompt}{}{back}", self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str, cursor: usize) -> Line {
        Line {
            text: text.to_owned(),
            cursor,
            shown: true,
        }
    }

    #[test]
    fn what_is_typed_is_shown_again_below_the_text() {
        let bytes = line("aps", 3).around("song\n", "site> ", 80);
        assert_eq!(bytes, "\r\x1b[Jsong\nsite> aps");
    }

    #[test]
    fn the_cursor_goes_back_to_where_it_was() {
        let bytes = line("aps", 1).around("song\n", "site> ", 80);
        assert_eq!(bytes, "\r\x1b[Jsong\nsite> aps\r\x1b[8G");
    }

    #[test]
    fn a_line_over_several_rows_is_cleared_from_its_first() {
        let bytes = line(&"x".repeat(18), 18).around("song\n", "> ", 10);
        assert!(bytes.starts_with("\r\x1b[2A\x1b[Jsong\n> xx"), "{bytes:?}");
    }

    #[test]
    fn without_a_prompt_the_text_stands_alone() {
        assert_eq!(Line::default().around("song\n", "> ", 80), "song\n");
    }

    #[test]
    fn no_cursor_and_no_width_is_too_odd() {
        let inside_a_character = line("ä", 1).around("song\n", "> ", 80);
        assert_eq!(inside_a_character, "\r\x1b[Jsong\n> ä");
        assert!(line("aps", 9).around("song\n", "> ", 0).ends_with("> aps"));
    }
}
