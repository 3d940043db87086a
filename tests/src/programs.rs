//! Programs to run as actors that are not this project's: compiled on the spot, or installed on
//! the machine. Called by the tests of starts, stock programs and bad input.

use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::run;

/// Compiles the C program `actors/c/SOURCE.c` into `dir/NAME` with the C compiler `compiler`.
///
/// # Panics
/// When it does not compile; Rust itself links with `cc`, so a C compiler is there.
#[must_use]
pub fn compile(compiler: &str, source: &str, dir: &Path, name: &str, flags: &[&str]) -> PathBuf {
    let path = dir.join(name);
    let mut command = Command::new(compiler);
    command
        .arg("-O1")
        .arg("-o")
        .arg(&path)
        .arg(c_source(source))
        .args(flags);
    let _ = run::to_end(&mut command, None).expect_ok("the C compiler");
    path
}

/// The C program `actors/c/SOURCE.c`, dynamically linked, in `dir` under its own name.
#[must_use]
pub fn c_program(source: &str, dir: &Path) -> PathBuf {
    compile("cc", source, dir, source, &[])
}

/// The path of a C source of this package.
#[must_use]
pub fn c_source(source: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("actors/c")
        .join(format!("{source}.c"))
}

/// Where an installed program is, along `PATH` and the places of daemons; `None`, and a visible
/// line, when it is not installed.
#[must_use]
pub fn installed(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places: Vec<PathBuf> = ["/usr/bin", "/usr/sbin", "/bin"].map(PathBuf::from).into();
    places.extend(std::env::split_paths(&path));
    let found = places
        .into_iter()
        .map(|place| place.join(name))
        .find(|path| path.is_file());
    if found.is_none() {
        skipped(&format!("{name} is not installed"));
    }
    found
}

/// Says that a test was skipped, past the test runner's capture of output.
pub fn skipped(why: &str) {
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("a test").to_owned();
    // Not being able to say so must not fail the test.
    let _ = writeln!(std::io::stderr(), "SKIPPED {test}: {why}");
}

/// A TCP port that nobody listens on at this moment.
///
/// # Panics
/// When the machine has none.
#[must_use]
pub fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("there is a free port");
    listener
        .local_addr()
        .expect("a listener has an address")
        .port()
}
