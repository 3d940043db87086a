//! What a life finds when it begins: its arguments, environment, fds, addresses. With small C programs, compiled here.
#![allow(clippy::unwrap_used)] // helpers of tests are tests too

mod support;

use std::fs;

use refrain_image::{Image, StartKind};
use refrain_sys::WaitStatus;
use support::{Actor, c_string, compile, installed, program, program_of};

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
    let expected = format!("{real}\n5 {start}\n{real}\n/usr\n{real}\n{link}\n-1 1\n1\nlink\n");
    assert_eq!(actor.run(0).0, expected);
}

#[test]
fn h12_a_life_holds_three_fds_and_its_socket_and_blocks_no_signal() {
    let Some(shell) = installed("sh") else { return };
    // The shell itself looks: a child of it would show what the shell blocks while it waits.
    let script = "while read line; do case $line in SigBlk*|SigIgn*) echo $line; esac; \
                  done < /proc/self/status; \
                  ls -l /proc/$$/fd; \
                  umask; pwd; ulimit -n";
    let mut program = program(&shell, &["-c", script]);
    program.cwd = "/usr".into();
    program.umask = Some(0o077);
    program.rlimits.push((7, 128, 128));
    for start in [StartKind::Template, StartKind::Exec] {
        let mut actor = Actor::start_by(&program, start);
        let (text, _) = actor.run(0);
        let name = |line: &'_ str| -> Option<String> {
            let (front, target) = line.split_once(" -> ")?;
            Some(format!("{} -> {target}", front.rsplit(' ').next()?))
        };
        let fds: Vec<String> = text.lines().filter_map(name).collect();
        assert_eq!(fds.len(), 4, "{start:?}: {text}");
        assert!(fds[0].starts_with("0 -> /dev/null"), "{text}");
        assert!(
            fds[1].starts_with("1 -> pipe:") && fds[2].starts_with("2 -> pipe:"),
            "{text}"
        );
        assert!(fds[3].contains("-> socket:"), "{text}");
        let rest: Vec<&str> = text
            .lines()
            .filter(|line| !line.contains("->") && !line.starts_with("total"))
            .collect();
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
