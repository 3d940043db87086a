//! The outside of a site: a client of its socket, as a console or for one command.
//!
//! Called by [`crate::program`] and [`crate::applet`]. A client decides nothing; when it goes
//! away half way, the site goes on.

mod command;
mod link;
mod presence;
pub(crate) mod screen;
mod signals;

use refrain_abi::session::ToSite;

pub(crate) use presence::Mode;

use crate::FAILED;
use crate::program::complain;

/// Gives one command to a running site; answers its exit code.
pub(crate) fn command(site: &str, request: ToSite) -> i32 {
    run(command::run(site, request))
}

/// Attends a site: as its console, or until it has booted or halted. Answers the exit code.
pub(crate) fn console(site: &str, mode: Mode) -> i32 {
    run(presence::run(site, mode))
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
