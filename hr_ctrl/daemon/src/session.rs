//! One client of the site's socket: its requests in, its answers and console lines out.
//!
//! Everything that goes out passes one queue, so that a command's output and the console keep
//! their order. A client that stops reading first loses console lines, then its session; it never
//! costs the site more than the limits below, and its connection ends with its session, whether it
//! has read everything or not.

use std::cell::Cell;
use std::io;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use refrain_abi::session::{FromSite, MAX_LINE, ToSite, VERSION};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;

use crate::interpreter::{Input, Interpreter, Session};
use crate::output::Output;

/// How many bytes may wait for a client before it loses console lines.
const CONSOLE_LIMIT: usize = 1 << 20;
/// How many bytes may wait for a client before its session is given up.
const SESSION_LIMIT: usize = 32 << 20;

/// How many bytes may wait for all clients together before those that read slowly are given up.
const SITE_LIMIT: usize = 128 << 20;
/// The longest first request, in bytes: more than any `open` has, so that who only connects costs little.
const OPEN_LIMIT: usize = 64 << 10;
/// How long a client may take to open its session.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the end of a session waits for its client to read what is left.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// How many bytes wait for all clients.
static WAITING: AtomicUsize = AtomicUsize::new(0);

/// How much a message counts, in bytes.
fn size_of(message: &FromSite) -> usize {
    match message {
        FromSite::Out(text) | FromSite::Err(text) | FromSite::Console(text) => text.len() + 16,
        _ => 16,
    }
}

/// The outgoing queue of a session.
#[derive(Clone)]
pub struct Queue {
    /// `None`: the session has ended, and what comes after is not sent.
    sender: mpsc::UnboundedSender<Option<FromSite>>,
    waiting: Arc<Waiting>,
    lost: Arc<AtomicU64>,
}

/// The bytes that wait for one client; when nobody reads them any more, they count no longer.
#[derive(Default)]
struct Waiting(AtomicUsize);

impl Waiting {
    fn add(&self, size: usize) {
        self.0.fetch_add(size, Ordering::Relaxed);
        WAITING.fetch_add(size, Ordering::Relaxed);
    }

    fn sent(&self, size: usize) {
        self.0.fetch_sub(size, Ordering::Relaxed);
        WAITING.fetch_sub(size, Ordering::Relaxed);
    }

    /// Whether this client is to be given up.
    fn is_too_much(&self) -> bool {
        let own = self.0.load(Ordering::Relaxed);
        let all = WAITING.load(Ordering::Relaxed);
        own > SESSION_LIMIT || (own > CONSOLE_LIMIT && all > SITE_LIMIT)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        WAITING.fetch_sub(*self.0.get_mut(), Ordering::Relaxed);
    }
}

impl Queue {
    fn new() -> (Self, mpsc::UnboundedReceiver<Option<FromSite>>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (
            Self {
                sender,
                waiting: Arc::default(),
                lost: Arc::default(),
            },
            receiver,
        )
    }

    /// Queues a message; answers whether the session is still there.
    pub fn send(&self, message: FromSite) -> bool {
        if self.waiting.is_too_much() {
            return false;
        }
        let size = size_of(&message);
        let sent = self.sender.send(Some(message)).is_ok();
        if sent {
            self.waiting.add(size);
        }
        sent
    }

    fn console(&self, line: &str) -> bool {
        if self.waiting.0.load(Ordering::Relaxed) > CONSOLE_LIMIT {
            self.lost.fetch_add(1, Ordering::Relaxed);
            return !self.sender.is_closed();
        }
        let lost = self.lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            self.send(FromSite::Console(format!(
                "C_INIT: {lost} lines were lost here"
            )));
        }
        self.send(FromSite::Console(line.to_owned()))
    }
}

/// What a session needs of C_INIT.
pub trait Host {
    /// The interpreter of now; a site restart makes another.
    fn interpreter(&self) -> Rc<dyn Interpreter>;
    /// A console has been opened.
    fn console_opened(&self, queue: Queue);
    /// The site's output.
    fn output(&self) -> Output;
}

/// Serves one client until it goes away.
pub async fn serve(stream: UnixStream, host: Rc<dyn Host>) {
    let (read, write) = stream.into_split();
    let (queue, outgoing) = Queue::new();
    let mut writer = actix_rt::spawn(write_out(write, outgoing, queue.waiting.clone()));
    if let Err(error) = converse(
        Incoming {
            read: BufReader::new(read),
            line: Vec::new(),
        },
        &host,
        &queue,
    )
    .await
    {
        queue.send(FromSite::Err(format!("c_init: {error}")));
        queue.send(FromSite::Done { code: 2 });
    }
    // What is queued still goes out. A client that does not read would keep the writer, and with it the
    // connection.
    let _ = queue.sender.send(None);
    if tokio::time::timeout(LAST_WORDS, &mut writer).await.is_err() {
        writer.abort();
    }
}

/// Tells a client why there is no session for it. Never waits: a new connection has room for a line.
pub fn refuse(stream: &UnixStream, why: &str) {
    if let Ok(mut line) = serde_json::to_vec(&FromSite::Refused(why.to_owned())) {
        line.push(b'\n');
        // Who is gone already needs no answer.
        let _ = stream.try_write(&line);
    }
}

async fn write_out(
    mut write: OwnedWriteHalf,
    mut outgoing: mpsc::UnboundedReceiver<Option<FromSite>>,
    waiting: Arc<Waiting>,
) {
    while let Some(Some(message)) = outgoing.recv().await {
        let size = size_of(&message);
        let Ok(mut line) = serde_json::to_vec(&message) else {
            continue;
        };
        line.push(b'\n');
        if write.write_all(&line).await.is_err() {
            return;
        }
        waiting.sent(size);
    }
}

async fn converse(mut incoming: Incoming, host: &Rc<dyn Host>, queue: &Queue) -> io::Result<()> {
    let opened = tokio::time::timeout(OPEN_TIMEOUT, incoming.next(OPEN_LIMIT)).await;
    let opened = opened.map_err(|_| io::Error::other("the session was not opened in time"))?;
    let Some(ToSite::Open {
        version,
        cwd,
        console,
    }) = opened?
    else {
        return Err(io::Error::other("a session starts with open"));
    };
    if version != VERSION {
        return Err(io::Error::other(format!(
            "this site speaks version {VERSION} of the session protocol, the client {version}"
        )));
    }
    let session = new_session(PathBuf::from(cwd), host, queue);
    if console {
        session.attach_console();
        host.console_opened(queue.clone());
    }
    let mut next = incoming.next(MAX_LINE).await?;
    while let Some(message) = next.take() {
        let input = match message {
            ToSite::Line(line) => Input::Line(line),
            ToSite::Words(words) => Input::Words(words),
            ToSite::Interrupt => {
                next = incoming.next(MAX_LINE).await?;
                continue;
            }
            ToSite::Open { .. } => return Err(io::Error::other("the session is open already")),
        };
        let interpreter = host.interpreter();
        let command = interpreter.execute(&session, input);
        tokio::pin!(command);
        let code = tokio::select! {
            code = &mut command => code,
            message = incoming.next(MAX_LINE) => match message? {
                Some(ToSite::Interrupt) => 130,
                Some(other) => {
                    next = Some(other);
                    command.await
                }
                None => return Ok(()),
            },
        };
        if !queue.send(FromSite::Done { code }) {
            return Ok(());
        }
        if next.is_none() {
            next = incoming.next(MAX_LINE).await?;
        }
    }
    Ok(())
}

/// A session whose answers go to `queue`.
pub fn new_session(cwd: PathBuf, host: &Rc<dyn Host>, queue: &Queue) -> Session {
    let sink = queue.clone();
    let attached = Cell::new(false);
    let (output, console) = (host.output(), queue.clone());
    Session::new(
        cwd,
        Rc::new(move |message| {
            sink.send(message);
        }),
        Rc::new(move || {
            if !attached.replace(true) {
                let console = console.clone();
                output.attach(Box::new(move |line| console.console(line)));
            }
        }),
    )
}

/// The incoming half of a session.
struct Incoming {
    read: BufReader<OwnedReadHalf>,
    /// What has come of the next line. Kept here so that a wait for it can be given up and taken
    /// up again without loss.
    line: Vec<u8>,
}

impl Incoming {
    /// The next message, of at most `longest` bytes; `None` at the end of the stream.
    async fn next(&mut self, longest: usize) -> io::Result<Option<ToSite>> {
        let limit = (longest + 1).saturating_sub(self.line.len()) as u64;
        (&mut self.read)
            .take(limit)
            .read_until(b'\n', &mut self.line)
            .await?;
        if self.line.pop() != Some(b'\n') {
            // Too long, at its end, or cut off half way: then there is nobody to answer.
            return if self.line.len() >= longest {
                Err(io::Error::other(format!(
                    "a request of more than {longest} bytes"
                )))
            } else {
                Ok(None)
            };
        }
        // What the parser says repeats what the client has sent, which may steer a terminal.
        let message = serde_json::from_slice(&self.line).map_err(|error| {
            let column = error.column();
            io::Error::other(format!(
                "not a request of this protocol, at column {column}"
            ))
        });
        // One long line is no reason to hold that much for ever.
        self.line = Vec::new();
        message.map(Some)
    }
}
