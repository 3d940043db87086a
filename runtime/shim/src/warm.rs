//! Warm images (SPEC H34): a life becomes the template of later lives.
//!
//! Called by the library that the program links, which finds these two functions by name and has
//! looked whether anything is in the way; what would make a fork wrong is looked at again here.
//!
//! The life forks a sibling, by CLONE_PARENT: its parent is the template that the life came from, so that
//! the program's `wait` never sees it, and no signal tells the program of its end. It is the bare
//! call, so the program's atfork handlers do not run in the life; they run when the new template forks a
//! standby, by libc's fork, as in every template. The template closes what the life has open, becomes
//! its own process group, and serves. Each life returns from the call that the first one made.
//!
//! The program's signal handlers are part of the image, so every signal is blocked from before the
//! fork: in the template for good, in a standby until it has begun. Must never run a line of the
//! program in a template, and must leave a life as it was where no template came about.

use core::ffi::c_int;

use refrain_abi::control::ControlPage;

use crate::environ::{self, TemplateFds};
use crate::life_calls::{LAST_FD, close_range, fork_sibling, has_children};
use crate::serve::Template;
use crate::signal_calls::ALL;
use crate::syscalls::{self, Fd, MaskHow, Result};
use crate::{identity, start, stopping};

/// Where the template's fds are put.
const ABOVE: usize = 70;
/// EPERM: this process is no life.
const EPERM: i32 = 1;
/// EBUSY: there are other threads.
const EBUSY: i32 = 16;
/// ECHILD: there are children.
const ECHILD: i32 = 10;
/// The exit code of a template that could not become one.
const NO_TEMPLATE: i32 = 126;

/// What the controller has offered.
#[derive(Clone, Copy)]
struct Offered {
    socket: Fd,
    null: Fd,
    output: Fd,
    members: Option<Fd>,
}

/// Forks a template off this life, which serves on `socket`, with `null` and `output` for its stdin,
/// stdout and stderr, and the open `cgroup.procs` of the actor (-1: there is none). Answers 0 in the
/// life, 1 in each life that begins from it, where every fd that was open is closed, or a
/// negative errno.
///
/// # Safety
/// Called by the life, in a moment when no other thread can start one.
#[cfg_attr(shim_object, unsafe(no_mangle))]
pub unsafe extern "C" fn refrain_image_here(
    socket: c_int,
    null: c_int,
    output: c_int,
    members: c_int,
) -> c_int {
    let Some(own) = identity::own(syscalls::own_pid()) else {
        return -EPERM;
    };
    let Ok(mask) = syscalls::signal_mask(MaskHow::Set, ALL) else {
        return -EPERM;
    };
    let offered = Offered {
        socket,
        null,
        output,
        members: (members >= 0).then_some(members),
    };
    let origin = syscalls::own_pid();
    let answer = match fork_template() {
        Ok(0) => {
            become_template(own.page, offered, origin);
            1
        }
        Ok(_) => 0,
        Err(errno) => -errno,
    };
    let _ = syscalls::signal_mask(MaskHow::Set, mask);
    answer
}

/// Whether an fd is Refrain's: the life's socket, or the bytes of its script. The program's library
/// leaves these out when it looks for open files.
///
/// # Safety
/// None is needed; it is called by address.
#[cfg_attr(shim_object, unsafe(no_mangle))]
pub unsafe extern "C" fn refrain_own_fd(fd: c_int) -> c_int {
    let script = environ::template_fds().and_then(|fds| fds.script);
    c_int::from(identity::socket() == Some(fd) || script == Some(fd))
}

/// The pid of the sibling, 0 in the sibling.
fn fork_template() -> Result<u32> {
    if !stopping::has_one_thread() {
        return Err(EBUSY);
    }
    if has_children() {
        return Err(ECHILD);
    }
    fork_sibling()
}

/// Serves as a template; returns in each life that begins from it.
fn become_template(page: &'static ControlPage, offered: Offered, origin: u32) {
    identity::forget();
    syscalls::lead_process_group();
    let name = syscalls::name();
    let Ok(fds) = put_in_place(offered) else {
        syscalls::exit(NO_TEMPLATE)
    };
    let template = Template::of_life(fds, page, start::fork, name, origin);
    // SAFETY: `environment` answers libc's own array. A life from here has that array already, with its
    // own two values written into the strings that are there.
    let _ = unsafe { template.serve(start::environment) };
}

/// Takes over what was offered, and closes everything else that the life had open.
fn put_in_place(offered: Offered) -> Result<TemplateFds> {
    // Out of the way of 0 to 2 first: a program may have closed those, and been given them again.
    let raise = |fd| syscalls::duplicate_above(fd, ABOVE, true);
    let socket = raise(offered.socket)?;
    let members = offered.members.map(raise).transpose()?;
    let (null, output) = (raise(offered.null)?, raise(offered.output)?);
    for (fd, target) in [(null, 0), (output, 1), (output, 2)] {
        syscalls::place(fd, target)?;
    }
    let script = environ::template_fds().and_then(|fds| fds.script);
    let mut kept = [socket, members.unwrap_or(socket), script.unwrap_or(socket)];
    kept.sort_unstable();
    let mut next = 3;
    for fd in kept.map(|fd| fd as u32) {
        if fd > next {
            close_range(next, fd - 1)?;
        }
        next = fd + 1;
    }
    close_range(next, LAST_FD)?;
    Ok(TemplateFds {
        socket,
        page: -1,
        image: None,
        script,
        members,
        handlers: environ::template_fds().is_some_and(|fds| fds.handlers),
    })
}
