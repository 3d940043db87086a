//! The loop of a template: fork standbys, reap lives, report both.
//!
//! Called by `start` (in a program, before its `main`) and by `stub`. Returns in a life only, once
//! it was woken and has taken its start; in the template it never returns.
//!
//! A template is single-threaded, allocates nothing, and trusts its controller. It keeps what belongs to
//! its children: of each, until that is reaped, both ends of the life's socket. So a controller that
//! ends closes no life's socket, and the next one asks for a report and is given every child there is, with
//! its pidfd and the controller's end. No child may hold its own or another's: it would not see its
//! socket close, and could answer itself.
//!
//! When nobody holds the controller's end of the template's own socket any more, the template ends; lives
//! that run go on, standbys that still sleep are killed, because nobody could wake them any more.

use core::ffi::c_char;
use core::sync::atomic::Ordering;

use refrain_abi::Serial;
use refrain_abi::control::{ControlPage, PAGE_SIZE};
use refrain_abi::template::{FromTemplate, MAX_FRAME, ToTemplate};

use crate::children::{Child, Kind, Watch};
use crate::environ::TemplateFds;
use crate::life::{Life, Standby};
use crate::life_calls::is_child;
use crate::socket::{self, Wait};
use crate::syscalls::{self, EAGAIN, Fd, SIGKILL};
use crate::{environ, keeper, text};

/// EMFILE: this process may not open so many files.
const EMFILE: i32 = 24;
/// How a template forks: libc's `fork`, or the bare call where there is no libc. Answers 0 in the
/// child, the pid in the template, or the errno.
pub type Fork = fn() -> syscalls::Result<u32>;

/// A name as the kernel keeps it: at most 15 bytes and a NUL.
pub(crate) type Comm = [u8; 16];

/// What a template is.
#[derive(Debug)]
pub struct Template {
    pub(crate) fds: TemplateFds,
    pub(crate) page: &'static ControlPage,
    pub(crate) fork: Fork,
    pub(crate) name: Comm,
    /// Its own pid.
    pub(crate) pid: u32,
    /// The pid of the life that has become it, if one has: then the controller did not start it, and
    /// is told who it is.
    origin: Option<u32>,
}

impl Template {
    /// Maps the control page, and becomes a template of the program called by `name`, which is its
    /// `argv[0]`. Without a page it can't be one.
    ///
    /// # Errors
    /// The errno of mmap.
    pub fn new(fds: TemplateFds, fork: Fork, name: &[u8]) -> syscalls::Result<Self> {
        let page = syscalls::map(Some(fds.page), PAGE_SIZE)?;
        syscalls::close(fds.page);
        // SAFETY: PAGE_SIZE bytes that are never unmapped; every word is an atomic, as others
        // write it.
        let page = unsafe { &*page.cast::<ControlPage>() };
        for fd in [Some(fds.socket), fds.image, fds.members]
            .into_iter()
            .flatten()
        {
            syscalls::set_cloexec(fd, true);
        }
        // A script is named by /proc/self/fd/N: by a program that is loaded already, which needs
        // no inheritance, or by one that is yet to be executed, which does.
        if let Some(script) = fds.script {
            syscalls::set_cloexec(script, fds.image.is_none());
        }
        syscalls::become_subreaper();
        let name = name_of(name);
        syscalls::set_name(&in_role(b'T', &name));
        Ok(Self {
            fds,
            page,
            fork,
            name,
            pid: syscalls::own_pid(),
            origin: None,
        })
    }

    /// The template that the life of pid `origin` has become, whose name it keeps.
    #[must_use]
    pub fn of_life(
        fds: TemplateFds,
        page: &'static ControlPage,
        fork: Fork,
        name: Comm,
        origin: u32,
    ) -> Self {
        syscalls::become_subreaper();
        syscalls::set_name(&in_role(b'T', &name));
        Self {
            fds,
            page,
            fork,
            name,
            pid: syscalls::own_pid(),
            origin: Some(origin),
        }
    }

    /// Serves until the controller is gone; returns in every life.
    ///
    /// # Safety
    /// `envp` answers a null-terminated array of C strings that live as long as the process.
    pub unsafe fn serve(&self, envp: fn() -> *const *const c_char) -> Life {
        let threads = count_threads().unwrap_or(1);
        if threads > 1 {
            let _ = self.tell(FromTemplate::Threaded { threads }, &[], Wait::Yes);
            syscalls::exit(0);
        }
        let Some(mut watch) = Watch::new() else {
            syscalls::exit(126)
        };
        if self.tell_ready().is_err() {
            syscalls::exit(0);
        }
        loop {
            let [request, ended] = watch.wait(self.fds.socket);
            let asked = if request { self.request(&watch) } else { None };
            let forked = asked
                .as_ref()
                .map(|asked| self.fork_standby(asked, &mut watch));
            // The next standby is wanted sooner than the dead are buried.
            if ended && !matches!(forked, Some(Forked::Child)) {
                self.reap(&mut watch);
            }
            let (Some(asked), Some(forked)) = (asked, forked) else {
                continue;
            };
            match forked {
                Forked::Child => {
                    self.leave(&asked, &watch);
                    let before = self
                        .origin
                        .map(|origin| watch.life_of(self.page).unwrap_or(origin));
                    let standby = Standby::new(&asked, self, before);
                    // SAFETY: the caller's promise.
                    return unsafe { standby.sleep_and_begin(envp(), watch.saved) };
                }
                Forked::Template => {}
                Forked::Failed => asked.close(),
            }
        }
    }

    /// Says that it serves, and who it is where the controller can't know.
    fn tell_ready(&self) -> syscalls::Result<()> {
        if self.origin.is_none() {
            return self.tell(FromTemplate::Ready, &[], Wait::Yes);
        }
        let pidfd = syscalls::pidfd_open(self.pid)?;
        let told = self.tell(FromTemplate::Ready, &[pidfd], Wait::Yes);
        syscalls::close(pidfd);
        told
    }

    /// Closes in a child what is the template's.
    fn leave(&self, asked: &Asked, watch: &Watch) {
        syscalls::close(asked.controller_end);
        syscalls::close(self.fds.socket);
        watch.close();
    }

    /// The image to execute, where lives start by exec.
    #[must_use]
    pub fn image(&self) -> Option<Fd> {
        self.fds.image
    }

    /// The control page.
    #[must_use]
    pub fn page(&self) -> &'static ControlPage {
        self.page
    }

    fn tell(&self, what: FromTemplate, fds: &[Fd], wait: Wait) -> syscalls::Result<()> {
        let mut buffer = [0; MAX_FRAME];
        let len = what.encode(&mut buffer);
        let frame = buffer.get_mut(..len).unwrap_or_default();
        socket::send(self.fds.socket, frame, fds, wait)
    }

    fn tell_failed(&self, serial: Serial, errno: i32) {
        let errno = errno as u32;
        let _ = self.tell(FromTemplate::ForkFailed { serial, errno }, &[], Wait::Yes);
    }

    /// Takes a request off the socket, and carries out what is no fork; ends the template when the
    /// controller is gone.
    fn request(&self, watch: &Watch) -> Option<Asked> {
        let mut buffer = [0; MAX_FRAME];
        let received = match socket::receive(self.fds.socket, &mut buffer, Wait::No) {
            Ok(received) if received.len > 0 => received,
            Err(EAGAIN) => return None,
            _ => self.end(watch),
        };
        let frame = buffer.get(..received.len).unwrap_or_default();
        match (ToTemplate::decode(frame), received.fds, received.fd_count) {
            (Ok(ToTemplate::Fork { serial, keeper }), [socket, controller_end, ..], 2) => {
                return Some(Asked {
                    serial,
                    keeper,
                    socket,
                    controller_end,
                });
            }
            // The program's limit of open files left no room for them.
            (Ok(ToTemplate::Fork { serial, .. }), _, 0) => self.tell_failed(serial, EMFILE),
            (Ok(ToTemplate::Report { number }), _, 0) => self.report(number, watch),
            _ => socket::close_all(&received),
        }
        None
    }

    /// Says which children there are, for a controller that does not know them. One that has ended and was
    /// not reaped is among them: its end comes later.
    fn report(&self, number: u32, watch: &Watch) {
        for child in watch.children.iter().flatten() {
            let (pid, kind) = (child.pid, child.kind);
            let Kind::Life {
                serial,
                controller_end,
                ..
            } = kind
            else {
                continue;
            };
            // It is a child that was not reaped, and there was room for this fd when it was forked.
            if let Ok(pidfd) = syscalls::pidfd_open(pid) {
                let child = FromTemplate::Child {
                    number,
                    serial,
                    pid,
                };
                let _ = self.tell(child, &[pidfd, controller_end], Wait::Yes);
                syscalls::close(pidfd);
            }
        }
        let _ = self.tell(FromTemplate::Reported { number }, &[], Wait::Yes);
    }

    fn fork_standby(&self, asked: &Asked, watch: &mut Watch) -> Forked {
        let serial = asked.serial;
        let failed = |errno: i32| {
            self.tell_failed(serial, errno);
            Forked::Failed
        };
        let Some(place) = watch.place() else {
            return failed(EAGAIN);
        };
        // Room for a pidfd: of this child now, of any child in a report.
        match syscalls::duplicate_above(asked.socket, 0, true) {
            Ok(fd) => syscalls::close(fd),
            Err(errno) => return failed(errno),
        }
        let pid = match (self.fork)() {
            Ok(0) => return Forked::Child,
            Ok(pid) => pid,
            Err(errno) => return failed(errno),
        };
        let kind = Kind::Life {
            serial,
            socket: asked.socket,
            controller_end: asked.controller_end,
        };
        *place = Some(Child { pid, kind });
        match syscalls::pidfd_open(pid) {
            Ok(pidfd) => {
                let report = FromTemplate::Forked { serial, pid };
                let _ = self.tell(report, &[pidfd], Wait::Yes);
                syscalls::close(pidfd);
            }
            Err(errno) => {
                syscalls::kill(pid, SIGKILL);
                failed(errno);
            }
        }
        Forked::Template
    }

    /// Reaps every child that has ended, adopted orphans too; signals coalesce, so it loops.
    fn reap(&self, watch: &mut Watch) {
        while let Ok((pid @ 1.., status)) = syscalls::reap() {
            let page = self.page;
            let child = watch.take(pid);
            let kind = child.map(|child| child.kind);
            let is_life = matches!(kind, Some(Kind::Life { .. }));
            if !is_life && (keeper::forget(page, pid) || kind.is_some()) {
                continue;
            }
            page.end_pid.store(pid, Ordering::Relaxed);
            page.end_status.store(status, Ordering::Relaxed);
            page.end_count.fetch_add(1, Ordering::Release);
            // The controller knows by the pidfd; a queue that is full must not stop the template.
            let _ = self.tell(FromTemplate::Ended { pid, status }, &[], Wait::No);
            if let Some(Kind::Life { serial, .. }) = kind {
                self.end_keeper(serial, watch);
            }
            if let Some(child) = child {
                child.close();
            }
        }
    }

    /// Ends the keeper of a life that was reaped. The control page, which the actor can write, says
    /// who that is: so it must be a child of this template, and no life or standby.
    fn end_keeper(&self, serial: Serial, watch: &mut Watch) {
        let Some(pid) = self.page.keeper(serial) else {
            return;
        };
        let known = watch
            .children
            .iter()
            .flatten()
            .any(|child| child.pid == pid);
        if known || !is_child(pid) {
            return;
        }
        syscalls::kill(pid, SIGKILL);
        if let Some(place) = watch.place() {
            let kind = Kind::Keeper;
            *place = Some(Child { pid, kind });
        }
    }

    /// The controller is gone.
    fn end(&self, watch: &Watch) -> ! {
        let woken = self.page.wake.load(Ordering::Acquire);
        for child in watch.children.iter().flatten() {
            if let Kind::Life { serial, .. } = child.kind
                && !serial.is_called(woken)
            {
                syscalls::kill(child.pid, SIGKILL);
            }
        }
        syscalls::exit(0)
    }
}

/// What a request asks for.
#[derive(Debug)]
pub struct Asked {
    /// Which serial the standby waits for.
    pub serial: Serial,
    /// Whether it is to have a keeper.
    pub keeper: bool,
    /// The life's end of its socket.
    pub socket: Fd,
    /// The controller's end: the template's to keep, closed in the child before all else.
    pub(crate) controller_end: Fd,
}

impl Asked {
    fn close(&self) {
        syscalls::close(self.socket);
        syscalls::close(self.controller_end);
    }
}

enum Forked {
    Child,
    Template,
    Failed,
}

/// How many threads this process has; `None` when that can't be found out.
pub(crate) fn count_threads() -> Option<u32> {
    let directory = syscalls::open_directory(c"/proc/self/task").ok()?;
    let mut buffer = [0u8; 512];
    let mut threads = 0;
    while let Ok(len @ 1..) = syscalls::getdents64(directory, &mut buffer) {
        let mut rest = buffer.get(..len).unwrap_or_default();
        // struct linux_dirent64: inode 8, offset 8, length of the record 2, kind 1, name.
        while let Some([low, high, _, first, ..]) = rest.get(16..) {
            threads += u32::from(first.is_ascii_digit());
            let record = usize::from(u16::from_le_bytes([*low, *high])).max(1);
            rest = rest.get(record..).unwrap_or_default();
        }
    }
    syscalls::close(directory);
    (threads > 0).then_some(threads)
}

/// What the kernel would name the program: the file that was asked for, which may be a link to the
/// one that runs.
fn name_of(argument: &[u8]) -> Comm {
    let mut bytes = [0u8; text::MAX_PATH];
    let mut len = 0;
    for (place, byte) in bytes.iter_mut().zip(environ::SCRIPT.bytes()) {
        *place = byte;
        len += 1;
    }
    let script = bytes.get(..len).unwrap_or_default();
    let name = text::file_name(if script.is_empty() { argument } else { script });
    let mut comm = [0u8; 16];
    for (place, byte) in comm.iter_mut().take(15).zip(name) {
        *place = *byte;
    }
    comm
}

/// A name with its role in front, so that whoever looks a life up by its name finds the life only.
pub(crate) fn in_role(role: u8, name: &Comm) -> Comm {
    let mut comm = [0u8; 16];
    for (place, byte) in comm
        .iter_mut()
        .take(15)
        .zip([role, b':'].iter().chain(name))
    {
        *place = *byte;
    }
    comm
}
