//! The connection to a site's socket: JSON lines, as `refrain_abi::session` defines them.

use std::env;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream as BlockingStream;
use std::time::Duration;

use hr_ctrl::paths;
use refrain_abi::session::{FromSite, MAX_LINE, ToSite, VERSION};
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

use crate::lines::{Lines, LinesError};
use crate::{FAILED, NO_SITE};

/// How long completion waits for an answer before it completes nothing.
const ASK_TIMEOUT: Duration = Duration::from_millis(300);

/// Why a site cannot be talked to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum LinkError {
    /// Nobody listens.
    #[error("no site \"{0}\" is running; start one with c_init --site {0}")]
    NoSite(String),
    /// Somebody listens, but does not want us.
    #[error("site \"{0}\" belongs to another user")]
    NotYours(String),
    /// The directory we are in cannot be told.
    #[error("the current directory: {0}")]
    Directory(String),
    /// The connection broke, or carried what is no message.
    #[error("the connection to the site: {0}")]
    Broken(String),
}

impl LinkError {
    /// The exit code for it.
    pub(crate) fn code(&self) -> i32 {
        if matches!(self, Self::NoSite(_)) {
            NO_SITE
        } else {
            FAILED
        }
    }

    fn connect(site: &str, why: &io::Error) -> Self {
        match why.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                Self::NoSite(site.to_owned())
            }
            io::ErrorKind::PermissionDenied => Self::NotYours(site.to_owned()),
            _ => Self::Broken(why.to_string()),
        }
    }
}

impl From<LinesError> for LinkError {
    fn from(why: LinesError) -> Self {
        Self::Broken(why.to_string())
    }
}

/// A session with a site.
pub(crate) struct Link {
    lines: Lines<OwnedReadHalf>,
    writer: OwnedWriteHalf,
}

impl Link {
    /// Opens a session; `console`: it is a console.
    ///
    /// # Errors
    /// [`LinkError`].
    pub(crate) async fn open(site: &str, console: bool) -> Result<Self, LinkError> {
        let open = hello(console)?;
        let stream = UnixStream::connect(paths::socket(site)).await;
        let (reader, writer) = stream
            .map_err(|why| LinkError::connect(site, &why))?
            .into_split();
        let mut link = Self {
            lines: Lines::new(reader, MAX_LINE),
            writer,
        };
        link.send(&open).await?;
        Ok(link)
    }

    /// Sends a message. A site that has hung up is no error here: it may have said why, and
    /// [`Link::receive`] tells that, or the end.
    ///
    /// # Errors
    /// [`LinkError::Broken`].
    pub(crate) async fn send(&mut self, message: &ToSite) -> Result<(), LinkError> {
        let line = line_of(message)?;
        match self.writer.write_all(&line).await {
            Err(why) if why.kind() != io::ErrorKind::BrokenPipe => {
                Err(LinkError::Broken(why.to_string()))
            }
            _ => Ok(()),
        }
    }

    /// The next message; `None` when the site has closed the session. May be dropped half way.
    ///
    /// # Errors
    /// [`LinkError::Broken`].
    pub(crate) async fn receive(&mut self) -> Result<Option<FromSite>, LinkError> {
        self.lines
            .next()
            .await?
            .map(|line| message_of(&line))
            .transpose()
    }
}

/// The output of a command on a running site; `None` for whatever reason there is none in time.
/// It blocks: this is for completion, on the thread that reads the terminal.
pub(crate) fn ask(site: &str, words: &[&str]) -> Option<String> {
    let mut stream = BlockingStream::connect(paths::socket(site)).ok()?;
    stream.set_read_timeout(Some(ASK_TIMEOUT)).ok()?;
    stream.set_write_timeout(Some(ASK_TIMEOUT)).ok()?;
    stream.write_all(&line_of(&hello(false).ok()?).ok()?).ok()?;
    let words = words.iter().map(|&word| word.to_owned()).collect();
    stream
        .write_all(&line_of(&ToSite::Words(words)).ok()?)
        .ok()?;
    let mut output = String::new();
    for line in BufReader::new(stream).lines() {
        match message_of(line.ok()?.as_bytes()).ok()? {
            FromSite::Out(text) => output += &text,
            FromSite::Done { code: 0 } => return Some(output),
            _ => return None,
        }
    }
    None
}

fn hello(console: bool) -> Result<ToSite, LinkError> {
    let cwd = env::current_dir().map_err(|why| LinkError::Directory(why.to_string()))?;
    let cwd = cwd.into_os_string().into_string();
    let cwd = cwd.map_err(|cwd| LinkError::Directory(format!("{cwd:?} is not UTF-8 text")))?;
    Ok(ToSite::Open {
        version: VERSION,
        cwd,
        console,
    })
}

fn line_of(message: &ToSite) -> Result<Vec<u8>, LinkError> {
    let mut line = serde_json::to_vec(message).map_err(|why| LinkError::Broken(why.to_string()))?;
    if line.len() > MAX_LINE {
        return Err(LinkError::Broken("the command is too long".to_owned()));
    }
    line.push(b'\n');
    Ok(line)
}

fn message_of(line: &[u8]) -> Result<FromSite, LinkError> {
    serde_json::from_slice(line).map_err(|why| {
        LinkError::Broken(format!("not understood, is it of another version? {why}"))
    })
}
