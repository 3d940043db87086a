//! The signal that stops a life without ending it: closes its files, and never lets it run again.
#![allow(clippy::unwrap_used)] // helpers of tests are tests too

mod support;

use std::fs;
use std::path::Path;
use std::sync::atomic::Ordering;

use refrain_abi::control::{STOP_SIGNAL, STOP_VALUE};
use refrain_sys::{Signal, WaitStatus};
use support::{Actor, Life, compile_by, program, until};

const SOURCE: &str = r#"
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
static void *sleeper(void *unused) { for (;;) pause(); }
static void told(int sig) { write(1, "told\n", 5); }
int main(int argc, char **argv) {
    pthread_t t;
    sigset_t set;
    if (!strcmp(argv[1], "thread")) pthread_create(&t, 0, sleeper, 0);
    if (!strcmp(argv[1], "child") && !fork()) for (;;) pause();
    if (!strcmp(argv[1], "blocked")) { sigfillset(&set); sigprocmask(SIG_BLOCK, &set, 0); }
    for (int sig = 1; sig < 32; sig++) if (argv[1][0] == 'h') signal(sig, told);
    if (write(1, "runs\n", 5)) for (;;) pause();
}
"#;

/// A life that runs.
fn running(directory: &Path, compiler: &str, how: &str) -> Option<(Actor, Life)> {
    let path = compile_by(compiler, directory, "stopped", SOURCE, &["-pthread"])?;
    let mut actor = Actor::start(&program(&path, &[how]));
    let standby = actor.standby();
    let mut life = actor.wake(standby, 0);
    assert_eq!(life.line(), "runs");
    Some((actor, life))
}

fn assert_stops(compiler: &str, how: &str) {
    let directory = tempfile::tempdir().unwrap();
    let Some((mut actor, mut life)) = running(directory.path(), compiler, how) else {
        return;
    };
    life.pidfd.queue_signal(STOP_SIGNAL, STOP_VALUE).unwrap();
    // Its end of the pipe is closed: nobody else holds one.
    assert_eq!(life.line(), "");
    let page = &actor.page;
    until("it says so", || {
        page.stopped.load(Ordering::Acquire) == life.serial.0
    });
    let fds = fs::read_dir(format!("/proc/{}/fd", life.pid)).unwrap();
    assert_eq!(fds.count(), 0);
    assert!(!life.pidfd.has_ended());
    // Whatever comes now, not a line of it runs again.
    for signal in [Signal::HUP, Signal::TERM, Signal::USR1, Signal::SEGV] {
        life.pidfd.send_signal(signal).unwrap();
    }
    let status = fs::read_to_string(format!("/proc/{}/status", life.pid)).unwrap();
    assert!(status.contains("SigBlk:\tfffffffffffbfeff"), "{status}");
    assert!(!life.pidfd.has_ended());
    life.pidfd.send_signal(Signal::KILL).unwrap();
    assert_eq!(actor.end_of(life.pid).to_string(), "SIGKILL");
    assert!(!life.has_told());
}

#[test]
fn h9_a_life_alone_stops_and_closes_its_files() {
    for how in ["plain", "blocked", "handlers"] {
        assert_stops("cc", how);
    }
}

#[test]
fn h9_a_life_with_another_c_library_stops_too() {
    for how in ["plain", "blocked", "handlers"] {
        assert_stops("musl-gcc", how);
    }
}

#[test]
fn h9_a_life_with_a_child_dies_of_it() {
    let directory = tempfile::tempdir().unwrap();
    let Some((mut actor, life)) = running(directory.path(), "cc", "child") else {
        return;
    };
    life.pidfd.queue_signal(STOP_SIGNAL, STOP_VALUE).unwrap();
    life.wait();
    assert_eq!(actor.end_of(life.pid).to_string(), "SIGKILL");
    assert_eq!(actor.page.stopped.load(Ordering::Acquire), 0);
}

#[test]
fn h9_a_life_with_threads_dies_of_one_of_the_two_signals() {
    // Each C library takes one of them for itself once there are threads.
    for compiler in ["cc", "musl-gcc"] {
        let directory = tempfile::tempdir().unwrap();
        let Some((mut actor, life)) = running(directory.path(), compiler, "thread") else {
            return;
        };
        for signal in [33, 32] {
            let _ = life.pidfd.queue_signal(signal, STOP_VALUE);
        }
        life.wait();
        assert_eq!(actor.end_of(life.pid).to_string(), "SIGKILL");
        assert_eq!(actor.page.stopped.load(Ordering::Acquire), 0);
    }
}

#[test]
fn the_signal_means_nothing_without_its_value_or_to_a_standby() {
    let directory = tempfile::tempdir().unwrap();
    let Some((mut actor, life)) = running(directory.path(), "cc", "plain") else {
        return;
    };
    let standby = actor.standby();
    for (pidfd, value) in [(&life.pidfd, STOP_VALUE + 1), (&standby.pidfd, STOP_VALUE)] {
        pidfd.queue_signal(STOP_SIGNAL, value).unwrap();
    }
    let raised = format!("kill -{STOP_SIGNAL} {} {}", life.pid, standby.pid);
    let done = std::process::Command::new("sh")
        .args(["-c", &raised])
        .status();
    assert!(done.unwrap().success());
    // Delivered: none waits any more.
    for pid in [life.pid, standby.pid] {
        until("it is delivered", || {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
            status.contains("ShdPnd:\t0000000000000000")
        });
    }
    assert_eq!(actor.page.stopped.load(Ordering::Acquire), 0);
    let pid = life.pid;
    life.pidfd.send_signal(Signal::KILL).unwrap();
    assert_eq!(actor.end_of(pid), WaitStatus::from_signal(9, false));
    let mut next = actor.wake(standby, 1);
    assert_eq!(next.line(), "runs");
}
