//! How a life ends that faults: by the signal, with the status, the `siginfo` and the core that it would
//! have had without Refrain, and with a record of what was seen.
#![allow(clippy::unwrap_used)] // helpers of tests are tests too

mod support;

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::Ordering;

use refrain_sys::{Signal, WaitStatus};
use support::{Actor, compile, compile_by, installed, program};

/// `argv[1]` says how it ends.
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
static int deep(int n) { volatile char room[4096]; room[0] = n; return deep(n + 1) + room[0]; }
static void again(int sig) { signal(sig, SIG_DFL); }
static void leave(int sig) { _exit(42); }
static void nothing(int sig) {}
int main(int argc, char **argv) {
    const char *how = argv[1];
    sigset_t set;
    signal(SIGUSR1, leave);
    if (!strcmp(how, "segv")) *(volatile int *)0x1230 = 1;
    if (!strcmp(how, "bus")) {
        int fd = memfd_create("empty", 0);
        *(volatile int *)mmap((void *)0x500000000000, 4096, 3, MAP_SHARED, fd, 0) = 1;
    }
    if (!strcmp(how, "fpe")) { volatile int zero = 0; raise(SIGFPE); }
    if (!strcmp(how, "ill")) __builtin_trap();
    if (!strcmp(how, "abort")) abort();
    if (!strcmp(how, "raise")) raise(SIGSEGV);
    if (!strcmp(how, "kill")) kill(getpid(), SIGSEGV);
    if (!strcmp(how, "kill bus")) kill(getpid(), SIGBUS);
    if (!strcmp(how, "overflow")) return deep(0);
    if (!strcmp(how, "jump")) ((void (*)(void))0x1230)();
    if (!strcmp(how, "handler")) { signal(SIGSEGV, leave); *(volatile int *)0 = 1; }
    if (!strcmp(how, "default again")) { signal(SIGSEGV, again); *(volatile int *)0x1230 = 1; }
    if (!strcmp(how, "ignored")) { signal(SIGSEGV, SIG_IGN); raise(SIGSEGV); return 7; }
    if (!strcmp(how, "blocked abort")) {
        sigfillset(&set); sigprocmask(SIG_BLOCK, &set, 0); abort();
    }
    if (!strcmp(how, "blocked segv")) {
        sigfillset(&set); sigprocmask(SIG_BLOCK, &set, 0); *(volatile int *)0 = 1;
    }
    /* What is restored after sigsuspend blocks the signal, and another one with a handler waits. */
    if (!strcmp(how, "suspend")) {
        struct sigaction all = { .sa_handler = leave };
        sigfillset(&all.sa_mask); sigaction(SIGHUP, &all, 0);
        sigemptyset(&set); sigaddset(&set, SIGABRT); sigaddset(&set, SIGHUP);
        sigprocmask(SIG_BLOCK, &set, 0);
        raise(SIGHUP); raise(SIGABRT);
        sigfillset(&set); sigdelset(&set, SIGABRT);
        sigsuspend(&set);
        return 8;
    }
    if (!strcmp(how, "child")) {
        int status;
        if (!fork()) *(volatile int *)0 = 1;
        wait(&status);
        return WTERMSIG(status);
    }
    if (!strcmp(how, "no stack")) {
        asm volatile("xor %%esp, %%esp; mov %%rax, (0x1230)" ::: "memory");
    }
    if (!strcmp(how, "reused")) {
        /* Every fd closed, and every number up to 99 is this file. */
        closefrom(0);
        open(argv[2], O_RDWR | O_CREAT, 0600);
        for (int fd = 1; fd < 100; fd++) dup2(0, fd);
        write(0, "mine", 4);
        *(volatile int *)0 = 1;
    }
    if (!strcmp(how, "reused by socket")) {
        int pair[2];
        closefrom(0);
        open("/dev/null", O_RDWR); dup(0); dup(0);
        socketpair(1, 5, 0, pair);
        for (int fd = 5; fd < 100; fd++) dup2(pair[1], fd);
        if (!fork()) {
            char buffer[100];
            for (int fd = 4; fd < 100; fd++) close(fd);
            int n = read(pair[0], buffer, sizeof buffer);
            int out = open(argv[2], O_RDWR | O_CREAT, 0600);
            dprintf(out, "%d", n);
            _exit(0);
        }
        *(volatile int *)0 = 1;
    }
    if (!strcmp(how, "wait")) for (puts("waits"), fflush(stdout);;) pause();
    return 0;
}
"#;

/// Every way that ends alike with and without Refrain.
const WAYS: [&str; 16] = [
    "segv",
    "bus",
    "fpe",
    "ill",
    "abort",
    "raise",
    "kill",
    "kill bus",
    "overflow",
    "jump",
    "handler",
    "default again",
    "ignored",
    "blocked abort",
    "blocked segv",
    "suspend",
];

fn without_refrain(path: &Path, word: &str) -> WaitStatus {
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -c 0; exec \"$0\" \"$1\""]);
    let status = command.arg(path).arg(word).status().unwrap();
    WaitStatus(status.into_raw() as u32)
}

fn assert_ends_alike(compiler: &str) {
    let directory = tempfile::tempdir().unwrap();
    let source = if compiler == "cc" {
        SOURCE.to_owned()
    } else {
        SOURCE.replace("closefrom(0);", "")
    };
    let Some(path) = compile_by(compiler, directory.path(), "faulty", &source, &[]) else {
        return;
    };
    for word in WAYS.iter().chain(&["child"]) {
        let mut actor = Actor::start(&program(&path, &[word]));
        let status = actor.run(0).1;
        assert_eq!(status, without_refrain(&path, word), "{word}");
    }
}

#[test]
fn h8_a_life_ends_with_the_status_that_it_would_have_without_refrain() {
    assert_ends_alike("cc");
}

#[test]
fn h8_a_life_with_another_c_library_ends_with_its_own_status_too() {
    assert_ends_alike("musl-gcc");
}

#[test]
fn a_failure_is_recorded_as_it_was_seen() {
    let directory = tempfile::tempdir().unwrap();
    let Some(path) = compile(directory.path(), "faulty", SOURCE, &["-no-pie"]) else {
        return;
    };
    for (word, signal, code, address) in [
        ("segv", 11, 1, 0x1230),
        ("jump", 11, 1, 0x1230),
        ("bus", 7, 2, 0x5000_0000_0000),
        ("default again", 11, 1, 0x1230),
        ("abort", 6, -6, 0),
        ("kill", 11, 0, 0),
    ] {
        let mut actor = Actor::start(&program(&path, &[word]));
        let standby = actor.standby();
        let life = actor.wake(standby, 0);
        let pid = life.pid;
        life.wait();
        assert!(life.has_told(), "{word}");
        let failure = &actor.page.failure;
        assert_eq!(failure.serial.load(Ordering::Acquire), 1, "{word}");
        assert_eq!(failure.signal.load(Ordering::Relaxed), signal, "{word}");
        assert_eq!(failure.code.load(Ordering::Relaxed) as i32, code, "{word}");
        assert_eq!(failure.address.load(Ordering::Relaxed), address, "{word}");
        assert_eq!(failure.thread.load(Ordering::Relaxed), pid, "{word}");
        assert_eq!(failure.stack_len.load(Ordering::Relaxed), 2560, "{word}");
        let instruction = failure.instruction.load(Ordering::Relaxed);
        if word == "jump" {
            assert_eq!(instruction, 0x1230);
            // What called it lies on top of the stack: an address of the program, which is not moved.
            let caller = failure.stack[0].load(Ordering::Relaxed);
            assert!((0x40_0000..0x50_0000).contains(&caller), "{caller:x}");
        } else if word == "segv" {
            assert!(
                (0x40_0000..0x50_0000).contains(&instruction),
                "{instruction:x}"
            );
        }
        actor.end_of(pid);
    }
}

#[test]
#[cfg(target_arch = "x86_64")]
fn a_stack_pointer_that_leads_nowhere_is_recorded_without_a_stack() {
    let directory = tempfile::tempdir().unwrap();
    let Some(path) = compile(directory.path(), "faulty", SOURCE, &[]) else {
        return;
    };
    let mut actor = Actor::start(&program(&path, &["no stack"]));
    assert_eq!(actor.run(0).1.to_string(), "SIGSEGV");
    let failure = &actor.page.failure;
    assert_eq!(failure.serial.load(Ordering::Acquire), 1);
    assert_eq!(failure.stack_pointer.load(Ordering::Relaxed), 0);
    assert_eq!(failure.stack_len.load(Ordering::Relaxed), 0);
}

#[test]
fn a_life_that_is_handled_by_the_program_itself_records_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let Some(path) = compile(directory.path(), "faulty", SOURCE, &[]) else {
        return;
    };
    let mut actor = Actor::start(&program(&path, &["handler"]));
    assert_eq!(actor.run(0).1, WaitStatus::from_exit(42));
    assert_eq!(actor.page.failure.serial.load(Ordering::Acquire), 0);
}

#[test]
fn nothing_is_written_into_a_file_that_took_the_number_of_the_socket() {
    let directory = tempfile::tempdir().unwrap();
    let Some(path) = compile(directory.path(), "faulty", SOURCE, &[]) else {
        return;
    };
    for (word, expected) in [("reused", "mine"), ("reused by socket", "0")] {
        let file = directory.path().join(word);
        let mut actor = Actor::start(&program(&path, &[word, file.to_str().unwrap()]));
        assert_eq!(actor.run(0).1.to_string(), "SIGSEGV", "{word}");
        let text = || fs::read_to_string(&file).unwrap_or_default();
        support::until("the file is written", || text() == expected);
        assert_eq!(actor.page.failure.serial.load(Ordering::Acquire), 1);
    }
}

#[test]
fn a_standby_that_is_killed_by_a_fault_signal_speaks_for_nobody() {
    let directory = tempfile::tempdir().unwrap();
    let Some(path) = compile(directory.path(), "faulty", SOURCE, &[]) else {
        return;
    };
    let mut actor = Actor::start(&program(&path, &["wait"]));
    let standby = actor.standby();
    let mut life = actor.wake(standby, 0);
    assert_eq!(life.line(), "waits");
    let standby = actor.standby();
    standby.pidfd.send_signal(Signal::SEGV).unwrap();
    assert_eq!(actor.end_of(standby.pid).to_string(), "SIGSEGV");
    assert_eq!(actor.page.failure.serial.load(Ordering::Acquire), 0);
    life.pidfd.send_signal(Signal::SEGV).unwrap();
    assert_eq!(actor.end_of(life.pid).to_string(), "SIGSEGV");
    assert_eq!(actor.page.failure.serial.load(Ordering::Acquire), 1);
    assert!(life.has_told());
}

/// What a core says: signal, code and address of its `siginfo`, instruction and stack pointer.
#[cfg(target_arch = "x86_64")]
fn of_core(path: &Path) -> (i32, i32, u64, u64) {
    let bytes = fs::read(path).unwrap();
    let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
    let half = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    let headers = word(32) as usize;
    let notes = (0..usize::from(bytes[56])).map(|index| headers + 56 * index);
    let notes = notes.into_iter().find(|at| half(*at) == 4).unwrap();
    let (mut at, end) = (
        word(notes + 8) as usize,
        (word(notes + 8) + word(notes + 32)) as usize,
    );
    let (mut info, mut instruction) = (None, None);
    while at < end {
        let (name, len, kind) = (half(at) as usize, half(at + 4) as usize, half(at + 8));
        let data = at + 12 + name.next_multiple_of(4);
        match kind {
            // NT_PRSTATUS: registers from 112 on, rip is the 17th.
            1 => instruction = Some(word(data + 112 + 16 * 8)),
            // NT_SIGINFO.
            0x5349_4749 => {
                info = Some((half(data) as i32, half(data + 8) as i32, word(data + 16)));
            }
            _ => {}
        }
        at = data + len.next_multiple_of(4);
    }
    let (signal, code, address) = info.unwrap();
    (signal, code, address, instruction.unwrap())
}

#[test]
#[cfg(target_arch = "x86_64")]
fn h8_the_core_is_the_one_that_there_would_be_without_refrain() {
    let pattern = fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap();
    if pattern.trim() != "core" {
        eprintln!("skipped: cores do not go to a file named core: {pattern}");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let Some(path) = compile(directory.path(), "faulty", SOURCE, &["-no-pie"]) else {
        return;
    };
    let core = |place: &Path| {
        let name = fs::read_dir(place).unwrap().next().unwrap().unwrap();
        let read = of_core(&name.path());
        fs::remove_file(name.path()).unwrap();
        read
    };
    let place = directory.path().join("cores");
    fs::create_dir(&place).unwrap();
    for word in ["segv", "jump", "bus", "ill"] {
        let mut command = Command::new("sh");
        command.args(["-c", "ulimit -c unlimited && exec \"$0\" \"$1\""]);
        let status = command.arg(&path).arg(word).current_dir(&place).status();
        let status = status.unwrap();
        if !status.core_dumped() {
            eprintln!("skipped: no cores here");
            return;
        }
        let expected = core(&place);
        let mut program = program(&path, &[word]);
        program.cwd = place.clone();
        program.rlimits = vec![(4, u64::MAX, u64::MAX)];
        let mut actor = Actor::start(&program);
        let status = WaitStatus(status.into_raw() as u32);
        assert_eq!(actor.run(0).1, status, "{word}");
        assert_eq!(core(&place), expected, "{word}");
    }
}

#[test]
fn a_tool_that_looks_sees_the_fault_where_it_was() {
    let directory = tempfile::tempdir().unwrap();
    let Some(path) = compile(directory.path(), "faulty", SOURCE, &[]) else {
        return;
    };
    let Some(strace) = installed("strace") else {
        return;
    };
    let trace = directory.path().join("trace");
    let mut actor = Actor::contained(&program(&path, &["segv"])).unwrap_or_else(|| {
        // Without a cgroup the calls are the same.
        Actor::start(&program(&path, &["segv"]))
    });
    let standby = actor.standby();
    let life = actor.queue(standby, 0, true);
    actor.call(life.serial);
    let stat = format!("/proc/{}/stat", life.pid);
    support::until("it stops before main", || {
        fs::read_to_string(&stat).unwrap().contains(") T ")
    });
    let mut tracer = Command::new(strace)
        .args(["-p", &life.pid.to_string(), "-o"])
        .arg(&trace)
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let stderr = tracer.stderr.take().unwrap();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(stderr), &mut line).unwrap();
    life.pidfd.send_signal(Signal::CONT).unwrap();
    life.wait();
    tracer.wait().unwrap();
    if !line.contains("attached") {
        eprintln!("skipped: strace can't attach here: {line}");
        return;
    }
    let text = fs::read_to_string(&trace).unwrap();
    let fault = "--- SIGSEGV {si_signo=SIGSEGV, si_code=SEGV_MAPERR, si_addr=0x1230} ---";
    assert_eq!(text.matches(fault).count(), 2, "{text}");
    // Each question is asked once, and nothing is asked after the files are closed.
    let handler = text.split(fault).nth(1).unwrap();
    let mut calls: Vec<&str> = handler
        .lines()
        .filter_map(|line| line.split_once('('))
        .map(|(name, _)| name)
        .collect();
    // Two, where the stack that is kept lies in two pages.
    calls.dedup_by(|one, other| one == other && *one == "rt_sigprocmask");
    let expected = [
        "getpid",
        "unshare",
        "rt_sigprocmask",
        "fstat",
        "waitid",
        "close_range",
        "close_range",
        "sendmsg",
        "rt_sigaction",
        "rt_tgsigqueueinfo",
        "rt_sigreturn",
    ];
    assert_eq!(calls, expected, "{text}");
}
