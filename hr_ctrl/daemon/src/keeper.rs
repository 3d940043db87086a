//! What hr_ctrl and nucleus say to each other: fds to keep for the next hr_ctrl, and the end.
//!
//! One SOCK_SEQPACKET frame each: `op u32`, then for [`Keep`](ToNucleus::Keep) and
//! [`Drop`](ToNucleus::Drop) the actor's name (`len u32`, bytes), with the image's fd and, for a
//! script, the script's beside it. nucleus keeps names as bytes and understands none of them.

use refrain_abi::ActorName;
use refrain_abi::frame::{Reader, Short, Writer};

/// The largest frame, in bytes.
pub const MAX_FRAME: usize = 128;
/// The most fds beside a frame: image and script.
pub const MAX_FDS: usize = 2;

/// A frame in either direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame {
    /// hr_ctrl: keep these fds under this name, in place of what was there. nucleus, to a new
    /// hr_ctrl: these were kept.
    Keep(ActorName),
    /// hr_ctrl: let go of what is kept under this name.
    Drop(ActorName),
    /// nucleus, to a new hr_ctrl: that was all.
    KeptEnd,
    /// nucleus: somebody sent SIGTERM, SIGINT or SIGHUP: halt the site.
    Halt,
    /// hr_ctrl: the site serves; from now on my death is not its end.
    Served,
    /// hr_ctrl: each of my threads still answers.
    Pulse,
    /// hr_ctrl: the site has ended; what comes next is my exit.
    Ended,
}

const KEEP: u32 = 1;
const DROP: u32 = 2;
const KEPT_END: u32 = 3;
const HALT: u32 = 4;
const ENDED: u32 = 5;
const SERVED: u32 = 6;
const PULSE: u32 = 7;

impl Frame {
    /// Writes the frame and returns its length.
    pub fn encode(&self, buffer: &mut [u8; MAX_FRAME]) -> usize {
        let mut w = Writer::new(buffer);
        let (op, name) = match self {
            Self::Keep(name) => (KEEP, Some(name)),
            Self::Drop(name) => (DROP, Some(name)),
            Self::KeptEnd => (KEPT_END, None),
            Self::Halt => (HALT, None),
            Self::Served => (SERVED, None),
            Self::Pulse => (PULSE, None),
            Self::Ended => (ENDED, None),
        };
        let name = name.map_or("", |name| name.as_str()).as_bytes();
        let put = w
            .u32(op)
            .and_then(|w| w.u32(name.len() as u32))
            .and_then(|w| w.bytes(name));
        debug_assert!(put.is_ok(), "a name of at most 63 bytes fits a frame");
        w.len()
    }

    /// Reads a frame.
    ///
    /// # Errors
    /// [`Short`] when it is none.
    pub fn decode(bytes: &[u8]) -> Result<Self, Short> {
        let mut r = Reader::new(bytes);
        let op = r.u32()?;
        let len = r.u32()? as usize;
        let name = |r: &mut Reader<'_>| ActorName::from_wire(r.bytes(len)?, len).map_err(|_| Short);
        Ok(match op {
            KEEP => Self::Keep(name(&mut r)?),
            DROP => Self::Drop(name(&mut r)?),
            KEPT_END => Self::KeptEnd,
            HALT => Self::Halt,
            SERVED => Self::Served,
            PULSE => Self::Pulse,
            ENDED => Self::Ended,
            _ => return Err(Short),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_read_back() {
        let name = ActorName::new(&"n".repeat(63)).unwrap();
        let mut buffer = [0; MAX_FRAME];
        for frame in [
            Frame::Keep(name),
            Frame::Drop(name),
            Frame::KeptEnd,
            Frame::Halt,
            Frame::Served,
            Frame::Pulse,
            Frame::Ended,
        ] {
            let len = frame.encode(&mut buffer);
            assert_eq!(Frame::decode(&buffer[..len]), Ok(frame));
            assert!(Frame::decode(&buffer[..len - 1]).is_err());
        }
    }
}
