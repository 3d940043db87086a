//! What a life asks the controller on its own socket, and what it is answered.
//!
//! One SOCK_SEQPACKET frame each, little-endian: `kind u32, seq u32`, then the fields in the
//! order in which the variants below name them; `seq` is the asker's and comes back with the
//! answer. Who asks is known by the socket asked on (DESIGN section 4), so no frame names its
//! sender. Fds travel beside a frame (SCM_RIGHTS) where a variant says so.

pub use crate::error::{ErrorCode, ErrorText, MAX_ERROR_TEXT};
use crate::frame::{Reader, Short, Writer};
use crate::{Aid, BlockName, Capability, DeletionKey, Gid, LifeNo, Serial};

/// The largest frame, in bytes. A longer one is refused unread.
pub const MAX_FRAME: usize = 512;
/// The largest blob of strings that `hrfexec` passes, in bytes.
pub const MAX_EXEC_BLOB: u64 = 2 << 20;
/// The most fds that travel beside a request: stdin, stdout, stderr and the blob.
pub const MAX_FDS: usize = 4;

/// A request of a life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// Who am I? Answered by [`Reply::Welcome`]; beside it comes the control page's fd.
    Hello,
    /// Map a block, allocating it if there is none of that name (SPEC H15). Answered by
    /// [`Reply::Block`]; beside it comes the block's fd.
    PmmAllocate {
        /// The block's name.
        name: BlockName,
        /// Its size in bytes, rounded up to whole pages by the receiver.
        size: u64,
        /// Its deletion key.
        key: DeletionKey,
    },
    /// Free a block by name (SPEC H17).
    PmmFree {
        /// The block's name.
        name: BlockName,
    },
    /// Free every block that was allocated with a key (SPEC H17).
    PmmFreeAll {
        /// The key; `HR_GROUP_KEY` is refused.
        key: DeletionKey,
    },
    /// Let another group use a block (SPEC H19).
    PmmGrant {
        /// The block's name.
        name: BlockName,
        /// Whom to let in.
        gid: Gid,
    },
    /// Run a program as an indirect actor of the asker's group (SPEC H2, H4). Beside it come
    /// four fds: stdin, stdout, stderr, and a memfd with NUL-terminated strings: name (empty for
    /// the file name), path, working directory, then `argc` arguments, then `envc` environment
    /// strings. Answered by [`Reply::Started`].
    Hrfexec {
        /// The blob's length in bytes.
        blob: u32,
        /// How many arguments, `argv[0]` included.
        argc: u32,
        /// How many environment strings.
        envc: u32,
    },
    /// The group of a life (SPEC H14). Answered by [`Reply::Group`].
    GetActorGroup {
        /// The life asked about.
        aid: Aid,
    },
    /// Kill every member of a group (SPEC H24).
    KillGroup {
        /// The group; it must be the asker's own.
        gid: Gid,
    },
    /// `sysShutdown` (SPEC H26).
    Shutdown {
        /// 0 to 3, as `shutdown -i`.
        level: u32,
    },
}

/// An answer to a [`Request`].
// Boxing the one long variant would take the type out of `no_std` and cost it `Copy`.
#[allow(clippy::large_enum_variant)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Carried out; `count` says how many blocks were freed where that is the question.
    Done {
        /// How many.
        count: u32,
    },
    /// The asker's credentials.
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
    /// Refused.
    Error {
        /// Which family of refusal, see [`ErrorCode`].
        code: ErrorCode,
        /// One line for a person: what, and the cure.
        text: ErrorText,
    },
}

const HELLO: u32 = 1;
const PMM_ALLOCATE: u32 = 2;
const PMM_FREE: u32 = 3;
const PMM_FREE_ALL: u32 = 4;
const PMM_GRANT: u32 = 5;
const HRFEXEC: u32 = 6;
const GET_ACTOR_GROUP: u32 = 7;
const KILL_GROUP: u32 = 8;
const SHUTDOWN: u32 = 9;

const DONE: u32 = 100;
const WELCOME: u32 = 101;
const BLOCK: u32 = 102;
const STARTED: u32 = 103;
const GROUP: u32 = 104;
const ERROR: u32 = 105;

fn put_name(writer: &mut Writer<'_>, name: &BlockName) -> Result<(), Short> {
    let text = name.as_str().as_bytes();
    writer.u32(text.len() as u32)?.bytes(text).map(|_| ())
}

fn take_name(reader: &mut Reader<'_>) -> Result<BlockName, Short> {
    let len = reader.u32()? as usize;
    BlockName::from_wire(reader.bytes(len)?, len).map_err(|_| Short)
}

fn put_key(writer: &mut Writer<'_>, key: &DeletionKey) -> Result<(), Short> {
    match key {
        DeletionKey::Group => writer.u32(1)?.bytes(&[0; DeletionKey::MAX]),
        DeletionKey::Opaque(bytes) => writer.u32(0)?.bytes(bytes),
    }
    .map(|_| ())
}

fn take_key(reader: &mut Reader<'_>) -> Result<DeletionKey, Short> {
    let group = reader.u32()?;
    let bytes = reader.array()?;
    match group {
        0 => Ok(DeletionKey::Opaque(bytes)),
        1 => Ok(DeletionKey::Group),
        _ => Err(Short),
    }
}

impl Request {
    /// Writes the frame and returns its length.
    ///
    /// # Errors
    /// [`Short`] when `buffer` is smaller than [`MAX_FRAME`].
    pub fn encode(&self, seq: u32, buffer: &mut [u8]) -> Result<usize, Short> {
        let mut w = Writer::new(buffer);
        match self {
            Self::Hello => {
                w.u32(HELLO)?.u32(seq)?;
            }
            Self::PmmAllocate { name, size, key } => {
                put_name(w.u32(PMM_ALLOCATE)?.u32(seq)?, name)?;
                put_key(w.u64(*size)?, key)?;
            }
            Self::PmmFree { name } => put_name(w.u32(PMM_FREE)?.u32(seq)?, name)?,
            Self::PmmFreeAll { key } => put_key(w.u32(PMM_FREE_ALL)?.u32(seq)?, key)?,
            Self::PmmGrant { name, gid } => {
                put_name(w.u32(PMM_GRANT)?.u32(seq)?, name)?;
                w.u32(gid.0)?;
            }
            Self::Hrfexec { blob, argc, envc } => {
                w.u32(HRFEXEC)?
                    .u32(seq)?
                    .u32(*blob)?
                    .u32(*argc)?
                    .u32(*envc)?;
            }
            Self::GetActorGroup { aid } => {
                w.u32(GET_ACTOR_GROUP)?.u32(seq)?.u32(aid.0)?;
            }
            Self::KillGroup { gid } => {
                w.u32(KILL_GROUP)?.u32(seq)?.u32(gid.0)?;
            }
            Self::Shutdown { level } => {
                w.u32(SHUTDOWN)?.u32(seq)?.u32(*level)?;
            }
        }
        Ok(w.len())
    }

    /// Reads a frame: its sequence number and the request.
    ///
    /// # Errors
    /// [`Short`] when it is not one of this protocol.
    pub fn decode(bytes: &[u8]) -> Result<(u32, Self), Short> {
        let mut r = Reader::new(bytes);
        let kind = r.u32()?;
        let seq = r.u32()?;
        let request = match kind {
            HELLO => Self::Hello,
            PMM_ALLOCATE => Self::PmmAllocate {
                name: take_name(&mut r)?,
                size: r.u64()?,
                key: take_key(&mut r)?,
            },
            PMM_FREE => Self::PmmFree {
                name: take_name(&mut r)?,
            },
            PMM_FREE_ALL => Self::PmmFreeAll {
                key: take_key(&mut r)?,
            },
            PMM_GRANT => Self::PmmGrant {
                name: take_name(&mut r)?,
                gid: Gid(r.u32()?),
            },
            HRFEXEC => Self::Hrfexec {
                blob: r.u32()?,
                argc: r.u32()?,
                envc: r.u32()?,
            },
            GET_ACTOR_GROUP => Self::GetActorGroup { aid: Aid(r.u32()?) },
            KILL_GROUP => Self::KillGroup { gid: Gid(r.u32()?) },
            SHUTDOWN => Self::Shutdown { level: r.u32()? },
            _ => return Err(Short),
        };
        Ok((seq, request))
    }
}

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

    #[test]
    fn requests_read_back_and_no_prefix_of_one_is_taken() {
        let name = BlockName::new("counter").unwrap();
        let key = DeletionKey::opaque(b"key").unwrap();
        let mut buffer = [0; MAX_FRAME];
        for request in [
            Request::Hello,
            Request::PmmAllocate {
                name,
                size: 1 << 40,
                key: DeletionKey::Group,
            },
            Request::PmmFree { name },
            Request::PmmFreeAll { key },
            Request::PmmGrant { name, gid: Gid(3) },
            Request::Hrfexec {
                blob: 10,
                argc: 1,
                envc: 2,
            },
            Request::GetActorGroup { aid: Aid(7) },
            Request::KillGroup { gid: Gid(7) },
            Request::Shutdown { level: 1 },
        ] {
            let len = request.encode(42, &mut buffer).unwrap();
            assert_eq!(Request::decode(&buffer[..len]), Ok((42, request)));
            for cut in 0..len {
                assert_eq!(Request::decode(&buffer[..cut]), Err(Short));
            }
        }
    }

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
            Reply::Group { gid: Some(Gid(0)) },
            Reply::error(ErrorCode::Denied, &"ä".repeat(MAX_ERROR_TEXT)),
        ] {
            let len = reply.encode(1, &mut buffer).unwrap();
            assert_eq!(Reply::decode(&buffer[..len]), Ok((1, reply)));
        }
    }

    #[test]
    fn a_name_with_a_forged_length_is_refused() {
        let mut buffer = [0; MAX_FRAME];
        let name = BlockName::new("x").unwrap();
        let len = Request::PmmFree { name }.encode(1, &mut buffer).unwrap();
        buffer[8] = 0xff;
        buffer[11] = 0xff;
        assert_eq!(Request::decode(&buffer[..len]), Err(Short));
    }
}
