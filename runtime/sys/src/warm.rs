//! Warm images, the program's side (SPEC H34): may this process become an image, and the call into the
//! preloaded object that makes it one.
//!
//! Called by the library that an actor links. The object is looked for by name, because only a life that
//! was forked from a template has it. Must never be called while another thread of the process runs
//! program code: the image would miss that thread. The object looks, too, and refuses.
#![allow(unsafe_code)]

use std::ffi::{CStr, c_int, c_void};
use std::fs;
use std::io;
use std::ops::Range;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::ptr;

use rustix::process::{WaitId, WaitIdOptions};

/// `refrain_image_here(socket, null, output, members)` of the preloaded object.
type ImageHere = unsafe extern "C" fn(c_int, c_int, c_int, c_int) -> c_int;
/// `refrain_own_fd(fd)` of the preloaded object.
type OwnFd = unsafe extern "C" fn(c_int) -> c_int;

/// What the controller offers to a new template.
#[derive(Clone, Copy, Debug)]
pub struct Offer<'a> {
    /// The template's end of its socket.
    pub socket: BorrowedFd<'a>,
    /// `/dev/null`, its stdin.
    pub null: BorrowedFd<'a>,
    /// Its stdout and stderr.
    pub output: BorrowedFd<'a>,
    /// The open `cgroup.procs` of the actor, where there is one.
    pub members: Option<BorrowedFd<'a>>,
}

/// Who returns from [`fork_image`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The life that asked.
    Asker,
    /// A later life, which begins here. Every fd that was open when the image was made is closed, those
    /// of the [`Offer`] included.
    Life,
}

/// A function of the preloaded object.
fn preloaded(name: &CStr) -> Option<*mut c_void> {
    // SAFETY: the name is a C string; RTLD_DEFAULT asks for the first object that has it.
    let found = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
    (!found.is_null()).then_some(found)
}

/// Whether this process was forked from a template, and so can become one.
#[must_use]
pub fn is_possible() -> bool {
    preloaded(c"refrain_image_here").is_some()
}

/// Forks a template off this process that serves on the socket of `offer`; it returns
/// [`Side::Life`] in every life that begins from it. What stdio of C still holds is written out before.
///
/// # Errors
/// `Unsupported` where there is no preloaded object; EBUSY with more than one thread, ECHILD with
/// children, EPERM in a child that the life forked; else the kernel's.
pub fn fork_image(offer: &Offer<'_>) -> io::Result<Side> {
    let address = preloaded(c"refrain_image_here").ok_or(io::ErrorKind::Unsupported)?;
    // SAFETY: the preloaded object's function of this name has this type.
    let image_here = unsafe { std::mem::transmute::<*mut c_void, ImageHere>(address) };
    // SAFETY: null stands for every stream that is open for writing.
    unsafe { libc::fflush(ptr::null_mut()) };
    let number = |fd: BorrowedFd<'_>| fd.as_raw_fd();
    let members = offer.members.map_or(-1, number);
    let (socket, null, output) = (
        number(offer.socket),
        number(offer.null),
        number(offer.output),
    );
    // SAFETY: four fds that are open, or -1; a fork of this process harms no memory of its own.
    match unsafe { image_here(socket, null, output, members) } {
        0 => Ok(Side::Asker),
        1 => Ok(Side::Life),
        error => Err(io::Error::from_raw_os_error(error.saturating_neg())),
    }
}

/// How many threads this process has.
///
/// # Errors
/// `/proc` is not there.
pub fn thread_count() -> io::Result<usize> {
    Ok(fs::read_dir("/proc/self/task")?.count())
}

/// Whether this process has a child, running or ended, that was not waited for yet.
///
/// # Errors
/// The kernel's.
///
/// Source: WNOWAIT and ECHILD in waitid(2).
pub fn has_children() -> io::Result<bool> {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    match rustix::process::waitid(WaitId::All, options) {
        Err(rustix::io::Errno::CHILD) => Ok(false),
        Err(rustix::io::Errno::INTR) => Ok(true),
        other => other.map(|_| true).map_err(Into::into),
    }
}

/// The open fds of this process but 0, 1, 2, `mine` and those that the preloaded object knows, with
/// what each is.
///
/// # Errors
/// `/proc` is not there.
pub fn open_files(mine: &[RawFd]) -> io::Result<Vec<(RawFd, String)>> {
    let own = preloaded(c"refrain_own_fd");
    let is_own = |fd: RawFd| {
        own.is_some_and(|address| {
            // SAFETY: the preloaded object's function of this name has this type.
            let own = unsafe { std::mem::transmute::<*mut c_void, OwnFd>(address) };
            // SAFETY: the function compares numbers.
            unsafe { own(fd) != 0 }
        })
    };
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc/self/fd")?.flatten() {
        let Some(fd) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        // The directory that is being read is closed by the time its own entry is looked at below.
        found.push(fd);
    }
    found.retain(|fd| *fd > 2 && !mine.contains(fd) && !is_own(*fd));
    let named = found.into_iter().filter_map(|fd| {
        let target = fs::read_link(format!("/proc/self/fd/{fd}")).ok()?;
        Some((fd, target.display().to_string()))
    });
    Ok(named.collect())
}

/// Memory that this process shares with others for writing, but for the file that is mapped at `but`:
/// the address and what is mapped there. A later life would see what this one writes to it.
///
/// # Errors
/// `/proc` is not there.
///
/// Source: `/proc/PID/maps` in proc(5).
pub fn shared_memory(but: usize) -> io::Result<Vec<(usize, String)>> {
    let maps = fs::read_to_string("/proc/self/maps")?;
    Ok(shared_in(&maps, but))
}

/// One line of `/proc/PID/maps` that is of shared writable memory.
struct Shared<'a> {
    range: Range<usize>,
    file: [&'a str; 2],
    what: String,
}

fn shared_line(line: &str) -> Option<Shared<'_>> {
    let mut words = line.split_whitespace();
    let (from, to) = words.next()?.split_once('-')?;
    let rights = words.next()?;
    let (_offset, device, inode) = (words.next()?, words.next()?, words.next()?);
    let address = |text| usize::from_str_radix(text, 16).ok();
    (rights.contains('w') && rights.ends_with('s')).then_some(Shared {
        range: address(from)?..address(to)?,
        file: [device, inode],
        what: words.collect::<Vec<_>>().join(" "),
    })
}

fn shared_in(maps: &str, but: usize) -> Vec<(usize, String)> {
    let mut shared: Vec<_> = maps.lines().filter_map(shared_line).collect();
    let known = shared.iter().find(|one| one.range.contains(&but));
    let known = known.map(|one| one.file);
    shared.retain(|one| Some(one.file) != known);
    let named = shared.into_iter().map(|one| (one.range.start, one.what));
    named.collect()
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn outside_a_life_there_is_no_preloaded_object() {
        assert!(!is_possible());
        let file = fs::File::open("/dev/null").unwrap();
        let fd = file.as_fd();
        let offer = Offer {
            socket: fd,
            null: fd,
            output: fd,
            members: None,
        };
        let error = fork_image(&offer).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::Unsupported);
    }

    #[test]
    fn an_open_file_is_found_by_its_name_unless_it_is_mine() {
        let file = fs::File::open("/proc/self/maps").unwrap();
        let (fd, name) = (
            file.as_raw_fd(),
            format!("/proc/{}/maps", std::process::id()),
        );
        assert!(open_files(&[]).unwrap().contains(&(fd, name)));
        assert!(
            open_files(&[fd])
                .unwrap()
                .iter()
                .all(|(open, _)| *open != fd)
        );
    }

    #[test]
    fn only_shared_writable_memory_of_another_file_is_named() {
        let maps = "1000-2000 rw-s 00000000 00:01 77   /memfd:page (deleted)\n\
                    3000-5000 rw-s 00000000 00:01 78   /memfd:a block (deleted)\n\
                    6000-7000 r--s 00000000 00:01 79   /a/cache\n\
                    8000-9000 rw-p 00000000 00:01 80   /a/library\n\
                    a000-b000 rw-s 00000000 00:01 77   /memfd:page (deleted)\n";
        let block = (0x3000, "/memfd:a block (deleted)".to_owned());
        assert_eq!(shared_in(maps, 0x1010), [block]);
        let page = |at| (at, "/memfd:page (deleted)".to_owned());
        assert_eq!(shared_in(maps, 0x4fff), [page(0x1000), page(0xa000)]);
        assert_eq!(shared_in(maps, 0x9000).len(), 3);
    }
}
