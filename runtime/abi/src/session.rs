//! What a client of the site's socket (`c_init`, `arun`, `aps` ...) and C_INIT say to each other:
//! one JSON object a line on a Unix stream socket.
//!
//! A client opens with [`ToSite::Open`], then gives commands one at a time; each is answered by
//! any number of [`FromSite::Out`] and [`FromSite::Err`] and one [`FromSite::Done`]. A session
//! that asked for the console also receives [`FromSite::Console`] at any time.

use serde::{Deserialize, Serialize};

/// The version of this protocol.
pub const VERSION: u32 = 1;

/// The longest line that either side accepts, in bytes.
pub const MAX_LINE: usize = 4 << 20;

/// Client to site.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToSite {
    /// The first line of a session.
    Open {
        /// [`VERSION`] of the client.
        version: u32,
        /// Where relative paths of this session's commands start.
        cwd: String,
        /// Whether the session is a console: the output of actors and the messages of the boot
        /// actors are shown on it.
        console: bool,
    },
    /// A command as it was typed.
    Line(String),
    /// A command already split into words (`arun`, `aps` ... as programs of their own).
    Words(Vec<String>),
    /// Give up the command that runs (`sleep`, `log -f`); it is answered `Done` with code 130.
    Interrupt,
}

/// Site to client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FromSite {
    /// Text for stdout, line ends included.
    Out(String),
    /// One line for stderr, without its line end.
    Err(String),
    /// The command has ended.
    Done {
        /// Its exit code (DESIGN section 7).
        code: i32,
    },
    /// A whole line of the site's console.
    Console(String),
    /// `sysadm.ini` has been read to its end.
    Booted {
        /// How many of its commands failed.
        failed: u32,
    },
    /// There is no session for this client, for the reason given; nothing follows.
    Refused(String),
    /// The site has halted; nothing follows.
    Halted {
        /// 0, or 1 when something that was to be done was not.
        code: i32,
    },
}
