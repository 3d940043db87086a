//! Why a command was not carried out, as one line (SPEC C4).

use clap::error::{ContextKind, ContextValue, ErrorKind};

/// Why a command was not carried out. Displayed as one line, the command's name in front.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CommandError {
    /// The line itself is wrong (exit code 2).
    #[error("{0}")]
    Usage(String),
    /// The command failed (exit code 1).
    #[error("{0}")]
    Failed(String),
    /// Lines inside a file failed, and have said so (exit code 1).
    #[error("some of its commands failed")]
    Reported,
    /// The flags ask for the help of this command (exit code 0).
    #[error("help {0}")]
    Help(String),
}

impl CommandError {
    /// The exit code that it is answered with (DESIGN section 7).
    #[must_use]
    pub fn code(&self) -> i32 {
        match self {
            Self::Usage(_) => crate::USAGE,
            Self::Failed(_) | Self::Reported => crate::FAILED,
            Self::Help(_) => crate::DONE,
        }
    }

    /// A failure with its text.
    pub(crate) fn failed(what: impl ToString) -> Self {
        Self::Failed(what.to_string())
    }
}

/// What clap found wrong, as a fragment of one line: clap itself prints a paragraph with the
/// usage below it, which floods a console and hides the line number of a file.
#[must_use]
pub fn one_line(error: &clap::Error) -> String {
    let named = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        Some(ContextValue::Strings(texts)) => Some(texts.join(" ")),
        _ => None,
    };
    let line = match (error.kind(), named(ContextKind::InvalidArg)) {
        (ErrorKind::UnknownArgument, Some(it)) => format!("unexpected argument '{it}'"),
        (ErrorKind::MissingRequiredArgument, Some(it)) => {
            format!(
                "{} is missing",
                it.replace(['<', '>'], "").replace("...", "")
            )
        }
        _ => {
            let text = error.render().to_string();
            let paragraph = text.split("\n\n").next().unwrap_or_default();
            let words: Vec<_> = paragraph.split_whitespace().collect();
            let line = words.join(" ");
            let line = line.trim_start_matches("error: ");
            // The standard library's words for what is no number.
            line.replace("invalid digit found in string", "a whole number is wanted")
        }
    };
    crate::words::printable(&line).into_owned()
}
