//! What programs see of signal dispositions: what they would see without Refrain, and their own
//! handlers work.
#![allow(clippy::unwrap_used)] // helpers of tests are tests too

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::Ordering;

use refrain_sys::WaitStatus;
use support::{Actor, compile_by, installed, program, python};

/// Prints every disposition in every way there is to ask.
const SOURCE: &str = r#"
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <errno.h>
static void mine(int sig) {}
static void info(int sig, siginfo_t *i, void *c) {}
static int of(struct sigaction a) {
    return a.sa_handler == SIG_DFL ? 0 : a.sa_handler == SIG_IGN ? 1 :
        a.sa_handler == mine ? 2 : a.sa_sigaction == info ? 3 : 9;
}
static int word(void (*h)(int)) {
    struct sigaction a = { .sa_handler = h };
    return h == SIG_ERR ? 8 : of(a);
}
int main(void) {
    struct sigaction now, new, old;
    for (int sig = 1; sig < 65; sig++) {
        memset(&now, 0x55, sizeof now);
        int r = sigaction(sig, 0, &now);
        if (r) { printf("%d errno %d\n", sig, errno); continue; }
        unsigned long mask;
        memcpy(&mask, &now.sa_mask, 8);
        printf("%d %d %x %lx:", sig, of(now), now.sa_flags & ~0x04000000, mask);
        /* The same place for both. */
        memset(&new, 0, sizeof new);
        new.sa_sigaction = info;
        new.sa_flags = SA_SIGINFO;
        sigaddset(&new.sa_mask, SIGUSR1);
        if (!sigaction(sig, &new, &new)) printf(" %d", of(new));
        if (!sigaction(sig, &new, &old)) printf(" %d %x", of(old), old.sa_flags & ~0x04000000);
        printf(" %d %d", word(signal(sig, mine)), word(signal(sig, SIG_IGN)));
        printf(" %d %d", word(signal(sig, SIG_DFL)), word(signal(sig, SIG_DFL)));
        printf(" %d", word(bsd_signal(sig, SIG_DFL)));
        printf(" %d", word(sysv_signal(sig, mine)));
        printf(" %d", word(sysv_signal(sig, SIG_DFL)));
        sigaction(sig, 0, &old);
        /* Flags of a disposition that is the default mean nothing. */
        printf(" %d\n", of(old));
    }
    printf("%d %d\n", sigaction(11, 0, 0), sigaction(99, 0, &old));
    return 0;
}
"#;

fn assert_sees_the_same(compiler: &str) {
    let directory = tempfile::tempdir().unwrap();
    let source = if compiler == "cc" {
        SOURCE.to_owned()
    } else {
        SOURCE
            .replace("bsd_signal(", "signal(")
            .replace("sysv_signal(", "__sysv_signal(")
            .replace(
                "static void mine",
                "void (*__sysv_signal(int, void (*)(int)))(int);\nstatic void mine",
            )
    };
    let Some(path) = compile_by(compiler, directory.path(), "asks", &source, &[]) else {
        return;
    };
    let expected = Command::new(&path).output().unwrap();
    let expected = String::from_utf8(expected.stdout).unwrap();
    assert!(
        expected.contains("11 0 0 0: 0 3 4 1 0 0 2 0 0 2 0"),
        "{expected}"
    );
    let mut actor = Actor::start(&program(&path, &[]));
    let (seen, status) = actor.run(0);
    assert_eq!(status, WaitStatus::from_exit(0));
    // A test is run with SIGPIPE ignored, under nohup with others, and so is what it starts; a template is not.
    let signal = |line: &str| line.split(' ').next().map(str::to_owned);
    let ignored = expected
        .lines()
        .filter(|line| line.split(' ').nth(1) == Some("1"));
    let ignored: Vec<_> = ignored.map(signal).collect();
    let other = |text: &str| {
        let lines = text.lines().filter(|line| !ignored.contains(&signal(line)));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(other(&seen), other(&expected));
}

#[test]
fn h1_a_program_sees_the_dispositions_that_it_would_see_without_refrain() {
    assert_sees_the_same("cc");
}

#[test]
fn h1_a_program_with_another_c_library_sees_them_too() {
    assert_sees_the_same("musl-gcc");
}

/// Compiles a Rust program; `None`, with a visible line, where there is no compiler.
fn rust(directory: &Path, source: &str) -> Option<PathBuf> {
    let compiler = installed("rustc")?;
    let (file, path) = (directory.join("main.rs"), directory.join("main"));
    fs::write(&file, source).unwrap();
    let mut command = Command::new(compiler);
    command.args(["--edition", "2024", "-O", "-C", "prefer-dynamic=no"]);
    let output = command.arg(&file).arg("-o").arg(&path).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    Some(path)
}

#[test]
fn h8_a_rust_program_overflows_panics_and_faults_as_ever() {
    let directory = tempfile::tempdir().unwrap();
    let source = r#"
        fn deep(n: u64) -> u64 { let room = [n; 512]; std::hint::black_box(&room); deep(n + 1) + room[7] }
        fn main() {
            match std::env::args().nth(1).unwrap().as_str() {
                "overflow" => println!("{}", deep(0)),
                "panic" => panic!("on purpose"),
                _ => unsafe { std::ptr::without_provenance_mut::<u32>(0x1230).write_volatile(1) },
            }
        }
    "#;
    let Some(path) = rust(directory.path(), source) else {
        return;
    };
    let mut actor = Actor::start(&program(&path, &["overflow"]));
    let (text, status) = actor.run(0);
    assert!(text.contains("has overflowed its stack"), "{text}");
    assert_eq!(status.to_string(), "SIGABRT");
    let signal = || actor.page.failure.signal.load(Ordering::Acquire);
    assert_eq!(signal(), 6);
    let mut actor = Actor::start(&program(&path, &["panic"]));
    let (text, status) = actor.run(0);
    assert!(text.contains("on purpose"), "{text}");
    assert_eq!(status, WaitStatus::from_exit(101));
    // Rust's own handler looks first, puts the default back and lets it fault again.
    let mut actor = Actor::start(&program(&path, &["fault"]));
    assert_eq!(actor.run(0).1.to_string(), "SIGSEGV");
    let failure = &actor.page.failure;
    assert_eq!(failure.serial.load(Ordering::Acquire), 1);
    assert_eq!(failure.address.load(Ordering::Acquire), 0x1230);
}

#[test]
fn h8_pythons_faulthandler_writes_its_traceback_and_the_fault_is_recorded() {
    let Some(path) = python() else { return };
    let source = "import faulthandler, ctypes; faulthandler.enable(); ctypes.string_at(16)";
    let mut actor = Actor::start(&program(&path, &["-c", source]));
    let (text, status) = actor.run(0);
    assert!(
        text.contains("Segmentation fault") && text.contains("string_at"),
        "{text}"
    );
    assert_eq!(status.to_string(), "SIGSEGV");
    let failure = &actor.page.failure;
    assert_eq!(failure.serial.load(Ordering::Acquire), 1);
    // It raises the signal again by itself.
    assert_eq!(failure.code.load(Ordering::Acquire) as i32, -6);
    let source = "from signal import *; print([getsignal(s) == SIG_DFL for s in (6, 11)])";
    let mut actor = Actor::start(&program(&path, &["-c", source]));
    let text = actor.run(0).0;
    assert_eq!(text, "[True, True]\n");
}

#[test]
fn h8_a_go_program_reports_a_fault_in_c_code_as_ever() {
    let Some(go) = installed("go") else { return };
    let directory = tempfile::tempdir().unwrap();
    let source = r#"
        package main
        // static void fault(void) { *(volatile int *)0x1230 = 1; }
        import "C"
        func main() { C.fault() }
    "#;
    let (file, path) = (
        directory.path().join("main.go"),
        directory.path().join("main"),
    );
    fs::write(&file, source).unwrap();
    let mut command = Command::new(go);
    command
        .current_dir(directory.path())
        .env("HOME", directory.path());
    command.args(["build", "-o"]).arg(&path).arg("main.go");
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        eprintln!("skipped: go builds nothing with C here: {text}");
        return;
    }
    // Its runtime looks for handlers that were there before, and would leave the fault to one.
    let mut actor = Actor::start(&program(&path, &[]));
    let (text, status) = actor.run(0);
    assert!(text.contains("segmentation violation"), "{text}");
    assert_eq!(status, WaitStatus::from_exit(2));
}
