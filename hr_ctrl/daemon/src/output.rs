//! The site's console and log: what actors print, line by line with their names in front, and
//! what the boot actors have to say.
//!
//! Read on the main thread, so an actor that floods its output costs that thread's time and never
//! HR_CTRL's; kept in bounded rings; shown on consoles that are bounded, too: a console that does
//! not keep up loses lines and is told how many.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use refrain_abi::ActorName;
use refrain_abi::limits::RunAs;
use refrain_sys::process;
use rustix::fs::{Gid, Mode, OFlags, Uid};
use tokio::sync::{mpsc, oneshot};

use crate::watch;

/// The name under which `log` shows what the boot actors said.
pub const BOOT_LOG: &str = "HR_CTRL";
/// A line longer than this is cut into several, in bytes.
const MAX_LINE: usize = 16 << 10;
/// How many logs of actors that are gone are kept.
const MAX_ENDED_LOGS: usize = 64;
/// How often the rest of a pipe is read that nobody should be writing to any more.
const LAST_READS: usize = 256;
/// How many pieces of output a follower may be behind.
const FOLLOW_DEPTH: usize = 256;

/// Takes console lines; answers whether it is still there.
pub type Console = Box<dyn Fn(&str) -> bool + Send>;

struct Log {
    bytes: VecDeque<u8>,
    writers: u32,
    followers: Vec<mpsc::Sender<Vec<u8>>>,
}

#[derive(Default)]
struct State {
    logs: HashMap<String, Log>,
    ended: VecDeque<String>,
    consoles: Vec<Console>,
}

enum Command {
    Adopt(ActorName, Arc<OwnedFd>, oneshot::Receiver<()>),
    Say(String),
    Note(ActorName, String),
}

/// The pipe that an actor's lives, its template and whatever they start print into.
///
/// A site holds thousands, so it is one fd, open for reading and writing at once: it never reports
/// an end for want of writers, and a new write end is opened through it whenever one is handed out.
/// Nobody else gets this fd: whoever prints must not read, and must not share our O_NONBLOCK.
///
/// Source: fifo(7), "Under Linux, opening a FIFO for read and write will succeed"; proc_pid_fd(5).
pub struct ActorOutput {
    pipe: Arc<OwnedFd>,
    /// Dropped with this: the end of the reader.
    _open: oneshot::Sender<()>,
}

impl ActorOutput {
    /// The pipe itself, for whoever keeps it.
    #[must_use]
    pub fn pipe(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }

    /// Lets this user, or the site's own, open it by its path, as `/dev/stdout`; fds of it need no
    /// leave.
    ///
    /// # Errors
    /// The kernel's (EPERM).
    pub fn give_to(&self, user: Option<&RunAs>) -> io::Result<()> {
        let own = (process::geteuid(), process::getegid());
        let (uid, gid) = user.map_or(own, |user| (user.uid, user.gid));
        let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
        Ok(rustix::fs::fchown(&self.pipe, Some(uid), Some(gid))?)
    }

    /// Opens a write end, for one life or template.
    ///
    /// # Errors
    /// The kernel's (EMFILE).
    pub fn writer(&self) -> io::Result<OwnedFd> {
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        Ok(rustix::fs::open(own(&self.pipe), flags, Mode::empty())?)
    }
}

/// The path by which this process opens what it has open already.
fn own(fd: &impl AsRawFd) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

/// The handle: cheap to clone, usable from every thread.
#[derive(Clone)]
pub struct Output {
    state: Arc<Mutex<State>>,
    commands: mpsc::UnboundedSender<Command>,
    log_size: usize,
}

impl Output {
    /// Starts the readers on this thread, which must run an actix system.
    #[must_use]
    pub fn start(log_size: u64) -> Self {
        let (commands, mut incoming) = mpsc::unbounded_channel();
        let log_size = usize::try_from(log_size).unwrap_or(usize::MAX);
        let output = Self {
            state: Arc::default(),
            commands,
            log_size,
        };
        let reader = output.clone();
        actix_rt::spawn(async move {
            while let Some(command) = incoming.recv().await {
                match command {
                    Command::Adopt(name, pipe, ended) => {
                        reader.open_log(name.as_str());
                        actix_rt::spawn(read_pipe(reader.clone(), name, pipe, ended));
                    }
                    Command::Say(line) => reader.show(BOOT_LOG, &line, Some(&line)),
                    Command::Note(name, line) => reader.show(name.as_str(), &line, None),
                }
            }
        });
        output
    }

    /// Makes the pipe that an actor prints into. It is read until the answer is dropped, and then until it
    /// is empty.
    ///
    /// # Errors
    /// The kernel's (EMFILE).
    pub fn pipe_for(&self, name: ActorName) -> io::Result<ActorOutput> {
        let (read, _write) = io::pipe()?;
        let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let pipe = rustix::fs::open(own(&read), flags, Mode::empty())?;
        Ok(self.adopt(name, pipe))
    }

    /// Takes over the pipe of an actor whose hr_ctrl has ended.
    #[must_use]
    pub fn adopt(&self, name: ActorName, pipe: OwnedFd) -> ActorOutput {
        let pipe = Arc::new(pipe);
        let (open, ended) = oneshot::channel();
        let adopt = Command::Adopt(name, Arc::clone(&pipe), ended);
        let _ = self.commands.send(adopt);
        ActorOutput { pipe, _open: open }
    }

    /// Says a line on the site's console. Never blocks: HR_CTRL calls this.
    pub fn say(&self, line: impl Into<String>) {
        let _ = self.commands.send(Command::Say(line.into()));
    }

    /// Puts a line into the log of an actor, not on the console. Never blocks.
    pub fn note(&self, name: ActorName, line: impl Into<String>) {
        let _ = self.commands.send(Command::Note(name, line.into()));
    }

    /// Shows all lines from now on to `console`, until it answers that it is gone.
    pub fn attach(&self, console: Console) {
        self.lock().consoles.push(console);
    }

    /// The end of what an actor printed; `None` when there is no log of that name.
    #[must_use]
    pub fn log(&self, name: &str) -> Option<Vec<u8>> {
        self.lock()
            .logs
            .get(name)
            .map(|log| log.bytes.iter().copied().collect())
    }

    /// What an actor prints from now on. A follower that is too far behind misses pieces.
    #[must_use]
    pub fn follow(&self, name: &str) -> Option<mpsc::Receiver<Vec<u8>>> {
        let (sender, receiver) = mpsc::channel(FOLLOW_DEPTH);
        self.lock().logs.get_mut(name)?.followers.push(sender);
        Some(receiver)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open_log(&self, name: &str) {
        let mut state = self.lock();
        state.ended.retain(|ended| ended != name);
        state.log(name).writers += 1;
    }

    /// The last writer of a log is gone: keep it for a while.
    fn close_log(&self, name: &str) {
        let mut state = self.lock();
        let Some(log) = state.logs.get_mut(name) else {
            return;
        };
        log.writers = log.writers.saturating_sub(1);
        if log.writers > 0 {
            return;
        }
        log.followers.clear();
        state.ended.push_back(name.to_owned());
        if state.ended.len() > MAX_ENDED_LOGS {
            let oldest = state.ended.pop_front();
            oldest.map(|name| state.logs.remove(&name));
        }
    }

    fn show(&self, log: &str, text: &str, console: Option<&str>) {
        let mut state = self.lock();
        let limit = self.log_size;
        let entry = state.log(log);
        entry.bytes.extend(text.as_bytes());
        entry.bytes.push_back(b'\n');
        let over = entry.bytes.len().saturating_sub(limit);
        entry.bytes.drain(..over);
        if !entry.followers.is_empty() {
            let piece = format!("{text}\n").into_bytes();
            entry.followers.retain(|follower| {
                !matches!(
                    follower.try_send(piece.clone()),
                    Err(mpsc::error::TrySendError::Closed(_))
                )
            });
        }
        if let Some(line) = console {
            state.consoles.retain(|show| show(line));
        }
    }
}

impl State {
    fn log(&mut self, name: &str) -> &mut Log {
        self.logs.entry(name.to_owned()).or_insert_with(|| Log {
            bytes: VecDeque::new(),
            writers: 0,
            followers: Vec::new(),
        })
    }
}

async fn read_pipe(
    output: Output,
    name: ActorName,
    pipe: Arc<OwnedFd>,
    mut ended: oneshot::Receiver<()>,
) {
    let mut partial = Vec::new();
    if let Ok(watched) = watch::register(Rc::new(Arc::clone(&pipe))) {
        loop {
            let ready = tokio::select! {
                ready = watched.readable() => ready,
                // Fails when the sender is dropped.
                _ = &mut ended => break,
            };
            let Ok(mut guard) = ready else { break };
            match guard.try_io(|_| Ok(read_some(&output, &name, &mut partial, &pipe)?)) {
                Ok(Ok(_)) => tokio::task::yield_now().await,
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(Err(_)) => break,
                Err(_would_block) => {}
            }
        }
    }
    // What was printed last; bounded, should somebody hold on to a write end.
    for _ in 0..LAST_READS {
        if read_some(&output, &name, &mut partial, &pipe).is_err() {
            break;
        }
    }
    if !partial.is_empty() {
        show_line(&output, &name, &partial);
    }
    output.close_log(name.as_str());
}

fn read_some(
    output: &Output,
    name: &ActorName,
    partial: &mut Vec<u8>,
    pipe: &OwnedFd,
) -> rustix::io::Result<()> {
    // On the stack, so that an idle actor costs no buffer.
    let mut buffer = [0; 8192];
    let count = rustix::io::read(pipe, &mut buffer)?;
    take_lines(output, name, partial, &buffer[..count]);
    Ok(())
}

fn take_lines(output: &Output, name: &ActorName, partial: &mut Vec<u8>, mut bytes: &[u8]) {
    while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
        partial.extend_from_slice(&bytes[..end]);
        show_line(output, name, partial);
        partial.clear();
        bytes = &bytes[end + 1..];
    }
    partial.extend_from_slice(bytes);
    if partial.len() >= MAX_LINE {
        show_line(output, name, partial);
        partial.clear();
    }
}

fn show_line(output: &Output, name: &ActorName, line: &[u8]) {
    let text = String::from_utf8_lossy(line);
    let text = text.trim_end_matches('\r');
    output.show(name.as_str(), text, Some(&format!("{name}: {text}")));
}
