//! nucleus: keeps a site. It is the subreaper of everything in it, holds the fds that must outlive
//! the controller, and starts hr_ctrl again from its image in memory when it dies.
//!
//! It must never parse what an actor wrote, never open a file of an actor, and never decide about
//! an actor: one thread, one loop, nothing allocated but for the fds that it is given to keep.
//!
//! Until a new controller can adopt running actors (SPEC H31, ADR 0006), nucleus ends what a dead
//! controller left before it starts the next one, which then brings the direct actors back from
//! the bank and the kept images: a site restart.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::rc::Rc;

use refrain_abi::ActorName;
use refrain_sys::process::{self, PollFd, PollFlags};
use refrain_sys::signals::SignalFd;
use refrain_sys::{PidFd, Signal, Spawn, WaitStatus, children, clock, inherited, seqpacket};

use crate::keeper::{Frame, MAX_FDS, MAX_FRAME};
use crate::{containment, paths};

/// The executable's image.
pub const EXE_FD: RawFd = 3;
/// The boot record, as JSON in a memfd.
pub const BOOT_FD: RawFd = 4;
/// The site's listening socket.
pub const LISTENER_FD: RawFd = 5;
/// The site's lock, held by nucleus and hr_ctrl together: it says that one of them lives.
pub const LOCK_FD: RawFd = 6;
/// Where the first hr_ctrl says `ok`, or why the site cannot serve.
pub const STATUS_FD: RawFd = 7;
/// hr_ctrl's socket to nucleus.
pub const NUCLEUS_FD: RawFd = 8;

/// How many deaths of hr_ctrl within [`STORM_MS`] nucleus puts up with.
const MAX_DEATHS: usize = 8;
/// The interval that deaths of hr_ctrl are counted over, in milliseconds.
const STORM_MS: u64 = 10_000;
/// How long nucleus waits for what it killed before it looks again, in milliseconds.
const SWEEP_MS: u64 = 20;

struct Kept {
    name: ActorName,
    fds: [Option<Rc<Bytes>>; MAX_FDS],
}

/// Bytes that are kept, once for all the names that they belong to.
struct Bytes {
    fd: OwnedFd,
    /// Device and inode.
    file: (u64, u64),
}

struct Nucleus {
    site: String,
    /// After how many milliseconds without a pulse hr_ctrl is taken to hang; `None`: never.
    answer_limit_ms: Option<u64>,
    exe: OwnedFd,
    boot: OwnedFd,
    listener: OwnedFd,
    status: Option<OwnedFd>,
    lock: OwnedFd,
    kept: Vec<Kept>,
    signals: SignalFd,
    served: bool,
    deaths: Vec<u64>,
    life: u32,
}

struct HrCtrl {
    pid: u32,
    pidfd: PidFd,
    socket: OwnedFd,
    /// When it beat last; its start counts as a beat.
    last_pulse_ms: u64,
    /// It said that the site has ended.
    said_ended: bool,
    status: Option<WaitStatus>,
}

/// Runs nucleus to the end of the site. `args[0]` is "nucleus", `args[1]` the site's name,
/// `args[2]` the tunable `hr_ctrl.answer_timeout` in milliseconds, 0 for none; the fds are
/// those that [`crate::launch`] laid out. Answers the exit code.
#[must_use]
pub fn main(args: &[String]) -> i32 {
    let site = args
        .get(1)
        .cloned()
        .unwrap_or_else(|| paths::DEFAULT_SITE.to_owned());
    let limit = args
        .get(2)
        .and_then(|limit| limit.parse().ok())
        .filter(|limit| *limit > 0);
    match Nucleus::new(site, limit).and_then(Nucleus::run) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("nucleus: {error}; it is started by c_init");
            1
        }
    }
}

impl Nucleus {
    fn new(site: String, answer_limit_ms: Option<u64>) -> io::Result<Self> {
        process::set_name("nucleus")?;
        process::set_subreaper()?;
        Ok(Self {
            site,
            answer_limit_ms,
            exe: inherited::take(EXE_FD)?,
            boot: inherited::take(BOOT_FD)?,
            listener: inherited::take(LISTENER_FD)?,
            lock: inherited::take(LOCK_FD)?,
            status: Some(inherited::take(STATUS_FD)?),
            kept: Vec::with_capacity(1024),
            signals: SignalFd::new(&[Signal::CHILD, Signal::TERM, Signal::INT, Signal::HUP])?,
            served: false,
            deaths: Vec::with_capacity(MAX_DEATHS + 1),
            life: 0,
        })
    }

    fn run(mut self) -> io::Result<i32> {
        let code = loop {
            // Nobody waits for a site that never served: its starter has been told why.
            let first = self.status.is_some();
            let mut hr_ctrl = self.start()?;
            self.keep_until_it_ends(&mut hr_ctrl)?;
            self.end_descendants()?;
            if hr_ctrl.said_ended || (first && !self.served) {
                break hr_ctrl.status.and_then(WaitStatus::exited).unwrap_or(1);
            }
            if self.too_many_deaths() {
                break 1;
            }
        };
        containment::remove_left_over(&self.site);
        let _ = std::fs::remove_file(paths::socket(&self.site));
        let _ = std::fs::remove_file(paths::lock(&self.site));
        // Only an empty one goes; other sites and banks that are kept stay.
        let _ = std::fs::remove_dir(paths::site_root());
        Ok(code)
    }

    /// Starts the next life of hr_ctrl and hands it what was kept.
    fn start(&mut self) -> io::Result<HrCtrl> {
        let (socket, theirs) = seqpacket::pair()?;
        let argv = [
            "hr_ctrl".to_owned(),
            self.life.to_string(),
            self.site.clone(),
        ]
        .map(|arg| CString::new(arg).unwrap_or_default());
        let envp = std::env::vars()
            .filter_map(|(name, value)| CString::new(format!("{name}={value}")).ok())
            .collect::<Vec<_>>();
        let mut fds = vec![
            (self.exe.as_fd(), EXE_FD),
            (self.boot.as_fd(), BOOT_FD),
            (self.listener.as_fd(), LISTENER_FD),
            (self.lock.as_fd(), LOCK_FD),
            (theirs.as_fd(), NUCLEUS_FD),
        ];
        if let Some(status) = &self.status {
            fds.push((status.as_fd(), STATUS_FD));
        }
        let (pid, pidfd) = Spawn::new(self.exe.as_fd(), &argv, &envp)
            .fds(&fds)
            .spawn()?;
        self.status = None;
        self.life += 1;
        for kept in &self.kept {
            let fds = kept
                .fds
                .iter()
                .flatten()
                .map(|bytes| bytes.fd.as_fd())
                .collect::<Vec<_>>();
            tell(&socket, &Frame::Keep(kept.name), &fds)?;
        }
        tell(&socket, &Frame::KeptEnd, &[])?;
        Ok(HrCtrl {
            pid,
            pidfd,
            socket,
            last_pulse_ms: clock::now_monotonic_ms(),
            said_ended: false,
            status: None,
        })
    }

    /// Serves one life of hr_ctrl until its end.
    fn keep_until_it_ends(&mut self, hr_ctrl: &mut HrCtrl) -> io::Result<()> {
        while hr_ctrl.status.is_none() {
            let fds = [
                self.signals.as_fd(),
                hr_ctrl.socket.as_fd(),
                hr_ctrl.pidfd.as_fd(),
            ];
            let mut polled = fds.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
            process::poll(&mut polled, self.answer_limit_ms)?;
            let ready = polled.each_ref().map(|fd| !fd.revents().is_empty());
            if ready[1] {
                self.serve(hr_ctrl);
            }
            self.end_if_it_hangs(hr_ctrl);
            if ready[0] {
                self.take_signals(&hr_ctrl.socket)?;
            }
            while let Some((pid, status)) = process::reap_any()? {
                if pid == hr_ctrl.pid {
                    hr_ctrl.status = Some(status);
                }
            }
        }
        // What it said before it ended still counts.
        self.serve(hr_ctrl);
        Ok(())
    }

    /// An hr_ctrl without a pulse is no controller: the next one is.
    fn end_if_it_hangs(&self, hr_ctrl: &HrCtrl) {
        let silent = clock::now_monotonic_ms().saturating_sub(hr_ctrl.last_pulse_ms);
        if self.answer_limit_ms.is_some_and(|limit| silent > limit) {
            eprintln!("nucleus: hr_ctrl has not answered for {silent} ms; starting it again");
            let _ = hr_ctrl.pidfd.send_signal(Signal::KILL);
        }
    }

    /// Passes a request to end on; a SIGCHLD only wakes us, reaping is the caller's.
    fn take_signals(&self, socket: &OwnedFd) -> io::Result<()> {
        while let Some((signal, _)) = self.signals.read()? {
            if signal != Signal::CHILD {
                let _ = tell(socket, &Frame::Halt, &[]);
            }
        }
        Ok(())
    }

    fn serve(&mut self, hr_ctrl: &mut HrCtrl) {
        let mut buffer = [0; MAX_FRAME];
        while let Ok(received) = seqpacket::recv_dontwait(&hr_ctrl.socket, &mut buffer, MAX_FDS) {
            if received.is_closed() {
                break;
            }
            match Frame::decode(&buffer[..received.len]) {
                Ok(Frame::Keep(name)) if !received.truncated => {
                    self.kept.retain(|kept| kept.name != name);
                    let mut fds = received.fds.into_iter();
                    let fds = [fds.next(), fds.next()].map(|fd| fd.and_then(|fd| self.once(fd)));
                    self.kept.push(Kept { name, fds });
                }
                Ok(Frame::Drop(name)) => self.kept.retain(|kept| kept.name != name),
                Ok(Frame::Served) => self.served = true,
                Ok(Frame::Pulse) => hr_ctrl.last_pulse_ms = clock::now_monotonic_ms(),
                Ok(Frame::Ended) => hr_ctrl.said_ended = true,
                _ => {}
            }
        }
    }

    /// The fd that is kept of a file already, in place of another one of it.
    fn once(&self, fd: OwnedFd) -> Option<Rc<Bytes>> {
        let about = rustix::fs::fstat(&fd).ok()?;
        let file = (about.st_dev, about.st_ino);
        let mut kept = self.kept.iter().rev().flat_map(|kept| &kept.fds).flatten();
        let same = kept.find(|bytes| bytes.file == file).map(Rc::clone);
        Some(same.unwrap_or_else(|| Rc::new(Bytes { fd, file })))
    }

    /// Ends everything that is below us. Killing a parent makes its children ours, so this comes
    /// to an end when we have no child left.
    fn end_descendants(&mut self) -> io::Result<()> {
        loop {
            let left = children::children_of(std::process::id())?;
            if left.is_empty() {
                return Ok(());
            }
            for pid in left {
                if let Ok(pidfd) = PidFd::open(pid) {
                    let _ = pidfd.send_signal(Signal::KILL);
                }
            }
            let mut polled = [PollFd::new(&self.signals, PollFlags::IN)];
            process::poll(&mut polled, Some(SWEEP_MS))?;
            while self.signals.read()?.is_some() {}
            while process::reap_any()?.is_some() {}
        }
    }

    fn too_many_deaths(&mut self) -> bool {
        let now = clock::now_monotonic_ms();
        self.deaths.retain(|at| now - at < STORM_MS);
        self.deaths.push(now);
        self.deaths.len() > MAX_DEATHS
    }
}

fn tell(socket: &OwnedFd, frame: &Frame, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut buffer = [0; MAX_FRAME];
    let len = frame.encode(&mut buffer);
    seqpacket::send(socket, &buffer[..len], fds)
}
