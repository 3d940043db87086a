//! The link of a life to its controller: one request, one reply, in turn.
//!
//! Called by every module of this crate that asks the controller something. Some answers come before
//! anybody asks, with sequence number 0: they are kept until somebody wants them ([`Link::welcome`],
//! [`Link::block_ahead`]). It must never touch the socket in a child that the life forked (the parent
//! would lose its replies), and must never believe a reply that carries another request's sequence
//! number.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use refrain_abi::BlockName;
use refrain_abi::request::{ErrorCode, MAX_FDS, MAX_FRAME, Reply, Request};
use refrain_sys::seqpacket;

/// Why a request of this life was not carried out, whatever it asked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// The controller refused; `text` is its own line and names the cure. [`ErrorCode::Again`] alone says
    /// nothing about whether it was done: the controller may have ended while it carried this out, and the one
    /// after it does nothing twice. Look, then ask again.
    #[error("{text}")]
    Refused {
        /// The family of refusal, for programs that decide by it.
        code: ErrorCode,
        /// What the controller says.
        text: String,
    },
    /// The socket is closed at its other end: the site is gone, or has given this life up. (A controller
    /// that ends and is started again does not close it.)
    #[error("the site's controller does not answer; this life is not watched any more")]
    NoAnswer,
    /// The caller is a child that the life forked. A child is no actor.
    #[error(
        "process {child} was forked by the life with pid {life} and is no actor; \
         ask from the life, or spawn with hrfexec"
    )]
    NotTheLife {
        /// The pid of the caller.
        child: u32,
        /// The pid of the life.
        life: u32,
    },
    /// The reply was none of this protocol, or not an answer to this request.
    #[error(
        "the controller's reply to {asked} was not understood; rebuild the program against this site's version"
    )]
    Protocol {
        /// What was asked.
        asked: &'static str,
    },
    /// The fd that belongs to the reply could not be received.
    #[error("the reply to {asked} lost its file descriptor: too many open files; raise ulimit -n")]
    NoFdLeft {
        /// What was asked.
        asked: &'static str,
    },
    /// The socket failed.
    #[error("cannot ask the site's controller: {0}")]
    Io(#[source] io::Error),
}

impl RequestError {
    /// The controller's family of refusal; `None` where the request never got so far.
    #[must_use]
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Refused { code, .. } => Some(*code),
            _ => None,
        }
    }
}

impl From<io::Error> for RequestError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::NotConnected
            | io::ErrorKind::UnexpectedEof => Self::NoAnswer,
            _ => Self::Io(error),
        }
    }
}

/// A reply and the fds that came beside it.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) reply: Reply,
    pub(crate) fds: Vec<OwnedFd>,
}

impl Answer {
    /// The one fd that a reply to `asked` must bring.
    pub(crate) fn only_fd(self, asked: &'static str) -> Result<OwnedFd, RequestError> {
        let [fd] =
            <[OwnedFd; 1]>::try_from(self.fds).map_err(|_| RequestError::Protocol { asked })?;
        Ok(fd)
    }
}

/// How many lives lie behind this memory: advanced in each life that begins from a warm image, whose
/// links are those of the life that made it.
static LIVES_BEFORE: AtomicU32 = AtomicU32::new(0);

/// From now on no link that exists is this life's own.
pub(crate) fn disown_all() {
    LIVES_BEFORE.fetch_add(1, Ordering::Relaxed);
}

/// A block that came before anybody asked for it.
#[derive(Debug)]
pub(crate) struct BlockAhead {
    pub(crate) name: BlockName,
    pub(crate) addr: u64,
    pub(crate) size: u64,
    /// Of which state of the bank it is, see `block_epoch` in the control page.
    pub(crate) epoch: u32,
    pub(crate) fd: OwnedFd,
}

/// What came before anybody asked.
#[derive(Debug, Default)]
struct Ahead {
    welcome: Option<Answer>,
    blocks: Vec<BlockAhead>,
}

impl Ahead {
    fn keep(&mut self, reply: Reply, mut fds: Vec<OwnedFd>) {
        match reply {
            Reply::Welcome { .. } => self.welcome = Some(Answer { reply, fds }),
            Reply::BlockAhead {
                name,
                addr,
                size,
                epoch,
            } => {
                let blocks = fds.pop().map(|fd| BlockAhead {
                    name,
                    addr,
                    size,
                    epoch,
                    fd,
                });
                self.blocks.extend(blocks);
            }
            // The controller could not read a request; who waits for its answer is told otherwise.
            _ => {}
        }
    }
}

/// The life's end of its socket.
#[derive(Debug)]
pub(crate) struct Link {
    socket: OwnedFd,
    /// The process that attached. Compared before the mutex is touched: a child forked while
    /// another thread held it would wait for ever.
    life: u32,
    /// [`LIVES_BEFORE`] when it attached.
    before: u32,
    /// The sequence number of the last request, never 0.
    last: Mutex<u32>,
    /// Locked for a moment only, never across a wait.
    ahead: Mutex<Ahead>,
}

impl Link {
    pub(crate) fn new(socket: OwnedFd) -> Self {
        Self {
            socket,
            life: std::process::id(),
            before: LIVES_BEFORE.load(Ordering::Relaxed),
            last: Mutex::new(0),
            ahead: Mutex::default(),
        }
    }

    /// Takes everything that came before anybody asked, and answers the welcome if it is there. Called
    /// once, before the first request.
    ///
    /// # Errors
    /// The socket is closed at its other end, or failed.
    pub(crate) fn welcome(&self) -> Result<Option<Answer>, RequestError> {
        let mut ahead = lock(&self.ahead);
        let mut frame = [0; MAX_FRAME];
        loop {
            let received = match seqpacket::recv_dontwait(&self.socket, &mut frame, MAX_FDS) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                other => other?,
            };
            if received.is_closed() {
                return Err(RequestError::NoAnswer);
            }
            // One that lost its fd (too many open files) is asked for again when it is wanted.
            match Reply::decode(&frame[..received.len]) {
                Ok((0, reply)) if !received.truncated => ahead.keep(reply, received.fds),
                _ => {}
            }
        }
        Ok(ahead.welcome.take())
    }

    /// Closes what came ahead, for a life that is to have no files but its own: it asks from now on.
    pub(crate) fn let_ahead_go(&self) {
        lock(&self.ahead).blocks.clear();
    }

    /// Takes the block of that name, if it came and `epoch` is still that of its coming. What is stale
    /// goes.
    pub(crate) fn block_ahead(&self, name: BlockName, epoch: u32) -> Option<BlockAhead> {
        let blocks = &mut lock(&self.ahead).blocks;
        blocks.retain(|block| block.epoch == epoch);
        let at = blocks.iter().position(|block| block.name == name)?;
        Some(blocks.swap_remove(at))
    }

    /// Whether the caller is the life that attached, not a child that it forked.
    pub(crate) fn is_own(&self) -> bool {
        std::process::id() == self.life && self.before == LIVES_BEFORE.load(Ordering::Relaxed)
    }

    /// Refuses a child that the life forked.
    pub(crate) fn check_own(&self) -> Result<(), RequestError> {
        if self.is_own() {
            return Ok(());
        }
        Err(RequestError::NotTheLife {
            child: std::process::id(),
            life: self.life,
        })
    }

    /// Sends `request` with `fds` beside it and waits for its reply. A refusal is an error.
    pub(crate) fn ask(
        &self,
        request: &Request,
        fds: &[BorrowedFd<'_>],
    ) -> Result<Answer, RequestError> {
        self.check_own()?;
        let asked = word_for(request);
        let mut last = lock(&self.last);
        *last = last.wrapping_add(1).max(1);
        let seq = *last;
        let mut frame = [0; MAX_FRAME];
        let len = request
            .encode(seq, &mut frame)
            .map_err(|_| RequestError::Protocol { asked })?;
        seqpacket::send(&self.socket, &frame[..len], fds)?;
        match self.await_reply(seq, asked)? {
            Answer {
                reply: Reply::Error { code, text },
                ..
            } => Err(RequestError::Refused {
                code,
                text: text.as_str().to_owned(),
            }),
            answer => Ok(answer),
        }
    }

    fn await_reply(&self, seq: u32, asked: &'static str) -> Result<Answer, RequestError> {
        let mut frame = [0; MAX_FRAME];
        loop {
            let received = seqpacket::recv(&self.socket, &mut frame, MAX_FDS)?;
            if received.is_closed() {
                return Err(RequestError::NoAnswer);
            }
            if received.truncated {
                return Err(RequestError::NoFdLeft { asked });
            }
            let (answered, reply) = Reply::decode(&frame[..received.len])
                .map_err(|_| RequestError::Protocol { asked })?;
            // A reply to a request that gave up on it (a truncated or unreadable one) comes
            // with an older number: it is dropped, and its fds with it.
            match answered {
                0 => lock(&self.ahead).keep(reply, received.fds),
                answered if answered == seq => {
                    return Ok(Answer {
                        reply,
                        fds: received.fds,
                    });
                }
                _ => {}
            }
        }
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// The error for a reply of another kind than `request` is answered with.
pub(crate) fn unexpected(request: &Request) -> RequestError {
    RequestError::Protocol {
        asked: word_for(request),
    }
}

/// Locks a mutex of this crate. What they guard is whole between any two statements, so a panic
/// elsewhere in the holder does no harm.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn word_for(request: &Request) -> &'static str {
    match request {
        Request::Hello => "attach",
        Request::PmmAllocate { .. } => "pmm_allocate",
        Request::PmmFree { .. } => "pmm_free",
        Request::PmmFreeAll { .. } => "pmm_free_all",
        Request::PmmGrant { .. } => "pmm_grant",
        Request::Hrfexec { .. } => "hrfexec",
        Request::GetActorGroup { .. } => "hr_get_actor_group",
        Request::GetCapability { .. } => "capability_of",
        Request::KillGroup { .. } => "hr_kill_group",
        Request::Shutdown { .. } => "sys_shutdown",
        Request::ImageHere => "image_here",
        Request::Promise => "promise_progress",
        // The shim's fault handler alone says so, and asks for nothing.
        Request::Failing => "failing",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a child that the life forked holds: the life's link under another pid.
    fn a_link_of_another_process() -> (Link, OwnedFd) {
        let (life, controller) = seqpacket::pair().unwrap();
        let mut link = Link::new(life);
        link.life = link.life.wrapping_add(1);
        (link, controller)
    }

    #[test]
    fn a_forked_child_is_refused_before_it_touches_the_socket_or_the_lock() {
        let (link, controller) = a_link_of_another_process();
        let _held_by_a_thread_that_was_not_forked = lock(&link.last);
        let error = link.ask(&Request::Hello, &[]).unwrap_err();
        assert!(
            matches!(error, RequestError::NotTheLife { .. }),
            "{error:?}"
        );
        let nothing = seqpacket::recv_dontwait(&controller, &mut [0; MAX_FRAME], 0).unwrap_err();
        assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock);
    }
}
