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
use std::sync::atomic::{AtomicU32, Ordering};

use refrain_abi::control::Relay;
use refrain_abi::request::Request;
use refrain_abi::template::{FromTemplate, MAX_FRAME, StartFrame};
use refrain_abi::{ActorName, LifeNo, Serial};
use refrain_image::{Heard, Image, Program, StartKind, Template, TemplateError, choose_start};
use refrain_sys::cgroup::{self, Cgroup};
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
        nice: None,
        credentials: None,
        no_new_privs: false,
        fresh_layout: false,
        fault_handlers: true,
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
    /// Where it lives, if it is contained.
    pub cgroup: Option<Cgroup>,
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
    pub serial: Serial,
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
        let (actor, first) = Self::begin(program, start);
        assert_eq!(first, Some(FromTemplate::Ready));
        actor
    }

    /// A template in a cgroup of its own, which it can read; `None`, with a visible line, where there
    /// are none to be had.
    pub fn contained(program: &Program) -> Option<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("refrain-image-test-{}-{count}", std::process::id());
        let made = cgroup::own_directory().and_then(|parent| Cgroup::create(&parent, &name));
        let cgroup = match made {
            Ok(cgroup) => cgroup,
            Err(error) => {
                eprintln!("skipped: no cgroup can be made: {error}");
                return None;
            }
        };
        let start = choose_start(&program.image);
        let (actor, first) = Self::begin_in(program, start, Some(cgroup));
        assert_eq!(first, Some(FromTemplate::Ready));
        Some(actor)
    }

    /// Starts a template; answers its first message, `None` when it ended without one.
    pub fn begin(program: &Program, start: StartKind) -> (Self, Option<FromTemplate>) {
        Self::begin_in(program, start, None)
    }

    fn begin_in(
        program: &Program,
        start: StartKind,
        cgroup: Option<Cgroup>,
    ) -> (Self, Option<FromTemplate>) {
        let (fd, page) = mapping::create_control_page().unwrap();
        let directory = cgroup.as_ref().map(|cgroup| cgroup.directory().unwrap());
        let directory = directory.as_ref().map(AsFd::as_fd);
        let members = cgroup.as_ref().map(Cgroup::procs);
        let stderr = std::io::stderr();
        let (page_fd, output) = (fd.as_fd(), stderr.as_fd());
        let template =
            Template::spawn_with_output(program, start, page_fd, directory, &[], members, output);
        let mut actor = Self {
            template: template.unwrap(),
            page,
            serial: 0,
            cgroup,
            ends: Vec::new(),
        };
        let first = actor.next_message().map(|heard| heard.message);
        (actor, first)
    }

    /// The next message; `None` when the template has ended.
    pub fn next_message(&mut self) -> Option<Heard> {
        loop {
            match self.template.receive() {
                Ok(Some(heard)) => return Some(heard),
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
        self.standby_with(false)
    }

    /// Asks for a standby, with a keeper or without.
    pub fn standby_with(&mut self, keeper: bool) -> Standby {
        self.serial += 1;
        let serial = Serial(self.serial);
        let (socket, theirs) = seqpacket::pair().unwrap();
        self.template
            .request_fork(serial, keeper, theirs, socket.as_fd())
            .unwrap();
        loop {
            let heard = self.next_message().expect("the template has ended");
            match heard.message {
                FromTemplate::Forked { serial: got, pid } => {
                    assert_eq!(got, serial);
                    let pidfd = heard.fds.into_iter().next().unwrap();
                    return Standby {
                        serial,
                        pid,
                        pidfd: PidFd::from(pidfd),
                        socket,
                    };
                }
                FromTemplate::Ended { pid, status } => {
                    self.ends.push((pid, WaitStatus(status)));
                }
                other => panic!("{other:?}"),
            }
        }
    }

    /// Asks the template who there is; as the standbys that they are or were, by serial.
    pub fn report(&mut self) -> Vec<Standby> {
        static COUNT: AtomicU32 = AtomicU32::new(1);
        let own = COUNT.fetch_add(1, Ordering::Relaxed);
        self.template.request_report(own).unwrap();
        let mut found = Vec::new();
        loop {
            let heard = self.next_message().expect("the template has ended");
            match heard.message {
                FromTemplate::Child { number, .. } | FromTemplate::Reported { number }
                    if number != own => {}
                FromTemplate::Child { serial, pid, .. } => {
                    let [pidfd, socket] = heard.fds.try_into().unwrap();
                    let pidfd = PidFd::from(pidfd);
                    found.push(Standby {
                        serial,
                        pid,
                        pidfd,
                        socket,
                    });
                }
                FromTemplate::Ended { pid, status } => self.ends.push((pid, WaitStatus(status))),
                FromTemplate::Reported { .. } => break,
                other => panic!("{other:?}"),
            }
        }
        found.sort_by_key(|child| child.serial.0);
        found
    }

    /// Wakes a standby: it becomes life `number`, its output readable here.
    pub fn wake(&mut self, standby: Standby, number: u32) -> Life {
        self.wake_with(standby, number, false)
    }

    pub fn wake_with(&mut self, standby: Standby, number: u32, stopped: bool) -> Life {
        let life = self.queue(standby, number, stopped);
        self.call(life.serial);
        life
    }

    /// Begins a standby whose start frame is queued, as a controller does.
    pub fn call(&self, serial: Serial) {
        self.page.go.store(serial.0, Ordering::Release);
        self.page.wake.store(serial.0, Ordering::Release);
        futex::wake(&self.page.wake, u32::MAX).unwrap();
        if self.page.declined.load(Ordering::Acquire) == serial.0 {
            futex::wake(&self.page.go, u32::MAX).unwrap();
        }
    }

    /// Allows a life to wake the standby `to` when it fails.
    pub fn arm(&self, life: &Life, to: Serial) {
        let from = life.serial;
        self.page.vouched[0].store(life.pid, Ordering::Release);
        let word = Relay::Armed { from, to }.word();
        self.page.relay.store(word, Ordering::Release);
    }

    /// Sends a standby its start frame; it begins when it is called, or woken by a life.
    pub fn queue(&self, standby: Standby, number: u32, stopped: bool) -> Life {
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
        Life {
            serial,
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
            match self.next_message().expect("the template has ended").message {
                FromTemplate::Ended { pid, status } => self.ends.push((pid, WaitStatus(status))),
                other => panic!("{other:?}"),
            }
        }
    }
}

impl Life {
    /// Whether the life has told that it fails. Only once it is sure to have said what it says.
    pub fn has_told(&self) -> bool {
        let mut buffer = [0; MAX_FRAME];
        match seqpacket::recv_dontwait(&self.socket, &mut buffer, 0) {
            Ok(received) if !received.is_closed() => {
                let frame = buffer.get(..received.len).unwrap();
                assert_eq!(Request::decode(frame), Ok((0, Request::Failing)));
                true
            }
            _ => false,
        }
    }

    /// The next line that it prints.
    pub fn line(&mut self) -> String {
        let mut line = Vec::new();
        let mut byte = [0];
        while self.output.read(&mut byte).unwrap() == 1 && byte != *b"\n" {
            line.push(byte[0]);
        }
        String::from_utf8(line).unwrap()
    }

    /// Waits until it has ended.
    pub fn wait(&self) {
        let ended = self.pidfd.wait_ended(Some(WATCHDOG_MS)).unwrap();
        assert!(ended, "the life does not end");
    }
}

/// Waits until something is so; nothing that it is used for takes long unless it hangs.
pub fn until(what: &str, is_so: impl Fn() -> bool) {
    let begin = std::time::Instant::now();
    while !is_so() {
        let waited = begin.elapsed().as_millis();
        assert!(waited < u128::from(WATCHDOG_MS), "not in time: {what}");
        std::thread::yield_now();
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
        if let Some(cgroup) = &self.cgroup {
            let _ = cgroup.kill_all();
            until("the cgroup is empty", || cgroup.remove().is_ok());
        }
    }
}
