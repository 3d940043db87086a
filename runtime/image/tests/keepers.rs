//! The keeper of a life: holds its memory while the kernel reports its end, and nothing else.
#![allow(clippy::unwrap_used)] // helpers of tests are tests too

mod support;

use std::fs;
use std::path::Path;
use std::sync::atomic::Ordering;

use refrain_abi::control::keeper_slot;
use refrain_sys::{PidFd, Signal};
use support::{Actor, Life, WATCHDOG_MS, compile, program, until};

const SOURCE: &str = r#"
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
int main(int argc, char **argv) {
    size_t size = (size_t)atoi(argv[2]) << 20;
    char *memory = malloc(size + 1);
    memset(memory, 1, size + 1);
    int gone = wait(0) == -1 && errno == ECHILD;
    if (!strcmp(argv[1], "device"))
        mmap(0, 4096, PROT_READ, MAP_SHARED, open("/dev/zero", O_RDWR), 0);
    printf("%d\n", gone);
    fflush(stdout);
    for (;;) pause();
}
"#;

fn comm(pid: u32) -> Option<String> {
    fs::read_to_string(format!("/proc/{pid}/comm")).ok()
}

/// A life with a keeper, which runs; the keeper's pid and pidfd.
fn kept(directory: &Path, how: &str, mebibytes: &str) -> Option<(Actor, Life, u32, PidFd)> {
    let path = compile(directory, "kept", SOURCE, &[])?;
    let mut actor = Actor::contained(&program(&path, &[how, mebibytes]))?;
    let standby = actor.standby_with(true);
    let page = &actor.page;
    let serial = standby.serial;
    until("there is a keeper", || page.keeper(serial).is_some());
    let pid = page.keeper(serial).unwrap();
    let pidfd = PidFd::open(pid).unwrap();
    until("the keeper has settled", || {
        comm(pid).is_some_and(|name| name == "K:kept\n")
    });
    let mut life = actor.wake(standby, 0);
    // It has no child that it could wait for.
    assert_eq!(life.line(), "1");
    Some((actor, life, pid, pidfd))
}

#[test]
fn a_keeper_has_no_file_blocks_every_signal_and_is_the_templates_child() {
    let directory = tempfile::tempdir().unwrap();
    let Some((actor, life, pid, _)) = kept(directory.path(), "", "0") else {
        return;
    };
    let fds = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    assert_eq!(fds.count(), 0);
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap().trim().to_owned()
    };
    assert_eq!(field("PPid:"), actor.template.pid.to_string());
    assert_eq!(field("Threads:"), "1");
    // All but SIGKILL and SIGSTOP, which nobody can block.
    assert_eq!(field("SigBlk:"), "fffffffffffbfeff");
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let nice = stat.rsplit(") ").next().unwrap().split(' ').nth(16);
    assert_eq!(nice, Some("5"));
    // It shares the life's memory, so there is no more of it.
    let maps = |pid: u32| fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    assert_eq!(maps(pid), maps(life.pid));
}

#[test]
fn the_end_of_a_life_is_reported_while_the_keeper_holds_its_memory() {
    let directory = tempfile::tempdir().unwrap();
    let Some((mut actor, life, keeper, pidfd)) = kept(directory.path(), "", "1024") else {
        return;
    };
    // A template that is stopped reaps nobody: so the keeper stays for as long as the test looks.
    actor.template.pidfd.send_signal(Signal::STOP).unwrap();
    life.pidfd.send_signal(Signal::KILL).unwrap();
    life.wait();
    assert!(!pidfd.has_ended());
    let memory = fs::read_to_string(format!("/proc/{keeper}/statm")).unwrap();
    let pages: u64 = memory.split(' ').nth(1).unwrap().parse().unwrap();
    assert!(pages * 4096 >= 1 << 30, "{memory}");
    actor.template.pidfd.send_signal(Signal::CONT).unwrap();
    assert!(pidfd.wait_ended(Some(WATCHDOG_MS)).unwrap());
    assert_eq!(actor.end_of(life.pid).to_string(), "SIGKILL");
    // The keeper itself is reaped without a word, and goes from the page.
    let (page, slot) = (&actor.page, keeper_slot(life.serial));
    until("the keeper is reaped", || {
        page.keepers[slot].load(Ordering::Acquire) == 0
    });
    assert_eq!(page.end_count.load(Ordering::Acquire), 1);
    assert_eq!(page.end_pid.load(Ordering::Acquire), life.pid);
    assert!(fs::metadata(format!("/proc/{keeper}")).is_err());
}

#[test]
fn a_keeper_ends_with_the_template() {
    let directory = tempfile::tempdir().unwrap();
    let Some((actor, life, _, keeper)) = kept(directory.path(), "", "0") else {
        return;
    };
    actor.template.pidfd.send_signal(Signal::KILL).unwrap();
    assert!(keeper.wait_ended(Some(WATCHDOG_MS)).unwrap());
    assert!(!life.pidfd.has_ended());
    life.pidfd.send_signal(Signal::KILL).unwrap();
    life.wait();
}

#[test]
fn the_keeper_of_a_standby_that_is_not_wanted_any_more_goes_with_it() {
    let directory = tempfile::tempdir().unwrap();
    let Some((mut actor, _life, _, _)) = kept(directory.path(), "", "0") else {
        return;
    };
    let standby = actor.standby_with(true);
    let (page, serial) = (&actor.page, standby.serial);
    until("there is a keeper", || page.keeper(serial).is_some());
    let keeper = PidFd::open(page.keeper(serial).unwrap()).unwrap();
    standby.pidfd.send_signal(Signal::KILL).unwrap();
    assert!(keeper.wait_ended(Some(WATCHDOG_MS)).unwrap());
    actor.end_of(standby.pid);
}

#[test]
fn a_life_that_maps_what_a_keeper_would_hold_loses_it() {
    let directory = tempfile::tempdir().unwrap();
    let Some((actor, life, _, keeper)) = kept(directory.path(), "device", "0") else {
        return;
    };
    assert!(keeper.wait_ended(Some(WATCHDOG_MS)).unwrap());
    let page = &actor.page;
    until("it goes from the page", || {
        page.keeper(life.serial).is_none()
    });
    assert!(!life.pidfd.has_ended());
}

#[test]
fn a_standby_that_is_called_before_it_is_forked_has_no_keeper() {
    let directory = tempfile::tempdir().unwrap();
    let Some(path) = compile(directory.path(), "kept", SOURCE, &[]) else {
        return;
    };
    let Some(mut actor) = Actor::contained(&program(&path, &["", "0"])) else {
        return;
    };
    actor.page.go.store(1, Ordering::Release);
    actor.page.wake.store(1, Ordering::Release);
    let standby = actor.standby_with(true);
    let serial = standby.serial;
    let mut life = actor.wake(standby, 0);
    assert_eq!(life.line(), "1");
    assert_eq!(actor.page.keeper(serial), None);
}

#[test]
fn a_life_cannot_have_its_successor_killed_by_calling_it_its_keeper() {
    let directory = tempfile::tempdir().unwrap();
    let Some((mut actor, life, _, _)) = kept(directory.path(), "", "0") else {
        return;
    };
    let standby = actor.standby();
    let word = refrain_abi::control::keeper_word(life.serial, standby.pid);
    actor.page.keepers[keeper_slot(life.serial)].store(word, Ordering::Release);
    life.pidfd.send_signal(Signal::KILL).unwrap();
    assert_eq!(actor.end_of(life.pid).to_string(), "SIGKILL");
    let mut next = actor.wake(standby, 1);
    assert_eq!(next.line(), "1");
}
