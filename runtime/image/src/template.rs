//! Templates: spawning one, asking it for standbys, hearing from it.
//!
//! Called by the controller, off the restart path. A template is a process that holds a program loaded
//! and linked, stopped before `main`; what runs in it is `runtime/shim`. Its socket is nonblocking on
//! this side, for an event loop. Must never wait for a template: one that hangs in a constructor
//! must not stop the site.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;

use refrain_abi::Serial;
use refrain_abi::template::{
    EXE_VAR, FromTemplate, MAX_FRAME, PAD_VAR, SCRIPT_VAR, TEMPLATE_VAR, ToTemplate,
    USER_BIND_NOW_VAR, USER_LIBRARY_PATH_VAR, USER_PRELOAD_VAR,
};
use refrain_sys::{PidFd, Spawn, seqpacket};

use crate::image::Linkage;
use crate::{Image, Program, objects};

/// The numbers under which a template finds its fds: out of the way of those that programs take for
/// granted, below the usual limits.
const SOCKET: RawFd = 70;
const PAGE: RawFd = 71;
const IMAGE: RawFd = 72;
const SCRIPT: RawFd = 73;
const SHIM: RawFd = 74;
const MEMBERS: RawFd = 75;

/// How the lives of a template begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartKind {
    /// Forked from the loaded program.
    Template,
    /// Forked from the stub, then exec of the image.
    Exec,
}

/// How an image's lives can begin. A program that turns out to be threaded
/// ([`FromTemplate::Threaded`]), or whose template ends before it is ready, is begun by
/// [`StartKind::Exec`] too.
#[must_use]
pub fn choose_start(image: &Image) -> StartKind {
    match image.linkage {
        Linkage::Dynamic => StartKind::Template,
        Linkage::Static | Linkage::Unhookable(_) => StartKind::Exec,
    }
}

/// What a template's socket brought that is no message.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TemplateError {
    /// The template has ended.
    #[error("the template has ended")]
    Closed,
    /// It sent what is not of the protocol.
    #[error("the template sent a frame that is none")]
    Garbled,
    /// The kernel's.
    #[error("the template's socket failed: {0}")]
    Io(#[from] io::Error),
}

/// The most fds beside a message of a template.
const MAX_HEARD_FDS: usize = 2;

/// What a template has said.
#[derive(Debug)]
pub struct Heard {
    /// The message.
    pub message: FromTemplate,
    /// The fds beside it: of [`FromTemplate::Forked`] the pidfd, of [`FromTemplate::Child`] the pidfd and the
    /// controller's end of the life's socket; of others none that matters.
    pub fds: Vec<OwnedFd>,
}

/// A running template.
#[derive(Debug)]
pub struct Template {
    /// Its pid, for people to read.
    pub pid: u32,
    /// Its pidfd; a child of this process, which reaps it.
    pub pidfd: PidFd,
    /// The controller's end of its socket, nonblocking.
    pub socket: OwnedFd,
    /// How its lives begin.
    pub start: StartKind,
}

impl AsFd for Template {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Template {
    /// Starts a template; it reports [`FromTemplate::Ready`] when it is. What the loader and
    /// constructors print goes to this process's stderr.
    ///
    /// # Errors
    /// The kernel's: no such directory, no fds, no processes.
    pub fn spawn(
        program: &Program,
        start: StartKind,
        page: BorrowedFd<'_>,
        cgroup: Option<BorrowedFd<'_>>,
    ) -> io::Result<Self> {
        let output = io::stderr();
        Self::spawn_with_output(program, start, page, cgroup, &[], None, output.as_fd())
    }

    /// As [`Template::spawn`], with somewhere for what the loader and constructors print: a library
    /// that is missing is only said there. `joins` are the `cgroup.procs` of version 1 that it is to be in
    /// besides. `members` is the open `cgroup.procs` of the actor, for
    /// reading: without it a failing life can't wake its successor, and no life has a keeper.
    ///
    /// # Errors
    /// As [`Template::spawn`].
    pub fn spawn_with_output(
        program: &Program,
        start: StartKind,
        page: BorrowedFd<'_>,
        cgroup: Option<BorrowedFd<'_>>,
        joins: &[BorrowedFd<'_>],
        members: Option<BorrowedFd<'_>>,
        output: BorrowedFd<'_>,
    ) -> io::Result<Self> {
        let image = &program.image;
        let (ours, theirs) = seqpacket::pair_nonblocking_first()?;
        let null = File::open("/dev/null")?;
        let mut fds = vec![(null.as_fd(), 0), (output, 1), (output, 2)];
        fds.extend([(theirs.as_fd(), SOCKET), (page, PAGE)]);
        fds.extend(
            image
                .script
                .as_ref()
                .map(|script| (script.fd.as_fd(), SCRIPT)),
        );
        let (exe, envp) = match start {
            StartKind::Template => {
                let shim = objects::shim(image.script.is_some())?;
                fds.push((shim, SHIM));
                fds.extend(members.map(|members| (members, MEMBERS)));
                let environment = template_environment(program, members.is_some());
                (image.fd.as_fd(), environment)
            }
            StartKind::Exec => {
                fds.push((image.fd.as_fd(), IMAGE));
                (objects::stub()?, exec_environment(program))
            }
        };
        let argv = arguments(program, start);
        let fixed = start == StartKind::Exec && !program.fresh_layout;
        let (pid, pidfd) = Spawn::new(exe, &argv, &envp)
            .cwd(&program.cwd)
            .umask(program.umask)
            .rlimits(&program.rlimits)
            .fds(&fds)
            .cgroup(cgroup)
            .joins(joins)
            .nice(program.nice)
            .credentials(program.credentials.as_ref())
            .no_new_privs(program.no_new_privs)
            .setsid(true)
            .fixed_layout(fixed)
            .spawn()?;
        Ok(Self {
            pid,
            pidfd,
            socket: ours,
            start,
        })
    }

    /// A template that stands already, of which these were kept: its pid and pidfd, the controller's end of
    /// its socket, nonblocking, and how its lives begin.
    #[must_use]
    pub fn over(pid: u32, pidfd: PidFd, socket: OwnedFd, start: StartKind) -> Self {
        Self {
            pid,
            pidfd,
            socket,
            start,
        }
    }

    /// Asks for a standby that waits for `serial`; `life_end` is its end of the life's socket, and
    /// `controller_end` the other, which the template keeps too, and hands out in a report. With
    /// `keeper` the standby gets one, where the template knows the actor's members and the life is not
    /// called already; [`refrain_abi::control::ControlPage::keeper`] tells.
    /// [`FromTemplate::Forked`] or [`FromTemplate::ForkFailed`] answers.
    ///
    /// # Errors
    /// `WouldBlock` when too many requests wait already; `BrokenPipe` when the template has ended.
    pub fn request_fork(
        &self,
        serial: Serial,
        keeper: bool,
        life_end: OwnedFd,
        controller_end: BorrowedFd<'_>,
    ) -> io::Result<()> {
        let fds = [life_end.as_fd(), controller_end];
        self.ask(ToTemplate::Fork { serial, keeper }, &fds)
    }

    /// Asks which lives and standbys there are; a [`FromTemplate::Child`] each and a
    /// [`FromTemplate::Reported`] answer, with this `number`, behind what the template has said before: that
    /// may be an answer to somebody else.
    ///
    /// # Errors
    /// As [`Template::request_fork`].
    pub fn request_report(&self, number: u32) -> io::Result<()> {
        self.ask(ToTemplate::Report { number }, &[])
    }

    fn ask(&self, request: ToTemplate, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        let mut buffer = [0; MAX_FRAME];
        let len = request.encode(&mut buffer);
        let frame = buffer.get(..len).unwrap_or_default();
        seqpacket::send_dontwait(&self.socket, frame, fds)
    }

    /// The next message, with the fds that belong to it; `None` when there is none yet.
    ///
    /// # Errors
    /// [`TemplateError::Closed`] once it has ended; its last messages come before that.
    pub fn receive(&self) -> Result<Option<Heard>, TemplateError> {
        let mut buffer = [0; MAX_FRAME];
        let received = match seqpacket::recv_dontwait(&self.socket, &mut buffer, MAX_HEARD_FDS) {
            Ok(received) => received,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                return Err(TemplateError::Closed);
            }
            Err(error) => return Err(error.into()),
        };
        if received.is_closed() {
            return Err(TemplateError::Closed);
        }
        let frame = buffer.get(..received.len).unwrap_or_default();
        let fds = received.fds;
        let message = FromTemplate::decode(frame).map_err(|_| TemplateError::Garbled)?;
        if fds.len() != fds_beside(message, fds.len()) {
            return Err(TemplateError::Garbled);
        }
        Ok(Some(Heard { message, fds }))
    }
}

/// How many fds belong to a message.
fn fds_beside(message: FromTemplate, there: usize) -> usize {
    match message {
        FromTemplate::Forked { .. } => 1,
        FromTemplate::Child { .. } => 2,
        // Its pidfd, where a life has become the template.
        FromTemplate::Ready => there.min(1),
        _ => 0,
    }
}

/// The program's arguments; of a script: `argv[0]`, what its `#!` line adds, the script, and the
/// arguments it was given. The script goes by its path where the shim can open its bytes under that,
/// else by the fd that they are in.
fn arguments(program: &Program, start: StartKind) -> Vec<CString> {
    let Some(script) = &program.image.script else {
        return program.argv.clone();
    };
    let mut argv = vec![script.interpreter.clone()];
    argv.extend(script.arguments.iter().cloned());
    let name = match start {
        StartKind::Template => script.path.as_os_str().as_bytes().to_vec(),
        StartKind::Exec => format!("/proc/self/fd/{SCRIPT}").into_bytes(),
    };
    argv.extend(CString::new(name));
    argv.extend(program.argv.iter().skip(1).cloned());
    argv
}

/// The user's environment without what is ours; the values of `taken` variables beside it.
fn split_environment<'a, const N: usize>(
    program: &'a Program,
    taken: [&str; N],
) -> (Vec<CString>, [Option<&'a [u8]>; N]) {
    let mut values = [None; N];
    let mut rest = Vec::with_capacity(program.envp.len() + 12);
    for entry in &program.envp {
        let bytes = entry.to_bytes();
        let of = |name: &str| bytes.strip_prefix(name.as_bytes())?.strip_prefix(b"=");
        let found = taken
            .iter()
            .zip(&mut values)
            .find_map(|(name, place)| Some((of(name)?, place)));
        match found {
            Some((value, place)) => *place = Some(value),
            None if bytes.starts_with(b"REFRAIN_") => {}
            None => rest.push(entry.clone()),
        }
    }
    (rest, values)
}

/// `NAME=value`; values come from C strings and hold no NUL.
fn variable(name: &str, value: &[u8]) -> CString {
    CString::new([name.as_bytes(), b"=", value].concat()).unwrap_or_default()
}

/// What tells a template who it is.
fn identity(program: &Program, image: Option<RawFd>, members: Option<RawFd>) -> Vec<CString> {
    let script = program.image.script.as_ref();
    let number = |fd: Option<RawFd>| fd.map_or_else(|| "-".to_owned(), |fd| fd.to_string());
    let script_fd = number(script.map(|_| SCRIPT));
    let (image, members) = (number(image), number(members));
    let handlers = if program.fault_handlers { "1" } else { "-" };
    let numbers = format!("{SOCKET},{PAGE},{image},{script_fd},{members},{handlers}");
    let mut variables = vec![
        variable(TEMPLATE_VAR, numbers.as_bytes()),
        variable(EXE_VAR, program.image.path.as_os_str().as_bytes()),
    ];
    variables.extend(script.map(|script| variable(SCRIPT_VAR, script.path.as_os_str().as_bytes())));
    variables
}

/// The environment of a program that the shim is preloaded into. The shim takes out what is added
/// here, and puts the user's own values of the loader's variables back.
fn template_environment(program: &Program, members: bool) -> Vec<CString> {
    const LOADER: [&str; 3] = ["LD_PRELOAD", "LD_LIBRARY_PATH", "LD_BIND_NOW"];
    let (mut envp, [preload, libraries, bind_now]) = split_environment(program, LOADER);
    // These stay, under their own names.
    let kept = [
        (USER_PRELOAD_VAR, preload),
        (USER_LIBRARY_PATH_VAR, libraries),
        (USER_BIND_NOW_VAR, bind_now),
    ];
    envp.extend(
        kept.iter()
            .filter_map(|(name, value)| Some(variable(name, (*value)?))),
    );
    // These go.
    let mut added = identity(program, None, members.then_some(MEMBERS));
    let shim = format!("/proc/self/fd/{SHIM}");
    let joined = |parts: [Option<&[u8]>; 2], by: &[u8]| -> Vec<u8> {
        parts
            .into_iter()
            .flatten()
            .filter(|part| !part.is_empty())
            .collect::<Vec<_>>()
            .join(by)
    };
    added.push(variable(
        LOADER[0],
        &joined([Some(shim.as_bytes()), preload], b":"),
    ));
    let origin = program
        .image
        .origin_libs
        .as_ref()
        .map(|paths| paths.to_bytes());
    if libraries.is_some() || origin.is_some() {
        added.push(variable(LOADER[1], &joined([libraries, origin], b":")));
    }
    // Bound before the fork, so that no life binds a symbol again.
    added.push(variable(LOADER[2], b"1"));
    if !added.len().is_multiple_of(2) {
        added.push(variable(PAD_VAR, b""));
    }
    envp.extend(added);
    envp
}

/// The environment of the stub, which filters it for its lives.
fn exec_environment(program: &Program) -> Vec<CString> {
    let origin = program
        .image
        .origin_libs
        .as_ref()
        .map(|paths| paths.to_bytes());
    let mut envp;
    if let Some(origin) = origin {
        let (rest, [user]) = split_environment(program, ["LD_LIBRARY_PATH"]);
        envp = rest;
        let paths: Vec<&[u8]> = user.into_iter().chain([origin]).collect();
        envp.push(variable("LD_LIBRARY_PATH", &paths.join(&b":"[..])));
    } else {
        (envp, []) = split_environment(program, []);
    }
    envp.extend(identity(program, Some(IMAGE), None));
    envp
}
