//! The commands about all keys: which there are, and how many.
//!
//! Called by `commands.rs`. A cursor of `SCAN` is a place in the order of hashes, so it is good for as long as the
//! store is, over crashes of the server, too. It must never show a key that has expired, nor change anything.

use std::fmt::Write;

use crate::commands::{CommandError, Words, number};
use crate::glob::{self, fits};
use crate::protocol::Answers;
use crate::store::Store;

/// Keys that `SCAN` looks at unless it is told a number.
const COUNT: i64 = 10;
/// Places of the map's index that it looks at together, and in one call at most.
const STRETCH: usize = 64;
const MOST: usize = 1 << 16;

/// A pattern, unless it is the one that everything fits.
fn picky(pattern: &[u8]) -> Option<&[u8]> {
    Some(pattern).filter(|pattern| *pattern != glob::ALL)
}

/// `KEYS pattern`: it looks at every key, as Redis does.
pub fn keys(store: &Store, pattern: &[u8], answers: &mut Answers, now: u64) {
    let pattern = picky(pattern);
    let fit = store
        .keys(now)
        .filter(|key| pattern.is_none_or(|pattern| fits(pattern, key)));
    let fit: Vec<&[u8]> = fit.collect();
    list(&fit, answers);
}

fn list(keys: &[&[u8]], answers: &mut Answers) {
    answers.list(keys.len());
    keys.iter().for_each(|key| answers.bytes(key));
}

/// `SCAN cursor [MATCH pattern] [COUNT count] [TYPE type]`.
///
/// # Errors
/// Those of its words.
pub fn scan(
    store: &Store,
    (cursor, options): (&[u8], &Words),
    answers: &mut Answers,
    now: u64,
) -> Result<(), CommandError> {
    let cursor = std::str::from_utf8(cursor)
        .ok()
        .and_then(|cursor| cursor.parse::<u64>().ok());
    let cursor = cursor.ok_or(CommandError::Cursor)?;
    let (mut pattern, mut count, mut is_string) = (None, COUNT, true);
    for option in options.chunks(2) {
        let [name, value] = option else {
            return Err(CommandError::Syntax);
        };
        match &name.to_ascii_uppercase()[..] {
            b"MATCH" => pattern = picky(value),
            b"COUNT" => {
                count = Some(number(value)?)
                    .filter(|count| *count > 0)
                    .ok_or(CommandError::Syntax)?
            }
            b"TYPE" => is_string = value.eq_ignore_ascii_case(b"string"),
            _ => return Err(CommandError::Syntax),
        }
    }
    // None where another server's cursor is given: there is nothing behind it here.
    let mut next = u32::try_from(cursor).ok().filter(|_| store.len() > 0);
    let (mut fit, mut seen, mut looked) = (Vec::new(), 0, 0);
    while let Some(from) = next.filter(|_| seen < count && looked < MOST) {
        let (some, behind) = store.stretch(from, STRETCH, now);
        for key in some {
            seen += 1;
            if is_string && pattern.is_none_or(|pattern| fits(pattern, key)) {
                fit.push(key);
            }
        }
        next = behind;
        looked += STRETCH;
    }
    answers.list(2);
    answers.bytes(next.unwrap_or(0).to_string().as_bytes());
    list(&fit, answers);
    Ok(())
}

/// `INFO [section ...]`: all of them unless some are named.
pub fn info(store: &Store, sections: &Words) -> String {
    // A program that was started by hand has no life; it would not have come this far.
    let life = refrain::life().map_or(0, |life| life.0);
    let server = format!(
        "kv_server_version:{}\r\nprocess_id:{}\r\nlife:{life}\r\n",
        env!("CARGO_PKG_VERSION"),
        std::process::id(),
    );
    let stats = format!("expired_keys:{}\r\n", store.expired());
    let keyspace = match store.len() {
        0 => String::new(),
        keys => format!("db0:keys={keys}\r\n"),
    };
    let named = |name: &str| {
        let all = [name, "all", "default", "everything"];
        let is_it = |section: &[u8]| {
            all.iter()
                .any(|all| section.eq_ignore_ascii_case(all.as_bytes()))
        };
        sections.is_empty() || sections.iter().any(|section| is_it(section))
    };
    let mut text = String::new();
    for (name, lines) in [("Server", server), ("Stats", stats), ("Keyspace", keyspace)] {
        if named(name) {
            let between = if text.is_empty() { "" } else { "\r\n" };
            // Writing to a String cannot fail.
            let _ = write!(text, "{between}# {name}\r\n{lines}");
        }
    }
    text
}
