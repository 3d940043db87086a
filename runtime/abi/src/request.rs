//! What a life asks the controller on its own socket, and what it is answered.
//!
//! One SOCK_SEQPACKET frame each, little-endian: `kind u32, seq u32`, then the fields in the
//! order in which the variants below name them; `seq` is the asker's and comes back with the
//! answer. It is another one for each request of a life, and not 0, which stands for "nobody asked".
//! Who asks is known by the socket asked on (DESIGN section 4), so no frame names its
//! sender. Fds travel beside a frame (SCM_RIGHTS) where a variant says so.

pub use crate::error::{ErrorCode, ErrorText, MAX_ERROR_TEXT};
use crate::frame::{Reader, Short, Writer};
pub use crate::reply::Reply;
use crate::{Aid, BlockName, DeletionKey, Gid};

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
    /// The capability of a life of the asker's own group (SPEC H6). Answered by [`Reply::Capability`].
    GetCapability {
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
    /// Sent by the fault handler of a life; never answered. What it means is in the control page
    /// ([`crate::control::Failure`], `stopped`, `relay`).
    Failing,
    /// Make the asker's present state the image of later lives (SPEC H34). Answered by
    /// [`Reply::Template`]; beside it come the new template's socket, `/dev/null`, a place for what it
    /// prints, and the actor's `cgroup.procs` where there is one. Asked again, it is answered by
    /// [`Reply::Done`] when that template serves.
    ImageHere,
    /// The asker has promised to make progress, or changed or taken back its promise: what it promises is
    /// in the control page (`promise`). Answered by [`Reply::Done`].
    Promise,
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
const FAILING: u32 = 10;
const IMAGE_HERE: u32 = 11;
const PROMISE: u32 = 12;
const GET_CAPABILITY: u32 = 13;

pub(crate) fn put_name(writer: &mut Writer<'_>, name: &BlockName) -> Result<(), Short> {
    let text = name.as_str().as_bytes();
    writer.u32(text.len() as u32)?.bytes(text).map(|_| ())
}

pub(crate) fn take_name(reader: &mut Reader<'_>) -> Result<BlockName, Short> {
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
    /// Whether it may be carried out twice where once was asked for: the second time changes nothing and
    /// is answered like the first. (Of a block that the first time has made, the second says that it was
    /// there; it is whole and zeroed, as a life finds it whose predecessor ended just after it was made.)
    #[must_use]
    pub const fn is_repeatable(&self) -> bool {
        match self {
            Self::Hello
            | Self::PmmAllocate { .. }
            | Self::PmmGrant { .. }
            | Self::GetActorGroup { .. }
            | Self::GetCapability { .. }
            | Self::Promise
            | Self::Failing => true,
            Self::PmmFree { .. }
            | Self::PmmFreeAll { .. }
            | Self::Hrfexec { .. }
            | Self::KillGroup { .. }
            | Self::Shutdown { .. }
            | Self::ImageHere => false,
        }
    }

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
            Self::GetCapability { aid } => {
                w.u32(GET_CAPABILITY)?.u32(seq)?.u32(aid.0)?;
            }
            Self::KillGroup { gid } => {
                w.u32(KILL_GROUP)?.u32(seq)?.u32(gid.0)?;
            }
            Self::Shutdown { level } => {
                w.u32(SHUTDOWN)?.u32(seq)?.u32(*level)?;
            }
            Self::Failing => {
                w.u32(FAILING)?.u32(seq)?;
            }
            Self::ImageHere => {
                w.u32(IMAGE_HERE)?.u32(seq)?;
            }
            Self::Promise => {
                w.u32(PROMISE)?.u32(seq)?;
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
            GET_CAPABILITY => Self::GetCapability { aid: Aid(r.u32()?) },
            KILL_GROUP => Self::KillGroup { gid: Gid(r.u32()?) },
            SHUTDOWN => Self::Shutdown { level: r.u32()? },
            FAILING => Self::Failing,
            IMAGE_HERE => Self::ImageHere,
            PROMISE => Self::Promise,
            _ => return Err(Short),
        };
        Ok((seq, request))
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
            Request::GetCapability { aid: Aid(7) },
            Request::KillGroup { gid: Gid(7) },
            Request::Shutdown { level: 1 },
            Request::Failing,
            Request::ImageHere,
            Request::Promise,
        ] {
            let len = request.encode(42, &mut buffer).unwrap();
            assert_eq!(Request::decode(&buffer[..len]), Ok((42, request)));
            for cut in 0..len {
                assert_eq!(Request::decode(&buffer[..cut]), Err(Short));
            }
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
