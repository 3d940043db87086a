//! Standbys, templates and what the controller hears of them: waking, ending, orphans, programs that
//! can't be forked.
#![allow(clippy::unwrap_used)] // helpers of tests are tests too

mod support;

use std::fs;
use std::os::fd::AsFd;
use std::sync::atomic::Ordering;

use refrain_abi::template::{FromTemplate, StartFrame};
use refrain_abi::{LifeNo, Serial};
use refrain_image::{StartKind, choose_start};
use refrain_sys::{PidFd, Signal, WaitStatus};
use support::{Actor, WATCHDOG_MS, compile, installed, program};

#[test]
fn h8_the_end_of_a_life_is_reported_as_it_was() {
    let Some(shell) = installed("sh") else { return };
    let mut actor = Actor::start(&program(&shell, &["-c", "kill -SEGV $$"]));
    let (_, status) = actor.run(0);
    assert_eq!(status.to_string(), "SIGSEGV");
    assert_eq!(actor.page.end_status.load(Ordering::Acquire), status.0);
    assert_eq!(actor.page.end_count.load(Ordering::Acquire), 1);
    actor.run(1);
    assert_eq!(actor.page.end_count.load(Ordering::Acquire), 2);
}

#[test]
fn an_orphan_of_a_life_comes_to_the_template_and_is_reaped() {
    let Some(shell) = installed("sh") else { return };
    let script = "sleep 1000 >/dev/null 2>&1 & echo $!";
    let mut actor = Actor::start(&program(&shell, &["-c", script]));
    let (text, status) = actor.run(0);
    assert_eq!(status, WaitStatus::from_exit(0));
    let orphan: u32 = text.trim().parse().unwrap();
    let children = refrain_sys::children::children_of(actor.template.pid).unwrap();
    assert_eq!(children, [orphan]);
    PidFd::open(orphan)
        .unwrap()
        .send_signal(Signal::TERM)
        .unwrap();
    assert_eq!(actor.end_of(orphan).to_string(), "SIGTERM");
}

#[test]
fn a_standby_runs_nothing_before_its_serial_is_called() {
    let Some(shell) = installed("sh") else { return };
    let mut actor = Actor::start(&program(&shell, &["-c", "echo ran"]));
    let first = actor.standby();
    let second = actor.standby();
    // A wake-up without the serial changes nothing: the word is looked at again.
    refrain_sys::futex::wake(&actor.page.wake, u32::MAX).unwrap();
    assert_eq!(actor.page.began.load(Ordering::Acquire), 0);
    let life = actor.wake(first, 0);
    assert_eq!(actor.finish(life).0, "ran\n");
    assert_eq!(actor.page.began.load(Ordering::Acquire), 1);
    assert!(!second.pidfd.has_ended());
    let life = actor.wake(second, 1);
    assert_eq!(actor.finish(life).0, "ran\n");
    assert_eq!(actor.page.began.load(Ordering::Acquire), 2);
}

#[test]
fn a_standby_woken_for_a_start_that_is_not_its_own_does_not_begin() {
    let Some(shell) = installed("sh") else { return };
    let mut actor = Actor::start(&program(&shell, &["-c", "echo ran"]));
    let standby = actor.standby();
    let null = fs::File::open("/dev/null").unwrap();
    let frame = StartFrame {
        life: LifeNo(0),
        serial: Serial(99),
        stopped: false,
    };
    support::send_start(
        &standby.socket,
        frame,
        &[null.as_fd(), null.as_fd(), null.as_fd()],
    );
    let pid = standby.pid;
    let life = actor.wake(standby, 0);
    assert!(life.pidfd.wait_ended(Some(WATCHDOG_MS)).unwrap());
    assert_eq!(actor.end_of(pid), WaitStatus::from_exit(127));
}

#[test]
fn c2_a_life_started_for_a_debugger_stops_before_main() {
    let Some(shell) = installed("sh") else { return };
    let mut actor = Actor::start(&program(&shell, &["-c", "echo ran"]));
    let standby = actor.standby();
    let pid = standby.pid;
    let life = actor.wake_with(standby, 0, true);
    let stat = || fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    while !stat().contains(") T ") {
        std::thread::yield_now();
    }
    life.pidfd.send_signal(Signal::CONT).unwrap();
    assert_eq!(actor.finish(life).0, "ran\n");
}

#[test]
fn h31_when_the_controller_goes_the_life_runs_on_and_the_standby_does_not() {
    let Some(cat) = installed("sleep") else {
        return;
    };
    let mut actor = Actor::start(&program(&cat, &["1000"]));
    let first = actor.standby();
    let sleeper = actor.standby();
    let life = actor.wake(first, 0);
    let (_, replacement) = refrain_sys::seqpacket::pair().unwrap();
    drop(std::mem::replace(&mut actor.template.socket, replacement));
    assert!(actor.template.pidfd.wait_ended(Some(WATCHDOG_MS)).unwrap());
    assert_eq!(
        actor.template.pidfd.reap().unwrap(),
        Some(WaitStatus::from_exit(0))
    );
    assert!(sleeper.pidfd.wait_ended(Some(WATCHDOG_MS)).unwrap());
    assert!(!life.pidfd.has_ended());
    life.pidfd.send_signal(Signal::KILL).unwrap();
    assert!(life.pidfd.wait_ended(Some(WATCHDOG_MS)).unwrap());
}

#[test]
fn a_program_whose_constructors_start_threads_is_noticed_and_runs_by_exec() {
    let directory = tempfile::tempdir().unwrap();
    let source = r#"
        #include <pthread.h>
        #include <stdio.h>
        #include <unistd.h>
        static void *sleeper(void *unused) { pause(); return 0; }
        __attribute__((constructor)) static void start(void) {
            pthread_t t;
            pthread_create(&t, 0, sleeper, 0);
            pthread_create(&t, 0, sleeper, 0);
        }
        int main(void) { puts("ran"); return 5; }
    "#;
    let Some(path) = compile(directory.path(), "threaded", source, &["-pthread"]) else {
        return;
    };
    let program = program(&path, &[]);
    let (actor, first) = Actor::begin(&program, choose_start(&program.image));
    assert_eq!(first, Some(FromTemplate::Threaded { threads: 3 }));
    assert!(actor.template.pidfd.wait_ended(Some(WATCHDOG_MS)).unwrap());
    let mut actor = Actor::start_by(&program, StartKind::Exec);
    assert_eq!(actor.run(0), ("ran\n".to_owned(), WaitStatus::from_exit(5)));
    assert_eq!(actor.run(1), ("ran\n".to_owned(), WaitStatus::from_exit(5)));
}

#[test]
fn a_template_that_ends_before_it_is_ready_is_heard_of() {
    let directory = tempfile::tempdir().unwrap();
    let source = r#"
        #include <unistd.h>
        __attribute__((constructor)) static void end(void) { _exit(9); }
        int main(void) { return 0; }
    "#;
    let Some(path) = compile(directory.path(), "ender", source, &[]) else {
        return;
    };
    let program = program(&path, &[]);
    let (actor, first) = Actor::begin(&program, choose_start(&program.image));
    assert_eq!(first, None);
    assert!(actor.template.pidfd.wait_ended(Some(WATCHDOG_MS)).unwrap());
    assert_eq!(
        actor.template.pidfd.reap().unwrap(),
        Some(WaitStatus::from_exit(9))
    );
}

#[test]
fn h10_a_life_begins_without_opening_a_file() {
    let directory = tempfile::tempdir().unwrap();
    let source = "int main(void) { return 0; }";
    let Some(path) = compile(directory.path(), "main", source, &[]) else {
        return;
    };
    let Some(strace) = installed("strace") else {
        return;
    };
    let trace = directory.path().join("trace");
    let mut actor = Actor::start(&program(&path, &[]));
    let standby = actor.standby();
    let life = actor.queue(standby, 0, false);
    // What it does before it sleeps is not the restart path.
    let call = format!("/proc/{}/syscall", life.pid);
    const FUTEX: &str = if cfg!(target_arch = "aarch64") {
        "98 "
    } else {
        "202 "
    };
    support::until("it sleeps on the futex", || {
        fs::read_to_string(&call).unwrap().starts_with(FUTEX)
    });
    let mut tracer = std::process::Command::new(strace)
        .args(["-p", &life.pid.to_string(), "-o"])
        .arg(&trace)
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let stderr = tracer.stderr.take().unwrap();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(stderr), &mut line).unwrap();
    if !line.contains("attached") {
        eprintln!("skipped: strace can't attach here: {line}");
        tracer.wait().unwrap();
        return;
    }
    actor.call(life.serial);
    assert_eq!(actor.finish(life).1, WaitStatus::from_exit(0));
    tracer.wait().unwrap();
    let text = fs::read_to_string(&trace).unwrap();
    assert!(
        text.contains("PR_SET_NAME") && text.contains("exit_group(0)"),
        "{text}"
    );
    for call in [
        "open",
        "stat",
        "access",
        "readlink",
        "mmap",
        "brk",
        "exec",
        "recvmsg",
        "sigprocmask",
    ] {
        assert!(!text.contains(call), "{call} on the restart path: {text}");
    }
}

#[test]
fn hundreds_of_lives_leave_nothing_in_the_template() {
    let Some(path) = installed("true") else {
        return;
    };
    let mut actor = Actor::start(&program(&path, &[]));
    let fds = format!("/proc/{}/fd", actor.template.pid);
    let count = || fs::read_dir(&fds).unwrap().count();
    let before = count();
    for life in 0..300 {
        let standby = actor.standby();
        let life = actor.wake(standby, life);
        assert_eq!(actor.finish(life).1, WaitStatus::from_exit(0));
    }
    let standby = actor.standby();
    // It holds both ends of a life's socket until it has reaped that, and closes them after it has told of
    // the end.
    support::until("only those of the standby are left", || {
        count() == before + 2
    });
    let children = refrain_sys::children::children_of(actor.template.pid).unwrap();
    assert_eq!(children, [standby.pid]);
    assert_eq!(actor.page.end_count.load(Ordering::Acquire), 300);
}
