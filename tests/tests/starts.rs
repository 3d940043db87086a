//! How lives start (DESIGN section 1): standby, template or exec, chosen by what the program
//! allows and shown by `aps`.
#![allow(clippy::unwrap_used)] // in the helpers of tests, too

use std::fs;
use std::path::Path;
use std::process::Command;

use refrain_tests::programs::{c_program, c_source, compile, installed};
use refrain_tests::{Options, Site, proc, run};
use rustix::process::Signal;

/// Runs `program OUT` in group 1, takes it through three crashes and returns the lines of OUT,
/// one a life. `start` is how `aps` must say that it starts.
fn four_lives(site: &Site, program: &Path, start: &str) -> Vec<String> {
    let name = program.file_name().unwrap().to_str().unwrap().to_owned();
    let out = site.file("out").display().to_string();
    site.arun(["-g", "1", program.to_str().unwrap(), &out]);
    for life in 0..3 {
        site.wait_lines("out", life as usize + 1);
        let row = site.runs_with_standby(&name, life);
        assert_eq!(row.start.as_deref(), Some(start), "{row:?}");
        // Deleting the file after the first start changes nothing.
        let _ = fs::remove_file(program);
        proc::kill(row.pid(), Signal::SEGV);
    }
    site.runs(&name, 3);
    site.wait_lines("out", 4)
}

fn field<'a>(line: &'a str, name: &str) -> &'a str {
    let found = line
        .split(' ')
        .find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
    found.unwrap_or_else(|| panic!("no {name} in {line}"))
}

/// Same place, fresh data, right life number in each line of `whereabouts`.
fn assert_same_place(lines: &[String], program: &Path) {
    for (life, line) in lines.iter().enumerate() {
        assert_eq!(field(line, "life"), life.to_string());
        assert_eq!(
            field(line, "value"),
            "42",
            "initialised data is that of the image"
        );
        for place in ["code", "data"] {
            assert_eq!(
                field(line, place),
                field(&lines[0], place),
                "{place} in life {life}"
            );
        }
        assert_eq!(field(line, "argv0"), program.to_str().unwrap());
    }
}

#[test]
fn h30_a_dynamic_c_program_starts_from_a_standby() {
    let site = Site::start();
    let program = c_program("whereabouts", site.dir());
    let lines = four_lives(&site, &program, "standby");
    assert_same_place(&lines, &program);
    let exe = program.to_str().unwrap();
    assert!(
        lines.iter().all(|line| field(line, "exe") == exe),
        "/proc/self/exe: {lines:?}"
    );
}

#[test]
fn h11_a_program_that_is_not_position_independent_starts_too() {
    let site = Site::start();
    let program = compile(
        "cc",
        "whereabouts",
        site.dir(),
        "fixed",
        &["-no-pie", "-fno-pie"],
    );
    assert_same_place(&four_lives(&site, &program, "standby"), &program);
}

#[test]
fn h1_a_static_glibc_program_starts_by_exec() {
    let site = Site::start();
    let program = compile("cc", "whereabouts", site.dir(), "static", &["-static"]);
    assert_same_place(&four_lives(&site, &program, "exec"), &program);
}

#[test]
fn h1_a_static_musl_program_starts_by_exec() {
    if installed("musl-gcc").is_none() {
        return;
    }
    let site = Site::start();
    let program = compile("musl-gcc", "whereabouts", site.dir(), "musl", &["-static"]);
    assert_same_place(&four_lives(&site, &program, "exec"), &program);
}

#[test]
fn h1_a_go_program_starts_by_exec() {
    let Some(go) = installed("go") else { return };
    let site = Site::start();
    let program = site.file("hello");
    let source = c_source("hello").with_extension("go");
    let mut build = Command::new(go);
    build.args(["build", "-o"]).arg(&program).arg(source);
    // No cgo: statically linked. A cache of the test's own: it may have no home.
    build
        .env("CGO_ENABLED", "0")
        .env("GOCACHE", site.file("cache"))
        .env("GO111MODULE", "off");
    let _ = run::to_end(&mut build, None).expect_ok("go build");
    let lines = four_lives(&site, &program, "exec");
    assert_eq!(lines, ["go life 0", "go life 1", "go life 2", "go life 3"]);
}

#[test]
fn h1_a_program_whose_constructor_starts_a_thread_starts_by_exec() {
    let site = Site::start();
    let program = compile(
        "cc",
        "constructor_thread",
        site.dir(),
        "threaded",
        &["-pthread"],
    );
    let lines = four_lives(&site, &program, "exec");
    assert!(
        lines.iter().all(|line| line == "threads 2"),
        "its thread is there: {lines:?}"
    );
}

#[test]
fn h1_a_library_found_by_origin_is_found() {
    let site = Site::start();
    let library = site.file("lib");
    fs::create_dir(&library).unwrap();
    let shared = compile(
        "cc",
        "origin_library",
        &library,
        "libanswer.so",
        &["-shared", "-fPIC"],
    );
    let flags = [shared.to_str().unwrap(), "-Wl,-rpath,$ORIGIN/lib"];
    let program = compile("cc", "origin", site.dir(), "origin", &flags);
    let lines = four_lives(&site, &program, "standby");
    assert!(lines.iter().all(|line| line == "answer 42"), "{lines:?}");
}

#[test]
fn h1_a_cplusplus_program_that_throws_is_restarted() {
    if installed("c++").is_none() {
        return;
    }
    let site = Site::start();
    let source = "#include <cstdlib>\n#include <stdexcept>\n#include <unistd.h>\nint main() {\n\
                  if (std::getenv(\"REFRAIN_LIFE\")[0] == '0') throw std::runtime_error(\"refrain\");\n\
                  for (;;) pause(); }\n";
    let source = site.write("throws.cc", source);
    let program = site.file("throws");
    let mut compiler = Command::new("c++");
    let _ = run::to_end(compiler.arg("-o").arg(&program).arg(source), None).expect_ok("c++");
    site.arun(["-g", "1", program.to_str().unwrap()]);
    let row = site.runs("throws", 1);
    assert!(
        row.last_end.as_deref().unwrap().contains("SIGABRT"),
        "{row:?}"
    );
    // The first life may have ended before the next one was asleep.
    let start = row.start.as_deref().unwrap();
    assert!(["standby", "template"].contains(&start), "{row:?}");
}

#[test]
fn h1_a_script_is_run_by_its_interpreter_with_its_bytes_in_the_image() {
    let Some(python) = installed("python3") else {
        return;
    };
    let site = Site::start();
    let text = format!(
        "#!{}\nimport os, sys, time\nwith open(sys.argv[1], 'a') as f:\n    \
         f.write('life %s' % os.environ['REFRAIN_LIFE'] + chr(10))\ntime.sleep(100000)\n",
        python.display()
    );
    let script = site.write("script.py", text);
    executable(&script);
    let lines = four_lives(&site, &script, "standby");
    assert_eq!(lines, ["life 0", "life 1", "life 2", "life 3"]);
}

#[test]
fn h1_a_shell_script_by_way_of_env_is_run() {
    let site = Site::start();
    let text = "#!/usr/bin/env sh\necho \"life $REFRAIN_LIFE\" >> \"$1\"\nexec sleep 100000\n";
    let script = site.write("script", text);
    executable(&script);
    let lines = four_lives(&site, &script, "standby");
    assert_eq!(lines, ["life 0", "life 1", "life 2", "life 3"]);
}

fn executable(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn h1_a_bare_name_is_looked_for_along_path() {
    let site = Options::new().start();
    site.ok("arun -g 1 sleep 100000");
    assert_eq!(
        proc::text(site.runs("sleep", 0).pid(), "cmdline"),
        "sleep\n100000\n"
    );
    let refusal = site.refused("arun -g 1 no-such-program-anywhere");
    assert!(refusal.contains("no-such-program-anywhere"), "{refusal}");
}

#[test]
fn invariant_1_the_standby_never_runs_the_programs_code_before_it_is_woken() {
    let site = Site::start();
    site.actor(1, "me", "crasher", &["say", "ran", "park"]);
    let row = site.runs("me", 0);
    site.wait_lines("me", 1);
    // A standby may be there by now or not; whatever there is has said nothing.
    let lives = site.lines("me").len();
    assert_eq!(lives, 1);
    proc::kill(row.pid(), Signal::KILL);
    site.wait_lines("me", 2);
    assert_eq!(site.runs("me", 1).restarts, 1);
    assert_eq!(site.lines("me").len(), 2);
}
