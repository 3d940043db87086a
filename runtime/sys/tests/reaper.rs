//! What concerns the whole process, alone in its own test binary: subreaper, reaping anybody,
//! marking fds.

use std::os::fd::AsFd;
use std::process::{Command, Stdio};

use refrain_sys::{PidFd, process};

#[test]
#[allow(clippy::zombie_processes)] // reaped by reap_any, which is what is tested
fn an_orphan_comes_to_the_subreaper_and_is_reaped_with_its_status() {
    process::set_subreaper().unwrap();
    assert!(process::reap_any().unwrap().is_none(), "no child, no error");
    // A shell gives a background job /dev/null for stdin, so the pipe goes by another number.
    let script = "exec 3<&0; (read x <&3; exit 7) >&- & echo $!";
    let mut shell = Command::new("sh")
        .args(["-c", script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut text = String::new();
    std::io::Read::read_to_string(shell.stdout.as_mut().unwrap(), &mut text).unwrap();
    let orphan: u32 = text.trim().parse().unwrap();
    let pidfd = PidFd::open(orphan).unwrap();
    let stdin = shell.stdin.take().unwrap();
    let shell_end = PidFd::open(shell.id()).unwrap();
    assert!(shell_end.wait_ended(Some(20_000)).unwrap());
    drop(stdin);
    assert!(pidfd.wait_ended(Some(20_000)).unwrap());
    let mut ends = Vec::new();
    while let Some((pid, status)) = process::reap_any().unwrap() {
        ends.push((pid, status.exited()));
    }
    ends.sort_unstable();
    let mut expected = [(shell.id(), Some(0)), (orphan, Some(7))];
    expected.sort_unstable();
    assert_eq!(ends, expected);

    let kept = rustix::io::dup(std::io::stdin().as_fd()).unwrap();
    process::mark_all_cloexec().unwrap();
    assert!(
        rustix::io::fcntl_getfd(&kept)
            .unwrap()
            .contains(rustix::io::FdFlags::CLOEXEC)
    );
}
