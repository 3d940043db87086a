//! SOCK_SEQPACKET pairs: whole frames, with fds beside them.
//!
//! The socket of a life, and the one between controller and template. What arrives may come from a
//! hostile actor: lengths are bounded by the buffer, fds by `max_fds`, and whatever exceeds either is
//! reported, never half used. Must never leave a received fd open that it does not hand out.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::cmsg_space;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};

/// The most fds that one frame carries here.
pub const MAX_FDS: usize = 16;

/// A frame as it arrived.
#[derive(Debug, Default)]
pub struct Received {
    /// How many bytes of the buffer it filled. 0: see [`Received::is_closed`].
    pub len: usize,
    /// The fds beside it, CLOEXEC; none when `truncated`.
    pub fds: Vec<OwnedFd>,
    /// It was longer than the buffer, or carried more fds than `max_fds`: to be refused.
    pub truncated: bool,
}

impl Received {
    /// Whether the peer has closed its end. An empty frame looks the same, and is taken for it:
    /// no protocol here has one.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.len == 0
    }
}

/// A connected pair, both ends blocking and CLOEXEC.
///
/// # Errors
/// The kernel's (EMFILE).
///
/// Source: socketpair(2), unix(7).
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::net::socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )?)
}

/// As [`pair`], the first end (the controller's) nonblocking.
///
/// # Errors
/// The kernel's.
pub fn pair_nonblocking_first() -> io::Result<(OwnedFd, OwnedFd)> {
    let (first, second) = pair()?;
    rustix::io::ioctl_fionbio(&first, true)?;
    Ok((first, second))
}

/// Sends one frame with `fds` beside it. Waits while the peer's queue is full, unless the socket is
/// nonblocking. Never raises SIGPIPE.
///
/// # Errors
/// `WouldBlock`, `BrokenPipe` (peer closed), `InvalidInput` for more than [`MAX_FDS`] fds; else
/// the kernel's.
///
/// Source: sendmsg(2), SCM_RIGHTS in unix(7).
pub fn send(socket: impl AsFd, frame: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    send_with(socket.as_fd(), frame, fds, SendFlags::NOSIGNAL)
}

/// As [`send`], but never waits, whatever the socket's mode.
///
/// # Errors
/// As [`send`].
pub fn send_dontwait(socket: impl AsFd, frame: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    send_with(
        socket.as_fd(),
        frame,
        fds,
        SendFlags::NOSIGNAL | SendFlags::DONTWAIT,
    )
}

fn send_with(
    socket: BorrowedFd<'_>,
    frame: &[u8],
    fds: &[BorrowedFd<'_>],
    flags: SendFlags,
) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    loop {
        match rustix::net::sendmsg(socket, &[IoSlice::new(frame)], &mut control, flags) {
            Err(Errno::INTR) => {}
            Ok(sent) if sent != frame.len() => return Err(io::ErrorKind::WriteZero.into()),
            other => return Ok(other.map(drop)?),
        }
    }
}

/// Receives one frame and at most `max_fds` fds. Waits for one unless the socket is nonblocking.
///
/// # Errors
/// `WouldBlock`, `ConnectionReset`; else the kernel's. A frame that was cut is no error but
/// `truncated`, so that the caller answers it.
///
/// Source: recvmsg(2), MSG_CMSG_CLOEXEC.
pub fn recv(socket: impl AsFd, buffer: &mut [u8], max_fds: usize) -> io::Result<Received> {
    recv_with(socket.as_fd(), buffer, max_fds, RecvFlags::CMSG_CLOEXEC)
}

/// As [`recv`], but never waits, whatever the socket's mode.
///
/// # Errors
/// As [`recv`].
pub fn recv_dontwait(socket: impl AsFd, buffer: &mut [u8], max_fds: usize) -> io::Result<Received> {
    recv_with(
        socket.as_fd(),
        buffer,
        max_fds,
        RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT,
    )
}

/// As [`recv_dontwait`], but leaves the frame in the queue, and its fds too: those received are further
/// ones for the same files.
///
/// # Errors
/// As [`recv`].
///
/// Source: MSG_PEEK in recv(2).
pub fn peek(socket: impl AsFd, buffer: &mut [u8], max_fds: usize) -> io::Result<Received> {
    recv_with(
        socket.as_fd(),
        buffer,
        max_fds,
        RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT | RecvFlags::PEEK,
    )
}

/// Takes the next frame out of the queue, unread; its fds are closed.
///
/// # Errors
/// `WouldBlock` when there is none; else as [`recv`].
pub fn discard(socket: impl AsFd) -> io::Result<()> {
    loop {
        // What does not fit is discarded with the rest, and fds that there is no room for are closed.
        match rustix::net::recv(socket.as_fd(), &mut [0; 1], RecvFlags::DONTWAIT) {
            Err(Errno::INTR) => {}
            other => return Ok(other.map(drop)?),
        }
    }
}

fn recv_with(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
    max_fds: usize,
    flags: RecvFlags,
) -> io::Result<Received> {
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(MAX_FDS))];
    // Room for one fd even where none is wanted: a passed fd is then seen and closed here.
    let room = cmsg_space!(ScmRights(max_fds.clamp(1, MAX_FDS))).min(space.len());
    let (space, _) = space.split_at_mut(room);
    let mut control = RecvAncillaryBuffer::new(space);
    let message = loop {
        let parts = &mut [IoSliceMut::new(buffer)];
        match rustix::net::recvmsg(socket, parts, &mut control, flags) {
            Err(Errno::INTR) => {}
            other => break other?,
        }
    };
    let mut fds: Vec<OwnedFd> = Vec::new();
    for item in control.drain() {
        if let RecvAncillaryMessage::ScmRights(passed) = item {
            fds.extend(passed);
        }
    }
    let cut = ReturnFlags::TRUNC | ReturnFlags::CTRUNC;
    let truncated = message.flags.intersects(cut) || fds.len() > max_fds;
    if truncated {
        fds.clear();
    }
    Ok(Received {
        len: message.bytes.min(buffer.len()),
        fds,
        truncated,
    })
}
