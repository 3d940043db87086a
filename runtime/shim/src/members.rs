//! Who is in the actor's cgroup.
//!
//! Called by `life`, in a standby that a failing life has woken, before it begins: whoever is there
//! and not known was left behind by that life. Must never take a list for complete that it could not
//! read to its end.

use refrain_abi::control::{ControlPage, SLOTS};

use crate::life_calls::read_at_start;
use crate::syscalls::Fd;
use crate::text::number;

/// The longest line of `cgroup.procs`, in bytes: a 32-bit number and its line end.
const LINE: usize = 11;
/// How many can be known: the template, the standby itself, keepers, and whom the controller
/// vouches for. A longer list holds a stranger.
const MOST_KNOWN: usize = 2 + 2 * SLOTS;

/// Whether every member is known: `template`, `own`, a keeper, or one that the controller vouches
/// for (the failing life among them). `members` is the open `cgroup.procs`.
///
/// The kernel lists a process until it has let go of its files, and puts a new one at the end of the
/// list that it walks: somebody who forks all the time can't hide.
#[must_use]
pub fn are_known(members: Fd, page: &ControlPage, template: u32, own: u32) -> bool {
    let mut buffer = [0u8; LINE * (MOST_KNOWN + 2)];
    let Ok(len) = read_at_start(members, &mut buffer) else {
        return false;
    };
    if len + LINE > buffer.len() {
        return false;
    }
    buffer
        .get(..len)
        .unwrap_or_default()
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .all(|line| {
            number(line).is_some_and(|pid| {
                pid == template || pid == own || is_vouched(page, pid) || page.is_keeper(pid)
            })
        })
}

fn is_vouched(page: &ControlPage, pid: u32) -> bool {
    let mut pids = page.vouched.iter();
    pid != 0 && pids.any(|known| known.load(core::sync::atomic::Ordering::Acquire) == pid)
}
