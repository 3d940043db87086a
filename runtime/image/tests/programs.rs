//! Programs that people have: Python, node, Rust, servers of the distribution, static ones, scripts.
//! What is not installed is skipped with a line that says so.
#![allow(clippy::unwrap_used)] // helpers of tests are tests too

mod support;

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use refrain_image::image::Linkage;
use refrain_image::{Program, StartKind, choose_start};
use refrain_sys::{Signal, WaitStatus};
use support::{Actor, WATCHDOG_MS, c_string, compile_by, installed, program, python};

#[test]
fn h1_python_runs_unmodified() {
    let Some(path) = python() else {
        return;
    };
    let script = "import sys, os, json, threading, socket\n\
                  t = threading.Thread(target=lambda: print('thread')); t.start(); t.join()\n\
                  print(os.path.realpath(sys.executable), os.environ['REFRAIN_LIFE'], sys.argv[1])";
    let mut actor = Actor::start(&program(&path, &["-c", script, "word"]));
    let real = path.canonicalize().unwrap();
    for life in 0..2 {
        let (text, status) = actor.run(life);
        assert_eq!(text, format!("thread\n{} {life} word\n", real.display()));
        assert_eq!(status, WaitStatus::from_exit(0));
    }
}

#[test]
fn h8_an_uncaught_exception_of_python_is_an_exit_code() {
    let Some(path) = python() else {
        return;
    };
    let mut actor = Actor::start(&program(&path, &["-c", "raise KeyError('gone')"]));
    let (text, status) = actor.run(0);
    assert!(text.contains("KeyError: 'gone'"), "{text}");
    assert_eq!(status, WaitStatus::from_exit(1));
}

#[test]
fn h1_node_runs_unmodified() {
    let Some(path) = installed("node") else {
        return;
    };
    let script = "setTimeout(() => console.log(process.execPath, process.env.REFRAIN_LIFE), 1)";
    let program = program(&path, &["-e", script]);
    let (actor, first) = Actor::begin(&program, choose_start(&program.image));
    drop(actor);
    assert_eq!(first, Some(refrain_abi::template::FromTemplate::Ready));
    let mut actor = Actor::start(&program);
    let real = path.canonicalize().unwrap();
    for life in 0..2 {
        let (text, status) = actor.run(life);
        assert_eq!(
            (text, status),
            (format!("{} {life}\n", real.display()), WaitStatus(0))
        );
    }
}

#[test]
fn h1_a_rust_program_runs_unmodified() {
    // This test binary is one; it is asked for a test that it does not have.
    let own = std::env::current_exe().unwrap();
    let mut actor = Actor::start(&program(&own, &["--exact", "no such test"]));
    for life in 0..2 {
        let (text, status) = actor.run(life);
        assert!(text.contains("running 0 tests"), "{text}");
        assert_eq!(status, WaitStatus::from_exit(0));
    }
}

/// Runs a server for two lives: each must serve on the same port, the second right after the first
/// was killed.
fn serves_twice(program: &Program, port: u16, ask: &[u8], answer: &str) {
    let mut actor = Actor::start(program);
    for number in 0..2 {
        let standby = actor.standby();
        let life = actor.wake(standby, number);
        let mut stream = loop {
            match TcpStream::connect(("127.0.0.1", port)) {
                Ok(stream) => break stream,
                Err(_) if life.pidfd.has_ended() => panic!("ended: {:?}", actor.finish(life)),
                Err(_) => std::thread::sleep(std::time::Duration::from_millis(5)),
            }
        };
        stream.write_all(ask).unwrap();
        let mut text = vec![0; answer.len()];
        stream.read_exact(&mut text).unwrap();
        assert_eq!(String::from_utf8_lossy(&text), answer);
        drop(stream);
        life.pidfd.send_signal(Signal::SEGV).unwrap();
        assert!(life.pidfd.wait_ended(Some(WATCHDOG_MS)).unwrap());
        assert!(actor.end_of(life.pid).exited() != Some(0));
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

#[test]
fn h1_redis_runs_unmodified() {
    let Some(path) = installed("redis-server") else {
        return;
    };
    let port = free_port();
    let words = [
        "--port",
        &port.to_string(),
        "--bind",
        "127.0.0.1",
        "--save",
        "",
        "--dir",
        "/tmp",
    ];
    serves_twice(&program(&path, &words), port, b"PING\r\n", "+PONG\r\n");
}

#[test]
fn h1_memcached_runs_unmodified() {
    let Some(path) = installed("memcached") else {
        return;
    };
    let port = free_port();
    let words = ["-p", &port.to_string(), "-l", "127.0.0.1", "-u", "nobody"];
    serves_twice(&program(&path, &words), port, b"version\r\n", "VERSION ");
}

#[test]
fn h1_nginx_runs_unmodified() {
    let Some(path) = installed("nginx") else {
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let port = free_port();
    let (root, config) = (
        directory.path().display(),
        directory.path().join("nginx.conf"),
    );
    let text = format!(
        "daemon off; master_process off; pid {root}/pid; error_log {root}/errors;\n\
         events {{}}\n\
         http {{ access_log off; client_body_temp_path {root}/a; proxy_temp_path {root}/b;\n\
         fastcgi_temp_path {root}/c; uwsgi_temp_path {root}/d; scgi_temp_path {root}/e;\n\
         server {{ listen 127.0.0.1:{port}; return 204; }} }}\n"
    );
    fs::write(&config, text).unwrap();
    let words = [
        "-p",
        &root.to_string(),
        "-c",
        config.to_str().unwrap(),
        "-e",
        "stderr",
    ];
    let ask = b"GET / HTTP/1.0\r\n\r\n";
    serves_twice(
        &program(&path, &words),
        port,
        ask,
        "HTTP/1.1 204 No Content",
    );
}

const STATIC: &str = r#"
    #include <stdio.h>
    #include <stdlib.h>
    int main(int argc, char **argv) {
        printf("%s %s %p\n", argv[1], getenv("REFRAIN_LIFE"), (void *)&argc);
        return 4;
    }
"#;

fn static_program_lives_twice(compiler: &str) {
    let directory = tempfile::tempdir().unwrap();
    let flags = ["-static"];
    let Some(path) = compile_by(compiler, directory.path(), "fixed", STATIC, &flags) else {
        return;
    };
    let program = program(&path, &["word"]);
    assert_eq!(program.image.linkage, Linkage::Static);
    assert_eq!(choose_start(&program.image), StartKind::Exec);
    fs::remove_file(&path).unwrap();
    let mut actor = Actor::start(&program);
    let (first, status) = actor.run(0);
    assert!(first.starts_with("word 0 0x"), "{first}");
    assert_eq!(status, WaitStatus::from_exit(4));
    // The same addresses: the layout is fixed.
    assert_eq!(actor.run(1).0, first.replace("word 0", "word 1"));
}

#[test]
fn a_static_program_runs_by_exec_of_its_image() {
    static_program_lives_twice("cc");
}

#[test]
fn a_static_musl_program_runs_by_exec_of_its_image() {
    static_program_lives_twice("musl-gcc");
}

#[test]
fn a_dynamic_musl_program_runs_as_a_template() {
    let directory = tempfile::tempdir().unwrap();
    let Some(path) = compile_by("musl-gcc", directory.path(), "musl", STATIC, &[]) else {
        return;
    };
    let program = program(&path, &["word"]);
    if choose_start(&program.image) != StartKind::Template {
        panic!("{:?}", program.image.linkage);
    }
    let mut actor = Actor::start(&program);
    let (first, status) = actor.run(0);
    assert!(first.starts_with("word 0 0x"), "{first}");
    assert_eq!(status, WaitStatus::from_exit(4));
    assert_eq!(actor.run(1).0, first.replace("word 0", "word 1"));
}

#[test]
fn a_go_program_runs() {
    if installed("go").is_none() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let source = "package main\nimport (\"fmt\"; \"os\")\n\
                  func main() { fmt.Println(os.Args[1], os.Getenv(\"REFRAIN_LIFE\")); os.Exit(6) }\n";
    let (file, path) = (
        directory.path().join("main.go"),
        directory.path().join("gopher"),
    );
    fs::write(&file, source).unwrap();
    let build = std::process::Command::new("go")
        .args(["build", "-o"])
        .args([&path, &file])
        .env("CGO_ENABLED", "0")
        .env("GOCACHE", directory.path().join("cache"))
        .env("GO111MODULE", "off")
        .output()
        .unwrap();
    assert!(
        build.status.success(),
        "{}",
        String::from_utf8_lossy(&build.stderr)
    );
    let mut actor = Actor::start(&program(&path, &["word"]));
    assert_eq!(
        actor.run(0),
        ("word 0\n".to_owned(), WaitStatus::from_exit(6))
    );
    assert_eq!(
        actor.run(1),
        ("word 1\n".to_owned(), WaitStatus::from_exit(6))
    );
}

fn write_script(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn h10_a_python_script_runs_and_imports_its_neighbour_after_it_was_deleted() {
    let Some(python) = python() else { return };
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("script.py");
    fs::write(directory.path().join("neighbour.py"), "word = 'beside'").unwrap();
    let text = "import sys, neighbour\nprint(neighbour.word, sys.argv[1:], __file__)\n";
    write_script(&path, &format!("#!{} -u\n{text}", python.display()));
    let program = program(&path, &["a", "b c"]);
    assert_eq!(choose_start(&program.image), StartKind::Template);
    fs::remove_file(&path).unwrap();
    let mut actor = Actor::start(&program);
    let expected = format!("beside ['a', 'b c'] {}\n", path.display());
    for life in 0..2 {
        assert_eq!(actor.run(life), (expected.clone(), WaitStatus(0)));
    }
}

#[test]
fn a_script_found_by_env_runs_even_where_its_interpreter_is_a_script() {
    if installed("python3").is_none() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("script.py");
    write_script(
        &path,
        "#!/usr/bin/env python3\nimport sys\nprint(sys.argv)\n",
    );
    let mut program = program(&path, &["word"]);
    program.envp = std::env::vars()
        .map(|(k, v)| c_string(&format!("{k}={v}")))
        .collect();
    let (text, status) = Actor::start(&program).run(0);
    assert_eq!(text, format!("['{}', 'word']\n", path.display()));
    assert_eq!(status, WaitStatus::from_exit(0));
}

#[test]
fn h10_a_shell_finds_the_name_and_the_bytes_of_its_script_after_it_was_changed() {
    let directory = tempfile::tempdir().unwrap();
    for shell in ["sh", "bash"] {
        let Some(shell) = installed(shell) else {
            continue;
        };
        let path = directory.path().join("script");
        write_script(&path, &format!("#!{}\necho $0 first\n", shell.display()));
        let mut actor = Actor::start(&program(&path, &[]));
        write_script(&path, "echo second\n");
        assert_eq!(actor.run(0).0, format!("{} first\n", path.display()));
        fs::remove_file(&path).unwrap();
        assert_eq!(actor.run(1).0, format!("{} first\n", path.display()));
    }
}

#[test]
fn a_shell_script_runs_with_the_argument_of_its_first_line() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("script");
    write_script(
        &path,
        "#! /bin/sh -e\necho $- $1 $(cat /proc/$$/comm)\nfalse\necho never\n",
    );
    let mut program = program(&path, &["word"]);
    fs::remove_file(&path).unwrap();
    program.envp.push(c_string("EXTRA=1"));
    let (text, status) = Actor::start(&program).run(0);
    assert_eq!(
        (text.as_str(), status),
        ("e word script\n", WaitStatus::from_exit(1))
    );
    // The same by exec, where the script is inherited through it.
    let (text, status) = Actor::start_by(&program, StartKind::Exec).run(0);
    assert!(text.starts_with("e word "), "{text}");
    assert_eq!(status, WaitStatus::from_exit(1));
}
