//! Programs to run as actors that are not this project's: compiled on the spot, or installed on
//! the machine. Called by the tests of starts, stock programs and bad input.

use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{binaries, run};

/// Compiles the C program `actors/c/SOURCE.c` into `dir/NAME` with the C compiler `compiler`.
///
/// # Panics
/// When it does not compile; Rust itself links with `cc`, so a C compiler is there.
#[must_use]
pub fn compile(compiler: &str, source: &str, dir: &Path, name: &str, flags: &[&str]) -> PathBuf {
    compile_file(compiler, &c_source(source), dir, name, flags)
}

/// Compiles any C program into `dir/NAME`.
///
/// # Panics
/// When it does not compile.
#[must_use]
pub fn compile_file(
    compiler: &str,
    source: &Path,
    dir: &Path,
    name: &str,
    flags: &[&str],
) -> PathBuf {
    let path = dir.join(name);
    let mut command = Command::new(compiler);
    command
        .arg("-O1")
        .arg("-o")
        .arg(&path)
        .arg(source)
        .args(flags);
    let _ = run::to_end(&mut command, None).expect_ok("the C compiler");
    path
}

/// The C program `actors/c/SOURCE.c`, dynamically linked, in `dir` under its own name.
#[must_use]
pub fn c_program(source: &str, dir: &Path) -> PathBuf {
    compile("cc", source, dir, source, &[])
}

/// Puts `libhr` of this build into `dir` as an installation has it: `libhr.so.0`, which anybody may read, and
/// the name that the linker looks for.
///
/// # Panics
/// When it cannot.
pub fn put_libhr(dir: &Path) {
    let library = dir.join("libhr.so.0");
    if !library.exists() {
        fs::copy(binaries::path("libhr.so"), &library).expect("a library can be copied");
        let everybody = fs::Permissions::from_mode(0o755);
        fs::set_permissions(&library, everybody).expect("it is our copy");
        std::os::unix::fs::symlink("libhr.so.0", dir.join("libhr.so")).expect("the name is free");
    }
}

/// The C program `actors/c/SOURCE.c`, linked with `libhr`, which is put beside it.
#[must_use]
pub fn with_libhr(source: &str, dir: &Path) -> PathBuf {
    with_libhr_file(&c_source(source), dir)
}

/// Any C program, linked with `libhr`, under its file's name.
///
/// # Panics
/// When it does not compile, or its path is no text.
#[must_use]
pub fn with_libhr_file(source: &Path, dir: &Path) -> PathBuf {
    put_libhr(dir);
    let name = source.file_stem().and_then(|name| name.to_str());
    let name = name.expect("a source has a name");
    let include = format!("-I{}", headers().display());
    let (search, run) = (
        format!("-L{}", dir.display()),
        format!("-Wl,-rpath,{}", dir.display()),
    );
    compile_file("cc", source, dir, name, &[&include, &search, "-lhr", &run])
}

/// Where the headers of `libhr` are.
#[must_use]
pub fn headers() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../runtime/capi/include")
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
