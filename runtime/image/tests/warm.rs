//! Warm images (SPEC H34), the preloaded object's part: a life becomes a template, and later lives
//! return from the call that it made.
#![allow(clippy::unwrap_used)] // helpers of tests are tests too

mod support;

use std::fs::{self, File};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use refrain_abi::template::{FromTemplate, MAX_FRAME};
use refrain_image::{StartKind, Template};
use refrain_sys::{PidFd, Signal, children, seqpacket};
use support::{Actor, Life, WATCHDOG_MS, compile, program};

/// Takes three or four fds off its socket and becomes an image with them, as often as it is told by its
/// first argument; says a line each time. Then faults when it is told to.
const SOURCE: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static volatile int handled;
static void on_usr1(int signal) { handled++; }
static void *idle(void *none) { for (;;) pause(); }

static int image_here(void) {
    int fds[4] = {-1, -1, -1, -1};
    char byte, control[CMSG_SPACE(sizeof fds)];
    struct iovec part = {&byte, 1};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1,
                             .msg_control = control, .msg_controllen = sizeof control};
    if (recvmsg(atoi(getenv("REFRAIN_FD")), &message, 0) != 1) exit(3);
    struct cmsghdr *rights = CMSG_FIRSTHDR(&message);
    memcpy(fds, CMSG_DATA(rights), rights->cmsg_len - CMSG_LEN(0));
    int (*call)(int, int, int, int) = dlsym(RTLD_DEFAULT, "refrain_image_here");
    int result = call(fds[0], fds[1], fds[2], fds[3]);
    for (int i = 0; i < 4 && result != 1; i++) close(fds[i]);
    return result;
}

int main(int argc, char **argv) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    int kept = 1, loads = 0;
    const char *life = getenv("REFRAIN_LIFE");
    struct sigaction action = {.sa_handler = on_usr1};
    sigaction(SIGUSR1, &action, NULL);
    sigset_t set, mask;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    sigprocmask(SIG_BLOCK, &set, NULL);
    dup2(0, 20); /* The image must not keep it. */
    loads++;
    char *table = aligned_alloc(1 << 12, 1 << 20);
    memset(table, 1, 1 << 20);
    pthread_t thread;
    if (argc > 1 && !strcmp(argv[1], "thread")) pthread_create(&thread, NULL, idle, NULL);
    if (argc > 1 && !strcmp(argv[1], "child") && !fork()) for (;;) pause();
    int times = argc > 1 ? atoi(argv[1]) : 1;
    do {
        int result = image_here();
        int status, alone = waitpid(-1, &status, WNOHANG | __WALL) < 0 && errno == ECHILD;
        sigprocmask(SIG_BLOCK, NULL, &mask);
        table[3 << 12] = 2;
        printf("result=%d life=%s same=%d loads=%d handled=%d alone=%d open=%d masked=%d%d table=%p\n", result,
               getenv("REFRAIN_LIFE"), getenv("REFRAIN_LIFE") == life, loads, handled, alone,
               dup2(20, 20) == 20, sigismember(&mask, SIGUSR1), sigismember(&mask, SIGUSR2), (void *)table);
    } while (--times > 0);
    char byte;
    recv(atoi(getenv("REFRAIN_FD")), &byte, 1, 0);
    *(volatile int *)0 = 0;
}
"#;

fn compiled(directory: &Path) -> Option<PathBuf> {
    compile(directory, "image", SOURCE, &["-pthread", "-ldl"])
}

/// The controller's side of an offer.
struct Offer {
    socket: OwnedFd,
}

impl Offer {
    /// Sends the life what it needs to become a template.
    fn to(actor: &Actor, life: &Life) -> Self {
        let (socket, theirs) = seqpacket::pair_nonblocking_first().unwrap();
        let null = File::open("/dev/null").unwrap();
        let output = File::options().write(true).open("/dev/null").unwrap();
        let mut fds = vec![theirs.as_fd(), null.as_fd(), output.as_fd()];
        fds.extend(
            actor
                .cgroup
                .as_ref()
                .map(refrain_sys::cgroup::Cgroup::procs),
        );
        seqpacket::send(&life.socket, b"!", &fds).unwrap();
        Self { socket }
    }

    /// The template that the life has become.
    fn take(self) -> Template {
        let mut buffer = [0; MAX_FRAME];
        let received = loop {
            match seqpacket::recv_dontwait(&self.socket, &mut buffer, 1) {
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    std::thread::yield_now();
                }
                received => break received.unwrap(),
            }
        };
        let frame = &buffer[..received.len];
        assert_eq!(FromTemplate::decode(frame), Ok(FromTemplate::Ready));
        let pidfd = PidFd::from(received.fds.into_iter().next().unwrap());
        Template {
            pid: pidfd.pid().unwrap(),
            pidfd,
            socket: self.socket,
            start: StartKind::Template,
        }
    }
}

fn status(pid: u32, field: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(field));
    line.unwrap().trim_start_matches(':').trim().to_owned()
}

/// Tells a life to fault.
fn fault(life: &Life) {
    seqpacket::send(&life.socket, b"!", &[]).unwrap();
}

/// A life that has become an image: the actor with the warm template, the cold one, and the life.
fn warm(program_file: &Path, words: &[&str]) -> (Actor, Template, Life) {
    warm_in(Actor::start(&program(program_file, words)))
}

fn warm_in(mut actor: Actor) -> (Actor, Template, Life) {
    let standby = actor.standby();
    let mut life = actor.wake(standby, 0);
    let offer = Offer::to(&actor, &life);
    let template = offer.take();
    let line = life.line();
    assert!(line.starts_with("result=0 life=0 same=1 "), "{line}");
    let cold = std::mem::replace(&mut actor.template, template);
    (actor, cold, life)
}

#[test]
fn h34_later_lives_return_from_the_call_of_the_life_that_made_the_image() {
    let directory = tempfile::tempdir().unwrap();
    let Some(file) = compiled(directory.path()) else {
        return;
    };
    let (mut actor, _cold, first) = warm(&file, &[]);
    for number in [1, 2, 30] {
        let standby = actor.standby();
        let mut life = actor.wake(standby, number);
        let line = life.line();
        let wanted =
            format!("result=1 life={number} same=1 loads=1 handled=0 alone=1 open=0 masked=01");
        assert!(line.starts_with(&wanted), "{line}");
        fault(&life);
        assert_eq!(actor.finish(life).1.to_string(), "SIGSEGV");
    }
    assert!(!first.pidfd.has_ended());
}

#[test]
fn h34_the_template_is_the_lifes_sibling_and_holds_nothing_of_it() {
    let directory = tempfile::tempdir().unwrap();
    let Some(file) = compiled(directory.path()) else {
        return;
    };
    let (mut actor, cold, life) = warm(&file, &[]);
    let pid = actor.template.pid;
    assert_eq!(status(pid, "PPid"), cold.pid.to_string());
    assert_eq!(children::children_of(life.pid).unwrap(), []);
    let group = |pid: u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let rest = stat.rsplit(") ").next().unwrap().to_owned();
        rest.split(' ').nth(2).unwrap().to_owned()
    };
    assert_eq!(
        group(pid),
        pid.to_string(),
        "a signal to the life's group is not for it"
    );
    assert_eq!(status(pid, "Name"), "T:image");
    // All but SIGKILL and SIGSTOP.
    assert_eq!(status(pid, "SigBlk"), "fffffffffffbfeff");
    // stdin, stdout, stderr, its socket, and the fd of its children's ends.
    let open = || fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    assert_eq!(open(), 5);
    assert_eq!(
        fs::read_link(format!("/proc/{pid}/fd/1")).unwrap(),
        Path::new("/dev/null")
    );
    // It has fewer than the life, and lives leave nothing behind in it.
    for number in 1..4 {
        let standby = actor.standby();
        let life = actor.wake(standby, number);
        life.pidfd.send_signal(Signal::KILL).unwrap();
        actor.finish(life);
    }
    // It tells of an end before it lets go of what it held for that child.
    support::until("what it held to be let go of", || open() == 5);
}

#[test]
fn h34_a_standby_runs_no_handler_of_the_program_before_its_serial_is_called() {
    let directory = tempfile::tempdir().unwrap();
    let Some(file) = compiled(directory.path()) else {
        return;
    };
    let (mut actor, _cold, _first) = warm(&file, &[]);
    let standby = actor.standby();
    standby.pidfd.send_signal(Signal::USR1).unwrap();
    // SIGUSR1 is signal 10.
    assert_eq!(status(standby.pid, "ShdPnd"), "0000000000000200");
    let mut life = actor.wake(standby, 1);
    let line = life.line();
    assert!(line.contains(" handled=1 "), "{line}");
}

/// Whether `pid` has the page at `address` for itself. Source: bit 56 in the kernel's
/// admin-guide/mm/pagemap.rst.
#[cfg(target_arch = "x86_64")]
fn has_alone(pid: u32, address: u64) -> bool {
    use std::os::unix::fs::FileExt;
    let map = File::open(format!("/proc/{pid}/pagemap")).unwrap();
    let mut entry = [0; 8];
    map.read_exact_at(&mut entry, address / 4096 * 8).unwrap();
    u64::from_le_bytes(entry) >> 56 & 1 == 1
}

#[test]
#[cfg(target_arch = "x86_64")]
fn h34_a_standby_has_its_own_copy_of_what_the_life_before_has_written() {
    let directory = tempfile::tempdir().unwrap();
    let Some(file) = compiled(directory.path()) else {
        return;
    };
    let (mut actor, _cold, _first) = warm(&file, &[]);
    let standby = actor.standby();
    let mut life = actor.wake(standby, 1);
    let line = life.line();
    let table = line.rsplit("table=0x").next().unwrap();
    let table = u64::from_str_radix(table, 16).unwrap();
    let (written, kept) = (table + (3 << 12), table + (8 << 12));
    assert!(has_alone(life.pid, written) && !has_alone(life.pid, kept));
    let next = actor.standby();
    support::until("the copy", || has_alone(next.pid, written));
    assert!(
        !has_alone(next.pid, kept),
        "what nobody writes to is shared"
    );
}

#[test]
fn h34_a_life_with_threads_or_children_stays_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let Some(file) = compiled(directory.path()) else {
        return;
    };
    // EBUSY and ECHILD.
    for (obstacle, errno) in [("thread", 16), ("child", 10)] {
        let mut actor = Actor::start(&program(&file, &[obstacle]));
        let standby = actor.standby();
        let mut life = actor.wake(standby, 0);
        let offer = Offer::to(&actor, &life);
        let line = life.line();
        assert!(line.starts_with(&format!("result=-{errno} ")), "{line}");
        assert!(line.contains(" open=1 masked=01 "), "{line}");
        assert_eq!(
            children::children_of(actor.template.pid).unwrap(),
            [life.pid]
        );
        // The life has closed its end.
        let mut buffer = [0; MAX_FRAME];
        let received = seqpacket::recv_dontwait(&offer.socket, &mut buffer, 1);
        assert!(received.unwrap().is_closed());
    }
}

#[test]
fn h34_a_life_from_an_image_can_become_an_image() {
    let directory = tempfile::tempdir().unwrap();
    let Some(file) = compiled(directory.path()) else {
        return;
    };
    let (mut actor, _cold, _first) = warm(&file, &["2"]);
    let standby = actor.standby();
    let mut second = actor.wake(standby, 1);
    assert!(second.line().starts_with("result=1 life=1 "));
    let offer = Offer::to(&actor, &second);
    let template = offer.take();
    assert!(second.line().starts_with("result=0 life=1 same=1 "));
    let _warm = std::mem::replace(&mut actor.template, template);
    let standby = actor.standby();
    let mut third = actor.wake(standby, 2);
    let line = third.line();
    assert!(
        line.starts_with("result=1 life=2 same=1 loads=1 "),
        "{line}"
    );
}

#[test]
fn h31_a_template_that_was_a_life_reports_its_own_children_only() {
    let directory = tempfile::tempdir().unwrap();
    let Some(file) = compiled(directory.path()) else {
        return;
    };
    let (mut actor, cold, first) = warm(&file, &[]);
    let (next, spare) = (actor.standby(), actor.standby());
    let mut life = actor.wake(next, 1);
    assert!(life.line().starts_with("result=1 life=1 "));
    let children = actor.report();
    let pids: Vec<u32> = children.iter().map(|child| child.pid).collect();
    assert_eq!(pids, [life.pid, spare.pid]);
    seqpacket::send(&children[0].socket, b"!", &[]).unwrap();
    assert_eq!(actor.finish(life).1.to_string(), "SIGSEGV");
    let warm = std::mem::replace(&mut actor.template, cold);
    let children = actor.report();
    assert_eq!(children.len(), 1);
    assert_eq!(
        (children[0].serial, children[0].pid),
        (first.serial, first.pid)
    );
    warm.pidfd.send_signal(Signal::KILL).unwrap();
}

#[test]
fn h34_a_life_from_an_image_that_faults_wakes_the_next() {
    let directory = tempfile::tempdir().unwrap();
    let Some(file) = compiled(directory.path()) else {
        return;
    };
    let Some(actor) = Actor::contained(&program(&file, &[])) else {
        return;
    };
    let (mut actor, cold, first) = warm_in(actor);
    first.pidfd.send_signal(Signal::KILL).unwrap();
    first.wait();
    let standby = actor.standby_with(true);
    let mut life = actor.wake(standby, 1);
    assert!(life.line().starts_with("result=1 life=1 "));
    let next = actor.standby_with(true);
    let serial = next.serial;
    let mut next = actor.queue(next, 2, false);
    actor.page.vouched[1].store(cold.pid, Ordering::Release);
    actor.arm(&life, serial);
    fault(&life);
    let line = next.line();
    assert!(line.starts_with("result=1 life=2 "), "{line}");
    assert_eq!(actor.page.began.load(Ordering::Acquire), serial.0);
    assert!(life.pidfd.wait_ended(Some(WATCHDOG_MS)).unwrap());
    assert_eq!(actor.end_of(life.pid).to_string(), "SIGSEGV");
}
