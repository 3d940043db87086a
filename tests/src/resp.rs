//! A client of Redis's protocol, for the tests and the benchmark of `samples/kv_server`.
//!
//! It sends requests and reads answers, and knows nothing of what they mean. It must never hide that a connection
//! broke: which answers had come in before is what its users are about.

use std::io::{self, BufRead, BufReader, Error, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;

use crate::wait::WATCHDOG;

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// `+OK`
    Word(String),
    /// `-ERR ...`
    Error(String),
    /// `:1`
    Number(i64),
    /// `$3`, and three bytes.
    Bytes(Vec<u8>),
    /// `$-1`
    Nothing,
    /// `*2`, and two answers.
    List(Vec<Answer>),
}

/// A connection.
#[derive(Debug)]
pub struct Client<S = TcpStream> {
    stream: BufReader<S>,
}

/// A request as bytes.
#[must_use]
pub fn encode<W: AsRef<[u8]>>(words: &[W]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        let word = word.as_ref();
        bytes.extend(format!("${}\r\n", word.len()).into_bytes());
        bytes.extend(word);
        bytes.extend(b"\r\n");
    }
    bytes
}

fn broken(what: &str) -> Error {
    Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

impl Client {
    /// Connects to a server on this machine.
    ///
    /// # Errors
    /// The kernel's: nobody listens.
    pub fn connect(port: u16) -> io::Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(WATCHDOG))?;
        stream.set_write_timeout(Some(WATCHDOG))?;
        let stream = BufReader::new(stream);
        Ok(Self { stream })
    }
}

impl Client<UnixStream> {
    /// Connects to a server that listens at `path`.
    ///
    /// # Errors
    /// The kernel's: nobody listens.
    pub fn connect_unix(path: &Path) -> io::Result<Self> {
        let stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(WATCHDOG))?;
        stream.set_write_timeout(Some(WATCHDOG))?;
        let stream = BufReader::new(stream);
        Ok(Self { stream })
    }
}

impl<S: Read + Write> Client<S> {
    /// Sends bytes.
    ///
    /// # Errors
    /// The kernel's: the server has gone.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes)
    }

    /// Sends one request and waits for its answer.
    ///
    /// # Errors
    /// As [`Client::send`] and [`Client::answer`].
    pub fn ask<W: AsRef<[u8]>>(&mut self, words: &[W]) -> io::Result<Answer> {
        self.send(&encode(words))?;
        self.answer()
    }

    /// Waits for the next answer.
    ///
    /// # Errors
    /// The connection's end, in an answer or before it; what is no answer.
    pub fn answer(&mut self) -> io::Result<Answer> {
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        let line = line
            .strip_suffix("\r\n")
            .ok_or_else(|| broken("half an answer"))?;
        let sign = line.chars().next().ok_or_else(|| broken("an empty line"))?;
        let rest = &line[sign.len_utf8()..];
        let number = || rest.parse::<i64>().map_err(|_| broken("no number"));
        let len = || usize::try_from(number()?).map_err(|_| broken("no length"));
        Ok(match sign {
            '+' => Answer::Word(rest.to_owned()),
            '-' => Answer::Error(rest.to_owned()),
            ':' => Answer::Number(number()?),
            '$' if rest == "-1" => Answer::Nothing,
            '$' => {
                let mut bytes = vec![0; len()? + 2];
                self.stream.read_exact(&mut bytes)?;
                if bytes.split_off(bytes.len() - 2) != b"\r\n" {
                    return Err(broken("a longer answer than it says"));
                }
                Answer::Bytes(bytes)
            }
            '*' => Answer::List(
                (0..len()?)
                    .map(|_| self.answer())
                    .collect::<Result<_, _>>()?,
            ),
            _ => return Err(broken(line)),
        })
    }
}
