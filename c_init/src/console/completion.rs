//! Completion on the console: commands, flags, names of actors, aids, gids, paths.
//!
//! Names and ids come from the site, by `aps --json` on a session of its own, when the key is
//! pressed: the thread that holds the prompt has no part in the console's session.

use rustyline::completion::{Completer, FilenameCompleter, Pair};
use rustyline::highlight::{CmdKind, Highlighter};
use rustyline::hint::Hinter;
use rustyline::validate::Validator;
use rustyline::{Context, Helper, Result};
use serde_json::Value;

use super::typed::Typed;
use crate::{client, commands};

/// What completes the line that is typed.
pub(crate) struct Completion {
    site: String,
    files: FilenameCompleter,
    typed: Typed,
}

/// What a word can be completed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Command,
    Flag,
    /// A field of the actors that `aps --json` lists.
    Actor(&'static str),
    Path,
}

impl Completion {
    /// Completion for the console of `site`; `typed` is told what the line is.
    pub(crate) fn new(site: &str, typed: Typed) -> Self {
        Self {
            site: site.to_owned(),
            files: FilenameCompleter::new(),
            typed,
        }
    }

    fn words(&self, kind: Kind, command: &str) -> Vec<String> {
        match kind {
            Kind::Command => commands::all()
                .iter()
                .map(|it| it.get_name().to_owned())
                .collect(),
            Kind::Flag => flags(command),
            Kind::Actor(field) => {
                let answer = client::ask(&self.site, &["aps", "--json"]).unwrap_or_default();
                values(&answer, field)
            }
            Kind::Path => Vec::new(),
        }
    }
}

/// What the last of the words of a line, up to the cursor, can be.
fn kind(words: &[&str]) -> Kind {
    let (&last, before) = words.split_last().unwrap_or((&"", &[]));
    let Some(&command) = before.first() else {
        return Kind::Command;
    };
    match (command, before.last().copied()) {
        ("help", _) => Kind::Command,
        ("arun" | "akill", Some("-g")) => Kind::Actor("gid"),
        ("arun", _)
            if before[1..].iter().any(|word| !word.starts_with('-')) && !last.starts_with('-') =>
        {
            Kind::Path
        }
        _ if last.starts_with('-') => Kind::Flag,
        ("akill", _) => Kind::Actor("aid"),
        ("log", _) => Kind::Actor("name"),
        _ => Kind::Path,
    }
}

fn flags(command: &str) -> Vec<String> {
    let Some(command) = commands::find(command) else {
        return Vec::new();
    };
    let arguments = command.get_arguments().filter(|arg| !arg.is_positional());
    arguments
        .flat_map(|arg| {
            let short = arg.get_short().map(|it| format!("-{it}"));
            [short, arg.get_long().map(|it| format!("--{it}"))]
                .into_iter()
                .flatten()
        })
        // The one flag of two letters and more behind one dash.
        .map(|flag| {
            if flag == "-x" && command.get_name() == "arun" {
                "-xip".to_owned()
            } else {
                flag
            }
        })
        .collect()
}

/// The distinct values of `field` in an array of objects.
fn values(json: &str, field: &str) -> Vec<String> {
    let actors: Vec<Value> = serde_json::from_str(json).unwrap_or_default();
    let mut values: Vec<_> = actors
        .iter()
        .filter_map(|actor| match &actor[field] {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        })
        .collect();
    values.sort();
    values.dedup();
    values
}

impl Completer for Completion {
    type Candidate = Pair;

    fn complete(&self, line: &str, pos: usize, cx: &Context<'_>) -> Result<(usize, Vec<Pair>)> {
        let typed = &line[..pos];
        let start = typed.rfind(char::is_whitespace).map_or(0, |at| at + 1);
        let mut words: Vec<_> = typed[..start].split_whitespace().collect();
        words.push(&typed[start..]);
        let kind = kind(&words);
        if kind == Kind::Path {
            return self.files.complete(line, pos, cx);
        }
        let last = &typed[start..];
        let fits = self
            .words(kind, words[0])
            .into_iter()
            .filter(|word| word.starts_with(last));
        let pairs = fits.map(|word| Pair {
            display: word.clone(),
            replacement: word + " ",
        });
        Ok((start, pairs.collect()))
    }
}

// No hints and no colours: rustyline asks for them at every change of the line and every move of
// the cursor, which is how `typed` hears of these.
impl Hinter for Completion {
    type Hint = String;

    fn hint(&self, line: &str, pos: usize, _: &Context<'_>) -> Option<String> {
        self.typed.note(line, pos);
        None
    }
}

impl Highlighter for Completion {
    fn highlight_char(&self, line: &str, pos: usize, _: CmdKind) -> bool {
        self.typed.note(line, pos);
        false
    }
}

impl Validator for Completion {}
impl Helper for Completion {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c2_each_word_is_completed_to_what_can_stand_there() {
        assert_eq!(kind(&["ar"]), Kind::Command);
        assert_eq!(kind(&["help", "a"]), Kind::Command);
        assert_eq!(kind(&["arun", "-"]), Kind::Flag);
        assert_eq!(kind(&["arun", "-g", ""]), Kind::Actor("gid"));
        assert_eq!(kind(&["arun", "-g", "1", "./ser"]), Kind::Path);
        assert_eq!(kind(&["akill", ""]), Kind::Actor("aid"));
        assert_eq!(kind(&["akill", "-g", ""]), Kind::Actor("gid"));
        assert_eq!(kind(&["log", "re"]), Kind::Actor("name"));
        assert_eq!(kind(&["source", "sys"]), Kind::Path);
    }

    #[test]
    fn c2_flags_and_ids_come_from_where_they_are_defined() {
        assert!(flags("arun").contains(&"-xip".to_owned()));
        assert!(flags("aps").contains(&"--json".to_owned()));
        let json = r#"[{"name":"b","gid":1},{"name":"a","gid":1},{"name":"c","gid":null}]"#;
        assert_eq!(values(json, "gid"), ["1"]);
        assert_eq!(values(json, "name"), ["a", "b", "c"]);
        assert!(values("nonsense", "gid").is_empty());
    }
}
