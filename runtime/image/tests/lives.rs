//! What a life finds when it begins: its arguments, environment, fds, addresses; and what the
//! controller hears of it. With small C programs, compiled here.
#![allow(clippy::unwrap_used)] // helpers of tests are tests too

mod support;

use std::fs;
use std::os::fd::AsFd;
use std::sync::atomic::Ordering;

use refrain_abi::template::{FromTemplate, StartFrame};
use refrain_abi::{LifeNo, Serial};
use refrain_image::{Image, StartKind, choose_start};
use refrain_sys::{PidFd, Signal, WaitStatus};
use support::{Actor, WATCHDOG_MS, c_string, compile, installed, program, program_of};

const ADDRESSES: &str = r#"
#include <stdio.h>
#include <stdlib.h>
#include <dlfcn.h>
int global = 7;
int main(int argc, char **argv) {
    int local;
    printf("%p %p %p %p %p %d\n", main, &global, &local, malloc(100), printf, global++);
    return 3;
}
"#;

#[test]
fn h11_every_life_of_a_template_is_at_the_same_addresses_with_fresh_data() {
    let directory = tempfile::tempdir().unwrap();
    let Some(path) = compile(directory.path(), "addresses", ADDRESSES, &[]) else {
        return;
    };
    let mut actor = Actor::start(&program(&path, &[]));
    let (first, status) = actor.run(0);
    assert_eq!(status, WaitStatus::from_exit(3));
    assert!(first.ends_with(" 7\n"), "{first}");
    for life in 1..5 {
        assert_eq!(actor.run(life), (first.clone(), status));
    }
}

#[test]
fn h11_every_life_by_exec_is_at_the_same_addresses_too() {
    let directory = tempfile::tempdir().unwrap();
    let Some(path) = compile(directory.path(), "addresses", ADDRESSES, &[]) else {
        return;
    };
    let mut actor = Actor::start_by(&program(&path, &[]), StartKind::Exec);
    let first = actor.run(0);
    assert_eq!(first.1, WaitStatus::from_exit(3));
    assert_eq!(actor.run(1), first);
}

#[test]
fn h10_deleting_the_file_changes_nothing_for_later_lives() {
    let directory = tempfile::tempdir().unwrap();
    let Some(path) = compile(directory.path(), "addresses", ADDRESSES, &[]) else {
        return;
    };
    let mut actor = Actor::start(&program(&path, &[]));
    let first = actor.run(0);
    fs::remove_file(&path).unwrap();
    assert_eq!(actor.run(1), first);
    assert_eq!(actor.run(2), first);
}

#[test]
fn h13_a_life_finds_its_number_its_fd_and_nothing_else_of_refrain() {
    let Some(path) = installed("env") else { return };
    for start in [StartKind::Template, StartKind::Exec] {
        let mut program = program(&path, &[]);
        program.envp.push(c_string("REFRAIN_LIFE=old"));
        program.envp.push(c_string("REFRAIN_OF_MY_OWN=x"));
        let mut actor = Actor::start_by(&program, start);
        for life in [0, 1, 4_294_967_295] {
            let (text, status) = actor.run(life);
            assert_eq!(status, WaitStatus::from_exit(0));
            let mut lines: Vec<&str> = text.lines().collect();
            let fd = lines.pop().unwrap();
            assert!(fd.starts_with("REFRAIN_FD="), "{text}");
            let number = format!("REFRAIN_LIFE={life}");
            let path = "PATH=/usr/local/bin:/usr/bin:/bin";
            assert_eq!(
                lines,
                [path, "HOME=/tmp", "COLOUR=blue", &number],
                "{start:?}"
            );
        }
    }
}

#[test]
fn the_loaders_variables_are_the_users_own_again() {
    let directory = tempfile::tempdir().unwrap();
    let source = "int answer(void) { return 42; }";
    let flags = ["-shared", "-fPIC"];
    let Some(library) = compile(directory.path(), "libuser.so", source, &flags) else {
        return;
    };
    // A child of the life must see them as well: it is told by printenv, run by sh.
    let Some(shell) = installed("sh") else { return };
    let script = "env | grep -c REFRAIN_USER; printenv LD_PRELOAD LD_LIBRARY_PATH LD_BIND_NOW; \
                  tr '\\0' '\\n' < /proc/$$/environ | grep -c -e REFRAIN -e /proc/self/fd";
    let mut program = program(&shell, &["-c", script]);
    let preload = format!("LD_PRELOAD={}", library.display());
    program
        .envp
        .extend([c_string(&preload), c_string("LD_LIBRARY_PATH=/nowhere")]);
    let mut actor = Actor::start(&program);
    let (text, _) = actor.run(0);
    assert_eq!(text, format!("0\n{}\n/nowhere\n0\n", library.display()));
}

#[test]
fn constructors_see_nothing_of_refrain_either() {
    let directory = tempfile::tempdir().unwrap();
    let library = r#"
        #include <stdio.h>
        #include <string.h>
        extern char **environ;
        static int traces;
        static int count(char **list) {
            int n = 0;
            for (char **e = list; e && *e; e++) n += strstr(*e, "REFRAIN") || !strncmp(*e, "LD_", 3);
            return n;
        }
        __attribute__((constructor)) static void look(int argc, char **argv, char **envp) {
            traces = count(envp) + count(environ);
        }
        int seen(void) { return traces; }
    "#;
    let main = r#"
        #include <stdio.h>
        #include <stdlib.h>
        int seen(void);
        static int traces;
        __attribute__((constructor)) static void look(void) { traces = !!getenv("LD_PRELOAD"); }
        int main(void) { printf("%d %d\n", seen(), traces); }
    "#;
    let flags = ["-shared", "-fPIC"];
    let Some(_) = compile(directory.path(), "libseen.so", library, &flags) else {
        return;
    };
    let here = format!("-L{}", directory.path().display());
    let flags = [
        &here,
        "-Wl,--no-as-needed",
        "-l:libseen.so",
        "-Wl,-rpath,$ORIGIN",
    ];
    let path = compile(directory.path(), "main", main, &flags).unwrap();
    let mut actor = Actor::start(&program(&path, &[]));
    assert_eq!(actor.run(0).0, "0 0\n");
}

#[test]
fn a_library_beside_the_program_is_found_although_the_image_is_in_memory() {
    let directory = tempfile::tempdir().unwrap();
    let libraries = directory.path().join("lib");
    fs::create_dir(&libraries).unwrap();
    let flags = ["-shared", "-fPIC"];
    let source = "int answer(void) { return 42; }";
    let Some(_) = compile(&libraries, "libanswer.so", source, &flags) else {
        return;
    };
    let main = "int answer(void); int main(void) { return answer(); }";
    let here = format!("-L{}", libraries.display());
    let flags = [&here, "-l:libanswer.so", "-Wl,-rpath,${ORIGIN}/lib"];
    let path = compile(directory.path(), "main", main, &flags).unwrap();
    for start in [StartKind::Template, StartKind::Exec] {
        let mut actor = Actor::start_by(&program(&path, &[]), start);
        assert_eq!(actor.run(0).1, WaitStatus::from_exit(42), "{start:?}");
    }
}

#[test]
fn a_program_that_looks_for_itself_finds_its_path() {
    let directory = tempfile::tempdir().unwrap();
    let source = r#"
        #define _GNU_SOURCE
        #include <errno.h>
        #include <fcntl.h>
        #include <limits.h>
        #include <stdio.h>
        #include <stdlib.h>
        #include <string.h>
        #include <sys/auxv.h>
        #include <unistd.h>
        int main(int argc, char **argv) {
            char buffer[PATH_MAX] = "", own[64];
            ssize_t n = readlink("/proc/self/exe", buffer, sizeof buffer);
            printf("%.*s\n", (int)n, buffer);
            snprintf(own, sizeof own, "/proc/%d/exe", getpid());
            n = readlinkat(AT_FDCWD, own, buffer, 5);
            printf("%zd %.*s\n", n, (int)n, buffer);
            char *real = realpath("/proc/self/exe", NULL);
            puts(real);
            puts(realpath("/usr/../usr", buffer));
            puts((char *)getauxval(AT_EXECFN));
            puts(argv[0]);
            errno = 0;
            n = readlink("/nonexistent", buffer, 10);
            printf("%zd %d\n", n, errno == ENOENT);
            int fd = open("/proc/self/exe", O_RDONLY);
            printf("%d\n", read(fd, buffer, 4) == 4 && !memcmp(buffer, "\x7f" "ELF", 4));
            FILE *comm = fopen("/proc/self/comm", "r");
            fgets(buffer, sizeof buffer, comm);
            printf("%s", buffer);
        }
    "#;
    let Some(path) = compile(directory.path(), "looker", source, &[]) else {
        return;
    };
    let link = directory.path().join("link");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    let mut actor = Actor::start(&program(&link, &[]));
    fs::remove_file(&path).unwrap();
    let real = directory.path().canonicalize().unwrap().join("looker");
    let (real, link) = (real.display(), link.display());
    let start = real.to_string()[..5].to_owned();
    let expected = format!("{real}\n5 {start}\n{real}\n/usr\n{real}\n{link}\n-1 1\n1\nlooker\n");
    assert_eq!(actor.run(0).0, expected);
}

#[test]
fn h12_a_life_holds_three_fds_and_its_socket_and_blocks_no_signal() {
    let Some(shell) = installed("sh") else { return };
    // The shell itself looks: a child of it would show what the shell blocks while it waits.
    let script = "while read line; do case $line in SigBlk*|SigIgn*) echo $line; esac; \
                  done < /proc/self/status; \
                  ls -l /proc/$$/fd | sed -n 's/.* \\([0-9]* -> .*\\)/\\1/p'; \
                  umask; pwd; ulimit -n";
    let mut program = program(&shell, &["-c", script]);
    program.cwd = "/usr".into();
    program.umask = Some(0o077);
    program.rlimits.push((7, 128, 128));
    for start in [StartKind::Template, StartKind::Exec] {
        let mut actor = Actor::start_by(&program, start);
        let (text, _) = actor.run(0);
        let fds: Vec<&str> = text.lines().filter(|line| line.contains("->")).collect();
        assert_eq!(fds.len(), 4, "{start:?}: {text}");
        assert!(fds[0].starts_with("0 -> /dev/null"), "{text}");
        assert!(
            fds[1].starts_with("1 -> pipe:") && fds[2].starts_with("2 -> pipe:"),
            "{text}"
        );
        assert!(fds[3].contains("-> socket:"), "{text}");
        let rest: Vec<&str> = text.lines().filter(|line| !line.contains("->")).collect();
        let none = "0000000000000000";
        let (blocked, ignored) = (format!("SigBlk: {none}"), format!("SigIgn: {none}"));
        assert_eq!(
            rest,
            [&blocked, &ignored, "0077", "/usr", "128"],
            "{start:?}"
        );
    }
}

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
fn h7_an_image_in_place_is_the_file_itself() {
    let directory = tempfile::tempdir().unwrap();
    let Some(path) = compile(directory.path(), "addresses", ADDRESSES, &[]) else {
        return;
    };
    let image = Image::in_place(&path).unwrap();
    assert_eq!(image.size, 0);
    let mut actor = Actor::start(&program_of(image, &path, &[]));
    assert_eq!(actor.run(0).1, WaitStatus::from_exit(3));
    assert_eq!(actor.run(1).1, WaitStatus::from_exit(3));
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
    let mut tracer = std::process::Command::new(strace)
        .args(["-p", &standby.pid.to_string(), "-o"])
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
    let life = actor.wake(standby, 0);
    assert_eq!(actor.finish(life).1, WaitStatus::from_exit(0));
    tracer.wait().unwrap();
    let text = fs::read_to_string(&trace).unwrap();
    assert!(
        text.contains("recvmsg(") && text.contains("exit_group(0)"),
        "{text}"
    );
    for call in ["open", "stat", "access", "readlink", "mmap", "brk", "exec"] {
        assert!(!text.contains(call), "{call} on the restart path: {text}");
    }
}

#[test]
fn hundreds_of_lives_leave_nothing_in_the_template() {
    let Some(path) = installed("true") else {
        return;
    };
    let mut actor = Actor::start(&program(&path, &[]));
    let count = |what: &str| {
        fs::read_dir(format!("/proc/{}/{what}", actor.template.pid))
            .unwrap()
            .count()
    };
    let before = count("fd");
    for life in 0..300 {
        let standby = actor.standby();
        let life = actor.wake(standby, life);
        assert_eq!(actor.finish(life).1, WaitStatus::from_exit(0));
    }
    let after = fs::read_dir(format!("/proc/{}/fd", actor.template.pid))
        .unwrap()
        .count();
    assert_eq!(before, after);
    assert!(
        refrain_sys::children::children_of(actor.template.pid)
            .unwrap()
            .is_empty()
    );
    assert_eq!(actor.page.end_count.load(Ordering::Acquire), 300);
}
