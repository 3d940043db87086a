//! What the controller and an actor's template say to each other, one SOCK_SEQPACKET frame each.
//!
//! The environment variable [`TEMPLATE_VAR`] tells the shim that it runs in a template; the shim
//! removes it, and everything else of Refrain's, before a constructor of the program runs.

use crate::frame::{Reader, Short, Writer};
use crate::{LifeNo, Serial};

/// Set for the template only: `SOCKET,PAGE,IMAGE,SCRIPT,MEMBERS,HANDLERS`, each an fd number in decimal
/// (`-` where there is none: IMAGE is given only to a template whose lives start by exec; MEMBERS is
/// the open `cgroup.procs` of the actor, without which a failing life can't wake its successor and there
/// are no keepers; HANDLERS is no fd but 1 where lives are to have handlers of faults).
pub const TEMPLATE_VAR: &str = "REFRAIN_TEMPLATE";
/// The program's path as it was asked for: the answer to `readlink("/proc/self/exe")`.
pub const EXE_VAR: &str = "REFRAIN_EXE";
/// A script's path, where the program is one: opening it opens the script's bytes in the image.
pub const SCRIPT_VAR: &str = "REFRAIN_SCRIPT";
/// Makes the number of variables that the shim removes even, see its module `environ`.
pub const PAD_VAR: &str = "REFRAIN_PAD";
/// The value that `LD_PRELOAD` had for the program; absent when it had none.
pub const USER_PRELOAD_VAR: &str = "REFRAIN_USER_LD_PRELOAD";
/// The value that `LD_LIBRARY_PATH` had for the program; absent when it had none.
pub const USER_LIBRARY_PATH_VAR: &str = "REFRAIN_USER_LD_LIBRARY_PATH";
/// The value that `LD_BIND_NOW` had for the program; absent when it had none.
pub const USER_BIND_NOW_VAR: &str = "REFRAIN_USER_LD_BIND_NOW";

/// The life's number, in the environment of every life (SPEC H13).
pub const LIFE_VAR: &str = "REFRAIN_LIFE";
/// The fd that a life attaches by, in the environment of every life.
pub const FD_VAR: &str = "REFRAIN_FD";

/// The largest frame of this protocol, in bytes.
pub const MAX_FRAME: usize = 64;

/// Controller to template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ToTemplate {
    /// Fork a standby; beside it come two fds: the life's end of its socket, and the controller's, which
    /// the template keeps for a controller to come until it has reaped that child.
    Fork {
        /// Which serial the standby waits for.
        serial: Serial,
        /// Give it a keeper.
        keeper: bool,
    },
    /// Say which lives and standbys there are: one [`FromTemplate::Child`] each, then
    /// [`FromTemplate::Reported`]. Behind an answer that was asked for by a controller which ended before it
    /// had read it all comes that to the next controller: hence the number.
    Report {
        /// Comes back with the answer; another one for each controller.
        number: u32,
    },
}

/// Template to controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FromTemplate {
    /// Loaded, linked and stopped before `main`; fork requests are served from now on. A template that a
    /// life has become sends its pidfd beside it.
    Ready,
    /// The program's constructors started threads: a fork would lose them.
    Threaded {
        /// How many threads there are.
        threads: u32,
    },
    /// A standby is asleep; beside it comes one fd, its pidfd.
    Forked {
        /// The serial it was asked for with.
        serial: Serial,
        /// Its pid.
        pid: u32,
    },
    /// The fork failed.
    ForkFailed {
        /// The serial it was asked for with.
        serial: Serial,
        /// The errno of `fork`.
        errno: u32,
    },
    /// A child was reaped.
    Ended {
        /// Its pid; compared with what the controller knows, never used to signal.
        pid: u32,
        /// Its wait status.
        status: u32,
    },
    /// A life or standby that was not reaped, in answer to [`ToTemplate::Report`]; beside it come two fds,
    /// its pidfd and the controller's end of its socket.
    Child {
        /// The number of the request.
        number: u32,
        /// The serial it was asked for with.
        serial: Serial,
        /// Its pid.
        pid: u32,
    },
    /// There are no others.
    Reported {
        /// The number of the request.
        number: u32,
    },
}

/// Controller to standby, on the life's own socket, queued before it is woken. Beside it come
/// three fds: stdin, stdout, stderr.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StartFrame {
    /// The number of the life that begins.
    pub life: LifeNo,
    /// The serial of the standby that this frame is for.
    pub serial: Serial,
    /// Stop before `main` until SIGCONT (`arun -d`).
    pub stopped: bool,
}

const FORK: u32 = 1;
const READY: u32 = 2;
const THREADED: u32 = 3;
const FORKED: u32 = 4;
const FORK_FAILED: u32 = 5;
const ENDED: u32 = 6;
const START: u32 = 7;
const REPORT: u32 = 8;
const CHILD: u32 = 9;
const REPORTED: u32 = 10;

fn words(buffer: &mut [u8; MAX_FRAME], fields: &[u32]) -> usize {
    let mut writer = Writer::new(buffer);
    for field in fields {
        if writer.u32(*field).is_err() {
            break;
        }
    }
    writer.len()
}

impl ToTemplate {
    /// Writes the frame and returns its length.
    pub fn encode(&self, buffer: &mut [u8; MAX_FRAME]) -> usize {
        match *self {
            Self::Fork { serial, keeper } => words(buffer, &[FORK, serial.0, u32::from(keeper)]),
            Self::Report { number } => words(buffer, &[REPORT, number]),
        }
    }

    /// Reads a frame.
    ///
    /// # Errors
    /// [`Short`] when it is not one of this protocol.
    pub fn decode(bytes: &[u8]) -> Result<Self, Short> {
        let mut reader = Reader::new(bytes);
        match reader.u32()? {
            FORK => Ok(Self::Fork {
                serial: Serial(reader.u32()?),
                keeper: reader.u32()? != 0,
            }),
            REPORT => Ok(Self::Report {
                number: reader.u32()?,
            }),
            _ => Err(Short),
        }
    }
}

impl FromTemplate {
    /// Writes the frame and returns its length.
    pub fn encode(&self, buffer: &mut [u8; MAX_FRAME]) -> usize {
        match *self {
            Self::Ready => words(buffer, &[READY]),
            Self::Threaded { threads } => words(buffer, &[THREADED, threads]),
            Self::Forked { serial, pid } => words(buffer, &[FORKED, serial.0, pid]),
            Self::ForkFailed { serial, errno } => words(buffer, &[FORK_FAILED, serial.0, errno]),
            Self::Ended { pid, status } => words(buffer, &[ENDED, pid, status]),
            Self::Child {
                number,
                serial,
                pid,
            } => words(buffer, &[CHILD, number, serial.0, pid]),
            Self::Reported { number } => words(buffer, &[REPORTED, number]),
        }
    }

    /// Reads a frame.
    ///
    /// # Errors
    /// [`Short`] when it is not one of this protocol.
    pub fn decode(bytes: &[u8]) -> Result<Self, Short> {
        let mut reader = Reader::new(bytes);
        Ok(match reader.u32()? {
            READY => Self::Ready,
            THREADED => Self::Threaded {
                threads: reader.u32()?,
            },
            FORKED => Self::Forked {
                serial: Serial(reader.u32()?),
                pid: reader.u32()?,
            },
            FORK_FAILED => Self::ForkFailed {
                serial: Serial(reader.u32()?),
                errno: reader.u32()?,
            },
            ENDED => Self::Ended {
                pid: reader.u32()?,
                status: reader.u32()?,
            },
            CHILD => Self::Child {
                number: reader.u32()?,
                serial: Serial(reader.u32()?),
                pid: reader.u32()?,
            },
            REPORTED => Self::Reported {
                number: reader.u32()?,
            },
            _ => return Err(Short),
        })
    }
}

impl StartFrame {
    /// Writes the frame and returns its length.
    pub fn encode(&self, buffer: &mut [u8; MAX_FRAME]) -> usize {
        words(
            buffer,
            &[START, self.life.0, self.serial.0, u32::from(self.stopped)],
        )
    }

    /// Reads a frame.
    ///
    /// # Errors
    /// [`Short`] when it is not a start frame.
    pub fn decode(bytes: &[u8]) -> Result<Self, Short> {
        let mut reader = Reader::new(bytes);
        if reader.u32()? != START {
            return Err(Short);
        }
        let life = LifeNo(reader.u32()?);
        let serial = Serial(reader.u32()?);
        Ok(Self {
            life,
            serial,
            stopped: reader.u32()? != 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_frame_reads_back_as_it_was_written() {
        let mut buffer = [0; MAX_FRAME];
        for frame in [
            FromTemplate::Ready,
            FromTemplate::Threaded { threads: 4 },
            FromTemplate::Forked {
                serial: Serial(9),
                pid: 77,
            },
            FromTemplate::ForkFailed {
                serial: Serial(9),
                errno: 11,
            },
            FromTemplate::Ended {
                pid: 77,
                status: 139,
            },
            FromTemplate::Child {
                number: 3,
                serial: Serial(9),
                pid: 77,
            },
            FromTemplate::Reported { number: 3 },
        ] {
            let len = frame.encode(&mut buffer);
            assert_eq!(FromTemplate::decode(&buffer[..len]), Ok(frame));
            assert_eq!(FromTemplate::decode(&buffer[..len - 1]), Err(Short));
        }
        let start = StartFrame {
            life: LifeNo(3),
            serial: Serial(8),
            stopped: true,
        };
        let len = start.encode(&mut buffer);
        assert_eq!(StartFrame::decode(&buffer[..len]), Ok(start));
        let fork = ToTemplate::Fork {
            serial: Serial(5),
            keeper: true,
        };
        for request in [fork, ToTemplate::Report { number: 3 }] {
            let len = request.encode(&mut buffer);
            assert_eq!(ToTemplate::decode(&buffer[..len]), Ok(request));
        }
    }
}
