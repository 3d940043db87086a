//! A key-value server that speaks Redis's protocol and loses no acknowledged write when it crashes.
//!
//! Run it as a restartable actor; `README.md` beside the sources shows how, and what it costs. Its data is in
//! persistent memory of its restart group: every life opens what the one before it left, whatever that one was
//! doing when it ended.
//!
//! | module | what it is for |
//! | --- | --- |
//! | `protocol` | bytes to requests, answers to bytes |
//! | `commands` | what each command does, and answers |
//! | `keyspace` | those about all keys: `KEYS`, `SCAN`, `INFO` |
//! | `glob` | their patterns |
//! | `store` | keys and values in a `Map`; one change is atomic |
//! | `objects` | long values, in pieces |
//! | `batch` | several changes, all or none |
//! | `expiry` | what has expired goes away |
//! | `limit` | `--size` |
//! | `server` | the event loop |

use std::net::TcpListener;

use anyhow::{Context, bail};
use refrain::{HR_GROUP_KEY, exit_clean};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

mod batch;
mod commands;
mod expiry;
mod glob;
mod keyspace;
mod limit;
mod objects;
mod protocol;
mod server;
mod store;
#[cfg(test)]
mod trials;

use server::Server;
use store::Store;

const USAGE: &str = "usage: kv_server [--bind ADDRESS] [--port PORT] [--size BYTES|KiB|MiB|GiB]";
/// Files that are no client's.
const OTHER_FILES: u64 = 32;

struct Options {
    bind: String,
    port: u16,
    /// What the data may take of the bank, in bytes.
    size: usize,
}

fn main() -> anyhow::Result<()> {
    let options = Options::read(std::env::args().skip(1))?;
    let blocks = |part: &str| refrain::named(&format!("kv_server.{part}"), HR_GROUP_KEY);
    let store = Store::open(blocks, options.size).context("cannot open the store")?;
    let place = (options.bind.as_str(), options.port);
    // The port is free again as soon as the life before has ended: this sets SO_REUSEADDR.
    let listener =
        TcpListener::bind(place).with_context(|| format!("cannot listen on {place:?}"))?;
    Server::new(store, listener, most_clients())?.run()?;
    // Without this the end would be taken for a crash.
    exit_clean(0)
}

/// As many as there can be files.
fn most_clients() -> usize {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    let files = if setrlimit(Resource::Nofile, raised).is_ok() {
        maximum
    } else {
        current
    };
    let clients = files.map(|files| usize::try_from(files.saturating_sub(OTHER_FILES)));
    clients.and_then(Result::ok).unwrap_or(usize::MAX)
}

impl Options {
    fn read(mut words: impl Iterator<Item = String>) -> anyhow::Result<Self> {
        let mut options = Self {
            bind: "127.0.0.1".to_owned(),
            port: 6379,
            size: 16 << 20,
        };
        while let Some(name) = words.next() {
            let value = words.next().context(USAGE)?;
            match name.as_str() {
                "--bind" => options.bind = value,
                "--port" => options.port = value.parse().context(USAGE)?,
                "--size" => options.size = bytes(&value).context(USAGE)?,
                _ => bail!(USAGE),
            }
        }
        Ok(options)
    }
}

/// `256MiB` in bytes.
fn bytes(text: &str) -> Option<usize> {
    let units = [("KiB", 10), ("MiB", 20), ("GiB", 30), ("", 0)];
    let (number, shift) = units
        .iter()
        .find_map(|(unit, shift)| Some((text.strip_suffix(unit)?, shift)))?;
    number.trim().parse::<usize>().ok()?.checked_mul(1 << shift)
}
