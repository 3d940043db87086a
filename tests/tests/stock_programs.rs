//! Stock programs from a distribution, unmodified, as the second scenario wants them:
//! they answer, are killed from outside, answer again from a standby, and are ended for good.
#![allow(clippy::unwrap_used)] // in the helpers of tests, too

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use refrain_tests::programs::{free_port, installed};
use refrain_tests::{Site, proc, run, wait};
use rustix::process::Signal;

/// What a server on `port` answers to `question`, `None` while it does not answer.
fn ask(port: u16, question: &str) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    stream.write_all(question.as_bytes()).ok()?;
    let mut answer = vec![0; 512];
    let count = stream.read(&mut answer).ok()?;
    (count > 0).then(|| String::from_utf8_lossy(&answer[..count]).into_owned())
}

/// Runs a server in group 1 and takes it through the scenario.
fn serve(name: &str, program: &Path, args: &[&str], port: u16, question: &str, wanted: &str) {
    let site = Site::start();
    serve_on(&site, name, program, args, port, question, wanted);
}

fn serve_on(
    site: &Site,
    name: &str,
    program: &Path,
    args: &[&str],
    port: u16,
    question: &str,
    wanted: &str,
) {
    let answers = |when: &str| {
        wait::until_true(&format!("{name} to answer {when}"), || {
            ask(port, question).is_some_and(|answer| answer.contains(wanted))
        });
    };
    let mut words = vec!["-g", "1", "-n", name, program.to_str().unwrap()];
    words.extend(args);
    let aid = site.arun(words);
    answers("in its first life");
    let first = site.runs_with_standby(name, 0);
    assert_eq!(
        (first.aid, first.start.as_deref()),
        (Some(aid), Some("standby")),
        "{first:?}"
    );

    proc::kill(first.pid(), Signal::SEGV);
    let second = site.runs(name, 1);
    answers("in its second life");
    assert_ne!((first.pid, first.aid), (second.pid, second.aid));
    assert_eq!(
        (second.restarts, second.start.as_deref()),
        (1, Some("standby"))
    );
    assert!(
        second.last_end.as_deref().unwrap().contains("SIGSEGV"),
        "{second:?}"
    );
    // The life that answers is the one that aps shows, and stays.
    assert_eq!(site.runs(name, 1).pid, second.pid);

    site.ok("akill -g 1");
    assert!(site.row(name).is_none());
    assert!(
        TcpStream::connect(("127.0.0.1", port)).is_err(),
        "it is ended for good"
    );
}

#[test]
fn h1_redis_answers_again_after_a_crash() {
    let Some(redis) = installed("redis-server") else {
        return;
    };
    let port = free_port();
    let args = ["--port", &port.to_string(), "--save", ""];
    serve("redis-server", &redis, &args, port, "PING\r\n", "+PONG");
}

#[test]
fn h1_nginx_answers_again_after_a_crash() {
    let Some(nginx) = installed("nginx") else {
        return;
    };
    let site = Site::start();
    let port = free_port();
    let dir = site.dir().display();
    let conf = format!(
        "pid {dir}/nginx.pid; error_log {dir}/error.log; worker_processes 2; user root;\n\
         events {{ }}\n\
         http {{ access_log off; client_body_temp_path {dir}/b; proxy_temp_path {dir}/p;\n\
         fastcgi_temp_path {dir}/f; uwsgi_temp_path {dir}/u; scgi_temp_path {dir}/s;\n\
         server {{ listen 127.0.0.1:{port}; location / {{ return 200 \"refrain\"; }} }} }}\n"
    );
    let conf = site.write("nginx.conf", conf);
    let args = ["-c", conf.to_str().unwrap(), "-g", "daemon off;"];
    serve_on(
        &site,
        "nginx",
        &nginx,
        &args,
        port,
        "GET / HTTP/1.0\r\n\r\n",
        "200 OK",
    );
}

#[test]
fn h1_memcached_answers_again_after_a_crash() {
    let Some(memcached) = installed("memcached") else {
        return;
    };
    let port = free_port();
    let args = ["-u", "root", "-l", "127.0.0.1", "-p", &port.to_string()];
    serve(
        "memcached",
        &memcached,
        &args,
        port,
        "version\r\n",
        "VERSION",
    );
}

#[test]
fn h1_a_python_server_answers_again_after_a_crash() {
    let Some(python) = installed("python3") else {
        return;
    };
    let port = free_port();
    let args = [
        "-m",
        "http.server",
        &port.to_string(),
        "--bind",
        "127.0.0.1",
    ];
    serve(
        "python3",
        &python,
        &args,
        port,
        "GET / HTTP/1.0\r\n\r\n",
        "200 OK",
    );
}

#[test]
fn h1_node_answers_again_after_a_crash() {
    let Some(node) = installed("node") else {
        return;
    };
    let port = free_port();
    let script = format!(
        "require('http').createServer((q, a) => a.end('refrain')).listen({port}, '127.0.0.1')"
    );
    serve(
        "node",
        &node,
        &["-e", &script],
        port,
        "GET / HTTP/1.0\r\n\r\n",
        "200 OK",
    );
}

#[test]
fn h1_a_rust_program_that_panics_lives_again() {
    let site = Site::start();
    let port = free_port();
    let go = site.file("go").display().to_string();
    let words = [
        "listen",
        &port.to_string(),
        "on",
        "0",
        "wait",
        &go,
        "panic",
        "end",
        "park",
    ];
    site.actor(1, "panics", "crasher", &words);
    let answers = |wanted: &str| {
        wait::until_true(wanted, || ask(port, "").is_some_and(|a| a.contains(wanted)))
    };
    answers("life 0");
    let first = site.runs_with_standby("panics", 0);
    site.write("go", "");
    answers("life 1");
    let second = site.runs("panics", 1);
    assert_ne!((first.pid, first.aid), (second.pid, second.aid));
    assert_eq!(second.start.as_deref(), Some("standby"));
    site.ok("akill -g 1");
    assert!(site.aps().is_empty());
}

#[test]
fn h10_what_a_server_held_in_memory_only_is_gone_and_what_is_in_the_image_is_there() {
    let Some(redis) = installed("redis-server") else {
        return;
    };
    let Some(cli) = installed("redis-cli") else {
        return;
    };
    let site = Site::start();
    let port = free_port().to_string();
    let redis = redis.display().to_string();
    site.arun([
        "-g", "1", "-n", "redis", &redis, "--port", &port, "--save", "",
    ]);
    let ask = |words: &[&str]| {
        let mut command = std::process::Command::new(&cli);
        run::to_end(command.args(["-p", &port]).args(words), None)
    };
    wait::until_true("redis to answer", || ask(&["ping"]).out == "PONG\n");
    assert_eq!(ask(&["set", "key", "value"]).out, "OK\n");
    proc::kill(site.runs("redis", 0).pid(), Signal::SEGV);
    site.runs("redis", 1);
    wait::until_true("redis to answer again", || ask(&["ping"]).out == "PONG\n");
    assert_eq!(
        ask(&["get", "key"]).out,
        "\n",
        "heap is not persistent memory (SPEC H12)"
    );
}
