//! Spawning real programs from an fd: what they inherit, and how failures come back.
#![allow(clippy::unwrap_used)] // helpers of tests are tests too

use std::ffi::CString;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use refrain_sys::{Signal, Spawn, WaitStatus, cgroup, memfd};

fn strings(words: &[&str]) -> Vec<CString> {
    words
        .iter()
        .map(|word| CString::new(*word).unwrap())
        .collect()
}

fn program(path: &str) -> OwnedFd {
    File::open(path).unwrap().into()
}

/// Runs `sh -c script` with the settings that `with` adds; its output and its end.
fn shell(script: &str, with: impl FnOnce(Spawn<'_>) -> Spawn<'_>) -> (String, WaitStatus) {
    let exe = program("/bin/sh");
    let argv = strings(&["sh", "-c", script]);
    let envp = strings(&["PATH=/usr/bin:/bin"]);
    let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    // The program's own stdout stays free for `with`, which may name other fds.
    let spawn = Spawn::new(exe.as_fd(), &argv, &envp).fds(&[(writer.as_fd(), 1)]);
    let (_, pidfd) = with(spawn).spawn().unwrap();
    drop(writer);
    let mut text = String::new();
    File::from(reader).read_to_string(&mut text).unwrap();
    assert!(
        pidfd.wait_ended(Some(20_000)).unwrap(),
        "the shell does not end"
    );
    (text, pidfd.reap().unwrap().unwrap())
}

#[test]
fn a_program_runs_from_a_sealed_memfd_after_its_file_is_gone() {
    let image = memfd::from_bytes("true", &std::fs::read("/bin/true").unwrap(), true).unwrap();
    memfd::seal_image(image.as_fd()).unwrap();
    let argv = strings(&["true"]);
    let (pid, pidfd) = Spawn::new(image.as_fd(), &argv, &[]).spawn().unwrap();
    assert!(pid > 1);
    assert!(pidfd.wait_ended(Some(20_000)).unwrap());
    assert_eq!(pidfd.reap().unwrap(), Some(WaitStatus::from_exit(0)));
    assert_eq!(pidfd.pid(), None, "a reaped child has no pid any more");
}

#[test]
fn what_fails_in_the_child_is_the_error_of_spawn_and_leaves_no_zombie() {
    let exe = memfd::from_bytes("garbage", b"neither ELF nor script", true).unwrap();
    let argv = strings(&["x"]);
    let error = Spawn::new(exe.as_fd(), &argv, &[]).spawn().unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ENOEXEC));
    let exe = program("/bin/true");
    let nowhere = Path::new("/nonexistent/directory");
    let error = Spawn::new(exe.as_fd(), &argv, &[])
        .cwd(nowhere)
        .spawn()
        .unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ENOENT));
    let own = std::process::id();
    for child in refrain_sys::children::children_of(own).unwrap() {
        let stat = std::fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
        assert!(
            !stat.contains(") Z ") || !stat.contains("(x)"),
            "a zombie is left: {stat}"
        );
    }
}

#[test]
fn settings_arrive_in_the_program() {
    let directory = tempfile::tempdir().unwrap();
    let (text, status) = shell(
        "pwd; umask; ulimit -n; ulimit -Hn; nice; kill -SEGV $$",
        |spawn| {
            spawn
                .cwd(directory.path())
                .umask(Some(0o027))
                .rlimits(&[(libc::RLIMIT_NOFILE, 77, 99), (libc::RLIMIT_CORE, 0, 0)])
                .nice(Some(7))
        },
    );
    let here = directory.path().canonicalize().unwrap();
    assert_eq!(text, format!("{}\n0027\n77\n99\n7\n", here.display()));
    assert_eq!(status.to_string(), "SIGSEGV");
}

#[test]
fn signals_ignored_or_blocked_here_are_at_their_default_there() {
    // Rust ignores SIGPIPE; USR1 is blocked in this thread for good measure.
    refrain_sys::signals::block_signals(&[Signal::USR1]).unwrap();
    let (text, _) = shell("cat /proc/self/status", |spawn| spawn);
    let masks: Vec<&str> = text
        .lines()
        .filter(|line| {
            ["SigBlk", "SigIgn", "SigCgt"]
                .iter()
                .any(|key| line.starts_with(key))
        })
        .collect();
    assert_eq!(masks.len(), 3, "{text}");
    for line in masks {
        let mask = line.split_whitespace().nth(1).unwrap();
        assert_eq!(u64::from_str_radix(mask, 16).unwrap(), 0, "{line}");
    }
}

#[test]
fn fds_take_their_places_even_where_they_overlap_and_nothing_else_comes_along() {
    let first = memfd::from_bytes("first", b"", false).unwrap();
    let second = memfd::from_bytes("second", b"", false).unwrap();
    // Not CLOEXEC: an fd that whoever started us forgot.
    let leaked = rustix::io::dup(&first).unwrap();
    let exe = program("/bin/sh");
    let list = "for f in /proc/$$/fd/*; do echo ${f##*/} $(readlink $f); done";
    let argv = strings(&["sh", "-c", list]);
    let envp = strings(&["PATH=/usr/bin:/bin"]);
    let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    use std::os::fd::AsRawFd;
    // Each of the two goes to the other's number.
    let (one, two) = (first.as_raw_fd(), second.as_raw_fd());
    let fds = [
        (first.as_fd(), two),
        (second.as_fd(), one),
        (writer.as_fd(), 1),
    ];
    let (_, pidfd) = Spawn::new(exe.as_fd(), &argv, &envp)
        .fds(&fds)
        .spawn()
        .unwrap();
    drop(writer);
    let mut text = String::new();
    File::from(reader).read_to_string(&mut text).unwrap();
    assert!(pidfd.wait_ended(Some(20_000)).unwrap());
    pidfd.reap().unwrap();
    assert!(text.contains(&format!("{one} /memfd:second")), "{text}");
    assert!(text.contains(&format!("{two} /memfd:first")), "{text}");
    assert_eq!(
        text.matches("/memfd:").count(),
        2,
        "fd {} leaks: {text}",
        leaked.as_raw_fd()
    );
}

#[test]
fn a_fixed_layout_is_the_same_at_every_start() {
    let stack = || {
        shell("grep -F '[stack]' /proc/self/maps", |spawn| {
            spawn.fixed_layout(true)
        })
        .0
    };
    assert_eq!(stack(), stack());
    let (flags, _) = shell("cat /proc/self/personality", |spawn| {
        spawn.fixed_layout(false)
    });
    assert_eq!(
        flags.trim(),
        "00000000",
        "layout is fixed only where that is asked for"
    );
}

#[test]
fn a_session_of_its_own_is_led_by_the_program() {
    let (text, _) = shell("cut -d' ' -f1,6 /proc/$$/stat", |spawn| spawn.setsid(true));
    let mut words = text.split_whitespace();
    assert_eq!(words.next(), words.next(), "{text}");
}

#[test]
fn a_program_is_born_into_its_cgroup_and_dies_with_it() {
    let name = format!("refrain-sys-test-{}", std::process::id());
    let made = cgroup::own_directory().and_then(|parent| cgroup::Cgroup::create(&parent, &name));
    let group = match made {
        Ok(group) => group,
        Err(why) => {
            eprintln!("skipped: {why}");
            return;
        }
    };
    let exe = program("/bin/sh");
    let argv = strings(&["sh", "-c", "sleep 1000 & sleep 1000"]);
    let envp = strings(&["PATH=/usr/bin:/bin"]);
    let directory = group.directory().unwrap();
    let spawn = Spawn::new(exe.as_fd(), &argv, &envp).cgroup(Some(directory.as_fd()));
    let (pid, pidfd) = spawn.setsid(true).spawn().unwrap();
    let mut members = Vec::new();
    group.members(&mut members).unwrap();
    assert!(members.contains(&pid), "{pid} not in {members:?}");
    group.kill_all().unwrap();
    assert!(pidfd.wait_ended(Some(20_000)).unwrap());
    assert_eq!(pidfd.reap().unwrap().unwrap().signal(), Some(libc::SIGKILL));
    while !members.is_empty() {
        std::thread::yield_now();
        group.members(&mut members).unwrap();
    }
    let path = group.path().to_owned();
    group.remove().unwrap();
    assert!(!path.exists());
}

#[test]
fn many_threads_spawn_at_once_without_disturbing_each_other() {
    let run = |code: i32| {
        for _ in 0..20 {
            let (text, status) = shell(&format!("echo {code}; exit {code}"), |spawn| spawn);
            assert_eq!(text, format!("{code}\n"));
            assert_eq!(status.exited(), Some(code));
        }
    };
    std::thread::scope(|scope| {
        for code in 1..=4 {
            scope.spawn(move || run(code));
        }
    });
}
