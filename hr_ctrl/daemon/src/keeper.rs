//! What hr_ctrl and nucleus say to each other: fds to keep for the next hr_ctrl, and the end.
//!
//! One SOCK_SEQPACKET frame each: `op u32`, then for [`Keep`](Frame::Keep) and [`Drop`](Frame::Drop)
//! a [`Label`] (`actor u64`, `part u64`), for `Keep` also `once u32`, with the fds beside it. nucleus
//! takes labels for numbers and understands none of them.

use refrain_abi::frame::{Reader, Short, Writer};

/// The largest frame, in bytes.
pub const MAX_FRAME: usize = 32;
/// The most fds beside a frame.
pub const MAX_FDS: usize = 2;

/// Under which fds are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Label {
    /// The actor's key; 0 for the site.
    pub actor: u64,
    /// Which of what belongs to the actor.
    pub part: Part,
}

/// What is kept of an actor, or of the site.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// The ledger, of the site.
    Ledger,
    /// The image's fd and, for a script, the script's.
    Image,
    /// The control page, and the pipe that the lives print into.
    Page,
    /// What is not in the ledger, as JSON.
    Dossier,
    /// A life whose template has ended: its pidfd, and our end of its socket.
    Orphan,
    /// The template of a generation: our end of its socket, and its pidfd.
    Template(u32),
}

impl Part {
    const TEMPLATE: u64 = 1 << 32;

    const fn number(self) -> u64 {
        match self {
            Self::Ledger => 1,
            Self::Image => 2,
            Self::Page => 3,
            Self::Dossier => 4,
            Self::Orphan => 5,
            Self::Template(generation) => Self::TEMPLATE | generation as u64,
        }
    }

    const fn of(number: u64) -> Option<Self> {
        Some(match number {
            1 => Self::Ledger,
            2 => Self::Image,
            3 => Self::Page,
            4 => Self::Dossier,
            5 => Self::Orphan,
            _ if number >> 32 == 1 => Self::Template(number as u32),
            _ => return None,
        })
    }
}

/// A frame in either direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame {
    /// hr_ctrl: keep these fds under this label, in place of what was there. nucleus, to a new
    /// hr_ctrl: these were kept.
    Keep {
        /// The label.
        label: Label,
        /// Files that are kept already are kept once, for all the labels that they belong to.
        once: bool,
    },
    /// hr_ctrl: let go of what is kept under this label.
    Drop(Label),
    /// hr_ctrl: let go of everything that is kept of this actor.
    DropActor(u64),
    /// nucleus, to a new hr_ctrl: that was all.
    KeptEnd,
    /// nucleus: somebody sent SIGTERM, SIGINT or SIGHUP: halt the site.
    Halt,
    /// hr_ctrl: the site serves; from now on my death is not its end. What ran before is adopted.
    Served {
        /// After how many milliseconds without a pulse I hang; 0 for never.
        limit_ms: u64,
    },
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
const DROP_ACTOR: u32 = 8;

impl Frame {
    /// Writes the frame and returns its length.
    pub fn encode(&self, buffer: &mut [u8; MAX_FRAME]) -> usize {
        let mut w = Writer::new(buffer);
        let put = match self {
            Self::Keep { label, once } => {
                put_label(&mut w, KEEP, *label).and_then(|()| w.u32(u32::from(*once)).map(drop))
            }
            Self::Drop(label) => put_label(&mut w, DROP, *label),
            Self::DropActor(actor) => w.u32(DROP_ACTOR).and_then(|w| w.u64(*actor)).map(drop),
            Self::KeptEnd => w.u32(KEPT_END).map(drop),
            Self::Halt => w.u32(HALT).map(drop),
            Self::Served { limit_ms } => w.u32(SERVED).and_then(|w| w.u64(*limit_ms)).map(drop),
            Self::Pulse => w.u32(PULSE).map(drop),
            Self::Ended => w.u32(ENDED).map(drop),
        };
        debug_assert!(put.is_ok(), "every frame fits");
        w.len()
    }

    /// Reads a frame.
    ///
    /// # Errors
    /// [`Short`] when it is none.
    pub fn decode(bytes: &[u8]) -> Result<Self, Short> {
        let mut r = Reader::new(bytes);
        Ok(match r.u32()? {
            KEEP => Self::Keep {
                label: take_label(&mut r)?,
                once: r.u32()? != 0,
            },
            DROP => Self::Drop(take_label(&mut r)?),
            DROP_ACTOR => Self::DropActor(r.u64()?),
            KEPT_END => Self::KeptEnd,
            HALT => Self::Halt,
            SERVED => Self::Served { limit_ms: r.u64()? },
            PULSE => Self::Pulse,
            ENDED => Self::Ended,
            _ => return Err(Short),
        })
    }
}

fn put_label(w: &mut Writer<'_>, op: u32, label: Label) -> Result<(), Short> {
    w.u32(op)?.u64(label.actor)?.u64(label.part.number())?;
    Ok(())
}

fn take_label(r: &mut Reader<'_>) -> Result<Label, Short> {
    let actor = r.u64()?;
    let part = Part::of(r.u64()?).ok_or(Short)?;
    Ok(Label { actor, part })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_read_back() {
        let mut buffer = [0; MAX_FRAME];
        let parts = [
            Part::Ledger,
            Part::Image,
            Part::Page,
            Part::Dossier,
            Part::Orphan,
            Part::Template(u32::MAX),
        ];
        let labels = parts.map(|part| Label { actor: 7, part });
        let keeps = labels.map(|label| Frame::Keep { label, once: true });
        let drops = labels.map(Frame::Drop);
        let others = [
            Frame::DropActor(u64::MAX),
            Frame::KeptEnd,
            Frame::Halt,
            Frame::Served { limit_ms: 30_000 },
            Frame::Pulse,
            Frame::Ended,
        ];
        for frame in keeps.into_iter().chain(drops).chain(others) {
            let len = frame.encode(&mut buffer);
            assert_eq!(Frame::decode(&buffer[..len]), Ok(frame));
            assert!(Frame::decode(&buffer[..len - 1]).is_err());
        }
        assert!(Frame::decode(&[1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]).is_err());
    }
}
