//! What a template keeps for the next controller, and says when it is asked: every life and standby, with
//! its pidfd and the controller's end of its socket.
#![allow(clippy::unwrap_used)] // helpers of tests are tests too

mod support;

use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use refrain_abi::Serial;
use refrain_abi::template::FromTemplate;
use refrain_image::StartKind;
use refrain_sys::process::{PollFd, PollFlags, poll};
use refrain_sys::{Signal, seqpacket};
use support::{Actor, Life, Standby, WATCHDOG_MS, compile, installed, program};

/// Says what it hears on its socket until that closes.
const LISTENER: &str = r#"
    #include <stdio.h>
    #include <stdlib.h>
    #include <sys/socket.h>
    int main(void) {
        char text[64];
        ssize_t len;
        setvbuf(stdout, NULL, _IONBF, 0);
        while ((len = recv(atoi(getenv("REFRAIN_FD")), text, sizeof text, 0)) > 0)
            printf("heard %.*s\n", (int)len, text);
        puts("closed");
    }
"#;

const STARTS: [StartKind; 2] = [StartKind::Template, StartKind::Exec];

fn listener(directory: &Path) -> Option<PathBuf> {
    compile(directory, "listener", LISTENER, &[])
}

fn say(socket: &OwnedFd, text: &str) {
    seqpacket::send(socket, text.as_bytes(), &[]).unwrap();
}

/// What the fds of a process are, in the order of their numbers.
fn files(pid: u32) -> Vec<String> {
    let directory = PathBuf::from(format!("/proc/{pid}/fd"));
    let entries = fs::read_dir(&directory).unwrap();
    let mut numbers: Vec<u32> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .map(|name| name.parse().unwrap())
        .collect();
    numbers.sort_unstable();
    let target = |number: &u32| fs::read_link(directory.join(number.to_string()));
    let targets = numbers.iter().map(|number| target(number).unwrap());
    targets.map(|path| path.display().to_string()).collect()
}

fn sockets(pid: u32) -> Vec<String> {
    let is_socket = |name: &String| name.starts_with("socket:");
    files(pid).into_iter().filter(is_socket).collect()
}

/// What an fd of this process is.
fn file(fd: &OwnedFd) -> String {
    let link = fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd()));
    link.unwrap().display().to_string()
}

/// Waits until a standby has done what it does before it waits for its start.
fn until_it_sleeps(standby: &Standby) {
    let stat = || fs::read_to_string(format!("/proc/{}/stat", standby.pid)).unwrap();
    support::until("the standby sleeps", || stat().contains(") S "));
}

fn serials(children: &[Standby]) -> Vec<u32> {
    children.iter().map(|child| child.serial.0).collect()
}

#[test]
fn h31_a_template_reports_its_life_and_standbys_with_pidfd_and_socket() {
    let directory = tempfile::tempdir().unwrap();
    let Some(path) = listener(directory.path()) else {
        return;
    };
    for start in STARTS {
        let mut actor = Actor::start_by(&program(&path, &[]), start);
        assert_eq!(serials(&actor.report()), []);
        let first = actor.standby();
        let (second, third) = (actor.standby(), actor.standby());
        let mut life = actor.wake(first, 0);
        let known = [life.pid, second.pid, third.pid];
        let mine = [&life.socket, &second.socket, &third.socket].map(file);
        // Any number of times.
        for _ in 0..3 {
            let children = actor.report();
            assert_eq!(serials(&children), [1, 2, 3], "{start:?}");
            for (child, (pid, socket)) in children.iter().zip(known.iter().zip(&mine)) {
                assert_eq!((child.pid, child.pidfd.pid()), (*pid, Some(*pid)));
                assert_eq!(file(&child.socket), *socket);
                assert!(!child.pidfd.has_ended());
            }
        }
        // The ends that were had before are dropped: what was reported is all that is needed.
        drop((second, third));
        let mut children = actor.report();
        say(&children[0].socket, "one");
        assert_eq!(life.line(), "heard one", "{start:?}");
        let mut next = actor.wake(children.remove(1), 1);
        say(&next.socket, "two");
        assert_eq!(next.line(), "heard two", "{start:?}");
        life.pidfd.send_signal(Signal::KILL).unwrap();
        actor.finish(life);
        assert_eq!(serials(&actor.report()), [2, 3], "{start:?}");
    }
}

#[test]
fn h31_a_life_that_has_ended_is_reported_until_it_is_reaped() {
    let directory = tempfile::tempdir().unwrap();
    let Some(path) = listener(directory.path()) else {
        return;
    };
    let mut actor = Actor::start(&program(&path, &[]));
    let standby = actor.standby();
    let life = actor.wake(standby, 0);
    actor.template.pidfd.send_signal(Signal::STOP).unwrap();
    life.pidfd.send_signal(Signal::KILL).unwrap();
    life.wait();
    actor.template.request_report(9).unwrap();
    actor.template.pidfd.send_signal(Signal::CONT).unwrap();
    let heard = actor.next_message().unwrap();
    let (serial, pid) = (life.serial, life.pid);
    assert_eq!(
        heard.message,
        FromTemplate::Child {
            number: 9,
            serial,
            pid
        }
    );
    let pidfd = refrain_sys::PidFd::from(heard.fds.into_iter().next().unwrap());
    assert!(pidfd.has_ended());
    assert_eq!(
        actor.next_message().unwrap().message,
        FromTemplate::Reported { number: 9 }
    );
    assert_eq!(actor.end_of(pid).to_string(), "SIGKILL");
    assert_eq!(serials(&actor.report()), []);
}

#[test]
fn h31_no_life_holds_a_controllers_end() {
    let directory = tempfile::tempdir().unwrap();
    let Some(path) = listener(directory.path()) else {
        return;
    };
    for start in STARTS {
        let mut actor = Actor::start_by(&program(&path, &[]), start);
        let standbys = [actor.standby(), actor.standby(), actor.standby()];
        standbys.iter().for_each(until_it_sleeps);
        let ends: Vec<String> = standbys.iter().map(|child| file(&child.socket)).collect();
        let [first, rest @ ..] = standbys;
        let mut life = actor.wake(first, 0);
        say(&life.socket, "it runs");
        assert_eq!(life.line(), "heard it runs");
        let children = [life.pid, rest[0].pid, rest[1].pid];
        for child in children {
            let open = sockets(child);
            // Its own end and, of a standby, nothing else either.
            assert_eq!(open.len(), 1, "{start:?}: {open:?}");
            assert!(!ends.contains(&open[0]), "{start:?}: {open:?}");
        }
        let kept = sockets(actor.template.pid);
        assert!(ends.iter().all(|end| kept.contains(end)), "{kept:?}");
    }
}

#[test]
fn h31_a_lifes_socket_closes_when_controller_and_template_are_gone() {
    let directory = tempfile::tempdir().unwrap();
    let Some(path) = listener(directory.path()) else {
        return;
    };
    for start in STARTS {
        let mut actor = Actor::start_by(&program(&path, &[]), start);
        let standby = actor.standby();
        let _next = actor.standby();
        let life = actor.wake(standby, 0);
        let Life {
            socket,
            mut output,
            pidfd,
            ..
        } = life;
        drop(socket);
        // The template has it still.
        let children = actor.report();
        say(&children[0].socket, "one");
        drop(children);
        actor.template.pidfd.send_signal(Signal::KILL).unwrap();
        let mut text = String::new();
        std::io::Read::read_to_string(&mut output, &mut text).unwrap();
        assert_eq!(text, "heard one\nclosed\n", "{start:?}");
        assert!(pidfd.wait_ended(Some(WATCHDOG_MS)).unwrap());
    }
}

#[test]
fn h31_a_template_keeps_two_fds_a_child_and_none_of_one_that_was_reaped() {
    let Some(path) = installed("true") else {
        return;
    };
    for (start, lives) in STARTS.into_iter().zip([1000, 300]) {
        let mut actor = Actor::start_by(&program(&path, &[]), start);
        let template = actor.template.pid;
        actor.report();
        let empty = files(template).len();
        for number in 0..lives {
            let standby = actor.standby();
            actor.report();
            assert_eq!(files(template).len(), empty + 2);
            let life = actor.wake(standby, number);
            actor.finish(life);
        }
        actor.report();
        assert_eq!(files(template).len(), empty, "{start:?}");
    }
}

#[test]
fn h31_a_report_to_a_controller_that_ended_while_it_read_is_not_taken_for_ones_own() {
    let directory = tempfile::tempdir().unwrap();
    let Some(path) = listener(directory.path()) else {
        return;
    };
    let mut actor = Actor::start(&program(&path, &[]));
    let _standbys = [actor.standby(), actor.standby()];
    actor.template.request_report(u32::MAX).unwrap();
    let first = actor.next_message().unwrap().message;
    assert!(matches!(first, FromTemplate::Child { .. }), "{first:?}");
    assert_eq!(serials(&actor.report()), [1, 2]);
}

#[test]
fn h31_what_is_reported_can_be_told_from_a_stranger() {
    let directory = tempfile::tempdir().unwrap();
    let Some(path) = listener(directory.path()) else {
        return;
    };
    let Some(mut actor) = Actor::contained(&program(&path, &[])) else {
        return;
    };
    let standby = actor.standby_with(true);
    let _life = actor.wake(standby, 0);
    let _next = actor.standby();
    let own = actor.cgroup.as_ref().unwrap().directory().unwrap();
    let own = fs::File::from(own).metadata().unwrap().ino();
    for child in actor.report() {
        let who = child.pidfd.identity().unwrap().unwrap();
        assert_eq!((who.pid, who.parent), (child.pid, actor.template.pid));
        // Kernels before 6.13 do not tell.
        assert!(who.cgroup.is_none_or(|cgroup| cgroup == own), "{who:?}");
    }
}

/// Asks for a standby as a controller does; answers the errno where it can't be had.
fn try_standby(actor: &mut Actor) -> Result<Standby, u32> {
    use std::os::fd::AsFd;
    actor.serial += 1;
    let serial = Serial(actor.serial);
    let (socket, theirs) = seqpacket::pair().unwrap();
    let asked = actor
        .template
        .request_fork(serial, false, theirs, socket.as_fd());
    asked.unwrap();
    let heard = actor.next_message().expect("the template has ended");
    match heard.message {
        FromTemplate::Forked { serial, pid } => Ok(Standby {
            serial,
            pid,
            pidfd: heard.fds.into_iter().next().unwrap().into(),
            socket,
        }),
        FromTemplate::ForkFailed { errno, .. } => Err(errno),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_template_that_may_open_few_files_has_a_life_and_standbys_and_refuses_what_is_too_many() {
    const EMFILE: u32 = 24;
    let directory = tempfile::tempdir().unwrap();
    let Some(path) = listener(directory.path()) else {
        return;
    };
    for start in STARTS {
        for limit in [14, 15, 24] {
            let mut program = program(&path, &[]);
            program.rlimits.push((7, limit, limit));
            let mut actor = Actor::start_by(&program, start);
            let mut children = Vec::new();
            let errno = loop {
                match try_standby(&mut actor) {
                    Ok(standby) => children.push(standby),
                    Err(errno) => break errno,
                }
            };
            // stdin, stdout, stderr and the signals; the pidfd of a fork.
            let room = (limit - 5) / 2;
            assert_eq!((errno, children.len() as u64), (EMFILE, room), "{start:?}");
            let first = children.remove(0);
            let mut life = actor.wake(first, 0);
            say(&life.socket, "one");
            assert_eq!(life.line(), "heard one");
            assert_eq!(actor.report().len() as u64, room, "{start:?}");
            // What has ended leaves its room.
            life.pidfd.send_signal(Signal::KILL).unwrap();
            actor.finish(life);
            assert!(try_standby(&mut actor).is_ok());
        }
    }
}

#[test]
fn h31_a_report_waits_for_a_controller_that_reads_late() {
    let directory = tempfile::tempdir().unwrap();
    let Some(path) = listener(directory.path()) else {
        return;
    };
    let mut actor = Actor::start(&program(&path, &[]));
    let standbys = [actor.standby(), actor.standby()];
    // More than the queue of a socket holds.
    let mut asked = 0;
    loop {
        match actor.template.request_report(9) {
            Ok(()) => asked += 1,
            Err(error) => {
                assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
                break;
            }
        }
    }
    let mut fds = [PollFd::new(&actor.template.socket, PollFlags::IN)];
    assert_eq!(poll(&mut fds, Some(u64::from(WATCHDOG_MS))).unwrap(), 1);
    let mut children = 0;
    let mut reports = 0;
    while reports < asked {
        match actor.next_message().unwrap().message {
            FromTemplate::Child { .. } => children += 1,
            FromTemplate::Reported { .. } => reports += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(children, 2 * asked);
    assert!(standbys.iter().all(|standby| !standby.pidfd.has_ended()));
}
