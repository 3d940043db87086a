//! A test actor that keeps structures in persistent memory: the words of `script/mod.rs`, and these.
//!
//! | words | meaning |
//! | --- | --- |
//! | `open KEY` | open the cell `lives`, the map `squares` and the log `recent`; KEY is `group` or any text |
//! | `count` | one life more in each of them, and say what they hold |
//! | `read KEY` | what a reader sees of `lives` and `recent` |
//! | `migrate` | open `lives` as version 1, of another type |
//!
//! A refusal is said as `error WORD: TEXT`, and the script goes on.

mod script;

use std::fmt::Display;

use refrain::{Cell, CellReader, DeletionKey, Log, LogReader, Map, Versions, named};
use script::{Script, Step};

struct Kept {
    lives: Cell<u64>,
    squares: Map<u64, [u64; 2]>,
    recent: Log<u64>,
}

fn main() {
    let mut script = Script::from_args();
    let mut kept = None;
    while let Some(word) = script.word() {
        let said = match script.step(word) {
            Step::Done => continue,
            Step::Return => return,
            Step::Other(word) => match word.as_str() {
                "open" => open(&script.operand()).map(|opened| {
                    kept = Some(opened);
                    "open".to_owned()
                }),
                "count" => kept.as_mut().ok_or("not open".to_owned()).and_then(count),
                "read" => read(&script.operand()),
                "migrate" => migrate(&mut kept),
                _ => panic!("{word}: not a word of the script"),
            }
            .unwrap_or_else(|error| format!("error {word}: {error}")),
        };
        script.say(&said);
    }
}

fn key(text: &str) -> DeletionKey {
    match text {
        "group" => refrain::HR_GROUP_KEY,
        text => DeletionKey::opaque(text.as_bytes()).expect("the key is short enough"),
    }
}

fn text(error: impl Display) -> String {
    error.to_string()
}

fn open(text_of_key: &str) -> Result<Kept, String> {
    let key = key(text_of_key);
    Ok(Kept {
        lives: Cell::open(named("lives", key)).map_err(text)?,
        squares: Map::open(named("squares", key), 0).map_err(text)?,
        recent: Log::open(named("recent", key), 3).map_err(text)?,
    })
}

fn count(kept: &mut Kept) -> Result<String, String> {
    let life = kept.lives.update(|lives| {
        *lives += 1;
        *lives
    });
    kept.squares
        .insert(&life, &[life, life * life])
        .map_err(text)?;
    kept.recent.append(&life);
    let synced = [kept.lives.sync(), kept.squares.sync(), kept.recent.sync()];
    synced
        .into_iter()
        .collect::<Result<(), _>>()
        .map_err(text)?;
    let sum: u64 = kept.squares.iter().map(|(_, [_, square])| square).sum();
    let recent: Vec<_> = kept.recent.iter().collect();
    let keys = kept.squares.len();
    Ok(format!(
        "life {life}, {keys} squares, sum {sum}, recent {recent:?}"
    ))
}

fn read(text_of_key: &str) -> Result<String, String> {
    let key = key(text_of_key);
    let lives = CellReader::<u64>::open(named("lives", key)).map_err(text)?;
    let mut recent = LogReader::<u64>::open(named("recent", key)).map_err(text)?;
    let mut seen = Vec::new();
    while let Some(life) = recent.next().map_err(text)? {
        seen.push(life);
    }
    Ok(format!(
        "sees {}, recent {seen:?}",
        lives.read().map_err(text)?
    ))
}

/// A later program: the number of lives has grown to two words.
fn migrate(kept: &mut Option<Kept>) -> Result<String, String> {
    *kept = None;
    let versions = Versions::new(1).from::<u64>(0, |lives| [*lives, 1000 + lives]);
    let blocks = named("lives", refrain::HR_GROUP_KEY);
    let lives = Cell::<[u64; 2]>::open_with(blocks, versions, || [0; 2]).map_err(text)?;
    Ok(format!("now {:?}", lives.get()))
}
