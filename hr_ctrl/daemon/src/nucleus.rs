//! nucleus: keeps a site. It is the subreaper of everything in it, holds the fds that must outlive
//! the controller, and starts hr_ctrl again from its image in memory when it dies (SPEC H31).
//!
//! It must never parse what an actor wrote, never open a file of an actor, and never decide about
//! an actor: one thread, one loop, nothing allocated but for the fds that it is given to keep.
//!
//! Nothing else is touched when hr_ctrl dies: templates, standbys and lives go on, and the next hr_ctrl adopts
//! them from what is kept here. When it is started, and what to do when that does not help, is [`deaths`]'s.

mod controller;
mod deaths;

use std::collections::{BTreeMap, VecDeque};
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::rc::Rc;

use refrain_sys::process::{self, PollFd, PollFlags};
use refrain_sys::signals::SignalFd;
use refrain_sys::{PidFd, Signal, Spawn, WaitStatus, children, clock, inherited, seqpacket};

use crate::keeper::{Frame, Label, MAX_FDS, MAX_FRAME, Part};
use crate::{containment, paths};
use controller::{About, Command, Controller};
pub(crate) use controller::{ORIGIN, Origin};
use deaths::{Deaths, NO_ROOM_MS, Next};

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

/// How long a queue of hr_ctrl that is full is left alone, in milliseconds.
const RETRY_MS: u64 = 1;
/// How many files nucleus holds at most: some five an actor.
const MAX_FILES: u64 = 1 << 20;
/// How long nucleus waits for what it killed before it looks again, in milliseconds.
const SWEEP_MS: u64 = 20;

/// What is kept under a label.
type Kept = [Option<Rc<Bytes>>; MAX_FDS];

/// An fd that is kept, once for all the labels that it belongs to.
struct Bytes {
    fd: OwnedFd,
    /// Device and inode, where other fds of the file are to be taken for this one.
    file: Option<(u64, u64)>,
}

struct Nucleus {
    site: String,
    /// After how many milliseconds without a pulse hr_ctrl is taken to hang; `None`: never.
    answer_limit_ms: Option<u64>,
    exe: OwnedFd,
    lock: OwnedFd,
    controller: Controller,
    kept: BTreeMap<Label, Kept>,
    signals: SignalFd,
    served: bool,
    /// Somebody has asked for the end of the site.
    halt: bool,
    deaths: Deaths,
    /// How the last life of hr_ctrl ended, for the line that the next one says.
    last_end: String,
    life: u32,
}

struct HrCtrl {
    pid: u32,
    pidfd: PidFd,
    socket: OwnedFd,
    /// When it beat last; its start counts as a beat.
    last_pulse_ms: u64,
    /// It said that it serves.
    served: bool,
    /// It was ended because it did not answer.
    hung: bool,
    /// What it is still to be told.
    to_hear: VecDeque<Told>,
    /// It said that the site has ended.
    said_ended: bool,
    status: Option<WaitStatus>,
}

/// What hr_ctrl is told.
enum Told {
    Kept(Label),
    Plain(Frame),
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
    match Nucleus::inherit(site, limit).and_then(Nucleus::run) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("nucleus: {error}; it is started by c_init");
            1
        }
    }
}

/// Runs nucleus in this process, with the program of `exe` and `argv` as its controller, to the end of the
/// site. Answers the program's exit code.
///
/// # Errors
/// The kernel's.
pub(crate) fn embedding(
    site: String,
    (exe, lock): (OwnedFd, OwnedFd),
    argv: Vec<CString>,
) -> io::Result<i32> {
    let controller = Controller::Embedding { argv };
    Nucleus::new(site, None, (exe, lock), controller)?.run()
}

impl Nucleus {
    fn inherit(site: String, answer_limit_ms: Option<u64>) -> io::Result<Self> {
        let exe = inherited::take(EXE_FD)?;
        let controller = Controller::HrCtrl {
            boot: inherited::take(BOOT_FD)?,
            listener: inherited::take(LISTENER_FD)?,
            status: Some(inherited::take(STATUS_FD)?),
        };
        let lock = inherited::take(LOCK_FD)?;
        Self::new(site, answer_limit_ms, (exe, lock), controller)
    }

    fn new(
        site: String,
        answer_limit_ms: Option<u64>,
        (exe, lock): (OwnedFd, OwnedFd),
        controller: Controller,
    ) -> io::Result<Self> {
        process::set_name("nucleus")?;
        process::hide_from_own_user()?;
        process::set_subreaper()?;
        let _ = process::raise_nofile_limit(MAX_FILES);
        Ok(Self {
            site,
            answer_limit_ms,
            exe,
            lock,
            controller,
            kept: BTreeMap::new(),
            signals: SignalFd::new(&[Signal::CHILD, Signal::TERM, Signal::INT, Signal::HUP])?,
            served: false,
            halt: false,
            deaths: Deaths::default(),
            last_end: String::new(),
            life: 0,
        })
    }

    fn run(mut self) -> io::Result<i32> {
        let code = loop {
            let first = self.life == 0;
            let Some(mut hr_ctrl) = self.start_when_there_is_room()? else {
                self.end_descendants()?;
                break 1;
            };
            self.keep_until_it_ends(&mut hr_ctrl)?;
            self.last_end = match hr_ctrl.status {
                _ if hr_ctrl.hung => "it did not answer".to_owned(),
                Some(status) => status.to_string(),
                None => String::new(),
            };
            // Nobody waits for a site that never served: its starter has been told why.
            let ended = hr_ctrl.said_ended || (first && !self.served) || self.is_left(&hr_ctrl);
            let next = if ended {
                Next::End
            } else {
                self.deaths.note(&hr_ctrl)
            };
            match next {
                Next::Start { after_ms } => self.rest(after_ms)?,
                Next::StartAnew => {
                    eprintln!(
                        "nucleus: hr_ctrl cannot take over what runs; a site restart follows"
                    );
                    self.end_descendants()?;
                    self.kept.retain(|label, _| label.part == Part::Image);
                }
                Next::End => {
                    self.end_descendants()?;
                    let code = hr_ctrl.status.and_then(WaitStatus::exited);
                    break code.unwrap_or(1);
                }
            }
        };
        containment::remove_left_over(&self.site);
        let _ = std::fs::remove_file(paths::socket(&self.site));
        let _ = std::fs::remove_file(paths::lock(&self.site));
        // Only an empty one goes; other sites and banks that are kept stay.
        let _ = std::fs::remove_dir(paths::site_root());
        Ok(code)
    }

    /// As [`Nucleus::start`], as often as it takes: once the site has served, a machine that is out of pids,
    /// memory or files is no reason to give up what runs. `None` when the site is to end meanwhile.
    fn start_when_there_is_room(&mut self) -> io::Result<Option<HrCtrl>> {
        let mut told = false;
        loop {
            match self.start() {
                Err(error) if self.served => {
                    if !std::mem::replace(&mut told, true) {
                        eprintln!("nucleus: hr_ctrl cannot be started: {error}; it is tried again");
                    }
                    self.rest(NO_ROOM_MS)?;
                    if self.halt {
                        return Ok(None);
                    }
                }
                started => return started.map(Some),
            }
        }
    }

    /// Whether an embedding program has ended because it wanted to, or was told to.
    fn is_left(&self, program: &HrCtrl) -> bool {
        let exited = program.status.and_then(WaitStatus::exited);
        self.controller.is_embedding() && (self.halt || exited == Some(0))
    }

    /// Starts the next life of hr_ctrl and hands it what was kept.
    fn start(&mut self) -> io::Result<HrCtrl> {
        let (socket, theirs) = seqpacket::pair()?;
        let about = About {
            site: &self.site,
            life: self.life,
            last_end: &self.last_end,
        };
        let Command {
            argv,
            envp,
            mut fds,
        } = self.controller.command(&self.exe, about);
        fds.push((self.lock.as_fd(), LOCK_FD));
        fds.push((theirs.as_fd(), NUCLEUS_FD));
        let (pid, pidfd) = Spawn::new(self.exe.as_fd(), &argv, &envp)
            .fds(&fds)
            .spawn()?;
        drop(theirs);
        if self.controller.is_embedding() {
            // Until it serves, it does what it likes for as long as it likes.
            self.answer_limit_ms = None;
        }
        self.controller.started();
        self.life += 1;
        let mut hr_ctrl = HrCtrl {
            pid,
            pidfd,
            socket,
            last_pulse_ms: clock::now_monotonic_ms(),
            served: false,
            hung: false,
            to_hear: self.kept.keys().copied().map(Told::Kept).collect(),
            said_ended: false,
            status: None,
        };
        let end = [Frame::KeptEnd].into_iter();
        let end = end.chain(self.halt.then_some(Frame::Halt)).map(Told::Plain);
        hr_ctrl.to_hear.extend(end);
        Ok(hr_ctrl)
    }

    /// Hands a new hr_ctrl what was kept, as far as its queue takes it.
    fn hand_over(&self, hr_ctrl: &mut HrCtrl) {
        while let Some(next) = hr_ctrl.to_hear.front() {
            let (frame, fds) = match next {
                Told::Plain(frame) => (*frame, Vec::new()),
                Told::Kept(label) => {
                    let kept = self.kept.get(label).into_iter().flatten().flatten();
                    let (label, once) = (*label, false);
                    let fds = kept.map(|bytes| bytes.fd.as_fd()).collect();
                    (Frame::Keep { label, once }, fds)
                }
            };
            // It reads, or it dies, or it hangs: each shows elsewhere.
            if tell(&hr_ctrl.socket, &frame, &fds).is_err() {
                return;
            }
            hr_ctrl.to_hear.pop_front();
        }
    }

    /// Waits before the next start; a request to end cuts it short.
    fn rest(&mut self, ms: u64) -> io::Result<()> {
        let until = clock::now_monotonic_ms() + ms;
        loop {
            let left = until.saturating_sub(clock::now_monotonic_ms());
            if left == 0 {
                return Ok(());
            }
            let mut polled = [PollFd::new(&self.signals, PollFlags::IN)];
            process::poll(&mut polled, Some(left))?;
            while let Some((signal, _)) = self.signals.read()? {
                self.halt |= signal != Signal::CHILD;
            }
            while process::reap_any()?.is_some() {}
            if self.halt {
                return Ok(());
            }
        }
    }

    /// Serves one life of hr_ctrl until its end.
    fn keep_until_it_ends(&mut self, hr_ctrl: &mut HrCtrl) -> io::Result<()> {
        while hr_ctrl.status.is_none() {
            self.hand_over(hr_ctrl);
            let fds = [
                self.signals.as_fd(),
                hr_ctrl.socket.as_fd(),
                hr_ctrl.pidfd.as_fd(),
            ];
            let mut polled = fds.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
            // A queue that is full is tried again soon.
            let limit = if hr_ctrl.to_hear.is_empty() {
                self.answer_limit_ms
            } else {
                Some(RETRY_MS)
            };
            process::poll(&mut polled, limit)?;
            let ready = polled.each_ref().map(|fd| !fd.revents().is_empty());
            if ready[1] {
                self.serve(hr_ctrl);
            }
            self.end_if_it_hangs(hr_ctrl);
            if ready[0] {
                self.take_signals(hr_ctrl)?;
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
    fn end_if_it_hangs(&self, hr_ctrl: &mut HrCtrl) {
        let silent = clock::now_monotonic_ms().saturating_sub(hr_ctrl.last_pulse_ms);
        if !hr_ctrl.hung && self.answer_limit_ms.is_some_and(|limit| silent > limit) {
            eprintln!("nucleus: hr_ctrl has not answered for {silent} ms; starting it again");
            let _ = hr_ctrl.pidfd.send_signal(Signal::KILL);
            hr_ctrl.hung = true;
        }
    }

    /// Passes a request to end on; a SIGCHLD only wakes us, reaping is the caller's.
    fn take_signals(&mut self, hr_ctrl: &mut HrCtrl) -> io::Result<()> {
        while let Some((signal, _)) = self.signals.read()? {
            if signal == Signal::CHILD {
                continue;
            }
            self.halt = true;
            hr_ctrl.to_hear.push_back(Told::Plain(Frame::Halt));
            // A program without a site, not yet or not any more, hears of no halt.
            let hears = hr_ctrl.served && !hr_ctrl.said_ended;
            if self.controller.is_embedding() && !hears {
                let _ = hr_ctrl.pidfd.send_signal(signal);
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
                Ok(Frame::Keep { label, once }) if !received.truncated => {
                    let mut fds = received.fds.into_iter();
                    let kept = [fds.next(), fds.next()].map(|fd| Some(self.keep(fd?, once)));
                    self.kept.insert(label, kept);
                }
                Ok(Frame::Drop(label)) => drop(self.kept.remove(&label)),
                Ok(Frame::DropActor(actor)) => self.kept.retain(|label, _| label.actor != actor),
                Ok(Frame::Served { limit_ms }) => {
                    (self.served, hr_ctrl.served) = (true, true);
                    self.answer_limit_ms = Some(limit_ms).filter(|limit| *limit > 0);
                    hr_ctrl.last_pulse_ms = clock::now_monotonic_ms();
                }
                Ok(Frame::Pulse) => hr_ctrl.last_pulse_ms = clock::now_monotonic_ms(),
                Ok(Frame::Ended) => hr_ctrl.said_ended = true,
                _ => {}
            }
        }
    }

    /// An fd, or with `once` the one that is kept of its file already. Only of files that have an inode of
    /// their own, which pidfds of older kernels have not.
    fn keep(&self, fd: OwnedFd, once: bool) -> Rc<Bytes> {
        let about = once.then(|| rustix::fs::fstat(&fd).ok()).flatten();
        let file = about.map(|about| (about.st_dev, about.st_ino));
        let mut kept = self.kept.values().flatten().flatten();
        let same = kept.find(|bytes| file.is_some() && bytes.file == file);
        same.map_or_else(|| Rc::new(Bytes { fd, file }), Rc::clone)
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
}

fn tell(socket: &OwnedFd, frame: &Frame, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut buffer = [0; MAX_FRAME];
    let len = frame.encode(&mut buffer);
    seqpacket::send_dontwait(socket, &buffer[..len], fds)
}
