//! A controller in small: starts a template, asks it for standbys, wakes them, reads what the lives
//! print and how they end.
#![allow(dead_code)] // every test binary uses its own part
#![allow(clippy::unwrap_used)] // helpers of tests are tests too

use std::ffi::CString;
use std::fs::{self, File};
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use refrain_abi::template::{FromTemplate, MAX_FRAME, StartFrame};
use refrain_abi::{ActorName, LifeNo, Serial};
use refrain_image::{Image, Program, StartKind, Template, TemplateError, choose_start};
use refrain_sys::mapping::{self, ControlPageMapping};
use refrain_sys::process::{PollFd, PollFlags, poll};
use refrain_sys::{PidFd, WaitStatus, futex, seqpacket};

/// Nothing here takes so long unless it hangs, in milliseconds.
pub const WATCHDOG_MS: u32 = 30_000;

pub fn c_string(text: &str) -> CString {
    CString::new(text).unwrap()
}

/// A program at `path`, run with these words in a small environment.
pub fn program(path: &Path, words: &[&str]) -> Program {
    let image = Image::load(path).unwrap_or_else(|error| panic!("{error}"));
    program_of(image, path, words)
}

pub fn program_of(image: Image, path: &Path, words: &[&str]) -> Program {
    let argv = std::iter::once(path.to_str().unwrap()).chain(words.iter().copied());
    Program {
        name: ActorName::new("actor").unwrap(),
        image: Arc::new(image),
        argv: argv.map(c_string).collect(),
        envp: [
            "PATH=/usr/local/bin:/usr/bin:/bin",
            "HOME=/tmp",
            "COLOUR=blue",
        ]
        .map(c_string)
        .into(),
        cwd: PathBuf::from("/"),
        umask: None,
        rlimits: vec![(4, 0, 0)], // RLIMIT_CORE: crashes on purpose leave no file
        fresh_layout: false,
    }
}

/// The path of an installed program; `None`, with a visible line, where it is not there.
pub fn installed(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = format!("{}:/usr/sbin:/sbin", path.to_str().unwrap());
    let found = refrain_image::find_in_path(name.as_ref(), path.as_ref());
    if found.is_none() {
        eprintln!("skipped: {name} is not installed");
    }
    found
}

/// A Python that is a program, not a script that looks for one.
pub fn python() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut found = std::env::split_paths(&path).map(|directory| directory.join("python3"));
    let found = found.find(|path| Image::load(path).is_ok_and(|image| image.script.is_none()));
    if found.is_none() {
        eprintln!("skipped: python3 is not installed");
    }
    found
}

/// Compiles a C program in `directory`; `None`, with a visible line, where there is no compiler.
pub fn compile(directory: &Path, name: &str, source: &str, flags: &[&str]) -> Option<PathBuf> {
    compile_by("cc", directory, name, source, flags)
}

pub fn compile_by(
    compiler: &str,
    directory: &Path,
    name: &str,
    source: &str,
    flags: &[&str],
) -> Option<PathBuf> {
    installed(compiler)?;
    let (file, program) = (directory.join(format!("{name}.c")), directory.join(name));
    fs::write(&file, source).unwrap();
    let mut command = Command::new(compiler);
    command
        .args(["-O1", "-w"])
        .arg(&file)
        .arg("-o")
        .arg(&program)
        .args(flags);
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Some(program)
}

/// A template with its control page, as the controller holds them.
pub struct Actor {
    pub template: Template,
    pub page: ControlPageMapping,
    pub serial: u32,
    /// Ends that came while something else was waited for.
    ends: Vec<(u32, WaitStatus)>,
}

/// A standby that sleeps.
pub struct Standby {
    pub serial: Serial,
    pub pid: u32,
    pub pidfd: PidFd,
    pub socket: OwnedFd,
}

/// A life that runs.
pub struct Life {
    pub pid: u32,
    pub pidfd: PidFd,
    pub socket: OwnedFd,
    pub output: File,
}

impl Actor {
    /// Starts a template as the image wants it, and waits until it is ready.
    pub fn start(program: &Program) -> Self {
        Self::start_by(program, choose_start(&program.image))
    }

    pub fn start_by(program: &Program, start: StartKind) -> Self {
        let (mut actor, first) = Self::begin(program, start);
        assert_eq!(first, Some(FromTemplate::Ready));
        actor.serial = 0;
        actor
    }

    /// Starts a template; answers its first message, `None` when it ended without one.
    pub fn begin(program: &Program, start: StartKind) -> (Self, Option<FromTemplate>) {
        let (fd, page) = mapping::create_control_page().unwrap();
        let template = Template::spawn(program, start, fd.as_fd(), None).unwrap();
        let mut actor = Self {
            template,
            page,
            serial: 0,
            ends: Vec::new(),
        };
        let first = actor.next_message().map(|(message, _)| message);
        (actor, first)
    }

    /// The next message; `None` when the template has ended.
    pub fn next_message(&mut self) -> Option<(FromTemplate, Option<OwnedFd>)> {
        loop {
            match self.template.receive() {
                Ok(Some(message)) => return Some(message),
                Err(TemplateError::Closed) => return None,
                Err(error) => panic!("{error}"),
                Ok(None) => {}
            }
            let mut fds = [PollFd::new(&self.template.socket, PollFlags::IN)];
            let ready = poll(&mut fds, Some(u64::from(WATCHDOG_MS))).unwrap();
            assert_eq!(ready, 1, "the template says nothing");
        }
    }

    /// Asks for a standby with the next serial.
    pub fn standby(&mut self) -> Standby {
        self.serial += 1;
        let serial = Serial(self.serial);
        let (socket, theirs) = seqpacket::pair().unwrap();
        self.template.request_fork(serial, theirs).unwrap();
        loop {
            match self.next_message().expect("the template has ended") {
                (FromTemplate::Forked { serial: got, pid }, Some(pidfd)) => {
                    assert_eq!(got, serial);
                    return Standby {
                        serial,
                        pid,
                        pidfd: PidFd::from(pidfd),
                        socket,
                    };
                }
                (FromTemplate::Ended { pid, status }, _) => {
                    self.ends.push((pid, WaitStatus(status)));
                }
                other => panic!("{other:?}"),
            }
        }
    }

    /// Wakes a standby: it becomes life `number`, its output readable here.
    pub fn wake(&mut self, standby: Standby, number: u32) -> Life {
        self.wake_with(standby, number, false)
    }

    pub fn wake_with(&mut self, standby: Standby, number: u32, stopped: bool) -> Life {
        let Standby {
            serial,
            pid,
            pidfd,
            socket,
        } = standby;
        let cloexec = rustix::pipe::PipeFlags::CLOEXEC;
        let (output, theirs) = rustix::pipe::pipe_with(cloexec).unwrap();
        let null = File::open("/dev/null").unwrap();
        let frame = StartFrame {
            life: LifeNo(number),
            serial,
            stopped,
        };
        let fds = [null.as_fd(), theirs.as_fd(), theirs.as_fd()];
        send_start(&socket, frame, &fds);
        self.page.wake.store(serial.0, Ordering::Release);
        futex::wake(&self.page.wake, u32::MAX).unwrap();
        Life {
            pid,
            pidfd,
            socket,
            output: File::from(output),
        }
    }

    /// A life from fork to end: what it printed, and how it ended.
    pub fn run(&mut self, number: u32) -> (String, WaitStatus) {
        let standby = self.standby();
        let life = self.wake(standby, number);
        self.finish(life)
    }

    /// Reads a life's output to its end, then its status as the template reports it.
    pub fn finish(&mut self, mut life: Life) -> (String, WaitStatus) {
        let mut text = Vec::new();
        life.output.read_to_end(&mut text).unwrap();
        assert!(
            life.pidfd.wait_ended(Some(WATCHDOG_MS)).unwrap(),
            "the life does not end"
        );
        (
            String::from_utf8_lossy(&text).into_owned(),
            self.end_of(life.pid),
        )
    }

    /// How `pid` ended, as the template reports it.
    pub fn end_of(&mut self, wanted: u32) -> WaitStatus {
        loop {
            if let Some(at) = self.ends.iter().position(|(pid, _)| *pid == wanted) {
                return self.ends.remove(at).1;
            }
            match self.next_message().expect("the template has ended").0 {
                FromTemplate::Ended { pid, status } => self.ends.push((pid, WaitStatus(status))),
                other => panic!("{other:?}"),
            }
        }
    }
}

pub fn send_start(socket: &OwnedFd, frame: StartFrame, fds: &[BorrowedFd<'_>]) {
    let mut buffer = [0; MAX_FRAME];
    let len = frame.encode(&mut buffer);
    seqpacket::send(socket, &buffer[..len], fds).unwrap();
}

impl Drop for Actor {
    /// Leaves nothing behind, whatever a test has found.
    fn drop(&mut self) {
        let pids = refrain_sys::children::descendants_of(self.template.pid).unwrap_or_default();
        for pid in pids {
            if let Ok(pidfd) = PidFd::open(pid) {
                let _ = pidfd.send_signal(refrain_sys::Signal::KILL);
            }
        }
        let _ = self.template.pidfd.send_signal(refrain_sys::Signal::KILL);
        let _ = self.template.pidfd.wait_ended(Some(WATCHDOG_MS));
        let _ = self.template.pidfd.reap();
    }
}
