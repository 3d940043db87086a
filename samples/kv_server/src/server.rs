//! The event loop: connections in, requests executed, answers out.
//!
//! Called by `main.rs`, and returns when a client has said SHUTDOWN. One thread, because a life with one thread is
//! restarted the fastest way there is, and because commands are executed one at a time anyway. Everything here is
//! gone with the life: clients connect again. It must never block on one client, nor keep more for it than the
//! limits below.

use std::collections::HashMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::Errno;

use crate::commands::{Next, execute};
use crate::protocol::{Answers, MAX_REQUEST, parse};
use crate::store::Store;

/// Answers that wait to be taken, in bytes, before the next request is executed.
const MAX_WAITING: usize = 1 << 20;
/// How much is read at once, in bytes.
const READ: usize = 64 << 10;
/// Events that are taken at once.
const EVENTS: usize = 256;
/// The longest wait for something to expire, in milliseconds: the clock may have been set meanwhile.
const LONGEST_MS: u64 = 1000;
/// Which one means the listener; the others are numbers of clients.
const LISTENER: u64 = 0;

struct Client {
    stream: TcpStream,
    input: Vec<u8>,
    output: Vec<u8>,
    /// How much of `output` is sent.
    sent: usize,
    /// What epoll looks for.
    interest: EventFlags,
    closing: bool,
}

/// CLOCK_REALTIME in milliseconds.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}

/// A server, and whom it serves.
pub struct Server {
    store: Store,
    epoll: OwnedFd,
    listener: TcpListener,
    clients: HashMap<u64, Client>,
    newest: u64,
    most: usize,
    buffer: Vec<u8>,
}

impl Server {
    /// Serves `store` on `listener`, up to `most` clients at a time.
    ///
    /// # Errors
    /// The kernel's.
    pub fn new(store: Store, listener: TcpListener, most: usize) -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        listener.set_nonblocking(true)?;
        epoll::add(
            &epoll,
            &listener,
            EventData::new_u64(LISTENER),
            EventFlags::IN,
        )?;
        Ok(Self {
            store,
            epoll,
            listener,
            clients: HashMap::new(),
            newest: LISTENER,
            most,
            buffer: vec![0; READ],
        })
    }

    /// Until somebody says SHUTDOWN.
    ///
    /// # Errors
    /// The kernel's, of the event loop itself; a client's are that client's end.
    pub fn run(&mut self) -> io::Result<()> {
        let mut events = Vec::with_capacity(EVENTS);
        loop {
            events.clear();
            let timeout = self.expire();
            match epoll::wait(&self.epoll, spare_capacity(&mut events), timeout.as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            for event in &events {
                let number = event.data.u64();
                if number == LISTENER {
                    self.accept();
                } else if self.serve(number) == Next::End {
                    return Ok(());
                }
            }
        }
    }

    /// Removes a little of what has expired, if that is due. Answers how long may be waited for the next time.
    fn expire(&mut self) -> Option<Timespec> {
        let due = self.store.expires_next()?;
        let now = now();
        if due <= now {
            // It cannot fail but for a store that is damaged, and then clients are told; it is tried again later.
            let _ = self.store.expire_some(now);
        }
        let wait = self.store.expires_next()?.saturating_sub(now);
        let wait = i64::try_from(wait.min(LONGEST_MS)).unwrap_or(0);
        let (tv_sec, tv_nsec) = (wait / 1000, wait % 1000 * 1_000_000);
        Some(Timespec { tv_sec, tv_nsec })
    }

    /// Takes those who have connected. One that cannot be taken has gone already, or there is no fd for it; then
    /// there is room when another one goes.
    fn accept(&mut self) {
        while let Ok((mut stream, _)) = self.listener.accept() {
            if self.clients.len() >= self.most {
                // It is gone anyway.
                let _ = stream.write_all(b"-ERR max number of clients reached\r\n");
                continue;
            }
            self.newest += 1;
            let (number, interest) = (self.newest, EventFlags::IN);
            // An answer goes out at once, not when more has come together.
            let set_up = stream
                .set_nonblocking(true)
                .and_then(|()| stream.set_nodelay(true));
            let added = epoll::add(&self.epoll, &stream, EventData::new_u64(number), interest);
            if set_up.is_ok() && added.is_ok() {
                self.clients.insert(number, Client::new(stream, interest));
            }
        }
    }

    /// Takes what a client has sent, executes it, sends answers; lets go of a client that is done.
    fn serve(&mut self, number: u64) -> Next {
        let Some(client) = self.clients.get_mut(&number) else {
            return Next::GoOn;
        };
        let next = client
            .turn(&mut self.store, &mut self.buffer)
            .unwrap_or(Next::Close);
        let stays = next == Next::GoOn && client.look_for(&self.epoll, number).is_ok();
        if !stays {
            // Its fd is closed with it, and epoll forgets it.
            self.clients.remove(&number);
        }
        if next == Next::End {
            Next::End
        } else {
            Next::GoOn
        }
    }
}

impl Client {
    fn new(stream: TcpStream, interest: EventFlags) -> Self {
        Self {
            stream,
            input: Vec::new(),
            output: Vec::new(),
            sent: 0,
            interest,
            closing: false,
        }
    }

    /// One turn: as much as can be done without waiting. `Close` when nothing is left to be done.
    fn turn(&mut self, store: &mut Store, buffer: &mut [u8]) -> io::Result<Next> {
        let mut open = true;
        if self.reads() {
            match self.stream.read(buffer) {
                Ok(0) => open = false,
                Ok(len) => self.input.extend(&buffer[..len]),
                Err(error) if is_later(&error) => {}
                Err(error) => return Err(error),
            }
        }
        loop {
            let next = self.execute(store);
            self.send()?;
            if next == Next::End {
                return Ok(next);
            }
            // Answers were in the way, and are gone: there may be another request.
            if next == Next::GoOn || !self.output.is_empty() {
                break;
            }
        }
        let is_done = !open || (self.closing && self.output.is_empty());
        Ok(if is_done { Next::Close } else { Next::GoOn })
    }

    /// Executes what has come in, until answers are in the way: then `Close`, for this turn.
    fn execute(&mut self, store: &mut Store) -> Next {
        let now = now();
        let mut at = 0;
        let mut next = Next::GoOn;
        while !self.closing && next == Next::GoOn {
            if self.output.len() - self.sent >= MAX_WAITING {
                next = Next::Close;
                break;
            }
            let mut answers = Answers(&mut self.output);
            match parse(&self.input[at..]) {
                Ok(None) => break,
                Ok(Some(request)) => {
                    at += request.len;
                    match execute(store, &request.words, &mut answers, now) {
                        Next::GoOn => {}
                        Next::Close => self.closing = true,
                        Next::End => next = Next::End,
                    }
                }
                Err(malformed) => {
                    answers.error(&format!("ERR {malformed}"));
                    self.closing = true;
                }
            }
        }
        self.input.drain(..at);
        next
    }

    fn send(&mut self) -> io::Result<()> {
        while self.sent < self.output.len() {
            match self.stream.write(&self.output[self.sent..]) {
                Ok(len) => self.sent += len,
                Err(error) if is_later(&error) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        self.output.clear();
        self.output.shrink_to(MAX_WAITING);
        self.sent = 0;
        Ok(())
    }

    /// Whether more may come in: not while answers wait, nor when it is about to go.
    fn reads(&self) -> bool {
        !self.closing
            && self.output.len() - self.sent < MAX_WAITING
            && self.input.len() <= MAX_REQUEST + READ
    }

    /// Tells epoll what the client waits for.
    fn look_for(&mut self, epoll: &OwnedFd, number: u64) -> io::Result<()> {
        let mut wanted = EventFlags::empty();
        wanted.set(EventFlags::IN, self.reads());
        wanted.set(EventFlags::OUT, !self.output.is_empty());
        if wanted != self.interest {
            epoll::modify(epoll, &self.stream, EventData::new_u64(number), wanted)?;
            self.interest = wanted;
        }
        Ok(())
    }
}

fn is_later(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}
