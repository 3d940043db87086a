//! The commands: what each does with the store, and what it answers.
//!
//! Called by the server for each request, one at a time. An answer is written when the store has changed and not
//! before: what a client was told is there after a crash. Answers and errors are Redis's, to the letter where
//! clients look at them.

use std::borrow::Cow;

use crate::batch::Change;
use crate::keyspace;
use crate::protocol::{Answers, MAX_WORD};
use crate::store::{Store, StoreError, Value};

/// What becomes of the connection, and of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// The next request.
    GoOn,
    /// The connection is closed when the answers are sent.
    Close,
    /// The server ends, and is not restarted.
    End,
}

/// Why a command did nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CommandError {
    /// There is none of that name.
    #[error("ERR unknown command '{0}', with args beginning with: {1}")]
    Unknown(String, String),
    /// It takes more words, or fewer.
    #[error("ERR wrong number of arguments for '{0}' command")]
    Words(String),
    /// An option that it has not, or not together with another one.
    #[error("ERR syntax error")]
    Syntax,
    /// A word, or a value, that should be a number.
    #[error("ERR value is not an integer or out of range")]
    Number,
    /// A counter's end.
    #[error("ERR increment or decrement would overflow")]
    Overflow,
    /// The one step down that has no step up.
    #[error("ERR decrement would overflow")]
    Decrement,
    /// A moment that cannot be.
    #[error("ERR invalid expire time in '{0}' command")]
    Expire(&'static str),
    /// A value longer than a request may be.
    #[error("ERR string exceeds maximum allowed size (proto-max-bulk-len)")]
    Long,
    /// A place to go on from that is none.
    #[error("ERR invalid cursor")]
    Cursor,
    /// The only database is 0.
    #[error("ERR DB index is out of range")]
    Database,
    /// The store's.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A request, or what is behind its first word.
pub type Words<'a> = [Cow<'a, [u8]>];

/// The number that a word says.
///
/// # Errors
/// [`CommandError::Number`].
pub fn number(word: &[u8]) -> Result<i64, CommandError> {
    let text = std::str::from_utf8(word)
        .ok()
        .filter(|text| !text.starts_with('+'));
    text.and_then(|text| text.parse().ok())
        .ok_or(CommandError::Number)
}

/// Executes one request at the moment `now`, in milliseconds of CLOCK_REALTIME: the clock that goes on over lives and
/// reboots.
pub fn execute(store: &mut Store, words: &Words, answers: &mut Answers, now: u64) -> Next {
    let Some((name, rest)) = words.split_first() else {
        return Next::GoOn;
    };
    let begin = answers.0.len();
    let mut upper = [0; LONGEST];
    let upper = upper.get_mut(..name.len()).and_then(|upper| {
        upper.copy_from_slice(name);
        upper.make_ascii_uppercase();
        std::str::from_utf8(upper).ok()
    });
    let done = dispatch(store, upper.unwrap_or_default(), rest, answers, now);
    let done = done.map_err(|error| match error {
        CommandError::Unknown(_, shown) => {
            let given = String::from_utf8_lossy(name);
            CommandError::Unknown(given.chars().take(SHOWN).collect(), shown)
        }
        error => error,
    });
    done.unwrap_or_else(|error| {
        answers.0.truncate(begin);
        answers.error(&error.to_string());
        Next::GoOn
    })
}

fn dispatch(
    store: &mut Store,
    name: &str,
    words: &Words,
    answers: &mut Answers,
    now: u64,
) -> Result<Next, CommandError> {
    match (name, words) {
        ("GET", [key]) => match store.get(key, now) {
            Some(value) => answers.bytes(&value.bytes),
            None => answers.nothing(),
        },
        ("SET", [key, value, options @ ..]) => set(store, (key, value), options, answers, now)?,
        ("MGET", [_, ..]) => {
            answers.list(words.len());
            for key in words {
                match store.get(key, now) {
                    Some(value) => answers.bytes(&value.bytes),
                    None => answers.nothing(),
                }
            }
        }
        ("MSET", [_, _, ..]) if words.len().is_multiple_of(2) => {
            let pairs = words.chunks_exact(2);
            let changes: Vec<Change> = pairs
                .map(|pair| Change::set(&pair[0], &pair[1], 0))
                .collect();
            with_room(store, now, |store| store.change(&changes))?;
            answers.word("OK");
        }
        ("DEL" | "UNLINK", [_, ..]) => {
            let keys: Vec<&[u8]> = words.iter().map(|word| &**word).collect();
            answers.number(store.remove(&keys, now)? as i64);
        }
        ("EXISTS", [_, ..]) => {
            let there = words.iter().filter(|key| store.contains(key, now)).count();
            answers.number(there as i64);
        }
        ("STRLEN", [key]) => {
            answers.number(
                store
                    .get(key, now)
                    .map_or(0, |value| value.bytes.len() as i64),
            );
        }
        ("APPEND", [key, more]) => answers.number(append(store, key, more, now)?),
        ("INCR", [key]) => answers.number(add(store, key, 1, now)?),
        ("DECR", [key]) => answers.number(add(store, key, -1, now)?),
        ("INCRBY", [key, by]) => answers.number(add(store, key, number(by)?, now)?),
        ("DECRBY", [key, by]) => {
            let by = number(by)?.checked_neg().ok_or(CommandError::Decrement)?;
            answers.number(add(store, key, by, now)?);
        }
        ("EXPIRE", [key, time]) => answers.number(expire(store, key, (time, 1000, "expire"), now)?),
        ("PEXPIRE", [key, time]) => answers.number(expire(store, key, (time, 1, "pexpire"), now)?),
        ("PERSIST", [key]) => {
            let ends = store.get(key, now).is_some_and(|value| value.expires != 0);
            answers.number(i64::from(ends && store.expire(key, 0, now)?));
        }
        ("TTL", [key]) => answers.number(left(store.get(key, now), now, 1000)),
        ("PTTL", [key]) => answers.number(left(store.get(key, now), now, 1)),
        ("DBSIZE", []) => answers.number(store.len() as i64),
        ("KEYS", [pattern]) => keyspace::keys(store, pattern, answers, now),
        ("SCAN", [cursor, options @ ..]) => keyspace::scan(store, (cursor, options), answers, now)?,
        ("INFO", sections) => answers.bytes(keyspace::info(store, sections).as_bytes()),
        ("FLUSHALL" | "FLUSHDB", [] | [_]) => {
            store.clear()?;
            answers.word("OK");
        }
        _ => return about_connections(name, words, answers),
    }
    Ok(Next::GoOn)
}

/// The commands that have nothing to do with keys.
fn about_connections(
    name: &str,
    words: &Words,
    answers: &mut Answers,
) -> Result<Next, CommandError> {
    match (name, words) {
        ("PING", []) => answers.word("PONG"),
        ("PING" | "ECHO", [text]) => answers.bytes(text),
        ("SELECT", [database]) if number(database)? != 0 => return Err(CommandError::Database),
        ("SELECT", [_]) => answers.word("OK"),
        ("COMMAND", _) => answers.list(0),
        ("CONFIG", [get, names @ ..]) if get.eq_ignore_ascii_case(b"GET") && !names.is_empty() => {
            configuration(names, answers);
        }
        ("QUIT", _) => {
            answers.word("OK");
            return Ok(Next::Close);
        }
        ("SHUTDOWN", _) => return Ok(Next::End),
        _ if KNOWN.contains(&name) => return Err(CommandError::Words(name.to_ascii_lowercase())),
        _ => {
            let shown = words.iter().take(SHOWN_WORDS).map(|word| {
                let word = String::from_utf8_lossy(&word[..word.len().min(SHOWN)]);
                format!("'{word}' ")
            });
            return Err(CommandError::Unknown(name.to_owned(), shown.collect()));
        }
    }
    Ok(Next::GoOn)
}

/// Names have up to so many letters: a longer one is unknown.
const LONGEST: usize = 16;
/// How much of an unknown command is told: letters of a word, and words.
const SHOWN: usize = 128;
const SHOWN_WORDS: usize = 8;

/// Those that there are with another number of words.
const KNOWN: &[&str] = &[
    "APPEND", "CONFIG", "DBSIZE", "DECR", "DECRBY", "DEL", "ECHO", "EXISTS", "EXPIRE", "FLUSHALL",
    "FLUSHDB", "GET", "INCR", "INCRBY", "KEYS", "MGET", "MSET", "PERSIST", "PEXPIRE", "PING",
    "PTTL", "SCAN", "SELECT", "SET", "STRLEN", "TTL", "UNLINK",
];

/// Makes a change; where there is no room, what is over is removed, and it is tried again.
fn with_room(
    store: &mut Store,
    now: u64,
    mut change: impl FnMut(&mut Store) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    match change(store) {
        Err(StoreError::Full) if store.sweep(now)? => change(store),
        result => result,
    }
}

fn set(
    store: &mut Store,
    (key, value): (&[u8], &[u8]),
    options: &Words,
    answers: &mut Answers,
    now: u64,
) -> Result<(), CommandError> {
    let mut expires = None;
    let mut wanted = None;
    let mut options = options.iter();
    while let Some(option) = options.next() {
        let option = option.to_ascii_uppercase();
        match &option[..] {
            b"EX" | b"PX" if expires.is_none() => {
                let time = options.next().ok_or(CommandError::Syntax)?;
                let unit = if option == b"EX" { 1000 } else { 1 };
                let time = number(time)?;
                let moment = moment(time, unit, now).filter(|_| time > 0);
                expires = Some(moment.ok_or(CommandError::Expire("set"))?);
            }
            b"NX" if wanted.is_none() => wanted = Some(false),
            b"XX" if wanted.is_none() => wanted = Some(true),
            _ => return Err(CommandError::Syntax),
        }
    }
    if wanted.is_some_and(|wanted| store.contains(key, now) != wanted) {
        answers.nothing();
        return Ok(());
    }
    with_room(store, now, |store| {
        store.set(key, value, expires.unwrap_or(0))
    })?;
    answers.word("OK");
    Ok(())
}

/// A moment `time` units of `unit` milliseconds from now; `None` where that is none.
fn moment(time: i64, unit: i64, now: u64) -> Option<u64> {
    now.checked_add_signed(time.checked_mul(unit)?)
}

fn expire(
    store: &mut Store,
    key: &[u8],
    (time, unit, name): (&[u8], i64, &'static str),
    now: u64,
) -> Result<i64, CommandError> {
    let time = number(time)?;
    let there = if time > 0 {
        let moment = moment(time, unit, now).ok_or(CommandError::Expire(name))?;
        store.expire(key, moment, now)?
    } else {
        store.remove(&[key], now)? > 0
    };
    Ok(i64::from(there))
}

/// What TTL says, in units of `unit` milliseconds.
fn left(value: Option<Value>, now: u64, unit: u64) -> i64 {
    match value {
        None => -2,
        Some(Value { expires: 0, .. }) => -1,
        // Rounded as Redis does it.
        Some(value) => i64::try_from((value.expires - now + unit / 2) / unit).unwrap_or(i64::MAX),
    }
}

fn add(store: &mut Store, key: &[u8], by: i64, now: u64) -> Result<i64, CommandError> {
    let (old, expires) = match store.get(key, now) {
        Some(value) => (number(&value.bytes)?, value.expires),
        None => (0, 0),
    };
    let sum = old.checked_add(by).ok_or(CommandError::Overflow)?;
    with_room(store, now, |store| {
        store.set(key, sum.to_string().as_bytes(), expires)
    })?;
    Ok(sum)
}

fn append(store: &mut Store, key: &[u8], more: &[u8], now: u64) -> Result<i64, CommandError> {
    let old = store.get(key, now);
    let expires = old.as_ref().map_or(0, |value| value.expires);
    let mut value = old
        .map(|value| value.bytes.into_owned())
        .unwrap_or_default();
    if value.len() + more.len() > MAX_WORD {
        return Err(CommandError::Long);
    }
    value.extend(more);
    with_room(store, now, |store| store.set(key, &value, expires))?;
    Ok(value.len() as i64)
}

/// What redis-benchmark asks before it begins: what a server does for durability.
fn configuration(names: &Words, answers: &mut Answers) {
    let known = |name: &&Cow<[u8]>| match &name.to_ascii_lowercase()[..] {
        b"save" => Some(("save", "")),
        b"appendonly" => Some(("appendonly", "no")),
        _ => None,
    };
    let found: Vec<_> = names.iter().filter_map(|name| known(&name)).collect();
    answers.list(2 * found.len());
    for (name, value) in found {
        answers.bytes(name.as_bytes());
        answers.bytes(value.as_bytes());
    }
}
