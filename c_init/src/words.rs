//! Command lines as words: split as a shell splits them, and made printable again for errors.
//!
//! Called by the interpreter for every line it is given and by the client to see what a line
//! will do. Nothing is expanded here: no variables, no globs, no substitutions.

use std::borrow::Cow;

/// Why a line is no command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SplitError {
    /// A NUL byte, which no argument of a program can hold.
    #[error("a NUL byte in the line; remove it")]
    Nul,
    /// A quotation that does not end, or a backslash with nothing behind it.
    #[error("unbalanced quotes, or a backslash at the end; close or escape them")]
    Unbalanced,
}

/// Splits a line into words: blanks separate, quotes and backslashes work as in a shell, `#` at
/// the start of a word begins a comment. An empty list is an empty line. Source: SPEC C1.
///
/// # Errors
/// [`SplitError`], for what no shell would take either.
///
/// ```
/// let words = c_init::words::split("arun -g 1 'my server' --save ''  # quickly")?;
/// assert_eq!(words, ["arun", "-g", "1", "my server", "--save", ""]);
/// # Ok::<(), c_init::words::SplitError>(())
/// ```
pub fn split(line: &str) -> Result<Vec<String>, SplitError> {
    if line.contains('\0') {
        return Err(SplitError::Nul);
    }
    let line = line.trim_end_matches(['\r', '\n']);
    shlex::split(line).ok_or(SplitError::Unbalanced)
}

/// Whether a character does something to a terminal other than to stand where it was written: control
/// characters, and those that turn the direction of what follows around.
#[must_use]
pub fn steers(c: char) -> bool {
    c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Text for one line of a terminal: what [`steers`] is escaped, so that an error stays one
/// line and nobody's file name moves the cursor.
#[must_use]
pub fn printable(text: &str) -> Cow<'_, str> {
    if !text.chars().any(steers) {
        return Cow::Borrowed(text);
    }
    let escape = |c: char| {
        if steers(c) {
            c.escape_default().to_string()
        } else {
            c.into()
        }
    };
    Cow::Owned(text.chars().map(escape).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c1_words_are_quoted_as_in_a_shell() {
        assert_eq!(
            split(r#"echo a\ b "c 'd'" 'e "f"' g\#h #i"#).unwrap(),
            ["echo", "a b", "c 'd'", r#"e "f""#, "g#h"]
        );
        assert_eq!(split("a#b").unwrap(), ["a#b"]);
    }

    #[test]
    fn c1_comments_and_blank_lines_hold_no_words() {
        for line in ["", "   \t", "# a comment", "  # another", "\r\n"] {
            assert!(split(line).unwrap().is_empty(), "{line:?}");
        }
    }

    #[test]
    fn c4_what_cannot_be_split_is_refused() {
        assert_eq!(split("echo 'a"), Err(SplitError::Unbalanced));
        assert_eq!(split("echo \"a"), Err(SplitError::Unbalanced));
        assert_eq!(split("echo a\\"), Err(SplitError::Unbalanced));
        assert_eq!(split("echo a\0b"), Err(SplitError::Nul));
    }

    #[test]
    fn c4_control_characters_never_reach_the_terminal() {
        assert_eq!(printable("plain ü"), "plain ü");
        assert_eq!(printable("a\nb\u{1b}[2J"), "a\\nb\\u{1b}[2J");
    }
}
