//! The fast restart: a life that faults closes its files and wakes its successor, if it was alone.
#![allow(clippy::unwrap_used)] // helpers of tests are tests too

mod support;

use std::path::Path;
use std::sync::atomic::Ordering;

use refrain_abi::control::Relay;
use support::{Actor, Life, compile, program, until};

/// `argv[1]` says what a life does; life 0 faults, later ones tell what they found.
const SOURCE: &str = r#"
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>
static void *sleeper(void *unused) { for (;;) pause(); }
static int listen_at(int port) {
    int s = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(port) };
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return bind(s, (void *)&a, sizeof a) || listen(s, 5) ? errno : 0;
}
int main(int argc, char **argv) {
    int first = !strcmp(getenv("REFRAIN_LIFE"), "0");
    const char *how = argv[1], *file = argv[2];
    setvbuf(stdout, 0, _IOLBF, 0);
    if (!strcmp(how, "port")) {
        printf("bind %d\n", listen_at(atoi(file)));
    } else if (!strcmp(how, "lock") || !strcmp(how, "lockmap")) {
        int fd = open(file, O_RDWR | O_CREAT, 0600);
        printf("lock %d\n", flock(fd, LOCK_EX | LOCK_NB) ? errno : 0);
        if (how[4]) mmap(0, 4096, PROT_READ, MAP_SHARED, fd, 0);
    } else if (!strcmp(how, "map")) {
        int fd = open(file, O_RDWR | O_CREAT, 0600);
        ftruncate(fd, 4096);
        puts(mmap(0, 4096, PROT_READ, MAP_SHARED, fd, 0) == MAP_FAILED ? "failed" : "mapped");
    } else if (!strcmp(how, "device")) {
        int fd = open("/dev/zero", O_RDWR);
        puts(mmap(0, 4096, PROT_READ, MAP_SHARED, fd, 0) == MAP_FAILED ? "failed" : "mapped");
    } else if (!strcmp(how, "thread")) {
        pthread_t t;
        if (first) pthread_create(&t, 0, sleeper, 0);
        puts("thread");
    } else if (!strcmp(how, "child")) {
        if (first && !fork()) for (;;) pause();
        puts("child");
    } else if (!strcmp(how, "stranger")) {
        int gone[2];
        char byte;
        pipe(gone);
        if (first && !fork()) {
            pid_t pid = fork();
            if (pid) { printf("%d\n", pid); _exit(0); }
            close(1); close(2); close(gone[1]);
            for (;;) pause();
        }
        if (first) wait(0); else puts("alone");
    } else if (!strcmp(how, "clean")) {
        /* The page is not known to it: the test stores the word. */
        puts("clean");
    } else if (!strcmp(how, "fork")) {
        if (first && !fork()) { *(volatile int *)0 = 1; _exit(9); }
        int status = 0;
        if (first) wait(&status);
        printf("child %d\n", WTERMSIG(status));
    }
    if (!first) { char byte; puts("end"); return 0; }
    char byte;
    read(0, &byte, 1);
    kill(getpid(), SIGSTOP);
    *(volatile int *)16 = 1;
}
"#;

/// A first life that has printed its line and stopped itself before it faults, and the standby that it
/// may wake.
fn prepared(directory: &Path, how: &str, file: &str) -> Option<(Actor, Life, Life, String)> {
    let path = compile(directory, "relay", SOURCE, &["-pthread"])?;
    let mut actor = Actor::contained(&program(&path, &[how, file]))?;
    let standby = actor.standby();
    let mut life = actor.wake(standby, 0);
    let line = life.line();
    let stat = format!("/proc/{}/stat", life.pid);
    until("the life has stopped", || {
        std::fs::read_to_string(&stat).unwrap().contains(") T ")
    });
    let standby = actor.standby();
    let next = actor.queue(standby, 1, false);
    actor.arm(&life, next.serial);
    Some((actor, life, next, line))
}

fn go_on(life: &Life) {
    life.pidfd.send_signal(refrain_sys::Signal::CONT).unwrap();
}

fn relay(actor: &Actor) -> Relay {
    Relay::of(actor.page.relay.load(Ordering::Acquire))
}

/// The life woke its successor, which ran to its end without a word of the controller.
fn assert_relayed(actor: &mut Actor, life: Life, mut next: Life, line: &str) {
    go_on(&life);
    assert_eq!(next.line(), line);
    assert_eq!(next.line(), "end");
    let (to, serial) = (next.serial, life.serial.0);
    assert_eq!(relay(actor), Relay::Claimed { to });
    assert_eq!(actor.page.stopped.load(Ordering::Acquire), serial);
    assert_eq!(actor.page.declined.load(Ordering::Acquire), 0);
    life.wait();
    assert!(life.has_told());
    assert_eq!(actor.end_of(life.pid).to_string(), "SIGSEGV");
}

/// The life left it to the controller: it died, and its successor sleeps.
fn assert_not_relayed(actor: &mut Actor, life: &Life, next: &Life) {
    go_on(life);
    life.wait();
    assert!(life.has_told());
    let (from, to) = (life.serial, next.serial);
    assert_eq!(relay(actor), Relay::Armed { from, to });
    assert_eq!(actor.page.stopped.load(Ordering::Acquire), 0);
    assert_eq!(actor.page.wake.load(Ordering::Acquire), from.0);
    assert_eq!(actor.page.failure.serial.load(Ordering::Acquire), from.0);
    assert_eq!(actor.end_of(life.pid).to_string(), "SIGSEGV");
}

#[test]
fn h8_a_life_that_faults_alone_wakes_its_successor_which_finds_its_port_free() {
    let directory = tempfile::tempdir().unwrap();
    // A port that is free now: bound to find it out, given back.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    drop(listener);
    let Some((mut actor, life, next, line)) = prepared(directory.path(), "port", &port) else {
        return;
    };
    assert_eq!(line, "bind 0");
    assert_relayed(&mut actor, life, next, "bind 0");
}

#[test]
fn h12_a_lock_of_the_old_life_is_free_when_the_next_one_asks_for_it() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    let file = file.to_str().unwrap();
    let Some((mut actor, life, next, line)) = prepared(directory.path(), "lock", file) else {
        return;
    };
    assert_eq!(line, "lock 0");
    assert_relayed(&mut actor, life, next, "lock 0");
}

#[test]
fn h12_a_file_that_is_only_mapped_is_no_hindrance() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    let file = file.to_str().unwrap();
    let Some((mut actor, life, next, _)) = prepared(directory.path(), "map", file) else {
        return;
    };
    assert_relayed(&mut actor, life, next, "mapped");
}

#[test]
fn h12_a_life_whose_mapping_holds_a_lock_or_a_device_is_left_to_the_kernel() {
    for how in ["lockmap", "device"] {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        let file = file.to_str().unwrap();
        let Some((mut actor, life, next, _)) = prepared(directory.path(), how, file) else {
            return;
        };
        assert_not_relayed(&mut actor, &life, &next);
    }
}

#[test]
fn a_life_with_a_second_thread_or_a_child_is_left_to_the_kernel() {
    for how in ["thread", "child"] {
        let directory = tempfile::tempdir().unwrap();
        let Some((mut actor, life, next, _)) = prepared(directory.path(), how, "") else {
            return;
        };
        assert_not_relayed(&mut actor, &life, &next);
    }
}

#[test]
fn h21_a_life_that_ended_its_watch_wakes_nobody() {
    let directory = tempfile::tempdir().unwrap();
    let Some((mut actor, life, next, _)) = prepared(directory.path(), "clean", "") else {
        return;
    };
    actor.page.clean.store(life.serial.0, Ordering::Release);
    assert_not_relayed(&mut actor, &life, &next);
}

#[test]
fn a_life_that_may_not_wake_its_successor_stops_and_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let Some((mut actor, life, next, _)) = prepared(directory.path(), "clean", "") else {
        return;
    };
    actor.page.relay.store(0, Ordering::Release);
    go_on(&life);
    life.wait();
    assert!(life.has_told());
    assert_eq!(relay(&actor), Relay::Forbidden);
    let stopped = actor.page.stopped.load(Ordering::Acquire);
    assert_eq!(stopped, life.serial.0);
    assert_eq!(actor.page.wake.load(Ordering::Acquire), life.serial.0);
    actor.call(next.serial);
    assert_eq!(actor.finish(next).0, "clean\nend\n");
}

#[test]
fn a_permission_for_another_life_is_not_taken() {
    let directory = tempfile::tempdir().unwrap();
    let Some((actor, life, mut next, _)) = prepared(directory.path(), "clean", "") else {
        return;
    };
    let (from, to) = (next.serial, refrain_abi::Serial(next.serial.0 + 1));
    let word = Relay::Armed { from, to }.word();
    actor.page.relay.store(word, Ordering::Release);
    go_on(&life);
    life.wait();
    assert_eq!(actor.page.relay.load(Ordering::Acquire), word);
    actor.call(next.serial);
    assert_eq!(next.line(), "clean");
}

#[test]
fn a_child_that_faults_dies_by_itself_and_the_page_does_not_change() {
    let directory = tempfile::tempdir().unwrap();
    let Some((mut actor, life, next, line)) = prepared(directory.path(), "fork", "") else {
        return;
    };
    assert_eq!(line, "child 11");
    assert!(!life.has_told());
    assert_eq!(actor.page.failure.serial.load(Ordering::Acquire), 0);
    assert_eq!(actor.page.stopped.load(Ordering::Acquire), 0);
    // The life itself has lost nothing by it.
    assert_relayed(&mut actor, life, next, "child 0");
}

#[test]
fn a_successor_that_finds_somebody_left_behind_waits_for_the_controller() {
    let directory = tempfile::tempdir().unwrap();
    let Some((actor, life, mut next, line)) = prepared(directory.path(), "stranger", "") else {
        return;
    };
    let stranger: u32 = line.parse().unwrap();
    go_on(&life);
    let (page, to) = (&actor.page, next.serial);
    until("it declines", || {
        page.declined.load(Ordering::Acquire) == to.0
    });
    assert_eq!(relay(&actor), Relay::Claimed { to });
    assert_eq!(page.began.load(Ordering::Acquire), life.serial.0);
    let stranger = refrain_sys::PidFd::open(stranger).unwrap();
    stranger.send_signal(refrain_sys::Signal::KILL).unwrap();
    assert!(stranger.wait_ended(Some(support::WATCHDOG_MS)).unwrap());
    // Nobody but the controller lets it go on.
    refrain_sys::futex::wake(&page.wake, u32::MAX).unwrap();
    refrain_sys::futex::wake(&page.go, u32::MAX).unwrap();
    assert_eq!(page.began.load(Ordering::Acquire), life.serial.0);
    page.go.store(to.0, Ordering::Release);
    refrain_sys::futex::wake(&page.go, u32::MAX).unwrap();
    assert_eq!(next.line(), "alone");
    assert_eq!(page.began.load(Ordering::Acquire), to.0);
}

#[test]
fn a_successor_that_cannot_see_who_is_there_waits_for_the_controller() {
    let directory = tempfile::tempdir().unwrap();
    let Some(path) = compile(directory.path(), "relay", SOURCE, &["-pthread"]) else {
        return;
    };
    let mut actor = Actor::start(&program(&path, &["clean", ""]));
    let standby = actor.standby();
    let mut life = actor.wake(standby, 0);
    life.line();
    let standby = actor.standby();
    let mut next = actor.queue(standby, 1, false);
    actor.arm(&life, next.serial);
    let (page, to) = (&actor.page, next.serial.0);
    until("the life goes on", || {
        let _ = life.pidfd.send_signal(refrain_sys::Signal::CONT);
        page.declined.load(Ordering::Acquire) == to
    });
    actor.call(next.serial);
    assert_eq!(next.line(), "clean");
}
