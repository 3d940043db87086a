//! hr_ctrl's end of the socket to nucleus: image fds to keep, and the end of the site.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use refrain_abi::ActorName;
use refrain_sys::{inherited, seqpacket};

use crate::keeper::{Frame, MAX_FDS, MAX_FRAME};
use crate::{nucleus, watch};

/// An image that nucleus kept over the death of a controller: the actor's name, the image's fd
/// and, for a script, the script's.
pub struct KeptImage {
    /// The actor's name.
    pub name: ActorName,
    /// Image, then script.
    pub fds: Vec<OwnedFd>,
}

/// The link; clones share the socket.
#[derive(Clone)]
pub struct NucleusLink(Rc<OwnedFd>);

impl NucleusLink {
    /// Takes the inherited socket and everything nucleus kept for us.
    ///
    /// # Errors
    /// This is no child of nucleus, or nucleus has gone.
    pub fn open() -> io::Result<(Self, Vec<KeptImage>)> {
        let socket = inherited::take(nucleus::NUCLEUS_FD)?;
        let mut kept = Vec::new();
        let mut buffer = [0; MAX_FRAME];
        loop {
            let received = seqpacket::recv(&socket, &mut buffer, MAX_FDS)?;
            match Frame::decode(&buffer[..received.len]) {
                Ok(Frame::Keep(name)) => kept.push(KeptImage {
                    name,
                    fds: received.fds,
                }),
                Ok(Frame::KeptEnd) => return Ok((Self(Rc::new(socket)), kept)),
                _ => return Err(io::Error::other("nucleus does not answer")),
            }
        }
    }

    /// A second link for another thread.
    ///
    /// # Errors
    /// EMFILE.
    pub fn duplicate(&self) -> io::Result<OwnedFd> {
        self.0.try_clone()
    }

    /// A link over an fd from [`NucleusLink::duplicate`].
    #[must_use]
    pub fn over(socket: OwnedFd) -> Self {
        Self(Rc::new(socket))
    }

    /// Has nucleus keep an actor's image.
    pub fn keep(&self, name: ActorName, fds: &[BorrowedFd<'_>]) {
        self.tell(&Frame::Keep(name), fds);
    }

    /// Has nucleus let an actor's image go.
    pub fn drop_image(&self, name: ActorName) {
        self.tell(&Frame::Drop(name), &[]);
    }

    /// Tells nucleus that the site serves.
    pub fn served(&self) {
        self.tell(&Frame::Served, &[]);
    }

    /// Tells nucleus that every thread of hr_ctrl answers.
    pub fn pulse(&self) {
        self.tell(&Frame::Pulse, &[]);
    }

    /// Tells nucleus that the site has ended; answers whether there still is a nucleus to clear up.
    #[must_use]
    pub fn ended(&self) -> bool {
        self.tell(&Frame::Ended, &[])
    }

    /// Returns when somebody asked nucleus to end the site.
    pub async fn halt_asked(&self) {
        let mut buffer = [0; MAX_FRAME];
        while watch::readable(Rc::clone(&self.0)).await.is_ok() {
            match seqpacket::recv_dontwait(&self.0, &mut buffer, 0) {
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

    fn tell(&self, frame: &Frame, fds: &[BorrowedFd<'_>]) -> bool {
        let mut buffer = [0; MAX_FRAME];
        let len = frame.encode(&mut buffer);
        // Nobody here waits for nucleus: an image that it does not keep is read from its file
        // again, and only should hr_ctrl die.
        let told = seqpacket::send_dontwait(self.0.as_fd(), &buffer[..len], fds);
        if let Err(error) = &told {
            tracing::warn!(?frame, %error, "nucleus does not listen");
        }
        told.is_ok()
    }
}
