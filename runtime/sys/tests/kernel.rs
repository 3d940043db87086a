//! The thin wrappers against the real kernel: memfd, pidfd, futex, mappings, seqpacket, signals.
#![allow(clippy::unwrap_used)] // helpers of tests are tests too

use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use refrain_sys::{PidFd, Signal, WaitStatus};
use refrain_sys::{children, futex, mapping, memfd, process, seqpacket, signals};

#[test]
fn a_sealed_image_refuses_every_change() {
    let fd = memfd::from_bytes("image", b"text", true).unwrap();
    memfd::seal_image(fd.as_fd()).unwrap();
    assert!(memfd::write_all(fd.as_fd(), b"more").is_err());
    assert!(rustix::fs::ftruncate(&fd, 0).is_err());
    assert!(rustix::fs::ftruncate(&fd, 100).is_err());
    assert!(
        memfd::seal_size(fd.as_fd()).is_err(),
        "seals are sealed too"
    );
    let flags = rustix::io::fcntl_getfd(&fd).unwrap();
    assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
}

#[test]
fn a_size_sealed_memfd_is_still_written_but_keeps_its_length() {
    let fd = memfd::from_bytes("shared", b"text", false).unwrap();
    memfd::seal_size(fd.as_fd()).unwrap();
    assert_eq!(rustix::io::pwrite(&fd, b"TEXT", 0).unwrap(), 4);
    assert!(rustix::fs::ftruncate(&fd, 1).is_err());
}

#[test]
fn h6_a_pidfd_of_a_reaped_child_signals_nobody() {
    let mut child = std::process::Command::new("sleep")
        .arg("1000")
        .spawn()
        .unwrap();
    let pidfd = PidFd::open(child.id()).unwrap();
    assert_eq!(pidfd.pid(), Some(child.id()));
    assert!(!pidfd.has_ended());
    assert_eq!(pidfd.reap().unwrap(), None);
    assert_eq!(pidfd.exit_info(), None);
    pidfd.send_signal(Signal::TERM).unwrap();
    assert!(pidfd.wait_ended(Some(20_000)).unwrap());
    assert!(pidfd.has_ended());
    child.wait().unwrap();
    let error = pidfd.send_signal(Signal::KILL).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ESRCH));
    match pidfd.exit_info() {
        Some(status) => assert_eq!(status, WaitStatus::from_signal(libc::SIGTERM, false)),
        None => eprintln!("skipped in part: this kernel has no PIDFD_INFO_EXIT"),
    }
}

#[test]
fn a_pidfd_of_nobody_is_an_error() {
    assert!(PidFd::open(0).is_err());
    assert!(PidFd::open(u32::MAX).is_err());
}

#[test]
fn a_futex_wakes_a_sleeper_through_another_mapping_of_the_same_page() {
    let (fd, ours) = mapping::create_control_page().unwrap();
    let theirs = mapping::map_control_page(fd.as_fd()).unwrap();
    let sleeper = std::thread::spawn(move || {
        while theirs.wake.load(Ordering::Acquire) < 1 {
            futex::wait(&theirs.wake, 0, None).unwrap();
        }
        theirs.began.store(1, Ordering::Release);
    });
    ours.wake.store(1, Ordering::Release);
    futex::wake(&ours.wake, 1).unwrap();
    sleeper.join().unwrap();
    assert_eq!(ours.began.load(Ordering::Acquire), 1);
}

#[test]
fn waking_all_sleepers_wakes_all_of_them() {
    let word = std::sync::Arc::new(AtomicU32::new(0));
    let sleep = |word: &AtomicU32| {
        while word.load(Ordering::Acquire) == 0 {
            futex::wait(word, 0, None).unwrap();
        }
    };
    let sleepers: Vec<_> = (0..3)
        .map(|_| {
            let word = word.clone();
            std::thread::spawn(move || sleep(&word))
        })
        .collect();
    // Whoever is not asleep yet sees the word instead.
    word.store(1, Ordering::Release);
    futex::wake(&word, u32::MAX).unwrap();
    sleepers
        .into_iter()
        .for_each(|sleeper| sleeper.join().unwrap());
}

#[test]
fn a_futex_whose_word_has_changed_does_not_sleep() {
    let word = AtomicU32::new(5);
    assert!(futex::wait(&word, 4, None).unwrap());
    assert!(!futex::wait(&word, 5, Some(Duration::from_millis(1))).unwrap());
}

#[test]
fn a_control_page_of_another_size_or_magic_is_refused() {
    let short = memfd::from_bytes("page", &[0; 100], false).unwrap();
    let error = mapping::map_control_page(short.as_fd()).unwrap_err();
    assert!(error.to_string().contains("size"), "{error}");
    let blank = memfd::from_bytes("page", &[0; 4096], false).unwrap();
    let error = mapping::map_control_page(blank.as_fd()).unwrap_err();
    assert!(error.to_string().contains("magic"), "{error}");
    let (page, words) = mapping::create_control_page().unwrap();
    words.version.store(99, Ordering::Relaxed);
    let error = mapping::map_control_page(page.as_fd()).unwrap_err();
    assert!(error.to_string().contains("version"), "{error}");
    assert!(
        rustix::fs::ftruncate(&page, 0).is_err(),
        "its size is sealed"
    );
}

#[test]
fn h11_a_block_is_mapped_where_it_belongs_or_not_at_all() {
    const ADDRESS: u64 = 0x2a00_0000_0000;
    let fd = memfd::from_bytes("block", &[7; 8192], false).unwrap();
    let block = mapping::map_block_fixed(fd.as_fd(), ADDRESS, 8192).unwrap();
    assert_eq!(block.as_ptr().addr() as u64, ADDRESS);
    assert_eq!(block.len(), 8192);
    let error = mapping::map_block_fixed(fd.as_fd(), ADDRESS + 4096, 4096).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::AlreadyExists);
    if let Err(error) = block.populate() {
        eprintln!("skipped in part: populate: {error}");
    }
    drop(block);
    let block = mapping::map_block_fixed(fd.as_fd(), ADDRESS + 4096, 4096).unwrap();
    assert_eq!(block.leak().addr() as u64, ADDRESS + 4096);
    assert!(
        mapping::map_block_fixed(fd.as_fd(), ADDRESS, 8192).is_err(),
        "leaked stays mapped"
    );
}

#[test]
fn a_block_that_would_fault_or_is_misaligned_is_refused() {
    let fd = memfd::from_bytes("block", &[0; 4096], false).unwrap();
    let map = |address, size| mapping::map_block_fixed(fd.as_fd(), address, size).map(drop);
    assert!(map(0x2b00_0000_0000, 8192).is_err(), "longer than the file");
    assert!(map(0x2b00_0000_0001, 4096).is_err());
    assert!(map(0x2b00_0000_0000, 100).is_err());
    assert!(map(0x2b00_0000_0000, 0).is_err());
    assert!(map(0, 4096).is_err());
}

#[test]
fn shared_bytes_reach_the_file() {
    let file = tempfile::tempfile().unwrap();
    file.set_len(8192).unwrap();
    assert!(mapping::map_shared(file.as_fd(), 8193, true).is_err());
    let bytes = mapping::map_shared(file.as_fd(), 8192, true).unwrap();
    rustix::io::pwrite(&file, b"x", 5000).unwrap();
    bytes.flush(4097..5001).unwrap();
    assert!(bytes.flush(0..8193).is_err());
    let view = mapping::map_shared(file.as_fd(), 8192, false).unwrap();
    assert_eq!((bytes.len(), view.len()), (8192, 8192));
    assert_ne!(bytes.as_ptr(), view.as_ptr());
}

#[test]
fn a_frame_arrives_whole_with_its_fds_closed_on_exec() {
    let (a, b) = seqpacket::pair().unwrap();
    let file = memfd::from_bytes("passed", b"hello", false).unwrap();
    seqpacket::send(&a, b"frame", &[file.as_fd(), a.as_fd()]).unwrap();
    seqpacket::send(&a, b"next", &[]).unwrap();
    let mut buffer = [0; 64];
    let got = seqpacket::recv(&b, &mut buffer, 2).unwrap();
    assert_eq!(
        (&buffer[..got.len], got.fds.len(), got.truncated),
        (&b"frame"[..], 2, false)
    );
    assert!(
        rustix::io::fcntl_getfd(&got.fds[0])
            .unwrap()
            .contains(rustix::io::FdFlags::CLOEXEC)
    );
    let mut text = [0; 5];
    rustix::io::pread(&got.fds[0], &mut text, 0).unwrap();
    assert_eq!(&text, b"hello");
    let got = seqpacket::recv(&b, &mut buffer, 2).unwrap();
    assert_eq!((&buffer[..got.len], got.fds.len()), (&b"next"[..], 0));
}

#[test]
fn a_frame_that_is_peeked_at_stays_with_its_fds_until_it_is_discarded() {
    let (a, b) = seqpacket::pair().unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    seqpacket::send(&a, b"first", &[writer.as_fd()]).unwrap();
    seqpacket::send(&a, b"next", &[]).unwrap();
    drop(writer);
    let mut buffer = [0; 16];
    for _ in 0..3 {
        let seen = seqpacket::peek(&b, &mut buffer, 1).unwrap();
        assert_eq!((&buffer[..seen.len], seen.fds.len()), (&b"first"[..], 1));
        let cut = seqpacket::peek(&b, &mut buffer[..2], 1).unwrap();
        assert!(cut.truncated && cut.fds.is_empty());
    }
    seqpacket::discard(&b).unwrap();
    // Nobody has the pipe's other end any more.
    assert_eq!(std::io::read_to_string(reader).unwrap(), "");
    let seen = seqpacket::peek(&b, &mut buffer, 1).unwrap();
    assert_eq!(&buffer[..seen.len], b"next");
    seqpacket::discard(&b).unwrap();
    for error in [
        seqpacket::peek(&b, &mut buffer, 1).unwrap_err(),
        seqpacket::discard(&b).unwrap_err(),
    ] {
        assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
    }
    drop(a);
    assert!(seqpacket::peek(&b, &mut buffer, 1).unwrap().is_closed());
}

#[test]
fn a_frame_that_is_too_long_or_brings_too_many_fds_is_reported_and_its_fds_closed() {
    let (a, b) = seqpacket::pair().unwrap();
    let (watched, passed) = rustix::pipe::pipe().unwrap();
    let send = |frame: &[u8], count: usize| {
        seqpacket::send(&a, frame, &vec![passed.as_fd(); count]).unwrap();
    };
    let mut buffer = [0; 8];
    for (frame, count, allowed) in [
        (&b"far too long"[..], 1, 1),
        (b"x", 1, 0),
        (b"x", 2, 1),
        (b"x", 16, 3),
    ] {
        send(frame, count);
        let got = seqpacket::recv(&b, &mut buffer, allowed).unwrap();
        assert!(got.truncated, "{count} fds where {allowed} are allowed");
        assert!(got.fds.is_empty());
    }
    drop(passed);
    // With every writer closed, a pipe is at its end: nothing that was passed is still open.
    assert_eq!(rustix::io::read(&watched, &mut buffer).unwrap(), 0);
}

#[test]
fn a_closed_peer_is_seen_and_costs_no_signal() {
    let (a, b) = seqpacket::pair_nonblocking_first().unwrap();
    let mut buffer = [0; 8];
    let error = seqpacket::recv(&a, &mut buffer, 0).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
    let error = seqpacket::recv_dontwait(&b, &mut buffer, 0).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
    drop(b);
    assert!(seqpacket::recv(&a, &mut buffer, 0).unwrap().is_closed());
    let error = seqpacket::send(&a, b"x", &[]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::BrokenPipe);
}

#[test]
fn a_full_queue_does_not_block_who_will_not_wait() {
    let (a, _b) = seqpacket::pair().unwrap();
    let full = (0..100_000).find_map(|_| seqpacket::send_dontwait(&a, &[0; 64], &[]).err());
    assert_eq!(full.unwrap().kind(), std::io::ErrorKind::WouldBlock);
}

#[test]
fn signals_are_read_from_an_fd_with_their_sender() {
    let fd = signals::SignalFd::new(&[Signal::USR2]).unwrap();
    assert_eq!(fd.read().unwrap(), None);
    // To this thread: another thread of the test harness has the signal unblocked.
    let tid = rustix::thread::gettid();
    send_to_thread(tid.as_raw_nonzero().get());
    let mut fds = [process::PollFd::new(&fd, process::PollFlags::IN)];
    assert_eq!(process::poll(&mut fds, Some(20_000)).unwrap(), 1);
    assert_eq!(fd.read().unwrap(), Some((Signal::USR2, std::process::id())));
    assert_eq!(fd.read().unwrap(), None);
    assert!(fd.raw() >= 0 && fd.as_fd().as_raw_fd() == fd.raw());
}

#[allow(unsafe_code)]
fn send_to_thread(tid: i32) {
    // SAFETY: a signal that this thread has blocked.
    let result = unsafe { libc::syscall(libc::SYS_tgkill, std::process::id(), tid, libc::SIGUSR2) };
    assert_eq!(result, 0);
}

#[test]
fn descendants_are_found_without_cgroups() {
    let script = "sleep 1000 & echo; wait";
    let mut child = std::process::Command::new("sh")
        .args(["-c", script])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = [0; 1];
    rustix::io::read(child.stdout.as_ref().unwrap(), &mut line).unwrap();
    let own = children::children_of(std::process::id()).unwrap();
    assert!(own.contains(&child.id()), "{own:?}");
    let below = children::descendants_of(child.id()).unwrap();
    assert_eq!(below.len(), 1, "{below:?}");
    assert_eq!(children::children_of(child.id()).unwrap(), below);
    let grandchild = PidFd::open(below[0]).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    grandchild.send_signal(Signal::KILL).unwrap();
    assert!(children::children_of(u32::MAX).is_err());
}

#[test]
fn small_questions_are_answered() {
    assert!(process::is_tmpfs(std::path::Path::new("/dev/shm")).unwrap());
    assert!(!process::is_tmpfs(std::path::Path::new("/proc")).unwrap());
    assert!(process::raise_nofile_limit(0).unwrap() >= 256);
    assert_eq!(process::getuid(), rustix::process::getuid().as_raw());
    let (a, _b) = seqpacket::pair().unwrap();
    let peer = process::peer_credentials(a.as_fd()).unwrap();
    assert_eq!((peer.0, peer.1), (std::process::id(), process::geteuid()));
    process::set_name("refrain-a-name-that-is-long").unwrap();
    let comm = std::fs::read_to_string("/proc/thread-self/comm").unwrap();
    assert_eq!(comm.trim(), "refrain-a-name-");
    assert!(process::set_name("a\0b").is_err());
}

#[test]
fn an_fd_is_made_nonblocking_and_blocking_again() {
    let (a, _b) = seqpacket::pair().unwrap();
    let is = || {
        rustix::fs::fcntl_getfl(&a)
            .unwrap()
            .contains(rustix::fs::OFlags::NONBLOCK)
    };
    process::set_nonblocking(&a, true).unwrap();
    assert!(is());
    process::set_nonblocking(&a, false).unwrap();
    assert!(!is());
}
