//! The outside of a site: a client of its socket, as a console or for one command.
//!
//! Called by [`crate::program`] and [`crate::applet`]. A client decides nothing; when it goes
//! away half way, the site goes on.

mod command;
mod link;
mod presence;
pub(crate) mod screen;
mod signals;

use std::time::Duration;

use hr_ctrl::launch::SiteEnd;
use refrain_abi::session::ToSite;

pub(crate) use presence::Mode;

use crate::program::complain;
use crate::{DONE, FAILED};

/// How long a site that halts is waited for.
const END_TIMEOUT: Duration = Duration::from_secs(10);

/// Gives one command to a running site; answers its exit code.
pub(crate) fn command(site: &str, request: ToSite) -> i32 {
    let halts = command::After::of(&request) == command::After::Halted;
    let end = SiteEnd::watch(site).filter(|_| halts);
    until_the_end(run(command::run(site, request)), end)
}

/// Attends a site: as its console, or until it has booted or halted. Answers the exit code.
pub(crate) fn console(site: &str, mode: Mode) -> i32 {
    // These two return when the site has halted, or when they have lost it.
    let halts = matches!(mode, Mode::Owner | Mode::Once);
    let end = SiteEnd::watch(site).filter(|_| halts);
    until_the_end(run(presence::run(site, mode)), end)
}

/// Whoever halted a site may start the next at once: nothing of it is left on return.
fn until_the_end(code: i32, end: Option<SiteEnd>) -> i32 {
    match end {
        Some(end) if !end.wait(END_TIMEOUT) => complain(
            if code == DONE { FAILED } else { code },
            "the site is told to halt, but has not ended yet",
        ),
        _ => code,
    }
}

/// Asks a running site, in the foreground and for a short time; for completion.
pub(crate) use link::ask;

fn run(work: impl Future<Output = i32>) -> i32 {
    match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => {
            let code = runtime.block_on(work);
            // A thread that waits for the terminal or for stdin must not hold up the end.
            runtime.shutdown_background();
            code
        }
        Err(why) => complain(FAILED, format!("no event loop: {why}")),
    }
}
