//! Frames with fds on a SOCK_SEQPACKET socket.
//!
//! Called by `serve` (controller and template) and `life` (controller and standby). Must never keep
//! an fd of a frame that it refuses.

use crate::syscalls::{self, EINTR, Fd, Message, Part, Result};

/// The most fds beside one frame: stdin, stdout, stderr of a life.
pub const MAX_FDS: usize = 3;

const MSG_CTRUNC: i32 = 8;
const MSG_TRUNC: i32 = 0x20;
const MSG_DONTWAIT: usize = 0x40;
const MSG_NOSIGNAL: usize = 0x4000;
const MSG_CMSG_CLOEXEC: usize = 0x4000_0000;
/// SOL_SOCKET and SCM_RIGHTS, as the two words of a control header.
const RIGHTS: u64 = 1 | 1 << 32;
/// The size of `struct cmsghdr`.
const HEADER: usize = 16;
/// Room for a header and four fds, in words.
const CONTROL_WORDS: usize = 4;
/// EPROTO: a frame that was cut, or holds what it may not.
pub const EPROTO: i32 = 71;

/// Whether to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Until it can be done.
    Yes,
    /// Not at all: EAGAIN.
    No,
}

impl Wait {
    fn flag(self) -> usize {
        if self == Self::No { MSG_DONTWAIT } else { 0 }
    }
}

/// Sends a frame, with at most two fds; what is beyond those is left out.
///
/// # Errors
/// The errno; EPIPE once the peer is gone, without a signal.
pub fn send(socket: Fd, frame: &mut [u8], fds: &[Fd], wait: Wait) -> Result<()> {
    let word = |fd: Fd| u64::from(fd as u32);
    let (len, rights) = match *fds {
        [] => (0, 0),
        [one] => (HEADER + 4, word(one)),
        [one, other, ..] => (HEADER + 8, word(one) | word(other) << 32),
    };
    let mut control = [len as u64, RIGHTS, rights, 0];
    // CMSG_SPACE of one int is that of two.
    let control_len = if fds.is_empty() { 0 } else { HEADER + 8 };
    let part = Part {
        base: frame.as_mut_ptr(),
        len: frame.len(),
    };
    let message = message_of(&part, &mut control, control_len);
    let flags = MSG_NOSIGNAL | wait.flag();
    loop {
        // SAFETY: part and control are the locals above, with their lengths.
        match unsafe { syscalls::send_message(socket, &message, flags) } {
            Err(EINTR) => {}
            other => return other.map(drop),
        }
    }
}

/// A frame that was received: its length (0 when the peer has closed) and the fds beside it; none of them
/// where not all could be had, because this process may not open so many.
#[derive(Clone, Copy, Debug)]
pub struct Received {
    /// How many bytes of the buffer it fills.
    pub len: usize,
    /// The fds, CLOEXEC.
    pub fds: [Fd; MAX_FDS],
    /// How many there are.
    pub fd_count: usize,
}

/// Receives a frame with at most [`MAX_FDS`] fds.
///
/// # Errors
/// The errno; [`EPROTO`] for a frame that does not fit or has too many fds, which are closed.
pub fn receive(socket: Fd, buffer: &mut [u8], wait: Wait) -> Result<Received> {
    let mut control = [0u64; CONTROL_WORDS];
    let part = Part {
        base: buffer.as_mut_ptr(),
        len: buffer.len(),
    };
    let mut message = message_of(&part, &mut control, CONTROL_WORDS * 8);
    let flags = MSG_CMSG_CLOEXEC | wait.flag();
    let len = loop {
        // SAFETY: part and control are the locals above and the caller's buffer, with their lengths.
        match unsafe { syscalls::receive_message(socket, &mut message, flags) } {
            Err(EINTR) => message.control_len = CONTROL_WORDS * 8,
            other => break other?,
        }
    };
    let (flags, control_len) = (message.flags, message.control_len);
    let mut received = Received {
        len,
        fds: [-1; MAX_FDS],
        fd_count: 0,
    };
    let mut excess = false;
    if control_len >= HEADER && control.get(1) == Some(&RIGHTS) {
        let end = control
            .first()
            .map_or(0, |len| *len as usize)
            .min(control_len);
        for index in 0..end.saturating_sub(HEADER) / 4 {
            let word = control.get(2 + index / 2).copied().unwrap_or_default();
            let fd = (word >> (32 * (index % 2))) as Fd;
            match received.fds.get_mut(index) {
                Some(place) => *place = fd,
                None => {
                    syscalls::close(fd);
                    excess = true;
                }
            }
            received.fd_count = (index + 1).min(MAX_FDS);
        }
    }
    if excess || flags & (MSG_TRUNC | MSG_CTRUNC) != 0 {
        close_all(&received);
        received.fd_count = 0;
    }
    if excess || flags & MSG_TRUNC != 0 {
        return Err(EPROTO);
    }
    Ok(received)
}

/// Closes the fds of a frame.
pub fn close_all(received: &Received) {
    received
        .fds
        .iter()
        .take(received.fd_count)
        .for_each(|fd| syscalls::close(*fd));
}

fn message_of(part: &Part, control: &mut [u64; CONTROL_WORDS], control_len: usize) -> Message {
    Message {
        name: 0,
        name_len: 0,
        parts: part,
        part_count: 1,
        control: if control_len == 0 {
            core::ptr::null_mut()
        } else {
            control.as_mut_ptr()
        },
        control_len,
        flags: 0,
    }
}
