//! A session with the site that is kept for a whole run: commands as JSON lines on the site's socket, as
//! any client gives them, without a program for each.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use refrain_abi::session::{FromSite, ToSite, VERSION};
use refrain_tests::leftovers;

use crate::interrupt;
use crate::model::Row;

/// Longer than any answer takes.
pub const WATCHDOG: Duration = Duration::from_secs(60);
/// Between two tries to find the site again.
const PAUSE: Duration = Duration::from_millis(2);

/// What a command has led to.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The exit code.
    pub code: i32,
    /// What it printed.
    pub out: String,
    /// What it complained of.
    pub err: String,
}

/// The session.
pub struct Link {
    socket: PathBuf,
    stream: Option<BufReader<UnixStream>>,
    /// How often it had to be opened.
    pub opened: u64,
}

impl Link {
    /// A session with the site `name`.
    ///
    /// # Errors
    /// When the site has no socket.
    pub fn new(name: &str) -> Result<Self> {
        let wanted = format!("{name}.sock");
        let mut files = leftovers::files(name).into_iter();
        let socket = files.find(|path| path.ends_with(&wanted));
        Ok(Self {
            socket: socket.with_context(|| format!("no socket {wanted} was found"))?,
            stream: None,
            opened: 0,
        })
    }

    /// Gives one command, once.
    ///
    /// # Errors
    /// When the session breaks; the next command opens another one.
    pub fn order(&mut self, words: &[&str]) -> io::Result<Answer> {
        let answer = self.give(words);
        if answer.is_err() {
            self.stream = None;
        }
        answer
    }

    /// Gives one command that only asks, again where the session breaks: while there is no controller, its
    /// socket is there, but nobody answers.
    ///
    /// # Errors
    /// When nobody answers for [`WATCHDOG`], or the command fails.
    pub fn ask(&mut self, words: &[&str]) -> Result<String> {
        let begun = Instant::now();
        loop {
            interrupt::check()?;
            match self.order(words) {
                Ok(Answer { code: 0, out, .. }) => return Ok(out),
                Ok(answer) => bail!("{words:?}: {answer:?}"),
                Err(error) if begun.elapsed() > WATCHDOG => {
                    bail!("nobody answers {words:?}: {error}")
                }
                Err(_) => thread::sleep(PAUSE),
            }
        }
    }

    /// `aps --json`.
    ///
    /// # Errors
    /// As [`Link::ask`].
    pub fn rows(&mut self) -> Result<Vec<Row>> {
        Ok(serde_json::from_str(&self.ask(&["aps", "--json"])?)?)
    }

    /// `chorusStat --json`.
    ///
    /// # Errors
    /// As [`Link::ask`].
    pub fn stat(&mut self) -> Result<Stat> {
        Ok(serde_json::from_str(&self.ask(&["chorusStat", "--json"])?)?)
    }

    /// The names of the blocks in the bank.
    ///
    /// # Errors
    /// As [`Link::ask`].
    pub fn blocks(&mut self) -> Result<Vec<String>> {
        #[derive(serde::Deserialize)]
        struct Block {
            name: String,
        }
        #[derive(serde::Deserialize)]
        struct Memory {
            blocks: Vec<Block>,
        }
        let memory: Memory = serde_json::from_str(&self.ask(&["memstat", "--json"])?)?;
        Ok(memory.blocks.into_iter().map(|block| block.name).collect())
    }

    fn give(&mut self, words: &[&str]) -> io::Result<Answer> {
        if self.stream.is_none() {
            self.stream = Some(self.open()?);
        }
        let stream = self.stream.as_mut().expect("it was opened just now");
        let words = words.iter().map(|&word| word.to_owned()).collect();
        stream.get_mut().write_all(&line(&ToSite::Words(words)))?;
        let mut answer = Answer {
            code: 0,
            out: String::new(),
            err: String::new(),
        };
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            match serde_json::from_str(&line)? {
                FromSite::Out(text) => answer.out += &text,
                FromSite::Err(text) => answer.err += &text,
                FromSite::Done { code } => {
                    answer.code = code;
                    return Ok(answer);
                }
                FromSite::Halted { .. } | FromSite::Refused(_) => {
                    return Err(io::ErrorKind::ConnectionAborted.into());
                }
                FromSite::Console(_) | FromSite::Booted { .. } => {}
            }
        }
    }

    fn open(&mut self) -> io::Result<BufReader<UnixStream>> {
        let mut stream = UnixStream::connect(&self.socket)?;
        stream.set_read_timeout(Some(WATCHDOG))?;
        stream.set_write_timeout(Some(WATCHDOG))?;
        stream.write_all(&line(&ToSite::Open {
            version: VERSION,
            cwd: "/".to_owned(),
            console: false,
        }))?;
        self.opened += 1;
        Ok(BufReader::new(stream))
    }
}

/// What is read of `chorusStat --json`.
#[derive(Clone, Copy, Debug, serde::Deserialize)]
pub struct Stat {
    /// The pid of nucleus.
    pub nucleus: u32,
    /// The pid of hr_ctrl.
    pub hr_ctrl: u32,
}

fn line(message: &ToSite) -> Vec<u8> {
    let mut line = serde_json::to_vec(message).expect("a message can be written as JSON");
    line.push(b'\n');
    line
}
