//! The programs that are measured: the C ones, compiled when the benchmark starts, the Rust ones and
//! `c_init`, which lie beside the benchmark. Called by `main.rs` once; the parts take paths from it.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

const SOURCES: [(&str, &str); 9] = [
    ("stamp.h", include_str!("../c/stamp.h")),
    ("actor.c", include_str!("../c/actor.c")),
    ("idle.c", include_str!("../c/idle.c")),
    ("limit.c", include_str!("../c/limit.c")),
    ("heap_ways.c", include_str!("../c/heap_ways.c")),
    ("actor.py", include_str!("../actors/bench_actor.py")),
    // The actor looks at its name.
    ("heavy.py", include_str!("../actors/bench_actor.py")),
    ("warm.py", include_str!("../actors/bench_actor.py")),
    (
        "refrain.py",
        include_str!("../../../runtime/capi/python/refrain.py"),
    ),
];

/// Where each program is.
pub struct Programs {
    /// The actor in C, dynamically linked.
    pub actor: PathBuf,
    /// The same, static; `None` where there is no static libc.
    pub actor_static: Option<PathBuf>,
    /// The bare mechanisms.
    pub limit: PathBuf,
    /// Bare ways to keep what a transaction changes.
    pub heap_ways: PathBuf,
    /// An actor that does nothing.
    pub idle: PathBuf,
    /// The actor in Rust.
    pub rust: PathBuf,
    /// The actor that measures persistent memory.
    pub pmm: PathBuf,
    /// The sample key-value server.
    pub kv: PathBuf,
    /// The actor in Python: interpreter and script.
    pub python: Option<(PathBuf, PathBuf)>,
    /// Whether the Python actor can take a warm image: libhr.so is there.
    pub warm: bool,
    /// The site's program.
    pub c_init: PathBuf,
}

impl Programs {
    /// Compiles into `dir` and looks for the rest.
    ///
    /// # Errors
    /// When there is no C compiler, or a program does not build.
    pub fn build(dir: &Path) -> Result<Self> {
        for (name, text) in SOURCES {
            fs::write(dir.join(name), text)?;
        }
        let beside = built()?;
        let program = |name: &str| -> Result<PathBuf> {
            let path = beside.join(name);
            ensure!(
                path.is_file(),
                "{} is missing: cargo build --release -p c_init -p kv_server -p refrain-bench",
                path.display()
            );
            Ok(path)
        };
        let actor_static = compile(dir, "actor", "actor-static", &["-static"]);
        if let Err(error) = &actor_static {
            eprintln!("skipped: the static C actor: {error:#}");
        }
        let python = installed("python3").map(|interpreter| (interpreter, dir.join("actor.py")));
        if python.is_none() {
            eprintln!("skipped: the Python actor: python3 is not installed");
        }
        let library = beside.join("libhr.so");
        let warm = fs::copy(&library, dir.join("libhr.so")).is_ok();
        if !warm {
            eprintln!("skipped: warm images: {} is missing", library.display());
        }
        Ok(Self {
            actor: compile(dir, "actor", "actor", &[])?,
            actor_static: actor_static.ok(),
            limit: compile(dir, "limit", "limit", &[])?,
            heap_ways: compile(dir, "heap_ways", "heap_ways", &[])?,
            idle: compile(dir, "idle", "idle", &[])?,
            rust: program("bench_actor")?,
            pmm: program("bench_pmm")?,
            kv: program("kv_server")?,
            python,
            warm,
            c_init: program("c_init")?,
        })
    }
}

/// The directory of the benchmark's own executable; under cargo everything in it is built first.
fn built() -> Result<PathBuf> {
    let exe = std::env::current_exe()?;
    let dir = exe
        .parent()
        .context("an executable lies in a directory")?
        .to_owned();
    if let Some(cargo) = std::env::var_os("CARGO") {
        let target = dir.parent().context("target/PROFILE has a parent")?;
        let mut command = Command::new(cargo);
        command
            .args([
                "build",
                "--quiet",
                "-p",
                "c_init",
                "-p",
                "refrain-bench",
                "-p",
                "refrain-capi",
                "-p",
                "kv_server",
                "--target-dir",
            ])
            .arg(target)
            .current_dir(env!("CARGO_MANIFEST_DIR"));
        if cfg!(feature = "peers") {
            command.args(["--features", "refrain-bench/peers"]);
        }
        if dir.ends_with("release") {
            command.arg("--release");
        } else {
            eprintln!("not a release build: the numbers mean little");
        }
        ensure!(command.status()?.success(), "the programs do not build");
    }
    Ok(dir)
}

fn compile(dir: &Path, source: &str, name: &str, flags: &[&str]) -> Result<PathBuf> {
    let path = dir.join(name);
    let output = Command::new("cc")
        .args(["-O2", "-Wl,-z,now", "-o"])
        .arg(&path)
        .arg(dir.join(format!("{source}.c")))
        .args(flags)
        .output()
        .context("cannot run the C compiler cc")?;
    if !output.status.success() {
        bail!(
            "{source}.c: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(path)
}

/// Where an installed program is. Debian's own place first: a version manager's wrapper in PATH is
/// a shell script, which is not what is to be measured.
pub fn installed(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places: Vec<PathBuf> = ["/usr/bin", "/usr/sbin", "/bin", "/sbin"]
        .map(PathBuf::from)
        .into();
    places.extend(std::env::split_paths(&path));
    places
        .into_iter()
        .map(|place| place.join(name))
        .find(|path| path.is_file())
}

/// Writes a script that may be executed.
///
/// # Errors
/// The kernel's.
pub fn script(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o700))?;
    Ok(())
}

/// Words as one line for a shell, or for the site's interpreter.
///
/// # Errors
/// For a word with a NUL.
pub fn line<S: AsRef<OsStr>>(words: impl IntoIterator<Item = S>) -> Result<String> {
    let words: Vec<String> = words
        .into_iter()
        .map(|word| word.as_ref().to_string_lossy().into_owned())
        .collect();
    Ok(shlex::try_join(words.iter().map(String::as_str))?)
}
