//! An embedding program below nucleus: it may crash, and its user actors run on.
//!
//! [`under_nucleus`] is called first thing in `main`. The process that calls it stays behind as nucleus, with
//! the pid that whoever started the program knows, and the program goes on in a child. When that fails it is
//! started again, from the image in memory and with the same words; its next [`Builder::start`]
//! adopts what runs, as the next hr_ctrl of any site does (SPEC H31).
//!
//! Must be called before there is a second thread: nucleus is one.
//!
//! [`Builder::start`]: super::Builder::start

use std::env;
use std::fs;
use std::os::fd::OwnedFd;
use std::sync::{Mutex, PoisonError};

use refrain_sys::{inherited, process};

use crate::launch::{self, LaunchError};
use crate::nucleus::{LOCK_FD, ORIGIN, Origin};
use crate::nucleus_link::{Kept, NucleusLink};

/// That this program is a child of nucleus. For [`Builder::nucleus`](super::Builder::nucleus).
#[derive(Debug)]
pub struct Nucleus {
    site: String,
    life: u32,
    last_end: String,
    link: Mutex<Option<Link>>,
}

/// What nucleus has handed to this life of the program.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) socket: OwnedFd,
    pub(super) kept: Kept,
    /// Held to the end of the process: a site whose nucleus was killed is one, still.
    pub(super) lock: OwnedFd,
}

/// Puts this program below a nucleus of its own, that keeps the site of this name. Call it first thing in `main`.
///
/// It returns in a child of the process that called it, and does so again, from the beginning of `main`, in each
/// life of the program: after an end by a signal, by a panic, by any exit code but 0. The process that called
/// it becomes nucleus. It ends with the program's exit code when the site has halted, when the program exits
/// with 0, and on SIGTERM, SIGINT or SIGHUP, upon which the site is halted; whatever is left of the site ends
/// with it.
///
/// ```no_run
/// use hr_ctrl::embed::under_nucleus;
/// use hr_ctrl::site::Site;
///
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let nucleus = under_nucleus("mine")?;
///     tokio::runtime::Runtime::new()?.block_on(async {
///         let site = Site::builder("mine").nucleus(nucleus).start().await?;
///         site.ended().await?;
///         Ok(())
///     })
/// }
/// ```
///
/// What the program has open beyond stdin, stdout and stderr is not handed on, and its executable is an image in
/// memory: `std::env::current_exe` does not name the file.
///
/// # Errors
/// [`LaunchError`]: a site of this name runs, the name is none, there is a second thread already.
///
/// Source: SPEC H31, DESIGN section 1.
pub fn under_nucleus(site: &str) -> Result<Nucleus, LaunchError> {
    let origin = env::var(ORIGIN).ok().and_then(|word| Origin::read(&word));
    let is_ours = |origin: &Origin| origin.nucleus == std::os::unix::process::parent_id();
    let Some(origin) = origin.filter(is_ours) else {
        if threads() > 1 {
            return Err(LaunchError::Threads);
        }
        let code = launch::become_nucleus(site)?;
        std::process::exit(code);
    };
    // An image in memory has no name of its own.
    process::set_name(&launch::own_name()).map_err(LaunchError::Nucleus)?;
    let lock = inherited::take(LOCK_FD).map_err(LaunchError::Nucleus)?;
    let (socket, kept) = NucleusLink::receive().map_err(LaunchError::Nucleus)?;
    Ok(Nucleus {
        site: site.to_owned(),
        life: origin.life,
        last_end: origin.last_end,
        link: Mutex::new(Some(Link { socket, kept, lock })),
    })
}

/// How many threads this process has; 1 where that cannot be seen.
fn threads() -> usize {
    fs::read_dir("/proc/self/task").map_or(1, Iterator::count)
}

impl Nucleus {
    /// How many lives of the program there were before this one.
    #[must_use]
    pub fn life(&self) -> u32 {
        self.life
    }

    /// How the life before this one ended, in words.
    #[must_use]
    pub fn last_end(&self) -> Option<&str> {
        Some(&*self.last_end).filter(|end| !end.is_empty())
    }

    pub(super) fn site(&self) -> &str {
        &self.site
    }

    /// For the one site that it keeps; `None` at the second call.
    pub(super) fn take(&self) -> Option<Link> {
        let link = self.link.lock();
        link.unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Whether a variable is between nucleus and the program, and no actor's business.
pub(crate) fn is_private(name: &str) -> bool {
    name == ORIGIN
}
