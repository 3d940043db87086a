//! A restart opens no file on stable storage (SPEC H10, DESIGN section 8, invariant 3): shown by a
//! system-call trace of everything that takes part in it.
#![allow(clippy::unwrap_used)] // in the helpers of tests, too

use refrain_tests::programs::{c_program, installed};
use refrain_tests::{Site, Tracer, proc};
use rustix::process::Signal;

/// Flags of strace for what opens a file or makes a process, written to the site's file `trace`.
fn flags(site: &Site) -> [String; 7] {
    let trace = site.file("trace").display().to_string();
    [
        "-y",
        "-s",
        "256",
        "-e",
        "trace=%file,%process,fork,vfork",
        "-o",
        &trace,
    ]
    .map(str::to_owned)
}

/// The paths in lines of a trace (of `strace -y`) that open or execute a file; a relative one
/// behind the folder that it is relative to.
fn opened(lines: &[String]) -> Vec<String> {
    let calls = [
        "open(",
        "openat(",
        "openat2(",
        "creat(",
        "execve(",
        "execveat(",
    ];
    let opens = lines
        .iter()
        .filter(|line| calls.iter().any(|call| line.contains(call)));
    let path = |line: &String| {
        let (before, rest) = line.split_once('"')?;
        let path = rest.split('"').next()?;
        let folder = || {
            before
                .rsplit_once('<')?
                .1
                .split_once('>')
                .map(|(folder, _)| folder)
        };
        match folder() {
            Some(folder) if !path.starts_with('/') => Some(format!("{folder}/{path}")),
            _ => Some(path.to_owned()),
        }
    };
    opens.filter_map(path).collect()
}

/// Whether a path is on no stable storage: the kernel's own file systems and the bank on tmpfs.
fn is_volatile(path: &str, bank: &str) -> bool {
    let kernel = [
        "/proc/",
        "/sys/fs/cgroup/",
        "/dev/shm/",
        "/dev/null",
        "/memfd:",
    ];
    kernel.iter().any(|place| path.starts_with(place)) || path.starts_with(bank)
}

#[test]
fn h10_a_restart_opens_no_file_on_stable_storage() {
    if installed("strace").is_none() {
        return;
    }
    let site = Site::start();
    let program = c_program("faults", site.dir()).display().to_string();
    site.arun(["-g", "1", "-n", "plain", &program, "none"]);
    let groupie = refrain_tests::binaries::path("groupie")
        .display()
        .to_string();
    site.arun([
        "-g", "1", "-n", "member", &groupie, "-", "alloc", "b", "4096", "group", "park",
    ]);
    let plain = site.runs_with_standby("plain", 0);
    let member = site.runs_with_standby("member", 0);
    // The programs' files may go: nobody reads them any more.
    std::fs::remove_file(&program).unwrap();

    let mut pids = vec![site.controller_pid(), site.nucleus_pid()];
    for row in [&plain, &member] {
        let template = proc::stat(row.pid()).unwrap().parent;
        pids.extend(proc::family(template).iter().map(|stat| stat.id.pid));
    }
    let tracer = Tracer::attach(flags(&site), &pids).unwrap();
    for life in 0..3 {
        proc::kill(site.runs("plain", life).pid(), Signal::SEGV);
        site.runs("plain", life + 1);
        site.runs("member", life + 1);
    }
    tracer.detach();

    let lines = site.lines("trace");
    let killed = lines
        .iter()
        .filter(|line| line.contains("+++ killed by SIGSEGV"))
        .count();
    assert_eq!(killed, 3, "the trace shows the restarts");
    let forked = lines
        .iter()
        .any(|line| line.contains("clone") || line.contains("fork"));
    assert!(forked, "the trace shows the templates at work");
    let bank = site.bank().display().to_string();
    let stable: Vec<String> = opened(&lines)
        .into_iter()
        .filter(|path| !is_volatile(path, &bank))
        .collect();
    assert!(stable.is_empty(), "opened in a restart: {stable:#?}");
}

#[test]
fn the_reader_of_traces_sees_an_open() {
    let lines = [
        r#"12 openat(AT_FDCWD</work>, "/etc/passwd", O_RDONLY|O_CLOEXEC) = 3</etc/passwd>"#,
        r#"12 openat(7</dev/shm/bank>, "block-3", O_RDWR) = 4</dev/shm/bank/block-3>"#,
        r#"12 execveat(5</memfd:sleep>, "", ["sleep"], AT_EMPTY_PATH) = 0"#,
        "12 futex(0x7f) = 0",
    ];
    let paths = opened(&lines.map(str::to_owned));
    assert_eq!(
        paths,
        ["/etc/passwd", "/dev/shm/bank/block-3", "/memfd:sleep/"]
    );
    let volatile = paths.iter().map(|path| is_volatile(path, "/nowhere"));
    assert_eq!(volatile.collect::<Vec<_>>(), [false, true, true]);
}
