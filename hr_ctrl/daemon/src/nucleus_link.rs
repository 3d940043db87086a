//! hr_ctrl's end of the socket to nucleus: fds to keep, and the end of the site.
//!
//! Nobody here waits for nucleus. What its queue does not take is queued here, in order, and told again soon:
//! what is not kept is lost with hr_ctrl.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::time::Duration;

use refrain_sys::{inherited, seqpacket};

use crate::keeper::{Frame, Label, MAX_FDS, MAX_FRAME, Part};
use crate::{nucleus, watch};

/// How long a queue that is full is left alone.
const RETRY: Duration = Duration::from_millis(1);

/// What nucleus has kept over the death of a controller.
pub type Kept = Vec<(Label, Vec<OwnedFd>)>;

/// A frame that nucleus is still to be told, and the fds beside it.
type Untold = (Frame, Vec<OwnedFd>);

/// The link; clones share the socket.
#[derive(Clone)]
pub struct NucleusLink {
    socket: Rc<OwnedFd>,
    /// What nucleus is still to be told.
    untold: Rc<RefCell<VecDeque<Untold>>>,
}

impl NucleusLink {
    /// Takes the inherited socket and everything nucleus kept for us.
    ///
    /// # Errors
    /// This is no child of nucleus, or nucleus has gone.
    pub fn open() -> io::Result<(Self, Kept)> {
        let (socket, kept) = Self::receive()?;
        Ok((Self::over(socket), kept))
    }

    /// The same for another thread to make the link of.
    ///
    /// # Errors
    /// As [`NucleusLink::open`].
    pub fn receive() -> io::Result<(OwnedFd, Kept)> {
        let socket = inherited::take(nucleus::NUCLEUS_FD)?;
        let mut kept = Vec::new();
        let mut buffer = [0; MAX_FRAME];
        loop {
            let received = seqpacket::recv(&socket, &mut buffer, MAX_FDS)?;
            match Frame::decode(&buffer[..received.len]) {
                Ok(Frame::Keep { label, .. }) if !received.truncated => {
                    kept.push((label, received.fds))
                }
                // An fd was lost for want of room: what it belongs to is not adopted.
                Ok(Frame::Keep { label, .. }) => {
                    tracing::error!(?label, "an fd was not handed over")
                }
                Ok(Frame::KeptEnd) => return Ok((socket, kept)),
                _ => return Err(io::Error::other("nucleus does not answer")),
            }
        }
    }

    /// A second link for another thread.
    ///
    /// # Errors
    /// EMFILE.
    pub fn duplicate(&self) -> io::Result<OwnedFd> {
        self.socket.try_clone()
    }

    /// A link over an fd from [`NucleusLink::duplicate`].
    #[must_use]
    pub fn over(socket: OwnedFd) -> Self {
        Self {
            socket: Rc::new(socket),
            untold: Rc::default(),
        }
    }

    /// Has nucleus keep fds.
    pub fn keep(&self, actor: u64, part: Part, fds: &[BorrowedFd<'_>]) {
        let label = Label { actor, part };
        let once = part == Part::Image;
        self.tell(&Frame::Keep { label, once }, fds);
    }

    /// Has nucleus let go of what it keeps.
    pub fn let_go(&self, actor: u64, part: Part) {
        self.tell(&Frame::Drop(Label { actor, part }), &[]);
    }

    /// Has nucleus let go of all that it keeps of an actor.
    pub fn let_actor_go(&self, actor: u64) {
        self.tell(&Frame::DropActor(actor), &[]);
    }

    /// Tells nucleus that the site serves, and after how many milliseconds without a pulse it hangs.
    pub fn served(&self, limit_ms: u64) {
        self.tell(&Frame::Served { limit_ms }, &[]);
    }

    /// Tells nucleus that every thread of hr_ctrl answers.
    pub fn pulse(&self) {
        self.tell(&Frame::Pulse, &[]);
    }

    /// Tells nucleus that the site has ended; answers whether there still is a nucleus to clear up.
    #[must_use]
    pub fn ended(&self) -> bool {
        self.send(&Frame::Ended, &[]).is_ok()
    }

    /// Returns when somebody asked nucleus to end the site.
    pub async fn halt_asked(&self) {
        let mut buffer = [0; MAX_FRAME];
        while watch::readable(Rc::clone(&self.socket)).await.is_ok() {
            match seqpacket::recv_dontwait(&self.socket, &mut buffer, 0) {
                Ok(received) if received.is_closed() => break,
                Ok(received) => {
                    if Frame::decode(&buffer[..received.len]) == Ok(Frame::Halt) {
                        return;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => break,
            }
        }
        // Without nucleus nobody else can ask.
        std::future::pending().await
    }

    fn tell(&self, frame: &Frame, fds: &[BorrowedFd<'_>]) {
        let is_first = self.untold.borrow().is_empty();
        let told = if is_first {
            self.send(frame, fds)
        } else {
            Err(io::ErrorKind::WouldBlock.into())
        };
        match told {
            Ok(()) => {}
            Err(error) if is_gone(&error) => {
                tracing::warn!(?frame, %error, "nucleus does not listen");
            }
            Err(_) => {
                let fds = fds.iter().map(BorrowedFd::try_clone_to_owned);
                let Ok(fds) = fds.collect::<io::Result<_>>() else {
                    return tracing::error!(?frame, "no fd left to have nucleus keep another");
                };
                self.untold.borrow_mut().push_back((*frame, fds));
                if is_first {
                    actix_rt::spawn(self.clone().tell_later());
                }
            }
        }
    }

    async fn tell_later(self) {
        loop {
            tokio::time::sleep(RETRY).await;
            let mut untold = self.untold.borrow_mut();
            while let Some((frame, fds)) = untold.front() {
                let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
                match self.send(frame, &fds) {
                    Err(error) if !is_gone(&error) => break,
                    _ => drop(untold.pop_front()),
                }
            }
            if untold.is_empty() {
                return;
            }
        }
    }

    fn send(&self, frame: &Frame, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        let mut buffer = [0; MAX_FRAME];
        let len = frame.encode(&mut buffer);
        seqpacket::send_dontwait(self.socket.as_fd(), &buffer[..len], fds)
    }
}

/// Whether there is no nucleus any more.
fn is_gone(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, NotConnected};
    matches!(error.kind(), BrokenPipe | ConnectionReset | NotConnected)
}
