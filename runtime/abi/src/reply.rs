//! What the controller answers to a life's request: one frame each, with the `seq` of the request. The
//! frames, and which fds travel beside them, are described with the requests.

use crate::error::{ErrorCode, ErrorText};
use crate::frame::{Reader, Short, Writer};
use crate::request::{put_name, take_name};
use crate::{Aid, BlockName, Capability, Gid, LifeNo, Serial};

/// An answer to a [`Request`](crate::request::Request).
// Boxing the one long variant would take the type out of `no_std` and cost it `Copy`.
#[allow(clippy::large_enum_variant)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Carried out; `count` says how many blocks were freed where that is the question.
    Done {
        /// How many.
        count: u32,
    },
    /// The asker's credentials. Also sent before anybody asks, with sequence number 0 and aid 0 (not
    /// known yet), to a life whose predecessor has asked.
    Welcome {
        /// The id of this life.
        aid: Aid,
        /// The group, `None` for an ordinary actor.
        gid: Option<Gid>,
        /// The number of this life.
        life: LifeNo,
        /// What `HR_EXIT_HDL` stores into the control page.
        serial: Serial,
        /// The capability of this life.
        capability: Capability,
    },
    /// A block of persistent memory.
    Block {
        /// Where to map it: the same address in every life and every actor.
        addr: u64,
        /// Its size in bytes.
        size: u64,
        /// Whether it was there before.
        existed: bool,
    },
    /// `hrfexec` has begun a life.
    Started {
        /// Its id.
        aid: Aid,
    },
    /// The group of a life, `None` for an ordinary actor.
    Group {
        /// The gid.
        gid: Option<Gid>,
    },
    /// The capability of a life.
    Capability {
        /// The capability.
        capability: Capability,
    },
    /// The asker may fork a template, which serves on the socket beside this.
    Template,
    /// A block that a life before this one had mapped, sent before anybody asks, with its fd beside it
    /// and sequence number 0. It may be mapped for as long as `epoch` is the control page's.
    BlockAhead {
        /// The block's name.
        name: BlockName,
        /// Where to map it.
        addr: u64,
        /// Its size in bytes.
        size: u64,
        /// The page's word `block_epoch` when it was sent.
        epoch: u32,
    },
    /// Refused.
    Error {
        /// Which family of refusal, see [`ErrorCode`].
        code: ErrorCode,
        /// One line for a person: what, and the cure.
        text: ErrorText,
    },
}

const DONE: u32 = 100;
const WELCOME: u32 = 101;
const BLOCK: u32 = 102;
const STARTED: u32 = 103;
const GROUP: u32 = 104;
const ERROR: u32 = 105;
const TEMPLATE: u32 = 106;
const BLOCK_AHEAD: u32 = 107;
const CAPABILITY: u32 = 108;

fn put_gid(gid: Option<Gid>) -> u32 {
    gid.map_or(Gid::NONE_ON_WIRE, |gid| gid.0)
}

fn take_gid(word: u32) -> Option<Gid> {
    (word != Gid::NONE_ON_WIRE).then_some(Gid(word))
}

impl Reply {
    /// An error answer.
    #[must_use]
    pub fn error(code: ErrorCode, text: &str) -> Self {
        Self::Error {
            code,
            text: ErrorText::new(text),
        }
    }

    /// Writes the frame and returns its length.
    ///
    /// # Errors
    /// [`Short`] when `buffer` is smaller than [`MAX_FRAME`].
    pub fn encode(&self, seq: u32, buffer: &mut [u8]) -> Result<usize, Short> {
        let mut w = Writer::new(buffer);
        match self {
            Self::Done { count } => w.u32(DONE)?.u32(seq)?.u32(*count)?,
            Self::Welcome {
                aid,
                gid,
                life,
                serial,
                capability,
            } => w
                .u32(WELCOME)?
                .u32(seq)?
                .u32(aid.0)?
                .u32(put_gid(*gid))?
                .u32(life.0)?
                .u32(serial.0)?
                .bytes(&capability.0)?,
            Self::Block {
                addr,
                size,
                existed,
            } => w
                .u32(BLOCK)?
                .u32(seq)?
                .u64(*addr)?
                .u64(*size)?
                .u32(u32::from(*existed))?,
            Self::Started { aid } => w.u32(STARTED)?.u32(seq)?.u32(aid.0)?,
            Self::Group { gid } => w.u32(GROUP)?.u32(seq)?.u32(put_gid(*gid))?,
            Self::Capability { capability } => w.u32(CAPABILITY)?.u32(seq)?.bytes(&capability.0)?,
            Self::Template => w.u32(TEMPLATE)?.u32(seq)?,
            Self::BlockAhead {
                name,
                addr,
                size,
                epoch,
            } => put_name(
                w.u32(BLOCK_AHEAD)?
                    .u32(seq)?
                    .u64(*addr)?
                    .u64(*size)?
                    .u32(*epoch)?,
                name,
            )
            .map(|()| &mut w)?,
            Self::Error { code, text } => {
                let text = text.as_str().as_bytes();
                w.u32(ERROR)?
                    .u32(seq)?
                    .u32(*code as u32)?
                    .u32(text.len() as u32)?
                    .bytes(text)?
            }
        };
        Ok(w.len())
    }

    /// Reads a frame: the sequence number of its request, and the answer.
    ///
    /// # Errors
    /// [`Short`] when it is not one of this protocol.
    pub fn decode(bytes: &[u8]) -> Result<(u32, Self), Short> {
        let mut r = Reader::new(bytes);
        let kind = r.u32()?;
        let seq = r.u32()?;
        let reply = match kind {
            DONE => Self::Done { count: r.u32()? },
            WELCOME => Self::Welcome {
                aid: Aid(r.u32()?),
                gid: take_gid(r.u32()?),
                life: LifeNo(r.u32()?),
                serial: Serial(r.u32()?),
                capability: Capability(r.array()?),
            },
            BLOCK => Self::Block {
                addr: r.u64()?,
                size: r.u64()?,
                existed: r.u32()? != 0,
            },
            STARTED => Self::Started { aid: Aid(r.u32()?) },
            GROUP => Self::Group {
                gid: take_gid(r.u32()?),
            },
            CAPABILITY => Self::Capability {
                capability: Capability(r.array()?),
            },
            TEMPLATE => Self::Template,
            BLOCK_AHEAD => {
                let (addr, size, epoch) = (r.u64()?, r.u64()?, r.u32()?);
                Self::BlockAhead {
                    name: take_name(&mut r)?,
                    addr,
                    size,
                    epoch,
                }
            }
            ERROR => {
                let code = ErrorCode::from_wire(r.u32()?);
                let len = r.u32()? as usize;
                let text = core::str::from_utf8(r.bytes(len)?).map_err(|_| Short)?;
                Self::Error {
                    code,
                    text: ErrorText::new(text),
                }
            }
            _ => return Err(Short),
        };
        Ok((seq, reply))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::MAX_ERROR_TEXT;
    use crate::request::MAX_FRAME;

    #[test]
    fn replies_read_back() {
        let mut buffer = [0; MAX_FRAME];
        for reply in [
            Reply::Done { count: 2 },
            Reply::Welcome {
                aid: Aid(1),
                gid: None,
                life: LifeNo(0),
                serial: Serial(1),
                capability: Capability([9; 16]),
            },
            Reply::Block {
                addr: 1 << 44,
                size: 4096,
                existed: true,
            },
            Reply::Started { aid: Aid(4) },
            Reply::BlockAhead {
                name: BlockName::new("counter").unwrap(),
                addr: 1 << 44,
                size: 1 << 30,
                epoch: 3,
            },
            Reply::Group { gid: Some(Gid(0)) },
            Reply::Capability {
                capability: Capability([7; 16]),
            },
            Reply::Template,
            Reply::error(ErrorCode::Denied, &"ä".repeat(MAX_ERROR_TEXT)),
        ] {
            let len = reply.encode(1, &mut buffer).unwrap();
            assert_eq!(Reply::decode(&buffer[..len]), Ok((1, reply)));
        }
    }
}
